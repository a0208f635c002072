"""Manifests and both kinds of table, "signed" where that leads further: digests are made to fit what was changed."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fuzzing.columns import changed_table, read_freely
from fuzzing.mutate import ODD_NUMBERS, changed_json
from fuzzing.target import damaged, material
from shardkit.errors import ShardkitError
from shardkit.manifest import DataSet, FieldInfo, Manifest, SampleTable, ShardRow, ShardTable, SplitInfo
from shardkit.manifest.dataset import dataset_in
from shardkit.manifest.manifest import MANIFEST_NAME
from shardkit.manifest.samples import FieldColumns, row_in_table
from shardkit.manifest.shards import SHARD_TABLE_NAME, table_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from shardkit.storage import Store

__all__ = ["ManifestTarget", "SampleTableTarget", "ShardTableTarget"]

_IMAGE = FieldInfo(kind="image", extensions=("jpg", "png"))
_RAW = FieldInfo(kind="array", extensions=("raw",), shape=(16, 16, 3))
_LABEL = FieldInfo(kind="class", extensions=("cls",))


class _Memory:
    """A store of a few objects, as far as reading a data set needs one."""

    url = "memory"
    read_only = True

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self._objects = objects

    def read_if_there(self, name: str, most_bytes: int) -> bytes | None:  # noqa: ARG002
        return self._objects.get(name)


def _store(objects: Mapping[str, bytes]) -> Store:
    return cast("Store", _Memory(objects))


def _rows(number: int) -> list[ShardRow]:
    return [
        ShardRow(
            name=f"{split}-{at:05d}.tar", split=split, num_samples=20 + at, num_bytes=200_000 + at,
            digest=f"{at:032x}", content=f"{at * 7919:032x}",
        )
        for at, split in enumerate(["train"] * (number - number // 4) + ["val"] * (number // 4))
    ]  # fmt: skip


def _manifest(shards: ShardTable, image: FieldInfo = _IMAGE, splits: tuple[str, ...] = ("train", "val")) -> Manifest:
    """The manifest of a table of shards."""
    found = {}
    for name in splits:
        mine = shards.split(name)
        found[name] = SplitInfo(
            num_samples=int(mine.num_samples.sum()), num_bytes=int(mine.num_bytes.sum()), num_shards=len(mine)
        )
    fields = {"image": image, "label": _LABEL}
    classes = ("cat", "dog", "é☃")
    packed = {"shuffle": True, "split": {"train": 1.0}}
    return Manifest(fingerprint=shards.fingerprint(), fields=fields, classes=classes, splits=found, packed=packed)


class ManifestTarget:
    """`Manifest.from_json`, and what is told about a manifest."""

    def __init__(self) -> None:
        self.seeds = [
            _manifest(ShardTable.of(_rows(number)), image).to_json() for number, image in ((4, _IMAGE), (9, _RAW))
        ]
        self._more = [*self.seeds, *material("hostile/*.json", "hostile/*/manifest.json", most_bytes=100_000)]

    def mutant(self, rng: Random) -> bytes:
        """A changed document, half of the time with a digest that fits."""
        if rng.random() < 0.3:
            return damaged(rng, self._more)
        document = changed_json(rng, json.loads(rng.choice(self.seeds)))
        if rng.random() < 0.6:
            document = _signed(document)
        text = json.dumps(document, ensure_ascii=rng.random() < 0.8)
        if rng.random() < 0.02:
            bracket = rng.choice(("[", '{"":'))
            text = text.replace("20", bracket * rng.choice((100, 1000, 100_000)), 1)
        return text.encode("utf-16" if rng.random() < 0.02 else "utf-8", "surrogatepass")

    def parse(self, data: bytes) -> None:
        """Read it, write it, and read that."""
        found = Manifest.from_json(data)
        assert Manifest.from_json(found.to_json()) == found, "what is written of a manifest is read as another"
        hash(repr(found))
        assert isinstance(found.packed_shuffled, bool)


def _signed(document: Any) -> Any:
    """The document with its digest made right, if it is like a manifest."""
    try:
        fields = {
            name: FieldInfo(
                kind=info["kind"],
                extensions=tuple(info["extensions"]),
                shape=tuple(info["shape"]) if "shape" in info else None,
            )
            for name, info in document["fields"].items()
        }
        digest = Manifest(
            format_version=document["format_version"], fingerprint=document["fingerprint"], fields=fields,
            classes=tuple(document["classes"]),
            splits={name: SplitInfo(**info) for name, info in document["splits"].items()},
        ).digest()  # fmt: skip
    except (TypeError, KeyError, ValueError, AttributeError):
        return document
    return {**document, "digest": digest}


class ShardTableTarget:
    """`ShardTable.from_parquet`, and the data set whose root table it would be."""

    def __init__(self) -> None:
        self.seeds = [ShardTable.of(_rows(number)).to_parquet() for number in (5, 40)]
        self._tables = [read_freely(seed) for seed in self.seeds]
        self._more = [*self.seeds, *material("hostile/*/shards.parquet")]

    def mutant(self, rng: Random) -> bytes:
        """A changed file, or one written of changed columns."""
        if rng.random() < 0.5:
            return damaged(rng, self._more)
        return changed_table(rng, rng.choice(self._tables))

    def parse(self, data: bytes) -> None:
        """Read it, as it comes and as the root table of a data set that fits it as well as one can."""
        shards = ShardTable.from_parquet(data)
        rows = list(shards)
        for row in rows:
            row.check()
        assert [shards[at] for at in range(min(len(rows), 50))] == rows[:50], "rows differ by how they are asked for"
        manifest = _manifest(shards, splits=tuple(dict.fromkeys(row.split for row in rows)) or ("train",))
        dataset = dataset_in(_store({MANIFEST_NAME: manifest.to_json(), SHARD_TABLE_NAME: data}))
        for name, info in manifest.splits.items():
            split = dataset.split(name)
            assert (split.num_samples, split.num_bytes) == (info.num_samples, info.num_bytes), "counts differ"


class _AnyText(str):
    """Equal to every text: the content digest of whatever table it is held against."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class SampleTableTarget:
    """`DataSet.sample_table`: a line of JSON that stands for the row of the root table, then the file.

    A row that is "signed" has the content digest of whatever is in the file.
    """

    def __init__(self) -> None:
        shards = ShardTable.of(_rows(4))
        self._sets = [DataSet(_store({}), _manifest(shards, image), shards) for image in (_IMAGE, _RAW)]
        made = [_sample_table(number, raw=raw) for number, raw in ((12, False), (300, False), (25, True))]
        self._heads = [head for head, _ in made]
        self._files = [data for _, data in made]
        self._tables = [read_freely(data) for data in self._files]
        self.seeds = [_joined(head, data) for head, data in made]
        self._more = material("hostile/*/*.parquet")

    def mutant(self, rng: Random) -> bytes:
        """A changed file, one written of changed columns, or a file behind a changed row."""
        at = rng.randrange(len(self._files))
        head, data = {**self._heads[at], "signed": rng.random() < 0.7}, self._files[at]
        kind = rng.random()
        if kind < 0.4:
            data = damaged(rng, [data, *self._more] if rng.random() < 0.1 else [data])
        elif kind < 0.95:
            data = changed_table(rng, self._tables[at])
        if kind > 0.85:
            head[rng.choice(("num_samples", "num_bytes"))] = rng.choice(ODD_NUMBERS) % 2**62
        return _joined(head, data)

    def parse(self, data: bytes) -> None:
        """Read the table with all columns, with those that training needs, and for going on with packing."""
        line, _, file = data.partition(b"\n")
        head = json.loads(line)
        dataset = self._sets[head.pop("raw")]
        if head.pop("signed"):
            head["content"] = _AnyText(head["content"])
        row = ShardRow(**head)
        refusal = None
        for whole in (True, False):
            try:
                _use(dataset.sample_table(row, whole=whole, data=file), row)
            except ShardkitError as error:
                refusal = error
        row_in_table(file, table_name(row.name)).check()
        if refusal is not None:
            raise refusal


def _use(table: SampleTable, row: ShardRow) -> None:
    """What a loader, `verify` and `unpack` take out of a table."""
    assert len(table) == row.num_samples == len(table.labels), "rows are missing"
    assert all(type(key) is str for key in table.keys[:]), "a key is no text"
    assert all(type(source) is bytes for source in table.sources), "a source is no bytes"
    for columns in table.fields.values():
        stops = columns.offset.astype(object) + columns.size
        assert not len(stops) or stops.max() <= row.num_bytes, "a field ends outside of the shard"
    for values in table.pictures.values():
        assert len(values) == len(table), "a column has other rows"
    assert len(table.content_digest()) == 32
    assert table.key_bytes >= 0


def _joined(head: Mapping[str, Any], data: bytes) -> bytes:
    return json.dumps(head).encode() + b"\n" + data


def _sample_table(number: int, *, raw: bool) -> tuple[dict[str, Any], bytes]:
    sizes = np.full(number, 768, dtype=np.int64) if raw else np.arange(number, dtype=np.int64) * 7 + 100
    starts = np.arange(number, dtype=np.int64) * 4096 + 512
    num_bytes = number * 4096 + 1024
    digests = np.arange(number, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    form = {"width": 16, "height": 16, "mode": "RGB", "format": "raw" if raw else "jpeg", "orientation": 1}
    table = SampleTable(
        keys=[f"class-{at % 3}/{at:05d}" for at in range(number)],
        sources=[f"class-{at % 3}/{at:05d}.png".encode() for at in range(number)],
        labels=np.arange(number, dtype=np.int64) % 3,
        fields={
            "image": FieldColumns(offset=starts, size=sizes, xxh3_64=digests),
            "label": FieldColumns(offset=starts + 2048, size=np.ones(number, dtype=np.int64), xxh3_64=digests),
        },
        pictures={name: [value] * number for name, value in form.items()},
        blocks=np.arange(-(-num_bytes // 2**16), dtype=np.uint64) if raw else np.zeros(0, dtype=np.uint64),
    )
    row = ShardRow(
        name="train-00000.tar", split="train", num_samples=number, num_bytes=num_bytes, digest="0" * 32,
        content=table.content_digest(),
    )  # fmt: skip
    return {**asdict(row), "raw": raw, "signed": False}, table.to_parquet(replace(row))

"""Manifests and the root table, "signed" where that leads further: digests are made to fit what was changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from fuzzing.columns import changed_table, read_freely
from fuzzing.mutate import changed_json
from fuzzing.target import damaged, material
from shardkit.errors import StorageError
from shardkit.manifest import FieldInfo, Manifest, ShardRow, ShardTable, SplitInfo, manifest
from shardkit.manifest.dataset import dataset_in
from shardkit.manifest.manifest import MANIFEST_NAME
from shardkit.manifest.shards import SHARD_TABLE_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from shardkit.storage import Store

__all__ = ["IMAGE", "RAW", "ManifestTarget", "ShardTableTarget", "manifest_of", "some_rows", "store_of"]

IMAGE = FieldInfo(kind="image", extensions=("jpg", "png"))
RAW = FieldInfo(kind="array", extensions=("raw",), shape=(16, 16, 3))
_LABEL = FieldInfo(kind="class", extensions=("cls",))


class _Memory:
    """A store of a few objects, as far as reading a data set needs one."""

    url = "memory"
    read_only = True

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        self._objects = objects

    def read_if_there(self, name: str, most_bytes: int) -> bytes | None:
        data = self._objects.get(name)
        if data is not None and len(data) > most_bytes:
            raise StorageError(f"{name} has {len(data)} bytes")
        return data


def store_of(objects: Mapping[str, bytes]) -> Store:
    """A store of some objects."""
    return cast("Store", _Memory(objects))


def some_rows(number: int) -> list[ShardRow]:
    """Rows of a root table, a quarter of them of a second split."""
    return [
        ShardRow(
            name=f"{split}-{at:05d}.tar", split=split, num_samples=20 + at, num_bytes=200_000 + at,
            digest=f"{at:032x}", content=f"{at * 7919:032x}", table=f"{at * 104729:032x}", table_bytes=3000 + at,
        )
        for at, split in enumerate(["train"] * (number - number // 4) + ["val"] * (number // 4))
    ]  # fmt: skip


def manifest_of(shards: ShardTable, image: FieldInfo = IMAGE, splits: tuple[str, ...] = ("train", "val")) -> Manifest:
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
    return Manifest(
        fingerprint=shards.fingerprint(), shards=shards.digest(), fields=fields, classes=classes, splits=found,
        packed=packed,
    )  # fmt: skip


class ManifestTarget:
    """`Manifest.from_json`, and what is told about a manifest."""

    def __init__(self) -> None:
        self.seeds = [
            manifest_of(ShardTable.of(some_rows(number)), image).to_json() for number, image in ((4, IMAGE), (9, RAW))
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
    """The document with its digest made right, if it is one."""
    if not isinstance(document, dict):
        return document
    said = {name: value for name, value in document.items() if name != "digest"}
    return {**said, "digest": manifest._digest(said)}  # noqa: SLF001 (the file's format)


class ShardTableTarget:
    """`ShardTable.from_parquet`, and the data set whose root table it would be."""

    def __init__(self) -> None:
        self.seeds = [ShardTable.of(some_rows(number)).to_parquet() for number in (5, 40)]
        self._tables = [read_freely(seed) for seed in self.seeds]
        self._more = [*self.seeds, *material("hostile/*/shards.parquet")]

    def mutant(self, rng: Random) -> bytes:
        """A changed file, or one written of changed columns."""
        if rng.random() < 0.5:
            return damaged(rng, self._more)
        return changed_table(rng, rng.choice(self._tables))[0]

    def parse(self, data: bytes) -> None:
        """Read it, as it comes and as the root table of a data set that fits it as well as one can."""
        shards = ShardTable.from_parquet(data)
        rows = list(shards)
        for row in rows:
            row.check()
        assert [shards[at] for at in range(min(len(rows), 50))] == rows[:50], "rows differ by how they are asked for"
        found = manifest_of(shards, splits=tuple(dict.fromkeys(row.split for row in rows)) or ("train",))
        dataset = dataset_in(store_of({MANIFEST_NAME: found.to_json(), SHARD_TABLE_NAME: data}))
        for name, info in found.splits.items():
            split = dataset.split(name)
            assert (split.num_samples, split.num_bytes) == (info.num_samples, info.num_bytes), "counts differ"

"""Sample tables, under digests that fit what was changed in them, behind rows of the root table that fit them too."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fuzzing.columns import changed_table, read_freely
from fuzzing.mutate import ODD_NUMBERS
from fuzzing.tables import IMAGE, RAW, manifest_of, some_rows, store_of
from fuzzing.target import damaged, material
from shardkit.errors import ShardkitError
from shardkit.manifest import DataSet, SampleTable, ShardRow, ShardTable, samples
from shardkit.manifest.checks import check_sources
from shardkit.manifest.columns import number_digest, text_digest
from shardkit.manifest.parquet import Texts, joined_bytes, numbers, text_bytes
from shardkit.manifest.samples import FieldColumns, row_in_table
from shardkit.manifest.shards import table_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

__all__ = ["SampleTableTarget"]

_STRIDE = 4096  # bytes of a sample in its shard
_LABEL_PLACE = 3584
_COLUMNS_KEY = samples._COLUMNS_KEY  # noqa: SLF001 (the file's format)


class _AnyText(str):
    """Equal to every text: the digest of whatever table it is held against."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class SampleTableTarget:
    """`DataSet.sample_table`: a line of JSON that stands for the row of the root table, then the file.

    A row that is "signed" has the digests of whatever is in the file, and a changed table has the digests of its
    columns and the row its number of rows. So what is behind the digests is reached.
    """

    def __init__(self) -> None:
        shards = ShardTable.of(some_rows(4))
        self._sets = [DataSet(store_of({}), manifest_of(shards, image), shards) for image in (IMAGE, RAW)]
        made = [_sample_table(number, raw=raw) for number, raw in ((12, False), (300, False), (25, True))]
        self._heads = [head for head, _ in made]
        self._files = [data for _, data in made]
        self._tables = [read_freely(data) for data in self._files]
        self.seeds = [_joined(head, data) for head, data in made]
        self._more = material("hostile/*/*.parquet")

    def mutant(self, rng: Random) -> bytes:
        """A changed file, one written of changed columns, or a file behind a changed row."""
        at = rng.randrange(len(self._files))
        head, data = {**self._heads[at], "signed": rng.random() < 0.8}, self._files[at]
        kind = rng.random()
        if kind < 0.3:
            data = damaged(rng, [data, *self._more] if rng.random() < 0.1 else [data])
        elif kind < 0.95:
            sign = head["signed"] and rng.random() < 0.9
            data, num_rows = changed_table(rng, self._tables[at], _with_digests if sign else None)
            head["num_samples"] = num_rows if sign else head["num_samples"]
        if kind > 0.85:
            head[rng.choice(("num_samples", "num_bytes"))] = rng.choice(ODD_NUMBERS) % 2**62
        return _joined(head, data)

    def parse(self, data: bytes) -> None:
        """Read the table with all columns, with those that training needs, and for going on with packing."""
        line, _, file = data.partition(b"\n")
        head = json.loads(line)
        dataset = self._sets[head.pop("raw")]
        if head.pop("signed"):
            head |= {name: _AnyText(head[name]) for name in ("content", "table")}
        row = ShardRow(**head)
        refusal = None
        for whole in (True, False):
            try:
                table = dataset.sample_table(row, whole=whole, data=file)
                _use(table, row)
                if whole:
                    check_sources(table, row)
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
        list(values)
    assert len(table.content_digest()) == 32
    assert table.key_bytes >= 0


def _joined(head: Mapping[str, Any], data: bytes) -> bytes:
    return json.dumps(head).encode() + b"\n" + data


def _with_digests(table: pa.Table) -> pa.Table:
    """A table that keeps the digests of its columns, as far as these have any."""
    digests = {}
    for at, name in enumerate(table.column_names):
        column = table.column(at)
        try:
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                digests[name] = text_digest(*text_bytes(Texts(column)))
            elif pa.types.is_binary(column.type):
                digests[name] = text_digest(*joined_bytes(column.to_pylist()))
            else:
                digests[name] = number_digest(numbers(table, name, np.uint64 if "xxh3" in name else np.int64))
        except (TypeError, ValueError, KeyError):
            digests[name] = ""
    kept = {**(table.schema.metadata or {}), _COLUMNS_KEY: json.dumps(digests)}
    return table.replace_schema_metadata(kept)


def _sample_table(number: int, *, raw: bool) -> tuple[dict[str, Any], bytes]:
    """A row and a table as the packer writes them: headers, images and labels, one behind the other."""
    sizes = np.full(number, 768, dtype=np.int64) if raw else np.arange(number, dtype=np.int64) * 7 + 100
    starts = np.arange(number, dtype=np.int64) * _STRIDE
    num_bytes = number * _STRIDE + 1024
    digests = np.arange(number, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    form = {"width": 16, "height": 16, "mode": "RGB", "format": "raw" if raw else "jpeg", "orientation": 1}
    ones = np.ones(number, dtype=np.int64)
    table = SampleTable(
        keys=[f"class-{at % 3}/{at:05d}" for at in range(number)],
        sources=[f"class-{at % 3}/{at:05d}.png".encode() for at in range(number)],
        labels=np.arange(number, dtype=np.int64) % 3,
        fields={
            "image": FieldColumns(offset=starts + 512, size=sizes, xxh3_64=digests),
            "label": FieldColumns(offset=starts + _LABEL_PLACE, size=ones, xxh3_64=digests),
        },
        pictures={name: [value] * number for name, value in form.items()},
        blocks=np.arange(-(-num_bytes // 2**16), dtype=np.uint64) if raw else np.zeros(0, dtype=np.uint64),
    )
    row = ShardRow(
        name="train-00000.tar", split="train", num_samples=number, num_bytes=num_bytes, digest="0" * 32,
        content=table.content_digest(), table=table.table_digest(), table_bytes=table.table_bytes(num_bytes),
    )  # fmt: skip
    return {**asdict(row), "raw": raw, "signed": False}, table.to_parquet(row)

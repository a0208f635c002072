"""Parquet files whose columns are not what they should be."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fuzzing.mutate import MOST_BYTES, ODD_NUMBERS, changed_bytes, odd_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

__all__ = ["changed_table", "read_freely"]

_FEW_ROWS = 1000
_MOST_BYTES = MOST_BYTES - 2000  # with a row of the root table in front
_KINDS = (
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.bool_()),
    *(pa.float16(), pa.float32(), pa.float64(), pa.decimal128(38, 2), pa.null(), pa.date32(), pa.time64("us")),
    *(pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.duration("s"), pa.string(), pa.large_string(), pa.binary()),
    *(pa.large_binary(), pa.binary(8), pa.list_(pa.int64()), pa.struct([("a", pa.int64())])),
    *(pa.dictionary(pa.int32(), pa.string()), pa.map_(pa.string(), pa.int64())),
)


def read_freely(data: bytes) -> pa.Table:
    """A file's table, whatever is in it."""
    return pq.read_table(io.BytesIO(data))


def changed_table(
    rng: Random, table: pa.Table, sign: Callable[[pa.Table], pa.Table] | None = None
) -> tuple[bytes, int]:
    """The file of a table with one to a few columns changed, written in one of the many ways there are.

    Args:
        rng: What decides.
        table: The table.
        sign: Makes the digests that a table keeps those of its columns.

    Returns:
        The file's bytes, and how many rows it has.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        table = _changed(rng, table)
    form: dict[str, Any] = {
        "compression": rng.choice(("none", "snappy", "zstd", "gzip", "brotli", "lz4")),
        "use_dictionary": rng.random() < 0.5,
        "data_page_version": rng.choice(("1.0", "2.0")),
        "version": rng.choice(("1.0", "2.4", "2.6")),
        "write_page_checksum": rng.random() < 0.3,
        "store_schema": rng.random() < 0.8,
    }
    is_small = len(table) <= _FEW_ROWS  # many groups or pages take long to write
    if is_small and rng.random() < 0.05:
        form["row_group_size"] = rng.choice((1 + len(table) // 20, 100))
    if is_small and rng.random() < 0.05:
        form["data_page_size"] = rng.choice((1, 64))
    kept = table if sign is None else sign(table)
    while len(data := _written(kept, form)) > _MOST_BYTES:
        table = table.slice(0, len(table) // 10)
        kept = table if sign is None else sign(table)
    return changed_bytes(rng, data)[:_MOST_BYTES] if rng.random() < 0.1 else data, len(table)


def _written(table: pa.Table, form: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    try:
        pq.write_table(table, out, **form)
    except (pa.ArrowException, ValueError, OverflowError):
        out = io.BytesIO()
        pq.write_table(table.select([]), out)
    return out.getvalue()


def _changed(rng: Random, table: pa.Table) -> pa.Table:
    kind = rng.randrange(10)
    if not table.num_columns or kind == 0:
        return _with_metadata(rng, table)
    at = rng.randrange(table.num_columns)
    name, column = table.schema.field(at).name, table.column(at)
    if kind == 1:
        return table.remove_column(at)
    if kind == 2:
        return table.append_column(rng.choice((name, "", f"{name}.x", "extra")), column)
    if kind == 3:
        return table.slice(rng.randrange(len(table) + 1), rng.choice((0, 1, len(table))))
    if kind == 4:
        return _repeated(rng, table)
    if kind in (5, 6):
        return table.set_column(at, name, _of_kind(rng.choice(_KINDS), column))
    return table.set_column(at, name, _with_odd_values(rng, column))


def _repeated(rng: Random, table: pa.Table) -> pa.Table:
    """Many rows of few bytes: runs of equal values."""
    if not 0 < len(table) <= _FEW_ROWS:
        return table
    times = 100_000 if rng.random() < 0.02 else rng.choice((1, 100, 1000))
    return table.take(pa.array([rng.randrange(len(table))] * times))


def _with_metadata(rng: Random, table: pa.Table) -> pa.Table:
    """Texts beside the columns, such as the row of the root table and the digests of blocks."""
    kept = dict(table.schema.metadata or {})
    for key in list(kept) or [b"shardkit.shard", b"shardkit.blocks"]:
        if rng.random() < 0.6:
            kept[key] = rng.choice(
                (b"", b"zz", b"[]", b"{}", b"\xff", b"00" * 4000, changed_bytes(rng, kept.get(key, b"")))
            )
    return table.replace_schema_metadata(kept)


def _of_kind(kind: pa.DataType, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of another type: the same values where they can be, else none."""
    try:
        return column.cast(kind)
    except (pa.ArrowException, ValueError):
        return pa.chunked_array([pa.nulls(len(column), kind)], type=kind)


def _with_odd_values(rng: Random, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if len(column) > _FEW_ROWS:
        return column
    values = column.to_pylist()
    number = len(values) if rng.random() < 0.3 else min(len(values), rng.randrange(1, 4))
    odd = _odd_for(rng, column.type)
    for at in range(number) if number == len(values) else [rng.randrange(len(values)) for _ in range(number)]:
        values[at] = odd
    try:
        return pa.chunked_array([pa.array(values, column.type)], type=column.type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return pa.chunked_array([pa.nulls(len(column), column.type)], type=column.type)


def _odd_for(rng: Random, kind: pa.DataType) -> Any:
    if rng.random() < 0.2:
        return None
    if pa.types.is_integer(kind):
        return rng.choice((1, 1, -1)) * rng.choice(ODD_NUMBERS)
    text = odd_text(rng)
    return text.encode("utf-8", "surrogatepass") if pa.types.is_binary(kind) else text

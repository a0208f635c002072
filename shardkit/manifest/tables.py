"""The Parquet tables: one row per shard, and beside each shard one row per sample.

Nothing in a table is trusted: offsets are checked against the shard's length, and the *content digest* that the root
table keeps for each shard covers keys, sizes, digests and labels, so that a damaged table is an error and never a
wrong label.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import xxhash

from shardkit.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "SHARD_TABLE_NAME",
    "FieldColumns",
    "SampleTable",
    "ShardRow",
    "fingerprint_of",
    "read_shard_table",
    "row_in_table",
    "table_name",
    "write_shard_table",
]

SHARD_TABLE_NAME = "shards.parquet"
_FIELD_COLUMNS = ("offset", "size", "xxh3_64")
_PICTURE_COLUMNS = ("width", "height", "mode", "format", "orientation")


def table_name(shard: str) -> str:
    """The name of the sample table beside a shard."""
    return shard.removesuffix(".tar") + ".parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRow:
    """A row of the root table.

    Attributes:
        name: The shard's file name.
        split: The split it belongs to.
        num_samples: Samples in it.
        num_bytes: Its length.
        digest: xxh3_128 of the file, 32 hexadecimal digits.
        content: xxh3_128 of its logical content: keys, labels, sizes and digests of the fields.
    """

    name: str
    split: str
    num_samples: int
    num_bytes: int
    digest: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldColumns:
    """Where one field of each sample lies in the shard.

    Attributes:
        offset: ``(n,)`` int64, bytes from the start of the shard.
        size: ``(n,)`` int64, bytes.
        xxh3_64: ``(n,)`` uint64, the digest of the bytes.
    """

    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    xxh3_64: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleTable:
    """The samples of one shard, in the order in which they lie in it.

    Attributes:
        keys: Their keys.
        sources: The path each came from, relative to the source's root, as bytes.
        labels: ``(n,)`` int64 class labels.
        fields: Where each field lies, by field name.
        pictures: What the packer saw in the picture's header: ``width``, ``height`` (as displayed), ``mode``,
            ``format``, ``orientation``, each a list of n.
    """

    keys: Sequence[str]
    sources: Sequence[bytes]
    labels: NDArray[np.int64]
    fields: Mapping[str, FieldColumns]
    pictures: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.keys)

    def content_digest(self) -> str:
        """xxh3_128 over all that matters and nothing that depends on where it lies, as 32 hexadecimal digits."""
        hashed = xxhash.xxh3_128(len(self).to_bytes(8, "little"))
        lengths, joined = _text_bytes(self.keys)
        hashed.update(lengths.astype("<i8").tobytes())
        hashed.update(joined)
        hashed.update(self.labels.astype("<i8").tobytes())
        for name in sorted(self.fields):
            columns = self.fields[name]
            hashed.update(name.encode() + b"\0")
            hashed.update(columns.size.astype("<i8").tobytes())
            hashed.update(columns.xxh3_64.astype("<u8").tobytes())
        return hashed.hexdigest()

    def to_parquet(self, row: ShardRow) -> bytes:
        """The table's file, the same bytes for equal tables and the same pyarrow.

        Args:
            row: The shard's row in the root table, kept in the file too: a shard counts once its table is in place.

        Returns:
            The file's bytes.
        """
        import pyarrow as pa

        columns: dict[str, pa.Array] = {
            "key": pa.array(list(self.keys), pa.string()),
            "source": pa.array(self.sources, pa.binary()),
            "label": pa.array(self.labels, pa.int64()),
        }
        for name, field in self.fields.items():
            columns[f"{name}_offset"] = pa.array(field.offset, pa.int64())
            columns[f"{name}_size"] = pa.array(field.size, pa.int64())
            columns[f"{name}_xxh3_64"] = pa.array(field.xxh3_64, pa.uint64())
        kinds = {"mode": pa.string(), "format": pa.string(), "orientation": pa.int8()}
        for name in _PICTURE_COLUMNS:
            columns[name] = pa.array(self.pictures[name], kinds.get(name, pa.int32()))
        table = pa.table(columns).replace_schema_metadata({_ROW_KEY: json.dumps(asdict(row))})
        return _to_parquet(table)

    @classmethod
    def from_parquet(cls, data: bytes, row: ShardRow, fields: Sequence[str], *, whole: bool = True) -> SampleTable:
        """Read a table's file and check it against the root table.

        Args:
            data: The file's bytes.
            row: The shard's row in the root table.
            fields: The fields it must have.
            whole: Whether ``sources`` and ``pictures``, which training does not need, are read too.

        Returns:
            The table.

        Raises:
            ManifestError: It is damaged, or is not the table of this shard.
        """
        url = table_name(row.name)
        places = [f"{name}_{column}" for name in fields for column in _FIELD_COLUMNS]
        table = _from_parquet(data, url, None if whole else ["key", "label", *places])
        try:
            found = cls(
                keys=_Texts(table.column("key")),
                sources=table.column("source").to_pylist() if whole else (),
                labels=_numbers(table, "label", np.int64),
                fields={
                    name: FieldColumns(
                        offset=_numbers(table, f"{name}_offset", np.int64),
                        size=_numbers(table, f"{name}_size", np.int64),
                        xxh3_64=_numbers(table, f"{name}_xxh3_64", np.uint64),
                    )
                    for name in fields
                },
                pictures={name: table.column(name).to_pylist() for name in _PICTURE_COLUMNS if whole},
            )
            matches = len(found) == row.num_samples and found.content_digest() == row.content
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ManifestError(f"not a sample table: {exc}", shard=url, advice=_ADVICE) from exc
        if not matches:
            raise ManifestError("the sample table does not belong to this data set", shard=url, advice=_ADVICE)
        for name, field in found.fields.items():
            ends = field.offset + field.size
            if len(found) and (field.offset.min() < 0 or field.size.min() < 0 or ends.max() > row.num_bytes):
                raise ManifestError(f"an offset of field {name} lies outside the shard", shard=url, advice=_ADVICE)
        return found


_ROW_KEY = b"shardkit.shard"
_ADVICE = "Copy the data set again, or pack it again"
_SHARD_COLUMNS = ("name", "split", "num_samples", "num_bytes", "digest", "content")


def row_in_table(data: bytes, url: str) -> ShardRow:
    """The shard's row that its sample table keeps, for going on after a stop, when there is no root table yet.

    Args:
        data: The table file's bytes.
        url: Where it came from, for messages.

    Returns:
        The row; the table is not checked against it.

    Raises:
        ManifestError: It is damaged or keeps no row.
    """
    table = _from_parquet(data, url)
    try:
        row = ShardRow(**json.loads(table.schema.metadata[_ROW_KEY]))
        _check_row(row)
    except (KeyError, TypeError, ValueError) as exc:
        raise ManifestError(f"not a sample table of a shard being packed: {exc}", shard=url) from exc
    return row


def fingerprint_of(rows: Sequence[ShardRow]) -> str:
    """The data set's fingerprint: xxh3_128 over the shards' logical content, in order, as 32 hexadecimal digits."""
    hashed = xxhash.xxh3_128()
    for row in rows:
        hashed.update(f"{row.split}\0{row.num_samples}\0{row.content}\n".encode())
    return hashed.hexdigest()


def write_shard_table(rows: Sequence[ShardRow]) -> bytes:
    """The root table's file."""
    import pyarrow as pa

    return _to_parquet(pa.table({name: [getattr(row, name) for row in rows] for name in _SHARD_COLUMNS}))


def read_shard_table(data: bytes, *, url: str = SHARD_TABLE_NAME) -> list[ShardRow]:
    """Read the root table.

    Args:
        data: The file's bytes.
        url: Where it came from, for messages.

    Returns:
        Its rows, in pack order.

    Raises:
        ManifestError: It is damaged or names a shard outside the data set.
    """
    table = _from_parquet(data, url)
    try:
        columns = [table.column(name).to_pylist() for name in _SHARD_COLUMNS]
        rows = [ShardRow(**dict(zip(_SHARD_COLUMNS, values, strict=True))) for values in zip(*columns, strict=True)]
        for row in rows:
            _check_row(row)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ManifestError(f"not a table of shards: {exc}", shard=url, advice=_ADVICE) from exc
    return rows


def _check_row(row: ShardRow) -> None:
    name = row.name
    if not name.endswith(".tar") or "/" in name or "\\" in name or "\0" in name or name.startswith("."):
        raise ValueError(f"{name!r} is not a shard's name")
    if row.num_samples < 0 or row.num_bytes < 0:
        raise ValueError(f"shard {name} has a negative count")


class _Texts(Sequence[str]):
    """A column of texts as a sequence; a text becomes a Python string only when it is asked for."""

    __slots__ = ("column",)

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        found = self.column[place]
        return found.to_pylist() if isinstance(place, slice) else found.as_py()  # type: ignore[no-any-return]


def _text_bytes(texts: Sequence[str]) -> tuple[NDArray[Any], bytes]:
    """The length of each text in UTF-8, and all of them joined."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = texts.column if isinstance(texts, _Texts) else pa.chunked_array([pa.array(list(texts), pa.string())])
    if column.null_count:
        raise ValueError("a key is missing")
    array = pa.array([], pa.large_string()) if not len(column) else column.cast(pa.large_string()).combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    lengths = pc.binary_length(array).to_numpy(zero_copy_only=False)
    data = array.buffers()[2]
    start = np.frombuffer(array.buffers()[1], dtype=np.int64, count=array.offset + 1)[array.offset] if len(array) else 0
    return lengths, b"" if data is None else data.to_pybytes()[start : start + int(lengths.sum())]


def _to_parquet(table: pa.Table) -> bytes:
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", write_page_checksum=True)
    return out.getvalue()


def _from_parquet(data: bytes, url: str, columns: list[str] | None = None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        return file.read(columns, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise ManifestError(f"not a Parquet file, or a damaged one: {exc}", shard=url, advice=_ADVICE) from exc


def _numbers(table: pa.Table, name: str, dtype: type[Any]) -> NDArray[Any]:
    column = table.column(name)
    if column.null_count:
        raise ValueError(f"column {name} has empty places")
    return column.to_numpy().astype(dtype, casting="safe", copy=False)  # type: ignore[no-any-return]

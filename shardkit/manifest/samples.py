"""The sample tables: beside each shard, one row per sample.

Nothing in a table is trusted: offsets are checked against the shard's length. The root table keeps two digests for each
shard's table: the *content digest* covers keys, sizes, digests and labels, and the *table digest* covers the digests of
all columns, which the file has among its metadata. So each reader checks the columns that it reads, and a damaged table
is an error and never a wrong label.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from shardkit.errors import ManifestError
from shardkit.manifest.columns import check_columns, number_digest, table_digest, text_digest
from shardkit.manifest.limits import table_bytes
from shardkit.manifest.parquet import (
    ADVICE,
    Bounds,
    Texts,
    from_parquet,
    joined_bytes,
    number_column,
    numbers,
    text_bytes,
    text_column,
    to_parquet,
)
from shardkit.manifest.shards import ShardRow, table_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["BLOCK_BYTES", "FieldColumns", "SampleTable", "row_in_table"]

BLOCK_BYTES = 1 << 16
"""Bytes of a block of a shard that has a digest of its own."""

_FIELD_COLUMNS = ("offset", "size", "xxh3_64")
_PICTURE_COLUMNS = ("width", "height", "mode", "format", "orientation")
_TEXT_COLUMNS = ("mode", "format")
_DIGEST_BYTES = 8
_ROW_KEY = b"shardkit.shard"
_BLOCKS_KEY = b"shardkit.blocks"
_COLUMNS_KEY = b"shardkit.columns"


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
        pictures: What the stored picture is: ``width``, ``height`` (as displayed), ``mode``, ``format``,
            ``orientation``, each of n.
        blocks: ``(num_blocks,)`` uint64: xxh3_64 of every `BLOCK_BYTES` of the shard from its start, the last block
            short, so that any run of it can be verified at once; empty where pictures are encoded.
    """

    keys: Sequence[str]
    sources: Sequence[bytes]
    labels: NDArray[np.int64]
    fields: Mapping[str, FieldColumns]
    pictures: Mapping[str, Sequence[Any]]
    blocks: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def key_bytes(self) -> int:
        """About how much memory its keys take, in bytes."""
        return self.keys.column.nbytes if isinstance(self.keys, Texts) else sum(map(len, self.keys))

    def content_digest(self) -> str:
        """xxh3_128 over all that matters and nothing that depends on where it lies, as 32 hexadecimal digits."""
        hashed = xxhash.xxh3_128(len(self).to_bytes(8, "little"))
        lengths, joined = text_bytes(self.keys)
        hashed.update(lengths.astype("<i8").tobytes())
        hashed.update(joined)
        hashed.update(self.labels.astype("<i8").tobytes())
        for name in sorted(self.fields):
            columns = self.fields[name]
            hashed.update(name.encode() + b"\0")
            hashed.update(columns.size.astype("<i8").tobytes())
            hashed.update(columns.xxh3_64.astype("<u8").tobytes())
        if len(self.blocks):
            hashed.update(b"\0blocks\0" + self.blocks.astype("<u8").tobytes())
        return hashed.hexdigest()

    def column_digests(self) -> dict[str, str]:
        """The digest of each column that is here, by the column's name."""
        found = {"key": text_digest(*text_bytes(self.keys)), "label": number_digest(self.labels)}
        for name, columns in self.fields.items():
            found |= {f"{name}_{column}": number_digest(getattr(columns, column)) for column in _FIELD_COLUMNS}
        if self.pictures:
            found["source"] = text_digest(*joined_bytes(self.sources))
        for name, values in self.pictures.items():
            if name in _TEXT_COLUMNS:
                found[name] = text_digest(*text_bytes(values))
            else:
                found[name] = number_digest(np.array(values, dtype=np.int64))
        return found

    def table_digest(self) -> str:
        """The digest of all columns, as 32 hexadecimal digits."""
        return table_digest(self.column_digests())

    def table_bytes(self, num_bytes: int) -> int:
        """About how many bytes its values take, see `shardkit.manifest.limits.table_bytes`.

        Args:
            num_bytes: The shard's length.
        """
        texts = sum(len(key.encode()) for key in self.keys) + sum(map(len, self.sources))
        return table_bytes(texts, len(self), num_bytes if len(self.blocks) else 0)

    def to_parquet(self, row: ShardRow) -> bytes:
        """The table's file, the same bytes for equal tables and the same pyarrow.

        Args:
            row: The shard's row in the root table, kept in the file too: a shard counts once its table is in place.

        Returns:
            The file's bytes.
        """
        import pyarrow as pa

        columns: dict[str, pa.Array] = {
            "key": text_column([key.encode() for key in self.keys], pa.string()),
            "source": text_column(self.sources, pa.binary()),
            "label": number_column(self.labels, pa.int64()),
        }
        for name, found in self.fields.items():
            columns[f"{name}_offset"] = number_column(found.offset, pa.int64())
            columns[f"{name}_size"] = number_column(found.size, pa.int64())
            columns[f"{name}_xxh3_64"] = number_column(found.xxh3_64, pa.uint64())
        for name in _PICTURE_COLUMNS:
            values = self.pictures[name]
            if name in _TEXT_COLUMNS:
                columns[name] = text_column([value.encode() for value in values], pa.string())
            else:
                kind = pa.int8() if name == "orientation" else pa.int32()
                columns[name] = number_column(np.array(values, dtype=np.int64), kind)
        metadata: dict[bytes, str] = {
            _ROW_KEY: json.dumps(asdict(row)),
            _COLUMNS_KEY: json.dumps(self.column_digests()),
        }
        if len(self.blocks):
            metadata[_BLOCKS_KEY] = self.blocks.astype("<u8").tobytes().hex()
        return to_parquet(pa.table(columns).replace_schema_metadata(metadata))

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
        wanted = ["key", "label", *places, *(("source", *_PICTURE_COLUMNS) if whole else ())]
        table = from_parquet(data, url, wanted, _bounds(row, len(fields)))
        try:
            found = cls(
                keys=Texts(table.column("key")),
                sources=_sources(table) if whole else (),
                labels=numbers(table, "label", np.int64),
                fields={
                    name: FieldColumns(
                        offset=numbers(table, f"{name}_offset", np.int64),
                        size=numbers(table, f"{name}_size", np.int64),
                        xxh3_64=numbers(table, f"{name}_xxh3_64", np.uint64),
                    )
                    for name in fields
                },
                pictures={name: _picture_column(table, name) for name in _PICTURE_COLUMNS if whole},
                blocks=_blocks(table, row),
            )
            if len(found) != row.num_samples or found.content_digest() != row.content:
                raise ManifestError("the sample table does not belong to this data set", shard=url, advice=ADVICE)
            check_columns(_digests(table), row.table, found.column_digests())
        except ManifestError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as exc:
            raise ManifestError(f"not a sample table as it was packed: {exc}", shard=url, advice=ADVICE) from exc
        for name, columns in found.fields.items():
            # Not offset + size, which a hostile table can make overflow.
            outside = (columns.size < 0) | (columns.offset < 0) | (columns.offset > row.num_bytes - columns.size)
            if outside.any():
                raise ManifestError(f"an offset of field {name} lies outside the shard", shard=url, advice=ADVICE)
        return found


def _bounds(row: ShardRow, num_fields: int) -> Bounds:
    """What the root table's row says of a sample table."""
    digests = 16 * -(-row.num_bytes // BLOCK_BYTES)
    # Kept twice, as they are and in Arrow's own form.
    return Bounds(num_rows=row.num_samples, row_bytes=_DIGEST_BYTES * num_fields, metadata_bytes=3 * digests)


def _sources(table: pa.Table) -> list[bytes]:
    column = table.column("source")
    if str(column.type) != "binary" or column.null_count:
        raise ValueError(f"column source holds {column.type}, or has empty places, and should hold bytes")
    return column.to_pylist()  # type: ignore[no-any-return]


def _picture_column(table: pa.Table, name: str) -> Sequence[Any]:
    if name not in _TEXT_COLUMNS:
        return numbers(table, name, np.int64).tolist()  # type: ignore[no-any-return]
    texts = Texts(table.column(name))
    text_bytes(texts)
    return texts


def _blocks(table: pa.Table, row: ShardRow) -> NDArray[np.uint64]:
    text = (table.schema.metadata or {}).get(_BLOCKS_KEY, b"")
    found = np.frombuffer(bytes.fromhex(text.decode("ascii")), dtype="<u8").astype(np.uint64)
    if text and len(found) != -(-row.num_bytes // BLOCK_BYTES):
        raise ValueError(f"it has digests of {len(found)} blocks for {row.num_bytes} bytes")
    return found


def _digests(table: pa.Table) -> object:
    """What the file says of its columns: their digests by name, not compared with anything."""
    text = (table.schema.metadata or {}).get(_COLUMNS_KEY)
    return None if text is None else json.loads(text)


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
    table = from_parquet(data, url, [], Bounds(num_rows=None, row_bytes=_DIGEST_BYTES, metadata_bytes=len(data)))
    try:
        row = ShardRow(**json.loads(table.schema.metadata[_ROW_KEY]))
        row.check()
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        raise ManifestError(f"not a sample table of a shard being packed: {exc}", shard=url) from exc
    return row

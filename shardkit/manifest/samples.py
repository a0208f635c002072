"""The sample tables: beside each shard, one row per sample.

Nothing in a table is trusted: offsets are checked against the shard's length, and the *content digest* that the root
table keeps for each shard covers keys, sizes, digests and labels, so that a damaged table is an error and never a
wrong label.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from shardkit.errors import ManifestError
from shardkit.manifest.parquet import ADVICE, Texts, from_parquet, numbers, text_bytes, to_parquet
from shardkit.manifest.shards import ShardRow, table_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["FieldColumns", "SampleTable", "row_in_table"]

_FIELD_COLUMNS = ("offset", "size", "xxh3_64")
_PICTURE_COLUMNS = ("width", "height", "mode", "format", "orientation")
_ROW_KEY = b"shardkit.shard"


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
        lengths, joined = text_bytes(self.keys)
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
        return to_parquet(table)

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
        table = from_parquet(data, url, None if whole else ["key", "label", *places])
        try:
            found = cls(
                keys=Texts(table.column("key")),
                sources=table.column("source").to_pylist() if whole else (),
                labels=numbers(table, "label", np.int64),
                fields={
                    name: FieldColumns(
                        offset=numbers(table, f"{name}_offset", np.int64),
                        size=numbers(table, f"{name}_size", np.int64),
                        xxh3_64=numbers(table, f"{name}_xxh3_64", np.uint64),
                    )
                    for name in fields
                },
                pictures={name: table.column(name).to_pylist() for name in _PICTURE_COLUMNS if whole},
            )
            matches = len(found) == row.num_samples and found.content_digest() == row.content
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ManifestError(f"not a sample table: {exc}", shard=url, advice=ADVICE) from exc
        if not matches:
            raise ManifestError("the sample table does not belong to this data set", shard=url, advice=ADVICE)
        for name, field in found.fields.items():
            # Not offset + size, which a hostile table can make overflow.
            outside = (field.size < 0) | (field.offset < 0) | (field.offset > row.num_bytes - field.size)
            if outside.any():
                raise ManifestError(f"an offset of field {name} lies outside the shard", shard=url, advice=ADVICE)
        return found


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
    table = from_parquet(data, url)
    try:
        row = ShardRow(**json.loads(table.schema.metadata[_ROW_KEY]))
        row.check()
    except (KeyError, TypeError, ValueError) as exc:
        raise ManifestError(f"not a sample table of a shard being packed: {exc}", shard=url) from exc
    return row

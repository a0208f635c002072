"""The root table: one row per shard. It is kept in columns, since a data set may have a million shards."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from shardkit.errors import ManifestError
from shardkit.manifest.columns import number_digest, table_digest, text_digest
from shardkit.manifest.parquet import (
    ADVICE,
    Bounds,
    Texts,
    from_parquet,
    number_column,
    numbers,
    text_bytes,
    text_column,
    to_parquet,
)
from shardkit.redact import brief

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["SHARD_TABLE_NAME", "ShardRow", "ShardTable", "table_name"]

SHARD_TABLE_NAME = "shards.parquet"
# A plain file name in the data set's own folder.
_SHARD_NAME = r"[^./\\\x00][^/\\\x00]*\.tar"
_DIGEST = r"[0-9a-f]{32}"
_MOST = 1 << 62  # of bytes or samples
_ROW_BYTES = 48  # three digests, whose hexadecimal digits get half as long at best


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
        table: Of its sample table's columns, see `shardkit.manifest.columns.table_digest`.
        table_bytes: About how many bytes its sample table's values take, see `shardkit.manifest.limits.table_bytes`.
    """

    name: str
    split: str
    num_samples: int
    num_bytes: int
    digest: str
    content: str
    table: str
    table_bytes: int

    def check(self) -> None:
        """Refuse what no packer writes.

        Raises:
            ValueError: The name leads out of the data set, a digest is none, or a count is none.
        """
        if not re.fullmatch(_SHARD_NAME, self.name):
            raise ValueError(f"{brief(self.name)} is not a shard's name")
        if not all(re.fullmatch(_DIGEST, text) for text in (self.digest, self.content, self.table)):
            raise ValueError(f"shard {brief(self.name)} has a digest that is none")
        counts = (self.num_samples, self.num_bytes, self.table_bytes)
        if any(type(count) is not int or not 0 <= count < _MOST for count in counts):
            raise ValueError(f"shard {brief(self.name)} has a count that is none")


_COLUMNS = tuple(field.name for field in fields(ShardRow))
_COUNTS = ("num_samples", "num_bytes", "table_bytes")
_DIGESTS = ("digest", "content", "table")


class ShardTable:
    """The shards of a data set, or of one of its splits, in pack order.

    Args:
        table: The columns, as `ShardRow` names them.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @classmethod
    def of(cls, rows: Sequence[ShardRow]) -> ShardTable:
        """The table of some rows."""
        import pyarrow as pa

        columns = {}
        for name in _COLUMNS:
            values = [getattr(row, name) for row in rows]
            if name in _COUNTS:
                columns[name] = number_column(np.array(values, dtype=np.int64), pa.int64())
            else:
                columns[name] = text_column([value.encode() for value in values], pa.string())
        return cls(pa.table(columns))

    @classmethod
    def from_parquet(cls, data: bytes, *, url: str = SHARD_TABLE_NAME, num_shards: int | None = None) -> ShardTable:
        """Read the table's file.

        Args:
            data: Its bytes.
            url: Where it came from, for messages.
            num_shards: How many shards it should have, if that is known.

        Returns:
            The table.

        Raises:
            ManifestError: It is damaged, has other numbers of shards, or names a shard outside of the data set.
        """
        table = from_parquet(data, url, list(_COLUMNS), Bounds(num_rows=num_shards, row_bytes=_ROW_BYTES))
        try:
            for name in _COUNTS:
                counts = numbers(table, name, np.int64)
                if len(table) and not 0 <= int(counts.min()) <= int(counts.max()) < _MOST:
                    raise ValueError("a shard has a count that is none")
            text_bytes(Texts(table.column("split")))
            # Digests become names of files in a cache.
            for name in _DIGESTS:
                if not _are_digests(*text_bytes(Texts(table.column(name)))):
                    raise ValueError("a shard has a digest that is none")
            if not _are_shard_names(*text_bytes(Texts(table.column("name")))):
                names = table.column("name").to_pylist()
                wrong = next(name for name in names if not re.fullmatch(_SHARD_NAME, name))
                raise ValueError(f"{brief(wrong)} is not a shard's name")
        except (KeyError, TypeError, ValueError, AttributeError, NotImplementedError) as exc:
            raise ManifestError(f"not a table of shards: {exc}", shard=url, advice=ADVICE) from exc
        return cls(table)

    def to_parquet(self) -> bytes:
        """The table's file."""
        return to_parquet(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, number: int) -> ShardRow:
        return ShardRow(**{name: self._table.column(name)[number].as_py() for name in _COLUMNS})

    def __iter__(self) -> Iterator[ShardRow]:
        for batch in self._table.to_batches(max_chunksize=1024):
            yield from (ShardRow(**row) for row in batch.to_pylist())

    def split(self, name: str) -> ShardTable:
        """The shards of one split."""
        import pyarrow as pa

        # Slices, of which there is one: pyarrow's own comparing takes a tenth of a second to import, more with pandas.
        mine = np.concatenate([[False], self._is_in(name), [False]])
        starts, stops = np.flatnonzero(np.diff(mine.astype(np.int8))).reshape(-1, 2).T.tolist()
        parts = [self._table.slice(start, stop - start) for start, stop in zip(starts, stops, strict=True)]
        return ShardTable(pa.concat_tables(parts) if parts else self._table.slice(0, 0))

    def _is_in(self, split: str) -> NDArray[np.bool_]:
        """Whether each shard is of a split."""
        name = np.frombuffer(split.encode(), dtype=np.uint8)
        lengths, joined = text_bytes(Texts(self._table.column("split")))
        same: NDArray[np.bool_] = lengths == len(name)
        starts = (np.cumsum(lengths) - lengths)[same]
        same[same] = (np.frombuffer(joined, dtype=np.uint8)[starts[:, None] + np.arange(len(name))] == name).all(axis=1)
        return same

    @cached_property
    def num_samples(self) -> NDArray[np.int64]:
        """``(n,)`` int64: samples in each shard."""
        return numbers(self._table, "num_samples", np.int64)

    @cached_property
    def num_bytes(self) -> NDArray[np.int64]:
        """``(n,)`` int64: bytes of each shard."""
        return numbers(self._table, "num_bytes", np.int64)

    @cached_property
    def table_bytes(self) -> NDArray[np.int64]:
        """``(n,)`` int64: what is known of the length of each sample table."""
        return numbers(self._table, "table_bytes", np.int64)

    def digest(self) -> str:
        """The digest of all columns, which the manifest keeps: 32 hexadecimal digits."""
        texts = (name for name in _COLUMNS if name not in _COUNTS)
        return table_digest(
            {name: number_digest(numbers(self._table, name, np.int64)) for name in _COUNTS}
            | {name: text_digest(*text_bytes(Texts(self._table.column(name)))) for name in texts}
        )

    def fingerprint(self) -> str:
        """The data set's fingerprint: xxh3_128 over the shards' logical content, in order, 32 hexadecimal digits."""
        hashed = xxhash.xxh3_128(len(self).to_bytes(8, "little"))
        hashed.update(self.num_samples.astype("<i8").tobytes())
        for name in ("split", "content"):
            lengths, joined = text_bytes(Texts(self._table.column(name)))
            hashed.update(lengths.astype("<i8").tobytes())
            hashed.update(joined)
        return hashed.hexdigest()


def _are_digests(lengths: NDArray[np.int64], joined: bytes) -> bool:
    """Whether each text is of the form `_DIGEST`; a million at once."""
    return not joined.translate(None, b"0123456789abcdef") and bool((lengths == 32).all())


def _are_shard_names(lengths: NDArray[np.int64], joined: bytes) -> bool:
    """Whether each name is of the form `_SHARD_NAME`; a million at once."""
    if any(byte in joined for byte in (b"/", b"\\", b"\0")) or (lengths < len("x.tar")).any():
        return False
    characters, ends = np.frombuffer(joined, dtype=np.uint8), np.cumsum(lengths)
    suffixes = characters[ends[:, np.newaxis] + np.arange(-4, 0)]
    return bool(
        (suffixes == np.frombuffer(b".tar", dtype=np.uint8)).all() and (characters[ends - lengths] != ord(".")).all()
    )

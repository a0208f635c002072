"""From sample numbers to where their bytes lie: the rows of the sample tables that a batch needs, and no others."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from shardkit.manifest import DataSet, SampleTable, Split

__all__ = ["KeyLookup", "RowCache", "Rows"]

# Tables are cached by the rows they hold: 60 bytes or so a row, keys not counted.
_MAX_TABLE_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Where some samples lie.

    Attributes:
        shard: ``(n,)`` int64, the shard's number in the split.
        row: ``(n,)`` int64, the row in the shard's sample table.
        offset: ``(n,)`` int64, of the image, in bytes from the start of the shard.
        size: ``(n,)`` int64, of the image, in bytes.
        digest: ``(n,)`` uint64, xxh3_64 of the image.
        label: ``(n,)`` int64.
    """

    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    digest: NDArray[np.uint64]
    label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)


_COLUMNS = ("shard", "row", "offset", "size", "digest", "label")


class RowCache:
    """The rows of live chunks, in one arena, so that a batch is found by a few array look-ups.

    Safe to use from several threads.

    Args:
        dataset: The data set.
        split: The split.
        chunk_samples: Samples in a chunk.
    """

    def __init__(self, dataset: DataSet, split: Split, chunk_samples: int) -> None:
        self._dataset = dataset
        self._split = split
        self._length = chunk_samples
        self._tables: OrderedDict[int, SampleTable] = OrderedDict()
        self._table_rows = 0
        self._slots: OrderedDict[int, int] = OrderedDict()
        self._arena: dict[str, NDArray[Any]] = {}
        self._num_slots = 0
        self._lock = threading.Lock()

    def locate(
        self, samples: NDArray[np.int64], live_chunks: int, on_chunk: Callable[[Rows], None] | None = None
    ) -> Rows:
        """Where samples lie.

        Args:
            samples: ``(n,)`` sample numbers in the split.
            live_chunks: How many chunks are worth keeping: those that the order comes back to.
            on_chunk: Called with the rows of each chunk that comes in, shard by shard, for reading ahead.

        Returns:
            Their rows, in the order asked for.
        """
        with self._lock:
            chunks, within = np.divmod(samples, self._length)
            distinct, place = np.unique(chunks, return_inverse=True)
            self._make_room(max(live_chunks, len(distinct)))
            slots = np.array([self._slot(int(chunk), on_chunk) for chunk in distinct], dtype=np.int64)
            at = slots[place] * self._length + within
            return Rows(*(self._arena[name][at] for name in _COLUMNS))

    def keys(self, samples: NDArray[np.int64]) -> list[str]:
        """The samples' keys, in the order asked for."""
        shards = np.searchsorted(self._split.starts, samples, side="right") - 1
        found: list[str] = [""] * len(samples)
        with self._lock:
            for shard in np.unique(shards):
                keys = self._table(int(shard)).keys
                for place in np.flatnonzero(shards == shard):
                    found[place] = keys[int(samples[place] - self._split.starts[shard])]
        return found

    def _make_room(self, slots: int) -> None:
        if slots <= self._num_slots:
            return
        self._num_slots = max(slots, min(2 * self._num_slots, 1 << 20))
        kinds = {"digest": np.uint64}
        for name in _COLUMNS:
            grown = np.zeros(self._num_slots * self._length, dtype=kinds.get(name, np.int64))
            old = self._arena.get(name)
            if old is not None:
                grown[: len(old)] = old
            self._arena[name] = grown

    def _slot(self, chunk: int, on_chunk: Callable[[Rows], None] | None) -> int:
        slot = self._slots.get(chunk)
        if slot is not None:
            self._slots.move_to_end(chunk)
            return slot
        # Read before a place is taken: what fails here must leave no place half filled.
        parts = list(self._read(chunk))
        # A free place, or that of the longest unused chunk; should this batch still come to that one, it is read again.
        full = len(self._slots) == self._num_slots
        slot = self._slots.popitem(last=False)[1] if full else len(self._slots)
        last = slot * self._length
        for rows in parts:
            start, last = last, last + len(rows)
            for name in _COLUMNS:
                self._arena[name][start:last] = getattr(rows, name)
        self._slots[chunk] = slot
        if on_chunk is not None:
            for rows in parts:
                on_chunk(rows)
        return slot

    def _read(self, chunk: int) -> Iterator[Rows]:
        """A chunk's rows, shard by shard."""
        starts = self._split.starts
        sample = chunk * self._length
        stop = min(sample + self._length, self._split.num_samples)
        while sample < stop:
            shard = int(np.searchsorted(starts, sample, side="right")) - 1
            end = min(stop, int(starts[shard + 1]))
            rows = np.arange(sample, end) - starts[shard]
            table = self._table(shard)
            image = table.fields["image"]
            yield Rows(
                np.full(len(rows), shard), rows, image.offset[rows], image.size[rows], image.xxh3_64[rows],
                table.labels[rows],
            )  # fmt: skip
            sample = end

    def _table(self, shard: int) -> SampleTable:
        table = self._tables.get(shard)
        if table is None:
            table = self._dataset.sample_table(self._split.shards[shard], whole=False)
            self._tables[shard] = table
            self._table_rows += len(table)
            while self._table_rows > _MAX_TABLE_ROWS and len(self._tables) > 1:
                self._table_rows -= len(self._tables.popitem(last=False)[1])
        self._tables.move_to_end(shard)
        return table


class KeyLookup:
    """The keys of some samples, looked up when they are asked for."""

    __slots__ = ("_rows", "_samples")

    def __init__(self, rows: RowCache, samples: NDArray[np.int64]) -> None:
        self._rows = rows
        self._samples = samples

    def __call__(self) -> list[str]:
        """The keys."""
        return self._rows.keys(self._samples)

"""From sample numbers to where their bytes lie: the rows of live chunks, and no others."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shardkit.loader.buffers import memory_of_chunks
from shardkit.loader.tables import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from shardkit.loader.tables import TableCache
    from shardkit.manifest import Split

__all__ = ["Piece", "RowArena", "Rows", "rows_of_piece"]

_SIZE = COLUMNS.index("size")
_NOT_READ = -1  # a size that no sample has


@dataclass(frozen=True, slots=True)
class Rows:
    """Where some samples lie.

    Attributes:
        numbers: ``(n, 6)`` int64, columns as in `COLUMNS`.
        place: ``(n,)`` int64, the samples' places in the arena.
    """

    numbers: NDArray[np.int64]
    place: NDArray[np.int64]

    @property
    def row(self) -> NDArray[np.int64]:
        """``(n,)`` int64, the row in the shard's sample table."""
        return self.numbers[:, 0]

    @property
    def offset(self) -> NDArray[np.int64]:
        """``(n,)`` int64, of the image, in bytes from the start of the shard."""
        return self.numbers[:, 1]

    @property
    def size(self) -> NDArray[np.int64]:
        """``(n,)`` int64, of the image, in bytes."""
        return self.numbers[:, 2]

    @property
    def digest(self) -> NDArray[np.uint64]:
        """``(n,)`` uint64, xxh3_64 of the image."""
        return self.numbers[:, 3].view(np.uint64)

    @property
    def label(self) -> NDArray[np.int64]:
        """``(n,)`` int64."""
        return self.numbers[:, 4]

    @property
    def shard(self) -> NDArray[np.int64]:
        """``(n,)`` int64, the shard's number in the split."""
        return self.numbers[:, 5]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, part: slice) -> Rows:
        return Rows(self.numbers[part], self.place[part])


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The part of a chunk that lies in one shard, just come into the arena.

    Attributes:
        start: The place of its first sample in the arena; the others follow.
        numbers: ``(n, 6)`` int64, its rows, columns as in `COLUMNS`.
    """

    start: int
    numbers: NDArray[np.int64]

    @property
    def shard(self) -> int:
        """The shard's number in the split."""
        return int(self.numbers[0, 5])

    @property
    def first_byte(self) -> int:
        """Where the first image starts, in bytes from the start of the shard."""
        return int(self.numbers[0, 1])

    @property
    def num_bytes(self) -> int:
        """Bytes from there to the end of the last image."""
        return int(self.numbers[-1, 1] + self.numbers[-1, 2]) - self.first_byte

    def __len__(self) -> int:
        return len(self.numbers)


def rows_of_piece(split: Split, shard: int, sample: int, chunk_samples: int) -> tuple[int, int]:
    """The rows of a shard's sample table that lie in the chunk of one of its samples.

    Args:
        split: The split.
        shard: The shard's number in it.
        sample: A sample of the shard, by its number in the split.
        chunk_samples: Samples in a chunk.

    Returns:
        The first row, and the one after the last.
    """
    first, chunk_start = int(split.starts[shard]), sample // chunk_samples * chunk_samples
    return max(chunk_start - first, 0), min(chunk_start + chunk_samples, int(split.starts[shard + 1])) - first


class RowArena:
    """The rows of live chunks in one block of memory, so that a batch is found by a few array look-ups.

    A chunk has a slot from its first use to its last, or until the slot is needed for another; what is used between
    `locate` and `release` keeps its slot. One thread at a time may locate; any may release.

    Args:
        tables: The sample tables.
        split: The split.
        chunk_samples: Samples in a chunk.
        live_chunks: How many chunks are worth keeping: those that the order comes back to.
    """

    def __init__(self, tables: TableCache, split: Split, chunk_samples: int, live_chunks: int) -> None:
        self._tables = tables
        self._split = split
        self._length = min(chunk_samples, max(split.num_samples, 1))  # what is larger holds no more, and takes memory
        self._most_slots = live_chunks
        self._rows = np.empty((0, len(COLUMNS)), dtype=np.int64)
        self._chunk = np.empty(0, dtype=np.int64)  # of each slot, -1 where it is free
        self._left = np.empty(0, dtype=np.int64)  # samples of it that have not come up yet
        self._used = np.empty(0, dtype=np.int64)  # when it was last used
        self._pins = np.empty(0, dtype=np.int64)  # how many users it has now
        self._sorted = np.empty(0, dtype=np.int64)  # slots by their chunk
        self._clock = 0
        self._lock = threading.Lock()

    def locate(self, samples: NDArray[np.int64], on_piece: Callable[[Piece], None] | None = None) -> Rows:
        """Where samples lie.

        Args:
            samples: ``(n,)`` sample numbers in the split.
            on_piece: Called for each part of a chunk that comes in, for reading ahead.

        Returns:
            Their rows, in the order asked for. Their chunks keep their places until `release`.

        Raises:
            ManifestError: A sample table is missing or damaged.
            ConfigError: There is no memory for so large chunks.
        """
        chunks, within = np.divmod(samples, self._length)
        with self._lock:
            slots = self._slots_of(chunks)
        place = slots * self._length + within
        missing = np.flatnonzero(self._rows[place, _SIZE] == _NOT_READ)
        if len(missing):
            for piece in self._read(samples[missing], slots[missing]):
                if on_piece is not None:
                    on_piece(piece)
        return Rows(self._rows[place], place)

    def release(self, rows: Rows) -> None:
        """Say that samples have been used, after which their places may be given to others.

        Args:
            rows: What `locate` gave.
        """
        with self._lock:
            self._pins -= np.bincount(rows.place // self._length, minlength=len(self._pins))

    def _slots_of(self, chunks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slot of each chunk; new ones are given to chunks that have none."""
        slots, found = self._look_up(chunks)
        if not found.all():
            self._admit(np.unique(chunks[~found]), slots[found])
            slots, found = self._look_up(chunks)
        self._clock += 1
        self._used[slots] = self._clock
        counts = np.bincount(slots, minlength=len(self._pins))
        self._pins += counts
        self._left -= counts
        return slots

    def _look_up(self, chunks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        if not len(self._sorted):
            return np.zeros_like(chunks), np.zeros(len(chunks), dtype=bool)
        at = np.searchsorted(self._chunk[self._sorted], chunks)
        slots = self._sorted[np.minimum(at, len(self._sorted) - 1)]
        return slots, self._chunk[slots] == chunks

    def _admit(self, chunks: NDArray[np.int64], in_use: NDArray[np.int64]) -> None:
        """Give slots to chunks: free ones, then those that are used up, then those that were not used for longest."""
        may_go = self._pins == 0
        may_go[in_use] = False
        spare = may_go & ((self._chunk < 0) | (self._left <= 0))
        lacking = len(chunks) - int(spare.sum())
        if lacking > 0 and len(self._chunk) < self._most_slots:
            self._grow(min(self._most_slots, max(2 * len(self._chunk), len(self._chunk) + lacking)))
            return self._admit(chunks, in_use)
        # What may not go because somebody uses it makes the arena larger than planned, whatever the plan was.
        if len(chunks) > int(may_go.sum()):
            self._grow(len(self._chunk) + len(chunks) - int(may_go.sum()))
            return self._admit(chunks, in_use)
        candidates = np.flatnonzero(may_go)
        rank = np.where(spare[candidates], -1, self._used[candidates])
        given = candidates[np.argsort(rank, kind="stable")[: len(chunks)]]
        first = chunks * self._length
        self._chunk[given] = chunks
        self._left[given] = np.minimum(first + self._length, self._split.num_samples) - first
        self._rows.reshape(len(self._chunk), self._length, -1)[given, :, _SIZE] = _NOT_READ
        live = np.flatnonzero(self._chunk >= 0)
        self._sorted = live[np.argsort(self._chunk[live])]
        return None

    def _grow(self, num_slots: int) -> None:
        more = num_slots - len(self._chunk)
        num_samples = num_slots * self._length
        with memory_of_chunks(num_samples):
            grown = np.zeros((num_samples, len(COLUMNS)), dtype=np.int64)
        grown[: len(self._rows)] = self._rows
        self._rows = grown
        self._chunk = np.concatenate([self._chunk, np.full(more, -1)])
        self._left, self._used, self._pins = (
            np.concatenate([old, np.zeros(more, dtype=np.int64)]) for old in (self._left, self._used, self._pins)
        )

    def _read(self, samples: NDArray[np.int64], slots: NDArray[np.int64]) -> Iterator[Piece]:
        """Bring in the parts of chunks that samples lie in, shard by shard."""
        shards = np.searchsorted(self._split.starts, samples, side="right") - 1
        _, first = np.unique(shards * len(self._chunk) + slots, return_index=True)
        for shard, slot, sample in zip(*(values[first].tolist() for values in (shards, slots, samples)), strict=True):
            start, stop = rows_of_piece(self._split, shard, sample, self._length)
            numbers = self._tables.numbers(shard)[start:stop]
            place = slot * self._length + start + int(self._split.starts[shard]) - sample // self._length * self._length
            self._rows[place : place + len(numbers)] = numbers
            yield Piece(place, numbers)

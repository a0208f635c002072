"""Raw samples: arrays of one size that need no decoding, so that a batch is one gather from memory.

Chunks are read whole, verified by block, and their pixels copied into an arena, where each sample has the place that
the `RowArena` gives it. Nothing is done in Python for a single sample.
"""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from shardkit.errors import FormatError, StorageError
from shardkit.loader.buffers import memory_of_chunks
from shardkit.manifest import BLOCK_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shardkit.loader.batches import BatchJob
    from shardkit.loader.buffers import BufferPool
    from shardkit.loader.read import Reader
    from shardkit.loader.recorder import Recorder
    from shardkit.loader.rows import Piece, RowArena, Rows
    from shardkit.loader.tables import TableCache
    from shardkit.sample import Batch

__all__ = ["Fill", "GatherJob", "PixelArena"]

# Threads that come back from reading wait for Python's lock, so not too few; a part of what a processor's caches hold.
_RUN_BYTES = 2**21


class PixelArena:
    """The pixels of live chunks.

    Args:
        reader: Gives bytes.
        tables: Know the digests of blocks.
        sample_bytes: Bytes of one sample.
        num_places: The most places that the row arena has; memory is taken as places are used.
        buffers: Give memory for reading.
        recorder: Takes what time it took.
    """

    def __init__(
        self,
        reader: Reader,
        tables: TableCache,
        sample_bytes: int,
        num_places: int,
        buffers: BufferPool,
        recorder: Recorder,
    ) -> None:
        self._reader = reader
        self._tables = tables
        self._sample_bytes = sample_bytes
        self._buffers = buffers
        self._recorder = recorder
        with memory_of_chunks(num_places):
            self._pixels = np.empty((num_places, sample_bytes), dtype=np.uint8)
        self._sound = np.zeros(num_places, dtype=bool)
        self._new: list[Fill] = []
        self._pending: list[Fill] = []

    def admit(self, piece: Piece) -> None:
        """Note that a piece has come into the row arena.

        Args:
            piece: The piece.
        """
        self._new.append(Fill(self, piece))

    def take_fills(self) -> tuple[list[Fill], list[Fill]]:
        """The pieces admitted since this was last asked, and all those whose pixels are not there yet."""
        new, self._new = self._new, []
        self._pending = [fill for fill in [*self._pending, *new] if not fill.done.is_set()]
        return new, list(self._pending)

    def fill(self, piece: Piece) -> None:
        """Read, verify and place the pixels of a piece, a run at a time that stays in the processor's cache.

        What cannot be read, or is damaged, is left to be found sample by sample, so that the error names the sample.
        """
        self._sound[piece.start : piece.start + len(piece)] = False
        offsets = piece.numbers[:, 1]
        strides = np.diff(offsets)
        stride = int(strides[0]) if len(strides) else self._sample_bytes
        even = bool((strides == stride).all())
        step = max(1, _RUN_BYTES // max(int(strides.max(initial=0)), self._sample_bytes))
        for first in range(0, len(piece), step):
            run = offsets[first : first + step]
            try:
                data = self._verified(piece.shard, int(run[0]), int(run[-1]) + self._sample_bytes)
            except (FormatError, StorageError):
                continue
            started = perf_counter()
            places = slice(piece.start + first, piece.start + first + len(run))
            if even:
                self._pixels[places] = np.ndarray((len(run), self._sample_bytes), np.uint8, data, 0, (stride, 1))
            else:
                for place, offset in enumerate((run - run[0]).tolist(), places.start):
                    self._pixels[place] = data[offset : offset + self._sample_bytes]
            self._sound[places] = True
            self._recorder.work(assemble=perf_counter() - started)

    def _verified(self, shard: int, start: int, stop: int) -> NDArray[np.uint8]:
        """The bytes from ``start`` on, read and checked with all blocks up to ``stop``."""
        started = perf_counter()
        blocks = self._tables.blocks(shard)
        first, last = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        size = min(last * BLOCK_BYTES, self._reader.shard_bytes(shard)) - first * BLOCK_BYTES
        data = self._buffers.take((-(-size // _RUN_BYTES) * _RUN_BYTES,), np.uint8)[:size]
        view = data.data
        self._reader.read_run(shard, first * BLOCK_BYTES, view)
        read = perf_counter()
        for number, at in enumerate(range(0, size, BLOCK_BYTES), first):
            if xxhash.xxh3_64_intdigest(view[at : at + BLOCK_BYTES]) != blocks[number]:
                raise FormatError("a block is not as it was packed", shard=self._reader.shard_name(shard))
        self._recorder.work(size, read=read - started, verify=perf_counter() - read)
        return data[start - first * BLOCK_BYTES :]

    def gather(self, places: NDArray[np.int64], out: NDArray[np.uint8]) -> list[int]:
        """Copy samples from the arena.

        Args:
            places: ``(n,)`` int64, where they are.
            out: ``(n, sample_bytes)`` uint8, C-contiguous: is overwritten.

        Returns:
            The rows whose pixels are not there, since their piece is damaged.
        """
        # Not mode="raise", which would copy twice to leave `out` alone after an error; every place is within.
        np.take(self._pixels, places, axis=0, out=out, mode="clip")
        sound = self._sound[places]
        return [] if sound.all() else np.flatnonzero(~sound).tolist()


class Fill:
    """Bringing in the pixels of one piece, once.

    Attributes:
        done: Set when that is over, well or not.
    """

    __slots__ = ("_arena", "_piece", "done")

    def __init__(self, arena: PixelArena, piece: Piece) -> None:
        self._arena = arena
        self._piece = piece
        self.done = threading.Event()

    def run(self) -> None:
        """Bring them in."""
        try:
            self._arena.fill(self._piece)
        finally:
            self.done.set()


class GatherJob:
    """Some batches: first the pieces that they are the first to need, then one gather each.

    Several batches at once, since what a job costs beside copying would be most of the time of a single one.
    The engine hands out parts in order, so whatever the gathers wait for is being done by another thread already.

    Args:
        arena: Knows the places of rows.
        pixels: The pixels at these places.
        rows: Where the samples of all these batches are, and of earlier ones whose chunks keep their places till then.
        batches: The batches. Their work is to be done here, but for what damage leaves out.
        recorder: Takes what time it took.

    Attributes:
        num_parts: How many parts there are.
    """

    def __init__(
        self,
        arena: RowArena,
        pixels: PixelArena,
        rows: Sequence[Rows],
        batches: list[BatchJob],
        recorder: Recorder,
    ) -> None:
        self._fills, self._needed = pixels.take_fills()
        self.num_parts = len(self._fills) + 1
        self._arena = arena
        self._pixels = pixels
        self._rows = rows
        self._batches = batches
        self._recorder = recorder

    def run(self, part: int) -> None:
        """Do one part."""
        if part < len(self._fills):
            self._fills[part].run()
            return
        for fill in self._needed:
            fill.done.wait()
        started = perf_counter()
        missing = [self._gather(batch) for batch in self._batches]
        for rows in self._rows:
            self._arena.release(rows)
        self._recorder.work(assemble=perf_counter() - started)
        for batch, places in zip(self._batches, missing, strict=True):
            batch.work.do(places)

    def _gather(self, batch: BatchJob) -> list[int]:
        count = len(batch.rows)
        return self._pixels.gather(batch.rows.place, batch.work.images[:count].reshape(count, -1))

    def finish(self) -> list[Batch]:
        """The batches."""
        return [finished for batch in self._batches for finished in batch.finish()]

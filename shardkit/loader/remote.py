"""Reading from a server: what comes next is fetched ahead, in few requests, within limits of memory.

The unit is the part of a chunk that lies in one shard. Only for the first batch, for which somebody waits, just the
samples that it needs are fetched first, neighbours together.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from shardkit.errors import FormatError, StorageError
from shardkit.loader.flight import Flight
from shardkit.loader.read import Reader
from shardkit.loader.rows import rows_of_piece
from shardkit.loader.tables import COLUMNS
from shardkit.manifest import BLOCK_BYTES
from shardkit.storage.attempts import FailedError, MissingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from shardkit.loader.tables import TableCache
    from shardkit.manifest import Split
    from shardkit.storage.cache import Cache
    from shardkit.storage.remote import RemoteStore

__all__ = ["RemoteReader", "looked_ahead"]

_OFFSET, _SIZE = COLUMNS.index("offset"), COLUMNS.index("size")
# A gap costs its bytes, a request costs its time: at 100 MB/s and 1 ms both are the same for so many bytes.
_GAP_BYTES = 2**16
_RUN_BYTES = 2**21
_LOOK_AGAIN_S = 0.2
T = TypeVar("T")
Step = tuple[int, "NDArray[np.int64]"]


@dataclass(eq=False, slots=True)
class _Part:
    """A run of a shard's bytes that was asked for."""

    shard: int
    start: int
    stop: int
    left: int  # samples in it that have not been read
    piece: tuple[int, int] | None = None  # its chunk and shard, where it is the whole of that
    future: Future[memoryview | None] = field(init=False)
    data: memoryview | None = None  # once somebody has waited for it

    def __len__(self) -> int:
        return self.stop - self.start


class RemoteReader(Reader):
    """Reads samples from shards of a server.

    Args:
        store: Where the shards are.
        split: Their rows in the root table.
        tables: The sample tables.
        chunk_samples: Samples in a chunk.
        by_block: Whether runs of whole blocks will be asked for.
        most_bytes: The most to keep in memory, what is on its way included.
        cache: Keeps what was fetched, if anything does.
    """

    fetches = True

    def __init__(
        self,
        store: RemoteStore,
        split: Split,
        tables: TableCache,
        *,
        chunk_samples: int,
        by_block: bool,
        most_bytes: int,
        cache: Cache | None = None,
    ) -> None:
        super().__init__(split)
        self._store = store
        self._tables = tables
        self._chunk_samples = chunk_samples
        self._by_block = by_block
        self._most_bytes = most_bytes
        self._flight = Flight(store, split, cache)
        self._in_cache: set[tuple[int, int]] = set()  # pieces that need no fetching
        self._coming: dict[int, Future[bytes | None]] = {}
        # By shard; tuples are replaced and not changed, so that looking for a part takes no lock.
        self._parts: dict[int, tuple[_Part, ...]] = {}
        self._known: dict[tuple[int, int], _Part] = {}  # by chunk and shard, oldest first
        self._early: dict[tuple[int, int], int] = {}  # samples of a piece that were asked for by themselves
        self._kept = 0
        self._lock = threading.Lock()
        self._has_waited = False

    def expect(self, samples: NDArray[np.int64]) -> None:
        """Begin to fetch the tables of shards that samples lie in."""
        for shard in np.unique(np.searchsorted(self._split.starts, samples, side="right") - 1).tolist():
            if shard not in self._coming and not self._tables.has(shard):
                future = self._tables.start(shard)
                if future is not None:
                    self._coming[shard] = future

    def prepare(self, samples: NDArray[np.int64], *, urgent: bool = False) -> None:
        """Begin to fetch samples; waits for tables that say where they lie."""
        shards = np.searchsorted(self._split.starts, samples, side="right") - 1
        for shard in np.unique(shards).tolist():
            if (future := self._coming.pop(shard, None)) is not None:
                self._tables.put(shard, self._wait(future))
        pairs = np.stack([samples // self._chunk_samples, shards], axis=1)
        found, first, counts = np.unique(pairs, axis=0, return_index=True, return_counts=True)
        in_order = np.argsort(first)
        if urgent:
            self._early = {(int(c), int(s)): int(n) for (c, s), n in zip(found, counts, strict=True)}
            self._prepare_samples(samples, shards)
            return
        for place in in_order.tolist():
            pair = int(found[place, 0]), int(found[place, 1])
            if pair not in self._known and pair not in self._in_cache:
                self._prepare_piece(pair, int(samples[first[place]]))

    def _prepare_samples(self, samples: NDArray[np.int64], shards: NDArray[np.int64]) -> None:
        """Fetch samples alone, those that lie close to each other together."""
        for shard in np.unique(shards).tolist():
            rows = samples[shards == shard] - int(self._split.starts[shard])
            numbers = self._tables.numbers(shard)[np.sort(rows)]
            starts, stops = numbers[:, _OFFSET], numbers[:, _OFFSET] + numbers[:, _SIZE]
            apart = starts[1:] - stops[:-1] > _GAP_BYTES
            breaks = np.flatnonzero(apart | np.diff(starts // _RUN_BYTES).astype(bool)) + 1
            for run in np.split(np.arange(len(numbers)), breaks):
                start, stop = int(starts[run[0]]), int(stops[run[-1]])
                if not self._flight.is_cached(shard, start, stop):
                    self._start(_Part(shard, start, stop, len(run)))

    def _prepare_piece(self, pair: tuple[int, int], sample: int) -> None:
        """Fetch the whole part of a chunk that lies in one shard."""
        shard = pair[1]
        first, stop = rows_of_piece(self._split, shard, sample, self._chunk_samples)
        numbers = self._tables.numbers(shard)[first:stop]
        left = len(numbers) - self._early.pop(pair, 0)
        if left <= 0:
            return
        start, end = int(numbers[0, _OFFSET]), int(numbers[-1, _OFFSET] + numbers[-1, _SIZE])
        if self._by_block:
            start, end = start // BLOCK_BYTES * BLOCK_BYTES, -(-end // BLOCK_BYTES) * BLOCK_BYTES
            end = min(end, self.shard_bytes(shard))
        if self._flight.is_cached(shard, start, end):
            self._in_cache.add(pair)
        else:
            self._start(_Part(shard, start, end, left, pair))

    def _start(self, part: _Part) -> None:
        part.future = self._store.start(self._flight.fetch(part.shard, part.start, part.stop))
        with self._lock:
            self._parts[part.shard] = (*self._parts.get(part.shard, ()), part)
            self._kept += len(part)
            if part.piece is not None:
                self._known[part.piece] = part
            # What other ranks read of a chunk that they share with this one is never asked for here.
            for old in list(self._known.values()) if self._kept > self._most_bytes else []:
                if self._kept <= self._most_bytes or old is part:
                    break
                self._drop(old)

    def _drop(self, part: _Part) -> None:
        others = tuple(other for other in self._parts.get(part.shard, ()) if other is not part)
        if others:
            self._parts[part.shard] = others
        else:
            self._parts.pop(part.shard, None)
        self._kept -= len(part)
        if part.piece is not None:
            self._known.pop(part.piece, None)

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """As `Reader.read`."""
        part = self._part(shard, offset, offset + size)
        if part is None:
            return self._now(shard, offset, offset + size)
        found = self._cut(part, offset, offset + size)
        with self._lock:
            part.left -= 1
            if part.left == 0 and part in self._parts.get(shard, ()):
                self._drop(part)
        return found

    def read_run(self, shard: int, start: int, out: memoryview) -> None:
        """As `Reader.read_run`."""
        stop = start + len(out)
        part = self._part(shard, start, stop)
        if part is None:
            out[:] = self._now(shard, start, stop)
            return
        out[:] = self._cut(part, start, stop)
        with self._lock:
            if stop == part.stop and part in self._parts.get(shard, ()):
                self._drop(part)

    def read_again(self, shard: int, offset: int, size: int) -> bytes | None:
        """The bytes once more, from the server."""
        self._flight.forget(shard, offset, offset + size)
        return self._now(shard, offset, offset + size)

    def abandon(self) -> None:
        """Call off all requests."""
        self._flight.abandon()

    def has_waited(self) -> bool:
        """Whether anybody had to wait for bytes since this was last asked."""
        found, self._has_waited = self._has_waited, False
        return found

    def _part(self, shard: int, start: int, stop: int) -> _Part | None:
        for part in self._parts.get(shard, ()):
            if part.start <= start and stop <= part.stop:
                return part
        return None

    def _cut(self, part: _Part, start: int, stop: int) -> bytes:
        """Bytes of a part, once it is there."""
        data = part.data
        if data is None:
            self._has_waited |= not part.future.done()
            data = part.data = self._waited(part.future, part.shard)
        if data is None:
            return self._now(part.shard, start, stop)
        return bytes(data[start - part.start : stop - part.start])

    def _now(self, shard: int, start: int, stop: int) -> bytes:
        """Bytes from the cache, or straight from the server."""
        while (found := self._flight.cached(shard, start, stop)) is None:
            data = self._waited(self._store.start(self._flight.fetch(shard, start, stop)), shard)
            if data is not None:
                return bytes(data)
        return found

    def _waited(self, future: Future[memoryview | None], shard: int) -> memoryview | None:
        try:
            return self._wait(future)
        except MissingError:
            raise FormatError(
                "the shard is missing", shard=self.shard_name(shard), advice="Copy the data set again"
            ) from None
        except FormatError as exc:  # one for each sample, which is named in it
            raise FormatError(exc.what, shard=exc.shard, offset=exc.offset, advice=exc.advice) from None
        except FailedError as exc:
            raise self._store.failed(exc, self.shard_name(shard)) from None

    def _wait(self, future: Future[T]) -> T:
        """A future's result, unless this reader is abandoned meanwhile."""
        while True:
            try:
                return future.result(_LOOK_AGAIN_S)
            except TimeoutError:
                if self._flight.abandoned:
                    break
            except CancelledError:
                break
        future.cancel()
        raise StorageError("called off", operation="read")


def looked_ahead(steps: Iterable[Step], reader: RemoteReader, num_ahead: int, most_ahead: int) -> Iterator[Step]:
    """Steps in their order, of which a reader hears some steps before: more and more, as long as that is too late.

    Args:
        steps: Numbers of steps, and their samples.
        reader: The reader.
        num_ahead: How many steps before it may fetch samples, at first; what says where they lie, twice as many.
        most_ahead: How many at most.

    Yields:
        The same.
    """
    rest, upcoming = iter(steps), deque[Step]()
    num_given = num_prepared = 0  # the latter of the upcoming ones
    while True:
        for step in islice(rest, 2 * num_ahead + 1 - len(upcoming)):
            reader.expect(step[1])
            upcoming.append(step)
        if not upcoming:
            return
        if num_given == 0:
            # All else waits until somebody works on the first one.
            reader.prepare(upcoming[0][1], urgent=True)
        else:
            for step in islice(upcoming, num_prepared, num_ahead + 1):
                reader.prepare(step[1])
                num_prepared += 1
            num_prepared -= 1
        yield upcoming.popleft()
        num_given += 1
        # Those before were not asked for as early as they should be.
        if reader.has_waited() and num_given > 2 * num_ahead:
            num_ahead = min(num_ahead + 1, most_ahead)

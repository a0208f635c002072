"""Reading from a server: what comes next is fetched ahead, in few requests, within limits of memory.

The unit is the part of a chunk that lies in one shard. Only for the first batch, for which somebody waits, just the
samples that it needs are fetched first, neighbours together.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import CancelledError
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from shardkit.errors import FormatError, StorageError
from shardkit.loader.flight import Flight
from shardkit.loader.parts import Part, PartShelf
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
_FIRST_AHEAD = 32  # steps, while somebody waits for the first one
T = TypeVar("T")
Step = tuple[int, "NDArray[np.int64]"]


class RemoteReader(Reader):
    """Reads samples from shards of a server.

    Args:
        store: Where the shards are.
        split: Their rows in the root table.
        tables: The sample tables.
        chunk_samples: Samples in a chunk.
        by_block: Whether runs of whole blocks will be asked for.
        most_bytes: The most to keep in memory, what is on its way included.
        most_coming_bytes: The most to have on their way.
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
        most_coming_bytes: int,
        cache: Cache | None = None,
    ) -> None:
        super().__init__(split)
        self._store = store
        self._tables = tables
        self._chunk_samples = chunk_samples
        self._by_block = by_block
        self._in_cache: set[tuple[int, int]] = set()  # pieces that need no fetching
        self._coming: dict[int, Future[bytes | None]] = {}
        self._shelf = PartShelf(most_bytes)
        self._flight = Flight(store, split, cache, self._shelf, most_bytes=most_coming_bytes)
        # Of the first batch, the rows of each piece that were asked for by themselves.
        self._early: dict[tuple[int, int], list[int]] = {}
        self._has_waited = False
        # Parts that are fetched once so many samples more of the first batch were taken; ``None`` when that is over.
        self._held: list[Part] | None = None
        self._until_released = 0
        self._lock = threading.Lock()

    def expect(self, samples: NDArray[np.int64]) -> None:
        """Begin to fetch the tables of shards that samples lie in."""
        for shard in np.unique(self._shards(samples)).tolist():
            if shard not in self._coming and not self._tables.has(shard):
                future = self._tables.start(shard)
                if future is not None:
                    self._coming[shard] = future

    def is_expected(self, samples: NDArray[np.int64]) -> bool:
        """Whether the tables have come that say where samples lie, so that `prepare` waits for nothing."""
        shards = np.unique(self._shards(samples)).tolist()
        return all(self._coming[shard].done() for shard in shards if shard in self._coming)

    def prepare(self, samples: NDArray[np.int64], *, urgent: bool = False) -> None:
        """Begin to fetch samples; waits for tables that say where they lie. Of urgent ones nothing else is fetched."""
        shards = self._shards(samples)
        for shard in np.unique(shards).tolist():
            if (future := self._coming.pop(shard, None)) is not None:
                self._tables.put(shard, self._wait(future))
        chunks = samples // self._chunk_samples
        if urgent:
            for pair, row in zip(
                zip(chunks.tolist(), shards.tolist(), strict=True),
                (samples - self._split.starts[shards]).tolist(),
                strict=True,
            ):
                self._early.setdefault(pair, []).append(row)
            self._start(list(self._samples(samples, shards)))
            return
        _, first = np.unique(chunks * len(self._split.shards) + shards, return_index=True)
        first.sort()
        pairs = zip(chunks[first].tolist(), shards[first].tolist(), strict=True)
        new = (
            self._piece(pair, sample)
            for pair, sample in zip(pairs, samples[first].tolist(), strict=True)
            if pair not in self._shelf and pair not in self._in_cache
        )
        self._start([part for part in new if part is not None])

    def _shards(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._split.starts, samples, side="right") - 1

    def _samples(self, samples: NDArray[np.int64], shards: NDArray[np.int64]) -> Iterator[Part]:
        """Samples alone, those of a chunk that lie close to each other together."""
        for shard in np.unique(shards).tolist():
            mine = np.sort(samples[shards == shard])
            numbers = self._tables.numbers(shard)[mine - self._split.starts[shard]]
            starts, stops = numbers[:, _OFFSET], numbers[:, _OFFSET] + numbers[:, _SIZE]
            apart = (starts[1:] - stops[:-1] > _GAP_BYTES) | (np.diff(starts // _RUN_BYTES) > 0)
            breaks = np.flatnonzero(apart | (np.diff(mine // self._chunk_samples) > 0)) + 1
            for run in np.split(np.arange(len(numbers)), breaks):
                start, stop = int(starts[run[0]]), int(stops[run[-1]])
                if not self._flight.is_cached(shard, start, stop):
                    yield Part(shard, start, stop, numbers[run])

    def _piece(self, pair: tuple[int, int], sample: int) -> Part | None:
        """The whole part of a chunk that lies in one shard, unless nothing is left to be fetched of it."""
        shard = pair[1]
        first, stop = rows_of_piece(self._split, shard, sample, self._chunk_samples)
        numbers = self._tables.numbers(shard)[first:stop]
        # All of it, so that it begins no later than what was asked for early.
        start, end = int(numbers[0, _OFFSET]), int(numbers[-1, _OFFSET] + numbers[-1, _SIZE])
        if early := self._early.pop(pair, None):
            numbers = np.delete(numbers, np.array(early) - first, axis=0)
        if not len(numbers):
            return None
        if self._by_block:
            start, end = start // BLOCK_BYTES * BLOCK_BYTES, -(-end // BLOCK_BYTES) * BLOCK_BYTES
            end = min(end, self.shard_bytes(shard))
        if self._flight.is_cached(shard, start, end):
            self._in_cache.add(pair)
            return None
        return Part(shard, start, end, None if self._by_block else numbers, pair)

    def _start(self, parts: list[Part]) -> None:
        if parts:
            self._shelf.add(parts)
            with self._lock:
                if self._held is not None:
                    self._held += parts
                    return
            self._flight.start(parts)

    def hold(self, num_samples: int) -> None:
        """Fetch what is prepared from here on only when three quarters of so many samples were taken, or `release`."""
        self._held, self._until_released = [], 3 * num_samples // 4

    def release(self) -> None:
        """Begin to fetch what was held."""
        with self._lock:
            held, self._held = self._held, None
        if held:
            self._flight.start(held)

    def taken(self, rows: NDArray[np.int64]) -> list[bytes | None]:
        """As `Reader.taken`."""
        found = self._shelf.take(rows)
        if self._held is not None:
            self._count(len(found) - found.count(None))
        return found

    def _count(self, num_taken: int) -> None:
        """Count samples of the first batch that were taken."""
        with self._lock:
            self._until_released -= num_taken
            enough = self._until_released <= 0
        if enough:
            self.release()

    def awaited(self, shard: int, offset: int, size: int) -> bytes | None:
        """As `Reader.awaited`."""
        while (found := self._shelf.take_one(shard, offset)) is None:
            part = self._shelf.find(shard, offset, offset + size)
            if part is None or part.rows is None:
                # It may have come just between the two questions.
                found = self._shelf.take_one(shard, offset)
                break
            self._come(part)
            self._shelf.drop(part)
        if self._held is not None:
            # One that is not here is read now.
            self._count(1)
        return found

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """As `Reader.read`."""
        return self._now(shard, offset, offset + size)

    def read_run(self, shard: int, start: int, out: memoryview) -> None:
        """As `Reader.read_run`."""
        stop = start + len(out)
        part = self._shelf.find(shard, start, stop)
        data = None if part is None else self._come(part)
        if part is None or data is None:
            out[:] = self._now(shard, start, stop)
        else:
            out[:] = data[start - part.start : stop - part.start]
        if part is not None and stop == part.stop:
            self._shelf.drop(part)

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

    def _come(self, part: Part) -> memoryview | None:
        """Wait for a part: the bytes of one that is read by the block, ``None`` where they are in the cache."""
        if part.request is None:
            # Whatever it is held for, somebody needs it now.
            self.release()
        while not part.is_done:
            self._has_waited = True
            if not part.wait(_LOOK_AGAIN_S) and (self._flight.abandoned or part.is_called_off):
                raise _called_off()
        if part.error is not None:
            raise self._failed(part.error, part.shard)
        return part.data

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
        except (FailedError, FormatError) as exc:
            raise self._failed(exc, shard) from None

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
        raise _called_off()

    def _failed(self, exc: BaseException, shard: int) -> BaseException:
        """A failure as users see it: a new one for each sample, which will be named in it."""
        name = self.shard_name(shard)
        if isinstance(exc, MissingError):
            return FormatError("the shard is missing", shard=name, advice="Copy the data set again")
        if isinstance(exc, FormatError):
            return FormatError(exc.what, shard=exc.shard, offset=exc.offset, advice=exc.advice)
        if isinstance(exc, FailedError):
            return self._store.failed(exc, name)
        return exc if isinstance(exc, Exception) else _called_off()


def _called_off() -> StorageError:
    return StorageError("called off", operation="read")


def looked_ahead(
    steps: Iterable[Step], reader: RemoteReader, num_ahead: int, most_ahead: int, *, holds: bool
) -> Iterator[Step]:
    """Steps in their order, of which a reader hears some steps before: more and more, as long as that is too late.

    Args:
        steps: Numbers of steps, and their samples.
        reader: The reader.
        num_ahead: How many steps before it may fetch samples, at first; what says where they lie, twice as many.
        most_ahead: How many at most.
        holds: Whether nothing but the first one is fetched until most of it was taken.

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
            reader.prepare(upcoming[0][1], urgent=True)
            num_prepared = 1
            if holds:
                # Fetching all else meanwhile would take the processor from decoding this one.
                reader.hold(len(upcoming[0][1]))
        else:
            reader.release()
        for step in islice(upcoming, num_prepared, num_ahead + 1 if num_given else min(num_ahead, _FIRST_AHEAD) + 1):
            if num_given == 0 and not reader.is_expected(step[1]):
                break
            reader.prepare(step[1])
            num_prepared += 1
        yield upcoming.popleft()
        num_prepared -= 1
        num_given += 1
        # Those before were not asked for as early as they should be.
        if reader.has_waited() and num_given > 2 * num_ahead:
            num_ahead = min(2 * num_ahead, most_ahead)

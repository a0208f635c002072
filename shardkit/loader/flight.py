"""Requests on their way: how many at once, and that what comes belongs to one version of a shard."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from shardkit.errors import FormatError, ShardkitError
from shardkit.loader.parts import Part
from shardkit.storage.attempts import FailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardkit.loader.parts import PartShelf
    from shardkit.manifest import ShardRow, Split
    from shardkit.storage.cache import Cache
    from shardkit.storage.cache_entry import Entry
    from shardkit.storage.remote import RemoteStore

__all__ = ["Flight"]

# At 100 ms a request, enough for more than a gigabyte a second in chunks of 2 MB.
_MOST_REQUESTS = 128
# Whatever a table says. A reply is kept in memory whole.
_MOST_PART_BYTES = 2**30
_MOST_VERSIONS = 3
# How long to wait for another process to fetch what both need, before it is fetched here too, and not kept.
_PATIENCE_S = 20.0
_LOOK_AGAIN_S = 0.02


class Flight:
    """Fetches runs of shards. All but `start` and `abandon` runs in the store's own thread.

    Args:
        store: Where the shards are.
        split: Their rows in the root table.
        cache: Keeps what was fetched, if anything does.
        shelf: Takes what comes.
        most_bytes: The most to have on their way.

    Attributes:
        abandoned: Whether nobody wants anything any more.
    """

    def __init__(
        self, store: RemoteStore, split: Split, cache: Cache | None, shelf: PartShelf, *, most_bytes: int
    ) -> None:
        self.abandoned = False
        self._shelf = shelf
        self._store = store
        self._split = split
        self._cache = cache
        self._rows: dict[int, ShardRow] = {}
        self._versions: dict[int, str | None] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._most_bytes = most_bytes
        self._requests = self._bytes = 0

    def cached(self, shard: int, start: int, stop: int) -> bytes | None:
        """Bytes ``start`` to ``stop`` of a shard, where they are in the cache."""
        entry = self._entry(shard)
        if entry is None:
            return None
        try:
            return entry.read(start, stop) if entry.has(start, stop) else None
        except OSError as exc:
            self._give_up(exc)
            return None

    def is_cached(self, shard: int, start: int, stop: int) -> bool:
        """Whether these bytes are in the cache."""
        entry = self._entry(shard)
        try:
            return entry is not None and entry.has(start, stop)
        except OSError as exc:
            self._give_up(exc)
            return False

    def forget(self, shard: int, start: int, stop: int) -> None:
        """Take bytes out of the cache that came out wrong."""
        entry = self._entry(shard)
        if entry is not None:
            try:
                entry.forget(start, stop)
            except OSError as exc:
                self._give_up(exc)

    def start(self, parts: Sequence[Part]) -> None:
        """Begin to fetch parts, all at once; they are finished as they come."""
        request = self._store.start(self._fetch_all(parts))
        for part in parts:
            part.request = request

    async def fetch(self, shard: int, start: int, stop: int) -> memoryview | None:
        """Bytes ``start`` to ``stop`` of a shard, for which somebody waits.

        Returns:
            The bytes; ``None`` where they are in the cache now.

        Raises:
            FailedError: They cannot be had.
            FormatError: The shard has another length than it was packed with.
        """
        part = Part(shard, start, stop)
        await self._fetch_all([part], urgent=True)
        if part.error is not None:
            raise part.error
        return part.data

    async def _fetch_all(self, parts: Sequence[Part], *, urgent: bool = False) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await asyncio.gather(*(self._fetch(part, urgent=urgent) for part in parts))
        finally:
            self._tasks.discard(task)

    async def _fetch(self, part: Part, *, urgent: bool) -> None:
        if self.abandoned:
            raise asyncio.CancelledError
        try:
            self._check(part)
            entry = self._entry(part.shard)
            if entry is not None and await self._into_cache(entry, part, urgent=urgent):
                part.finish()
            else:
                self._shelf.take_in(part, await self._in_turn(part.shard, part.start, part.stop, urgent=urgent))
        except BaseException as exc:
            part.finish(error=exc)
            if not isinstance(exc, Exception):
                raise

    def _check(self, part: Part) -> None:
        if len(part) > _MOST_PART_BYTES:
            raise FormatError(
                f"{len(part)} bytes are to be fetched at once", shard=self._row(part.shard).name, offset=part.start,
                advice="Choose a smaller chunk_size; samples that lie so far apart, or are so large, are not loaded",
            )  # fmt: skip

    async def _into_cache(self, entry: Entry, part: Part, *, urgent: bool) -> bool:
        """Have bytes in the cache: fetch what is missing, and wait for others that are at it, but not for ever."""
        patient_until = monotonic() + _PATIENCE_S
        try:
            while not entry.has(part.start, part.stop):
                claim = entry.claim(part.start, part.stop)
                if claim is None:
                    if monotonic() > patient_until:
                        return False
                    await asyncio.sleep(_LOOK_AGAIN_S)
                    continue
                try:
                    data = await self._in_turn(part.shard, claim.start, claim.stop, urgent=urgent)
                    await asyncio.to_thread(entry.write, claim, data)
                finally:
                    entry.release(claim)
        except OSError as exc:
            if isinstance(exc, ShardkitError):
                raise
            self._give_up(exc)
            return False
        return True

    def _entry(self, shard: int) -> Entry | None:
        if self._cache is None:
            return None
        row = self._row(shard)
        return self._cache.entry(row.digest, row.num_bytes)

    def _row(self, shard: int) -> ShardRow:
        found = self._rows.get(shard)
        if found is None:
            found = self._rows[shard] = self._split.shards[shard]
        return found

    def _give_up(self, exc: OSError) -> None:
        if self._cache is not None:
            self._cache.give_up(exc)

    async def _of_one_version(self, shard: int, start: int, stop: int) -> memoryview:
        row = self._row(shard)
        for _ in range(_MOST_VERSIONS):
            reply = await self._store.fetch(row.name, start, stop)
            if reply.size != row.num_bytes or len(reply.data) != stop - start:
                raise FormatError(
                    f"the shard has {reply.size} bytes instead of {row.num_bytes}", shard=row.name,
                    offset=min(reply.size, row.num_bytes), advice="Copy the shard again",
                )  # fmt: skip
            if self._versions.setdefault(shard, reply.etag) == reply.etag:
                return reply.data
            # Replaced: whether by other bytes, the digests tell.
            self._versions[shard] = reply.etag
        raise FailedError("the shard is replaced again and again while it is read", "Wait until nobody writes it")

    async def _in_turn(self, shard: int, start: int, stop: int, *, urgent: bool) -> memoryview:
        """Bytes of a shard, once there is room for one more request; for what is urgent there always is."""
        num_bytes = stop - start
        if urgent or (not self._waiting and self._fits(num_bytes)):
            self._enter(num_bytes)
        else:
            await self._turn(num_bytes)
        try:
            return await self._of_one_version(shard, start, stop)
        finally:
            self._leave(num_bytes)

    async def _turn(self, num_bytes: int) -> None:
        turn = asyncio.get_running_loop().create_future(), num_bytes
        self._waiting.append(turn)
        try:
            await turn[0]
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            else:
                self._leave(num_bytes)
            raise

    def _fits(self, num_bytes: int) -> bool:
        # One that is larger than all the room goes alone.
        return not self._requests or (self._requests < _MOST_REQUESTS and self._bytes + num_bytes <= self._most_bytes)

    def _enter(self, num_bytes: int) -> None:
        self._requests += 1
        self._bytes += num_bytes

    def _leave(self, num_bytes: int) -> None:
        self._requests -= 1
        self._bytes -= num_bytes
        while self._waiting and (self._waiting[0][0].done() or self._fits(self._waiting[0][1])):
            turn, size = self._waiting.popleft()
            if not turn.done():
                self._enter(size)
                turn.set_result(None)

    def abandon(self) -> None:
        """Call off all requests. Takes no lock, and waits for nothing."""
        self.abandoned = True
        self._store.call_soon(self._cancel)

    def _cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()

"""Requests on their way: how many at once, and that what comes belongs to one version of a shard."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from shardkit.errors import FormatError
from shardkit.storage.attempts import FailedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shardkit.manifest import Split
    from shardkit.storage.remote import RemoteStore

__all__ = ["Flight"]

# At 100 ms a request, enough for more than a gigabyte a second in chunks of 2 MB.
_MOST_REQUESTS = 128
_MOST_BYTES = 192 * 2**20
_MOST_VERSIONS = 3


class Flight:
    """Fetches runs of shards. All but `abandon` runs in the store's own thread.

    Args:
        store: Where the shards are.
        split: Their rows in the root table.

    Attributes:
        abandoned: Whether nobody wants anything any more.
    """

    def __init__(self, store: RemoteStore, split: Split) -> None:
        self.abandoned = False
        self._store = store
        self._split = split
        self._versions: dict[int, str | None] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._requests = self._bytes = 0

    async def fetch(self, shard: int, start: int, stop: int) -> memoryview:
        """Bytes ``start`` to ``stop`` of a shard.

        Raises:
            FailedError: They cannot be had.
            FormatError: The shard has another length than it was packed with.
        """
        if self.abandoned:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with self._room(stop - start):
                return await self._of_one_version(shard, start, stop)
        finally:
            self._tasks.discard(task)

    async def _of_one_version(self, shard: int, start: int, stop: int) -> memoryview:
        row = self._split.shards[shard]
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

    @contextlib.asynccontextmanager
    async def _room(self, num_bytes: int) -> AsyncIterator[None]:
        """Wait, in order, until there is room for one more request."""
        if self._waiting or not self._fits(num_bytes):
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
        else:
            self._enter(num_bytes)
        try:
            yield
        finally:
            self._leave(num_bytes)

    def _fits(self, num_bytes: int) -> bool:
        # One that is larger than all the room goes alone.
        return not self._requests or (self._requests < _MOST_REQUESTS and self._bytes + num_bytes <= _MOST_BYTES)

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

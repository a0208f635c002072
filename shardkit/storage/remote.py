"""Objects of a server, behind the same protocol as files."""

from __future__ import annotations

import asyncio
import contextlib
import os
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakKeyDictionary

from shardkit.errors import ConfigError, StorageError
from shardkit.storage.attempts import FailedError, MissingError, attempted
from shardkit.storage.base import LockPurpose
from shardkit.storage.io_thread import IoScope
from shardkit.storage.object_lock import LOCK_NAME, ObjectLock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType

    from shardkit.storage.attempts import RetryPolicy
    from shardkit.storage.client import Client, Reply

__all__ = ["RemoteStore"]

_MOST_BYTES = 2**30  # of an object that is read at once
_COPIES_AT_ONCE = 8
# Each takes a connection, and a process may have a thousand open files.
_READS_AT_ONCE = 128
_LOOK_AGAIN_S = 0.05
_PART_BYTES = 8 * 2**20  # an object up to this size goes in one request
T = TypeVar("T")


class RemoteStore:
    """A place of a server. Safe to use from several threads; it keeps a thread of its own only while it is used.

    Args:
        url: Its URL as it may be shown.
        client: Makes requests.
        policy: How patient to be.
        read_only: Whether nothing can be written there.
    """

    def __init__(self, url: str, client: Client, policy: RetryPolicy, *, read_only: bool = False) -> None:
        self.url = url
        self.read_only = read_only
        self._client = client
        self._policy = policy
        self._io = IoScope(client.close)
        # Of each loop, since one after the other may run in the thread.
        self._reads: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def read(self, name: str) -> bytes:
        """The whole of an object."""
        data = self.read_if_there(name, _MOST_BYTES)
        if data is None:
            raise StorageError("there is no such object", url=self._shown(name), operation="read")
        return data

    def read_if_there(self, name: str, most_bytes: int) -> bytes | None:
        """The whole of an object that is no longer than ``most_bytes``, or ``None`` where there is none."""
        return self.start_read(name, most_bytes).result()

    def start_read(self, name: str, most_bytes: int) -> Future[bytes | None]:
        """As `read_if_there`, beside everything else; cancelling the future calls it off."""
        return self._io.submit(self._read_if_there(name, most_bytes))

    async def _read_if_there(self, name: str, most_bytes: int) -> bytes | None:
        turn = self._reads.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_READS_AT_ONCE))
        try:
            async with turn:
                return await self.fetch_whole(name, most_bytes)
        except FailedError as exc:
            raise self.failed(exc, name, "read") from None

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes of an object, or a `StorageError`."""
        reply = self.do(self.fetch(name, offset, offset + length), name, "read")
        if len(reply.data) != length:
            raise StorageError(
                f"{len(reply.data)} bytes instead of {length} at offset {offset}",
                url=self._shown(name), operation="read",
            )  # fmt: skip
        return bytes(reply.data)

    def download(self, name: str, num_bytes: int, path: Path) -> None:
        """Copy an object of ``num_bytes`` bytes to a file of this machine; one of another length is an error."""
        self._check(name)
        with path.open("wb", buffering=0) as file:
            self.do(self._download(name, num_bytes, file.fileno()), name, "read")

    async def _download(self, name: str, num_bytes: int, descriptor: int) -> None:
        several = asyncio.Semaphore(_COPIES_AT_ONCE)

        async def copy(start: int) -> None:
            stop = min(start + _PART_BYTES, num_bytes)
            async with several:
                reply = await self.fetch(name, start, stop)
                if reply.size != num_bytes or len(reply.data) != stop - start:
                    raise FailedError(f"it has {reply.size} bytes instead of {num_bytes}", "Copy it there again")
                await asyncio.to_thread(os.pwrite, descriptor, reply.data, start)

        try:
            async with asyncio.TaskGroup() as group:
                for start in range(0, num_bytes, _PART_BYTES):
                    group.create_task(copy(start))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None  # the first one tells enough

    def size(self, name: str) -> int | None:
        """An object's length in bytes, or ``None`` where there is no such object."""
        self._check(name)
        try:
            return self.do(self.fetch_size(name), name, "look at")
        except _MissingObjectError:
            return None

    def names(self) -> Iterator[str]:
        """The objects directly below the URL, but for a lock."""
        found = self.do(attempted(self._policy, lambda _: self._client.names()), "", "list")
        return iter([name for name in found if name and name != LOCK_NAME])

    def write(self, name: str) -> RemoteWriter:
        """Start writing an object."""
        self._check(name)
        return RemoteWriter(self, name)

    def delete(self, name: str) -> None:
        """Delete an object; nothing happens where there is none."""
        self._check(name)
        with contextlib.suppress(_MissingObjectError):
            self.do(attempted(self._policy, lambda _: self._client.delete(name)), name, "delete")

    def has_temporary(self) -> bool:
        """Never: what is not whole is not seen."""
        return False

    def delete_temporary(self) -> None:
        """There is nothing to delete."""

    @contextlib.contextmanager
    def lock(self, purpose: LockPurpose = LockPurpose()) -> Iterator[None]:  # noqa: B008 (it is frozen)
        """Hold the place as the only one who writes there.

        Args:
            purpose: What for.

        Raises:
            ConfigError: Another run holds it.
            StorageError: It cannot be locked.
        """
        held = ObjectLock(self._client, self._policy, self.url, purpose)
        renewing = self.do(held.acquire(), LOCK_NAME, "lock")
        task, process = self._io.submit(renewing), os.getpid()
        try:
            yield
        finally:
            if os.getpid() == process:  # not in a fork
                task.cancel()
                with contextlib.suppress(CancelledError):
                    task.exception()
                self.do(held.release(), LOCK_NAME, "unlock")

    async def fetch(self, name: str, start: int, stop: int) -> Reply:
        """Bytes of an object, tried again where that helps.

        Raises:
            FailedError: It does not.
        """
        return await attempted(self._policy, lambda expect: self._client.get(name, start, stop, expect))

    async def fetch_whole(self, name: str, most_bytes: int) -> bytes | None:
        """An object, or ``None`` where there is none.

        Raises:
            FailedError: It cannot be had.
        """
        self._check(name)
        try:
            reply = await attempted(self._policy, lambda expect: self._client.get_whole(name, most_bytes, expect))
        except MissingError:
            return None
        return bytes(reply.data)

    async def fetch_size(self, name: str) -> int:
        """An object's length in bytes.

        Raises:
            FailedError: It cannot be had.
        """
        return await attempted(self._policy, lambda _: self._client.size(name))

    async def put(self, name: str, data: bytes) -> None:
        """Write an object at once.

        Raises:
            FailedError: It cannot be written.
        """
        await attempted(self._policy, lambda _: self._client.put(name, data), sends=len(data))

    async def upload(self, name: str, parts: AsyncIterator[bytes]) -> None:
        """Write an object as its parts come.

        Raises:
            FailedError: It cannot be written; nothing is seen of it.
        """
        await self._client.upload(name, parts)

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine beside everything else.

        Args:
            work: Something made of `fetch` and `fetch_whole`.

        Returns:
            What will hold its result; cancelling it calls the work off.
        """
        return self._io.submit(work)

    def failed(self, exc: FailedError, name: str, operation: str = "read") -> StorageError:
        """A failure as users see it."""
        # What it came of may hold secrets, and tracebacks and reports show chained exceptions.
        exc.__context__ = None
        kind = _MissingObjectError if isinstance(exc, MissingError) else StorageError
        return kind(f"cannot {operation}: {exc.what}", url=self._shown(name), operation=operation, advice=exc.advice)

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call a function in the store's thread, if there is one. Takes no lock, and waits for nothing."""
        self._io.call_soon(function)

    def close(self) -> None:
        """End the thread, if there is one. Using the store again starts another."""
        self._io.close()

    def _shown(self, name: str) -> str:
        base, mark, query = self.url.partition("?")
        return f"{base.rstrip('/')}/{name}{mark}{query}" if name else self.url

    def _check(self, name: str) -> None:
        if not name or name in {".", ".."} or "/" in name or "\0" in name:
            raise ConfigError("an object's name must be a plain file name", setting="name", value=name)

    def do(self, work: Coroutine[Any, Any, T], name: str, operation: str) -> T:
        """Run a coroutine to its end.

        Raises:
            StorageError: It failed.
        """
        try:
            return self._io.run(work)
        except FailedError as exc:
            raise self.failed(exc, name, operation) from None
        except CancelledError:
            raise StorageError("the store was closed", url=self._shown(name), operation=operation) from None


class _MissingObjectError(StorageError):
    """There is no such object."""


class RemoteWriter:
    """An object being uploaded in parts while it is made. Memory holds a few parts, whatever its size."""

    def __init__(self, store: RemoteStore, name: str) -> None:
        self._store = store
        self._name = name
        self._part = bytearray()
        self._num_bytes = 0
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._upload: Future[None] | None = None
        self._is_new = False
        self._given_up = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        self._part += data
        self._num_bytes += len(data)
        if len(self._part) >= _PART_BYTES:
            self._flush()

    def write_all(self, pieces: Sequence[bytes]) -> None:
        """Append bytes that lie in pieces."""
        for piece in pieces:
            self.write(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abort()
        elif self._upload is None:
            data = bytes(self._part)
            self._store.do(self._store.put(self._name, data), self._name, "write")
        else:
            self._flush()
            self._finish(self._upload)

    def _flush(self) -> None:
        part, self._part = bytes(self._part), bytearray()
        self._store.do(self._hand_over(part), self._name, "write")

    async def _hand_over(self, part: bytes | None) -> None:
        """Give a part to the upload, once it has room for it."""
        if self._upload is None:
            self._is_new = await self._is_missing()
            # Not a task of this coroutine's: the thread would not know that something is going on.
            self._upload = self._store.start(self._store.upload(self._name, self._given()))
        putting = asyncio.create_task(self._parts.put(part))
        while not putting.done():
            await asyncio.wait({putting}, timeout=_LOOK_AGAIN_S)
            if self._upload.done():
                putting.cancel()
                self._upload.result()  # raises what went wrong
                return

    async def _is_missing(self) -> bool:
        try:
            await self._store.fetch_size(self._name)
        except MissingError:
            return True
        return False

    async def _given(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            yield part
        if self._given_up:
            raise FailedError("given up")

    def _finish(self, upload: Future[None]) -> None:
        self._store.do(self._hand_over(None), self._name, "write")
        try:
            upload.result()
        except FailedError as exc:
            # Perhaps only the answer to its last request was lost; asked again, a server knows of no such upload.
            if self._is_new and self._store.size(self._name) == self._num_bytes:
                return
            raise self._store.failed(exc, self._name, "write") from None
        size = self._store.size(self._name)
        if size != self._num_bytes:
            failure = FailedError(f"{self._num_bytes} bytes were sent, and {size} have come there")
            raise self._store.failed(failure, self._name, "write")

    def _abort(self) -> None:
        self._part.clear()
        if self._upload is not None:
            self._given_up = True
            with contextlib.suppress(StorageError):
                self._store.do(self._hand_over(None), self._name, "write")
            with contextlib.suppress(FailedError, CancelledError):
                self._upload.result()

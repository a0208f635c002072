"""One thread with an event loop for all requests of this process: many at once, and any of them can be cancelled.

Each store has a scope of its own in it. The connections of a scope are closed when it was idle for a while, or sooner
where many scopes are idle, and the thread ends with the last scope: stores that nobody uses keep neither threads nor
descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from shardkit.errors import ShardkitError
from shardkit.process import check_not_exiting, end_at_exit, renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

__all__ = ["IoScope"]

# Longer than most training steps: a thread that ends between two requests takes its connections with it, and the memory
# of what it has fetched stays with the heap of the C library that was its own: up to 600 MB more were seen.
_IDLE_S = 15.0
# Each keeps a connection or more, and a process may have a thousand open files.
_MOST_IDLE = 32
T = TypeVar("T")


class IoScope:
    """Runs the coroutines of one store for threads that have no loop. Safe to use from several threads and in forks.

    Args:
        on_end: Awaited in the loop when the scope ends: closes connections.
    """

    def __init__(self, on_end: Callable[[], Awaitable[None]]) -> None:
        self.on_end = on_end

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine.

        Args:
            work: The coroutine.

        Returns:
            What will hold its result; cancelling it cancels the coroutine.

        Raises:
            ShardkitError: Python is exiting.
        """
        return _IO.submit(self, work)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; Ctrl-C meanwhile cancels it.

        Args:
            work: The coroutine.

        Returns:
            Its result.

        Raises:
            ShardkitError: Python is exiting.
        """
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, if there is one. Takes no lock, so that it may be called from anywhere."""
        _soon(_IO.loop, function)

    def close(self) -> None:
        """Cancel what is running and close connections. Submitting again begins anew."""
        _IO.close(self)


@dataclass(eq=False, slots=True)
class _Activity:
    """What a scope does in the loop, from its first request until it ends."""

    num_running: int = 0
    num_started: int = 0
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)


class _IoThread:
    """The thread, while anything needs it."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget what another process does."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._activities: dict[IoScope, _Activity] = {}
        self._idle: dict[IoScope, _Activity] = {}  # those of them that wait to end, the first one for longest
        self._num_ending = 0

    def submit(self, scope: IoScope, work: Coroutine[Any, Any, T]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            try:
                check_not_exiting()
            except ShardkitError:
                work.close()
                raise
            loop = self._start() if self.loop is None else self.loop
            activity = self._activities.setdefault(scope, _Activity())
            self._idle.pop(scope, None)
            activity.num_running += 1
            activity.num_started += 1
            loop.call_soon_threadsafe(self._begin, scope, activity, work, future)
        return future

    def close(self, *scopes: IoScope) -> None:
        ended = []
        with self._lock:
            loop, thread = self.loop, self._thread
            if loop is None or thread is None:
                return
            for scope in scopes:
                self._idle.pop(scope, None)
                if (activity := self._activities.pop(scope, None)) is not None:
                    self._num_ending += 1
                    ended.append(threading.Event())
                    loop.call_soon_threadsafe(self._end, scope, activity, ended[-1])
        for event in ended:
            event.wait()
        if ended and self.loop is not loop:
            thread.join()

    def end_for_good(self) -> None:
        with self._lock:
            scopes = list(self._activities)
        self.close(*scopes)

    # All below runs in the loop.

    def _begin(self, scope: IoScope, activity: _Activity, work: Coroutine[Any, Any, T], future: Future[T]) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)
        activity.tasks.add(task)
        task.add_done_callback(partial(self._one_has_ended, scope, activity, future))
        future.add_done_callback(lambda future: _soon(loop, task.cancel) if future.cancelled() else None)

    def _one_has_ended(self, scope: IoScope, activity: _Activity, future: Future[T], task: asyncio.Task[T]) -> None:
        _hand_over(task, future)
        activity.tasks.discard(task)
        too_many = None
        with self._lock:
            activity.num_running -= 1
            if activity.num_running or self._activities.get(scope) is not activity:
                return
            self._idle[scope] = activity
            if len(self._idle) > _MOST_IDLE:
                too_many = next(iter(self._idle.items()))
        asyncio.get_running_loop().call_later(_IDLE_S, self._end_if_idle, scope, activity, activity.num_started)
        if too_many is not None:
            self._end_if_idle(*too_many, too_many[1].num_started)

    def _end_if_idle(self, scope: IoScope, activity: _Activity, num_started: int) -> None:
        """End a scope, unless anything was started in it since."""
        with self._lock:
            if self._idle.get(scope) is not activity or activity.num_started != num_started:
                return
            del self._idle[scope], self._activities[scope]
            self._num_ending += 1
        self._end(scope, activity)

    def _end(self, scope: IoScope, activity: _Activity, ended: threading.Event | None = None) -> None:
        task = asyncio.get_running_loop().create_task(_ended(scope, activity))
        task.add_done_callback(lambda _: self._has_ended(ended))

    def _has_ended(self, ended: threading.Event | None) -> None:
        with self._lock:
            self._num_ending -= 1
            if not self._num_ending and not self._activities:
                self.loop = None
                asyncio.get_running_loop().stop()
        if ended is not None:
            ended.set()

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_work, args=(loop,), name="shardkit-io", daemon=True)
        self._thread.start()
        end_at_exit(self)
        return loop


_IO = _IoThread()


def _work(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


async def _ended(scope: IoScope, activity: _Activity) -> None:
    for task in activity.tasks:
        task.cancel()
    await asyncio.gather(*activity.tasks, return_exceptions=True)
    await scope.on_end()


def _hand_over(task: asyncio.Task[T], future: Future[T]) -> None:
    """Give a future what a task has come to."""
    exception = None
    if task.cancelled():
        future.cancel()
    else:
        exception = task.exception()
    if not future.set_running_or_notify_cancel():
        return
    if exception is None:
        future.set_result(task.result())
    else:
        future.set_exception(exception)


def _soon(loop: asyncio.AbstractEventLoop | None, function: Callable[[], object]) -> None:
    if loop is not None:
        with contextlib.suppress(RuntimeError):  # it has just ended
            loop.call_soon_threadsafe(function)

"""One thread with an event loop, for all requests of a store: many in flight, and any of them can be called off.

The thread is started when there is something to do and ends when there was nothing for a while, so that a store that
is left lying about keeps neither thread nor connection.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from concurrent.futures import Future

__all__ = ["IoThread"]

# Longer than most training steps: a thread that ends between two requests takes its connections with it, and the memory
# of what it has fetched stays with the heap of the C library that was its own: up to 600 MB more were seen.
_IDLE_S = 15.0
T = TypeVar("T")


class IoThread:
    """Runs coroutines for threads that have no loop. Safe to use from several threads, and after a fork.

    Args:
        on_end: Awaited in the loop before it ends: closes connections.
    """

    def __init__(self, on_end: Callable[[], Awaitable[None]]) -> None:
        self._on_end = on_end
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._num_running = self._num_started = 0

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine.

        Args:
            work: The coroutine.

        Returns:
            What will hold its result; cancelling it calls the work off.
        """
        if os.getpid() != self._pid:
            self._begin()  # threads do not survive a fork
        with self._lock:
            if self._loop is None:
                self._start()
            loop = self._loop
            assert loop is not None
            self._num_running += 1
            self._num_started += 1
            future = asyncio.run_coroutine_threadsafe(work, loop)
        # Not a coroutine around this one, which would never begin if it was called off at once.
        future.add_done_callback(lambda _: self._soon(loop, self._one_has_ended))
        return future

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; Ctrl-C meanwhile calls it off.

        Args:
            work: The coroutine.

        Returns:
            Its result.
        """
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, if there is one. Takes no lock, so that it may be called from anywhere."""
        self._soon(self._loop, function)

    @staticmethod
    def _soon(loop: asyncio.AbstractEventLoop | None, function: Callable[[], object]) -> None:
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """Call off what is running and end the thread. Submitting again starts another."""
        with self._lock:
            # From here on whoever submits starts another loop.
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is not None and thread is not None and os.getpid() == self._pid:
            self._soon(loop, loop.stop)
            thread.join()

    def _one_has_ended(self) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._loop is not loop:
                return  # it is being closed
            self._num_running -= 1
            if self._num_running == 0:
                loop.call_later(_IDLE_S, self._end_if_idle, self._num_started)

    def _end_if_idle(self, num_started: int) -> None:
        """End, unless anything was started since."""
        with self._lock:
            if self._num_started == num_started and self._loop is asyncio.get_running_loop():
                self._loop = None
                asyncio.get_running_loop().stop()

    def _start(self) -> None:
        loop = self._loop = asyncio.new_event_loop()
        self._num_running = 0
        self._thread = threading.Thread(target=self._work, args=(loop,), name="shardkit-io", daemon=True)
        self._thread.start()
        # A thread that is stopped by force inside a library that is not Python's takes the process with it.
        atexit.register(self.close)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:  # where it was closed
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(self._on_end())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()
            if self._thread is threading.current_thread():
                atexit.unregister(self.close)

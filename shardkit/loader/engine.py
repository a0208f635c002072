"""Ordered work on threads: jobs are made one by one, done in parts by any thread, and handed out in order.

Two things shape this module. Ctrl-C may raise anywhere in the consumer's thread, so the consumer never waits while it
holds the lock, and waits on queues, which are one step that is done or not. And an iterator may be dropped by the
garbage collector, inside any thread and under any lock, so dropping takes no lock and waits for nothing: it sets a flag
and wakes the threads, and the last of them tidies up.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import weakref
from collections import deque
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from shardkit.errors import ShardkitError
from shardkit.process import check_not_exiting, end_at_exit, renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

__all__ = ["Job", "OrderedWork"]

# A decoder in C cannot be stopped. A thread that is within one for longer than this is left to itself: it ends when the
# decoder returns, and holds neither the caller nor the end of the process.
_LET_GO_S = 1.0

# A thread without work ends after this long and is started again when there is some, so that an iterator that is
# left lying about keeps no thread.
_IDLE_S = 2.0

Result = TypeVar("Result", covariant=True)  # noqa: PLC0105 (the one result type of this module)
R = TypeVar("R")


class Job(Protocol[Result]):
    """Something to be done in parts. Parts may run at the same time; `finish` runs after all of them."""

    @property
    def num_parts(self) -> int:
        """How many parts there are."""
        ...

    def run(self, part: int) -> None:
        """Do one part."""
        ...

    def finish(self) -> Sequence[Result]:
        """The results, one or several, in the consumer's thread."""
        ...


class OrderedWork(Generic[R]):
    """Iterates over the results of jobs, which are worked on ahead.

    Whoever iterates owns it. When it ends, or is closed, its threads are gone; one that a decoder holds for over a
    second ends when that returns. When it is dropped, or the interpreter ends, they go at once. An error in a job is
    raised when that job's turn comes, and ends the iteration.

    Args:
        jobs: Makes the jobs, one at a time, in a working thread.
        threads: Working threads, at least 1.
        ahead: Jobs that may be in work or done besides the one handed out, at least 1.
        on_idle: Called when the last thread has ended, which may be for a while only: the time to give back what can
            be got again, such as open files.
        on_abandon: Called when it is closed or dropped, inside the garbage collector maybe: calls off what threads wait
            for, takes no lock, and waits for nothing.
        on_result: Called in the consumer's thread with each result, the seconds it was waited for, and the seconds
            that the consumer was away before.
    """

    def __init__(
        self,
        jobs: Generator[Job[R]],
        *,
        threads: int,
        ahead: int,
        on_idle: Callable[[], None],
        on_abandon: Callable[[], None],
        on_result: Callable[[R, float, float], None] | None = None,
    ) -> None:
        self._core: _Core[R] = _Core(jobs, threads, ahead, on_idle, on_abandon)
        self._on_result = on_result
        self._left: float | None = None
        self._ready: deque[R] = deque()
        weakref.finalize(self, self._core.abandon).atexit = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        asked = perf_counter()
        try:
            while not self._ready:
                self._ready.extend(self._core.next_job().finish())
            result = self._ready.popleft()
            if self._on_result is not None:
                got = perf_counter()
                self._on_result(result, got - asked, 0.0 if self._left is None else asked - self._left)
                self._left = got
        except BaseException:
            # The end, an error, or Ctrl-C while waiting: nothing goes on behind the caller's back.
            self.close()
            raise
        return result

    def close(self) -> None:
        """Stop the threads and wait for them, for a second at most; what was made ahead is dropped."""
        self._ready.clear()
        self._core.close()


class _InWork(Generic[R]):
    __slots__ = ("error", "job", "num_claimed", "num_left")

    def __init__(self, job: Job[R]) -> None:
        self.job = job
        self.num_claimed = 0
        self.num_left = job.num_parts
        self.error: BaseException | None = None


class _Core(Generic[R]):
    """The shared state. Threads refer to this and never to `OrderedWork`, so that dropping that one ends them."""

    def __init__(
        self,
        jobs: Generator[Job[R]],
        threads: int,
        ahead: int,
        on_idle: Callable[[], None],
        on_abandon: Callable[[], None],
    ) -> None:
        self._jobs = jobs
        self._on_idle = on_idle
        self._on_abandon = on_abandon
        self._max_threads = threads
        self._ahead = ahead
        self._lock = threading.Lock()
        self._wake_worker: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wake_consumer: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._in_work: deque[_InWork[R]] = deque()
        self._threads: list[threading.Thread] = []
        self._num_running = 0
        self._num_waiting = 0
        self._consumer_waits = False
        self._making = False
        self._exhausted = False
        self._make_error: BaseException | None = None
        self._closed = self._is_of_parent = False
        end_at_exit(self)
        renew_after_fork(self)

    def renew(self) -> None:
        """End here: the threads, and the files they read, are those of the process that this one was forked from."""
        self._closed = self._is_of_parent = True
        self._lock = threading.Lock()
        self._threads, self._num_running = [], 0

    def next_job(self) -> Job[R]:
        """Wait for the next job to be done.

        Raises:
            StopIteration: There are no more jobs.
        """
        while True:
            with self._lock:
                done = self._done_job()
                missing = 0 if self._exhausted and not self._in_work else self._max_threads - self._num_running
                if missing:
                    check_not_exiting()
                self._num_running += missing
                self._consumer_waits = done is None
                self._wake_workers()
            for _ in range(missing):
                self._start_thread()
            if done is None:
                self._wake_consumer.get()
            elif done.error is not None:
                raise done.error
            else:
                return done.job

    def _done_job(self) -> _InWork[R] | None:
        if self._is_of_parent:
            raise ShardkitError(
                "the process was forked while this was iterated over, and has none of its threads",
                advice="Iterate anew in the forked process",
            )
        if self._closed:
            check_not_exiting()
            raise StopIteration
        if self._in_work and self._in_work[0].num_left == 0:
            return self._in_work.popleft()
        if not self._in_work and self._exhausted:
            raise self._make_error or StopIteration
        return None

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="shardkit-decode", daemon=True)
        self._threads = [old for old in self._threads if old.is_alive()]
        self._threads.append(thread)
        thread.start()

    def _wake_workers(self) -> None:
        for _ in range(self._num_waiting):
            self._wake_worker.put(None)

    def _work(self) -> None:
        while True:
            with self._lock:
                claim = self._claim()
                if claim is None and (self._closed or self._exhausted):
                    return self._leave()
                self._num_waiting += claim is None
            if claim is not None:
                mine, part = claim
                self._make() if mine is None else self._run(mine, part)
                continue
            try:
                self._wake_worker.get(timeout=_IDLE_S)
                idle = False
            except queue.Empty:
                idle = True
            with self._lock:
                self._num_waiting -= 1
                # Looked at again under the lock, so that no work comes in between and finds nobody.
                if idle and not self._has_work():
                    return self._leave()

    def _has_work(self) -> bool:
        may_make = not self._exhausted and not self._making and len(self._in_work) <= self._ahead
        return may_make or any(mine.num_claimed < mine.job.num_parts for mine in self._in_work)

    def _claim(self) -> tuple[_InWork[R] | None, int] | None:
        """A part to do, or ``(None, 0)`` for making a job, or ``None`` where there is nothing to do."""
        if self._closed or not self._has_work():
            return None
        for mine in self._in_work:
            if mine.num_claimed < mine.job.num_parts:
                mine.num_claimed += 1
                return mine, mine.num_claimed - 1
        self._making = True
        return None, 0

    def _leave(self) -> None:
        """End a thread; the last one tidies up."""
        self._num_running -= 1
        if self._num_running == 0:
            self._on_idle()
            self._drop_work()

    def _drop_work(self) -> None:
        if self._closed and self._num_running == 0 and not self._is_of_parent:
            self._in_work.clear()
            self._jobs.close()

    def _make(self) -> None:
        made: _InWork[R] | None = None
        error: BaseException | None = None
        try:
            made = _InWork(next(self._jobs))
        except StopIteration:
            pass
        except BaseException as exc:  # noqa: BLE001 (handed to the consumer, whatever it is)
            error = exc
        with self._lock:
            self._making = False
            if made is not None:
                self._in_work.append(made)
            else:
                self._exhausted = True
                self._make_error = error
            self._wake_workers()
            self._tell_consumer()

    def _run(self, mine: _InWork[R], part: int) -> None:
        error: BaseException | None = None
        try:
            mine.job.run(part)
        except BaseException as exc:  # noqa: BLE001 (handed to the consumer, whatever it is)
            error = exc
        with self._lock:
            mine.error = mine.error or error
            mine.num_left -= 1
            if mine.num_left == 0:
                self._tell_consumer()

    def _tell_consumer(self) -> None:
        if self._consumer_waits:
            self._consumer_waits = False
            self._wake_consumer.put(None)

    def abandon(self) -> None:
        """Stop the threads without waiting for them: safe inside the garbage collector."""
        self._closed = True
        self._on_abandon()
        for _ in range(self._max_threads):
            self._wake_worker.put(None)

    def end_for_good(self) -> None:
        """As `close`, before Python ends."""
        self.close()

    def close(self) -> None:
        """Stop the threads and wait for them, for a second at most."""
        self.abandon()
        until = monotonic() + _LET_GO_S
        for thread in self._threads:
            # Ctrl-C may have come while a thread was being started.
            with contextlib.suppress(RuntimeError):
                thread.join(max(until - monotonic(), 0))
        with self._lock:
            self._drop_work()
        self._wake_consumer.put(None)

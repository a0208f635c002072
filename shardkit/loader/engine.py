"""Ordered work on threads: jobs are made one by one, done in parts by any thread, and handed out in order."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Job", "OrderedWork"]

# A thread without work ends after this long and is started again when there is some, so that an iterator that is
# left lying about keeps no thread.
_IDLE_S = 2.0

Result = TypeVar("Result", covariant=True)  # noqa: PLC0105 (the one result type of this module)
R = TypeVar("R")


class Job(Protocol[Result]):
    """Something to be done in parts. Parts may run at the same time; `finish` runs after all of them."""

    num_parts: int

    def run(self, part: int) -> None:
        """Do one part."""
        ...

    def finish(self) -> Result:
        """The result, in the consumer's thread."""
        ...


class OrderedWork(Generic[R]):
    """Iterates over the results of jobs, which are worked on ahead.

    Whoever iterates owns it: closing it, dropping it or ending the interpreter stops its threads. An error in a job is
    raised when that job's turn comes, and ends the iteration.

    Args:
        jobs: Makes the jobs, one at a time, in a working thread.
        threads: Working threads, at least 1.
        ahead: Jobs that may be in work or done besides the one handed out, at least 1.
        on_idle: Called when the last thread has ended, which may be for a while only: the time to give back what can
            be got again, such as open files.
    """

    def __init__(self, jobs: Generator[Job[R]], *, threads: int, ahead: int, on_idle: Callable[[], None]) -> None:
        self._core: _Core[R] = _Core(jobs, threads, ahead, on_idle)
        self._finalizer = weakref.finalize(self, self._core.close)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        try:
            return self._core.next_job().finish()
        except BaseException:
            # The end, an error, or Ctrl-C while waiting: nothing goes on behind the caller's back.
            self.close()
            raise

    def close(self) -> None:
        """Stop the threads and wait for them; what was made ahead is dropped."""
        self._finalizer()


class _InWork(Generic[R]):
    __slots__ = ("error", "job", "num_claimed", "num_left")

    def __init__(self, job: Job[R]) -> None:
        self.job = job
        self.num_claimed = 0
        self.num_left = job.num_parts
        self.error: BaseException | None = None


class _Core(Generic[R]):
    """The shared state. Threads refer to this and never to `OrderedWork`, so that dropping that one ends them."""

    def __init__(self, jobs: Generator[Job[R]], threads: int, ahead: int, on_idle: Callable[[], None]) -> None:
        self._jobs = jobs
        self._on_idle = on_idle
        self._max_threads = threads
        self._ahead = ahead
        self._lock = threading.Lock()
        self._work_to_do = threading.Condition(self._lock)
        self._job_done = threading.Condition(self._lock)
        self._in_work: deque[_InWork[R]] = deque()
        self._threads: set[threading.Thread] = set()
        self._making = False
        self._exhausted = False
        self._make_error: BaseException | None = None
        self._closed = False

    def next_job(self) -> Job[R]:
        """Wait for the next job to be done.

        Raises:
            StopIteration: There are no more jobs.
        """
        with self._lock:
            while True:
                if self._closed:
                    raise StopIteration
                if self._in_work and self._in_work[0].num_left == 0:
                    done = self._in_work.popleft()
                    self._start_threads()
                    self._work_to_do.notify_all()
                    if done.error is not None:
                        raise done.error
                    return done.job
                if not self._in_work and self._exhausted:
                    if self._make_error is not None:
                        raise self._make_error
                    raise StopIteration
                self._start_threads()
                self._job_done.wait()

    def _start_threads(self) -> None:
        while len(self._threads) < self._max_threads and not (self._exhausted and not self._in_work):
            thread = threading.Thread(target=self._work, name="shardkit-decode", daemon=True)
            self._threads.add(thread)
            thread.start()

    def _work(self) -> None:
        try:
            while (claim := self._claim()) is not None:
                mine, part = claim
                if part is None:
                    self._make()
                elif mine is not None:
                    self._run(mine, part)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())
                if not self._threads:
                    self._on_idle()

    def _claim(self) -> tuple[_InWork[R] | None, int | None] | None:
        """A part to do, or ``(None, None)`` for making a job, or ``None`` for ending the thread."""
        with self._lock:
            while not self._closed:
                for mine in self._in_work:
                    if mine.num_claimed < mine.job.num_parts:
                        mine.num_claimed += 1
                        return mine, mine.num_claimed - 1
                if self._exhausted:
                    return None
                if not self._making and len(self._in_work) <= self._ahead:
                    self._making = True
                    return None, None
                if not self._work_to_do.wait(_IDLE_S):
                    return None
            return None

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
            self._work_to_do.notify_all()
            self._job_done.notify_all()

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
                self._job_done.notify_all()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            threads = list(self._threads)
            self._in_work.clear()
            self._work_to_do.notify_all()
            self._job_done.notify_all()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()
        self._jobs.close()

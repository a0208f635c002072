"""Times, memory and the page cache."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

__all__ = [
    "PeakMemory",
    "drop_page_cache",
    "pss_bytes",
    "read_all",
    "throughput",
    "timed_first",
    "waiting",
    "whole_epochs",
]

# Batches at the start of an epoch that are not timed: one for each of two workers, whose queues are empty then.
_WARM_BATCHES = 2
_SAMPLE_EVERY_S = 0.5
_DROP_TRIES, _DROP_WAIT_S = 4, 0.5
_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)


def timed_first(make: Callable[[], Iterable[Any]], skip: int) -> tuple[float, Iterable[Any], Iterator[Any]]:
    """Seconds from making a loader to its first batch, of which ``skip`` are read and dropped before.

    Returns:
        The seconds, the loader, and what is left of its first epoch.
    """
    start = time.perf_counter()
    batches = make()
    iterator = iter(batches)
    for _ in range(skip + 1):
        next(iterator)
    return time.perf_counter() - start, batches, iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What was measured.

    Attributes:
        num_samples: Samples that were measured.
        rate: Samples a second.
        cpu_s: Seconds of processor time a sample took, over all processes of the session.
        servers_cpu_s: The same of the servers, if there are any, that samples come from.
        others: The part of the machine's processor time that went to other processes meanwhile, 0 to 1.
    """

    num_samples: int
    rate: float
    cpu_s: float
    servers_cpu_s: float
    others: float


def throughput(
    batches: Iterable[Any],
    first_epoch: Iterator[Any],
    seconds: float,
    epochs: int | None,
    servers: Sequence[int] = (),
) -> Speed:
    """Speed over epochs until so many seconds are measured; the start of each epoch is not among them.

    Args:
        batches: Each iteration is an epoch.
        first_epoch: The rest of the first one, behind its first batch.
        seconds: How long to measure; at most four times as long is waited for it.
        epochs: How many epochs at most.
        servers: The sessions of the servers that samples come from.

    Raises:
        ValueError: An epoch is over before anything is measured.
    """
    num_samples, measured, began, done = 0, 0.0, time.perf_counter(), 0
    mine = served = busy = 0.0
    iterator, warm = first_epoch, _WARM_BATCHES - 1
    while measured < seconds:
        for _ in range(warm):
            next(iterator, None)
        last = start = time.perf_counter()
        before = _cpu_s(servers)
        for batch in iterator:
            num_samples += len(batch[0])
            last = time.perf_counter()
            if measured + last - start >= seconds:
                break
        measured += last - start
        mine, served, busy = (
            total + now - then for total, now, then in zip((mine, served, busy), _cpu_s(servers), before, strict=True)
        )
        done += 1
        if done == epochs or last - began > 4 * seconds:
            break
        if measured < seconds:
            iterator, warm = iter(batches), _WARM_BATCHES
    _close(iterator)
    if not num_samples:
        raise ValueError("an epoch is too short to be measured: take more pictures")
    others = max(0.0, busy - mine - served) / (measured * len(os.sched_getaffinity(0)))
    return Speed(
        num_samples=num_samples,
        rate=num_samples / measured,
        cpu_s=mine / num_samples,
        servers_cpu_s=served / num_samples,
        others=others,
    )


def whole_epochs(epochs: Iterable[Iterable[Any]], seconds: float, servers: Sequence[int] = ()) -> Speed:
    """Speed over epochs from end to end, until so many seconds are measured.

    Of a short stretch, what was fetched ahead before it, or is fetched ahead during it, would make up a large part.

    Args:
        epochs: One iteration of each.
        seconds: How long to measure at least.
        servers: The sessions of the servers that samples come from.
    """
    num_samples, measured = 0, 0.0
    before = _cpu_s(servers)
    start = time.perf_counter()
    for epoch in epochs:
        num_samples += sum(len(batch[0]) for batch in epoch)
        measured = time.perf_counter() - start
        if measured >= seconds:
            break
    mine, served, busy = (now - then for now, then in zip(_cpu_s(servers), before, strict=True))
    others = max(0.0, busy - mine - served) / (measured * len(os.sched_getaffinity(0)))
    return Speed(
        num_samples=num_samples,
        rate=num_samples / measured,
        cpu_s=mine / num_samples,
        servers_cpu_s=served / num_samples,
        others=others,
    )


def waiting(batches: Iterable[Any], first_epoch: Iterator[Any], seconds: float, step_s: float) -> float:
    """The share of time that a training step of ``step_s`` waits for data, behind the first batch of each epoch."""
    waited = worked = 0.0
    iterator = first_epoch
    while True:
        time.sleep(step_s)  # the step of the first batch, which was waited for without being counted
        start = time.perf_counter()
        for _ in iterator:
            waited += time.perf_counter() - start
            time.sleep(step_s)
            start = time.perf_counter()
            worked += step_s
            if waited + worked >= seconds:
                _close(iterator)
                return waited / (waited + worked)
        iterator = iter(batches)
        next(iterator)


def _close(iterator: Any) -> None:
    if hasattr(iterator, "close"):
        iterator.close()


def _cpu_s(servers: Sequence[int]) -> tuple[float, float, float]:
    """Processor time so far: of this session, of the servers' sessions, of the whole machine."""
    return _session_cpu_s(os.getsid(0)), sum(map(_session_cpu_s, servers)), _machine_cpu_s()


def _session_cpu_s(session: int) -> float:
    """Processor time of a session's processes so far."""
    ticks = 0
    for process in session_members(session):
        with contextlib.suppress(OSError), open(f"/proc/{process}/stat") as file:
            ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _machine_cpu_s() -> float:
    """Processor time of everything on this machine so far, with what a hypervisor took from it."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def session_members(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.getsid(int(entry.name)) == session:
                    found.append(int(entry.name))
    return found


def pss_bytes(session: int) -> int:
    """Memory of a session's processes, what they share counted once (proportional set size)."""
    total = 0
    for process in session_members(session):
        with contextlib.suppress(OSError), open(f"/proc/{process}/smaps_rollup", "rb") as file:
            if found := _PSS.search(file.read()):
                total += int(found[1]) * 1024
    return total


class PeakMemory:
    """The most memory that a session of processes takes while this context is open.

    Args:
        session: The session's number.
    """

    def __init__(self, session: int) -> None:
        self.num_bytes = 0
        self._session = session
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_EVERY_S):
            self.num_bytes = max(self.num_bytes, pss_bytes(self._session))


def read_all(folder: Path) -> None:
    """Bring a folder's files into the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                while file.read(1 << 22):
                    pass


def drop_page_cache(folder: Path) -> str:
    """Make the next reading of a folder's files come from the disk.

    Returns:
        How it was done, or that it could not be done.
    """
    files = [path for path in folder.rglob("*") if path.is_file()]
    for _ in range(_DROP_TRIES):
        os.sync()
        for path in files:
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        if not any(map(_is_cached, files)):
            return "posix_fadvise(DONTNEED) on the data set's files"
        time.sleep(_DROP_WAIT_S)  # pages that somebody uses right now stay
    try:
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3")
    except OSError as exc:
        return f"not dropped whole: some of it stays after posix_fadvise, and drop_caches is refused ({exc.strerror})"
    return "/proc/sys/vm/drop_caches, which drops programs and libraries too"


def _is_cached(path: Path) -> bool:
    """Whether a file's first page can be had without waiting for the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT) > 0
    except OSError:
        return False
    finally:
        os.close(descriptor)

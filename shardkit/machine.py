"""What this process has of the machine."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["interruptible", "usable_cores"]

_CGROUPS = Path("/sys/fs/cgroup")

R = TypeVar("R")


def interruptible(work: Callable[[], R]) -> R:
    """Do something in a thread of its own, so that Ctrl-C ends the waiting for it, even within a library in C.

    Args:
        work: What is to be done. When the waiting was ended, it runs to its end by itself, so it must change nothing.

    Returns:
        What it returns. What it raises is raised here.
    """
    outcome: queue.SimpleQueue[tuple[R | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as exc:  # noqa: BLE001 (raised by the thread that waits)
            outcome.put((None, exc))

    threading.Thread(target=run, daemon=True).start()
    result, error = outcome.get()
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def usable_cores(cgroups: Path = _CGROUPS) -> int:
    """The processors this process may use: those it may run on, and no more than its container's quota of CPU time.

    Args:
        cgroups: Where Linux shows control groups, version 1 or 2.

    Returns:
        A number from 1 on; a quota of 2.5 processors counts as 3.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Missing, unreadable or odd: then there is no quota that anyone could keep to.
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota = _quota(cgroups)
        if quota > 0:
            return max(1, min(allowed, math.ceil(quota)))
    return allowed


def _quota(cgroups: Path) -> float:
    """Processors that the container may keep busy; 0 or less where there is no limit."""
    version_2 = cgroups / "cpu.max"
    if version_2.exists():
        quota, period = version_2.read_text().split()
        return 0.0 if quota == "max" else int(quota) / int(period)
    quota, period = ((cgroups / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    return int(quota) / int(period)

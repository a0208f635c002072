"""What this process has of the machine."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

__all__ = ["usable_cores"]

_CGROUPS = Path("/sys/fs/cgroup")


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

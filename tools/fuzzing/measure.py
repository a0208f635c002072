"""What one input takes: seconds of CPU time and memory, C's own included."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Limits", "Meter", "Used"]

_PEAK = re.compile(rb"VmHWM:\s+(\d+) kB\nVmRSS:\s+(\d+) kB")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an input may take.

    Attributes:
        seconds: Of CPU time.
        megabytes: Of memory more than before.
    """

    seconds: float = 1.0
    megabytes: float = 100.0

    def wider(self, times: float) -> Limits:
        """Limits that many times as wide."""
        return Limits(self.seconds * times, self.megabytes * times)


@dataclass(frozen=True, slots=True)
class Used:
    """What an input took, in the units of `Limits`."""

    seconds: float
    megabytes: float


class Meter:
    """Measures calls in this process. Memory is the kernel's own count of the most there was at once (Linux).

    Args:
        most_seconds: CPU time after which the process is killed by a signal, wherever it is.
    """

    def __init__(self, most_seconds: float) -> None:
        self._most_seconds = most_seconds
        # Writing 5 there sets the peak back to what there is now.
        self._reset = os.open("/proc/self/clear_refs", os.O_WRONLY)
        self._status = os.open("/proc/self/status", os.O_RDONLY)

    def measured(self, function: Callable[[], None]) -> Used:
        """Call a function and see what it takes."""
        os.write(self._reset, b"5")
        _, before = self._memory()
        signal.setitimer(signal.ITIMER_PROF, self._most_seconds)
        begun = time.process_time()
        try:
            function()
        finally:
            seconds = time.process_time() - begun
            signal.setitimer(signal.ITIMER_PROF, 0)
        peak, _ = self._memory()
        return Used(seconds, (peak - before) / 1024)

    def _memory(self) -> tuple[int, int]:
        found = _PEAK.search(os.pread(self._status, 4096, 0))
        assert found is not None
        return int(found[1]), int(found[2])

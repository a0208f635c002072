"""What a loader does and how long it takes, added up while it runs."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shardkit.process import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shardkit.sample import Batch

__all__ = ["STAGES", "Figures", "Recorder"]

STAGES = ("read", "verify", "decode", "augment", "assemble")
_KEPT_PICTURES = 24


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a loader did and how long it took.

    Attributes:
        samples: Samples handed out.
        batches: Batches handed out.
        bytes_read: Bytes of pictures that were read, those of batches still being made included.
        seconds: From asking for the first batch to the last batch handed out, over all iterations.
        waited: How many of these seconds whoever iterates waited for data.
        threads: Working threads.
        stages: Seconds of the working threads by stage, added up over the threads: ``read`` (from disk or page cache),
            ``verify`` (digests), ``decode`` (with resizing), ``augment``, ``assemble`` (order, tables, memory, and for
            raw samples the copy into the batch).
    """

    samples: int
    batches: int = 0
    bytes_read: int = 0
    seconds: float
    waited: float
    threads: int
    stages: Mapping[str, float]

    @property
    def busy(self) -> float:
        """Seconds of all stages."""
        return sum(self.stages.values())

    @property
    def samples_per_second(self) -> float:
        """Samples handed out per second."""
        return self.samples / self.seconds if self.seconds else 0.0

    @property
    def occupancy(self) -> dict[str, float]:
        """Each stage's part of the working threads' time, 0 to 1; the rest is ``wait``: enough was ready."""
        total = self.threads * self.seconds
        parts = {stage: seconds / total if total else 0.0 for stage, seconds in self.stages.items()}
        return {**parts, "wait": max(0.0, 1.0 - sum(parts.values()))}


class Recorder:
    """Adds up what threads report. Safe to use from several threads.

    Attributes:
        pictures: Some of the encoded pictures that were read last, to try things on.
    """

    def __init__(self) -> None:
        self.pictures: deque[bytes] = deque(maxlen=_KEPT_PICTURES)
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget all figures, with the lock made anew."""
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all figures."""
        with self._lock:
            self._stages = dict.fromkeys(STAGES, 0.0)
            self._samples = self._batches = self._bytes_read = 0
            self._seconds = self._waited = 0.0

    def work(self, num_bytes: int = 0, **stages: float) -> None:
        """Add seconds by stage, and bytes read; called once for several samples."""
        with self._lock:
            for stage, seconds in stages.items():
                self._stages[stage] += seconds
            self._bytes_read += num_bytes

    def handed_out(self, batch: Batch, waited: float, away: float) -> None:
        """Count a batch.

        Args:
            batch: The batch.
            waited: Seconds between asking for it and getting it.
            away: Seconds between getting the one before and asking for it.
        """
        with self._lock:
            self._samples += len(batch) - batch.num_padding
            self._batches += 1
            self._waited += waited
            self._seconds += waited + away

    def figures(self, threads: int) -> Figures:
        """What was added up so far.

        Args:
            threads: Working threads.
        """
        with self._lock:
            return Figures(
                samples=self._samples,
                batches=self._batches,
                bytes_read=self._bytes_read,
                seconds=self._seconds,
                waited=self._waited,
                threads=threads,
                stages=dict(self._stages),
            )

"""A pass over the batches of a loader that can let go of everything between two of them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from shardkit.process import renew_after_fork

if TYPE_CHECKING:
    from shardkit.loader import Loader
    from shardkit.loader.engine import OrderedWork
    from shardkit.loader.state import Position
    from shardkit.sample import Batch

__all__ = ["BatchPass"]


class BatchPass:
    """Iterates over batches, from one epoch into the next.

    Args:
        loader: The loader.
        start: Where to begin.
        count: How many batches; without it they never end.
    """

    def __init__(self, loader: Loader, start: Position, count: int | None) -> None:
        self._loader = loader
        self._position = start
        self._left = count
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Read the next batch again from where it is."""
        self._batches: OrderedWork[Batch] | None = None
        self._lock = threading.Lock()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        with self._lock:
            if self._left == 0:
                raise StopIteration
            if self._batches is None:
                self._batches = self._loader.batches(self._position.epoch, self._position.step)
            batch = next(self._batches)
            self._position = self._position.after(1, len(self._loader))
            if self._left is not None:
                self._left -= 1
            if self._left == 0 or self._position.step == 0:
                self._close()
        return batch

    def suspend(self) -> None:
        """Let go of threads, files and batches that were read ahead. The next batch is read again from where it is.

        Does nothing while another thread waits for a batch.
        """
        if self._lock.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._lock.release()

    def _close(self) -> None:
        batches, self._batches = self._batches, None
        if batches is not None:
            batches.close()

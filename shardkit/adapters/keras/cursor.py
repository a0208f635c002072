"""Batches by number: read ahead where they are asked for in order, and alone elsewhere."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from shardkit.process import renew_after_fork

if TYPE_CHECKING:
    from shardkit.loader import Loader
    from shardkit.loader.engine import OrderedWork
    from shardkit.loader.state import Position
    from shardkit.sample import Batch

__all__ = ["BatchCursor"]

# Several threads that share the numbers of an epoch ask for them nearly in order; this many may be stepped over.
_MOST_SKIPPED = 4


class BatchCursor:
    """Gives the batch at any position. Safe to use from several threads.

    Args:
        loader: The loader.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin anew, at whatever is asked for next."""
        self._lock = threading.Lock()
        self._batches: OrderedWork[Batch] | None = None
        self._next: Position | None = None  # of the open sequence
        self._after_jump: Position | None = None

    def batch_at(self, position: Position) -> Batch:
        """The batch at a position.

        Args:
            position: Its epoch and step.
        """
        with self._lock:
            batch = self._from_sequence(position)
        return batch if batch is not None else self._loader.batch(position.epoch, position.step)

    def _from_sequence(self, position: Position) -> Batch | None:
        """The batch, if it continues what was asked for before."""
        if self._next is not None and self._is_near(position, self._next):
            return self._advance(position)
        if position == self._after_jump:
            self._close()
            self._batches = self._loader.batches(position.epoch, position.step)
            return self._advance(position)
        # A new sequence may begin here, of which the next batch will tell.
        self._after_jump = self._behind(position)
        return None

    def _advance(self, position: Position) -> Batch | None:
        assert self._batches is not None
        for batch in self._batches:
            if batch.step == position.step:
                following = self._behind(position)
                if following.epoch == position.epoch:
                    self._next = following
                else:
                    self._close()
                    self._after_jump = following
                return batch
        return None

    def _behind(self, position: Position) -> Position:
        return position.after(1, len(self._loader))

    def _is_near(self, position: Position, expected: Position) -> bool:
        return position.epoch == expected.epoch and 0 <= position.step - expected.step <= _MOST_SKIPPED

    def _close(self) -> None:
        if self._batches is not None:
            self._batches.close()
        self._batches = self._next = None

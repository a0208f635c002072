"""Which epoch a data set serves, and how passes move it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardkit.loader.state import Position

if TYPE_CHECKING:
    from shardkit.loader.state import ProgressTracker

__all__ = ["Progress"]


class Progress:
    """Where the next pass over the data begins. A data set and its streams share one.

    Args:
        position: The first position.

    Attributes:
        tracker: How far training has come, while a `Resume` counts it. Nothing else moves the position then.
    """

    def __init__(self, position: Position) -> None:
        self._position = position
        self.tracker: ProgressTracker | None = None

    @property
    def position(self) -> Position:
        """Where the next pass begins."""
        return self._position if self.tracker is None else Position(self.tracker.position.epoch, 0)

    @position.setter
    def position(self, position: Position) -> None:
        self._position = position

    def finish(self, position: Position) -> None:
        """Note that a pass reached a position. Of passes that overlap, the one that got furthest counts."""
        if self.tracker is None:
            self._position = max(self._position, position)

    def follow(self, tracker: ProgressTracker) -> None:
        """Take the position from a training run that is counted."""
        self.tracker = tracker

    def leave(self) -> None:
        """Continue from where the training run came."""
        if self.tracker is not None:
            self._position, self.tracker = self.tracker.position, None

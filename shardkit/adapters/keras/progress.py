"""Which epoch a data set serves, and how passes move it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardkit.errors import ConfigError
from shardkit.loader.state import Position

if TYPE_CHECKING:
    from shardkit.adapters.keras.fit import FitCall
    from shardkit.loader.state import ProgressTracker

__all__ = ["Progress"]


class Progress:
    """Where the next pass over the data begins. A data set and its streams share one.

    Args:
        position: The first position.

    Attributes:
        version: How often the user has set the position.
    """

    def __init__(self, position: Position) -> None:
        self._position = position
        self.version = 0
        self._tracker: ProgressTracker | None = None
        self._fit: FitCall | None = None

    @property
    def tracker(self) -> ProgressTracker | None:
        """How far training has come, while a `Resume` counts it. Nothing else moves the position then."""
        # Keras does not tell a callback that an exception ended `fit`.
        if self._tracker is not None and self._fit is not None and not self._fit.is_running():
            # Its epoch begins again, as without `Resume`.
            self._position, self._tracker = Position(self._tracker.position.epoch, 0), None
        return self._tracker

    @property
    def position(self) -> Position:
        """Where the next pass begins."""
        tracker = self.tracker
        return self._position if tracker is None else Position(tracker.position.epoch, 0)

    @position.setter
    def position(self, position: Position) -> None:
        if self.tracker is not None:
            raise ConfigError(
                "the epoch cannot be set while Resume counts what is trained on", setting="epoch", value=position.epoch,
                advice="Set it before fit or after it",
            )  # fmt: skip
        self._position = position
        self.version += 1

    def finish(self, version: int, position: Position) -> None:
        """Move on after a pass. Of passes that overlap, the one that got furthest counts.

        If the user has set the position since the pass began, it moves nothing.

        Args:
            version: The version at which it began.
            position: Where it ended.
        """
        if self.tracker is None and self.version == version:
            self._position = max(self._position, position)

    def follow(self, tracker: ProgressTracker, fit: FitCall) -> None:
        """Take the position from a training run that is counted, as long as it runs."""
        self._tracker, self._fit = tracker, fit

    def leave(self) -> None:
        """Continue from where the training run ended. An epoch that it left early begins again."""
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            self._position = tracker.position if tracker.endless else Position(tracker.position.epoch, 0)

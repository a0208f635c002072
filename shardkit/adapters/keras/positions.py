"""Where a run begins in its data, and in Keras's epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras

from shardkit.errors import ConfigError, StateError

if TYPE_CHECKING:
    from shardkit.adapters.keras.fit import FitCall
    from shardkit.adapters.keras.snapshot import Snapshot
    from shardkit.adapters.keras.stream import KerasStream
    from shardkit.loader import Loader
    from shardkit.loader.state import Position

__all__ = ["EpochSteps", "fresh_position", "saved_position"]


@dataclass(frozen=True, slots=True)
class EpochSteps:
    """The steps of an epoch of Keras.

    Attributes:
        most: How many there are; ``None`` if nobody has said so.
        repeats: Whether the data repeat, so that an epoch of Keras may begin anywhere in them.
    """

    most: int | None
    repeats: bool

    @classmethod
    def of(cls, fit: FitCall, stream: KerasStream, loader: Loader) -> EpochSteps:
        """The steps of a call of `fit`."""
        repeats = stream.dataset.repeat
        return cls(fit.steps_per_epoch or (None if repeats else len(loader)), repeats)

    def clipped(self, step: int) -> int:
        """A step, where the last execution may have had fewer steps than one has."""
        return step if self.most is None else min(step, self.most)


def fresh_position(loader: Loader, stream: KerasStream) -> Position:
    """Where a new run begins.

    Raises:
        ConfigError: The data stand within an epoch.
    """
    position = stream.dataset.progress.position
    if loader.position.step or (position.step and not stream.dataset.repeat):
        raise ConfigError(
            "a new run begins with an epoch, and the loader stands within one",
            setting="loader", value=position,
            advice="Make the loader without state=, or give Resume the directory of the run that it belongs to",
        )  # fmt: skip
    return position


def saved_position(restored: Snapshot, loader: Loader, steps: EpochSteps) -> Position:
    """Where a saved run continues.

    Raises:
        StateError: It is of another backend, data set or order, or stands where these data cannot.
    """
    backend = keras.backend.backend()
    if restored.backend != backend:
        raise StateError(
            "the saved run is of another Keras backend", setting="backend", expected=restored.backend, found=backend,
            advice="Set KERAS_BACKEND as in the saved run, or give Resume another directory",
        )  # fmt: skip
    position = loader.position_in(restored.loader)
    behind = steps.most is not None and restored.step > steps.most
    # Data that do not repeat begin an epoch together with Keras.
    stands = 0 if restored.step == steps.most else restored.step
    if behind or (not steps.repeats and not restored.finished and position.step != stands):
        raise StateError(
            "the saved step is behind the end of the epoch" if behind else
            "the saved run stands at another step than its data", setting="step",
            expected=restored.step, found=steps.most if behind else position.step,
            advice="Give fit the steps_per_epoch of the saved run, or give Resume another directory",
        )  # fmt: skip
    return position

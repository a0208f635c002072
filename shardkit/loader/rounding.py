"""A warning where a user's function returns values that uint8 cannot hold."""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from shardkit.errors import ShardkitWarning
from shardkit.process import renew_after_fork

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["RoundingCheck"]

# Scaled to 0 to 1, to -1 to 1 or to a standard deviation of 1, an image stays within this. Unscaled it does so only
# where it is nearly black, so that nothing is said of images without any value from _NOT_DARK on.
_MOST_SCALED = 8
_NOT_DARK = 32
# A mean was subtracted where many values from _MIDDLE on have become negative and none is bright any more. What is
# darker or has more noise or contrast than before is cut off too, but rarely there, and is meant to be.
_MIDDLE = 64
_NOT_BRIGHT = 200
_FEW = 0.05

# Looked at: so many results, then one in sixteen, by its random word and not by chance.
_FIRST = 64
_LATER_BITS = 4


class RoundingCheck:
    """Looks at the floats that a function returned before they become uint8, and warns once if they are scaled.

    Args:
        name: What the function is called in messages.
        taker: What takes the values as uint8, with a verb: "batches hold".
        advice: What to do about it.
    """

    def __init__(self, name: str, taker: str, advice: str) -> None:
        self._name = name
        self._taker = taker
        self._advice = advice
        self._looked = 0
        self._warned = False
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Make the lock anew."""
        self._lock = threading.Lock()

    def look(self, given: NDArray[Any], found: NDArray[Any], word: int) -> None:
        """Look at a result, or leave it out after many that were fine.

        Args:
            given: The uint8 array that the function was given.
            found: What it returned.
            word: A random word of the image, below 2**64.
        """
        if self._warned or found.dtype.kind != "f" or not found.size:
            return
        if self._looked >= _FIRST and word >> (64 - _LATER_BITS):
            return
        self._looked += 1
        least, most = float(found.min()), float(found.max())
        if _is_scaled(given, found, least, most) or _is_centered(given, found, least, most):
            self._warn(least, most)

    def _warn(self, least: float, most: float) -> None:
        with self._lock:
            if self._warned:
                return
            self._warned = True
        warnings.warn(
            f"{self._name} returned values from {least:.3g} to {most:.3g}, but {self._taker} whole numbers from 0 to "
            f"255: they are rounded and cut off, and most of the image is lost. {self._advice}",
            ShardkitWarning,
            stacklevel=2,
        )


def _is_scaled(given: NDArray[Any], found: NDArray[Any], least: float, most: float) -> bool:
    """Whether rounding leaves a few values of an image that has many."""
    within = least >= -_MOST_SCALED and most <= _MOST_SCALED
    return within and bool(given.max() >= _NOT_DARK and (found != np.rint(found)).any())


def _is_centered(given: NDArray[Any], found: NDArray[Any], least: float, most: float) -> bool:
    """Whether cutting off at 0 loses the darker half of an image."""
    shifted = least < -0.5 and most < _NOT_BRIGHT
    return shifted and bool(np.count_nonzero((found < -0.5) & (given >= _MIDDLE)) > _FEW * found.size)

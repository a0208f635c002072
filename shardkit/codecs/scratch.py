"""Memory for what a picture passes through on its way, used again for the next picture."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from shardkit.memory import fresh_bytes

__all__ = ["Scratch"]

# What is larger is left to the allocator: such pictures take long anyway, and every thread would keep it.
_MOST_BYTES = 2**24


class Scratch:
    """Arrays that are taken in turn and taken again from the first one on. Of one thread.

    Fresh memory costs a page fault every 4 KiB whenever the allocator has given it back to the system, which it does
    or does not depending on what else the process did: TensorFlow's data sets made decoding 1.7 times as slow by that.
    """

    __slots__ = ("_arrays", "_next")

    def __init__(self) -> None:
        self._arrays: list[np.ndarray[Any, Any]] = []
        self._next = 0

    def restart(self) -> None:
        """Begin with the next picture: what was taken is free again."""
        self._next = 0

    def take(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """An array that nothing else of this picture uses.

        Args:
            shape: Its shape.

        Returns:
            uint8, C-contiguous, of undefined content.
        """
        size = prod(shape)
        if size > _MOST_BYTES:
            return np.empty(shape, dtype=np.uint8)
        place, self._next = self._next, self._next + 1
        if place == len(self._arrays):
            self._arrays.append(fresh_bytes(size))
        elif len(self._arrays[place]) < size:
            self._arrays[place] = fresh_bytes(min(2 * size, _MOST_BYTES))
        return self._arrays[place][:size].reshape(shape)

"""Memory for batches, used again once nobody refers to it.

Fresh memory costs a page fault every 4 KiB, about a tenth of a millisecond a megabyte.
"""

from __future__ import annotations

import sys
import threading
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["BufferPool"]

# References to a block that nobody else uses: the pool's list, the loop's name, and the argument of getrefcount.
_OWN_REFERENCES = 3


class BufferPool:
    """Hands out arrays. Safe to use from several threads.

    An array is a view of a block that the pool refers to. Every view of it, whoever makes it, and everything that
    borrows its memory refers to the block too, so the block's own count of references tells whether it is free.

    Args:
        most: How many blocks are remembered; those beyond are the garbage collector's.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._blocks: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()
        # Without the GIL a count of references says less than it seems to.
        self._counts_hold: bool = getattr(sys, "_is_gil_enabled", lambda: True)()

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array that nobody else refers to, of undefined content.

        Args:
            shape: Its shape.
            dtype: Its type, without Python objects.

        Returns:
            The array, C-contiguous.
        """
        dtype = np.dtype(dtype)
        size = prod(shape) * dtype.itemsize
        with self._lock:
            block = self._free_block(size)
            if block is None:
                block = np.empty(size, dtype=np.uint8)
                if self._counts_hold:
                    self._blocks = [block, *self._blocks][: self._most]
        return block.view(dtype).reshape(shape)

    def _free_block(self, size: int) -> NDArray[np.uint8] | None:
        for block in self._blocks:
            if block.nbytes == size and sys.getrefcount(block) == _OWN_REFERENCES:
                return block
        return None

"""Memory for batches, used again once nobody refers to it.

Fresh memory costs a page fault every 4 KiB, about a tenth of a millisecond a megabyte.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from shardkit.errors import ConfigError
from shardkit.memory import fresh_bytes
from shardkit.process import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import DTypeLike, NDArray

__all__ = ["BufferPool", "memory_of_chunks"]

# Arrays begin at multiples of this many bytes: what TensorFlow and JAX ask of memory that they use without a copy.
_ALIGNMENT = 64


def _counted(blocks: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Blocks, each with the number of references to it."""
    for block in blocks:
        yield block, sys.getrefcount(block)


# References to a block that nobody else uses. Counted and not written down: Python 3.14 counts fewer than those before,
# and a number that is too large would hand out memory that is in use.
_OWN_REFERENCES = next(count for _, count in _counted([np.empty(1, dtype=np.uint8)]))


class BufferPool:
    """Hands out arrays. Safe to use from several threads.

    An array is a view of a block that the pool refers to. Every view of it, from any library, and everything that
    borrows its memory refers to the block too, so the block's own count of references tells whether it is free.

    Args:
        most: How many blocks are remembered; those beyond are the garbage collector's.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.renew()
        renew_after_fork(self)
        # Without the GIL a count of references says less than it seems to.
        self._counts_hold: bool = getattr(sys, "_is_gil_enabled", lambda: True)()

    def renew(self) -> None:
        """Forget all blocks: threads that a forked process lacks refer to them for good."""
        self._blocks: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array that nobody else refers to, of undefined content.

        Args:
            shape: Its shape.
            dtype: Its type, without Python objects.

        Returns:
            The array, C-contiguous, at a multiple of 64 bytes.
        """
        dtype = np.dtype(dtype)
        size = prod(shape) * dtype.itemsize
        with self._lock:
            block = self._free_block(size)
            if block is None:
                block = fresh_bytes(size + _ALIGNMENT - 1)
                if self._counts_hold:
                    self._blocks = [block, *self._blocks][: self._most]
        first = -block.__array_interface__["data"][0] % _ALIGNMENT
        return block[first : first + size].view(dtype).reshape(shape)

    def _free_block(self, size: int) -> NDArray[np.uint8] | None:
        for block, count in _counted(self._blocks):
            if block.nbytes == size + _ALIGNMENT - 1 and count == _OWN_REFERENCES:
                return block
        return None


@contextmanager
def memory_of_chunks(num_samples: int) -> Iterator[None]:
    """Take memory for something of each sample of chunks.

    Args:
        num_samples: How many samples.

    Raises:
        ConfigError: There is not so much.
    """
    try:
        yield
    except (MemoryError, ValueError) as exc:
        raise ConfigError(
            f"there is no memory for chunks that hold {num_samples} samples", setting="chunk_size",
            advice="Make chunks smaller",
        ) from exc  # fmt: skip

"""Memory for arrays that are used again and again."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fresh_bytes"]

_LEAST_OWN = 2**16
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # a forked process gets a copy


def fresh_bytes(size: int) -> NDArray[Any]:
    """Memory that nobody else refers to.

    From 64 KiB on it comes from the system and goes back there as a whole. Memory of the C library stays with the heap
    of the thread that asked for it, and each iteration over a loader has threads of its own.

    Args:
        size: Bytes.

    Returns:
        ``(size,)`` uint8 of undefined content, C-contiguous.

    Raises:
        MemoryError: There is not so much.
    """
    if size < _LEAST_OWN:
        return np.empty(size, dtype=np.uint8)
    try:
        return np.frombuffer(mmap.mmap(-1, size, flags=_PRIVATE), dtype=np.uint8)
    except (OSError, OverflowError, ValueError) as exc:
        raise MemoryError(f"no {size} bytes of memory") from exc

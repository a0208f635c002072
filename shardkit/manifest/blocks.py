"""Digests of consecutive blocks of a shard, so that any run of its bytes can be verified without the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

from shardkit.manifest.samples import BLOCK_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BlockHasher"]


class BlockHasher:
    """Takes a shard's bytes in pieces of any length, from its start."""

    def __init__(self) -> None:
        self._digests: list[int] = []
        self._rest = b""

    def update(self, data: bytes) -> None:
        """Take in the bytes that come next."""
        data = self._rest + data
        whole = len(data) // BLOCK_BYTES * BLOCK_BYTES
        view = memoryview(data)
        for start in range(0, whole, BLOCK_BYTES):
            self._digests.append(xxhash.xxh3_64_intdigest(view[start : start + BLOCK_BYTES]))
        self._rest = data[whole:]

    def digests(self) -> NDArray[np.uint64]:
        """xxh3_64 of each block so far, the last one short: ``(num_blocks,)`` uint64."""
        last = [xxhash.xxh3_64_intdigest(self._rest)] if self._rest else []
        return np.array([*self._digests, *last], dtype=np.uint64)

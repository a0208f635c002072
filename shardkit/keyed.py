"""Hashes, random words with random access, and a keyed bijection: chance that is a pure function.

Nothing here holds state, and nothing depends on numpy's generators, whose streams may change between versions.
Everything is frozen by golden tests: a change here changes the order of every data set.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Key", "KeyedBijection", "derive_key", "random_words"]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_ROUNDS = 24


@dataclass(frozen=True, slots=True)
class Key:
    """128 bits that pick one random function.

    Attributes:
        first: The first 64 bits.
        second: The other 64 bits.
    """

    first: int
    second: int


def derive_key(purpose: str, *, fingerprint: str = "", seed: int = 0, epoch: int = 0) -> Key:
    """The key for one purpose, from fields of fixed width, so that no two sets of fields run into each other.

    Args:
        purpose: What the random function is for, at most 16 ASCII characters.
        fingerprint: The data set's fingerprint: hexadecimal digits, at most 32.
        seed: The user's seed, 0 to 2**64 - 1.
        epoch: The epoch, 0 to 2**64 - 1.

    Returns:
        The key: BLAKE2b of the packed fields (RFC 7693).

    Raises:
        ValueError: A field does not fit its width.
    """
    name = purpose.encode("ascii")
    if len(name) > 16 or len(fingerprint) > 32 or not (0 <= seed <= _MASK and 0 <= epoch <= _MASK):
        raise ValueError(f"a field does not fit its width: {purpose!r}, {fingerprint!r}, {seed}, {epoch}")
    packed = struct.pack("<16s16sQQ", name, bytes.fromhex(fingerprint), seed, epoch)
    return Key(*struct.unpack("<QQ", hashlib.blake2b(packed, digest_size=16).digest()))


def random_words(key: Key, counters: NDArray[Any]) -> NDArray[np.uint64]:
    """Random words by number: word ``i`` does not depend on which others are asked for.

    Two rounds of the 64-bit finaliser of SplitMix64 (Steele, Lea, Flood 2014, with Stafford's constants, variant 13),
    each under half of the key.

    Args:
        key: The random function.
        counters: Which words: any shape, whole numbers from 0.

    Returns:
        Words of the same shape, uint64, uniform over all 64 bits.
    """
    words = counters.astype(np.uint64)
    words *= np.uint64(_GOLDEN)
    words += np.uint64(key.first)
    _finalise(words)
    words ^= np.uint64(key.second)
    return _finalise(words)


def _finalise(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


class KeyedBijection:
    """A random permutation of ``range(size)`` that stores nothing and can be asked anywhere, both ways.

    Swap-or-not (Hoang, Morris, Rogaway 2012), 24 rounds. Unlike a short Feistel network it is fair on tiny sizes and
    needs no cycle walking.

    Args:
        size: How many numbers are permuted, 0 to 2**62.
        key: Which permutation.
    """

    __slots__ = ("_keys", "_pivots", "size")

    def __init__(self, size: int, key: Key) -> None:
        self.size = size
        words = random_words(key, np.arange(2 * _ROUNDS))
        self._pivots = [int(word) % max(size, 1) for word in words[:_ROUNDS]]
        self._keys = [np.uint64(word) for word in words[_ROUNDS:]]

    def forward(self, numbers: NDArray[Any]) -> NDArray[np.int64]:
        """Where each number goes.

        Args:
            numbers: Any shape, whole numbers in ``[0, size)``.

        Returns:
            Their images, the same shape, int64.
        """
        return self._run(numbers, range(_ROUNDS))

    def inverse(self, numbers: NDArray[Any]) -> NDArray[np.int64]:
        """What goes to each number: ``inverse(forward(x)) == x``.

        Args:
            numbers: Any shape, whole numbers in ``[0, size)``.

        Returns:
            Their origins, the same shape, int64.
        """
        return self._run(numbers, range(_ROUNDS - 1, -1, -1))

    def _run(self, numbers: NDArray[Any], rounds: range) -> NDArray[np.int64]:
        here = np.array(numbers, dtype=np.int64)
        for number in rounds:
            partner = self._pivots[number] - here
            partner += (partner < 0) * np.int64(self.size)
            words = np.maximum(here, partner).astype(np.uint64)
            words *= np.uint64(_GOLDEN)
            words += self._keys[number]
            here = np.where(_finalise(words) >> np.uint64(63), partner, here)
        return here

"""The order of an epoch: a pure function of a few numbers, without state and without I/O.

``(fingerprint, seed, epoch, step) -> the samples of that batch``. See ``docs/explanation/order.md`` for the picture:
chunks of consecutive samples are permuted onto a *tape*; the tape is cut into *lanes*; the epoch takes one sample of
each lane in turn; within a lane a sample moves by at most the *span*, which is what a shuffle buffer would do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shardkit.errors import ConfigError
from shardkit.keyed import KeyedBijection, derive_key, random_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["MOST_LANES", "EpochOrder", "OrderNumbers", "Share"]

MOST_LANES = 1 << 16
"""The most lanes; more would take memory for nothing."""

_MOST = {"seed": 1 << 64, "lanes": MOST_LANES + 1}
_MOST_NUMBER = 1 << 62
_FROM_ONE = ("num_samples", "batch_size", "chunk_samples", "lanes")

_FEW_CHUNKS = 4096  # so many are put in order at once, the first time
_FRACTION_BITS = 32
_MOST_RANKS = 1 << 40  # with the workers of each
_NEVER = np.uint64((1 << 64) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderNumbers:
    """Everything that decides the order, as numbers: what a saved state holds.

    Attributes:
        fingerprint: The data set's fingerprint, 32 hexadecimal digits.
        num_samples: Samples in the split.
        batch_size: Samples in a global batch.
        drop_remainder: Whether a short last batch is left out.
        seed: The user's seed.
        shuffled: False for the order of the manifest; the four numbers below then play no part.
        chunk_samples: Consecutive samples that are read together.
        lanes: Equal parts of the tape that take turns.
        span: How far a sample may move within its lane.
        first_span: How far the first sample of a lane may move; it grows by one a sample up to ``span``.
    """

    fingerprint: str
    num_samples: int
    batch_size: int
    drop_remainder: bool
    seed: int
    shuffled: bool
    chunk_samples: int
    lanes: int
    span: int
    first_span: int

    def __post_init__(self) -> None:
        for name in (*_FROM_ONE, "seed", "span", "first_span"):
            value, least, most = getattr(self, name), int(name in _FROM_ONE), _MOST.get(name, _MOST_NUMBER)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value < most:
                raise ConfigError(f"{name} must be a whole number, at least {least}", setting=name, value=value)
        for name in ("drop_remainder", "shuffled"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be True or False", setting=name, value=getattr(self, name))
        if not isinstance(self.fingerprint, str):
            raise ConfigError("fingerprint must be text", setting="fingerprint", value=self.fingerprint)
        if self.drop_remainder and self.num_samples < self.batch_size:
            raise ConfigError(
                f"the split has {self.num_samples} samples, fewer than one batch of {self.batch_size}, "
                "and the remainder is dropped, so an epoch would be empty",
                setting="batch_size",
                value=self.batch_size,
                advice="Take a smaller batch_size, or drop_remainder=False",
            )

    @property
    def num_steps(self) -> int:
        """Batches in an epoch, the same on every rank."""
        full, rest = divmod(self.num_samples, self.batch_size)
        return full + (rest > 0 and not self.drop_remainder)

    def batch_range(self, step: int) -> tuple[int, int]:
        """The positions of a global batch in the epoch.

        Args:
            step: The step, ``0 <= step < num_steps``.

        Returns:
            Its first position, and the one after its last.
        """
        start = step * self.batch_size
        return start, min(start + self.batch_size, self.num_samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Which part of every global batch one rank takes.

    All ranks get the same number of steps and, by padding, batches of the same length.

    Attributes:
        rank: This process, from 0.
        world_size: How many processes there are.
    """

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if type(self.rank) is not int or type(self.world_size) is not int:
            raise ConfigError(
                "rank and world_size must be whole numbers", setting="rank", value=(self.rank, self.world_size)
            )
        if not 1 <= self.world_size <= _MOST_RANKS:
            raise ConfigError(
                f"world_size must be from 1 to {_MOST_RANKS}", setting="world_size", value=self.world_size
            )
        if not 0 <= self.rank < self.world_size:
            raise ConfigError(
                f"rank must be from 0 to world_size - 1; world_size is {self.world_size}",
                setting="rank",
                value=self.rank,
            )

    def part(self, worker: int, num_workers: int, *, shuffled: bool) -> Share:
        """The share of one of several workers of this rank: together they have the rank's samples, each once.

        Raises:
            ConfigError: There is no such worker.
        """
        Share(rank=worker, world_size=num_workers)
        rank = self.rank + self.world_size * worker if shuffled else self.rank * num_workers + worker
        return Share(rank=rank, world_size=self.world_size * num_workers)

    def positions(self, order: OrderNumbers, step: int) -> NDArray[np.int64]:
        """This rank's positions of a global batch.

        Shuffled: those with ``position % world_size == rank``, so that where ``world_size`` divides the lanes, ranks
        read disjoint chunks. Not shuffled: a contiguous part.

        Args:
            order: The numbers of the order.
            step: The step.

        Returns:
            Positions in the epoch, ascending, int64; their number differs by at most one between ranks.
        """
        start, stop = order.batch_range(step)
        if order.shuffled:
            return np.arange(start + (self.rank - start) % self.world_size, stop, self.world_size, dtype=np.int64)
        length = stop - start
        first, last = (length * rank // self.world_size for rank in (self.rank, self.rank + 1))
        return np.arange(start + first, start + last, dtype=np.int64)

    def length(self, order: OrderNumbers, step: int) -> int:
        """Rows in this rank's batch, padding included: the same on every rank."""
        start, stop = order.batch_range(step)
        return -(-(stop - start) // self.world_size)

    def sample_weight(self, order: OrderNumbers) -> float | None:
        """The weight of a real row where some batch is padded, else ``None``.

        A padded row weighs 0. Keras divides a loss by the number of rows, padding included, and averages steps by
        rows, so every real row weighs (rows of all ranks in an epoch) / (samples in it): the same in each batch, so
        that weighted metrics stay exact too.
        """
        steps = order.num_steps
        used = order.batch_range(steps - 1)[1]
        rows = ((steps - 1) * self.length(order, 0) + self.length(order, steps - 1)) * self.world_size
        return None if rows == used else rows / used


class EpochOrder:
    """The order of one epoch: which sample comes at which position, anywhere, at the same cost.

    Args:
        numbers: What decides the order.
        epoch: The epoch, from 0.
    """

    __slots__ = ("_bijection", "_chunks", "_jitter_key", "_short_slot", "epoch", "numbers")

    def __init__(self, numbers: OrderNumbers, epoch: int) -> None:
        if type(epoch) is not int or not 0 <= epoch < 1 << 64:
            raise ConfigError("epoch must be a whole number, from 0 to 2**64 - 1", setting="epoch", value=epoch)
        self.numbers = numbers
        self.epoch = epoch
        fields = {"fingerprint": numbers.fingerprint, "seed": numbers.seed, "epoch": epoch}
        num_chunks = -(-numbers.num_samples // numbers.chunk_samples)
        self._bijection = KeyedBijection(num_chunks, derive_key("chunks", **fields))  # type: ignore[arg-type]
        self._chunks: NDArray[np.int64] | None = None
        self._jitter_key = derive_key("jitter", **fields)  # type: ignore[arg-type]
        # The only short chunk is the last; where it lies on the tape, everything behind it moves up.
        self._short_slot = int(self._bijection.inverse(np.array([num_chunks - 1]))[0])

    def samples_at(self, positions: NDArray[Any]) -> NDArray[np.int64]:
        """The samples at some positions of the epoch.

        Costs O(span) for each lane touched, wherever the positions lie, and more the further apart they lie.

        Args:
            positions: ``(n,)`` whole numbers in ``[0, num_samples)``.

        Returns:
            ``(n,)`` int64: sample numbers in the split.
        """
        numbers = self.numbers
        if not numbers.shuffled or len(positions) == 0:
            return np.array(positions, dtype=np.int64)
        offsets, lanes = np.divmod(positions, numbers.lanes)
        is_touched = np.bincount(lanes, minlength=numbers.lanes) > 0
        touched = np.flatnonzero(is_touched)
        row = (np.cumsum(is_touched) - 1)[lanes]
        first = int(offsets.min())
        drawn = self._draw(touched, first, int(offsets.max()) + 1)
        return self.samples_on_tape(drawn[row, offsets - first])

    def position_of(self, sample: int) -> int:
        """The position of the epoch at which a sample comes: the inverse of `samples_at`.

        Args:
            sample: Its number in the split.

        Returns:
            The position, ``0 <= position < num_samples``.
        """
        numbers = self.numbers
        if not numbers.shuffled:
            return sample
        chunk, within = divmod(sample, numbers.chunk_samples)
        slot = int(self._bijection.inverse(np.array([chunk]))[0])
        missing = -numbers.num_samples % numbers.chunk_samples
        place = slot * numbers.chunk_samples + within - missing * (slot > self._short_slot)
        share, longer = divmod(numbers.num_samples, numbers.lanes)
        lane = place // (share + 1)
        if lane >= longer:
            lane = longer + (place - longer * (share + 1)) // share
        begin = lane * share + min(lane, longer)
        start = max(0, place - begin - numbers.span)
        stop = min(share + (lane < longer), place - begin + numbers.span + 1)
        drawn = self._draw(np.array([lane]), start, stop)[0]
        return (start + int(np.flatnonzero(drawn == place)[0])) * numbers.lanes + lane

    def samples_on_tape(self, tape: NDArray[np.int64]) -> NDArray[np.int64]:
        """The samples at some places of the tape, before lanes and jitter.

        Args:
            tape: Places, any shape, int64.

        Returns:
            Sample numbers, the same shape, int64.
        """
        length = self.numbers.chunk_samples
        missing = -self.numbers.num_samples % length
        behind = tape >= (self._short_slot + 1) * length - missing
        slots, within = np.divmod(tape + missing * behind, length)
        chunks = self._chunks_at(slots)
        samples: NDArray[np.int64] = chunks * length + within
        return samples

    def _chunks_at(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """The chunks in some slots, any shape."""
        if self._bijection.size > _FEW_CHUNKS:
            distinct, place = np.unique(slots, return_inverse=True)
            return self._bijection.forward(distinct)[place].reshape(slots.shape)
        if self._chunks is None:
            self._chunks = self._bijection.forward(np.arange(self._bijection.size))
        return self._chunks[slots]

    def _draw(self, lanes: NDArray[Any], start: int, stop: int) -> NDArray[np.int64]:
        """Which places of the tape come at offsets ``start`` to ``stop`` of some lanes: ``(lanes, stop - start)``.

        A place ``p`` of a lane sorts by ``p + h(p) * min(span, first_span + p)``. So it never sorts before an earlier
        ``p`` that is more than its span away, and the window below holds all that can come at these offsets.
        """
        numbers = self.numbers
        share, longer = divmod(numbers.num_samples, numbers.lanes)
        lengths = share + (lanes < longer)
        begins = lanes * share + np.minimum(lanes, longer)
        span, first_span = numbers.span, numbers.first_span
        low = max(0, start - span, -((first_span - start) // 2))
        high = min(share + (longer > 0), stop + min(span, first_span + stop))
        places = np.arange(low, high, dtype=np.int64)
        reach = np.minimum(span, first_span + places).astype(np.uint64)
        tape = begins[:, None] + places[None, :]
        keys = random_words(self._jitter_key, tape) >> np.uint64(64 - _FRACTION_BITS)
        keys *= reach
        keys += (places - low).astype(np.uint64) << np.uint64(_FRACTION_BITS)
        keys[places[None, :] >= lengths[:, None]] = _NEVER
        ranks = np.argsort(keys, axis=1, kind="stable")[:, start - low : stop - low]
        drawn: NDArray[np.int64] = begins[:, None] + low + ranks
        return drawn

    def batches(self, share: Share, start: int = 0) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """This rank's samples, step by step: the same as asking for each step alone, at less cost.

        Steps are drawn in blocks that double up to the length of the window, so that the first step is quick and the
        window's cost is spread over the others.

        Args:
            share: The rank.
            start: The first step.

        Yields:
            The step, and its sample numbers in the split: int64.
        """
        numbers = self.numbers
        most = max(1, min(max(numbers.span * numbers.lanes, 1 << 12), 1 << 20) // numbers.batch_size)
        steps, block = start, 1
        while steps < numbers.num_steps:
            stop = min(steps + block, numbers.num_steps)
            parts = [share.positions(numbers, step) for step in range(steps, stop)]
            samples = self.samples_at(np.concatenate(parts))
            cuts = np.cumsum([len(part) for part in parts])[:-1]
            yield from zip(range(steps, stop), np.split(samples, cuts), strict=True)
            steps, block = stop, min(2 * block, most)

"""How well a loader shuffles, as numbers, from the order and the tables alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shardkit.loader.order import EpochOrder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shardkit.loader.order import OrderNumbers

__all__ = ["ShuffleQuality", "measure_shuffle"]

_BATCHES = 64
_GOOD = 0.9
_BETTER = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleQuality:
    """How well batches are mixed.

    Attributes:
        label_mix: (distinct classes in a batch - 1) / (the same of an ideal shuffle - 1), on average: 1 is ideal,
            0 is one class a batch.
        neighbour_distance: How far apart two samples that follow each other lie in the shards, on average, over the
            same of an ideal shuffle: 1 is ideal, near 0 is reading in sequence.
        classes_in_batch: Distinct classes in a batch, on average.
        classes_ideal: The same of an ideal shuffle.
        advice: What would make it better, with the label mix that it would give; empty where it is good.
    """

    label_mix: float
    neighbour_distance: float
    classes_in_batch: float
    classes_ideal: float
    advice: tuple[str, ...]


def measure_shuffle(numbers: OrderNumbers, labels: NDArray[np.int64], epoch: int = 0) -> ShuffleQuality:
    """Measure an order on the labels of its samples.

    Args:
        numbers: What decides the order.
        labels: ``(num_samples,)`` int64, the label of each sample by its number in the split.
        epoch: The epoch.

    Returns:
        The quality, over up to 64 batches spread over the epoch.
    """
    found, distance = _measure(numbers, labels, epoch)
    ideal = _ideal_classes(labels, min(numbers.batch_size, len(labels)))
    mix = _mix(found, ideal)
    advice: list[str] = []
    if mix < _GOOD:
        advice.append("repack with a shuffle (shardkit pack shuffles unless told --no-shuffle): label mix 1.0")
        for words, better in _changes(numbers):
            would = _mix(_measure(better, labels, epoch)[0], ideal)
            if would > _BETTER * mix:
                advice.append(f"{words}: label mix {would:.2f}")
    return ShuffleQuality(
        label_mix=mix, neighbour_distance=distance, classes_in_batch=found, classes_ideal=ideal, advice=tuple(advice)
    )


def _changes(numbers: OrderNumbers) -> list[tuple[str, OrderNumbers]]:
    """Other settings that are worth a try, in words."""
    if not numbers.shuffled:
        everywhere = replace(numbers, shuffled=True, chunk_samples=1, span=0)
        return [("shuffle='global' (reads each sample on its own)", everywhere)]
    changes = [("twice the shuffle_buffer", replace(numbers, span=2 * numbers.span))]
    if numbers.chunk_samples > 1:
        smaller = max(1, numbers.chunk_samples // 4)
        changes.append(("a chunk_size of a quarter", replace(numbers, chunk_samples=smaller)))
    return changes


def _measure(numbers: OrderNumbers, labels: NDArray[np.int64], epoch: int) -> tuple[float, float]:
    """Distinct classes in a batch, and the relative distance of neighbours, on average."""
    order = EpochOrder(numbers, epoch)
    steps = np.unique(np.linspace(0, numbers.num_steps - 1, _BATCHES).astype(np.int64))
    classes, distances = [], []
    for step in steps:
        samples = order.samples_at(np.arange(*numbers.batch_range(int(step))))
        classes.append(len(np.unique(labels[samples])))
        if len(samples) > 1:
            distances.append(np.abs(np.diff(samples)).mean())
    # Two different places drawn from n lie (n + 1) / 3 apart on average.
    distance = float(np.mean(distances)) / ((numbers.num_samples + 1) / 3) if distances else 1.0
    return float(np.mean(classes)), distance


def _ideal_classes(labels: NDArray[np.int64], batch_size: int) -> float:
    """Distinct classes expected among samples drawn without replacement: a class is missed hypergeometrically."""
    total = len(labels)
    counts = np.unique(labels, return_counts=True)[1]
    log_all = _log_choose(total, batch_size)
    missed = [
        math.exp(_log_choose(total - int(count), batch_size) - log_all) if total - count >= batch_size else 0.0
        for count in counts
    ]
    return len(counts) - sum(missed)


def _log_choose(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)


def _mix(found: float, ideal: float) -> float:
    return (found - 1) / (ideal - 1) if ideal > 1 else 1.0

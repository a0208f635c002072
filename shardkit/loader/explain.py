"""Which samples a batch holds, and in which batches a sample comes up: from the order and the tables alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from shardkit.errors import ConfigError
from shardkit.loader.order import EpochOrder, Share
from shardkit.sample import SampleRef
from shardkit.units import index_within

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardkit.loader.order import OrderNumbers
    from shardkit.manifest import DataSet, Split

__all__ = ["Occurrence", "explain_batch", "find_sample", "find_samples", "index_of_key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """Where a sample comes up.

    Attributes:
        epoch: The epoch.
        step: The step of that epoch.
        place: Its place in the global batch, from 0.
        rank: The rank that gets it.
    """

    epoch: int
    step: int
    place: int
    rank: int


def explain_batch(dataset: DataSet, split: Split, order: EpochOrder, step: int, world_size: int) -> list[SampleRef]:
    """The samples of a global batch, in its order.

    Args:
        dataset: The data set.
        split: The split.
        order: The epoch's order.
        step: The step.
        world_size: How many ranks share the batch.

    Returns:
        Where each sample lies, and which rank gets it.

    Raises:
        ConfigError: The epoch has no such step.
    """
    numbers = order.numbers
    step = index_within("step", step, 0, numbers.num_steps - 1)
    start, stop = numbers.batch_range(step)
    samples = order.samples_at(np.arange(start, stop))
    ranks = _ranks(numbers, step, world_size)
    shards = np.searchsorted(split.starts, samples, side="right") - 1
    found: dict[int, SampleRef] = {}
    for shard in np.unique(shards):
        row_of_shard = split.shards[int(shard)]
        table = dataset.sample_table(row_of_shard, whole=False)
        image = table.fields["image"]
        for place in np.flatnonzero(shards == shard):
            row = int(samples[place] - split.starts[shard])
            found[int(place)] = SampleRef(
                index=int(samples[place]), shard=row_of_shard.name, row=row, key=table.keys[row],
                label=int(table.labels[row]), offset=int(image.offset[row]), size=int(image.size[row]),
                rank=int(ranks[place]),
            )  # fmt: skip
    return [found[place] for place in range(len(samples))]


def find_sample(numbers: OrderNumbers, index: int, epoch: int, world_size: int) -> Occurrence | None:
    """When a sample comes up in an epoch.

    Args:
        numbers: What decides the order.
        index: The sample's number in its split.
        epoch: The epoch.
        world_size: How many ranks share a batch.

    Returns:
        Where, or ``None`` where the remainder that is dropped holds it.
    """
    position = EpochOrder(numbers, epoch).position_of(index)
    step, place = divmod(position, numbers.batch_size)
    if step >= numbers.num_steps:
        return None
    return Occurrence(epoch=epoch, step=step, place=place, rank=int(_ranks(numbers, step, world_size)[place]))


def find_samples(numbers: OrderNumbers, index: int, epochs: Iterable[int], world_size: int) -> list[Occurrence]:
    """When a sample comes up in several epochs; see `find_sample`.

    Raises:
        ConfigError: They are no epochs.
    """
    try:
        several = iter(epochs)
    except Exception as exc:  # a user's own class may raise anything
        raise ConfigError("epochs must be several whole numbers", setting="epochs", value=epochs) from exc
    found = (find_sample(numbers, index, epoch, world_size) for epoch in several)
    return [occurrence for occurrence in found if occurrence is not None]


def index_of_key(dataset: DataSet, split: Split, key: str) -> int:
    """The number in its split of the sample with a key; reads sample tables until it is found.

    Raises:
        ConfigError: The split has no such key, or it is no text.
    """
    if not isinstance(key, str):
        raise ConfigError("key must be text", setting="key", value=key)
    for number, row in enumerate(split.shards):
        try:
            return int(split.starts[number]) + dataset.sample_table(row, whole=False).keys.index(key)
        except ValueError:
            continue
    raise ConfigError(
        f"split {split.name} has no sample with this key", setting="key", value=key,
        advice="A key is the picture's path without its suffix; Loader.keys() lists them",
    )  # fmt: skip


def _ranks(numbers: OrderNumbers, step: int, world_size: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The rank that gets each sample of a global batch."""
    start, stop = numbers.batch_range(step)
    ranks = np.zeros(stop - start, dtype=np.int64)
    for rank in range(world_size):
        ranks[Share(rank=rank, world_size=world_size).positions(numbers, step) - start] = rank
    return ranks

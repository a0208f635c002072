"""The nouns that flow through shardkit.

A *sample* is one image with its label and other fields, encoded, as it lies in a shard. An *example* is a sample
decoded to arrays. A *batch* is examples stacked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np

__all__ = ["ArraySpec", "Batch", "Example", "Sample", "SampleRef"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRef:
    """Where a sample lies.

    Attributes:
        index: Its number in its split, from 0, shards in the manifest's order.
        shard: The name of its shard.
        row: Its row in the shard's sample table.
        key: Its key, unique in the data set.
        label: Its class label.
        offset: Where its image begins, in bytes from the start of the shard.
        size: The image's length in bytes.
        rank: The rank that gets it in the batch this was asked for.
    """

    index: int
    shard: str
    row: int
    key: str
    label: int
    offset: int
    size: int
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One encoded sample.

    Attributes:
        key: Its key, unique in the data set.
        fields: The bytes of each member by its extension: ``{"jpg": ..., "cls": ...}``.
    """

    key: str
    fields: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One decoded sample.

    Attributes:
        key: Its key.
        arrays: Its values by field: ``{"image": (H, W, C) uint8, "label": () int64}``.
    """

    key: str
    arrays: Mapping[str, np.ndarray[Any, Any]]


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Shape and type of an array, known before there is one.

    Attributes:
        shape: Its shape; ``None`` for an axis whose length varies.
        dtype: The name of its numpy type, such as ``"uint8"``.
    """

    shape: tuple[int | None, ...]
    dtype: str


class Batch:
    """Stacked examples: what one rank gets in one step.

    Attributes:
        arrays: Arrays by field, each with the batch on its first axis: ``{"image": (B, H, W, C) uint8,
            "label": (B,) int64}``, and ``"sample_weight": (B,) float32`` where ranks are padded to equal length.
            Not written again by shardkit once handed out.
        labels: ``(B,)`` int64 class labels, whatever form ``arrays`` has them in.
        epoch: The epoch, from 0.
        step: The step within the epoch, from 0.
        num_padding: How many rows at the end fill the batch up to the other ranks' length; their weight is 0.
        replaced: The rows that hold another sample of the batch, since their own is bad and ``on_error="skip"``.
    """

    __slots__ = ("_keys", "arrays", "epoch", "labels", "num_padding", "replaced", "step")

    def __init__(
        self,
        arrays: dict[str, np.ndarray[Any, Any]],
        *,
        labels: np.ndarray[Any, Any],
        epoch: int,
        step: int,
        keys: Callable[[], list[str]],
        num_padding: int = 0,
        replaced: tuple[int, ...] = (),
    ) -> None:
        self.arrays = arrays
        self.labels = labels
        self.epoch = epoch
        self.step = step
        self.num_padding = num_padding
        self.replaced = replaced
        self._keys = keys

    @property
    def keys(self) -> list[str]:
        """The samples' keys, in the order of the rows; padding has none. Looked up when first asked for."""
        found = self._keys()
        self._keys = lambda: found
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        # Where keys are looked up does not travel.
        return _batch_again, (
            self.arrays, self.labels, self.epoch, self.step, self.keys, self.num_padding, self.replaced
        )  # fmt: skip

    def as_tuple(self) -> Any:
        """The batch as Keras takes it.

        Returns:
            ``(image, label)``, ``(image, label, sample_weight)`` when there are weights, or the image array alone
            where there is neither.
        """
        values = tuple(self.arrays.values())
        return values if len(values) > 1 else values[0]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.arrays.values())

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}: {value.shape} {value.dtype}" for name, value in self.arrays.items())
        return f"Batch(epoch={self.epoch}, step={self.step}, {shown})"


def _batch_again(
    arrays: dict[str, np.ndarray[Any, Any]], labels: np.ndarray[Any, Any], epoch: int, step: int, keys: list[str],
    num_padding: int, replaced: tuple[int, ...],
) -> Batch:  # fmt: skip
    """Make a batch from its pickled parts."""
    return Batch(
        arrays, labels=labels, epoch=epoch, step=step, keys=keys.copy, num_padding=num_padding, replaced=replaced
    )

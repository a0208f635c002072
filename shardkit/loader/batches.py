"""From the samples of a step to a batch: jobs for the engine, one a batch."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shardkit.errors import CodecError, FormatError, ShardkitError
from shardkit.sample import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from shardkit.codecs.image import ImageDecoder
    from shardkit.loader.config import LabelMode
    from shardkit.loader.read import LocalReader
    from shardkit.loader.rows import Rows

__all__ = ["BatchJob", "Skips", "labels_as"]

# Large enough that claiming a part costs nothing, small enough that the last parts of a batch end together.
_PART_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class Skipped:
    """A bad sample that was left out: its error names shard, key, field and offset."""

    epoch: int
    step: int
    error: ShardkitError


class Skips:
    """The bad samples of a loader, counted against a budget. Safe to use from several threads.

    Args:
        most: How many may be left out; ``None`` where none may.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._lock = threading.Lock()
        self.found: list[Skipped] = []

    def add(self, skipped: Skipped) -> None:
        """Count one bad sample.

        Raises:
            ShardkitError: It is one too many, or none may be left out.
        """
        if self._most is None:
            raise skipped.error
        with self._lock:
            self.found.append(skipped)
            if len(self.found) > self._most:
                first = self.found[0].error
                raise type(skipped.error)(
                    f"{len(self.found)} bad samples are more than max_skipped={self._most}; the first: {first}"
                ) from skipped.error


def labels_as(labels: NDArray[np.int64], mode: LabelMode, num_classes: int) -> NDArray[Any]:
    """Class labels in the form a model wants.

    Args:
        labels: ``(n,)`` int64.
        mode: ``"int"``, ``"categorical"`` or ``"binary"``.
        num_classes: How many classes there are.

    Returns:
        ``(n,)`` int64, ``(n, num_classes)`` float32 with a one, or ``(n, 1)`` float32.
    """
    if mode == "categorical":
        found = np.zeros((len(labels), num_classes), dtype=np.float32)
        found[np.arange(len(labels)), labels] = 1.0
        return found
    return labels.astype(np.float32)[:, None] if mode == "binary" else labels


@dataclass(slots=True, kw_only=True)
class BatchJob:
    """One batch being made.

    Attributes:
        epoch: The epoch.
        step: The step.
        rows: Where its samples lie.
        num_rows: Its length, padding included.
        label_mode: The form of the labels, or ``None`` for no labels.
        num_classes: How many classes there are.
        weight: The weight of a real row, or ``None`` where nothing is padded.
        reader: Gives bytes.
        decoder: Makes pixels of them; ``None`` hands the bytes out.
        keys: Looks up the samples' keys.
        skips: Takes bad samples.
    """

    epoch: int
    step: int
    rows: Rows
    num_rows: int
    label_mode: LabelMode | None
    num_classes: int
    weight: float | None
    reader: LocalReader
    decoder: ImageDecoder | None
    keys: Callable[[], list[str]]
    skips: Skips
    images: NDArray[Any] = None  # type: ignore[assignment]
    num_parts: int = 0
    bad: list[int] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.decoder is None:
            self.images = np.empty(self.num_rows, dtype=object)
        else:
            self.images = np.empty((self.num_rows, *self.decoder.image_size, self.decoder.channels), dtype=np.uint8)
        self.num_parts = max(1, -(-len(self.rows) // _PART_SAMPLES))
        self.bad = []

    def run(self, part: int) -> None:
        """Read and decode some samples into the batch's own memory."""
        rows = self.rows
        for place in range(part * _PART_SAMPLES, min((part + 1) * _PART_SAMPLES, len(rows))):
            where = (int(rows.shard[place]), int(rows.offset[place]), int(rows.size[place]), int(rows.digest[place]))
            try:
                data = self.reader.read(*where)
                if self.decoder is None:
                    self.images[place] = data
                else:
                    self.decoder.decode_into(data, self.images[place])
            except (CodecError, FormatError) as exc:
                exc.locate(
                    shard=self.reader.shard_name(where[0]), key=self.keys()[place], field="image", offset=where[1]
                )
                self.skips.add(Skipped(self.epoch, self.step, exc))
                self.bad.append(place)

    def finish(self) -> Batch:
        """The batch."""
        labels = self._fill()
        arrays: dict[str, NDArray[Any]] = {"image": self.images}
        if self.label_mode is not None:
            arrays["label"] = labels_as(labels, self.label_mode, self.num_classes)
        if self.weight is not None:
            weights = np.full(self.num_rows, self.weight, dtype=np.float32)
            weights[len(self.rows) :] = 0.0
            arrays["sample_weight"] = weights
        padding = self.num_rows - len(self.rows)
        return Batch(arrays, labels=labels, epoch=self.epoch, step=self.step, keys=self.keys, num_padding=padding)

    def _fill(self) -> NDArray[np.int64]:
        """Give bad samples' places and padding to good samples of this batch, in turn; the labels that result."""
        count = len(self.rows)
        labels = np.zeros(self.num_rows, dtype=np.int64)
        labels[:count] = self.rows.label
        bad = sorted(self.bad)
        good = [place for place in range(count) if place not in set(bad)] if bad else range(count)
        for number, place in enumerate([*bad, *range(count, self.num_rows)]):
            if good:
                self.images[place] = self.images[good[number % len(good)]]
                labels[place] = labels[good[number % len(good)]]
            elif place < count:
                raise FormatError(f"no sample of step {self.step} of epoch {self.epoch} can be read")
            else:
                self.images[place] = b"" if self.decoder is None else 0
        return labels

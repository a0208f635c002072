"""From the samples of a step to a batch: jobs for the engine, one a batch."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shardkit.errors import CodecError, FormatError, ShardkitError
from shardkit.loader.augment import Chance
from shardkit.sample import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from shardkit.codecs.image import ImageDecoder
    from shardkit.loader.augment import Augmenter
    from shardkit.loader.buffers import BufferPool
    from shardkit.loader.config import LabelMode
    from shardkit.loader.read import LocalReader
    from shardkit.loader.rows import Rows

__all__ = ["BatchJob", "Skips", "labels_as"]

# Large enough that claiming a part costs nothing, small enough that the last parts of a batch end together.
_PART_SAMPLES = 8


class Skips:
    """The bad samples of a loader, counted against a budget. Safe to use from several threads.

    Args:
        most: How many may be left out; ``None`` where none may.

    Attributes:
        found: What was wrong with each bad sample, by its shard and row; one that comes up again counts once.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._lock = threading.Lock()
        self.found: dict[tuple[int, int], str] = {}

    def add(self, place: tuple[int, int], error: ShardkitError) -> None:
        """Count one bad sample.

        Args:
            place: Its shard and row.
            error: What is wrong; only its words are kept.

        Raises:
            ShardkitError: The error itself, where it is one too many, or none may be left out.
        """
        with self._lock:
            if self._most is not None:
                self.found[place] = str(error)
            if self._most is None or len(self.found) > self._most:
                if self._most is not None:
                    first = next(iter(self.found.values()))
                    error.add_note(
                        f"{len(self.found)} bad samples are more than max_skipped={self._most}; first: {first}"
                    )
                raise error


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
        samples: ``(n,)`` int64, its samples' numbers in the split.
        rows: Where they lie.
        num_rows: Its length, padding included.
        label_mode: The form of the labels, or ``None`` for no labels.
        num_classes: How many classes there are.
        weight: The weight of a real row, or ``None`` where nothing is padded.
        reader: Gives bytes.
        decoder: Makes pixels of them; ``None`` hands the bytes out.
        augmenter: Changes the pixels at random, or ``None``.
        keys: Looks up the samples' keys.
        skips: Takes bad samples.
        buffers: Gives memory for pictures.
    """

    epoch: int
    step: int
    samples: NDArray[np.int64]
    rows: Rows
    num_rows: int
    label_mode: LabelMode | None
    num_classes: int
    weight: float | None
    reader: LocalReader
    decoder: ImageDecoder | None
    augmenter: Augmenter | None
    keys: Callable[[], list[str]]
    skips: Skips
    buffers: BufferPool
    images: NDArray[Any] = None  # type: ignore[assignment]
    words: list[NDArray[np.uint64]] = None  # type: ignore[assignment]
    num_parts: int = 0
    bad: list[int] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.decoder is None:
            self.images = np.empty(self.num_rows, dtype=object)
        else:
            self.images = self.buffers.take((self.num_rows, *self.decoder.shape), self.decoder.dtype)
        if self.augmenter is not None:
            self.words = self.augmenter.draw(self.samples)
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
                    chance = Chance() if self.augmenter is None else self.augmenter.chance(self.words, place)
                    self.decoder.decode_into(data, self.images[place], *chance)
            except (CodecError, FormatError) as exc:
                exc.locate(
                    shard=self.reader.shard_name(where[0]), key=self.keys()[place], field="image", offset=where[1]
                )
                self.skips.add((where[0], int(rows.row[place])), exc)
                self.bad.append(place)
            except Exception as exc:
                exc.add_note(f"at sample {self.keys()[place]} of {self.reader.shard_name(where[0])}")
                raise

    def finish(self) -> Batch:
        """The batch."""
        sources = self._fill()
        labels = np.zeros(self.num_rows, dtype=np.int64)
        labels[sources >= 0] = self.rows.label[sources[sources >= 0]]
        arrays: dict[str, NDArray[Any]] = {"image": self.images}
        if self.label_mode is not None:
            arrays["label"] = labels_as(labels, self.label_mode, self.num_classes)
        if self.weight is not None:
            weights = np.full(self.num_rows, self.weight, dtype=np.float32)
            weights[len(self.rows) :] = 0.0
            arrays["sample_weight"] = weights
        count = len(self.rows)
        return Batch(
            arrays,
            labels=labels,
            epoch=self.epoch,
            step=self.step,
            keys=self.keys if not self.bad else lambda: [self.keys()[source] for source in sources[:count]],
            num_padding=self.num_rows - count,
            replaced=tuple(sorted(self.bad)),
        )

    def _fill(self) -> NDArray[np.int64]:
        """Give bad samples' places and padding to good samples of this batch, in turn.

        The result is ``(num_rows,)`` int64: where each row was taken from, -1 where an empty share gets zeros.
        """
        count = len(self.rows)
        sources = np.arange(self.num_rows)
        bad = set(self.bad)
        good = [place for place in range(count) if place not in bad]
        if count and not good:
            raise FormatError(f"no sample of step {self.step} of epoch {self.epoch} can be read")
        for number, place in enumerate([*sorted(bad), *range(count, self.num_rows)]):
            sources[place] = good[number % len(good)] if good else -1
            nothing = b"" if self.decoder is None else 0
            self.images[place] = self.images[sources[place]] if good else nothing
        return sources

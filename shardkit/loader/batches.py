"""From the pictures and labels of a step to a batch: jobs for the engine, one a batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from shardkit.codecs.header import EXTENSIONS, sniff
from shardkit.codecs.label import encode_class
from shardkit.sample import Batch, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from shardkit.loader.config import LabelMode
    from shardkit.loader.decoding import DecodeWork
    from shardkit.loader.rows import Rows
    from shardkit.loader.spare import Spares

__all__ = ["BatchJob", "LabelForm", "encoded_samples", "labels_as"]


@dataclass(frozen=True, slots=True)
class LabelForm:
    """What labels and weights a batch has.

    Attributes:
        mode: The form of the labels, or ``None`` for no labels.
        num_classes: How many classes there are.
        weight: The weight of a real row, or ``None`` where nothing is padded.
    """

    mode: LabelMode | None
    num_classes: int
    weight: float | None


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
        form: What labels and weights it has.
        work: Brings its pictures in.
        keys: Looks up the samples' keys.
        spares: Finds a sample where all are bad.
    """

    epoch: int
    step: int
    rows: Rows
    form: LabelForm
    work: DecodeWork
    keys: Callable[[], list[str]]
    spares: Spares

    @property
    def num_parts(self) -> int:
        """Parts of the work."""
        return self.work.num_parts

    def run(self, part: int) -> None:
        """Do one part of the work."""
        self.work.run(part)

    def finish(self) -> list[Batch]:
        """The batch."""
        images, bad, count = self.work.images, self.work.bad, len(self.rows)
        # What rows are taken from that no sample of the batch can fill: a sample of another one, or nothing.
        label, key = self.spares.bring(self.step, images[:1]) if count and len(bad) == count else (0, "")
        sources = self._fill() if bad or count < len(images) else None
        labels = self.rows.label.copy() if sources is None else np.append(self.rows.label, label)[sources]
        arrays: dict[str, NDArray[Any]] = {"image": images}
        if self.form.mode is not None:
            arrays["label"] = labels_as(labels, self.form.mode, self.form.num_classes)
        if self.form.weight is not None:
            weights = np.full(len(images), self.form.weight, dtype=np.float32)
            weights[count:] = 0.0
            arrays["sample_weight"] = weights
        batch = Batch(
            arrays,
            labels=labels,
            epoch=self.epoch,
            step=self.step,
            keys=self.keys if sources is None else partial(_keys_of, self.keys, key, sources[:count]),
            num_padding=len(images) - count,
            replaced=tuple(sorted(bad)),
        )
        return [batch]

    def _fill(self) -> NDArray[np.int64]:
        """Give bad samples' places and padding to good samples of this batch, in turn.

        The result is ``(num_rows,)`` int64: where each row was taken from, -1 where an empty share gets zeros, or
        where all are bad and get what the first one was given.
        """
        images, count = self.work.images, len(self.rows)
        sources = np.arange(len(images))
        bad = set(self.work.bad)
        good = [place for place in range(count) if place not in bad]
        nothing = b"" if images.dtype == object else 0
        for number, place in enumerate([*sorted(bad), *range(count, len(images))]):
            sources[place] = good[number % len(good)] if good else -1
            if good:
                images[place] = images[sources[place]]
            else:
                images[place] = images[0] if count else nothing
        return sources


def encoded_samples(batches: Iterable[Batch], *, is_raw: bool) -> Iterator[Sample]:
    """The samples of batches that were not decoded, one by one; bad ones are left out.

    Args:
        batches: The batches.
        is_raw: Whether images are arrays and not files.

    Yields:
        Each sample, with its members' bytes by extension.
    """
    for batch in batches:
        rows = zip(batch.keys, batch.arrays["image"], batch.labels, strict=False)
        for number, (key, image, label) in enumerate(rows):
            if number in batch.replaced:
                continue
            extension = "raw" if is_raw else EXTENSIONS.get(sniff(image) or "", "bin")
            yield Sample(key=key, fields={extension: image, "cls": encode_class(int(label))})


def _keys_of(keys: Callable[[], list[str]], spare: str, sources: NDArray[np.int64]) -> list[str]:
    """The keys of the samples that the rows were taken from; looking them up reads a table, so it is done once."""
    found = [*keys(), spare]
    return [found[source] for source in sources.tolist()]

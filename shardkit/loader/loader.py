"""`Loader`: a packed data set as batches."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import numpy as np

from shardkit.codecs.header import EXTENSIONS, sniff
from shardkit.codecs.label import encode_class
from shardkit.errors import ConfigError
from shardkit.loader.batches import BatchJob, Skips
from shardkit.loader.config import DecodeConfig, LoaderOptions, OrderConfig, RuntimeConfig
from shardkit.loader.engine import OrderedWork
from shardkit.loader.order import EpochOrder, Share
from shardkit.loader.read import LocalReader
from shardkit.loader.rows import RowCache
from shardkit.manifest import open_dataset
from shardkit.sample import ArraySpec, Batch, Sample
from shardkit.storage import HasPaths

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray

    from shardkit.codecs.image import ImageDecoder
    from shardkit.manifest import Manifest

__all__ = ["Loader"]

Config = TypeVar("Config", OrderConfig, DecodeConfig, RuntimeConfig, Share)


class Loader:
    """A split of a packed data set as batches, in an order that is a pure function of the settings and the epoch.

    Nothing is read but the manifest and the table of shards until the first batch is asked for. A loader holds no
    threads; each iteration has its own, and ends them when it ends, is left, or is dropped.

    Args:
        url: The data set: a folder's path or URL.
        split: The split.
        options: Keywords, see `OrderConfig`, `DecodeConfig`, `RuntimeConfig` and `Share` for what each means:

            order: ``batch_size=32`` (over all ranks), ``shuffle=False`` (``True``, ``"global"``), ``seed=0``,
            ``shuffle_buffer="256MB"``, ``chunk_size="2MB"``, ``lanes=16``, ``drop_remainder=None`` (drop exactly when
            shuffling).

            content: ``image_size=(256, 256)``, ``color_mode="rgb"``, ``label_mode="int"``,
            ``crop_to_aspect_ratio=False``, ``pad_to_aspect_ratio=False``, ``antialias=True``, ``decode=True``.

            ranks: ``rank=0``, ``world_size=1``.

            running: ``threads=None``, ``prefetch=2``, ``on_error="raise"``, ``max_skipped=100``.

    Attributes:
        manifest: What the data set is.
        num_samples: Samples in the split, over all ranks.
        class_names: The class names by integer label.
        rank: This process.
        world_size: How many processes there are.

    Raises:
        ConfigError: A setting is wrong.
        ManifestError: There is no data set, or it is damaged or too new.
        StorageError: It cannot be read.
    """

    def __init__(self, url: str | os.PathLike[str], split: str = "train", **options: Unpack[LoaderOptions]) -> None:
        order = _sorted_in(OrderConfig, options)
        self._decode = _sorted_in(DecodeConfig, options)
        self._runtime = _sorted_in(RuntimeConfig, options)
        self._share = _sorted_in(Share, options)
        if options:
            known = ", ".join(sorted(LoaderOptions.__annotations__))
            raise ConfigError(f"Loader has no setting {', '.join(options)}", advice=f"It has: {known}")
        self._dataset = open_dataset(url)
        self._split = self._dataset.split(split)
        self._order = order.numbers(self._split, self.manifest.fingerprint)
        self._decoder = _decoder(self._decode)
        self._weight = self._share.sample_weight(self._order)
        self._rows = RowCache(self._dataset, self._split, self._order.chunk_samples)
        self._skips = Skips(self._runtime.max_skipped if self._runtime.on_error == "skip" else None)
        self._next_epoch = 0
        if self._decode.label_mode == "binary" and len(self.class_names) != 2:
            raise ConfigError(
                f"label_mode='binary' needs two classes; there are {len(self.class_names)}",
                setting="label_mode", value="binary",
            )  # fmt: skip

    @property
    def manifest(self) -> Manifest:
        """What the data set is."""
        return self._dataset.manifest

    @property
    def num_samples(self) -> int:
        """Samples in the split, over all ranks."""
        return self._split.num_samples

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names by integer label."""
        return self.manifest.classes

    @property
    def url(self) -> str:
        """Where the data set lies."""
        return self._dataset.store.url

    @property
    def rank(self) -> int:
        """This process, from 0."""
        return self._share.rank

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        return self._share.world_size

    @property
    def signature(self) -> dict[str, ArraySpec]:
        """Shape and type of each array of a batch, by field, in the order in which iteration hands them out.

        The first axis is the batch; it is ``None`` where the last batch of an epoch is shorter.
        """
        first, last = (self._share.length(self._order, step) for step in (0, len(self) - 1))
        rows = first if first == last else None
        specs = {"image": ArraySpec((rows,), "object")}
        if self._decoder is not None:
            specs["image"] = ArraySpec((rows, *self._decoder.spec.shape), self._decoder.spec.dtype)
        mode = self._decode.label_mode
        if mode is not None:
            rest = {"int": (), "categorical": (len(self.class_names),), "binary": (1,)}[mode]
            specs["label"] = ArraySpec((rows, *rest), "int64" if mode == "int" else "float32")
        if self._weight is not None:
            specs["sample_weight"] = ArraySpec((rows,), "float32")
        return specs

    @property
    def skipped(self) -> list[str]:
        """What ``on_error="skip"`` left out so far: a line for each bad sample, in no order."""
        return [f"epoch {bad.epoch}, step {bad.step}: {bad.error}" for bad in self._skips.found]

    def __len__(self) -> int:
        """Steps in an epoch, the same on every rank."""
        return self._order.num_steps

    def batch_length(self, step: int) -> int:
        """Rows in this rank's batch at a step, padding included."""
        return self._share.length(self._order, step)

    def __iter__(self) -> Iterator[Any]:
        """The next epoch, batch by batch, each as Keras takes it: ``(images, labels)``, see `Batch.as_tuple`."""
        epoch = self._next_epoch
        self._next_epoch += 1
        return map(Batch.as_tuple, self.batches(epoch))

    def batches(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from any step on, at the same cost.

        Args:
            epoch: The epoch, from 0.
            start: The first step, 0 to ``len(loader)``.

        Returns:
            An iterator that works ahead in threads of its own.

        Raises:
            ConfigError: There is no such epoch or step.
            FormatError: While iterating: a shard is damaged or missing.
            CodecError: While iterating: a picture cannot be decoded.
        """
        if not 0 <= start <= len(self):
            raise ConfigError(
                f"start must be from 0 to {len(self)}, the steps of an epoch", setting="start", value=start
            )
        return self._work(EpochOrder(self._order, epoch), start, self._decoder)

    def samples(self, epoch: int = 0) -> Iterator[Sample]:
        """This rank's samples of an epoch as they lie in the shards, encoded, in order; padding left out.

        Args:
            epoch: The epoch, from 0.

        Yields:
            Each sample with its members' bytes by extension: ``{"jpg": ..., "cls": ...}``.

        Raises:
            FormatError: A shard is damaged or missing.
        """
        for batch in self._work(EpochOrder(self._order, epoch), 0, None):
            for key, image, label in zip(batch.keys, batch.arrays["image"], batch.labels, strict=False):
                extension = EXTENSIONS.get(sniff(image) or "", "bin")
                yield Sample(key=key, fields={extension: image, "cls": encode_class(int(label))})

    def keys(self, epoch: int = 0) -> list[str]:
        """The keys of this rank's samples in the order in which an epoch hands them out, padding left out.

        Args:
            epoch: The epoch, from 0.

        Returns:
            The keys: ``keys(epoch)[i]`` belongs to row ``i`` of the predictions of that epoch.
        """
        order = EpochOrder(self._order, epoch)
        parts = [samples for _, samples in order.batches(self._share)]
        return self._rows.keys(np.concatenate(parts))

    def __repr__(self) -> str:
        return (
            f"Loader({self.url!r}, split={self._split.name!r}, samples={self.num_samples}, "
            f"batch_size={self._order.batch_size}, steps={len(self)}, rank={self.rank} of {self.world_size})"
        )

    def _work(self, order: EpochOrder, start: int, decoder: ImageDecoder | None) -> OrderedWork[Batch]:
        store = self._dataset.store
        assert isinstance(store, HasPaths)
        reader = LocalReader(store, self._split)
        return OrderedWork(
            self._jobs(order, start, decoder, reader),
            threads=self._runtime.num_threads,
            ahead=self._runtime.prefetch,
            on_idle=reader.close,
        )

    def _jobs(
        self, order: EpochOrder, start: int, decoder: ImageDecoder | None, reader: LocalReader
    ) -> Generator[BatchJob]:
        numbers = self._order
        live = numbers.lanes * (2 * numbers.span // numbers.chunk_samples + 3) if numbers.shuffled else 2
        live = min(live, -(-numbers.num_samples // numbers.chunk_samples))
        for step, samples in order.batches(self._share, start):
            yield BatchJob(
                epoch=order.epoch,
                step=step,
                rows=self._rows.locate(samples, live, reader.announce),
                num_rows=self._share.length(numbers, step),
                label_mode=self._decode.label_mode,
                num_classes=len(self.class_names),
                weight=self._weight,
                reader=reader,
                decoder=decoder,
                keys=_KeyLookup(self._rows, samples),
                skips=self._skips,
            )


class _KeyLookup:
    """The keys of some samples, looked up when they are asked for."""

    __slots__ = ("_rows", "_samples")

    def __init__(self, rows: RowCache, samples: NDArray[np.int64]) -> None:
        self._rows = rows
        self._samples = samples

    def __call__(self) -> list[str]:
        return self._rows.keys(self._samples)


def _sorted_in(kind: type[Config], options: Any) -> Config:
    """A config from those of the user's keywords that are its fields, which are taken out of them."""
    names = [field.name for field in fields(kind) if field.name in options]
    return kind(**{name: options.pop(name) for name in names})


def _decoder(config: DecodeConfig) -> ImageDecoder | None:
    if not config.decode:
        return None
    from shardkit.codecs.image import ImageDecoder

    return ImageDecoder(
        image_size=config.image_size,
        color_mode=config.color_mode,
        crop_to_aspect_ratio=config.crop_to_aspect_ratio,
        pad_to_aspect_ratio=config.pad_to_aspect_ratio,
        antialias=config.antialias,
    )

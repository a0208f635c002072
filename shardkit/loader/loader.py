"""`Loader`: a packed data set as batches."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from shardkit.errors import ConfigError
from shardkit.loader.batches import LabelForm, encoded_samples
from shardkit.loader.config import DecodeConfig, LoaderOptions, OrderConfig, RuntimeConfig, sorted_in
from shardkit.loader.explain import Occurrence, explain_batch, find_samples, index_of_key
from shardkit.loader.order import EpochOrder
from shardkit.loader.pipeline import Pipeline
from shardkit.loader.quality import ShuffleQuality, measure_shuffle
from shardkit.loader.ranks import share_of, warn_of_shared_chunks
from shardkit.loader.recorder import Recorder
from shardkit.loader.skips import Skips
from shardkit.loader.state import Position, make_state, read_state
from shardkit.loader.tables import TableCache
from shardkit.manifest import open_dataset
from shardkit.storage import StoreOptions, check_environment, without_secrets
from shardkit.units import index_within, one_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

    from shardkit.loader.engine import OrderedWork
    from shardkit.loader.stats import Stats
    from shardkit.manifest import Manifest
    from shardkit.sample import ArraySpec, Batch, Sample, SampleRef

__all__ = ["Loader"]

_MOST_EPOCH = (1 << 62) - 1  # of a saved position


class Loader:
    """A split of a packed data set as batches, in an order that is a pure function of the settings and the epoch.

    Nothing is read but the manifest and the table of shards until the first batch is asked for. A loader holds no
    threads; each iteration has its own, and ends them when it ends, is left, or is dropped.

    Args:
        url: The data set: a folder's path or URL.
        split: The split.
        options: Keywords, see `OrderConfig`, `DecodeConfig`, `RuntimeConfig` and `Share` for what each means:

            order: ``batch_size=32`` (over all ranks), ``shuffle=False`` (``True``, ``"global"``), ``seed=0``,
            ``shuffle_buffer="256MB"``, ``chunk_size="auto"``, ``lanes=16``, ``drop_remainder=None`` (drop exactly when
            shuffling).

            content: ``image_size=(256, 256)`` and ``color_mode="rgb"``, or as arrays are kept, ``label_mode="int"``,
            ``crop_to_aspect_ratio=False``, ``pad_to_aspect_ratio=False``, ``antialias=True``, ``dtype="uint8"``,
            ``data_format="channels_last"``, ``augment=()``, ``decode=True``, ``image_limits=ImageLimits()``.

            ranks: ``rank=0`` (``"auto"`` asks JAX, ``TF_CONFIG`` and the usual launchers), ``world_size=1``.

            position: ``state=None``, a saved position to go on from, see `state`.

            running: ``threads=None``, ``prefetch=2``, ``on_error="raise"``, ``max_skipped=100``.

            storage: ``storage_options={}``, ``retries=8``, ``timeout=30.0``, see `StoreOptions`; ``cache=None``,
            ``cache_limit="50GB"``.

    Attributes:
        manifest: What the data set is.
        num_samples: Samples in the split, over all ranks.
        class_names: The class names by integer label.
        rank: This process.
        world_size: How many processes there are.

    Raises:
        ConfigError: A setting is wrong.
        StateError: The saved position is not of this data set and order.
        ManifestError: There is no data set, or it is damaged or too new.
        StorageError: It cannot be read.
    """

    def __init__(self, url: str | os.PathLike[str], split: str = "train", **options: Unpack[LoaderOptions]) -> None:
        self._made_with = (url, split, dict(options))
        order = sorted_in(OrderConfig, options)
        self._decode = sorted_in(DecodeConfig, options)
        self._runtime = sorted_in(RuntimeConfig, options)
        self._storage = sorted_in(StoreOptions, options)
        self._share = share_of(options)
        state = options.pop("state", None)
        if options:
            known = ", ".join(sorted(LoaderOptions.__annotations__))
            raise ConfigError(f"Loader has no setting {', '.join(options)}", advice=f"It has: {known}")
        self._dataset = open_dataset(url, self._storage, meanwhile=self._decode.load)
        self._split = self._dataset.split(split)
        self._order = order.numbers(
            self._split, self.manifest.fingerprint, packed_shuffled=self.manifest.packed_shuffled
        )
        self._pipeline = self._make_pipeline()
        self._next = self._handed_out = Position(0, 0)
        self._decode.check_classes(len(self.class_names))
        warn_of_shared_chunks(self._share, self._order)
        if state is not None:
            self.resume(state)

    def _make_pipeline(self) -> Pipeline:
        mode = self._decode.label_mode
        # Without labels there is nothing to weigh, and Keras would take the weights for labels.
        weight = None if mode is None else self._share.sample_weight(self._order)
        return Pipeline(
            dataset=self._dataset,
            split=self._split,
            order=self._order,
            decode=self._decode,
            decoder=self._decode.decoder(self.manifest.fields["image"]),
            form=LabelForm(mode, len(self.class_names), weight),
            runtime=self._runtime,
            tables=TableCache(self._dataset, self._split),
            skips=Skips(self._runtime.max_skipped if self._runtime.on_error == "skip" else None),
            recorder=Recorder(),
            cache=self._runtime.open_cache(self.manifest.fingerprint) if self._dataset.is_remote else None,
        )

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
        return self._pipeline.signature(self._share)

    @property
    def skipped(self) -> list[str]:
        """What ``on_error="skip"`` left out so far: a line for each bad sample, as it was found first."""
        return list(self._pipeline.skips.found.values())

    def __len__(self) -> int:
        """Steps in an epoch, the same on every rank."""
        return self._order.num_steps

    def batch_length(self, step: int) -> int:
        """Rows in this rank's batch at a step, padding included.

        Raises:
            ConfigError: There is no such step.
        """
        return self._share.length(self._order, index_within("step", step, 0, len(self) - 1))

    def __iter__(self) -> Iterator[Any]:
        """The next epoch, batch by batch, each as Keras takes it: ``(images, labels)``, see `Batch.as_tuple`.

        After `resume`, the rest of the epoch that was left.
        """
        start = self._next
        self._next = Position(start.epoch + 1, 0)
        return self._hand_out(self.batches(start.epoch, start.step))

    def _hand_out(self, batches: Iterator[Batch]) -> Iterator[Any]:
        for batch in batches:
            self._handed_out = Position(batch.epoch, batch.step).after(1, len(self))
            yield batch.as_tuple()

    def state(self, epoch: int | None = None, step: int = 0) -> dict[str, Any]:
        """A position as a small JSON document: the same on every rank, and good for any number of ranks and threads.

        Args:
            epoch: The epoch; without it, the position behind the last batch that iterating over the loader handed out.
            step: The next step of that epoch.

        Returns:
            A dictionary of plain values, for `json.dumps`, `resume` and ``Loader(..., state=...)``.

        Raises:
            ConfigError: There is no such epoch or step.
        """
        position = self._handed_out
        if epoch is not None:
            first = Position(index_within("epoch", epoch, 0, _MOST_EPOCH), 0)
            position = first.after(index_within("step", step, 0, _MOST_EPOCH), len(self))
        return make_state(self._order, self._split.name, position)

    def resume(self, state: Mapping[str, Any] | str | bytes) -> None:
        """Go on from a position: the next iteration begins there, at the same cost wherever it lies.

        Args:
            state: What `state` gave, or the same as JSON.

        Raises:
            StateError: It is of another data set, split or order; the message says what differs. Another number of
                ranks or threads, or another place of the data set, is welcome.
        """
        self._next = self._handed_out = self.position_in(state)

    def position_in(self, state: Mapping[str, Any] | str | bytes) -> Position:
        """The position that a state holds, without moving there.

        Args:
            state: What `state` gave, or the same as JSON.

        Returns:
            The position.

        Raises:
            StateError: As in `resume`.
        """
        return read_state(state, self._order, self._split.name)

    @property
    def position(self) -> Position:
        """Where the next iteration begins."""
        return self._next

    def explain(self, epoch: int, step: int) -> list[SampleRef]:
        """The samples of a global batch, from the order and the tables alone.

        Args:
            epoch: The epoch, from 0.
            step: The step, from 0.

        Returns:
            Key, label, shard, row, offset and rank of each sample, in the batch's order.

        Raises:
            ConfigError: There is no such epoch or step.
            ManifestError: A sample table is missing or damaged.
        """
        return explain_batch(self._dataset, self._split, EpochOrder(self._order, epoch), step, self.world_size)

    def find(self, key: str, epochs: Iterable[int] = (0,)) -> list[Occurrence]:
        """The steps in which a sample comes up.

        Args:
            key: Its key.
            epochs: The epochs to look in.

        Returns:
            One occurrence an epoch; none for an epoch in which the dropped remainder holds it.

        Raises:
            ConfigError: The split has no such key.
            ManifestError: A sample table is missing or damaged.
        """
        index = index_of_key(self._dataset, self._split, key)
        return find_samples(self._order, index, epochs, self.world_size)

    def shuffle_quality(self, epoch: int = 0) -> ShuffleQuality:
        """How well the order mixes, from the order and the tables alone; reads the labels of every sample table.

        Args:
            epoch: The epoch, from 0.

        Returns:
            Label mix and neighbour distance against an ideal shuffle, and what would make them better.

        Raises:
            ManifestError: A sample table is missing or damaged.
        """
        labels = [self._dataset.sample_table(row, whole=False).labels for row in self._split.shards]
        return measure_shuffle(self._order, np.concatenate(labels), epoch)

    def batches(self, epoch: int = 0, start: int = 0) -> OrderedWork[Batch]:
        """The batches of an epoch, from any step on, at the same cost.

        Args:
            epoch: The epoch, from 0.
            start: The first step, 0 to ``len(loader)``.

        Returns:
            An iterator that works ahead in threads of its own, until it ends or its ``close()`` is called.

        Raises:
            ConfigError: There is no such epoch or step.
            FormatError: While iterating: a shard is damaged or missing.
            CodecError: While iterating: a picture cannot be decoded.
        """
        start = index_within("start", start, 0, len(self))
        return self._pipeline.iterate(EpochOrder(self._order, epoch), start, self._share)

    def batch(self, epoch: int, step: int) -> Batch:
        """One batch, read alone and nothing ahead of it: for a look at any place of an epoch.

        Args:
            epoch: The epoch, from 0.
            step: The step, 0 to ``len(loader) - 1``.

        Returns:
            The batch, the same that `batches` gives at this step.

        Raises:
            ConfigError: There is no such epoch or step.
            FormatError: A shard is damaged or missing.
            CodecError: An image cannot be decoded.
        """
        step = index_within("step", step, 0, len(self) - 1)
        with closing(self._pipeline.iterate(EpochOrder(self._order, epoch), step, self._share, step + 1)) as batches:
            return next(batches)

    def samples(self, epoch: int = 0, *, worker: int = 0, num_workers: int = 1) -> Iterator[Sample]:
        """This rank's samples of an epoch as they lie in the shards, encoded, in order; no padding, no bad samples.

        Args:
            epoch: The epoch, from 0.
            worker: Which of several workers this is, where they share the rank's samples.
            num_workers: How many there are.

        Yields:
            Each sample with its members' bytes by extension: ``{"jpg": ..., "cls": ...}``, ``{"raw": ..., "cls": ...}``
            where pictures are stored raw.

        Raises:
            ConfigError: There is no such epoch or worker.
            FormatError: A shard is damaged or missing.
        """
        share = self._share.part(worker, num_workers, shuffled=self._order.shuffled)
        batches = self._pipeline.encoded().iterate(EpochOrder(self._order, epoch), 0, share)
        yield from encoded_samples(batches, is_raw=self.manifest.fields["image"].kind == "array")

    def keys(self, epoch: int = 0, *, padding: bool = False) -> list[str]:
        """The keys of this rank's samples in the order in which an epoch hands them out.

        Args:
            epoch: The epoch, from 0.
            padding: Whether rows that fill batches up to the other ranks' length are among them, as empty texts.

        Returns:
            The keys: with ``padding=True``, ``keys(epoch)[i]`` belongs to row ``i`` of the predictions of that epoch.
            Without several ranks there is no padding.
        """
        one_of("padding", padding, True, False)
        found: list[str] = []
        for step, samples in EpochOrder(self._order, epoch).batches(self._share):
            found += self._pipeline.tables.keys(samples)
            if padding:
                found += [""] * (self.batch_length(step) - len(samples))
        return found

    def stats(self, *, reset: bool = False) -> Stats:
        """Where the time went since the loader was made, or since figures were last reset, over all its iterations.

        Where decoding is the limit, some pictures are made smaller and decoded to see what that would give: a second or
        so of work on one core.

        Args:
            reset: Begin anew after this.

        Returns:
            Seconds by stage, bytes, samples, and the one change that would give most. It prints as a small table.
        """
        one_of("reset", reset, True, False)
        found = self._pipeline.stats()
        if reset:
            self._pipeline.recorder.reset()
        return found

    def __reduce__(self) -> Any:
        make, (url, split, options), positions = self._as_parts()
        storage_options, left_out = without_secrets(url, self._storage)
        return make, (url, split, {**options, "storage_options": storage_options}, left_out), positions

    def __deepcopy__(self, memo: dict[int, Any]) -> Loader:
        # Within a process the settings can be shared as they are, credentials and functions included.
        make, arguments, positions = self._as_parts()
        copy: Loader = make(*arguments)
        copy.__setstate__(positions)
        return copy

    def _as_parts(self) -> tuple[Any, ...]:
        url, split, options = self._made_with
        # A copy keeps its rank, whatever its own process would find, and is refused if the data set is another by then.
        options = {**options, "rank": self.rank, "world_size": self.world_size, "state": self.state(0)}
        return _make, (url, split, options), (self._next, self._handed_out)

    def __setstate__(self, positions: tuple[Position, Position]) -> None:
        self._next, self._handed_out = positions

    def __repr__(self) -> str:
        return (
            f"Loader({self.url!r}, split={self._split.name!r}, samples={self.num_samples}, "
            f"batch_size={self._order.batch_size}, steps={len(self)}, rank={self.rank} of {self.world_size})"
        )


def _make(url: str | os.PathLike[str], split: str, options: LoaderOptions, left_out: tuple[str, ...] = ()) -> Loader:
    """Make a loader from its pickled arguments."""
    check_environment(url, left_out)
    return Loader(url, split, **options)

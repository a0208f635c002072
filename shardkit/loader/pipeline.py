"""From the order of an epoch to its batches: what a loader's settings come to, put together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from shardkit.loader.advice import RawForm
from shardkit.loader.batches import BatchJob, LabelForm
from shardkit.loader.buffers import BufferPool
from shardkit.loader.decoding import DecodeWork, Decoding
from shardkit.loader.engine import OrderedWork
from shardkit.loader.gather import GatherJob, PixelArena
from shardkit.loader.read import LocalReader
from shardkit.loader.rows import RowArena
from shardkit.loader.spare import Spares
from shardkit.loader.stats import make_stats
from shardkit.loader.tables import KeyLookup
from shardkit.machine import usable_cores
from shardkit.manifest import BLOCK_BYTES
from shardkit.sample import ArraySpec
from shardkit.storage import HasPaths

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray

    from shardkit.codecs.image import ImageDecoder
    from shardkit.loader.config import DecodeConfig, RuntimeConfig
    from shardkit.loader.order import EpochOrder, OrderNumbers, Share
    from shardkit.loader.read import Reader
    from shardkit.loader.recorder import Recorder
    from shardkit.loader.rows import Rows
    from shardkit.loader.skips import Skips
    from shardkit.loader.stats import Stats
    from shardkit.loader.tables import TableCache
    from shardkit.manifest import DataSet, Split
    from shardkit.sample import Batch
    from shardkit.storage.cache import Cache

__all__ = ["Pipeline"]

# Larger samples are read into the batch one by one: that costs little beside copying them, and holds no memory.
_MOST_GATHERED_BYTES = 2**14
# In smaller chunks, whole blocks would mostly be read for samples of other chunks.
_LEAST_CHUNK_BLOCKS = 4
# Enough that handing over from thread to thread is little beside copying them.
_GROUP_SAMPLES = 4096

# How far ahead a server is asked: at first, and at most where that is too late again and again, or where nothing is
# decoded, so that it is always too late.
_AHEAD_BYTES = 64 * 2**20
_MOST_AHEAD_BYTES = 192 * 2**20
_MOST_STEPS_AHEAD = 4096
# How much of that may be on its way at once. Where decoding sets the pace, half of it is no slower, and the C library
# keeps up to 100 MB less of what has come.
_MOST_COMING_BYTES = 192 * 2**20
_MOST_COMING_DECODED_BYTES = 96 * 2**20

Step = tuple[int, "NDArray[np.int64]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Makes iterations, each with its own threads, files and buffers.

    Attributes:
        dataset: The data set.
        split: The split.
        order: The order as numbers.
        decode: What a sample becomes.
        decoder: What makes it so; ``None`` where bytes are handed out.
        form: What labels and weights batches have.
        runtime: How much runs at once.
        tables: The sample tables.
        skips: Takes bad samples.
        recorder: Takes what time all takes.
        cache: Keeps what is fetched from a server, if anything does.
    """

    dataset: DataSet
    split: Split
    order: OrderNumbers
    decode: DecodeConfig
    decoder: ImageDecoder | None
    form: LabelForm
    runtime: RuntimeConfig
    tables: TableCache
    skips: Skips
    recorder: Recorder
    cache: Cache | None

    @property
    def threads(self) -> int:
        """Working threads: the usable cores, and one where nothing is decoded.

        Reading from the page cache holds Python's lock most of the time, so that a second thread is only in the way;
        from the disk, chunks are announced ahead.
        """
        return self.runtime.threads or (usable_cores() if self.decoder is not None else 1)

    def signature(self, share: Share) -> dict[str, ArraySpec]:
        """Shape and type of each array of a batch, by field, see `Loader.signature`."""
        first, last = (share.length(self.order, step) for step in (0, self.order.num_steps - 1))
        rows = first if first == last else None
        specs = {"image": ArraySpec((rows,), "object")}
        if self.decoder is not None:
            specs["image"] = ArraySpec((rows, *self.decoder.spec.shape), self.decoder.spec.dtype)
        if (mode := self.form.mode) is not None:
            rest = {"int": (), "categorical": (self.form.num_classes,), "binary": (1,)}[mode]
            specs["label"] = ArraySpec((rows, *rest), "int64" if mode == "int" else "float32")
        if self.form.weight is not None:
            specs["sample_weight"] = ArraySpec((rows,), "float32")
        return specs

    def encoded(self) -> Pipeline:
        """The same, handing out bytes."""
        return replace(self, decoder=None)

    def iterate(self, epoch: EpochOrder, start: int, share: Share, stop: int | None = None) -> OrderedWork[Batch]:
        """The batches of an epoch.

        Args:
            epoch: The order of the epoch.
            start: The first step.
            share: The rank.
            stop: The step after the last; the end of the epoch without it.

        Returns:
            The batches, made ahead by threads that end with it.
        """
        reader = self._reader()
        augmenter = self.decode.augmenter(self.order, epoch.epoch) if self.decoder is not None else None
        how = Decoding(
            reader=reader,
            decoder=self.decoder,
            augmenter=augmenter,
            skips=self.skips,
            recorder=self.recorder,
        )
        return OrderedWork(
            self._jobs(epoch, start, stop, share, how),
            threads=self.threads,
            ahead=self._groups_ahead,
            on_idle=reader.close,
            on_abandon=reader.abandon,
            on_result=self.recorder.handed_out,
        )

    def _reader(self) -> Reader:
        store = self.dataset.store
        if isinstance(store, HasPaths):
            return LocalReader(store, self.split)
        from shardkit.loader.remote import RemoteReader
        from shardkit.storage.remote import RemoteStore

        assert isinstance(store, RemoteStore)
        chunk_bytes = self.split.num_bytes * self.order.chunk_samples // self.order.num_samples
        return RemoteReader(
            store,
            self.split,
            self.tables,
            chunk_samples=self.order.chunk_samples,
            by_block=self._gathers,
            most_bytes=self._live_chunks() * chunk_bytes + _AHEAD_BYTES + _MOST_AHEAD_BYTES,
            most_coming_bytes=_MOST_COMING_BYTES if self.decoder is None else _MOST_COMING_DECODED_BYTES,
            cache=self.cache,
        )

    def stats(self) -> Stats:
        """Where the time went so far, and what follows from it."""
        decoder = self.decoder
        raw = None if decoder is None or decoder.stored else RawForm(decoder.image_size, prod(decoder.shape))
        encoded = None if decoder is None or decoder.stored else decoder
        return make_stats(self.recorder, self.threads, encoded, raw)

    def _jobs(
        self, epoch: EpochOrder, start: int, stop: int | None, share: Share, how: Decoding
    ) -> Generator[BatchJob | GatherJob]:
        arena = RowArena(self.tables, self.split, self.order.chunk_samples, self._live_chunks())
        # For a single batch, only its own samples are worth reading, and not their chunks.
        alone = stop == start + 1
        pixels = self._pixels(how.reader) if self._gathers and not alone else None
        on_piece = None if alone else how.reader.announce if pixels is None else pixels.admit
        buffers = BufferPool(self._batches_alive)
        started = perf_counter()
        early: list[Rows] | None = None
        spares = Spares(epoch=epoch, share=share, split=self.split, tables=self.tables, how=how)
        steps_of_rank = islice(epoch.batches(share, start), None if stop is None else stop - start)
        for steps in self._grouped(self._announced(steps_of_rank, share, how.reader)):
            rows = arena.locate(np.concatenate([samples for _, samples in steps]), on_piece)
            batches, first = [], 0
            for step, samples in steps:
                keys = KeyLookup(self.tables, samples)
                images = self._images(buffers, share.length(self.order, step))
                mine = rows[first : first + len(samples)]
                work = DecodeWork(how, mine, samples, images, keys)
                batches.append(
                    BatchJob(
                        epoch=epoch.epoch, step=step, rows=mine, form=self.form, work=work, keys=keys, spares=spares
                    )
                )
                first += len(samples)
            job: BatchJob | GatherJob = batches[0]
            if pixels is None:
                arena.release(rows)
            elif how.reader.fetches and early is None:
                # Whole chunks would take too long to come: the first batch is made sample by sample.
                early = [rows]
            else:
                job = GatherJob(arena, pixels, [*(early or ()), rows], batches, self.recorder)
                early = []
            self.recorder.work(assemble=perf_counter() - started)
            yield job
            started = perf_counter()

    def _announced(self, steps: Iterator[Step], share: Share, reader: Reader) -> Iterator[Step]:
        """The same steps; where reading takes requests, the reader hears of them before."""
        if not reader.fetches:
            return steps
        from shardkit.loader.remote import RemoteReader, looked_ahead

        assert isinstance(reader, RemoteReader)
        step_bytes = max(self.split.num_bytes * share.length(self.order, 0) // self.order.num_samples, 1)
        ahead, most = (
            min(max(num_bytes // step_bytes, self._batches_alive), _MOST_STEPS_AHEAD)
            for num_bytes in (_AHEAD_BYTES if self.decoder is not None else _MOST_AHEAD_BYTES, _MOST_AHEAD_BYTES)
        )
        return looked_ahead(steps, reader, ahead, most, holds=self.decoder is not None)

    def _grouped(self, steps: Iterator[Step]) -> Iterator[list[Step]]:
        """Steps that are worked on together: more and more of them, so that the first batch is quick."""
        number = 1
        while group := list(islice(steps, number)):
            yield group
            number = min(2 * number, self._steps_at_once)

    def _images(self, buffers: BufferPool, num_rows: int) -> NDArray[np.generic]:
        if self.decoder is None:
            return np.empty(num_rows, dtype=object)
        return buffers.take((num_rows, *self.decoder.shape), self.decoder.dtype)

    @property
    def _batches_alive(self) -> int:
        """One group is in the user's hands and one on its way there, besides those made ahead and the one in work."""
        return (self._groups_ahead + 3) * self._steps_at_once

    @property
    def _groups_ahead(self) -> int:
        return -(-self.runtime.prefetch // self._steps_at_once)

    @property
    def _steps_at_once(self) -> int:
        return max(1, _GROUP_SAMPLES // self.order.batch_size) if self._gathers else 1

    def _live_chunks(self) -> int:
        """The most chunks that batches in work use, or that the order comes back to."""
        order = self.order
        ahead = self._batches_alive * order.batch_size // order.lanes
        live = order.lanes * ((2 * order.span + ahead) // order.chunk_samples + 3)
        return min(live, -(-order.num_samples // order.chunk_samples))

    @property
    def _gathers(self) -> bool:
        """Whether batches are gathered from chunks in memory: small samples that are kept just as they come out."""
        decoder, order = self.decoder, self.order
        if decoder is None or not decoder.copies or self.decode.augment:
            return False
        chunk_bytes = order.chunk_samples * self.split.num_bytes // order.num_samples
        return prod(decoder.shape) <= _MOST_GATHERED_BYTES and chunk_bytes >= _LEAST_CHUNK_BLOCKS * BLOCK_BYTES

    def _pixels(self, reader: Reader) -> PixelArena:
        assert self.decoder is not None
        places = self._live_chunks() * self.order.chunk_samples
        buffers = BufferPool(self.threads)
        return PixelArena(reader, self.tables, prod(self.decoder.shape), places, buffers, self.recorder)

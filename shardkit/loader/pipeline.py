"""From the order of an epoch to its batches: what a loader's settings come to, put together."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from shardkit.loader.advice import RawForm
from shardkit.loader.batches import BatchJob, LabelForm
from shardkit.loader.buffers import BufferPool
from shardkit.loader.decoding import DecodeWork, Decoding
from shardkit.loader.engine import OrderedWork
from shardkit.loader.gather import GatherWork, PixelArena
from shardkit.loader.read import LocalReader
from shardkit.loader.rows import RowArena
from shardkit.loader.stats import make_stats
from shardkit.loader.tables import KeyLookup
from shardkit.manifest import BLOCK_BYTES
from shardkit.storage import HasPaths

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from shardkit.codecs.image import ImageDecoder
    from shardkit.loader.batches import Work
    from shardkit.loader.config import DecodeConfig, RuntimeConfig
    from shardkit.loader.order import EpochOrder, OrderNumbers, Share
    from shardkit.loader.recorder import Recorder
    from shardkit.loader.skips import Skips
    from shardkit.loader.stats import Stats
    from shardkit.loader.tables import TableCache
    from shardkit.manifest import DataSet, Split
    from shardkit.sample import Batch

__all__ = ["Pipeline"]

# Larger samples are read into the batch one by one: that costs little beside copying them, and holds no memory.
_MOST_GATHERED_BYTES = 2**14
# In smaller chunks, whole blocks would mostly be read for samples of other chunks.
_LEAST_CHUNK_BLOCKS = 4


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

    def iterate(self, epoch: EpochOrder, start: int, share: Share, *, decode: bool = True) -> OrderedWork[Batch]:
        """The batches of an epoch.

        Args:
            epoch: The order of the epoch.
            start: The first step.
            share: The rank.
            decode: Whether pictures are decoded, where the settings say so.

        Returns:
            The batches, made ahead by threads that end with it.
        """
        assert isinstance(self.dataset.store, HasPaths)
        reader = LocalReader(self.dataset.store, self.split)
        augmenter = self.decode.augmenter(self.order, epoch.epoch) if decode else None
        how = Decoding(
            reader=reader,
            decoder=self.decoder if decode else None,
            augmenter=augmenter,
            skips=self.skips,
            recorder=self.recorder,
        )
        return OrderedWork(
            self._jobs(epoch, start, share, how),
            threads=self.runtime.num_threads,
            ahead=self.runtime.prefetch,
            on_idle=reader.close,
            on_result=self.recorder.handed_out,
        )

    def stats(self) -> Stats:
        """Where the time went so far, and what follows from it."""
        decoder = self.decoder
        raw = None if decoder is None or decoder.stored else RawForm(decoder.image_size, prod(decoder.shape))
        encoded = None if decoder is None or decoder.stored else decoder
        return make_stats(self.recorder, self.runtime.num_threads, encoded, raw)

    def _jobs(self, epoch: EpochOrder, start: int, share: Share, how: Decoding) -> Generator[BatchJob]:
        arena = RowArena(self.tables, self.split, self.order.chunk_samples, self._live_chunks())
        pixels = self._pixels(how) if self._gathers(how) else None
        buffers = BufferPool(self._batches_alive)
        started = perf_counter()
        for step, samples in epoch.batches(share, start):
            keys = KeyLookup(self.tables, samples)
            images = self._images(buffers, share.length(self.order, step), how.decoder)
            if pixels is None:
                rows = arena.locate(samples, how.reader.announce)
                arena.release(rows)
                work: Work = DecodeWork(how, rows, samples, images, keys)
            else:
                rows = arena.locate(samples, pixels.admit)
                one_by_one = DecodeWork(how, rows, samples, images, keys)
                work = GatherWork(arena, pixels, rows, one_by_one, self.recorder)
            job = BatchJob(epoch=epoch.epoch, step=step, rows=rows, form=self.form, work=work, keys=keys)
            self.recorder.work(assemble=perf_counter() - started)
            yield job
            started = perf_counter()

    def _images(self, buffers: BufferPool, num_rows: int, decoder: ImageDecoder | None) -> NDArray[np.generic]:
        if decoder is None:
            return np.empty(num_rows, dtype=object)
        return buffers.take((num_rows, *decoder.shape), decoder.dtype)

    @property
    def _batches_alive(self) -> int:
        """One batch is in the user's hands and one on its way there, besides those made ahead and the one in work."""
        return self.runtime.prefetch + 3

    def _live_chunks(self) -> int:
        """The most chunks that batches in work use, or that the order comes back to."""
        order = self.order
        ahead = self._batches_alive * order.batch_size // order.lanes
        live = order.lanes * ((2 * order.span + ahead) // order.chunk_samples + 3)
        return min(live, -(-order.num_samples // order.chunk_samples))

    def _gathers(self, how: Decoding) -> bool:
        """Whether batches are gathered from chunks in memory: small samples that are kept just as they come out."""
        decoder, order = how.decoder, self.order
        if decoder is None or not decoder.copies or how.augmenter is not None:
            return False
        chunk_bytes = order.chunk_samples * self.split.num_bytes // order.num_samples
        return prod(decoder.shape) <= _MOST_GATHERED_BYTES and chunk_bytes >= _LEAST_CHUNK_BLOCKS * BLOCK_BYTES

    def _pixels(self, how: Decoding) -> PixelArena:
        assert how.decoder is not None
        places = self._live_chunks() * self.order.chunk_samples
        buffers = BufferPool(self.runtime.num_threads)
        return PixelArena(how.reader, self.tables, prod(how.decoder.shape), places, buffers, self.recorder)

"""The limit of loading from a bucket: obstore's ranged requests for all bytes of the shards, and nothing else.

The ranges are those of shardkit's chunks, in random order; for the variants that end in ``even``, whole multiples of
8 MiB, which cost some servers less. Those that end in ``shuffle`` copy each sample out of what comes, verify it and
draw from a shuffle buffer; those that end in ``decode`` copy, verify and decode, in a thread a core. That is what every
loader has to do, without batches and without an order that can be gone on with.
"""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import obstore
from xxhash import xxh3_64_intdigest

import shardkit
from benchmarks.remote_shards import open_bucket, shards
from benchmarks.settings import BATCH_SIZE, IMAGE_SIZE
from shardkit.codecs.image import ImageDecoder
from shardkit.codecs.scratch import Scratch
from shardkit.manifest import open_dataset
from shardkit.storage import StoreOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.photos import Data
    from benchmarks.settings import Remote, Settings

RESUMES = False

Sample = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes ``start`` to ``stop`` of a shard, and the samples in them: offset from the start, size, digest."""

    name: str
    start: int
    stop: int
    samples: tuple[Sample, ...] = ()


_RANGE_BYTES = 8 * 2**20  # as shardkit's chunks
_HELD_BYTES = 256 * 10**6  # as shardkit's shuffle buffer


def prepare(data: Data, folder: Path) -> Path:  # noqa: ARG001
    """Nothing: it reads shardkit's shards."""
    return data.folder


def batches(folder: Path, settings: Settings) -> _BareRanges:  # noqa: ARG001
    """The loop; ``variant`` says how many requests are on their way at once, and what is done with what comes."""
    return _BareRanges(settings)


def even_ranges(remote: Remote) -> list[Range]:
    """The shards' bytes by whole multiples of 8 MiB."""
    return [
        Range(name, start, min(start + _RANGE_BYTES, size))
        for name, size in shards(remote)
        for start in range(0, size, _RANGE_BYTES)
    ]


def chunk_ranges(remote: Remote) -> list[Range]:
    """The bytes of the chunks that shardkit reads, in parts where they cross from one shard to the next."""
    options = StoreOptions(storage_options=remote.storage_options)
    loader = shardkit.Loader(remote.url, batch_size=BATCH_SIZE, shuffle=True, decode=False, **options.keywords)
    chunk_samples: int = loader.state()["order"]["chunk_samples"]
    dataset = open_dataset(remote.url, options)
    split = dataset.split("train")
    found = []
    for row, first in zip(split.shards, split.starts.tolist(), strict=False):
        image = dataset.sample_table(row).fields["image"]
        chunks = np.arange(first, first + len(image.offset)) // chunk_samples
        places = np.flatnonzero(np.diff(chunks, prepend=-1)).tolist()
        columns = (image.offset.tolist(), image.size.tolist(), image.xxh3_64.tolist())
        for place, after in zip(places, [*places[1:], len(chunks)], strict=True):
            samples = list(zip(*(column[place:after] for column in columns), strict=True))
            start, stop = samples[0][0], sum(samples[-1][:2])
            cut = tuple((offset - start, size, digest) for offset, size, digest in samples)
            found.append(Range(row.name, start, stop, cut))
    return found


class _Decode:
    """Cuts, verifies and decodes what has come, each thread into the same memory again and again."""

    def __init__(self, settings: Settings, most_samples: int) -> None:
        self._decoder = ImageDecoder(image_size=IMAGE_SIZE, antialias=settings.antialias)
        self._shape = (most_samples, *IMAGE_SIZE, 3)
        self._kept = threading.local()

    def __call__(self, wanted: Range, data: memoryview) -> None:
        if not hasattr(self._kept, "images"):
            self._kept.images, self._kept.scratch = np.ones(self._shape, dtype=np.uint8), Scratch()
        images, scratch = self._kept.images, self._kept.scratch
        for place, sample in enumerate(_cut(wanted, data)):
            self._decoder.decode_into(sample, images[place], scratch=scratch)


class _ShuffleBuffer:
    """Samples, of which one drawn at random makes room for each that comes."""

    def __init__(self, num_samples: int) -> None:
        self._num_samples = num_samples
        self._held: list[bytes] = []
        self._random = random.Random(0)

    def __call__(self, wanted: Range, data: memoryview) -> None:
        drawn = []
        for sample in _cut(wanted, data):
            if len(self._held) < self._num_samples:
                self._held.append(sample)
                continue
            place = int(self._random.random() * self._num_samples)
            drawn.append(self._held[place])
            self._held[place] = sample


def _cut(wanted: Range, data: memoryview) -> list[bytes]:
    found = []
    for offset, size, digest in wanted.samples:
        sample = bytes(data[offset : offset + size])
        if xxh3_64_intdigest(sample) != digest:
            raise ValueError(f"what came of {wanted.name} is damaged at {wanted.start + offset}")
        found.append(sample)
    return found


class _BareRanges:
    """All ranges in random order; each iteration asks for all of them anew."""

    def __init__(self, settings: Settings) -> None:
        assert settings.remote is not None
        at_once, _, form = settings.variant.partition(" ")
        self._bucket = open_bucket(settings.remote)
        self._at_once = int(at_once)
        self._ranges = even_ranges(settings.remote) if form == "even" else chunk_ranges(settings.remote)
        self._sample_bytes = sum(wanted.stop - wanted.start for wanted in self._ranges) / settings.num_samples
        self._draw = _ShuffleBuffer(int(_HELD_BYTES / self._sample_bytes)) if form == "shuffle" else None
        self._decode = _Decode(settings, max(len(wanted.samples) for wanted in self._ranges))
        self._threads = ThreadPoolExecutor(settings.workers) if form == "decode" else None
        random.Random(0).shuffle(self._ranges)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """As many numbers as samples would have come, in steps of at least a batch."""
        ranges, come = iter(self._ranges), asyncio.Queue[int | None]()
        left, kept = len(self._ranges), 0.0

        async def fetch() -> None:
            for wanted in ranges:
                come.put_nowait(await self._fetch(wanted))

        async def fetch_or_tell() -> None:
            try:
                await fetch()
            except BaseException:
                come.put_nowait(None)
                raise

        async def begin() -> list[asyncio.Task[None]]:
            return [asyncio.create_task(fetch_or_tell()) for _ in range(self._at_once)]

        async def some() -> tuple[int, int]:
            count = num_bytes = 0
            while count < left and num_bytes < BATCH_SIZE * self._sample_bytes:
                length = await come.get()
                if length is None:
                    await asyncio.gather(*tasks)
                    continue
                num_bytes += length
                count += 1
            return count, num_bytes

        with asyncio.Runner() as runner:
            tasks = runner.run(begin())
            while left:
                count, num_bytes = runner.run(some())
                left -= count
                kept += num_bytes / self._sample_bytes
                yield range(int(kept)), ()
                kept -= int(kept)

    async def _fetch(self, wanted: Range) -> int:
        found = await obstore.get_range_async(self._bucket, wanted.name, start=wanted.start, end=wanted.stop)
        if self._draw is not None:
            self._draw(wanted, memoryview(found))
        if self._threads is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, self._decode, wanted, memoryview(found))
        return len(found)

"""The limit of loading from a bucket: obstore's ranged requests for all bytes of the shards, and nothing else.

The ranges are those of shardkit's chunks, in random order; for the variants that end in ``even``, whole multiples of
8 MiB, which cost some servers less.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import obstore

import shardkit
from benchmarks.remote_shards import open_bucket, shards
from benchmarks.settings import BATCH_SIZE
from shardkit.manifest import open_dataset
from shardkit.storage import StoreOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.photos import Data
    from benchmarks.settings import Remote, Settings

RESUMES = False

Range = tuple[str, int, int]

_RANGE_BYTES = 8 * 2**20  # as shardkit's chunks


def prepare(data: Data, folder: Path) -> Path:  # noqa: ARG001
    """Nothing: it reads shardkit's shards."""
    return data.folder


def batches(folder: Path, settings: Settings) -> _BareRanges:  # noqa: ARG001
    """The loop; ``variant`` says how many requests are on their way at once."""
    return _BareRanges(settings)


def even_ranges(remote: Remote) -> list[Range]:
    """The shards' bytes by whole multiples of 2 MiB."""
    return [
        (name, start, min(start + _RANGE_BYTES, size))
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
        starts = np.flatnonzero(np.diff(chunks, prepend=-1))
        stops = (image.offset + image.size)[np.append(starts[1:], len(chunks)) - 1]
        found += [(row.name, *ends) for ends in zip(image.offset[starts].tolist(), stops.tolist(), strict=True)]
    return found


class _BareRanges:
    """All ranges in random order; each iteration asks for all of them anew."""

    def __init__(self, settings: Settings) -> None:
        assert settings.remote is not None
        at_once, _, form = settings.variant.partition(" ")
        self._bucket = open_bucket(settings.remote)
        self._at_once = int(at_once)
        self._ranges = even_ranges(settings.remote) if form else chunk_ranges(settings.remote)
        self._sample_bytes = sum(stop - start for _, start, stop in self._ranges) / settings.num_samples
        random.Random(0).shuffle(self._ranges)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """As many numbers as samples would have come, in steps of at least a batch."""
        ranges, come = iter(self._ranges), asyncio.Queue[int | None]()
        left, kept = len(self._ranges), 0.0

        async def fetch() -> None:
            for name, start, stop in ranges:
                come.put_nowait(len(await obstore.get_range_async(self._bucket, name, start=start, end=stop)))

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

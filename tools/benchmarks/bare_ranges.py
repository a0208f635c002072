"""The limit of loading from a bucket: obstore's ranged requests for all bytes of the shards, and nothing else."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import obstore

from benchmarks.remote_shards import open_bucket, shards
from benchmarks.settings import BATCH_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.photos import Data
    from benchmarks.settings import Settings

RESUMES = False

_RANGE_BYTES = 2 * 2**20  # as shardkit's chunks


def prepare(data: Data, folder: Path) -> Path:  # noqa: ARG001
    """Nothing: it reads shardkit's shards."""
    return data.folder


def batches(folder: Path, settings: Settings) -> _BareRanges:  # noqa: ARG001
    """The loop; ``variant`` says how many requests are on their way at once."""
    return _BareRanges(settings)


class _BareRanges:
    """All ranges of all shards in random order; each iteration asks for all of them anew."""

    def __init__(self, settings: Settings) -> None:
        assert settings.remote is not None
        self._bucket = open_bucket(settings.remote)
        found = shards(settings.remote)
        self._sample_bytes = sum(size for _, size in found) / settings.num_samples
        self._at_once = int(settings.variant)
        self._ranges = [
            (name, start, min(start + _RANGE_BYTES, size))
            for name, size in found
            for start in range(0, size, _RANGE_BYTES)
        ]
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

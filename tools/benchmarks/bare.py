"""The limit: decoding from memory into memory, in threads, and nothing else."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.settings import BATCH_SIZE, IMAGE_SIZE
from shardkit.codecs.image import ImageDecoder
from shardkit.codecs.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.photos import Data
    from benchmarks.settings import Settings

RESUMES = False

# Threads are started once for so many pictures, so that starting them does not count.
_ROUND = 4 * BATCH_SIZE
_MOST_PICTURES = 6_000


def prepare(data: Data, folder: Path) -> Path:  # noqa: ARG001
    """Nothing: the files are read into memory."""
    return data.folder


def batches(folder: Path, settings: Settings) -> _BareLoop:
    """The loop."""
    return _BareLoop(folder, settings)


class _BareLoop:
    """Pictures in memory, decoded into the same arrays again and again."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        files = sorted(folder.glob("*/*"))
        self._encoded = [path.read_bytes() for path in files[:: -(-len(files) // _MOST_PICTURES)]]
        self._decoder = ImageDecoder(image_size=IMAGE_SIZE, antialias=settings.antialias)
        self._images = np.ones((_ROUND, *IMAGE_SIZE, 3), dtype=np.uint8)
        self._threads = settings.workers

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Rounds without end, each given as one batch when all of it is decoded."""
        for start in itertools.cycle(range(0, len(self._encoded), _ROUND)):
            mine = self._encoded[start : start + _ROUND]
            places = iter(range(len(mine)))  # one step of an iterator is atomic, so threads share it
            threads = [threading.Thread(target=self._decode, args=(mine, places)) for _ in range(self._threads)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            yield self._images[: len(mine)], np.zeros(len(mine), dtype=np.int64)

    def _decode(self, encoded: list[bytes], places: Iterator[int]) -> None:
        decode_into, images, scratch = self._decoder.decode_into, self._images, Scratch()
        for place in places:
            decode_into(encoded[place], images[place], scratch=scratch)

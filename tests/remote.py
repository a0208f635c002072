"""A data set behind the fault server, and what a loader gives of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from servers.fault import FaultServer

import shardkit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["OPTIONS", "batches_of", "same_batches", "served"]

OPTIONS = {"batch_size": 8, "image_size": (16, 16), "shuffle": True}


@contextmanager
def served(folder: Path, *faults) -> Iterator[FaultServer]:
    """A folder as a web server has it, with faults."""
    with FaultServer(folder, *faults) as server:
        yield server


def batches_of(url, epoch=0, **options) -> list[tuple]:
    """All of an epoch: keys, pixels and labels of each batch."""
    loader = shardkit.Loader(url, **{**OPTIONS, **options})
    return [(batch.keys, *batch.arrays.values()) for batch in loader.batches(epoch)]


def same_batches(found: list[tuple], expected: list[tuple]) -> bool:
    """Whether two epochs are the same, bit for bit."""
    return len(found) == len(expected) and all(
        mine[0] == other[0] and all(map(np.array_equal, mine[1:], other[1:]))
        for mine, other in zip(found, expected, strict=True)
    )

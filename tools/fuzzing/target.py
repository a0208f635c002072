"""What is fuzzed: a parser, inputs that it takes, and changes that make hostile ones of them."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from fuzzing.mutate import changed_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

__all__ = ["TARGETS", "Target", "damaged", "find_target", "material"]

TARGETS = {
    "tar": "fuzzing.archives:TarTarget",
    "manifest": "fuzzing.tables:ManifestTarget",
    "shard-table": "fuzzing.tables:ShardTableTarget",
    "sample-table": "fuzzing.samples:SampleTableTarget",
    "image": "fuzzing.images:ImageTarget",
    "position": "fuzzing.positions:PositionTarget",
    "resume": "fuzzing.positions:ResumeTarget",
    "url": "fuzzing.places:PlaceTarget",
    "http": "fuzzing.replies:ReplyTarget",
}
"""Where each target is, by its name."""


class Target(Protocol):
    """A parser and its inputs.

    Attributes:
        seeds: Inputs that the parser takes without an error.
    """

    seeds: Sequence[bytes]

    def mutant(self, rng: Random) -> bytes:
        """Another input: a seed with something changed."""
        ...

    def parse(self, data: bytes) -> None:
        """Give an input to the parser, and look at what it makes of it.

        Raises:
            ShardkitError: The parser refuses it, as it may.
            AssertionError: What it makes of it is wrong.
        """
        ...


def find_target(name: str) -> Target:
    """A target by its name, ready to be used."""
    module, _, kind = TARGETS[name].partition(":")
    return cast("Callable[[], Target]", getattr(importlib.import_module(module), kind))()


def material(*patterns: str, most_bytes: int = 20_000) -> list[bytes]:
    """Small files of the test material; none unless ``SHARDKIT_MATERIAL`` names its folder.

    Args:
        patterns: Which, below the folder.
        most_bytes: The length of the longest that is taken.
    """
    named = os.environ.get("SHARDKIT_MATERIAL")
    if not named:
        return []
    paths = sorted(path for pattern in patterns for path in Path(named).glob(pattern) if path.is_file())
    return [path.read_bytes() for path in paths if path.stat().st_size <= most_bytes]


def damaged(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """A seed with bytes changed, whatever they mean."""
    return changed_bytes(rng, rng.choice(seeds), seeds)

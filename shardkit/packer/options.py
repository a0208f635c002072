"""The settings of a packing run, checked before anything is read."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shardkit.errors import ConfigError
from shardkit.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PackOptions", "parse_split"]

Check = Literal["header", "decode"]
ClassFrom = Literal["top", "path"]
_SPLIT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """The options that decide the bytes of a data set; see `pack` for what each means."""

    split: tuple[tuple[str, float], ...] = (("train", 1.0),)
    stratify: bool = False
    shard_bytes: int = 64 * 2**20
    shard_samples: int | None = None
    seed: int = 0
    shuffle: bool = True
    class_from: ClassFrom = "top"
    labels_from: Literal["folders", "table"] = "folders"

    def __post_init__(self) -> None:
        if self.shard_samples is not None and self.shard_samples < 1:
            raise ConfigError("shard_samples must be at least 1", setting="shard_samples", value=self.shard_samples)
        if not 0 <= self.seed < 1 << 64:
            raise ConfigError("seed must be from 0 to 2**64 - 1", setting="seed", value=self.seed)
        if self.class_from not in {"top", "path"}:
            raise ConfigError("class_from must be 'top' or 'path'", setting="class_from", value=self.class_from)

    @classmethod
    def of(cls, *, split: Mapping[str, float] | str | None, shard_size: str | int, **others: Any) -> PackOptions:
        """The options as a user gives them.

        Args:
            split: Fractions by name, or the same as text: ``"train=0.9,val=0.1"``.
            shard_size: A size such as ``"64MiB"``, or bytes.
            others: The other fields as they are.

        Returns:
            The options.

        Raises:
            ConfigError: One of them is wrong.
        """
        if isinstance(split, str):
            split = parse_split(split)
        size = parse_bytes(str(shard_size), setting="shard_size")
        return cls(split=_checked_split(split or {"train": 1.0}), shard_bytes=size, **others)

    def as_json(self) -> dict[str, Any]:
        """The options as the manifest keeps them."""
        return {
            "split": dict(self.split),
            "stratify": self.stratify,
            "shard_bytes": self.shard_bytes,
            "shard_samples": self.shard_samples,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "class_from": self.class_from,
            "labels_from": self.labels_from,
        }


def parse_split(text: str) -> dict[str, float]:
    """Fractions by name, from ``"train=0.9,val=0.1"``.

    Args:
        text: The fractions.

    Returns:
        The fraction of each split, in the order given.

    Raises:
        ConfigError: The text is not of that form.
    """
    split: dict[str, float] = {}
    for part in text.split(","):
        name, equals, fraction = (piece.strip() for piece in part.partition("="))
        try:
            value = float(fraction)
        except ValueError:
            equals = ""
        if not equals or name in split:
            raise ConfigError(
                "split must name each split once, with its fraction", setting="split", value=text,
                advice="Write it like train=0.9,val=0.1",
            )  # fmt: skip
        split[name] = value
    return split


def _checked_split(split: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    for name, fraction in split.items():
        if not _SPLIT_NAME.fullmatch(name):
            raise ConfigError("a split's name is made of letters, digits, _ and -", setting="split", value=name)
        if not 0 < fraction <= 1:
            raise ConfigError(
                f"the fraction of split {name} must be over 0 and at most 1", setting="split", value=fraction
            )
    total = sum(split.values())
    if abs(total - 1) > 1e-6:
        raise ConfigError(
            f"the fractions of the splits add up to {total:g}, not 1", setting="split", value=dict(split),
            advice="Name a split for every picture, such as train=0.9,val=0.1",
        )  # fmt: skip
    return tuple((name, float(fraction)) for name, fraction in split.items())


def usable_cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""The settings of a packing run, checked before anything is read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from shardkit.errors import ConfigError
from shardkit.packer.pictures import PictureOptions
from shardkit.units import float_of, one_of, parse_bytes, whole_number

__all__ = ["ClassFrom", "LabelsFrom", "PackOptions", "parse_split"]

ClassFrom = Literal["top", "path"]
LabelsFrom = Literal["folders", "table"]
_MAX_SHARD_BYTES = 1 << 62
_SPLIT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """The options that decide what is in a data set; see `pack` for what each means.

    ``pictures.check`` changes no byte but whether there is a data set at all: one that passed the weaker check is not
    taken for one that passed the stronger.
    """

    split: tuple[tuple[str, float], ...] = (("train", 1.0),)
    stratify: bool = False
    shard_bytes: int = 64 * 2**20
    shard_samples: int | None = None
    seed: int = 0
    shuffle: bool = True
    class_from: ClassFrom = "top"
    labels_from: LabelsFrom = "folders"
    pictures: PictureOptions = field(default_factory=PictureOptions)

    def __post_init__(self) -> None:
        if self.shard_samples is not None:
            whole_number("shard_samples", self.shard_samples, 1, _MAX_SHARD_BYTES)
        whole_number("seed", self.seed, 0, (1 << 64) - 1)
        for name in ("stratify", "shuffle"):
            if type(getattr(self, name)) is not bool:
                raise ConfigError(f"{name} must be True or False", setting=name, value=getattr(self, name))
        one_of("class_from", self.class_from, "top", "path")

    @classmethod
    def of(cls, *, split: Mapping[str, float] | str | None, shard_size: str | int, **others: Any) -> PackOptions:
        """The options as a user gives them.

        Args:
            split: Fractions by name, or the same as text: ``"train=0.9,val=0.1"``.
            shard_size: A size such as ``"64MiB"``, or bytes.
            others: The other fields as they are, and those of `PictureOptions`.

        Returns:
            The options.

        Raises:
            ConfigError: One of them is wrong.
        """
        if isinstance(split, str):
            split = parse_split(split)
        if isinstance(shard_size, str):
            size = parse_bytes(shard_size, setting="shard_size")
        else:
            whole_number("shard_size", shard_size, 1, _MAX_SHARD_BYTES)
            size = shard_size
        pictures = {known.name: others.pop(known.name) for known in fields(PictureOptions) if known.name in others}
        return cls(
            split=_checked_split({"train": 1.0} if split is None else split),
            shard_bytes=size,
            pictures=PictureOptions(**pictures),
            **others,
        )

    def about_shards(self, num_pictures: int, num_bytes: int) -> int:
        """About how many shards there will be, before they are planned.

        Args:
            num_pictures: The pictures.
            num_bytes: The bytes of their files.
        """
        by_bytes = num_pictures * self.pictures.planned_bytes(num_bytes // num_pictures) // self.shard_bytes
        return by_bytes if self.shard_samples is None else max(by_bytes, num_pictures // self.shard_samples)

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
            **self.pictures.as_json(),
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
    if not isinstance(split, Mapping) or not split:
        raise ConfigError("split must give a fraction by name", setting="split", value=split)
    fractions: Mapping[Any, Any] = split
    for name, fraction in fractions.items():
        if not isinstance(name, str) or not _SPLIT_NAME.fullmatch(name):
            raise ConfigError("a split's name is made of letters, digits, _ and -", setting="split", value=name)
        if not 0 < float_of(fraction) <= 1:
            raise ConfigError(
                f"the fraction of split {name} must be over 0 and at most 1", setting="split", value=fraction
            )
    total = math.fsum(map(float, split.values()))
    if abs(total - 1) > 1e-6:
        raise ConfigError(
            f"the fractions of the splits add up to {total:g}, not 1", setting="split", value=dict(split),
            advice="Name a split for every picture, such as train=0.9,val=0.1",
        )  # fmt: skip
    return tuple((name, float(fraction)) for name, fraction in split.items())

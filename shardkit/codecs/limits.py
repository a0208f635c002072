"""How much one image may take: pixels, memory, scans and seconds.

A decoder in C can be neither stopped nor asked how far it is. So what decoding takes is estimated from what the file
says of itself, before anything is decoded. The estimates are the same on any machine: what packs on one loads on all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from shardkit.errors import CodecError, ConfigError
from shardkit.units import float_of, format_bytes, parse_bytes, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DEFAULT_LIMITS", "MAX_PIXELS", "Cost", "ImageLimits", "checked_limits"]

MAX_PIXELS = 178_956_970
"""The most pixels an image has without other limits; Pillow refuses more, too."""

_MAX_MEMORY = 1_500_000_000  # 8 bytes for each of the most pixels, which most formats need
_MAX_SCANS = 100
_MAX_SECONDS = 10.0
_MOST = (1 << 62) - 1


class Cost(NamedTuple):
    """What decoding an image takes, as estimated.

    Attributes:
        memory: The most bytes at one time, besides those of the file.
        seconds: Of one core of a usual machine.
        scans: Passes over the image; more than one in a JPEG only.
    """

    memory: int
    seconds: float
    scans: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """How much one image may take; one that takes more is refused before it is decoded.

    Attributes:
        pixels: Width times height. Formats that Pillow decodes have Pillow's own limit, too, which is the default.
        memory: Bytes while it is decoded, besides those of the file: a number, or text such as ``"1.5GB"``.
        scans: Passes that a JPEG makes over the image. A progressive one has about 10.
        seconds: Of decoding, estimated from the header and the file's length, on one core of a usual machine.
        easy: Follows from the others: pixels and bytes together, under which no JPEG of one scan is over a limit.

    Raises:
        ConfigError: A limit is not a number from 1, or not a size; ``seconds`` is not a number over 0.
    """

    pixels: int = MAX_PIXELS
    memory: int | str = _MAX_MEMORY
    scans: int = _MAX_SCANS
    seconds: float = _MAX_SECONDS
    easy: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.memory, str):
            object.__setattr__(self, "memory", parse_bytes(self.memory, setting="memory"))
        for name in ("pixels", "memory", "scans"):
            whole_number(name, getattr(self, name), 1, _MOST)
        seconds = float_of(self.seconds)
        if not 0 < seconds < math.inf:
            raise ConfigError("seconds must be a number over 0", setting="seconds", value=self.seconds)
        object.__setattr__(self, "seconds", seconds)
        # Of one scan, a JPEG takes up to 8 bytes of memory a pixel, and under 100 ns for a pixel and a byte.
        easy = min(self.pixels, self.most_bytes // 8, int(min(self.seconds * 1e7, _MOST)))
        object.__setattr__(self, "easy", easy)

    @property
    def most_bytes(self) -> int:
        """``memory`` as a number."""
        return int(self.memory)

    def check_size(self, width: int, height: int) -> None:
        """Refuse sizes that no image has, or over the limit.

        Args:
            width: Pixels across.
            height: Pixels down.

        Raises:
            CodecError: The size is zero or over the limit.
        """
        if width < 1 or height < 1:
            raise CodecError(f"the picture is {width}x{height} pixels: empty")
        if width * height > self.pixels:
            raise CodecError(
                f"the picture is {width}x{height} pixels: over the limit of {self.pixels} pixels (--max-pixels)",
                advice=_wider("pixels"),
            )

    def allows(self, cost: Cost) -> bool:
        """Whether an image of this cost may be decoded."""
        return cost.memory <= self.most_bytes and cost.seconds <= self.seconds and cost.scans <= self.scans

    def check(self, cost: Cost) -> None:
        """Refuse what takes too much.

        Args:
            cost: What decoding takes.

        Raises:
            CodecError: It is over a limit.
        """
        if self.allows(cost):
            return
        if cost.scans > self.scans:
            name, what = "scans", f"the JPEG has over {self.scans} scans, the limit"
        elif cost.memory > self.most_bytes:
            name, what = "memory", f"decoding the picture takes about {format_bytes(cost.memory)} of memory: "
            what += f"over the limit of {format_bytes(self.most_bytes)}"
        else:
            name, what = "seconds", f"decoding the picture takes about {cost.seconds:.1f} s: "
            what += f"over the limit of {self.seconds:g} s"
        raise CodecError(f"{what} (--max-{name})", advice=_wider(name))

    def check_either(self, most: Cost, exactly: Callable[[], Cost]) -> None:
        """As `check`, where the exact cost takes longer to find than one that is certainly not less.

        Args:
            most: What decoding takes at most.
            exactly: Finds what it takes.

        Raises:
            CodecError: It is over a limit.
        """
        if not self.allows(most):
            self.check(exactly())

    def as_json(self) -> dict[str, float]:
        """The limits as a manifest keeps them."""
        return {"pixels": self.pixels, "memory": self.most_bytes, "scans": self.scans, "seconds": self.seconds}


DEFAULT_LIMITS = ImageLimits()
"""The limits without others."""


def checked_limits(value: object) -> ImageLimits:
    """The value of a setting ``image_limits``.

    Args:
        value: What was given.

    Raises:
        ConfigError: It is something else.
    """
    if not isinstance(value, ImageLimits):
        raise ConfigError("image_limits must be a shardkit.ImageLimits", setting="image_limits", value=value)
    return value


def _wider(name: str) -> str:
    return f"Leave the image out, make it smaller, or allow more with image_limits=ImageLimits({name}=...)"

"""What becomes of each picture when it is packed: checked and kept, or made smaller once for all epochs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from shardkit.codecs.header import EXTENSIONS, read_header
from shardkit.errors import ConfigError
from shardkit.units import whole_number

if TYPE_CHECKING:
    from shardkit.codecs.header import ImageHeader

__all__ = ["Check", "PictureOptions", "StoredPicture", "stored_picture"]

Check = Literal["header", "decode"]

_QUALITY = 90
# Bytes that a pixel of a JPEG takes by its quality: the mean over 64 photographs with a shorter side of 256, 4:2:0.
_BYTES_PER_PIXEL = ((1, 0.02), (50, 0.10), (75, 0.15), (85, 0.20), (90, 0.25), (95, 0.36), (98, 0.50), (100, 0.72))
_ASPECT_RATIO = 1.5  # of those photographs


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureOptions:
    """The options that decide what is kept of a picture; see `pack` for what each means.

    Raises:
        ConfigError: One of them is wrong, or two do not go together.
    """

    check: Check = "header"
    resize: int | None = None
    quality: int | None = None

    def __post_init__(self) -> None:
        # A tuple, not a set: what is not hashable is refused too.
        if self.check not in ("header", "decode"):
            raise ConfigError("check must be 'header' or 'decode'", setting="check", value=self.check)
        if self.resize is not None:
            whole_number("resize", self.resize, 1)
        if self.quality is not None:
            whole_number("quality", self.quality, 1, 100)
            if self.resize is None:
                raise ConfigError(
                    "quality is of pictures that are encoded again, and without resize none is", setting="quality",
                    value=self.quality, advice="Give resize (--resize) too",
                )  # fmt: skip

    @property
    def jpeg_quality(self) -> int:
        """The quality of JPEGs that are encoded again."""
        return _QUALITY if self.quality is None else self.quality

    def as_json(self) -> dict[str, Any]:
        """The options as the manifest keeps them; what is only of some data sets is only there."""
        found: dict[str, Any] = {"check": self.check}
        if self.resize is not None:
            found |= {"resize": self.resize, "quality": self.jpeg_quality}
        return found

    def planned_bytes(self, size: int) -> int:
        """The bytes that a picture will take, before it is read.

        Args:
            size: The bytes it has in the source.

        Returns:
            The same; with ``resize`` what is to be expected, since nothing but its length is known yet.
        """
        if self.resize is None:
            return size
        return min(size, int(self.resize**2 * _ASPECT_RATIO * _interpolated(self.jpeg_quality)))


class StoredPicture(NamedTuple):
    """A picture as it goes into a shard.

    Attributes:
        data: Its bytes.
        header: What they are.
        extension: Its member name's extension.
    """

    data: bytes
    header: ImageHeader
    extension: str


def stored_picture(data: bytes, options: PictureOptions) -> StoredPicture:
    """Look at a picture, and make of it what is to be kept.

    Args:
        data: The file's bytes.
        options: What is to be made of it.

    Returns:
        What is kept: the very bytes, unless the options say otherwise.

    Raises:
        CodecError: It is no picture that can be decoded.
    """
    header = read_header(data)
    if options.resize is not None:
        # Large libraries come in here, where they are needed.
        from shardkit.codecs.shrink import shrink

        shrunk = shrink(data, header, options.resize, options.jpeg_quality)
        if shrunk is not None:
            return StoredPicture(*shrunk, EXTENSIONS[shrunk[1].format])
    if options.check == "decode":
        from shardkit.codecs.image import ImageDecoder

        ImageDecoder(image_size=(8, 8)).decode(data)
    return StoredPicture(data, header, EXTENSIONS[header.format])


def _interpolated(quality: int) -> float:
    """Bytes per pixel at a quality. Plain arithmetic, the same on every machine: shards are cut by it."""
    low, high = next(pair for pair in itertools.pairwise(_BYTES_PER_PIXEL) if quality <= pair[1][0])
    return low[1] + (high[1] - low[1]) * (quality - low[0]) / (high[0] - low[0])

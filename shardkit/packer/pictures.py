"""What becomes of each picture when it is packed: checked and kept, made smaller, or decoded, once for all epochs."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from shardkit.codecs.colors import CHANNELS, PILLOW_MODES, ColorMode
from shardkit.codecs.header import EXTENSIONS, MAX_PIXELS, ImageHeader, read_header
from shardkit.codecs.limits import DEFAULT_LIMITS, ImageLimits, checked_limits
from shardkit.errors import ConfigError
from shardkit.machine import interruptible
from shardkit.units import one_of, whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shardkit.codecs.image import ImageDecoder

__all__ = ["Check", "PictureOptions", "StoreAs", "StoredPicture", "stored_picture"]

Check = Literal["header", "decode"]
StoreAs = Literal["encoded", "raw"]

_OF_RAW: Mapping[str, object] = MappingProxyType(
    {"image_size": None, "color_mode": "rgb", "crop_to_aspect_ratio": False, "pad_to_aspect_ratio": False}
)
_QUALITY = 90
_LARGE_PIXELS = 1 << 20  # a thread costs nothing beside decoding so many
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
    store: StoreAs = "encoded"
    image_size: tuple[int, int] | None = None
    color_mode: ColorMode = "rgb"
    crop_to_aspect_ratio: bool = False
    pad_to_aspect_ratio: bool = False
    image_limits: ImageLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        one_of("check", self.check, "header", "decode")
        one_of("store", self.store, "encoded", "raw")
        if self.store == "raw":
            self._check_raw()
        else:
            self._refuse_of_raw()
        checked_limits(self.image_limits)
        if self.resize is not None:
            whole_number("resize", self.resize, 1, MAX_PIXELS)
        if self.quality is not None:
            whole_number("quality", self.quality, 1, 100)
            if self.resize is None:
                raise ConfigError(
                    "quality is of pictures that are encoded again, and without resize none is", setting="quality",
                    value=self.quality, advice="Give resize (--resize) too",
                )  # fmt: skip

    def _check_raw(self) -> None:
        if self.resize is not None:
            raise ConfigError(
                "resize and store='raw' exclude each other", setting="resize", value=self.resize,
                advice="Raw pictures have the size of image_size (--image-size)",
            )  # fmt: skip
        if self.image_size is None:
            raise ConfigError(
                "store='raw' needs the size that all pictures get", setting="image_size", value=None,
                advice="Give image_size=(height, width) (--image-size HEIGHT WIDTH)",
            )  # fmt: skip
        for name in ("crop_to_aspect_ratio", "pad_to_aspect_ratio"):
            if type(getattr(self, name)) is not bool:
                raise ConfigError(f"{name} must be True or False", setting=name, value=getattr(self, name))
        size: object = self.image_size
        if isinstance(size, list):
            object.__setattr__(self, "image_size", tuple(size))
        height, width = self.decoder().image_size
        if height * width > MAX_PIXELS:
            raise ConfigError(f"image_size has over {MAX_PIXELS} pixels", setting="image_size", value=self.image_size)

    def _refuse_of_raw(self) -> None:
        for name in ("image_size", "color_mode", "crop_to_aspect_ratio", "pad_to_aspect_ratio"):
            value, usual = getattr(self, name), _OF_RAW[name]
            if type(value) is not type(usual) or value != usual:  # some things cannot be compared
                raise ConfigError(
                    f"{name} is only for store='raw'", setting=name, value=value,
                    advice="Pictures that are stored encoded get their size when they are read",
                )  # fmt: skip

    def decoder(self) -> ImageDecoder:
        """What makes arrays of pictures that are stored raw.

        Raises:
            ConfigError: The options are not a decoder's.
        """
        # Large libraries come in here, where they are needed.
        from shardkit.codecs.image import ImageDecoder

        assert self.image_size is not None
        return ImageDecoder(
            image_size=self.image_size,
            color_mode=self.color_mode,
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
            pad_to_aspect_ratio=self.pad_to_aspect_ratio,
            limits=self.image_limits,
        )

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """``(H, W, C)`` of every picture that is stored raw; ``None`` for encoded ones."""
        return None if self.image_size is None else (*self.image_size, CHANNELS[self.color_mode])

    @property
    def decodes(self) -> bool:
        """Whether pictures are decoded, not only looked at."""
        return self.shape is not None or self.resize is not None or self.check == "decode"

    @property
    def longest_extension(self) -> bytes:
        """The longest extension, with its dot, that a stored picture may have."""
        return b".jpeg" if self.shape is None else b".raw"

    @property
    def jpeg_quality(self) -> int:
        """The quality of JPEGs that are encoded again."""
        return _QUALITY if self.quality is None else self.quality

    def as_json(self) -> dict[str, Any]:
        """The options as the manifest keeps them; what is only of some data sets is only there."""
        found: dict[str, Any] = {"check": self.check}
        if self.resize is not None:
            found |= {"resize": self.resize, "quality": self.jpeg_quality}
        if self.image_size is not None:
            found |= {name: getattr(self, name) for name in ("store", *_OF_RAW)}
            found["image_size"] = list(self.image_size)
        if self.image_limits != DEFAULT_LIMITS:
            found["image_limits"] = self.image_limits.as_json()
        return found

    def planned_bytes(self, size: int) -> int:
        """The bytes that a picture will take, before it is read.

        Args:
            size: The bytes it has in the source.

        Returns:
            The same; for pictures that are stored raw their array's; with ``resize`` what is to be expected, since
            nothing but its length is known yet.
        """
        if self.shape is not None:
            return math.prod(self.shape)
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
    header = read_header(data, options.image_limits)
    if options.decodes and header.width * header.height > _LARGE_PIXELS:
        return interruptible(lambda: _made(data, header, options))
    return _made(data, header, options)


def _made(data: bytes, header: ImageHeader, options: PictureOptions) -> StoredPicture:
    if options.shape is not None:
        height, width, _ = options.shape
        array = ImageHeader("raw", width, height, PILLOW_MODES[options.color_mode], 1)
        return StoredPicture(options.decoder().decode(data).tobytes(), array, "raw")
    if options.resize is not None:
        from shardkit.codecs.shrink import shrink

        shrunk = shrink(data, header, options.resize, options.jpeg_quality, options.image_limits)
        if shrunk is not None:
            return StoredPicture(*shrunk, EXTENSIONS[shrunk[1].format])
    if options.check == "decode":
        from shardkit.codecs.image import ImageDecoder

        ImageDecoder(image_size=(8, 8), limits=options.image_limits).decode(data)
    return StoredPicture(data, header, EXTENSIONS[header.format])


def _interpolated(quality: int) -> float:
    """Bytes per pixel at a quality. Plain arithmetic, the same on every machine: shards are cut by it."""
    low, high = next(pair for pair in itertools.pairwise(_BYTES_PER_PIXEL) if quality <= pair[1][0])
    return low[1] + (high[1] - low[1]) * (quality - low[0]) / (high[0] - low[0])

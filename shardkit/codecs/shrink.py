"""Large pictures made smaller once, so that they need not be each time they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardkit.codecs.colors import PILLOW_MODES
from shardkit.codecs.encode import MAX_JPEG_SIDE, encode_jpeg, encode_png
from shardkit.codecs.header import ImageHeader
from shardkit.codecs.image import ImageDecoder
from shardkit.codecs.limits import DEFAULT_LIMITS
from shardkit.codecs.pillow import is_transparent

if TYPE_CHECKING:
    from shardkit.codecs.colors import ColorMode
    from shardkit.codecs.limits import ImageLimits

__all__ = ["shrink", "shrunk_size"]


def shrink(
    data: bytes | memoryview, header: ImageHeader, side: int, quality: int, limits: ImageLimits = DEFAULT_LIMITS
) -> tuple[bytes, ImageHeader] | None:
    """Make a picture smaller, the right way up, and encode it again.

    It is resized as `ImageDecoder` does it, antialiased, with its aspect ratio kept. It becomes a JPEG, a gray one
    where it is gray; one with transparency becomes a PNG, which keeps it, and so does one that is too long for a JPEG.

    Args:
        data: The file's bytes.
        header: What they say of themselves.
        side: The shorter side that it gets, in pixels.
        quality: The JPEG's, 1 to 100.
        limits: What decoding it may take.

    Returns:
        The new file's bytes and what they say of themselves; ``None`` where the shorter side is not larger than
        ``side``.

    Raises:
        CodecError: The bytes do not decode to a picture, or take too much.
    """
    if min(header.width, header.height) <= side:
        return None
    size = shrunk_size((header.height, header.width), side)
    color_mode = _color_mode(data, header)
    pixels = ImageDecoder(image_size=size, color_mode=color_mode, limits=limits).decode(data)
    as_png = color_mode == "rgba" or max(size) > MAX_JPEG_SIDE
    encoded = encode_png(pixels) if as_png else encode_jpeg(pixels, quality)
    return encoded, ImageHeader("png" if as_png else "jpeg", size[1], size[0], PILLOW_MODES[color_mode], 1)


def shrunk_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size with a given shorter side and the same aspect ratio; the longer side is rounded, halves up.

    Args:
        size: Height and width.
        side: The shorter side.

    Returns:
        Height and width.
    """
    shorter = min(size)
    height, width = ((2 * length * side + shorter) // (2 * shorter) for length in size)
    return height, width


def _color_mode(data: bytes | memoryview, header: ImageHeader) -> ColorMode:
    if header.format != "jpeg" and is_transparent(data, header.format):
        return "rgba"
    return "grayscale" if header.mode in ("1", "L") or header.mode.startswith("I") else "rgb"

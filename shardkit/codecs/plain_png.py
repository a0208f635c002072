"""The common kinds of PNG, decoded by OpenCV in two thirds of the time that Pillow takes.

libpng, which is inside, says on standard error what it does not like. So it gets the chunks that make the pixels and no
others, and only when their checksums hold. What it then still refuses is left to Pillow, whose word counts.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from shardkit.codecs.png import PngFrame

__all__ = ["decode_plain_png"]

_GRAY, _COLOUR, _COLOUR_ALPHA = 0, 2, 6  # PNG's colour types
_FROM_OPENCV = {
    (_GRAY, "rgb"): cv2.COLOR_GRAY2RGB,
    (_GRAY, "rgba"): cv2.COLOR_GRAY2RGBA,
    (_COLOUR, "rgb"): cv2.COLOR_BGR2RGB,
    (_COLOUR, "rgba"): cv2.COLOR_BGR2RGBA,
    (_COLOUR_ALPHA, "rgb"): cv2.COLOR_BGRA2RGB,
    (_COLOUR_ALPHA, "rgba"): cv2.COLOR_BGRA2RGBA,
}
_PLAIN = b"\0\0\0"  # compression, filter and interlacing methods
_END = b"\0\0\0\0IEND\xaeB`\x82"
_MAX_SIDE = 1_000_000  # libpng's
_length = struct.Struct(">I").unpack_from


def decode_plain_png(data: bytes | memoryview, frame: PngFrame, color_mode: str) -> np.ndarray[Any, Any] | None:
    """Decode a PNG of 8 bits a value, gray or colour, with or without alpha, neither interlaced nor animated.

    Args:
        data: The file.
        frame: What its chunks say.
        color_mode: ``rgb``, ``grayscale`` or ``rgba``.

    Returns:
        ``(h, w, C)`` uint8, the pixels that Pillow gives; ``None`` where it is of another kind, wants a conversion that
        Pillow rounds otherwise, or is damaged.
    """
    code = _FROM_OPENCV.get((frame.colour, color_mode))
    if (
        frame.bits != 8
        or frame.pixels is None
        or frame.animated
        or (code is None and (frame.colour, color_mode) != (_GRAY, "grayscale"))
        or (frame.transparent and color_mode == "rgba")
        or max(frame.width, frame.height) > _MAX_SIDE
    ):
        return None
    view = memoryview(data)
    if view[26:29] != _PLAIN or not _checksums_hold(view, 8, 33) or not _checksums_hold(view, *frame.pixels):
        return None
    start, stop = frame.pixels
    file = np.frombuffer(b"".join((view[:33], view[start:stop], _END)), np.uint8)
    try:
        pixels: np.ndarray[Any, Any] | None = cv2.imdecode(file, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None or code is None:
        return pixels if pixels is None else pixels[:, :, np.newaxis]
    return np.asarray(cv2.cvtColor(pixels, code))


def _checksums_hold(view: memoryview, at: int, stop: int) -> bool:
    """Whether the chunks that fill a part of the file are what their checksums say."""
    while at < stop:
        end = at + 8 + _length(view, at)[0]
        if end + 4 > stop or zlib.crc32(view[at + 4 : end]) != _length(view, end)[0]:
            return False
        at = end + 4
    return True

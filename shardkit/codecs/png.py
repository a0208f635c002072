"""The header of a PNG, read by hand, and its chunks down to the end chunk."""

from __future__ import annotations

import struct
from typing import NamedTuple

from shardkit.codecs.exif import exif_orientation, xmp_orientation
from shardkit.errors import CodecError

__all__ = ["PngFrame", "parse_png"]

# (bits per value, colour type) -> the mode Pillow decodes to
_MODES = {
    **dict.fromkeys([(2, 0), (4, 0), (8, 0)], "L"),
    **dict.fromkeys([(1, 3), (2, 3), (4, 3), (8, 3)], "P"),
    **dict.fromkeys([(8, 2), (16, 2)], "RGB"),
    **dict.fromkeys([(16, 4), (8, 6), (16, 6)], "RGBA"),
    (1, 0): "1",
    (16, 0): "I;16",
    (8, 4): "LA",
}
_MAX_OTHER_CHUNKS = 10_000
# There may be one, and Pillow decompresses up to 1 MB of each.
_MAX_PROFILES = 10
_XMP_NAME = b"XML:com.adobe.xmp\0\0\0"  # the two zero bytes behind the name: not compressed
_header = struct.Struct(">I4sIIBB").unpack_from
_chunk = struct.Struct(">I4s").unpack_from


class PngFrame(NamedTuple):
    """What the chunks say.

    Attributes:
        width: Pixels across, as stored.
        height: Pixels down, as stored.
        mode: Pillow's name for the kind of pixels.
        orientation: EXIF's, 1 to 8.
        animated: Whether it claims to hold an animation.
        bits: Bits per value.
        colour: PNG's colour type: 0 is gray, 2 colour, 3 a palette, 4 and 6 the first two with alpha.
        transparent: Whether some colour or some of the palette counts as transparent.
        pixels: Where the chunks with the pixels start and end; ``None`` where others lie between them.
    """

    width: int
    height: int
    mode: str
    orientation: int
    animated: bool
    bits: int
    colour: int
    transparent: bool
    pixels: tuple[int, int] | None


def parse_png(data: bytes | memoryview) -> PngFrame:
    """Walk a PNG's chunks from the first to the end chunk.

    Args:
        data: The file, starting with PNG's signature. What follows the end chunk does not matter.

    Returns:
        What it says.

    Raises:
        CodecError: It is cut or damaged.
    """
    exif = xmp = None
    animated = transparent = scattered = False
    start = stop = others = profiles = 0
    at = 33  # behind the header chunk
    try:
        _, first, width, height, bits, colour = _header(data, 8)
        mode = _MODES.get((bits, colour))
        if first != b"IHDR" or mode is None:
            raise CodecError("the PNG's header is damaged")
        while True:
            length, kind = _chunk(data, at)
            if kind == b"IDAT":
                start = start or at
                scattered = scattered or stop not in (0, at)
                stop = at + 12 + length
            elif kind == b"IEND":
                break
            elif (others := others + 1) > _MAX_OTHER_CHUNKS:
                raise CodecError(f"the PNG has over {_MAX_OTHER_CHUNKS} chunks besides its pixels")
            elif kind == b"iCCP" and (profiles := profiles + 1) > _MAX_PROFILES:
                raise CodecError(f"the PNG has over {_MAX_PROFILES} color profiles")
            elif kind == b"eXIf":
                exif = exif or exif_orientation(data[at + 8 : at + 8 + length])
            elif kind == b"iTXt" and data[at + 8 : at + 28] == _XMP_NAME:
                xmp = xmp or xmp_orientation(data[at + 28 : at + 8 + length])
            elif kind == b"acTL":
                animated = True
            elif kind == b"tRNS":
                transparent = True
            elif not kind.isalpha():
                raise CodecError(f"the PNG is damaged at byte {at}: no chunk starts there")
            at += 12 + length
    except struct.error as exc:
        raise CodecError("the PNG data end early: there is no end chunk") from exc
    if at + 12 > len(data):
        raise CodecError("the PNG data end early: the end chunk is cut")
    if not start:
        raise CodecError("the PNG has no picture data")
    pixels = None if scattered else (start, stop)
    return PngFrame(width, height, mode, exif or xmp or 1, animated, bits, colour, transparent, pixels)

"""The header of a JPEG, read by hand: a few microseconds instead of Pillow's hundred."""

from __future__ import annotations

import struct
from typing import NamedTuple

from shardkit.codecs.exif import exif_orientation, xmp_orientation
from shardkit.errors import CodecError

__all__ = ["JpegFrame", "check_frame", "has_end", "parse_jpeg"]

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; the three left out are other things
_BARE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # markers without a length: stuffing, TEM, RST0 to RST7, SOI
_APP1, _SCAN, _END = 0xE1, 0xDA, 0xD9
_XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"
_MAX_JUNK_BYTES = 1 << 16
_pair = struct.Struct(">H").unpack_from
_frame = struct.Struct(">BHHB").unpack_from


class JpegFrame(NamedTuple):
    """What the frame header and the metadata before it say.

    Attributes:
        width: Pixels across, as stored.
        height: Pixels down, as stored.
        precision: Bits per value, 8 in all but exotic files.
        components: Channels as stored: 1 is gray, 3 colour, 4 CMYK or YCCK.
        orientation: EXIF's, 1 to 8.
        end: Where the bytes after the frame header start.
    """

    width: int
    height: int
    precision: int
    components: int
    orientation: int
    end: int


def parse_jpeg(data: bytes | memoryview) -> JpegFrame:
    """Walk a JPEG's segments up to its frame header.

    Junk between segments is stepped over, as libjpeg does.

    Args:
        data: The file, starting with ``FF D8``.

    Returns:
        What it says.

    Raises:
        CodecError: It ends before the frame header, or there is none.
    """
    exif = xmp = None
    at = 2
    try:
        while True:
            if data[at] != 0xFF or (marker := data[at + 1]) == 0xFF:
                at = _next_segment(data, at)
                continue
            if marker in _FRAMES:
                return _read_frame(data, at, exif or xmp or 1)
            if marker in _BARE:
                at += 2
                continue
            if marker in (_SCAN, _END):
                raise CodecError("the JPEG has no frame header before its picture data")
            (length,) = _pair(data, at + 2)
            if marker == _APP1:
                body = data[at + 4 : at + 2 + length]
                if body[:6] == b"Exif\0\0":
                    exif = exif or exif_orientation(body)
                elif body[:29] == _XMP_NAME:
                    xmp = xmp or xmp_orientation(body)
            at += 2 + max(length, 2)
    except (IndexError, struct.error) as exc:
        raise CodecError("the JPEG data end within the header") from exc


def check_frame(frame: JpegFrame) -> None:
    """Refuse kinds of JPEG that no decoder here reads.

    Args:
        frame: The header.

    Raises:
        CodecError: It is one of them.
    """
    if frame.precision != 8:
        raise CodecError(f"the JPEG has {frame.precision} bits a value; only 8 can be decoded")
    if frame.components not in (1, 3, 4):
        raise CodecError(f"the JPEG has {frame.components} channels; only 1, 3 or 4 can be decoded")


def has_end(data: bytes | memoryview, frame: JpegFrame) -> bool:
    """Whether a JPEG's end marker is there.

    Within picture data a byte FF is never followed by D9, so the first ``FF D9`` behind the frame header is the
    end of the picture, and a file cut anywhere before has none. What follows does not matter: padding, a second
    picture (MPF), a film clip. A thumbnail's own end marker lies before the frame header and is not seen.

    Args:
        data: The file.
        frame: Its header.

    Returns:
        Whether the picture is whole, as far as that shows.
    """
    if data[-2:] == b"\xff\xd9":
        return True
    return b"\xff\xd9" in bytes(data[frame.end :])


def _read_frame(data: bytes | memoryview, at: int, orientation: int) -> JpegFrame:
    (length,) = _pair(data, at + 2)
    precision, height, width, components = _frame(data, at + 4)
    return JpegFrame(width, height, precision, components, orientation, at + 2 + length)


def _next_segment(data: bytes | memoryview, at: int) -> int:
    """The next place that may start a segment: an FF that something other than FF follows."""
    for place in range(at, at + _MAX_JUNK_BYTES):
        if data[place] == 0xFF and data[place + 1] != 0xFF:
            return place
    raise CodecError("the JPEG's header is overwritten with something else")

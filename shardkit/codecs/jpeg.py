"""The header of a JPEG, read by hand: a few microseconds instead of Pillow's hundred."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from shardkit.codecs.exif import exif_orientation, xmp_orientation
from shardkit.errors import CodecError

__all__ = ["JpegFrame", "check_frame", "count_scans", "has_end", "most_scans", "parse_jpeg"]

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15; the three left out are other things
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ARITHMETIC = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_BARE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # markers without a length: stuffing, TEM, RST0 to RST7, SOI
_TABLES = frozenset({0xC4, 0xDB, 0xDD, 0xE0, 0xE2, 0xED, 0xEE})  # the usual segments of which nothing is needed here
_APP1, _SCAN, _END = 0xE1, 0xDA, 0xD9
_ENDS = frozenset({_SCAN, _END})
_XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"
_MAX_JUNK_BYTES = 1 << 16
_MAX_SEGMENTS = 10_000  # a segment has up to 64 kB, so no metadata need that many
_pair = struct.Struct(">H").unpack_from
_frame = struct.Struct(">BHHB").unpack_from
_segment_start = re.compile(rb"\xff[^\xff]", re.DOTALL).search
# Within picture data a byte FF is followed by 0 (stuffing) or a restart marker.
_data_end = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL).search


class JpegFrame(NamedTuple):
    """What the frame header, the metadata before it, and the first scan's header say.

    Attributes:
        width: Pixels across, as stored.
        height: Pixels down, as stored.
        precision: Bits per value, 8 in all but exotic files.
        components: Channels as stored: 1 is gray, 3 colour, 4 CMYK or YCCK.
        orientation: EXIF's, 1 to 8.
        start: Where the frame header starts.
        scan: Where the first scan's header starts.
        one_scan: Whether the first scan has all that there is; libjpeg reads no others then.
        arithmetic: Whether it is arithmetic-coded.
    """

    width: int
    height: int
    precision: int
    components: int
    orientation: int
    start: int
    scan: int
    one_scan: bool
    arithmetic: bool


def parse_jpeg(data: bytes | memoryview) -> JpegFrame:
    """Walk a JPEG's segments up to its first scan.

    Junk between segments is stepped over, as libjpeg does.

    Args:
        data: The file, starting with ``FF D8``.

    Returns:
        What it says.

    Raises:
        CodecError: It ends before the first scan, has no frame header before it, or more segments than any JPEG.
    """
    exif = xmp = None
    at, start = 2, 0
    try:
        for _ in range(_MAX_SEGMENTS):
            if data[at] != 0xFF or (marker := data[at + 1]) == 0xFF:
                at = _next_segment(data, at)
                continue
            if marker in _TABLES:
                at += 2 + max(data[at + 2] << 8 | data[at + 3], 2)
                continue
            if marker in _ENDS:
                break
            if marker in _BARE:
                at += 2
                continue
            if marker in _FRAMES:
                if start:
                    raise CodecError("the JPEG has two frame headers")
                start = at
            (length,) = _pair(data, at + 2)
            if marker == _APP1:
                body = data[at + 4 : at + 2 + length]
                if body[:6] == b"Exif\0\0":
                    exif = exif or exif_orientation(body)
                elif body[:29] == _XMP_NAME:
                    xmp = xmp or xmp_orientation(body)
            at += 2 + max(length, 2)
        else:
            raise CodecError(f"the JPEG has over {_MAX_SEGMENTS} segments before its picture data")
        if not start or marker == _END:
            raise CodecError("the JPEG has no frame header before its picture data")
        precision, height, width, components = _frame(data, start + 4)
        form = data[start + 1]
        one_scan = form not in _PROGRESSIVE and data[at + 4] == components
    except (IndexError, struct.error) as exc:
        raise CodecError("the JPEG data end within the header") from exc
    return JpegFrame(width, height, precision, components, exif or xmp or 1, start, at, one_scan, form in _ARITHMETIC)


def most_scans(data: bytes | memoryview, frame: JpegFrame) -> int:
    """At most how many scans there are, told quickly: thumbnails and second images count, too.

    Args:
        data: The file.
        frame: Its header.

    Returns:
        The number, not less than `count_scans` finds.
    """
    if frame.one_scan:
        return 1
    return (data if isinstance(data, bytes) else bytes(data)).count(b"\xff\xda", frame.scan)


def count_scans(data: bytes | memoryview, frame: JpegFrame, most: int) -> int:
    """How many scans there are, segment by segment up to the end marker.

    Args:
        data: The file.
        frame: Its header.
        most: Where to stop counting.

    Returns:
        The number, at most ``most + 1``.
    """
    if frame.one_scan:
        return 1
    scans, at = 0, frame.scan
    while scans <= most and (found := _data_end(data, at)) is not None:
        at = found.start()
        marker = data[at + 1]
        if marker == _END:
            break
        scans += marker == _SCAN
        at += 2
        # What libjpeg does not know ends decoding there, so that it does not matter how it is stepped over.
        if marker not in _BARE and at + 2 <= len(data):
            at += max(_pair(data, at)[0], 2)
    return scans


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
    return b"\xff\xd9" in bytes(data[frame.scan :])


def _next_segment(data: bytes | memoryview, at: int) -> int:
    """The next place that may start a segment: an FF that something other than FF follows."""
    found = _segment_start(data, at, at + _MAX_JUNK_BYTES + 1)
    if found is None:
        if at + _MAX_JUNK_BYTES >= len(data):
            raise IndexError
        raise CodecError("the JPEG's header is overwritten with something else")
    return found.start()

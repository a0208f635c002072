"""Which way up a picture is: the orientation that EXIF or XMP metadata give.

The eight orientations are EXIF's: 1 is upright, 3 upside down, 6 and 8 lie on a side, 2, 4, 5 and 7 are mirrored.
Metadata are hints, often damaged; whatever does not make sense here counts as absent.
"""

from __future__ import annotations

import re
import struct

__all__ = ["exif_orientation", "xmp_orientation"]

_ORIENTATION_TAG = 0x0112
_BYTE_ORDERS = {b"II": "<", b"MM": ">"}
_INTEGERS = {3: "H", 4: "I"}  # the field types that a whole number may have
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_MAX_XMP_BYTES = 1 << 20


def exif_orientation(exif: bytes | memoryview) -> int | None:
    """The orientation in a block of EXIF.

    Args:
        exif: EXIF data, with or without its ``Exif`` prefix.

    Returns:
        1 to 8, or ``None`` where the block says nothing or makes no sense.
    """
    if exif[:6] == b"Exif\0\0":
        exif = exif[6:]
    order = _BYTE_ORDERS.get(bytes(exif[:2]))
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, at)
            if tag == _ORIENTATION_TAG and kind in _INTEGERS:
                (value,) = struct.unpack_from(order + _INTEGERS[kind], exif, at + 8)
                return value if 1 <= value <= 8 else None
    except struct.error:
        return None
    return None


def xmp_orientation(xmp: bytes | memoryview) -> int | None:
    """The orientation in a packet of XMP.

    Args:
        xmp: XMP data: XML, uncompressed.

    Returns:
        1 to 8, or ``None`` where the packet says nothing.
    """
    found = _XMP.search(xmp[:_MAX_XMP_BYTES])
    return int(found[1]) if found else None

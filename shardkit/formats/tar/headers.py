"""One header block: 512 bytes that say what a member is called, how long it is and what kind it is of."""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

from shardkit.errors import FormatError

__all__ = [
    "BLOCK",
    "MAX_EXTENSION",
    "MAX_SIZE",
    "ZERO_BLOCK",
    "Header",
    "padding",
    "parse_header",
]

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)
MAX_SIZE = 2**63 - 1
MAX_EXTENSION = 1 << 20  # bytes of a pax or long-name block; real ones are below 10 kB

# name, size, checksum, type, magic with version, prefix
_FIELDS = struct.Struct("100s 24x 12s 12x 8s s 100x 8s 80x 155s 12x")
_CHECKSUM = slice(148, 156)
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*|\0*")
_HIGH_BYTES = bytes(range(128, 256))
_SPACES = 8 * 0x20  # the checksum's own field counts as spaces
_USTAR = b"ustar\0"

_OTHER_FORMATS = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x9d": "compress",
    b"PK\x03\x04": "zip",
    b"<": "HTML or XML",
    b"{": "JSON",
}


class Header(NamedTuple):
    """What one header block says.

    Attributes:
        name: The name with its prefix; ``None`` where readers disagree on it.
        size: The length of the data in bytes, not negative, at most ``MAX_SIZE``.
        type: The type flag, one byte.
    """

    name: bytes | None
    size: int
    type: bytes


def padding(size: int) -> int:
    """How many bytes follow data up to the next block.

    Args:
        size: The length of the data in bytes.

    Returns:
        0 to 511.
    """
    return -size % BLOCK


def parse_header(block: bytes) -> Header:
    """Read one header block.

    Args:
        block: The 512 bytes; fewer when the file ends there.

    Returns:
        Its fields.

    Raises:
        FormatError: The block is short, its checksum is wrong, or its size is not one.
    """
    if len(block) < BLOCK:
        raise FormatError(
            f"the file ends inside a header, which begins with {_describe(block)}",
            advice="Fetch or write it again",
        )
    name, size, checksum, kind, magic, prefix = _FIELDS.unpack(block)
    if not _checksum_holds(block, _octal(checksum)):
        if block == ZERO_BLOCK:  # the walk itself takes one before a member for the end
            raise FormatError("a header stands before the end of the archive, and its member does not follow")
        raise FormatError(f"this is no tar header, or a damaged one: it begins with {_describe(block)}")
    name = name.partition(b"\0")[0]
    if prefix[0]:
        # GNU tar reads a prefix only behind this magic, tarfile behind any.
        name = prefix.partition(b"\0")[0] + b"/" + name if name and magic[:6] == _USTAR else None
    return Header(name, _parse_size(size), kind)


def _describe(block: bytes) -> str:
    """The first bytes of what is no header, and the format that begins so."""
    start = block.removeprefix(b"\xef\xbb\xbf").lstrip()
    guess = next((what for magic, what in _OTHER_FORMATS.items() if start.startswith(magic)), "")
    shown = repr(block[:16].rstrip(b"\0"))
    return f"{shown}, as {guess} does" if guess else shown


def _checksum_holds(block: bytes, stored: int | None) -> bool:
    # The low half of adler32 is 1 + the sum of the bytes mod 65521: exact for 256 bytes, faster than sum().
    halves = (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF) - 2
    unsigned = halves - sum(block[_CHECKSUM]) + _SPACES
    if stored == unsigned:
        return True
    # Some old writers summed signed bytes. A checksum that is octal has no high bytes of its own.
    num_high = BLOCK - len(block.translate(None, _HIGH_BYTES))
    return stored is not None and num_high > 0 and stored == unsigned - 256 * num_high


def _octal(field: bytes) -> int | None:
    found = _OCTAL.fullmatch(field)
    return None if found is None else int(found[1] or b"0", 8)


def _parse_size(field: bytes) -> int:
    # 0x80 begins a positive number in base 256, 0xff a negative one.
    size = int.from_bytes(field[1:], "big") if field[0] == 0x80 else _octal(field)
    if size is None:
        raise FormatError(f"the header's size is not a number from 0 up: {field!r}")
    if size > MAX_SIZE:
        raise FormatError(f"the header's size is beyond 2**63 - 1: {size}")
    return size

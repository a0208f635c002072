"""Headers for the members of a shard: ustar, the same bytes for the same name and size on any machine."""

from __future__ import annotations

import struct

from shardkit.errors import FormatError
from shardkit.formats.tar.headers import BLOCK, MAX_EXTENSION, MAX_SIZE, padding

__all__ = ["END_OF_ARCHIVE", "member_header", "member_length", "padding"]

END_OF_ARCHIVE = bytes(2 * BLOCK)

_NAME_BYTES = 100
_PREFIX_BYTES = 155
_MAX_USTAR_SIZE = 8**11 - 1
_PAX_NAME = b"././@PaxHeader"  # the name tarfile gives it too

# name, mode and owner, size, mtime, checksum, type, linkname, magic to device numbers, prefix
_FIELDS = struct.Struct("100s 24s 12s 12s 8s s 100x 88s 155s 12x")
_MODE_AND_OWNER = b"0000644\x000000000\x000000000\0"
_MTIME = b"00000000000\0"
_MAGIC_TO_DEVICE = b"ustar\x0000" + bytes(64) + b"0000000\x000000000\0"
_FIXED_SUM = sum(_MODE_AND_OWNER) + sum(_MTIME) + sum(_MAGIC_TO_DEVICE) + 8 * 0x20


def member_header(name: bytes, size: int) -> bytes:
    """The header blocks of a regular file: mode 0644, owner 0, time 0.

    Args:
        name: Its name: relative, without ``..`` among its parts, not ending in ``/``.
        size: The length of its data in bytes.

    Returns:
        512 bytes of ustar; before them a pax header where the name is too long or the size is 8 GiB or more.

    Raises:
        FormatError: The name or the size cannot be stored, or should not be.
    """
    _check(name, size)
    prefix, short = (b"", name) if len(name) <= _NAME_BYTES else _split(name)
    if short and size <= _MAX_USTAR_SIZE:
        return _block(short, prefix, size, b"0")
    return _pax_header(name, size, is_long=not short) + _block(
        # Readers take the name and size from pax. The cut name must not look like a directory's.
        short or name[:_NAME_BYTES].rstrip(b"/"),
        prefix,
        size if size <= _MAX_USTAR_SIZE else 0,
        b"0",
    )


def member_length(name: bytes, size: int) -> int:
    """How many bytes a regular file takes in a shard: headers, data and padding.

    Args:
        name: Its name, as for ``member_header``.
        size: The length of its data in bytes.

    Returns:
        A multiple of 512.

    Raises:
        FormatError: The name or the size cannot be stored, or should not be.
    """
    if len(name) <= _NAME_BYTES and size <= _MAX_USTAR_SIZE:
        _check(name, size)
        return BLOCK + size + padding(size)
    return len(member_header(name, size)) + size + padding(size)


def _check(name: bytes, size: int) -> None:
    if not name or name[:1] == b"/" or name[-1:] == b"/" or b"\0" in name:
        rule = "it must not be empty, begin or end with '/', or have a NUL in it"
        raise FormatError(f"{name[:100]!r} cannot be a member's name: {rule}")
    if b".." in name and b".." in name.split(b"/"):
        raise FormatError(f"{name[:100]!r} cannot be a member's name: it must not have '..' among its parts")
    if not 0 <= size <= MAX_SIZE:
        raise FormatError(f"{size} cannot be a member's size: it must be from 0 to 2**63 - 1")


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Prefix and name, cut at the last slash within 155 bytes of prefix; both empty where none will do."""
    slash = name.rfind(b"/", 0, _PREFIX_BYTES + 1)
    if slash < 1 or len(name) - slash - 1 > _NAME_BYTES:
        return b"", b""
    return name[:slash], name[slash + 1 :]


def _block(name: bytes, prefix: bytes, size: int, kind: bytes) -> bytes:
    digits = b"%011o\0" % size
    checksum = _FIXED_SUM + sum(name) + sum(prefix) + sum(digits) + kind[0]
    return _FIELDS.pack(name, _MODE_AND_OWNER, digits, _MTIME, b"%06o\0 " % checksum, kind, _MAGIC_TO_DEVICE, prefix)


def _pax_header(name: bytes, size: int, *, is_long: bool) -> bytes:
    records = b""
    if is_long:
        records += b"" if _is_utf8(name) else _record(b"hdrcharset", b"BINARY")
        records += _record(b"path", name)
    if size > _MAX_USTAR_SIZE:
        records += _record(b"size", b"%d" % size)
    if len(records) > MAX_EXTENSION:
        raise FormatError(f"{name[:100]!r}… cannot be a member's name: it is {len(name)} bytes long")
    return _block(_PAX_NAME, b"", len(records), b"x") + records + bytes(padding(len(records)))


def _record(keyword: bytes, value: bytes) -> bytes:
    """A pax record: its number counts the whole of it, the number's own digits included."""
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, keyword, value)


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True

"""The headers that stand before a member and change it: GNU long names and pax records."""

from __future__ import annotations

import re

from shardkit.errors import FormatError
from shardkit.formats.tar.headers import MAX_SIZE

__all__ = ["EXTENSION_TYPES", "Extensions", "check_global"]

EXTENSION_TYPES = frozenset([b"L", b"K", b"x", b"X"])  # X is Solaris's x
_MAX_HEADERS = 8
_RECORD = re.compile(rb"([1-9][0-9]{0,6}) ([^=\n\0]+)=")
_DIGITS = re.compile(rb"[0-9]{1,19}")
_SPARSE = (b"GNU.sparse.", b"SUN.holesdata", b"SCHILY.realsize")


class Extensions:
    """What the headers before a member say of it; what two readers would take differently is refused.

    Attributes:
        name: The member's name, where one of them gives it.
        size: The member's size in bytes, where one of them gives it.
    """

    __slots__ = ("_has_pax", "_num_headers", "name", "size")

    def __init__(self) -> None:
        self.name: bytes | None = None
        self.size: int | None = None
        self._has_pax = False
        self._num_headers = 0

    def add(self, kind: bytes, data: bytes) -> None:
        """Take in one more of the headers.

        Args:
            kind: Its type flag, one of ``EXTENSION_TYPES``.
            data: What it holds.

        Raises:
            FormatError: It is damaged, there are too many, or it contradicts an earlier one.
        """
        self._num_headers += 1
        if self._num_headers > _MAX_HEADERS:
            raise FormatError(f"more than {_MAX_HEADERS} extended headers stand before one member")
        if kind == b"L":
            self._set_name(data.partition(b"\0")[0])
        elif kind != b"K":
            self._add_pax(data)

    def _add_pax(self, data: bytes) -> None:
        if self._has_pax:
            raise FormatError("two pax headers stand before one member")
        self._has_pax = True
        records = _parse_records(data)
        if b"path" in records:
            self._set_name(records[b"path"])
        if b"size" in records:
            self.size = _parse_size(records[b"size"])

    def _set_name(self, name: bytes) -> None:
        if not name or b"\0" in name:
            raise FormatError("an extended header gives a name that is empty or has a NUL in it")
        # tarfile takes the first of several names, GNU tar the last, or pax's.
        if self.name not in (None, name):
            raise FormatError("two extended headers give one member different names")
        self.name = name


def check_global(data: bytes) -> None:
    """Refuse a global pax header that would change what members are called or how long they are.

    Args:
        data: What the header holds.

    Raises:
        FormatError: It does, or it is damaged.
    """
    for keyword in (b"path", b"size"):
        if keyword in _parse_records(data):
            raise FormatError(f"a global pax header sets every member's {keyword.decode()}")


def _parse_records(data: bytes) -> dict[bytes, bytes]:
    """The records by keyword, the last one of each; ``16 path=dog.jpg`` and a line feed is one."""
    records: dict[bytes, bytes] = {}
    start = 0
    while start < len(data):
        found = _RECORD.match(data, start)
        end = start + int(found[1]) if found else 0
        if found is None or found.end() >= end or data[end - 1 : end] != b"\n":
            raise FormatError(f"a pax header is damaged {start} bytes into its records")
        # GNU tar skips these blanks and takes what follows for the keyword; others take them for a part of it.
        if found[2][:1].isspace():
            raise FormatError("a pax header has a blank before a keyword, so that readers disagree on it")
        records[found[2]] = data[found.end() : end - 1]
        start = end
    sparse = next((keyword for keyword in records if keyword.startswith(_SPARSE)), None)
    if sparse is not None:
        raise FormatError(f"a pax header describes a sparse file by {sparse[:40]!r}")
    return records


def _parse_size(value: bytes) -> int:
    if not _DIGITS.fullmatch(value) or int(value) > MAX_SIZE:
        raise FormatError(f"a pax header's size is not a number from 0 to 2**63 - 1: {value[:40]!r}")
    return int(value)

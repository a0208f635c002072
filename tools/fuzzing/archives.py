"""Tar archives: bytes changed anywhere, and header fields changed under checksums that are right again."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from fuzzing.mutate import MOST_BYTES, ODD_NUMBERS, changed_bytes
from fuzzing.target import damaged, material
from shardkit.errors import FormatError
from shardkit.formats.tar import END_OF_ARCHIVE, Member, iter_members, member_header, padding, read_members

if TYPE_CHECKING:
    from random import Random

__all__ = ["TarTarget"]

_BLOCK = 512
# Offset and length of the fields of a header.
_FIELDS = ((0, 100), (100, 8), (108, 8), (124, 12), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155))
_TYPES = b"0\x007123456LKxXgSMVDNA\xff"


class TarTarget:
    """The walk through a shard, of a file that can seek and of a stream."""

    def __init__(self) -> None:
        names = [b"a.jpg", b"a.cls", b"class-1/00017.png", b"n" * 90 + b"/" + b"m" * 90 + b".jpg", b"x" * 300]
        shard = b"".join(_member(name, bytes([number]) * (number * 211)) for number, name in enumerate(names))
        pax = _extension(b"x", _record(b"path", b"long/name") + _record(b"mtime", b"1.5"))
        gnu = _extension(b"L", b"l" * 200 + b"\0")
        odd = pax + _member(b"b", b"one") + gnu + _member(b"c", b"") + _extension(b"g", _record(b"comment", b"c"))
        self.seeds = [
            shard + END_OF_ARCHIVE,
            odd + _member(b"d", b"two") + END_OF_ARCHIVE,
            _member(b"e.jpg", bytes(5000)) + END_OF_ARCHIVE,
        ]
        self._more = [*self.seeds, *material("libarchive/*.tar", "hostile/*.tar")]

    def mutant(self, rng: Random) -> bytes:
        """A changed archive."""
        if rng.random() < 0.4:
            return damaged(rng, self._more)
        data = bytearray(rng.choice(self._more))
        for _ in range(rng.choice((1, 1, 2, 3))):
            kind = rng.randrange(6)
            block = _BLOCK * rng.randrange(max(1, len(data) // _BLOCK))
            if kind == 0:
                data[block:block] = _some_extension(rng) * rng.choice((1, 1, 2, 9, 200))
            elif kind == 1:
                data[block : block + _BLOCK] = data[block : block + _BLOCK] * rng.choice((0, 2, 2, 100))
            else:
                data[block : block + _BLOCK] = _changed_header(rng, data[block : block + _BLOCK])
        return bytes(data[:MOST_BYTES])

    def parse(self, data: bytes) -> None:
        """Walk through it twice; both walks have to see the same."""
        found, error = _walked(io.BytesIO(data))
        streamed, error_of_stream = _walked(_Stream(data))
        assert found == streamed, "a stream has other members than a file"
        assert (error is None) == (error_of_stream is None), "a stream is refused, or a file, and not the other"
        if error is not None:
            assert error.offset is not None, "the error names no place"
            assert 0 <= error.offset <= len(data), "the error names a place outside of the file"
            raise error
        whole = [(member, data[member.offset : member.offset + member.size]) for member in found]
        assert list(read_members(io.BytesIO(data), size=len(data))) == whole, "members are read as other bytes"


class _Stream(io.BytesIO):
    def seekable(self) -> bool:
        return False


def _walked(file: io.BytesIO) -> tuple[list[Member], FormatError | None]:
    found: list[Member] = []
    try:
        found.extend(iter_members(file))
    except FormatError as error:
        return [], error
    return found, None


def _member(name: bytes, data: bytes) -> bytes:
    return member_header(name, len(data)) + data + bytes(padding(len(data)))


def _record(keyword: bytes, value: bytes) -> bytes:
    body = b" " + keyword + b"=" + value + b"\n"
    length = next(n for n in range(len(body), len(body) + 9) if len(b"%d" % n) + len(body) == n)
    return b"%d" % length + body


def _extension(kind: bytes, data: bytes) -> bytes:
    header = bytearray(member_header(b"././@PaxHeader", len(data)))
    header[156:157] = kind
    return _with_checksum(header) + data + bytes(padding(len(data)))


def _some_extension(rng: Random) -> bytes:
    keyword = rng.choice((b"path", b"size", b"linkpath", b" path", b"GNU.sparse.major", b"hdrcharset", b"\xff", b"a=b"))
    value = rng.choice(
        (b"", b"x", b"-1", b"0", b"512", b"9" * 30, b"x\0y", b"d/", b"\n", b"%d" % rng.choice(ODD_NUMBERS))
    )
    data = _record(keyword, value) * rng.choice((1, 1, 1, 2, 3000))
    if rng.random() < 0.3:
        data = changed_bytes(rng, data)
    return _extension(rng.choice((b"x", b"g", b"L", b"K", b"X")), data)


def _changed_header(rng: Random, block: bytearray) -> bytes:
    block = block.ljust(_BLOCK, b"\0")
    start, length = rng.choice(_FIELDS)
    if length == 1:
        value = bytes([rng.choice(_TYPES)])
    elif length == 12:
        number = rng.choice(ODD_NUMBERS)
        value = rng.choice((b"%011o\0" % number, b"\x80" + number.to_bytes(11, "big"), b"\xff" * 12, b"-1", b" 12 3 "))
    else:
        value = rng.choice((b"", b"/", b"a/", b"../x", b"\xff" * length, b"ustar  \0", b"n" * length, rng.randbytes(8)))
    block[start : start + length] = value[:length].ljust(length, b"\0")
    return _with_checksum(block)


def _with_checksum(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)

"""Archives for tests: as shardkit writes them, and header by header for what no writer would write."""

import io
from collections.abc import Iterable

import pytest

from shardkit.errors import FormatError
from shardkit.formats.tar import END_OF_ARCHIVE, iter_members, member_header, padding

__all__ = ["Stream", "archive", "entry", "padded", "pax_record", "raw_header", "refused"]


class Stream(io.BytesIO):
    """Bytes that can only be read through, and come in short pieces as from a socket."""

    def seekable(self) -> bool:
        return False

    def seek(self, *args):
        raise io.UnsupportedOperation("seek")

    def tell(self):
        raise io.UnsupportedOperation("tell")

    def read(self, size=-1, /):
        return super().read(min(size, 700) if size >= 0 else 700)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def archive(members: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A whole shard as shardkit writes it."""
    blocks = [member_header(name, len(data)) + data + bytes(padding(len(data))) for name, data in members]
    return b"".join(blocks) + END_OF_ARCHIVE


def raw_header(
    name: bytes = b"a.jpg",
    size: int | bytes = 0,
    kind: bytes = b"0",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    *,
    signed: bool = False,
) -> bytes:
    """One header block with a true checksum, whatever else is in it."""
    size_field = b"%011o\0" % size if isinstance(size, int) else size
    assert (len(size_field), len(name) <= 100, len(magic) <= 8) == (12, True, True)
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:124] = b"0000644\x000000000\x000000000\0"
    block[124:136] = size_field
    block[136:156] = b"00000000000\0" + b" " * 8
    block[156:157] = kind
    block[257 : 257 + len(magic)] = magic
    block[345 : 345 + len(prefix)] = prefix
    checksum = sum(byte - 256 if signed and byte > 127 else byte for byte in block)
    block[148:156] = b"%06o\0 " % checksum
    return bytes(block)


def entry(kind: bytes, data: bytes = b"", name: bytes = b"a.jpg", **fields) -> bytes:
    """A header, its data, and its padding."""
    return raw_header(name, len(data), kind, **fields) + padded(data)


def pax_record(keyword: bytes, value: bytes) -> bytes:
    body = b" " + keyword + b"=" + value + b"\n"
    length = next(n for n in range(len(body), len(body) + 9) if len(b"%d" % n) + len(body) == n)
    return b"%d" % length + body


def refused(data: bytes, **options) -> FormatError:
    """The error of reading an archive, which comes whether the file can seek or not."""
    with pytest.raises(FormatError):
        list(iter_members(Stream(data), shard="s.tar", **options))
    with pytest.raises(FormatError) as caught:
        list(iter_members(io.BytesIO(data), shard="s.tar", **options))
    assert caught.value.shard == "s.tar"
    assert isinstance(caught.value.offset, int)
    assert 0 <= caught.value.offset <= len(data)
    assert "members read before: " in str(caught.value)
    return caught.value

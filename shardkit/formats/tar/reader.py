"""From an archive to its regular members, or to an error: never to a clean end with members missing."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from shardkit.errors import FormatError
from shardkit.formats.tar.extensions import EXTENSION_TYPES, Extensions, check_global
from shardkit.formats.tar.headers import (
    BLOCK,
    MAX_EXTENSION,
    MAX_SIZE,
    ZERO_BLOCK,
    Header,
    padding,
    parse_header,
)
from shardkit.formats.tar.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Member", "iter_members", "read_members"]

PathOrFile: TypeAlias = str | os.PathLike[str] | BinaryIO

_PIECE = 1 << 16
_REGULAR = frozenset([b"0", b"\0", b"7"])
_WITHOUT_DATA = frozenset([b"5"])  # the size of a directory, if it has one, is no length of data
# Readers disagree on whether data follow these if they have a size: hard links for libarchive, others for GNU tar.
_MUST_BE_EMPTY = frozenset([b"1", b"2", b"3", b"4", b"6", b"V"])
_REFUSED = {
    b"S": "a sparse member, whose length is not that of its data",
    b"M": "a part of a multi-volume archive",
    b"g": "a global pax header between another header and its member",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive.

    Attributes:
        name: Its name, UTF-8 with ``surrogateescape``. Not safe as a path.
        size: The length of its data in bytes.
        offset: Where its data begin, in bytes from the start of the archive.
        header_offset: Where its first header block begins, extended ones included.
    """

    name: str
    size: int
    offset: int
    header_offset: int


def iter_members(file: PathOrFile, *, size: int | None = None, shard: str | None = None) -> Iterator[Member]:
    """Walk through an archive's regular files; directories, links, devices and pipes are skipped.

    Args:
        file: A path, or a binary file whose current position is the start of the archive. One that can seek
            may be moved between two members; one that cannot is read past each member before it is yielded.
        size: The length in bytes that the archive must have; with it the blocks that end one may be missing.
        shard: The name used in errors; by default the file's own.

    Yields:
        The members in their order.

    Raises:
        FormatError: The archive is cut, damaged, hostile, or read differently by different readers.
        OSError: The file cannot be read.
    """
    for member, _ in _walk_file(file, size, shard, with_data=False):
        yield member


def read_members(
    file: PathOrFile, *, size: int | None = None, shard: str | None = None
) -> Iterator[tuple[Member, bytes]]:
    """Read an archive's regular files with their bytes, each in memory at once; this works on pipes too.

    Args:
        file: A path, or a binary file whose current position is the start of the archive.
        size: The length in bytes that the archive must have; with it the blocks that end one may be missing.
        shard: The name used in errors; by default the file's own.

    Yields:
        Each member and its data.

    Raises:
        FormatError: The archive is cut, damaged, hostile, or read differently by different readers.
        OSError: The file cannot be read.
    """
    yield from _walk_file(file, size, shard, with_data=True)


def _walk_file(
    file: PathOrFile, size: int | None, shard: str | None, *, with_data: bool
) -> Iterator[tuple[Member, bytes]]:
    num_members = 0
    with _opened(file) as opened:
        try:
            for found in _walk(Source(opened, size), size, with_data=with_data):
                num_members += 1
                yield found
        except FormatError as error:
            error.what = f"{error.what} (members read before: {num_members})"
            error.locate(shard=shard or _name_of(file))
            raise


def _opened(file: PathOrFile) -> AbstractContextManager[BinaryIO]:
    if isinstance(file, (str, os.PathLike)):
        return open(file, "rb")
    return nullcontext(file)


def _name_of(file: PathOrFile) -> str | None:
    if isinstance(file, (str, os.PathLike)):
        return os.fspath(file)
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else None


def _walk(source: Source, size: int | None, *, with_data: bool) -> Iterator[tuple[Member, bytes]]:
    offset = 0
    while not ZERO_BLOCK.startswith(block := source.read_at(offset, BLOCK)):
        member, end = _read_entry(source, block, offset)
        if member is not None:
            yield member, _pass_data(source, member, end, with_data=with_data)
        offset = end
    _check_end(source, offset, len(block), size)


def _read_entry(source: Source, block: bytes, start: int) -> tuple[Member | None, int]:
    """The member that begins with this block, ``None`` for what is not a regular file, and where it ends."""
    offset = start
    extensions = Extensions()
    try:
        header = parse_header(block)
        if header.type == b"g":
            check_global(_read_extension(source, offset, header.size))
            return None, offset + BLOCK + header.size + padding(header.size)
        while header.type in EXTENSION_TYPES:
            extensions.add(header.type, _read_extension(source, offset, header.size))
            offset += BLOCK + header.size + padding(header.size)
            header = parse_header(source.read_at(offset, BLOCK))
        return _interpret(header, extensions, start, offset + BLOCK)
    except FormatError as error:
        error.locate(offset=offset)
        raise


def _read_extension(source: Source, offset: int, size: int) -> bytes:
    if size > MAX_EXTENSION:
        raise FormatError(f"an extended header claims {size} bytes, more than the {MAX_EXTENSION} that are allowed")
    length = size + padding(size)
    data = source.read_at(offset + BLOCK, length)
    if len(data) < length:
        raise FormatError("the file ends inside an extended header", advice="Fetch or write it again")
    # tarfile reads on into the padding where a name has no NUL at its end, GNU tar does not.
    if data.count(0, size) != length - size:
        raise FormatError("an extended header is padded with something other than zeros")
    return data[:size]


def _interpret(header: Header, extensions: Extensions, start: int, offset: int) -> tuple[Member | None, int]:
    kind = header.type
    if kind in _REGULAR:
        return _regular(header, extensions, start, offset)
    if kind not in _WITHOUT_DATA and kind not in _MUST_BE_EMPTY:
        raise FormatError(f"there is {_REFUSED.get(kind, f'a member of unknown type {kind!r}')}")
    if extensions.size is not None or (header.size and kind in _MUST_BE_EMPTY):
        raise FormatError(f"a member of type {kind!r} has a size, though it has no data")
    return None, offset


def _regular(header: Header, extensions: Extensions, start: int, offset: int) -> tuple[Member | None, int]:
    if header.name is None:
        raise FormatError("a header has a name prefix but no name or is not ustar, so that readers disagree on it")
    name = header.name if extensions.name is None else extensions.name
    size = header.size if extensions.size is None else extensions.size
    if not name:
        raise FormatError("a header has no name")
    is_old_directory = header.type == b"\0" and header.name.endswith(b"/")
    if is_old_directory and not size and extensions.name is None:
        return None, offset
    # Readers take one of these for a file and another for a directory, or disagree on whether it has data.
    if is_old_directory or name.endswith(b"/"):
        raise FormatError(f"a file is named like a directory, or a directory has data: {_shown(name)}")
    end = offset + size + padding(size)
    if end > MAX_SIZE:
        raise FormatError(f"member {_shown(name)} would end beyond 2**63 - 1")
    return Member(name.decode("utf-8", "surrogateescape"), size, offset, start), end


def _pass_data(source: Source, member: Member, end: int, *, with_data: bool) -> bytes:
    """Go past a member's data and padding, and give the data where they are wanted."""
    if source.covers(end):
        data = source.read_at(member.offset, member.size) if with_data else b""
        # A file may have become shorter since its length was taken.
        if source.skip_to(end) and (len(data) == member.size or not with_data):
            return data
    known = "" if source.length is None else f" at {source.length}"
    raise FormatError(
        f"member {_shown(member.name)} of {member.size} bytes goes past the end of the file{known}",
        advice="Fetch or write it again",
        offset=member.header_offset,
    )


def _check_end(source: Source, offset: int, num_zeros: int, size: int | None) -> None:
    """Demand that nothing but zeros follows the last member, which ends at ``offset``, and enough of them."""
    end = offset + num_zeros
    while piece := source.read_at(end, _PIECE):
        if piece.count(0) != len(piece):
            place = end + len(piece) - len(piece.lstrip(b"\0"))
            raise FormatError("there is data after the end of the archive", offset=place - place % BLOCK)
        end += len(piece)
    if end == 0:
        raise FormatError("the file is empty", offset=0)
    if (end - offset) % BLOCK or (size is None and end < offset + 2 * BLOCK):
        raise FormatError(
            "the file ends without the two whole zero blocks that end an archive",
            advice="It is cut off, or its writer was stopped: fetch or write it again",
            offset=end,
        )
    if size is not None and (end < size or source.has_more()):
        raise FormatError(f"the file is not {size} bytes long", advice="The index is of another file", offset=end)


def _shown(name: str | bytes) -> str:
    return repr(name[:100])

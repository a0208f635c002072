"""The bytes of an archive by offset, from a file that can seek or from one that can only be read through."""

from __future__ import annotations

import os
from typing import BinaryIO

from shardkit.errors import FormatError

__all__ = ["Source"]

_PIECE = 1 << 20


class Source:
    """A file, from where it stands to its end.

    Args:
        file: A binary file; the archive begins at its current position.
        size: The length the archive must have in bytes, where it is known.

    Attributes:
        length: The archive's length in bytes; ``None`` for a stream of unknown length.

    Raises:
        FormatError: The file is longer or shorter than ``size``.
    """

    __slots__ = ("_file", "_position", "_seekable", "_start", "length")

    def __init__(self, file: BinaryIO, size: int | None) -> None:
        seekable = getattr(file, "seekable", None)
        self._file = file
        self._seekable = seekable is not None and bool(seekable())
        self._start = 0
        self._position = 0
        self.length = size
        if self._seekable:
            self._start = file.tell()
            file.seek(0, os.SEEK_END)
            self.length = file.tell() - self._start
        if size is not None and self.length != size:
            raise FormatError(
                f"the file is {self.length} bytes long, and {size} are expected",
                advice="It is cut off, or the index is of another file",
                offset=min(size, self.length or 0),
            )

    def read_at(self, offset: int, count: int) -> bytes:
        """Read bytes; a stream goes there by reading what lies before.

        Args:
            offset: Where, in bytes; for a stream not before what has been read.
            count: How many.

        Returns:
            The bytes; fewer when the archive ends there.
        """
        if self.length is not None:
            count = min(count, self.length - offset)
        if self._seekable:
            self._file.seek(self._start + offset)
        elif not self.skip_to(offset):
            return b""
        first = self._read(count)
        if len(first) >= count or not first:
            return first
        pieces = [first]
        missing = count - len(first)
        while missing > 0 and (piece := self._read(missing)):
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def covers(self, offset: int) -> bool:
        """Whether the archive may reach so far: false only where its length is known and less.

        Args:
            offset: A place in bytes.
        """
        return self.length is None or offset <= self.length

    def skip_to(self, offset: int) -> bool:
        """Go on to a place, reading a stream up to there.

        Args:
            offset: The place in bytes.

        Returns:
            Whether the archive reaches so far.
        """
        if self._seekable or not self.covers(offset):
            return self.covers(offset)
        while self._position < offset:
            if not self._read(offset - self._position):
                return False
        return True

    def has_more(self) -> bool:
        """Whether a stream goes on after the length it was said to have."""
        return not self._seekable and bool(self._read(1))

    def _read(self, count: int) -> bytes:
        # In pieces, so that a size that lies never allocates more than there is.
        data = self._file.read(min(count, _PIECE)) if count > 0 else b""
        self._position += len(data)
        return data

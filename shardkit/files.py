"""Files that are opened without ever waiting, and read no further than they are long.

A path may lead to anything: a FIFO that nobody writes to blocks whoever opens it, a device has no end, and what the
system makes up under ``/proc`` tells no length. Only regular files are opened here; links to them are followed.
"""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import stat
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "is_temporary",
    "open_reader",
    "open_regular",
    "pread_all",
    "read_regular",
    "regular_size",
    "temporary_name",
]

_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
}
_BUFFER_BYTES = 2**18
_TEMPORARY = re.compile(r"\.shardkit-[0-9a-f]{16}")


def temporary_name() -> str:
    """A new name for a file that is renamed once it is whole."""
    return f".shardkit-{secrets.token_hex(8)}"


def is_temporary(name: str) -> bool:
    """Whether a file has such a name, so that a stopped run may have left it. No other file may be deleted."""
    return _TEMPORARY.fullmatch(name) is not None


def open_regular(path: str | bytes | os.PathLike[str], flags: int = os.O_RDONLY, *, dir_fd: int | None = None) -> int:
    """Open a file, if it is a regular one; also for ``open(..., opener=open_regular)``.

    Args:
        path: The file, or a link to it.
        flags: As for `os.open`. With ``os.O_NOFOLLOW`` a link is refused.
        dir_fd: The folder that a relative path begins in.

    Returns:
        The descriptor.

    Raises:
        OSError: It cannot be opened, or is anything but a regular file.
    """
    # Looked at first, since opening alone does something to a device or to who waits at the other end of a FIFO.
    _check(os.stat(path, dir_fd=dir_fd, follow_symlinks=not flags & os.O_NOFOLLOW).st_mode, path)
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        _check(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def read_regular(path: str | os.PathLike[str], most_bytes: int | None = None) -> bytes:
    """The whole of a regular file.

    Args:
        path: The file, or a link to it.
        most_bytes: The longest it may be.

    Returns:
        Its bytes.

    Raises:
        OSError: It cannot be read, is no regular file, is longer, or has another length than the system says.
    """
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        if most_bytes is not None and size > most_bytes:
            raise OSError(errno.EFBIG, f"it has {size} bytes where at most {most_bytes} were expected", os.fspath(path))
        # One byte more, so that a file is found out that has more than it tells.
        data = pread_all(descriptor, size + 1, 0)
    finally:
        os.close(descriptor)
    if len(data) != size:
        what = "more" if len(data) > size else f"{len(data)}"
        raise OSError(errno.EIO, f"it should have {size} bytes, and {what} were read", os.fspath(path))
    return data


def regular_size(path: str | os.PathLike[str]) -> int:
    """The length of a regular file in bytes.

    Args:
        path: The file, or a link to it.

    Raises:
        OSError: It cannot be looked at, or is anything but a regular file.
    """
    status = os.stat(path)
    _check(status.st_mode, path)
    return status.st_size


def pread_all(descriptor: int, size: int, offset: int) -> bytes:
    """Bytes of an open file; fewer only where it ends.

    Args:
        descriptor: The file.
        size: How many bytes.
        offset: Where they begin.

    Returns:
        The bytes.

    Raises:
        OSError: They cannot be read.
    """
    data = os.pread(descriptor, size, offset)
    # The kernel gives at most 2 GiB at a time.
    while 0 < len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
        data += more
    return data


def open_reader(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file for reading from its start on, as far as it reaches now.

    Args:
        path: The file, or a link to it.

    Returns:
        The file, which ends where the system says that it does.

    Raises:
        OSError: It cannot be opened, or is anything but a regular file.
    """
    return io.BufferedReader(_Bounded(open_regular(path)), _BUFFER_BYTES)


class _Bounded(io.RawIOBase):
    """An open file up to the length that it has now."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._place = 0

    def fileno(self) -> int:
        return self._descriptor

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"there is nothing before the start of a file: {start + offset}")
        self._place = start + offset
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        out = memoryview(buffer).cast("B")[: max(0, self._size - self._place)]
        count = os.preadv(self._descriptor, [out], self._place) if len(out) else 0
        self._place += count
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def _check(mode: int, path: str | bytes | os.PathLike[str]) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind} and no regular file", os.fspath(path))

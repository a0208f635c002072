"""One object in the cache: a sparse file with those of its blocks that were fetched.

The file holds the object's bytes and, behind them, one byte for each block: 1 where the block is there. A block is
fetched by whoever has the lock on its byte, which the system lets go of when its holder ends, however it ends; the byte
is set after the block's own bytes are written. So at any moment, whatever is killed, what is marked is there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shardkit.files import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["BLOCK_BYTES", "Claim", "Entry", "file_bytes"]

BLOCK_BYTES = 2**18
_LOCK = struct.Struct("hhqqi4x")  # Linux's struct flock


def file_bytes(num_bytes: int) -> int:
    """The length of the file for an object of so many bytes."""
    return num_bytes + -(-num_bytes // BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class Claim:
    """Blocks that nobody else fetches meanwhile.

    Attributes:
        start: Where they begin, in bytes from the object's start.
        stop: Where they end.
    """

    start: int
    stop: int


class Entry:
    """A cached object. Safe to use from several threads and processes.

    Args:
        path: Its file, which has its full length.
        num_bytes: The object's length.

    Raises:
        OSError: It cannot be opened, or has another length.
    """

    _descriptor = -1  # until it is opened

    def __init__(self, path: Path, num_bytes: int) -> None:
        self._num_bytes = num_bytes
        self._descriptor = open_regular(path, os.O_RDWR | os.O_NOFOLLOW)
        if os.fstat(self._descriptor).st_size != file_bytes(num_bytes):
            self.close()
            raise OSError(errno.EINVAL, "the cached file has another length than it should")
        self._lock = threading.Lock()
        self._claimed: set[int] = set()  # by this process, whose own locks do not stop it
        self._there = bytearray(-(-num_bytes // BLOCK_BYTES))

    def has(self, start: int, stop: int) -> bool:
        """Whether all of a run of bytes is there."""
        return next(self._missing(start, stop), None) is None

    def read(self, start: int, stop: int) -> bytes:
        """A run of bytes that is there; fewer if the file was cut.

        Raises:
            OSError: It cannot be read.
        """
        return os.pread(self._descriptor, stop - start, start)

    def claim(self, start: int, stop: int) -> Claim | None:
        """Take the first blocks of a run that are missing, and that nobody has claimed.

        Returns:
            What was claimed; ``None`` where all is there, or others are at it.

        Raises:
            OSError: The file cannot be locked.
        """
        with self._lock:
            first = last = -1
            for block in self._missing(start, stop):
                if first >= 0 and block != last + 1:
                    break
                if block in self._claimed or not self._locked(block, fcntl.F_WRLCK):
                    if first >= 0:
                        break
                    continue
                if self._is_there(block):  # come between looking and locking
                    self._locked(block, fcntl.F_UNLCK)
                    if first >= 0:
                        break
                    continue
                self._claimed.add(block)
                first, last = first if first >= 0 else block, block
        return None if first < 0 else Claim(first * BLOCK_BYTES, min((last + 1) * BLOCK_BYTES, self._num_bytes))

    def write(self, claim: Claim, data: memoryview) -> None:
        """Keep the bytes of a claim.

        Raises:
            OSError: There is no room, or it cannot be written.
        """
        done = 0
        while done < len(data):
            done += os.pwrite(self._descriptor, data[done:], claim.start + done)
        blocks = _blocks(claim.start, claim.stop)
        os.pwrite(self._descriptor, b"\1" * len(blocks), self._num_bytes + blocks[0])
        with self._lock:
            self._there[blocks[0] : blocks[-1] + 1] = b"\1" * len(blocks)

    def release(self, claim: Claim) -> None:
        """Let others fetch what was claimed and not written."""
        with self._lock, contextlib.suppress(OSError):
            for block in _blocks(claim.start, claim.stop):
                self._claimed.discard(block)
                self._locked(block, fcntl.F_UNLCK)

    def forget(self, start: int, stop: int) -> None:
        """Take back that a run of bytes is there.

        Raises:
            OSError: It cannot be written.
        """
        blocks = _blocks(start, stop)
        with self._lock:
            os.pwrite(self._descriptor, bytes(len(blocks)), self._num_bytes + blocks[0])
            self._there[blocks[0] : blocks[-1] + 1] = bytes(len(blocks))

    def close(self) -> None:
        """Close the file, and let go of all that is claimed."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _missing(self, start: int, stop: int) -> Iterator[int]:
        return (block for block in _blocks(start, stop) if not self._there[block] and not self._is_there(block))

    def _is_there(self, block: int) -> bool:
        if os.pread(self._descriptor, 1, self._num_bytes + block) == b"\1":
            self._there[block] = 1
        return bool(self._there[block])

    def _locked(self, block: int, kind: int) -> bool:
        """Lock or unlock a block's byte for this opened file, without waiting."""
        request = _LOCK.pack(kind, os.SEEK_SET, self._num_bytes + block, 1, 0)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, request)
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def __del__(self) -> None:
        self.close()


def _blocks(start: int, stop: int) -> range:
    return range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES))

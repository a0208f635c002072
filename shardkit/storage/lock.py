"""One writer at a time: a lock file that the system lets go of when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shardkit.errors import ConfigError
from shardkit.storage.base import LockPurpose

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HeldLock", "acquire"]

_OWNER_BYTES = 300


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock that this process holds."""

    path: Path
    descriptor: int
    process: int

    def release(self) -> None:
        """Take the file away, while it is still held, and let go. A fork lets go of nothing but its descriptor."""
        try:
            if self.process == os.getpid():
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self.descriptor)


def acquire(path: Path, purpose: LockPurpose = LockPurpose()) -> HeldLock:  # noqa: B008 (it is frozen)
    """Take a lock, or fail at once. A file that a killed run left behind is no hindrance.

    Args:
        path: The lock file, which is made.
        purpose: What it is for.

    Returns:
        The lock.

    Raises:
        ConfigError: Another process holds it.
        OSError: The file cannot be made or locked.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            _lock(path, descriptor, purpose)
            if _is_there(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
                return HeldLock(path, descriptor, os.getpid())
        except BaseException:
            os.close(descriptor)
            raise
        # Its holder took the file away between our opening and locking it, so that it guards nothing.
        os.close(descriptor)


def _lock(path: Path, descriptor: int, purpose: LockPurpose) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        owner = os.pread(descriptor, _OWNER_BYTES, 0).decode("utf-8", "replace") or "a process that just began"
        raise ConfigError(
            f"{purpose.busy}: {owner}", setting=purpose.setting, value=str(path.parent), advice=purpose.advice
        ) from exc  # fmt: skip


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))

"""A folder of this machine that keeps what was fetched: shared by processes and runs, never larger than it may be.

``DIR/<data set>/<digest>`` is an object by its content. Room for the whole of an object is set aside when the first of
it comes; where there is none, objects of data sets that nobody uses now are deleted, those used longest ago first, and
otherwise the object is not kept. Objects of a data set never make room for each other: an epoch goes through all of
them, so that whatever was kept last would be needed last.

Nothing here ever stops training: where the folder is full, read-only, or gone, it is not used any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import threading
import time
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shardkit.errors import ConfigError, ShardkitError, ShardkitWarning, StorageError
from shardkit.files import read_regular
from shardkit.process import renew_after_fork
from shardkit.storage.cache_entry import Entry, file_bytes
from shardkit.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Cache", "CachedDataSet", "cached_data_sets", "clear_cache", "default_cache"]

_LOCK_NAME = "lock"
_USED_NAME = "used-bytes"
_NEW_NAME = "new"
_NAME = re.compile(r"[0-9a-f]{32}")
_MOST_USED_BYTES = 100  # of the file of that name
_PATIENCE_S = 2.0
_MOST_OPEN = 256


@dataclass(frozen=True, slots=True)
class CachedDataSet:
    """What a cache keeps of a data set.

    Attributes:
        fingerprint: The data set's.
        num_objects: Shards of which something is kept.
        num_bytes: Bytes that are set aside for them, of which the cache's limit is the most.
        disk_bytes: Bytes that they take on the disk now.
        used: When somebody last began to use it, in seconds since 1970.
        in_use: Whether somebody uses it now.
    """

    fingerprint: str
    num_objects: int
    num_bytes: int
    disk_bytes: int
    used: float
    in_use: bool


class Cache:
    """The cache of one data set, as one loader uses it.

    Args:
        folder: The cache's folder; made if need be.
        limit: The most bytes in it, of all data sets.
        fingerprint: The data set's.

    Raises:
        ConfigError: The folder is not ours alone, or the limit is no size.
    """

    def __init__(self, folder: str | os.PathLike[str], limit: str | int, fingerprint: str) -> None:
        self._in_use = -1
        self._folder = Path(folder)
        self._limit = parse_bytes(limit, setting="cache_limit") if isinstance(limit, str) else limit
        self._mine = self._folder / fingerprint
        self._refused: set[str] = set()
        self._off = False
        self.renew()
        renew_after_fork(self)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_folder(self._folder)
            self._begin_to_use()
        except OSError as exc:
            self.give_up(exc)

    def renew(self) -> None:
        """Close all files: a process and its fork would share the locks on them."""
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()

    def _begin_to_use(self) -> None:
        """Keep others from deleting the data set's objects as long as this process lives."""
        with _locked(self._folder):
            self._mine.mkdir(mode=0o700, exist_ok=True)
            self._in_use = os.open(self._mine / _LOCK_NAME, _FLAGS, 0o600)
            fcntl.flock(self._in_use, fcntl.LOCK_SH)
            os.utime(self._in_use)
            _write_used(self._folder, sum(found.num_bytes for found in _data_sets(self._folder)))

    def entry(self, digest: str, num_bytes: int) -> Entry | None:
        """The place of an object.

        Args:
            digest: Of its content.
            num_bytes: Its length.

        Returns:
            The place; ``None`` where it is not kept.
        """
        found = self._entries.get(digest)
        if found is not None or self._off or digest in self._refused:
            return found
        with self._lock:
            found = self._entries.get(digest)
            if found is None:
                found = self._opened(digest, num_bytes)
                if found is None:
                    return None
                self._entries[digest] = found
                if len(self._entries) > _MOST_OPEN:
                    # Whoever still uses it holds it open.
                    self._entries.popitem(last=False)
            return found

    def give_up(self, exc: OSError) -> None:
        """Use the cache no more, since something went wrong with it."""
        if not self._off:
            self._off = True
            self._entries.clear()
            warnings.warn(
                f"the cache in {self._folder} is not used any more: {exc.strerror or exc}",
                ShardkitWarning,
                stacklevel=2,
            )

    def close(self) -> None:
        """Close all files."""
        self._entries.clear()
        if self._in_use >= 0:
            os.close(self._in_use)
            self._in_use = -1

    def _opened(self, digest: str, num_bytes: int) -> Entry | None:
        assert _NAME.fullmatch(digest), digest  # as `ShardTable` has seen to
        path = self._mine / digest
        try:
            size = file_bytes(num_bytes)
            if _length(path) != size and not self._set_aside(path, size):
                self._refused.add(digest)
                return None
            return Entry(path, num_bytes)
        except BlockingIOError:
            return None  # others are busy, with deleting maybe; it is asked for again
        except OSError as exc:
            self.give_up(exc)
            return None

    def _set_aside(self, path: Path, size: int) -> bool:
        """Make the file of an object, if there is room for all of it; one of another length is replaced."""
        if size > self._limit:
            return False
        with _locked(self._folder):
            there = _length(path)
            if there == size:
                return True
            used = _read_used(self._folder)
            if there is not None:
                path.unlink()
                used -= there
            if used + size > self._limit:
                used -= self._make_room(used + size - self._limit)
            if used + size > self._limit:
                return False
            # Counted before it is there: whoever is killed in between leaves too much counted, and never too little.
            _write_used(self._folder, used + size)
            # It is there with its full length or not at all, whenever this process is killed.
            new = path.with_name(_NEW_NAME)
            descriptor = os.open(new, _FLAGS | os.O_TRUNC, 0o600)
            try:
                os.ftruncate(descriptor, size)
            finally:
                os.close(descriptor)
            new.rename(path)
        return True

    def _make_room(self, wanted: int) -> int:
        """Delete objects of data sets that nobody uses; returns the bytes that were set aside for them."""
        freed = 0
        for found in sorted(_data_sets(self._folder), key=lambda found: found.used):
            if freed >= wanted:
                break
            if found.fingerprint != self._mine.name:
                freed += _delete(self._folder / found.fingerprint)
        return freed

    def __del__(self) -> None:
        self.close()


_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def default_cache() -> Path:
    """Where ``cache=True`` keeps things: ``$XDG_CACHE_HOME/shardkit``, or ``~/.cache/shardkit``."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "shardkit"


def cached_data_sets(folder: str | os.PathLike[str]) -> list[CachedDataSet]:
    """What a cache keeps, what was used last first.

    Args:
        folder: The cache's folder.

    Raises:
        ConfigError: It is not ours alone.
        StorageError: It cannot be read.
    """
    with _as_storage_errors(folder):
        if not Path(folder).is_dir():
            return []
        check_folder(Path(folder))
        return sorted(_data_sets(Path(folder)), key=lambda found: -found.used)


def clear_cache(folder: str | os.PathLike[str]) -> tuple[int, int]:
    """Delete what a cache keeps, but for data sets that are being used.

    Args:
        folder: The cache's folder.

    Returns:
        How many data sets were deleted, and how many are left.

    Raises:
        ConfigError: It is not ours alone.
        StorageError: It cannot be deleted.
    """
    found = cached_data_sets(folder)
    if not found:
        return 0, 0
    with _as_storage_errors(folder), _locked(Path(folder)):
        for one in found:
            _delete(Path(folder) / one.fingerprint)
        left = _data_sets(Path(folder))
        _write_used(Path(folder), sum(one.num_bytes for one in left))
    return len(found) - len(left), len(left)


@contextlib.contextmanager
def _as_storage_errors(folder: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except ShardkitError:
        raise
    except OSError as exc:
        raise StorageError(f"the cache: {exc.strerror or exc}", url=str(folder)) from exc


def check_folder(folder: Path) -> None:
    """Refuse a folder in which others could plant files.

    Raises:
        ConfigError: It is another user's, others may write in it, or it is no folder.
        OSError: It cannot be looked at.
    """
    found = folder.stat(follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError("the cache must be a folder, and no link", setting="cache", value=str(folder))
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ConfigError(
            "the cache must be a folder of yours in which nobody else may write", setting="cache", value=str(folder),
            advice="Name another one, or take the right from others: chmod go-w",
        )  # fmt: skip


def _length(path: Path) -> int | None:
    """The length of a file; ``None`` where there is none."""
    try:
        return path.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Be the only one who changes what there is; never waits for long.

    Raises:
        OSError: Somebody else does not let go, or there is no folder.
    """
    descriptor = os.open(folder / _LOCK_NAME, _FLAGS, 0o600)
    try:
        _flock(descriptor, time.monotonic() + _PATIENCE_S)
        yield
    finally:
        os.close(descriptor)


def _flock(descriptor: int, until: float) -> None:
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.005)


def _data_sets(folder: Path) -> list[CachedDataSet]:
    """The folders of data sets: those that have nothing but files of ours, a lock among them."""
    return [_described(path) for path in folder.iterdir() if _NAME.fullmatch(path.name) and _is_ours(path)]


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    entries = list(os.scandir(path))
    names = {found.name for found in entries}
    known = all(name in (_LOCK_NAME, _NEW_NAME) or _NAME.fullmatch(name) for name in names)
    return known and _LOCK_NAME in names and all(found.is_file(follow_symlinks=False) for found in entries)


def _described(path: Path) -> CachedDataSet:
    lock = path / _LOCK_NAME
    sizes = {found.name: found.stat() for found in os.scandir(path) if found.name != _LOCK_NAME}
    return CachedDataSet(
        fingerprint=path.name,
        num_objects=len(sizes) - (_NEW_NAME in sizes),
        num_bytes=sum(size.st_size for size in sizes.values()),
        disk_bytes=sum(512 * size.st_blocks for size in sizes.values()),
        used=lock.stat().st_mtime if lock.exists() else 0.0,
        in_use=not _is_free(lock),
    )


def _is_free(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _delete(path: Path) -> int:
    """Delete a data set's objects, unless somebody uses it; only under the folder's lock. Returns their bytes."""
    if not _is_free(path / _LOCK_NAME):
        return 0
    freed = _described(path).num_bytes
    for found in list(os.scandir(path)):
        os.unlink(found.path)
    path.rmdir()
    return freed


def _read_used(folder: Path) -> int:
    try:
        return int(read_regular(folder / _USED_NAME, _MOST_USED_BYTES))
    except (FileNotFoundError, ValueError):
        return sum(found.num_bytes for found in _data_sets(folder))


def _write_used(folder: Path, num_bytes: int) -> None:
    descriptor = os.open(folder / _USED_NAME, _FLAGS, 0o600)
    try:
        os.pwrite(descriptor, f"{num_bytes:020d}".encode(), 0)
    finally:
        os.close(descriptor)

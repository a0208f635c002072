"""Objects in a folder of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Self

from shardkit.errors import ConfigError, StorageError
from shardkit.files import (
    is_temporary,
    open_reader,
    open_regular,
    pread_all,
    read_regular,
    regular_size,
    temporary_name,
)
from shardkit.storage.base import LockPurpose
from shardkit.storage.lock import acquire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

__all__ = ["LocalStore"]

LOCK_NAME = ".shardkit-lock"
_COPIED_BYTES = 2**20
_MAX_PIECES = 1024  # that Linux takes in one call


class LocalStore:
    """A folder. Writing is atomic: a temporary file beside the object, flushed to the disk, then renamed.

    Args:
        folder: The folder; made when the first object is written.
    """

    read_only = False

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.url = str(folder)

    def path(self, name: str) -> Path:
        """The file that holds an object.

        Raises:
            ConfigError: The name would lead out of the folder.
        """
        if not name or name in {".", ".."} or "/" in name or "\0" in name:
            raise ConfigError("an object's name must be a plain file name", setting="name", value=name)
        return self.folder / name

    def read(self, name: str) -> bytes:
        """The whole of an object."""
        with self._errors(name, "read"):
            return read_regular(self.path(name))

    def read_if_there(self, name: str, most_bytes: int) -> bytes | None:
        """The whole of an object that is no longer than ``most_bytes``, or ``None`` where there is none."""
        with self._errors(name, "read"):
            try:
                return read_regular(self.path(name), most_bytes)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes of an object, or a `StorageError`."""
        with self._errors(name, "read"):
            descriptor = open_regular(self.path(name))
            try:
                # Memory is taken for what is there, and not for what somebody says that there is.
                there = max(0, min(length, os.fstat(descriptor).st_size - offset))
                data = pread_all(descriptor, there, offset)
            finally:
                os.close(descriptor)
        if len(data) != length:
            raise StorageError(
                f"{len(data)} bytes instead of {length} at offset {offset}",
                url=str(self.path(name)),
                operation="read",
            )
        return data

    def download(self, name: str, num_bytes: int, path: Path) -> None:
        """Copy an object of ``num_bytes`` bytes to another file; one of another length is an error."""
        with self._errors(name, "read"), open_reader(self.path(name)) as source:
            copied = os.fstat(source.fileno()).st_size
            if copied == num_bytes:
                with path.open("wb", buffering=0) as file:
                    shutil.copyfileobj(source, file, _COPIED_BYTES)
                    copied = file.tell()
        if copied != num_bytes:
            raise StorageError(
                f"it has {copied} bytes instead of {num_bytes}", url=str(self.path(name)), operation="read"
            )

    def size(self, name: str) -> int | None:
        """An object's length in bytes, or ``None`` where there is no such object."""
        with self._errors(name, "look at"):
            try:
                return regular_size(self.path(name))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def names(self) -> Iterator[str]:
        """The objects in the folder, temporary files left out; none where there is no folder."""
        with self._errors("", "list"):
            try:
                found = sorted(os.listdir(self.folder))
            except FileNotFoundError:
                return
        yield from (name for name in found if not _is_ours(name))

    def write(self, name: str) -> LocalWriter:
        """Start writing an object."""
        with self._errors(name, "write"):
            self.folder.mkdir(parents=True, exist_ok=True)
            return LocalWriter(self.path(name))

    def delete(self, name: str) -> None:
        """Delete an object; nothing happens where there is none."""
        with self._errors(name, "delete"):
            self.path(name).unlink(missing_ok=True)

    def has_temporary(self) -> bool:
        """Whether there are temporary files: of writers at work, or of writers that were killed."""
        with self._errors("", "list"):
            return self.folder.is_dir() and any(map(_is_ours, os.listdir(self.folder)))

    def delete_temporary(self) -> None:
        """Delete what writers that were killed left behind. Only for the one who holds the lock."""
        with self._errors("", "clean"):
            for name in filter(is_temporary, os.listdir(self.folder)):
                (self.folder / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, purpose: LockPurpose = LockPurpose()) -> Iterator[None]:  # noqa: B008 (it is frozen)
        """Hold the folder, which is made if need be, as the only one who writes in it.

        Args:
            purpose: What for.

        Raises:
            ConfigError: Another run holds it.
            StorageError: It cannot be made or locked.
        """
        with self._errors("", "lock"):
            self.folder.mkdir(parents=True, exist_ok=True)
            held = acquire(self.folder / LOCK_NAME, purpose)
        try:
            yield
        finally:
            with self._errors("", "unlock"):
                held.release()

    def close(self) -> None:
        """There is nothing to let go of."""

    @contextlib.contextmanager
    def _errors(self, name: str, operation: str) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except OSError as exc:
            where = str(self.folder / name) if name else self.url
            raise StorageError(f"cannot {operation}: {exc.strerror or exc}", url=where, operation=operation) from exc


class LocalWriter:
    """A file being written beside its final name."""

    def __init__(self, target: Path) -> None:
        self._target = target
        # Not mkstemp: its files are for their owner only, and a data set follows the user's umask like any file.
        self._temporary = target.parent / temporary_name()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._temporary, flags, 0o666)
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        rest = memoryview(data).cast("B")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as exc:
            raise self._failed(exc) from exc

    def write_all(self, pieces: Sequence[bytes]) -> None:
        """Append bytes that lie in pieces, without joining them first."""
        for start in range(0, len(pieces), _MAX_PIECES):
            part = pieces[start : start + _MAX_PIECES]
            try:
                written = os.writev(self._file.fileno(), part)
            except OSError as exc:
                raise self._failed(exc) from exc
            if written < sum(map(len, part)):
                self.write(memoryview(b"".join(part))[written:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._commit()
        except OSError as exc:
            raise self._failed(exc) from exc
        finally:
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    def _commit(self) -> None:
        os.fsync(self._file.fileno())
        self._temporary.replace(self._target)
        folder = os.open(self._target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _failed(self, exc: OSError) -> StorageError:
        return StorageError(f"cannot write: {exc.strerror or exc}", url=str(self._target), operation="write")


def _is_ours(name: str) -> bool:
    """Whether it is a file that only shardkit's own writers know of."""
    return name == LOCK_NAME or is_temporary(name)

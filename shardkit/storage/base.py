"""The seam: what shardkit asks of a place where bytes are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

__all__ = ["FetchesAhead", "HasPaths", "LockPurpose", "Store", "Writer"]


@dataclass(frozen=True, slots=True)
class LockPurpose:
    """What a place is locked for, as the one who finds it locked is told.

    Attributes:
        busy: What another does there.
        advice: What to do about it.
        setting: The setting that names the place.
    """

    busy: str = "another run is writing there"
    advice: str = "Wait until it has ended, or name another place"
    setting: str = "dest"


class Writer(Protocol):
    """An object being written: it appears under its name, whole, when the ``with`` block ends without an error."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        ...

    def write_all(self, pieces: Sequence[bytes]) -> None:
        """Append bytes that lie in pieces, without joining them first."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Store(Protocol):
    """Named objects below one URL. Every failure is a `StorageError`; a missing object is one too."""

    url: str  # as it may be shown
    read_only: bool

    def read(self, name: str) -> bytes:
        """The whole of an object."""
        ...

    def read_if_there(self, name: str, most_bytes: int) -> bytes | None:
        """The whole of an object, or ``None`` where there is none; an error if it is longer than ``most_bytes``."""
        ...

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes of an object, or an error."""
        ...

    def size(self, name: str) -> int | None:
        """An object's length in bytes, or ``None`` where there is no such object."""
        ...

    def download(self, name: str, num_bytes: int, path: Path) -> None:
        """Copy an object of ``num_bytes`` bytes to a file of this machine; one of another length is an error."""
        ...

    def names(self) -> Iterator[str]:
        """The objects directly below the URL, in no order."""
        ...

    def write(self, name: str) -> Writer:
        """Start writing an object, which replaces one of the same name when done."""
        ...

    def delete(self, name: str) -> None:
        """Delete an object; nothing happens where there is none."""
        ...

    def has_temporary(self) -> bool:
        """Whether writers that are at work, or were killed, left something that has no name yet."""
        ...

    def delete_temporary(self) -> None:
        """Delete that. Only for the one who holds the lock."""
        ...

    def lock(self, purpose: LockPurpose = ...) -> AbstractContextManager[None]:
        """Hold the place as the only one who writes there; a `ConfigError` if another does."""
        ...

    def close(self) -> None:
        """Let go of threads and connections; using it again is possible."""
        ...


@runtime_checkable
class HasPaths(Protocol):
    """A store whose objects are files of this machine."""

    def path(self, name: str) -> Path:
        """The file that holds an object."""
        ...


@runtime_checkable
class FetchesAhead(Protocol):
    """A store that many objects can be asked of at once."""

    def start_read(self, name: str, most_bytes: int) -> Future[bytes | None]:
        """As `Store.read_if_there`, beside everything else; cancelling the future calls it off."""
        ...

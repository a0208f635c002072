"""From a place in a shard to verified bytes."""

from __future__ import annotations

import contextlib
import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import TYPE_CHECKING

from shardkit.errors import FormatError, ShardkitError, StorageError
from shardkit.files import open_regular, pread_all

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shardkit.loader.rows import Piece
    from shardkit.manifest import Split
    from shardkit.storage import HasPaths

__all__ = ["LocalReader", "Reader"]

_MAX_OPEN_SHARDS = 256


class Reader(ABC):
    """Reads samples from the shards of a split. Safe to use from several threads.

    Args:
        split: The shards' rows in the root table.

    Attributes:
        fetches: Whether it has to hear of samples before, since reading takes requests.
    """

    fetches = False

    def __init__(self, split: Split) -> None:
        self._split = split

    @abstractmethod
    def read(self, shard: int, offset: int, size: int) -> bytes:
        """A field's bytes, not verified.

        Args:
            shard: The shard's number in the split.
            offset: Bytes from its start.
            size: Bytes.

        Returns:
            The bytes; fewer where the shard was cut.

        Raises:
            FormatError: The shard is missing, or of another length than it was packed with.
            StorageError: It cannot be read.
        """

    @abstractmethod
    def read_run(self, shard: int, start: int, out: memoryview) -> None:
        """Read a run of a shard's bytes, not verified.

        Args:
            shard: The shard's number in the split.
            start: Where it begins, in bytes from the shard's start.
            out: Bytes that are overwritten; as many are read.

        Raises:
            FormatError: The shard is missing or cut.
            StorageError: It cannot be read.
        """

    def taken(self, rows: NDArray[np.int64]) -> list[bytes | None]:
        """Fields' bytes that are here and verified already, each handed out only once.

        Args:
            rows: ``(n, 6)`` int64, columns as in `shardkit.loader.tables.COLUMNS`.

        Returns:
            The bytes; ``None`` for those that have to be read.
        """
        return [None] * len(rows)

    def awaited(self, shard: int, offset: int, size: int) -> bytes | None:  # noqa: ARG002
        """A field's bytes, verified, which are waited for; ``None`` where nothing is on its way, or it is damaged."""
        return None

    def read_again(self, shard: int, offset: int, size: int) -> bytes | None:  # noqa: ARG002
        """A field's bytes once more, where they came out wrong and another way may give them right; else ``None``."""
        return None

    def announce(self, piece: Piece) -> None:  # noqa: B027 (most need not know)
        """Hear that a run of samples of one shard will be read soon."""

    def expect(self, samples: NDArray[np.int64]) -> None:  # noqa: B027
        """Hear of samples that will be read later, in order: what says where they lie may be fetched."""

    def prepare(self, samples: NDArray[np.int64], *, urgent: bool = False) -> None:  # noqa: B027
        """Hear of samples that will be read next, in order: they may be fetched.

        Args:
            samples: Their numbers in the split; `expect` has heard of them.
            urgent: Whether somebody waits for these alone.
        """

    def abandon(self) -> None:  # noqa: B027
        """Call off whatever threads wait for: they get an error. Takes no lock, and waits for nothing."""

    def close(self) -> None:  # noqa: B027
        """Let go of everything; reading again is possible."""

    def shard_bytes(self, shard: int) -> int:
        """The length of a shard of the split, by its number."""
        return int(self._split.shards.num_bytes[shard])

    def shard_name(self, shard: int) -> str:
        """The name of a shard of the split, by its number."""
        return self._split.shards[shard].name

    def damaged(self, shard: int, offset: int) -> FormatError:
        """The error for bytes that are not those that were packed."""
        return FormatError(
            "the bytes are not those that were packed", shard=self.shard_name(shard), offset=offset,
            advice="`shardkit verify` names all that is damaged; copy the shard again",
        )  # fmt: skip


class LocalReader(Reader):
    """Reads samples from shards that are files of this machine. Safe to use from several threads.

    The page cache is the buffer: chunks that come next are announced to the kernel, and a sample is read when it is
    decoded.

    Args:
        store: Where the shards are.
        split: Their rows in the root table.
    """

    def __init__(self, store: HasPaths, split: Split) -> None:
        super().__init__(split)
        self._store = store
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()
        self._lock = threading.Lock()

    def announce(self, piece: Piece) -> None:
        """Tell the kernel that a run of samples of one shard will be read soon.

        Args:
            piece: The samples.
        """
        # Best effort: without it the bytes are read all the same, only later. What is wrong with a shard is an error of
        # each sample that is read from it, which may be left out.
        with contextlib.suppress(ShardkitError):
            self._shard(piece.shard).advise(piece.first_byte, piece.num_bytes)

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """As `Reader.read`."""
        found = self._shard(shard)
        try:
            return pread_all(found.descriptor, size, offset)
        except OSError as exc:
            raise self._unreadable(shard, exc) from exc

    def read_run(self, shard: int, start: int, out: memoryview) -> None:
        """As `Reader.read_run`."""
        found = self._shard(shard)
        done = 0
        try:
            while done < len(out) and (count := os.preadv(found.descriptor, [out[done:]], start + done)):
                done += count
        except OSError as exc:
            raise self._unreadable(shard, exc) from exc
        if done < len(out):
            raise self.damaged(shard, start + done)

    def _unreadable(self, shard: int, exc: OSError) -> StorageError:
        return StorageError(f"cannot read: {exc.strerror}", url=self.shard_name(shard), operation="read")

    def close(self) -> None:
        """Close the shards; reading again opens them again."""
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()

    def _shard(self, number: int) -> _OpenShard:
        # One step that is done or not: no lock, and no order of use, as long as none has to be closed for another.
        if len(self._open) < _MAX_OPEN_SHARDS and (found := self._open.get(number)) is not None:
            return found
        with self._lock:
            found = self._open.get(number)
            if found is None:
                row = self._split.shards[number]
                found = self._open[number] = _OpenShard(self._store, row.name, row.num_bytes)
                if len(self._open) > _MAX_OPEN_SHARDS:
                    # A thread that still reads from it holds it open until it is done.
                    self._open.popitem(last=False)
            self._open.move_to_end(number)
            return found


class _OpenShard:
    """An open file that closes when nobody refers to it any more."""

    __slots__ = ("descriptor",)

    def __init__(self, store: HasPaths, name: str, num_bytes: int) -> None:
        self.descriptor = -1
        path = store.path(name)
        try:
            self.descriptor = open_regular(path)
            size = os.fstat(self.descriptor).st_size
        except FileNotFoundError as exc:
            raise FormatError("the shard is missing", shard=name, advice="Copy the data set again") from exc
        except OSError as exc:
            raise StorageError(f"cannot open: {exc.strerror}", url=str(path), operation="read") from exc
        if size != num_bytes:
            raise FormatError(
                f"the shard has {size} bytes instead of {num_bytes}", shard=name, offset=min(size, num_bytes),
                advice="Copy the shard again",
            )  # fmt: skip

    def advise(self, offset: int, length: int) -> None:
        with contextlib.suppress(OSError, OverflowError):
            os.posix_fadvise(self.descriptor, offset, length, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()

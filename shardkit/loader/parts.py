"""Runs of shards that were asked for: on their way, come, cut into samples, and used up.

What comes is cut into samples at once: copied and verified. So handing one out is one look-up, and each is let go of
when it is handed out, not when the last of its chunk is.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from xxhash import xxh3_64_intdigest

from shardkit.loader.tables import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

__all__ = ["Part", "PartShelf"]

_OFFSET, _SIZE, _DIGEST, _SHARD = map(COLUMNS.index, ("offset", "size", "digest", "shard"))
# A sample's key: its shard's number, and its offset below so many bits. No shard is longer: obstores end at 5 TB.
_OFFSET_BITS = 44
# Parts looked at for each new one, whether they are used up: more than one, so that those that stay do not add up.
_LOOKED_AT = 2


@dataclass(eq=False, slots=True)
class Part:
    """A run of a shard's bytes that is being fetched, or has come.

    Attributes:
        shard: The shard's number in the split.
        start: Where it begins, in bytes from the shard's start.
        stop: Where it ends.
        rows: ``(n, 6)`` int64, the samples that are needed of it, columns as in `COLUMNS`; ``None`` where it is read by
            the block.
        piece: Its chunk and shard, where it is the whole of that.
        data: Its bytes, once it has come and is read by the block.
        is_done: Whether it has come, or never will.
        error: Why it never will.
        request: What it came with.
    """

    shard: int
    start: int
    stop: int
    rows: NDArray[np.int64] | None = None
    piece: tuple[int, int] | None = None
    data: memoryview | None = None
    is_done: bool = False
    error: BaseException | None = None
    request: Future[None] | None = None
    _waiting: list[threading.Event] = field(default_factory=list)

    def __len__(self) -> int:
        return self.stop - self.start

    def gives(self, offset: int) -> bool:
        """Whether what begins there will be had of it: any bytes, or one of its samples."""
        if self.rows is None:
            return True
        place = int(np.searchsorted(self.rows[:, _OFFSET], offset))
        return place < len(self.rows) and int(self.rows[place, _OFFSET]) == offset

    def finish(self, data: memoryview | None = None, error: BaseException | None = None) -> None:
        """Say that it has come, or never will."""
        self.data, self.error = data, error
        self.is_done = True
        for event in self._waiting:
            event.set()

    def wait(self, seconds: float) -> bool:
        """Wait until it is done; ``False`` where it is not after so many seconds."""
        event = threading.Event()
        self._waiting.append(event)
        # Looked at again, since it may have come just before: whoever finishes it sets all events there are by then.
        return self.is_done or event.wait(seconds)

    @property
    def is_called_off(self) -> bool:
        """Whether nobody fetches it any more."""
        return self.request is not None and self.request.done() and not self.is_done


class PartShelf:
    """Parts that were asked for, and the samples of those that have come. Safe to use from several threads.

    Args:
        most_bytes: The most to keep. What other ranks read of a chunk that they share with this one is never asked for
            here: of that, what came first is dropped.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._samples: dict[int, bytes] = {}  # by `_keys`
        # By shard, those that begin first before the others, and where they begin; both are replaced and not changed,
        # so that looking for a part takes no lock.
        self._parts: dict[int, tuple[list[int], list[Part]]] = {}
        self._pieces: set[tuple[int, int]] = set()
        self._cut: deque[tuple[Part, list[int]]] = deque()  # with the keys of their samples
        self._num_bytes = 0
        self._lock = threading.Lock()

    def __contains__(self, piece: tuple[int, int]) -> bool:
        """Whether a chunk's part in a shard was asked for, and something is left of it."""
        return piece in self._pieces

    def add(self, parts: Sequence[Part]) -> None:
        """Keep parts that were asked for."""
        with self._lock:
            for part in parts:
                starts, others = self._parts.get(part.shard, ([], []))
                # Samples that were asked for by themselves come behind the piece in which they lie.
                place = bisect_right(starts, part.start) if part.piece is None else bisect_left(starts, part.start)
                self._parts[part.shard] = (
                    [*starts[:place], part.start, *starts[place:]],
                    [*others[:place], part, *others[place:]],
                )
                self._num_bytes += len(part)
                if part.piece is not None:
                    self._pieces.add(part.piece)

    def find(self, shard: int, start: int, stop: int) -> Part | None:
        """A part that has a run of bytes, or a sample, unless samples were made of it."""
        starts, parts = self._parts.get(shard, ((), ()))
        # Mostly the last one that begins before; but one that was asked for early may lie within a longer one.
        for part in reversed(parts[: bisect_right(starts, start)]):
            if stop <= part.stop and part.gives(start):
                return part
        return None

    def take(self, rows: NDArray[np.int64]) -> list[bytes | None]:
        """Hand out samples, each only once.

        Args:
            rows: ``(n, 6)`` int64, columns as in `COLUMNS`.

        Returns:
            Their bytes, verified; ``None`` for those that are not there.
        """
        pop = self._samples.pop
        return [pop(key, None) for key in _keys(rows)]

    def take_one(self, shard: int, offset: int) -> bytes | None:
        """Hand out one sample."""
        return self._samples.pop((shard << _OFFSET_BITS) + offset, None)

    def take_in(self, part: Part, data: memoryview) -> None:
        """Finish a part that has come. Samples that are damaged are left out."""
        if part.rows is None:
            part.finish(data)
            return
        keys = _keys(part.rows)
        starts = part.rows[:, _OFFSET] - part.start
        ends = (starts + part.rows[:, _SIZE]).tolist()
        digests = part.rows[:, _DIGEST].view(np.uint64).tolist()
        for key, start, end, digest in zip(keys, starts.tolist(), ends, digests, strict=True):
            sample = bytes(data[start:end])
            if xxh3_64_intdigest(sample) == digest:
                self._samples[key] = sample
        with self._lock:
            self._remove(part)
            self._cut.append((part, keys))
            self._tidy()
        part.finish()

    def drop(self, part: Part) -> None:
        """Let go of a part, unless samples were made of it."""
        with self._lock:
            if self._remove(part):
                self._forget(part)

    def _remove(self, part: Part) -> bool:
        """Take a part from those that may be found, unless that was done."""
        starts, parts = self._parts.get(part.shard, ([], []))
        if part not in parts:
            return False
        place = parts.index(part)
        if len(parts) > 1:
            self._parts[part.shard] = starts[:place] + starts[place + 1 :], parts[:place] + parts[place + 1 :]
        else:
            del self._parts[part.shard]
        return True

    def _forget(self, part: Part) -> None:
        self._num_bytes -= len(part)
        if part.piece is not None:
            self._pieces.discard(part.piece)

    def _tidy(self) -> None:
        """Forget parts that are used up; and others, where there is too much."""
        for _ in range(min(_LOOKED_AT, len(self._cut))):
            part, keys = self._cut.popleft()
            if any(key in self._samples for key in keys):
                self._cut.append((part, keys))
            else:
                self._forget(part)
        while self._num_bytes > self._most_bytes and len(self._cut) > 1:
            part, keys = self._cut.popleft()
            for key in keys:
                self._samples.pop(key, None)
            self._forget(part)


def _keys(rows: NDArray[np.int64]) -> list[int]:
    keys: list[int] = ((rows[:, _SHARD] << _OFFSET_BITS) + rows[:, _OFFSET]).tolist()
    return keys

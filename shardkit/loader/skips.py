"""Bad samples that are left out, counted against a budget."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from shardkit.process import renew_after_fork

if TYPE_CHECKING:
    from shardkit.errors import ShardkitError

__all__ = ["Skips"]


class Skips:
    """The bad samples of a loader, counted against a budget. Safe to use from several threads.

    Args:
        most: How many may be left out; ``None`` where none may.

    Attributes:
        found: What was wrong with each bad sample, by its shard and row; one that comes up again counts once.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self.found: dict[tuple[int, int], str] = {}
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Make the lock anew; what was found stays."""
        self._lock = threading.Lock()

    def add(self, place: tuple[int, int], error: ShardkitError) -> None:
        """Count one bad sample.

        Args:
            place: Its shard and row.
            error: What is wrong; only its words are kept.

        Raises:
            ShardkitError: The error itself, where it is one too many, or none may be left out.
        """
        with self._lock:
            if self._most is not None:
                self.found[place] = str(error)
            if self._most is None or len(self.found) > self._most:
                if self._most is not None:
                    first = next(iter(self.found.values()))
                    error.add_note(
                        f"{len(self.found)} bad samples are more than max_skipped={self._most}; first: {first}"
                    )
                raise error

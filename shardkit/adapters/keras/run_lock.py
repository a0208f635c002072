"""One training run for each directory.

A lock belongs to a process, and Keras does not tell a callback that an exception ended `fit`. So this module keeps what
the process has locked, and a later `fit` takes over what a call that is over has left. Nothing else is kept in it.
"""

from __future__ import annotations

import atexit
import os
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shardkit.errors import ConfigError, ShardkitWarning, StorageError
from shardkit.storage import HasPaths, LockPurpose

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from shardkit.adapters.keras.fit import FitCall
    from shardkit.storage import Store

__all__ = ["RunLock", "lock_run"]

_PURPOSE = LockPurpose(
    busy="another run trains with this directory",
    advice="Wait until it has ended, or give Resume another directory",
    setting="directory",
)


@dataclass(frozen=True, slots=True)
class RunLock:
    """A directory that this process trains with.

    Attributes:
        process: This process. A fork has none of its parent's locks.
        place: The directory.
        fit: The call that trains.
        lock: The store's lock, which is held.
    """

    process: int
    place: str
    fit: FitCall
    lock: AbstractContextManager[None]

    def release(self) -> None:
        """Let go. A failure is a warning: the training is done, and its result must not be lost."""
        if self.process != os.getpid() or _HELD.get((self.process, self.place)) is not self:
            return
        del _HELD[self.process, self.place]
        atexit.unregister(self.release)
        try:
            self.lock.__exit__(None, None, None)
        except StorageError as exc:
            warnings.warn(f"the directory of Resume could not be unlocked: {exc}", ShardkitWarning, stacklevel=2)


_HELD: dict[tuple[int, str], RunLock] = {}
_GUARD = threading.Lock()


def lock_run(store: Store, fit: FitCall) -> RunLock:
    """Lock the directory of a run.

    Args:
        store: The directory.
        fit: The call that trains.

    Returns:
        The lock.

    Raises:
        ConfigError: Another run trains with the directory, in this process or another.
        StorageError: It cannot be locked.
    """
    place = os.path.realpath(store.path("lock").parent) if isinstance(store, HasPaths) else store.url
    with _GUARD:
        held = _HELD.get((os.getpid(), place))
        if held is not None and held.fit.is_running():
            raise ConfigError(
                f"{_PURPOSE.busy}: in this process", setting=_PURPOSE.setting, value=place, advice=_PURPOSE.advice
            )
        if held is not None:
            held.release()
        lock = store.lock(_PURPOSE)
        lock.__enter__()
        taken = _HELD[os.getpid(), place] = RunLock(os.getpid(), place, fit, lock)
        # Where an exception ends both `fit` and the process. The system would unlock a folder, but not a bucket.
        atexit.register(taken.release)
    return taken

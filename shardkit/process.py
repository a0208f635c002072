"""What the end of Python, and a fork, mean for objects that have threads and locks.

A forked process has one thread. Locks that other threads held at that moment stay held in it for good, and what they
guard may be half changed, so everything that has a lock makes it, and what it guards, anew. And threads that are inside
a library when Python ends take the process with them, so everything that has threads ends them before.
"""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Generic, Protocol, TypeVar

from shardkit.errors import ShardkitError

__all__ = ["check_not_exiting", "end_at_exit", "renew_after_fork"]

H = TypeVar("H")


class _Renews(Protocol):
    def renew(self) -> None:
        """Make locks, and what they guard, anew. Called in the only thread of a forked process."""


class _Ends(Protocol):
    def end_for_good(self) -> None:
        """End all threads, and wait for them."""


class _Registry(Generic[H]):
    """Objects that are alive. Every change is one step, so that neither threads nor a fork find it half done."""

    def __init__(self) -> None:
        self._references: dict[int, weakref.ref[H]] = {}

    def add(self, holder: H) -> None:
        number = id(holder)
        self._references[number] = weakref.ref(holder, lambda _: self._references.pop(number, None))

    def all(self) -> list[H]:
        found = [reference() for reference in list(self._references.values())]
        return [holder for holder in found if holder is not None]


class _Process:
    """This process."""

    is_exiting = False
    renewing: _Registry[_Renews] = _Registry()
    ending: _Registry[_Ends] = _Registry()

    @classmethod
    def begin(cls) -> None:
        for holder in cls.renewing.all():
            holder.renew()

    @classmethod
    def end(cls) -> None:
        cls.is_exiting = True
        for holder in cls.ending.all():
            holder.end_for_good()


os.register_at_fork(after_in_child=_Process.begin)
atexit.register(_Process.end)


def renew_after_fork(holder: _Renews) -> None:
    """Have an object's ``renew()`` called in each process that is forked from this one.

    Args:
        holder: The object, which is not kept alive.
    """
    _Process.renewing.add(holder)


def end_at_exit(holder: _Ends) -> None:
    """Have an object's ``end_for_good()`` called before Python ends.

    Args:
        holder: The object, which is not kept alive.
    """
    _Process.ending.add(holder)


def check_not_exiting() -> None:
    """Refuse to start threads while Python exits.

    Raises:
        ShardkitError: Python exits. Only daemon threads, and functions of `atexit`, still run then.
    """
    if _Process.is_exiting:
        raise ShardkitError("Python is exiting: nothing more is loaded or written", advice="End such work before")

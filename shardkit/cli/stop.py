"""What Ctrl-C and SIGTERM do: one line of words and exit code 130 or 143."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["leave_when_stopped", "unwind_when_stopped"]


def leave_when_stopped() -> None:
    """End at once when stopped: for as long as there is nothing to tidy up.

    Nothing is raised, since some libraries swallow what is raised while they are imported.
    """
    _handle(_leave)


def unwind_when_stopped(*, converts: bool = True) -> None:
    """From here on tidy up when stopped: workers are ended and temporary files go.

    What takes long is imported first, for the reason above; pyarrow looks for more libraries at its first conversion.

    Args:
        converts: Whether pyarrow's conversions are used; without them those libraries are not needed.
    """
    import pyarrow as pa
    import pyarrow.parquet

    if converts:
        import pyarrow.compute as pc

        pc.equal(pa.array([""]), "")
    _handle(_unwind)


def _handle(handler: signal._HANDLER) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    _say()
    os._exit(128 + number)


def _unwind(number: int, _frame: FrameType | None) -> NoReturn:
    _say()
    raise SystemExit(128 + number)


def _say() -> None:
    words = "shardkit: stopped"
    if not {"pack", "unpack"}.isdisjoint(sys.argv[1:3]):
        less = " without --overwrite" if "--overwrite" in sys.argv else ""
        words += f"; the same command{less} goes on where it was"
    # Not through sys.stderr, which may be in the middle of a write.
    os.write(2, f"{words}\n".encode())

"""From the shell to the commands and back: stops, errors, exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, NoReturn

from shardkit.cli.stop import leave_when_stopped
from shardkit.errors import ShardkitError
from shardkit.redact import printable, redacted

__all__ = ["main"]


def main() -> None:
    """Run the command line.

    The exit code is 0 for success, 1 for an error of shardkit's, 2 for a wrong call, 130 or 143 when stopped.
    """
    # Before anything large is imported, which takes most of the first second.
    leave_when_stopped()
    try:
        from shardkit.cli.commands import app

        sys.exit(app(standalone_mode=False))
    except _wrong_call() as exc:
        _refuse_call(exc)
    except (ShardkitError, ImportError) as exc:
        _fail(str(exc))
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _wrong_call() -> type[Exception]:
    """The exception for a wrong call: click's, or that of the copy of click that newer versions of typer have."""
    from typer import BadParameter

    found: type[Exception] = BadParameter.__mro__[1]
    return found


def _refuse_call(error: Any) -> NoReturn:
    """Say what is wrong with a call, without passwords."""
    from typer.rich_utils import rich_format_error

    # An argument too many may be the value of an option, cut from it by a blank.
    extra = error.message.startswith("Got unexpected extra argument")
    error.message = "Got unexpected extra arguments" if extra else redacted(error.message)
    rich_format_error(error)
    sys.exit(error.exit_code)


def _say(text: str) -> None:
    lines = "\n".join(map(printable, text.splitlines()))
    print(lines, file=sys.stderr)  # noqa: T201 (the command line's own words)


def _fail(message: str) -> NoReturn:
    if "--debug" in sys.argv:
        _say(traceback.format_exc())
    _say(f"shardkit: {message}")
    sys.exit(1)

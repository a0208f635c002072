"""From the shell to the commands and back: stops, errors, exit codes."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

from shardkit.cli.stop import leave_when_stopped
from shardkit.errors import ShardkitError
from shardkit.redact import printable

__all__ = ["main"]


def main() -> None:
    """Run the command line.

    The exit code is 0 for success, 1 for an error of shardkit's, 2 for a wrong call, 130 or 143 when stopped.
    """
    # Before anything large is imported, which takes most of the first second.
    leave_when_stopped()
    try:
        from shardkit.cli.commands import app

        app()
    except (ShardkitError, ImportError) as exc:
        _fail(str(exc))
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _fail(message: str) -> NoReturn:
    if "--debug" in sys.argv:
        traceback.print_exc()
    lines = "\n".join(map(printable, message.splitlines()))
    print(f"shardkit: {lines}", file=sys.stderr)  # noqa: T201 (the command line's own words)
    sys.exit(1)

"""What a path may lead to besides a regular file."""

import os
import socket
from pathlib import Path

__all__ = ["SPECIAL", "make_special"]

SPECIAL = ("fifo", "link to a fifo", "socket", "folder", "device", "endless file", "file that lies", "loop")


def make_special(path: Path, kind: str) -> Path:
    """Put something in a file's place.

    Args:
        path: The place, which is emptied first.
        kind: One of `SPECIAL`.

    Returns:
        The place.
    """
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link to a fifo":
        beside = path.parent / f"fifo-for-{path.name}"
        beside.unlink(missing_ok=True)
        os.mkfifo(beside)
        path.symlink_to(beside)
    elif kind == "socket":
        # A short path, as sockets need one.
        here = os.open(path.parent, os.O_RDONLY)
        try:
            with socket.socket(socket.AF_UNIX) as opened:
                opened.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)
    elif kind == "folder":
        path.mkdir()
    else:
        # The last two are regular files of no length, by what the system says.
        targets = {"device": "/dev/zero", "endless file": "/proc/self/pagemap", "file that lies": "/proc/version"}
        path.symlink_to(targets.get(kind, path.name))
    return path

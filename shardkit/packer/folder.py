"""A folder of class folders as a source."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from shardkit.codecs.header import sniff
from shardkit.errors import ConfigError
from shardkit.files import open_regular
from shardkit.packer.source import Source, SourceItem, class_name, promises_picture, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shardkit.packer.options import ClassFrom

__all__ = ["read_folder"]

_SNIFFED_BYTES = 64


def read_folder(root: Path, class_from: ClassFrom = "top", *, follow_symlinks: bool = False) -> Source:
    """List the pictures below a folder of class folders.

    A file is taken by its content, never by its name alone: one whose name promises a picture must be one; any other
    is taken where its first bytes are a picture's, and else passed over and counted.

    Args:
        root: The folder.
        class_from: ``"top"``: a picture's class is the first folder of its path, as in Keras; ``"path"``: all of it.
        follow_symlinks: Whether links may lead out of the folder, or to folders.

    Returns:
        What was found.

    Raises:
        ConfigError: The folder cannot be listed.
    """
    found = Source()
    try:
        for entry, source in _walk(root, found, follow_symlinks=follow_symlinks):
            _take(entry, source, class_from, found)
        if class_from == "top":
            with os.scandir(os.fsencode(root)) as entries:
                found.classes = {class_name(e.name) for e in entries if e.is_dir() and not e.name.startswith(b".")}
    except OSError as exc:
        place = shown_path(exc.filename or os.fsencode(root))
        raise ConfigError(f"cannot list {place}: {exc.strerror}", setting="source", value=shown_path(root)) from exc
    return found


def _walk(root: Path, found: Source, *, follow_symlinks: bool) -> Iterator[tuple[os.DirEntry[bytes], bytes]]:
    """Every file below the root with its relative path; a folder is entered once on any way down."""
    inside = os.fsencode(root.resolve()) + b"/"
    todo: list[tuple[bytes, bytes, frozenset[tuple[int, int]]]] = [(os.fsencode(root), b"", frozenset())]
    while todo:
        folder, below, above = todo.pop()
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            found.failures.append(f"{shown_path(folder)}: a link that leads back to a folder above it")
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                source = below + entry.name
                if entry.is_symlink() and not follow_symlinks and not _stays(entry, inside, source, found):
                    continue
                if entry.is_dir():
                    todo.append((entry.path, source + b"/", above | {identity}))
                else:
                    yield entry, source


def _stays(entry: os.DirEntry[bytes], inside: bytes, source: bytes, found: Source) -> bool:
    """Whether a link leads to a file inside the source; what does not is a failure, never passed over in silence."""
    try:
        target = os.path.realpath(entry.path, strict=True)
    except OSError as exc:
        found.failures.append(f"{shown_path(source)}: a broken link: {exc.strerror}")
        return False
    if target.startswith(inside) and not entry.is_dir():
        return True
    kind = "a link to a folder" if entry.is_dir() else "a link that leads out of the source"
    found.failures.append(f"{shown_path(source)}: {kind}; --follow-symlinks takes it")
    return False


def _take(entry: os.DirEntry[bytes], source: bytes, class_from: ClassFrom, found: Source) -> None:
    where = shown_path(source)
    promised = promises_picture(entry.name)
    try:
        status = entry.stat()
        # Anything but a regular file is never opened: a FIFO would block for ever.
        if not stat.S_ISREG(status.st_mode):
            if promised:
                found.failures.append(f"{where}: not a regular file")
            else:
                found.ignored["(no regular file)"] += 1
            return
        if not promised and not _is_picture(entry.path):
            found.ignored[os.path.splitext(entry.name)[1].lower().decode("latin-1") or "(no suffix)"] += 1
            return
    except OSError as exc:
        found.failures.append(f"{where}: cannot be read: {exc.strerror}")
        return
    folder = source[: -len(entry.name) - 1]
    if not folder:
        found.failures.append(f"{where}: lies in no class folder, so it has no label")
        return
    name = folder if class_from == "path" else folder.split(b"/", 1)[0]
    found.items.append(SourceItem(entry.path, source, status.st_size, class_name(name), where))


def _is_picture(path: bytes) -> bool:
    with open(path, "rb", buffering=0, opener=open_regular) as file:
        # What the system makes up may have nothing to give at once.
        return sniff(file.read(_SNIFFED_BYTES) or b"") is not None

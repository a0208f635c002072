"""Files below a folder, written so that no link leads out of it, even one that is put there meanwhile."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Self

from shardkit.errors import ConfigError
from shardkit.files import open_regular, pread_all, temporary_name
from shardkit.packer.source import shown_path

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Tree"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """A folder to write files into. Folders are opened one by one below it, by descriptor and never through a link.

    Args:
        root: The folder, made if need be. It may itself be reached by links.

    Raises:
        OSError: It cannot be made or opened.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._path = root
        self._root = os.open(root, _FOLDER)
        # The folder that was written into last: files of one folder mostly come together.
        self._below: list[bytes] = []
        self._folder = os.dup(self._root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)
        os.close(self._root)

    def write(self, path: bytes, data: bytes) -> None:
        """Write a file whole or not at all. One that is there already stays, if it is the same.

        Args:
            path: Where, relative to the tree's folder, without ``..``.
            data: What.

        Raises:
            ConfigError: Another file is there.
            OSError: It cannot be written, or something else stands in its way.
        """
        *below, name = path.split(b"/")
        self._enter(below)
        found = self._read(name, len(data) + 1)
        if found == data:
            return
        if found is not None:
            raise ConfigError(
                "a file in the folder to unpack into is another than the data set's", setting="folder",
                value=f"{self._path}/{shown_path(path)}", advice="Take it away, or name an empty folder",
            )  # fmt: skip
        temporary = temporary_name()
        descriptor = os.open(temporary, _NEW_FILE, 0o666, dir_fd=self._root)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
            os.rename(temporary, name, src_dir_fd=self._root, dst_dir_fd=self._folder)
        except BaseException:
            # A stop may come just after the renaming, and must not be hidden by an error about a file that is gone.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self._root)
            raise

    def _enter(self, below: list[bytes]) -> None:
        if below == self._below:
            return
        folder = os.dup(self._root)
        try:
            for name in below:
                try:
                    inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                except FileNotFoundError:
                    os.mkdir(name, dir_fd=folder)
                    inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = inner
        except OSError:
            os.close(folder)
            raise
        os.close(self._folder)
        self._below, self._folder = below, folder

    def _read(self, name: bytes, size: int) -> bytes | None:
        """The start of a file that is there already."""
        try:
            descriptor = open_regular(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._folder)
        except FileNotFoundError:
            return None
        try:
            return pread_all(descriptor, size, 0)
        finally:
            os.close(descriptor)

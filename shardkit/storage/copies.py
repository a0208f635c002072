"""An object as a file of this machine, for those who need all of it."""

from __future__ import annotations

import contextlib
import tempfile
from typing import TYPE_CHECKING

from shardkit.errors import StorageError
from shardkit.storage.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardkit.storage.base import Store

__all__ = ["local_copy"]


@contextlib.contextmanager
def local_copy(store: Store, name: str, num_bytes: int) -> Iterator[LocalStore]:
    """A store of this machine that has an object: the same store, or a temporary folder.

    Args:
        store: Where the object is.
        name: Its name.
        num_bytes: The most bytes to copy.

    Yields:
        The store.

    Raises:
        StorageError: It cannot be read, is longer, or there is no room for it.
    """
    if isinstance(store, LocalStore):
        yield store
        return
    try:
        with tempfile.TemporaryDirectory(prefix="shardkit-") as folder:
            copy = LocalStore(folder)
            store.download(name, num_bytes, copy.path(name))
            yield copy
    except OSError as exc:
        if isinstance(exc, StorageError):
            raise
        raise StorageError(f"cannot copy to this machine: {exc.strerror or exc}", url=store.url) from exc

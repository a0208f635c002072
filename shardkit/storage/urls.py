"""From a URL to the store behind it."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from shardkit.errors import ConfigError
from shardkit.storage.local import LocalStore

__all__ = ["open_store"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_store(url: str | os.PathLike[str]) -> LocalStore:
    """The store behind a path or a ``file://`` URL.

    Args:
        url: A path of this machine, or ``file:///...``.

    Returns:
        The store. Nothing is read or made yet.

    Raises:
        ConfigError: The URL's scheme is not one that shardkit reads.
    """
    text = os.fspath(url)
    found = _SCHEME.match(text)
    if not text:
        raise ConfigError("the place of a data set is empty", setting="url", value=text)
    if found is None:
        return LocalStore(text)
    parts = urlsplit(text)
    if parts.scheme != "file":
        raise ConfigError(
            f"shardkit does not read {parts.scheme}:// URLs", setting="url", value=f"{parts.scheme}://…",
            advice="Give a path or a file:// URL",
        )  # fmt: skip
    if parts.netloc not in {"", "localhost"}:
        raise ConfigError("a file:// URL names no host", setting="url", value=text, advice="Write file:///path")
    return LocalStore(unquote(parts.path))

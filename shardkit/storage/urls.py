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
        ConfigError: It is no path, or the URL's scheme is not one that shardkit reads.
    """
    text = _as_text(url)
    if _SCHEME.match(text) is None:
        return LocalStore(text)
    try:
        parts = urlsplit(text)
    except ValueError as exc:
        raise ConfigError(f"not a URL: {exc}", setting="url", value=text) from exc
    if parts.scheme != "file":
        raise ConfigError(
            f"shardkit does not read {parts.scheme}:// URLs", setting="url", value=f"{parts.scheme}://…",
            advice="Give a path or a file:// URL",
        )  # fmt: skip
    if parts.netloc not in {"", "localhost"}:
        raise ConfigError("a file:// URL names no host", setting="url", value=text, advice="Write file:///path")
    return LocalStore(_as_text(unquote(parts.path)))


def _as_text(url: str | os.PathLike[str]) -> str:
    """A path or URL as text that the system can take."""
    try:
        text = os.fsdecode(url)
        os.fsencode(text)
    except (TypeError, UnicodeError) as exc:
        raise ConfigError(f"the place of a data set is a path or a URL: {exc}", setting="url", value=url) from exc
    if not text or "\0" in text:
        what = "has a zero byte" if text else "is empty"
        raise ConfigError(f"the place of a data set {what}", setting="url", value=text)
    return text

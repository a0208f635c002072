"""From an image's path to its key."""

from __future__ import annotations

import re

from shardkit.codecs.header import PICTURE_SUFFIXES

__all__ = ["PICTURE_SUFFIX_BYTES", "encode_key", "percent", "without_suffix"]

PICTURE_SUFFIX_BYTES = frozenset(suffix.encode() for suffix in PICTURE_SUFFIXES)
"""File-name suffixes, in lower case, that promise a picture, as bytes."""

# What no reader of tar shards may see raw in a key: dots end a key, control bytes break terminals and tables, and
# what is not UTF-8 breaks JSON.
_UNSAFE = re.compile("[.%\x00-\x1f\x7f\udc80-\udcff]")


def encode_key(source: bytes) -> str:
    """The key of a picture: its relative path without its picture suffix, with unsafe bytes percent-encoded.

    Args:
        source: The path, ``/`` between folders.

    Returns:
        The key: ``b"v1.0/a.b.jpg"`` gives ``"v1%2E0/a%2Eb"``.
    """
    return _UNSAFE.sub(percent, without_suffix(source).decode("utf-8", "surrogateescape"))


def without_suffix(source: bytes) -> bytes:
    """A picture's relative path without its picture suffix; different for pictures of different keys."""
    if (suffix := source[source.rfind(b".") :]).lower() not in PICTURE_SUFFIX_BYTES:
        return source
    stem = source[: -len(suffix)]
    # As os.path.splitext has it: leading dots belong to the stem, and a name is more than its suffix.
    return stem if stem[stem.rfind(b"/") + 1 :].strip(b".") else source


def percent(found: re.Match[str]) -> str:
    """A character that was found, percent-encoded; one that stands for a stray byte as that byte."""
    return f"%{found[0].encode('utf-8', 'surrogateescape')[0]:02X}"

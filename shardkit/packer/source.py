"""What is to be packed: pictures with their labels, as references, never as bytes."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from shardkit.codecs.header import PICTURE_SUFFIXES
from shardkit.redact import printable

__all__ = ["Source", "SourceItem", "class_name", "encode_key", "promises_picture", "shown_path", "without_suffix"]

_SUFFIXES = frozenset(suffix.encode() for suffix in PICTURE_SUFFIXES)
# What no reader of tar shards may see raw in a key: dots end a key, control bytes break terminals and tables, and
# what is not UTF-8 breaks JSON.
_UNSAFE = re.compile("[.%\x00-\x1f\x7f\udc80-\udcff]")
# Bytes that are not UTF-8, and what would else look like one of them encoded.
_STRAY = re.compile("%(?=[89A-F][0-9A-F]|25)|[\udc80-\udcff]")


class SourceItem(NamedTuple):
    """One picture to be packed.

    Attributes:
        path: Where it is read from.
        source: Its path relative to the source's root, which is kept in the data set.
        size: Its length in bytes when it was listed.
        label: Its label as the source has it.
        where: What to call it in messages.
    """

    path: bytes
    source: bytes
    size: int
    label: str
    where: str


@dataclass(slots=True)
class Source:
    """Everything that was found.

    Attributes:
        items: The pictures, in no order.
        classes: Class names that the source knows besides those of its pictures, such as empty class folders.
        failures: What cannot be packed, one line each, the file named first.
        ignored: How many files that are no pictures were passed over, by suffix.
    """

    items: list[SourceItem] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def encode_key(source: bytes) -> str:
    """The key of a picture: its relative path without its picture suffix, with unsafe bytes percent-encoded.

    Args:
        source: The path, ``/`` between folders.

    Returns:
        The key: ``b"v1.0/a.b.jpg"`` gives ``"v1%2E0/a%2Eb"``.
    """
    return _UNSAFE.sub(_percent, without_suffix(source).decode("utf-8", "surrogateescape"))


def without_suffix(source: bytes) -> bytes:
    """A picture's relative path without its picture suffix; different for pictures of different keys."""
    if (suffix := source[source.rfind(b".") :]).lower() not in _SUFFIXES:
        return source
    stem = source[: -len(suffix)]
    # As os.path.splitext has it: leading dots belong to the stem, and a name is more than its suffix.
    return stem if stem[stem.rfind(b"/") + 1 :].strip(b".") else source


@lru_cache(maxsize=4096)
def class_name(folder: bytes) -> str:
    r"""The class that a folder's name gives: the name itself, and two names never give one class.

    Args:
        folder: The name, or several with ``/`` between.

    Returns:
        The class: bytes that are not UTF-8 are percent-encoded, ``b"caf\xe9"`` gives ``"caf%E9"``; a ``%`` only where
        the name would else read like such a byte, ``b"caf%E9"`` gives ``"caf%25E9"``.
    """
    return _STRAY.sub(_percent, folder.decode("utf-8", "surrogateescape"))


def _percent(found: re.Match[str]) -> str:
    return f"%{found[0].encode('utf-8', 'surrogateescape')[0]:02X}"


def shown_path(path: bytes | str | os.PathLike[str]) -> str:
    """A path as it may go into a message or onto a terminal: control and stray bytes escaped."""
    return printable(os.fsdecode(path))


def promises_picture(name: bytes) -> bool:
    """Whether a file's name says that it is a picture. Names with a leading dot promise nothing."""
    return name[:1] != b"." and name[name.rfind(b".") :].lower() in _SUFFIXES

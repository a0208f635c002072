"""What is to be packed: pictures with their labels, as references, never as bytes."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from shardkit.manifest.keys import PICTURE_SUFFIX_BYTES, encode_key, percent, without_suffix
from shardkit.redact import printable

__all__ = ["Source", "SourceItem", "class_name", "encode_key", "promises_picture", "shown_path", "without_suffix"]

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


@lru_cache(maxsize=4096)
def class_name(folder: bytes) -> str:
    r"""The class that a folder's name gives: the name itself, and two names never give one class.

    Args:
        folder: The name, or several with ``/`` between.

    Returns:
        The class: bytes that are not UTF-8 are percent-encoded, ``b"caf\xe9"`` gives ``"caf%E9"``; a ``%`` only where
        the name would else read like such a byte, ``b"caf%E9"`` gives ``"caf%25E9"``.
    """
    return _STRAY.sub(percent, folder.decode("utf-8", "surrogateescape"))


def shown_path(path: bytes | str | os.PathLike[str]) -> str:
    """A path as it may go into a message or onto a terminal: control and stray bytes escaped."""
    return printable(os.fsdecode(path))


def promises_picture(name: bytes) -> bool:
    """Whether a file's name says that it is a picture. Names with a leading dot promise nothing."""
    return name[:1] != b"." and name[name.rfind(b".") :].lower() in PICTURE_SUFFIX_BYTES

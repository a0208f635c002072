"""A training run in one file: named arrays and a JSON document, written atomically. No pickle."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from shardkit.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shardkit.storage import Store, Writer

__all__ = ["SNAPSHOT_VERSION", "Snapshot", "from_plain", "read_snapshot", "to_plain", "write_snapshot"]

_MOST_BYTES = 2**40
SNAPSHOT_VERSION = 2
_DOCUMENT = "document"


class Snapshot:
    """What is in the file.

    Args:
        document: Plain values.
        arrays: Arrays by name. Types that numpy has no name for, such as bfloat16, are kept as bytes.
    """

    def __init__(self, document: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        self.document = document
        self.arrays = arrays


class _FileOf(io.RawIOBase):
    """A store's writer as the file that `numpy.savez` wants."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._writer.write(data)
        return len(memoryview(data).cast("B"))


def write_snapshot(store: Store, name: str, snapshot: Snapshot) -> None:
    """Write the file; a kill at any moment leaves the one before.

    Args:
        store: Where.
        name: The file's name.
        snapshot: What.

    Raises:
        StorageError: It cannot be written.
    """
    document = {"shardkit_snapshot": SNAPSHOT_VERSION, **snapshot.document}
    text = np.frombuffer(json.dumps(document).encode(), dtype=np.uint8)
    with store.write(name) as writer, _FileOf(writer) as file:
        # Nothing is pickled: all are arrays of numbers. Older versions of numpy cannot be told so.
        arrays: dict[str, Any] = {_DOCUMENT: text, **snapshot.arrays}
        np.savez(file, **arrays)


def read_snapshot(store: Store, name: str) -> Snapshot | None:
    """Read the file.

    Args:
        store: Where.
        name: The file's name.

    Returns:
        What is in it; ``None`` where there is no file.

    Raises:
        StateError: It is not such a file, or of another version.
        StorageError: It cannot be read.
    """
    # Not being able to read it must not be taken for a file that is no saved run.
    data = store.read_if_there(name, _MOST_BYTES)
    if data is None:
        return None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            arrays = {key: found[key] for key in found.files}
        document = json.loads(arrays.pop(_DOCUMENT).tobytes())
        version = document["shardkit_snapshot"]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, TypeError) as exc:
        raise StateError(
            f"{name} is not a saved run: {exc}", setting="directory", advice="Delete it to begin from the start"
        ) from exc
    if version != SNAPSHOT_VERSION:
        raise StateError(
            f"{name} was saved by another version of shardkit",
            setting="shardkit_snapshot", expected=version, found=SNAPSHOT_VERSION,
            advice="Resume with that version of shardkit, or give Resume another directory",
        )  # fmt: skip
    return Snapshot(document, arrays)


def to_plain(value: Any, name: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """A value as JSON can hold it; arrays in it go into the given dictionary.

    Args:
        value: Numbers, texts, ``None``, arrays, and lists, tuples and dictionaries of them.
        name: What to call its arrays.
        arrays: Takes them.

    Returns:
        The plain value, for `from_plain`.

    Raises:
        TypeError: There is something else in it.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        arrays[name] = value
        return {"array": name}
    if isinstance(value, (list, tuple)):
        return {"list": [to_plain(item, f"{name}.{number}", arrays) for number, item in enumerate(value)]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: to_plain(item, f"{name}.{key}", arrays) for key, item in value.items()}}
    raise TypeError(f"{name} is a {type(value).__name__}")


def from_plain(value: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    """The value that `to_plain` was given."""
    if not isinstance(value, dict):
        return value
    kind, inner = next(iter(value.items()))
    if kind == "array":
        return arrays[inner]
    if kind == "list":
        return [from_plain(item, arrays) for item in inner]
    return {key: from_plain(item, arrays) for key, item in inner.items()}

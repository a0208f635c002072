"""The source tree back from a data set."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from shardkit.errors import ConfigError, FormatError, StorageError
from shardkit.manifest import open_dataset

if TYPE_CHECKING:
    from shardkit.manifest import DataSet, ShardRow

__all__ = ["unpack"]

LABELS_NAME = "labels.csv"


def unpack(url: str | os.PathLike[str], folder: str | os.PathLike[str], *, split: str | None = None) -> int:
    """Write the pictures of a data set back under the paths they had, byte for byte.

    Where the labels came from a table and not from folders, they are written too, as ``labels.csv``.

    Args:
        url: The data set.
        folder: Where the tree goes: missing or empty.
        split: One split only; all of them without it.

    Returns:
        The pictures written.

    Raises:
        ConfigError: The folder is not empty, a path would lead out of it, or there is no such split.
        FormatError: A shard is damaged.
        StorageError: Something cannot be read or written.
    """
    dataset = open_dataset(url)
    rows = dataset.shards if split is None else dataset.split(split).shards
    root = Path(folder)
    if root.is_dir() and any(root.iterdir()):
        raise ConfigError("the folder to unpack into is not empty", setting="folder", value=str(root))
    count = 0
    labels: list[tuple[bytes, str]] = []
    try:
        root.mkdir(parents=True, exist_ok=True)
        for row in rows:
            count += _unpack_shard(dataset, row, root, labels)
        if dataset.manifest.packed.get("labels_from") == "table":
            with (root / LABELS_NAME).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
                writer = csv.writer(file)
                writer.writerow(["path", "label"])
                writer.writerows((os.fsdecode(source), label) for source, label in sorted(labels))
    except OSError as exc:
        if isinstance(exc, StorageError):
            raise
        raise StorageError(f"cannot write: {exc.strerror}", url=str(exc.filename or root), operation="write") from exc
    return count


def _unpack_shard(dataset: DataSet, row: ShardRow, root: Path, labels: list[tuple[bytes, str]]) -> int:
    table = dataset.sample_table(row)
    columns = table.fields["image"]
    for place, source in enumerate(table.sources):
        offset, size = int(columns.offset[place]), int(columns.size[place])
        data = dataset.store.read_range(row.name, offset, size)
        if xxhash.xxh3_64_intdigest(data) != int(columns.xxh3_64[place]):
            raise FormatError(
                "the bytes are not those that were packed", shard=row.name, key=table.keys[place], field="image",
                offset=offset, advice="`shardkit verify` names all that is damaged",
            )  # fmt: skip
        _write_new(_inside(root, source), data)
        labels.append((source, dataset.manifest.classes[int(table.labels[place])]))
    return len(table)


def _inside(root: Path, source: bytes) -> Path:
    """Where a source path goes; one that would leave the folder comes from no packer of ours."""
    parts = source.split(b"/")
    if not source or b"\0" in source or any(part in {b"", b".", b".."} for part in parts):
        raise ConfigError("a source path of the data set leads out of the folder", setting="source", value=repr(source))
    return root.joinpath(os.fsdecode(source))


def _write_new(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)

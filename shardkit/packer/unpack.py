"""The source tree back from a data set."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
import xxhash

from shardkit.errors import ConfigError, FormatError, StorageError
from shardkit.files import is_temporary
from shardkit.manifest import open_dataset
from shardkit.manifest.checks import check_sources
from shardkit.packer.source import shown_path, without_suffix
from shardkit.packer.tree import Tree
from shardkit.storage import StoreOptions, check_local, local_copy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardkit.manifest import DataSet, ShardRow, ShardTable
    from shardkit.storage import Store, StoreKeywords

__all__ = ["unpack"]

LABELS_NAME = b"labels.csv"


def unpack(
    url: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    split: str | None = None,
    **options: Unpack[StoreKeywords],
) -> int:
    """Write the pictures of a data set back under the paths they had, byte for byte as they are stored.

    Pictures that are stored raw are written as PNG, which loses nothing, with the suffix ``.png`` in place of theirs.
    Where the labels came from a table and not from folders, they are written too, as ``labels.csv``. Stopped at any
    moment and called again, it goes on.

    Args:
        url: The data set.
        folder: Where the tree goes: missing, empty, or with nothing in it but what an earlier call wrote there.
        split: One split only; all of them without it.
        options: As for `read_manifest`.

    Returns:
        The pictures that are there now.

    Raises:
        ConfigError: The folder is a URL or holds something else, a path would lead out of it, or there is no such
            split.
        FormatError: A shard, a table or the manifest is damaged.
        StorageError: Something cannot be read or written.
    """
    root = Path(check_local(folder, "folder"))
    dataset = open_dataset(url, StoreOptions(**options))
    rows = dataset.shards if split is None else dataset.split(split).shards
    with_labels = dataset.manifest.packed.get("labels_from") == "table"
    paths = _paths(dataset, rows, with_labels=with_labels)
    count = 0
    labels: list[tuple[bytes, str]] = []
    try:
        with Tree(root) as tree:
            _clear(root, paths | {LABELS_NAME} if with_labels else paths)
            for row in rows:
                count += _unpack_shard(dataset, row, tree, labels)
            if with_labels:
                tree.write(LABELS_NAME, _labels_file(labels))
    except (OSError, ValueError) as exc:
        if isinstance(exc, StorageError | ConfigError | FormatError):
            raise
        reason, where = (exc.strerror, exc.filename) if isinstance(exc, OSError) else (str(exc), None)
        where = shown_path(where or root)
        raise StorageError(f"cannot write: {reason}", url=where, operation="write") from exc
    return count


def _paths(dataset: DataSet, rows: ShardTable, *, with_labels: bool) -> set[bytes]:
    """The path of every picture; what is wrong with one is said before anything is written."""
    paths: set[bytes] = set()
    for row in rows:
        table = dataset.sample_table(row)
        check_sources(table, row)
        paths.update(_path(dataset, source) for source in table.sources)
    for source in paths:
        # What would leave the folder comes from no packer of ours.
        if not source or b"\0" in source or not {b"", b".", b".."}.isdisjoint(source.split(b"/")):
            raise ConfigError(
                "a source path of the data set leads out of the folder", setting="source", value=repr(source)
            )
    if with_labels and LABELS_NAME in paths:
        raise ConfigError(
            f"a picture of the data set has the name of the table of labels, {LABELS_NAME.decode()}",
            setting="source", value=LABELS_NAME.decode(), advice="Read the data set with a Loader instead",
        )  # fmt: skip
    return paths


def _path(dataset: DataSet, source: bytes) -> bytes:
    """Where a picture goes. Two that differ in their suffix only do not meet: their keys would be the same."""
    return source if dataset.manifest.fields["image"].shape is None else without_suffix(source) + b".png"


def _clear(root: Path, paths: set[bytes]) -> None:
    """Take away what a stopped call left half written, and refuse what is none of ours."""
    for entry, name in _files(root):
        if name in paths and entry.is_file(follow_symlinks=False):
            continue
        if not is_temporary(os.fsdecode(name)) or not entry.is_file(follow_symlinks=False):
            raise ConfigError(
                f"the folder to unpack into holds something else: {shown_path(name)}", setting="folder",
                value=str(root), advice="Name an empty folder or a new one",
            )  # fmt: skip
        os.unlink(entry.path)


def _files(root: Path) -> Iterator[tuple[os.DirEntry[bytes], bytes]]:
    """Everything below the root but folders, with its relative path."""
    todo = [(os.fsencode(root), b"")]
    while todo:
        folder, below = todo.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append((entry.path, below + entry.name + b"/"))
                else:
                    yield entry, below + entry.name


def _unpack_shard(dataset: DataSet, row: ShardRow, tree: Tree, labels: list[tuple[bytes, str]]) -> int:
    with local_copy(dataset.store, row.name, row.num_bytes) as store:
        return _unpack_from(store, dataset, row, tree, labels)


def _unpack_from(store: Store, dataset: DataSet, row: ShardRow, tree: Tree, labels: list[tuple[bytes, str]]) -> int:
    table = dataset.sample_table(row)
    columns, shape = table.fields["image"], dataset.manifest.fields["image"].shape
    for place, source in enumerate(table.sources):
        offset, size = int(columns.offset[place]), int(columns.size[place])
        data = store.read_range(row.name, offset, size)
        if xxhash.xxh3_64_intdigest(data) != int(columns.xxh3_64[place]):
            raise FormatError(
                "the bytes are not those that were packed", shard=row.name, key=table.keys[place], field="image",
                offset=offset, advice="`shardkit verify` names all that is damaged",
            )  # fmt: skip
        path = _path(dataset, source)
        tree.write(path, data if shape is None else _as_png(data, shape))
        labels.append((path, dataset.manifest.classes[int(table.labels[place])]))
    return len(table)


def _as_png(data: bytes, shape: tuple[int, ...]) -> bytes:
    from shardkit.codecs.encode import encode_png

    return encode_png(np.frombuffer(data, dtype=np.uint8).reshape(shape))


def _labels_file(labels: list[tuple[bytes, str]]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["path", "label"])
    writer.writerows((os.fsdecode(source), label) for source, label in sorted(labels))
    return file.getvalue().encode("utf-8", "surrogateescape")

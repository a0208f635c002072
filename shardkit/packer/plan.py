"""From pictures to shards on paper: who goes into which split and shard, in which order. Pure: no bytes are read."""

from __future__ import annotations

import bisect
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

from shardkit.errors import ConfigError, PackError
from shardkit.formats.tar import END_OF_ARCHIVE, member_length, padding
from shardkit.keyed import derive_key
from shardkit.manifest.limits import MAX_MANIFEST_BYTES, MAX_TABLE_BYTES, table_bytes
from shardkit.packer.source import encode_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from shardkit.packer.options import PackOptions
    from shardkit.packer.pictures import PictureOptions
    from shardkit.packer.source import Source

__all__ = ["PackPlan", "ShardTask", "TaskItem", "make_plan"]

_MAX_CLASSES = 1_000_000
_CLASS_BYTES = 4  # of a manifest, around a class's name
_OTHER_BYTES = 2**18  # of a manifest, that are no names of classes
_MAX_SHARDS = 2**20
_LABEL_BYTES = 512  # a label's member without its header, which is as long as its picture's


class TaskItem(NamedTuple):
    """One picture of a shard: where it is read, and what it becomes."""

    path: bytes
    source: bytes
    size: int
    key: str
    label: int
    where: str


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to be packed: the unit of work, of retry and of going on after a stop."""

    name: str
    split: str
    items: tuple[TaskItem, ...]


@dataclass(frozen=True, slots=True)
class PackPlan:
    """A data set before it exists.

    Attributes:
        classes: Class names by integer label.
        tasks: The shards, in pack order.
        digest: Of everything that decides the data set's bytes but the pictures' own: 32 hexadecimal digits.
    """

    classes: tuple[str, ...]
    tasks: tuple[ShardTask, ...]
    digest: str


def make_plan(source: Source, options: PackOptions) -> PackPlan:
    """Plan a data set.

    The plan depends on the pictures' relative paths, sizes and labels and on the options, and on nothing else.

    Args:
        source: The pictures.
        options: The options that decide the bytes.

    Returns:
        The plan.

    Raises:
        PackError: Two pictures have the same key.
        ConfigError: A split would be empty, or the labels are numbers that cannot be class numbers.
    """
    classes, numbers = _classes(source, options)
    found = [encode_key(item.source) for item in source.items]
    # By the key, then the path: no key holds a NUL.
    ranks = [key.encode() + b"\0" + item.source for key, item in zip(found, source.items, strict=True)]
    items = [
        TaskItem(item.path, item.source, item.size, found[place], numbers[item.label], item.where)
        for place, item in ((place, source.items[place]) for place in sorted(range(len(ranks)), key=ranks.__getitem__))
    ]
    _refuse_duplicates(items)
    keys = [item.key.encode() for item in items]
    tasks: list[ShardTask] = []
    for name, members in _splits(keys, items, options):
        shuffled = _hashes([keys[m] for m in members], "pack order", options.seed).argsort(kind="stable")
        chosen = (
            [items[members[place]] for place in shuffled.tolist()] if options.shuffle else [items[m] for m in members]
        )
        for number, part in enumerate(_shards(chosen, options)):
            tasks.append(ShardTask(f"{name}-{number:06d}.tar", name, part))
    _refuse_long_tables(classes, tasks)
    return PackPlan(classes, tuple(tasks), _digest(tasks, classes, options))


def _classes(source: Source, options: PackOptions) -> tuple[tuple[str, ...], dict[str, int]]:
    """Class names by number, and the number of each label.

    Labels of a table that are all whole numbers are kept as they are; names are numbered in sorted order, as in Keras.
    """
    labels = {item.label for item in source.items} | source.classes
    if options.labels_from == "table" and all(label.isascii() and label.isdigit() for label in labels):
        # By the number of digits first: Python makes no int of thousands of them.
        highest = max(labels, key=lambda label: (len(label), label))
        if len(highest) > len(str(_MAX_CLASSES)) or int(highest) >= _MAX_CLASSES:
            raise ConfigError(
                "labels that are numbers are taken as class numbers, and this one is too large", setting="label",
                value=highest, advice="Give the classes names, or numbers from 0",
            )  # fmt: skip
        return tuple(str(number) for number in range(int(highest) + 1)), {label: int(label) for label in labels}
    names = sorted(labels)
    return tuple(names), {name: number for number, name in enumerate(names)}


def _refuse_duplicates(items: Sequence[TaskItem]) -> None:
    failures = [
        f"{second.where}: has the same key as {first.where}: {first.key}"
        for first, second in itertools.pairwise(items)
        if first.key == second.key
    ]
    if failures:
        raise PackError(
            f"{len(failures)} pictures have a key that another one has", tuple(failures),
            advice="A key is the path without its suffix: rename one of each two",
        )  # fmt: skip


def _refuse_long_tables(classes: Sequence[str], tasks: Sequence[ShardTask]) -> None:
    """Refuse what would be packed and then not read, since readers take no manifest and no table of any length."""
    if len(json.dumps(classes)) + _CLASS_BYTES * len(classes) > MAX_MANIFEST_BYTES - _OTHER_BYTES:
        raise ConfigError(
            f"the names of {len(classes)} classes do not fit the manifest", setting="label",
            advice="Give the classes shorter names",
        )  # fmt: skip
    if len(tasks) > _MAX_SHARDS:
        raise ConfigError(
            f"{len(tasks)} shards are too many", setting="shard_size", advice="Make shards larger with --shard-size"
        )
    for task in tasks:
        texts = sum(len(item.key.encode()) + len(item.source) for item in task.items) if len(task.items) > 2**10 else 0
        if table_bytes(texts, len(task.items), 0) > MAX_TABLE_BYTES:
            raise ConfigError(
                f"the table of {len(task.items)} samples of a shard would be too long", setting="shard_size",
                advice="Make shards smaller with --shard-size or --shard-samples",
            )  # fmt: skip


def _hashes(keys: Sequence[bytes], purpose: str, seed: int) -> NDArray[np.uint64]:
    key = derive_key(purpose, seed=seed).first
    return np.fromiter((xxhash.xxh3_64_intdigest(k, key) for k in keys), dtype=np.uint64, count=len(keys))


def _splits(keys: Sequence[bytes], items: Sequence[TaskItem], options: PackOptions) -> Iterator[tuple[str, list[int]]]:
    """The members of each split, by number, ascending."""
    hashes = _hashes(keys, "split", options.seed)
    bounds = np.cumsum([fraction for _, fraction in options.split])
    if options.stratify:
        places = _stratified(hashes, np.array([item.label for item in items]), bounds)
    else:
        places = np.searchsorted(bounds[:-1], hashes.astype(np.float64) / 2.0**64, side="right")
    for number, (name, _) in enumerate(options.split):
        members = np.flatnonzero(places == number).tolist()
        if not members:
            raise ConfigError(
                f"split {name} would be empty: there are {len(items)} pictures",
                setting="split", value=dict(options.split),
                advice="Give it a larger fraction, or use --stratify",
            )  # fmt: skip
        yield name, members


def _stratified(
    hashes: NDArray[np.uint64], labels: NDArray[np.int64], bounds: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The split of each sample: those of a class are ranked by their hash and cut at the exact proportions."""
    places = np.zeros(len(hashes), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranked = members[hashes[members].argsort(kind="stable")]
        cuts = np.floor(bounds[:-1] * len(members) + 0.5).astype(np.int64)
        places[ranked] = np.searchsorted(cuts, np.arange(len(members)), side="right")
    return places


def _shards(items: Sequence[TaskItem], options: PackOptions) -> Iterator[tuple[TaskItem, ...]]:
    """Runs of samples that fit into a shard; one that is larger than a shard gets its own."""
    lengths = np.fromiter((_length(item, options.pictures) for item in items), dtype=np.int64, count=len(items))
    ends = np.cumsum(lengths).tolist()
    room = options.shard_bytes - len(END_OF_ARCHIVE)
    start = 0
    while start < len(items):
        before = ends[start - 1] if start else 0
        stop = max(bisect.bisect_right(ends, before + room), start + 1)
        if options.shard_samples is not None:
            stop = min(stop, start + options.shard_samples)
        yield tuple(items[start:stop])
        start = stop


def _length(item: TaskItem, pictures: PictureOptions) -> int:
    """The most bytes that a sample takes in a shard; what is to be expected where its picture is made smaller."""
    size = pictures.planned_bytes(item.size)
    picture = member_length(item.key.encode() + pictures.longest_extension, size)
    header = picture - size - padding(size)
    return picture + header + _LABEL_BYTES


def _digest(tasks: Sequence[ShardTask], classes: Sequence[str], options: PackOptions) -> str:
    hashed = xxhash.xxh3_128(repr((classes, sorted(options.as_json().items()))).encode())
    for task in tasks:
        hashed.update(f"{task.name}\0{len(task.items)}\n".encode())
        for item in task.items:
            hashed.update(b"%d\0%d\0%d\0" % (len(item.source), item.size, item.label))
            hashed.update(item.source)
    return hashed.hexdigest()

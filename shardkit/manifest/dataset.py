"""A packed data set as it lies in a store: manifest, root table, and sample tables when they are asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, Unpack

import numpy as np

from shardkit.errors import ConfigError, ManifestError
from shardkit.manifest.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest
from shardkit.manifest.parquet import ADVICE
from shardkit.manifest.samples import SampleTable
from shardkit.manifest.shards import SHARD_TABLE_NAME, ShardRow, ShardTable, table_name
from shardkit.storage import FetchesAhead, StoreOptions, open_store

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from shardkit.storage import Store, StoreKeywords

__all__ = ["DataSet", "Split", "dataset_in", "open_dataset", "read_manifest"]

MAX_TABLE_BYTES = 2**30
SAMPLE_BYTES = 2048  # of a shard, at least: the headers of image and label, and a block of data for each
_MOST_BYTES = 2**62  # of all shards; sums of more could overflow
T = TypeVar("T")
_READ_AGAIN = 2


@dataclass(frozen=True)
class Split:
    """The shards of one split, in pack order.

    Attributes:
        name: The split's name.
        shards: Their rows in the root table.
    """

    name: str
    shards: ShardTable

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """``(num_shards + 1,)`` int64: the split's sample number at which each shard starts, and the total."""
        return np.concatenate([[0], np.cumsum(self.shards.num_samples)])

    @property
    def num_samples(self) -> int:
        """Samples in the split."""
        return int(self.starts[-1])

    @cached_property
    def num_bytes(self) -> int:
        """Bytes of its shards."""
        return int(self.shards.num_bytes.sum())


@dataclass(frozen=True)
class DataSet:
    """A packed data set.

    Attributes:
        store: Where it lies.
        manifest: What it is.
        shards: The rows of the root table, in pack order.
    """

    store: Store
    manifest: Manifest
    shards: ShardTable

    def split(self, name: str) -> Split:
        """One split.

        Raises:
            ConfigError: There is no split of that name.
        """
        if name not in self.manifest.splits:
            raise ConfigError(
                f"there is no split {name!r}", setting="split", value=name,
                advice=f"This data set has: {', '.join(self.manifest.splits)}",
            )  # fmt: skip
        return Split(name, self.shards.split(name))

    @property
    def is_remote(self) -> bool:
        """Whether it lies on a server."""
        return isinstance(self.store, FetchesAhead)

    def start_table(self, row: ShardRow) -> Future[bytes | None] | None:
        """Begin to fetch the file of a sample table that will be asked for; ``None`` where it is read at once.

        Args:
            row: The shard.
        """
        store = self.store
        return store.start_read(table_name(row.name), MAX_TABLE_BYTES) if isinstance(store, FetchesAhead) else None

    def sample_table(self, row: ShardRow, *, whole: bool = True, data: bytes | None = None) -> SampleTable:
        """The sample table of one shard, checked against the root table.

        Args:
            row: The shard.
            whole: Whether the columns that training does not need are read too.
            data: Its file, where `start_table` has fetched it.

        Returns:
            The table.

        Raises:
            ManifestError: It is missing, damaged, or belongs to another data set.
        """
        name = table_name(row.name)
        fields = tuple(self.manifest.fields)
        data = self.store.read_if_there(name, MAX_TABLE_BYTES) if data is None else data
        table = _parsed(
            self.store,
            name,
            MAX_TABLE_BYTES,
            data,
            lambda data: SampleTable.from_parquet(data, row, fields, whole=whole),
        )
        if table is None:
            raise ManifestError("the sample table is missing", shard=name, advice="Copy the data set again")
        self._check_arrays(table, name)
        labels = table.labels
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.manifest.classes):
            raise ManifestError("a label is of no class of the manifest", shard=name, advice="Pack the data set again")
        return table

    def _check_arrays(self, table: SampleTable, name: str) -> None:
        """Refuse a table that does not fit fields that are arrays: of one size, and with digests of blocks."""
        for field, info in self.manifest.fields.items():
            if info.shape is None:
                continue
            if (table.fields[field].size != math.prod(info.shape)).any():
                raise ManifestError(f"a size of field {field} is not that of its array", shard=name, advice=ADVICE)
            if not len(table.blocks):
                raise ManifestError("there are no digests of blocks, as arrays need", shard=name, advice=ADVICE)


def read_manifest(url: str | os.PathLike[str], **options: Unpack[StoreKeywords]) -> Manifest:
    """What a packed data set is.

    Args:
        url: The data set: a folder's path or URL.
        options: How to reach it where it is not on this machine: ``storage_options={}``, ``retries=8``,
            ``timeout=30.0``, see `StoreOptions`.

    Returns:
        Its manifest.

    Raises:
        ManifestError: There is no manifest, or it is damaged or too new.
        StorageError: It cannot be read.
        ConfigError: The URL's scheme is not one that shardkit reads.
    """
    store = open_store(url, StoreOptions(**options))
    return _manifest_in(store, store.read_if_there(MANIFEST_NAME, MAX_MANIFEST_BYTES))


def open_dataset(
    url: str | os.PathLike[str], options: StoreOptions | None = None, *, meanwhile: Callable[[], None] | None = None
) -> DataSet:
    """A packed data set: its manifest and root table, checked against each other.

    Args:
        url: The data set: a folder's path or URL.
        options: How to reach it where it is not on this machine.
        meanwhile: Called while a server's answers are on their way: for what takes time and will be needed.

    Returns:
        The data set. Sample tables are read when they are asked for.

    Raises:
        ManifestError: The manifest or the root table is missing, damaged, too new, or they do not fit.
        StorageError: They cannot be read.
        ConfigError: The URL's scheme is not one that shardkit reads.
    """
    return dataset_in(open_store(url, options), meanwhile)


def dataset_in(store: Store, meanwhile: Callable[[], None] | None = None) -> DataSet:
    """As `open_dataset`, from a store.

    Args:
        store: Where the data set lies.
        meanwhile: As there.
    """
    wanted = ((MANIFEST_NAME, MAX_MANIFEST_BYTES), (SHARD_TABLE_NAME, MAX_TABLE_BYTES))
    if isinstance(store, FetchesAhead):
        coming = [store.start_read(*what) for what in wanted]
        import pyarrow.parquet  # noqa: F401 (it takes as long as the answers, which cannot be read without it)

        if meanwhile is not None:
            meanwhile()
        of_manifest, of_shards = (future.result() for future in coming)
    else:
        of_manifest, of_shards = (store.read_if_there(*what) for what in wanted)
    manifest = _manifest_in(store, of_manifest)
    num_shards = sum(info.num_shards for info in manifest.splits.values())
    shards = _parsed(
        store,
        SHARD_TABLE_NAME,
        MAX_TABLE_BYTES,
        of_shards,
        lambda data: ShardTable.from_parquet(data, num_shards=num_shards),
    )
    if shards is None:
        raise ManifestError("the table of shards is missing", shard=SHARD_TABLE_NAME, advice="Copy the data set again")
    _check_counts(manifest, shards)
    return DataSet(store, manifest, shards)


def _manifest_in(store: Store, data: bytes | None) -> Manifest:
    manifest = _parsed(store, MANIFEST_NAME, MAX_MANIFEST_BYTES, data, Manifest.from_json)
    if manifest is None:
        raise ManifestError(
            f"no data set here: {store.url} has no {MANIFEST_NAME}",
            advice="Check the place. It is written last: if packing was stopped, run the same `shardkit pack` again",
        )
    return manifest


def _parsed(store: Store, name: str, most_bytes: int, data: bytes | None, parse: Callable[[bytes], T]) -> T | None:
    """What an object says, ``None`` where there is none; what has come damaged from a server is asked for again."""
    if data is None:
        return None
    for _ in range(_READ_AGAIN if isinstance(store, FetchesAhead) else 0):
        try:
            return parse(data)
        except ManifestError:
            again = store.read_if_there(name, most_bytes)
            if again is None or again == data:
                raise
            data = again
    return parse(data)


def _check_counts(manifest: Manifest, shards: ShardTable) -> None:
    # What is worked out of these, such as the samples of a chunk, takes memory before any other table is read.
    if (shards.num_samples > shards.num_bytes // SAMPLE_BYTES).any():
        raise ManifestError(
            "a shard has fewer bytes than its samples take", shard=SHARD_TABLE_NAME, advice="Pack the data set again"
        )
    if float(shards.num_bytes.sum(dtype=np.float64)) > _MOST_BYTES:
        raise ManifestError("the shards have more bytes than there are", shard=SHARD_TABLE_NAME, advice=ADVICE)
    for name, info in manifest.splits.items():
        mine = shards.split(name)
        found = (int(mine.num_samples.sum()), int(mine.num_bytes.sum()), len(mine))
        if found != (info.num_samples, info.num_bytes, info.num_shards):
            raise ManifestError(
                f"split {name} has other counts in the manifest than in the table of shards",
                shard=SHARD_TABLE_NAME, advice="Copy the data set again",
            )  # fmt: skip
    in_splits = sum(info.num_shards for info in manifest.splits.values())
    if shards.fingerprint() != manifest.fingerprint or in_splits != len(shards):
        raise ManifestError(
            "the table of shards belongs to another data set", shard=SHARD_TABLE_NAME, advice="Copy the data set again"
        )

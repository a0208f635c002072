"""A packed data set as it lies in a store: manifest, root table, and sample tables when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, Unpack

import numpy as np

from shardkit.errors import ConfigError, ManifestError, StorageError
from shardkit.manifest.checks import check_counts, check_table
from shardkit.manifest.limits import (
    MAX_MANIFEST_BYTES,
    SHARD_TABLE_AHEAD_BYTES,
    shard_table_bytes,
    table_file_bytes,
)
from shardkit.manifest.manifest import MANIFEST_NAME, Manifest
from shardkit.manifest.samples import SampleTable
from shardkit.manifest.shards import SHARD_TABLE_NAME, ShardRow, ShardTable, table_name
from shardkit.redact import brief
from shardkit.storage import FetchesAhead, StoreOptions, open_store

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from shardkit.storage import Store, StoreKeywords

__all__ = ["DataSet", "Split", "dataset_in", "open_dataset", "read_manifest"]

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
        if not isinstance(name, str) or name not in self.manifest.splits:
            raise ConfigError(
                f"there is no split {brief(name)}", setting="split", value=name,
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
        most_bytes = table_file_bytes(row.table_bytes)
        return store.start_read(table_name(row.name), most_bytes) if isinstance(store, FetchesAhead) else None

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
        most_bytes = table_file_bytes(row.table_bytes)
        data = self.store.read_if_there(name, most_bytes) if data is None else data
        table = _parsed(
            self.store,
            name,
            most_bytes,
            data,
            lambda data: SampleTable.from_parquet(data, row, fields, whole=whole),
        )
        if table is None:
            raise ManifestError("the sample table is missing", shard=name, advice="Copy the data set again")
        check_table(table, row, self.manifest)
        return table


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
    coming: list[Future[bytes | None]] = []
    if isinstance(store, FetchesAhead):
        # Both at once, and not one after the other.
        wanted = ((MANIFEST_NAME, MAX_MANIFEST_BYTES), (SHARD_TABLE_NAME, SHARD_TABLE_AHEAD_BYTES))
        coming = [store.start_read(*what) for what in wanted]
        from concurrent import futures

        import pyarrow.parquet  # noqa: F401 (it takes as long as the answers, which cannot be read without it)

        if meanwhile is not None:
            meanwhile()
        # Both, so that an error leaves nothing on its way.
        futures.wait(coming)
    of_manifest = coming[0].result() if coming else store.read_if_there(MANIFEST_NAME, MAX_MANIFEST_BYTES)
    manifest = _manifest_in(store, of_manifest)
    num_shards = sum(info.num_shards for info in manifest.splits.values())
    most_bytes = shard_table_bytes(num_shards)
    shards = _parsed(
        store,
        SHARD_TABLE_NAME,
        most_bytes,
        _shard_table_in(store, most_bytes, coming[1] if coming else None),
        lambda data: ShardTable.from_parquet(data, num_shards=num_shards),
    )
    if shards is None:
        raise ManifestError("the table of shards is missing", shard=SHARD_TABLE_NAME, advice="Copy the data set again")
    check_counts(manifest, shards)
    return DataSet(store, manifest, shards)


def _shard_table_in(store: Store, most_bytes: int, coming: Future[bytes | None] | None) -> bytes | None:
    """The root table's file, once it is known how long it may be."""
    if coming is not None:
        try:
            data = coming.result()
        except StorageError:
            if most_bytes <= SHARD_TABLE_AHEAD_BYTES:
                raise
            # Perhaps only since it is longer than anything that is fetched before its manifest is here.
        else:
            if data is None or len(data) <= most_bytes:
                return data
    return store.read_if_there(SHARD_TABLE_NAME, most_bytes)


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

"""The sample tables of a split, as far as training needs them, kept while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from shardkit.process import renew_after_fork

if TYPE_CHECKING:
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from shardkit.manifest import DataSet, SampleTable, Split

__all__ = ["COLUMNS", "KeyLookup", "TableCache"]

COLUMNS = ("row", "offset", "size", "digest", "label", "shard")
_MAX_BYTES = 64 * 2**20
# A run through keys stays within one shard for a while; more would be memory for nothing.
_MAX_KEY_TABLES = 4
# From a server, each that is needed again would be another request.
_MAX_REMOTE_KEY_BYTES = 32 * 2**20


class TableCache:
    """Sample tables by shard, each as one block of numbers. Safe to use from several threads.

    Args:
        dataset: The data set.
        split: The split.
    """

    def __init__(self, dataset: DataSet, split: Split) -> None:
        self._dataset = dataset
        self._split = split
        self._max_keyed_bytes = _MAX_REMOTE_KEY_BYTES if dataset.is_remote else 0
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Forget all tables."""
        self._numbers: OrderedDict[int, NDArray[np.int64]] = OrderedDict()
        self._num_bytes = 0
        self._blocks: dict[int, NDArray[np.uint64]] = {}
        self._keyed: OrderedDict[int, SampleTable] = OrderedDict()
        self._keyed_bytes = 0
        self._lock = threading.Lock()

    def numbers(self, shard: int) -> NDArray[np.int64]:
        """The rows of a shard as ``(n, 6)`` int64, columns as in `COLUMNS`; digests are uint64 in the same bits.

        Args:
            shard: The shard's number in the split.

        Returns:
            The rows, in the order in which they lie in the shard.

        Raises:
            ManifestError: The table is missing or damaged.
        """
        with self._lock:
            found = self._numbers.get(shard)
            if found is None:
                found = self._admit(shard)
            self._numbers.move_to_end(shard)
            return found

    def has(self, shard: int) -> bool:
        """Whether a shard's table is here."""
        return shard in self._numbers

    def start(self, shard: int) -> Future[bytes | None] | None:
        """Begin to fetch a table for `put`; ``None`` where it is read at once when it is needed."""
        return self._dataset.start_table(self._split.shards[shard])

    def put(self, shard: int, data: bytes | None) -> None:
        """Take a table that was fetched.

        Args:
            shard: The shard's number in the split.
            data: The table's file; ``None`` where there is none.

        Raises:
            ManifestError: It is missing or damaged.
        """
        with self._lock:
            if shard not in self._numbers:
                self._keyed_table(shard, data)
                self._admit(shard)

    def _admit(self, shard: int) -> NDArray[np.int64]:
        found = self._numbers[shard] = self._read(shard)
        self._num_bytes += found.nbytes
        while self._num_bytes > _MAX_BYTES and len(self._numbers) > 1:
            old, dropped = self._numbers.popitem(last=False)
            self._num_bytes -= dropped.nbytes
            self._blocks.pop(old, None)
        return found

    def blocks(self, shard: int) -> NDArray[np.uint64]:
        """The digests of a shard's blocks, see `SampleTable.blocks`.

        Args:
            shard: The shard's number in the split.

        Returns:
            ``(num_blocks,)`` uint64, none where samples are not kept raw.

        Raises:
            ManifestError: The table is missing or damaged.
        """
        with self._lock:
            found = self._blocks.get(shard)
            return self._keyed_table(shard).blocks if found is None else found

    def keys(self, samples: NDArray[np.int64]) -> list[str]:
        """The samples' keys, in the order asked for.

        Args:
            samples: ``(n,)`` sample numbers in the split.

        Raises:
            ManifestError: A table is missing or damaged.
        """
        shards = np.searchsorted(self._split.starts, samples, side="right") - 1
        found: list[str] = [""] * len(samples)
        with self._lock:
            for shard in np.unique(shards):
                keys = self._keyed_table(int(shard)).keys
                for place in np.flatnonzero(shards == shard):
                    found[place] = keys[int(samples[place] - self._split.starts[shard])]
        return found

    def _read(self, shard: int) -> NDArray[np.int64]:
        table = self._keyed_table(shard)
        self._blocks[shard] = table.blocks
        image = table.fields["image"]
        columns = (np.arange(len(table)), image.offset, image.size, image.xxh3_64.view(np.int64), table.labels)
        return np.column_stack([*columns, np.full(len(table), shard)])

    def _keyed_table(self, shard: int, data: bytes | None = None) -> SampleTable:
        table = self._keyed.get(shard)
        if table is None:
            table = self._dataset.sample_table(self._split.shards[shard], whole=False, data=data)
            self._keyed[shard] = table
            self._keyed_bytes += table.key_bytes
            while len(self._keyed) > _MAX_KEY_TABLES and self._keyed_bytes > self._max_keyed_bytes:
                self._keyed_bytes -= self._keyed.popitem(last=False)[1].key_bytes
        self._keyed.move_to_end(shard)
        return table


class KeyLookup:
    """The keys of some samples, looked up when they are first asked for: that may read a table again."""

    __slots__ = ("_found", "_samples", "_tables")

    def __init__(self, tables: TableCache, samples: NDArray[np.int64]) -> None:
        self._tables = tables
        self._samples = samples
        self._found: list[str] | None = None

    def __call__(self) -> list[str]:
        """The keys.

        Raises:
            ManifestError: A table is missing or damaged.
        """
        found = self._found
        if found is None:
            # Threads that ask at once look them up more than once, to the same end.
            found = self._found = self._tables.keys(self._samples)
        return found

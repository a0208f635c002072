"""Proof that a data set is whole: every digest, every count."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

import numpy as np
import xxhash

from shardkit.errors import FormatError, ShardkitError, StorageError
from shardkit.files import open_regular
from shardkit.formats.tar import iter_members
from shardkit.manifest.blocks import BlockHasher
from shardkit.manifest.dataset import DataSet, open_dataset
from shardkit.manifest.samples import BLOCK_BYTES
from shardkit.storage import StoreOptions, local_copy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shardkit.manifest.samples import SampleTable
    from shardkit.manifest.shards import ShardRow
    from shardkit.storage import StoreKeywords

__all__ = ["VerifyReport", "verify"]

_READ_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What `verify` looked at and what it found.

    Attributes:
        url: The data set, as it may be shown.
        num_shards: Shards looked at.
        num_samples: Samples looked at.
        num_bytes: Bytes read and found right.
        problems: What is wrong: one error for each damaged shard; empty for a data set that is whole.
    """

    url: str
    num_shards: int
    num_samples: int
    num_bytes: int
    problems: tuple[ShardkitError, ...]


def verify(
    url: str | os.PathLike[str],
    *,
    on_progress: Callable[[str, int], None] | None = None,
    **options: Unpack[StoreKeywords],
) -> VerifyReport:
    """Check a data set from end to end.

    Each shard's length and digest, its tar headers against its table, each field's digest, the digests of blocks where
    there are any, the table's own digest, and all counts.

    Args:
        url: The data set. Shards that are not on this machine are copied to it one at a time.
        on_progress: Called after each shard with its name and length in bytes.
        options: As for `read_manifest`.

    Returns:
        What was found.

    Raises:
        ManifestError: The manifest or the root table is missing or damaged.
        StorageError: The data set cannot be read.
    """
    dataset = open_dataset(url, StoreOptions(**options))
    problems: list[ShardkitError] = []
    num_samples = num_bytes = 0
    for row in dataset.shards:
        try:
            _verify_shard(dataset, row)
            num_samples += row.num_samples
            num_bytes += row.num_bytes
        except ShardkitError as exc:
            problems.append(exc)
        if on_progress is not None:
            on_progress(row.name, row.num_bytes)
    return VerifyReport(
        url=dataset.store.url, num_shards=len(dataset.shards), num_samples=num_samples, num_bytes=num_bytes,
        problems=tuple(problems),
    )  # fmt: skip


def _verify_shard(dataset: DataSet, row: ShardRow) -> None:
    table = dataset.sample_table(row)
    size = dataset.store.size(row.name)
    if size is None:
        raise FormatError("the shard is missing", shard=row.name, advice="Copy the data set again")
    if size != row.num_bytes:
        raise FormatError(
            f"the shard has {size} bytes instead of {row.num_bytes}",
            shard=row.name,
            offset=min(size, row.num_bytes),
        )
    with local_copy(dataset.store, row.name, row.num_bytes) as store:
        path = store.path(row.name)
        try:
            _verify_file(path, row, table)
        except OSError as exc:
            raise StorageError(f"cannot read: {exc.strerror or exc}", url=str(path), operation="read") from exc


def _verify_file(path: Path, row: ShardRow, table: SampleTable) -> None:
    """Check headers and fields, then the digests of the whole file and of its blocks."""
    with open(path, "rb", buffering=0, opener=open_regular) as file:
        members = iter_members(file, size=row.num_bytes, shard=row.name)
        _verify_members(row, table, [(member.name, member.offset, member.size) for member in members])
        _verify_fields(row, table, file.fileno())
        digest, blocks = xxhash.xxh3_128(), BlockHasher() if len(table.blocks) else None
        file.seek(0)
        # One byte more, by which a file is another one that grew meanwhile.
        left = row.num_bytes + 1
        while block := file.read(min(_READ_BYTES, left)):
            left -= len(block)
            digest.update(block)
            if blocks is not None:
                blocks.update(block)
    different = np.flatnonzero(blocks.digests() != table.blocks) if blocks is not None else np.zeros(0, dtype=np.intp)
    if digest.hexdigest() != row.digest or len(different):
        offset = int(different[0]) * BLOCK_BYTES if len(different) else None
        raise FormatError("the shard's digest differs, outside of its fields' bytes", shard=row.name, offset=offset)


def _verify_members(row: ShardRow, table: SampleTable, members: list[tuple[str, int, int]]) -> None:
    if len(members) != len(table) * len(table.fields):
        raise FormatError(f"the shard has {len(members)} members for {len(table)} samples", shard=row.name)
    found = {offset: (name, size) for name, offset, size in members}
    for place, key in enumerate(table.keys):
        for field, columns in table.fields.items():
            offset, size = int(columns.offset[place]), int(columns.size[place])
            name, length = found.get(offset, ("", -1))
            if length != size or not name.startswith(f"{key}."):
                raise FormatError(
                    "the shard's headers do not agree with its table",
                    shard=row.name,
                    key=key,
                    field=field,
                    offset=offset,
                )


def _verify_fields(row: ShardRow, table: SampleTable, descriptor: int) -> None:
    for place, key in enumerate(table.keys):
        for field, columns in table.fields.items():
            offset = int(columns.offset[place])
            data = os.pread(descriptor, int(columns.size[place]), offset)
            if xxhash.xxh3_64_intdigest(data) != int(columns.xxh3_64[place]):
                raise FormatError(
                    "the bytes are not those that were packed",
                    shard=row.name,
                    key=key,
                    field=field,
                    offset=offset,
                )

"""Proof that a data set is whole: every digest, every count."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import xxhash

from shardkit.codecs.label import decode_class
from shardkit.errors import CodecError, ConfigError, FormatError, ShardkitError, StorageError
from shardkit.files import open_regular
from shardkit.formats.tar import iter_members
from shardkit.manifest.blocks import BlockHasher
from shardkit.manifest.checks import check_sources
from shardkit.manifest.dataset import DataSet, open_dataset
from shardkit.manifest.headers import compare_header
from shardkit.manifest.samples import BLOCK_BYTES
from shardkit.redact import brief
from shardkit.storage import StoreOptions, local_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from shardkit.formats.tar import Member
    from shardkit.manifest.manifest import FieldInfo
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

    Each shard's length and digest, its tar headers against its table, each field's digest, each label against its
    member, each image's header against the columns that tell of it, each source against its key, the digests of
    blocks where there are any, those of every column of every table and of the manifest, all counts, and that no shard
    is there twice.

    Args:
        url: The data set. Shards that are not on this machine are copied to it one at a time.
        on_progress: Called after each shard with its name and length in bytes.
        options: As for `read_manifest`.

    Returns:
        What was found.

    Raises:
        ManifestError: The manifest or the root table is missing or damaged.
        StorageError: The data set cannot be read.
        ConfigError: A setting is wrong.
    """
    if on_progress is not None and not callable(on_progress):
        raise ConfigError("on_progress must be a function", setting="on_progress", value=on_progress)
    dataset = open_dataset(url, StoreOptions(**options))
    problems: list[ShardkitError] = []
    num_samples = num_bytes = 0
    names: set[str] = set()
    contents: dict[str, str] = {}
    for row in dataset.shards:
        try:
            _verify_once(row, names, contents)
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


def _verify_once(row: ShardRow, names: set[str], contents: dict[str, str]) -> None:
    """Refuse a shard that is there already, by its name or by the samples in it."""
    twin = row.name if row.name in names else contents.get(row.content) if row.num_samples else None
    if twin is not None:
        raise FormatError(f"the same samples are in the data set twice: shard {brief(twin)}", shard=row.name)
    names.add(row.name)
    contents[row.content] = row.name


def _verify_shard(dataset: DataSet, row: ShardRow) -> None:
    table = dataset.sample_table(row)
    check_sources(table, row)
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
            _verify_file(path, row, table, dataset.manifest.fields)
        except OSError as exc:
            raise StorageError(f"cannot read: {exc.strerror or exc}", url=str(path), operation="read") from exc


def _verify_file(path: Path, row: ShardRow, table: SampleTable, fields: Mapping[str, FieldInfo]) -> None:
    """Check headers and fields, then the digests of the whole file and of its blocks."""
    with open(path, "rb", buffering=0, opener=open_regular) as file:
        members = iter_members(file, size=row.num_bytes, shard=row.name)
        _verify_members(row, table, fields, {member.offset: member for member in members})
        _verify_fields(row, table, fields, file.fileno())
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


def _verify_members(
    row: ShardRow, table: SampleTable, fields: Mapping[str, FieldInfo], members: dict[int, Member]
) -> None:
    """Check that each field is a member of its own, of the right name and length."""
    if len(members) != len(table) * len(table.fields):
        raise FormatError(f"the shard has {len(members)} members for {len(table)} samples", shard=row.name)
    for place, key in enumerate(table.keys):
        for field, columns in table.fields.items():
            offset = int(columns.offset[place])
            member = members.pop(offset, None)
            names = [f"{key}.{extension}" for extension in fields[field].extensions]
            if member is None or member.size != int(columns.size[place]) or member.name not in names:
                raise FormatError(
                    "the shard's headers do not agree with its table",
                    shard=row.name, key=key, field=field, offset=offset,
                )  # fmt: skip


def _verify_fields(row: ShardRow, table: SampleTable, fields: Mapping[str, FieldInfo], descriptor: int) -> None:
    """Check each field's bytes, and that the columns of labels and of images' headers say what they say."""
    for place, key in enumerate(table.keys):
        for field, columns in table.fields.items():
            where: dict[str, Any] = {
                "shard": row.name,
                "key": key,
                "field": field,
                "offset": int(columns.offset[place]),
            }
            data = os.pread(descriptor, int(columns.size[place]), int(columns.offset[place]))
            if xxhash.xxh3_64_intdigest(data) != int(columns.xxh3_64[place]):
                raise FormatError("the bytes are not those that were packed", **where)
            if fields[field].kind == "class":
                _verify_label(data, int(table.labels[place]), where)
            else:
                compare_header(data, fields[field], table, place, where)


def _verify_label(data: bytes, label: int, where: dict[str, Any]) -> None:
    try:
        found = decode_class(data)
    except CodecError as error:
        error.locate(**where)
        raise
    if found != label:
        raise FormatError(f"the label is {found} in the shard and {label} in its table", **where)

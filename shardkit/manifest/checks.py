"""Whether tables fit the manifest, the shards and each other, as far as it can be told without the shards.

Fields lie one behind the other, nothing else between, none of them endless: so whatever reads a run of samples takes as
much memory as they have bytes, and a shard is as long as its samples are, also where somebody made a table that says
something else.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from shardkit.errors import ManifestError
from shardkit.manifest.keys import encode_key
from shardkit.manifest.limits import MAX_HEADER_BYTES, MAX_IMAGE_BYTES, MAX_LABEL_BYTES, SAMPLE_BYTES
from shardkit.manifest.parquet import ADVICE
from shardkit.manifest.shards import SHARD_TABLE_NAME, table_name

if TYPE_CHECKING:
    from shardkit.manifest.manifest import Manifest
    from shardkit.manifest.samples import SampleTable
    from shardkit.manifest.shards import ShardRow, ShardTable

__all__ = ["check_counts", "check_sources", "check_table"]

_BLOCK = 512  # of a tar archive
_MOST_OF_KIND = {"image": MAX_IMAGE_BYTES, "class": MAX_LABEL_BYTES}
_MOST_BYTES = 2**62  # of all shards; sums of more could overflow


def check_counts(manifest: Manifest, shards: ShardTable) -> None:
    """Refuse a root table that does not fit the manifest, or that claims more than there can be.

    Args:
        manifest: The manifest.
        shards: The root table.

    Raises:
        ManifestError: It is so.
    """
    # What is worked out of these, such as the samples of a chunk, takes memory before any other table is read.
    shape = manifest.fields["image"].shape or ()
    sample_bytes = max(SAMPLE_BYTES, math.prod(shape))
    if (shards.num_samples > shards.num_bytes // sample_bytes).any():
        raise ManifestError(
            "a shard has fewer bytes than its samples take", shard=SHARD_TABLE_NAME, advice="Pack the data set again"
        )
    if (shards.table_bytes > shards.num_bytes).any():
        raise ManifestError("a sample table is longer than its shard", shard=SHARD_TABLE_NAME, advice=ADVICE)
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
    right = shards.fingerprint() == manifest.fingerprint and shards.digest() == manifest.shards
    if not right or in_splits != len(shards):
        raise ManifestError(
            "the table of shards belongs to another data set", shard=SHARD_TABLE_NAME, advice="Copy the data set again"
        )


def check_table(table: SampleTable, row: ShardRow, manifest: Manifest) -> None:
    """Refuse a sample table that says what no packer writes.

    Args:
        table: The table; its fields lie within the shard.
        row: The shard's row in the root table.
        manifest: The manifest.

    Raises:
        ManifestError: It is so.
    """
    name = table_name(row.name)
    _check_arrays(table, name, manifest)
    _check_sizes(table, row, manifest)
    _check_places(table, row)
    labels = table.labels
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(manifest.classes):
        raise ManifestError("a label is of no class of the manifest", shard=name, advice="Pack the data set again")


def check_sources(table: SampleTable, row: ShardRow) -> None:
    """Refuse a sample table, read whole, in which a path is not the one that its key was made of.

    Args:
        table: The table.
        row: The shard's row in the root table.

    Raises:
        ManifestError: It is so.
    """
    for key, source in zip(table.keys[:], table.sources, strict=True):
        if encode_key(source) != key:
            raise ManifestError(
                "the source of a sample does not fit its key", shard=table_name(row.name), key=key, advice=ADVICE
            )


def _check_arrays(table: SampleTable, name: str, manifest: Manifest) -> None:
    """Refuse a table that does not fit fields that are arrays: of one size, and with digests of blocks."""
    for field, info in manifest.fields.items():
        if info.shape is None:
            continue
        if (table.fields[field].size != math.prod(info.shape)).any():
            raise ManifestError(f"a size of field {field} is not that of its array", shard=name, advice=ADVICE)
        if not len(table.blocks):
            raise ManifestError("there are no digests of blocks, as arrays need", shard=name, advice=ADVICE)


def _check_sizes(table: SampleTable, row: ShardRow, manifest: Manifest) -> None:
    for field, columns in table.fields.items():
        most = _MOST_OF_KIND.get(manifest.fields[field].kind, row.num_bytes)
        if len(table) and int(columns.size.max()) > most:
            place = int(columns.size.argmax())
            what = f"its {columns.size[place]} bytes are over the limit of {most}"
            raise _misplaced(what, table, row, field, place)


def _check_places(table: SampleTable, row: ShardRow) -> None:
    """Refuse fields that overlap, and bytes between or behind them that are no headers."""
    names = list(table.fields)
    starts = np.concatenate([table.fields[name].offset for name in names])
    sizes = np.concatenate([table.fields[name].size for name in names])
    order = np.argsort(starts, kind="stable")
    ends = (starts + sizes + -sizes % _BLOCK)[order]
    gaps = starts[order] - np.concatenate([[0], ends])[:-1]
    wrong = np.flatnonzero((gaps < _BLOCK) | (gaps > MAX_HEADER_BYTES) | (starts[order] % _BLOCK != 0))
    if len(wrong):
        field, place = divmod(int(order[wrong[0]]), len(table))
        raise _misplaced("it does not come next after a header", table, row, names[field], place)
    taken = int(ends[-1]) if len(ends) else 0
    if not 0 <= row.num_bytes - taken <= MAX_HEADER_BYTES:
        raise ManifestError(
            f"the shard has {row.num_bytes} bytes instead of the {taken} that its samples take, and the archive's end",
            shard=row.name,
            advice=ADVICE,
        )


def _misplaced(what: str, table: SampleTable, row: ShardRow, field: str, place: int) -> ManifestError:
    return ManifestError(
        what, shard=row.name, key=table.keys[place], field=field, offset=int(table.fields[field].offset[place]),
        advice=ADVICE,
    )  # fmt: skip

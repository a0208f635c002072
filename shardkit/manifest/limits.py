"""How long the files of a data set, and what is in them, may be: known before anything is read."""

from __future__ import annotations

__all__ = [
    "MAX_HEADER_BYTES",
    "MAX_IMAGE_BYTES",
    "MAX_LABEL_BYTES",
    "MAX_MANIFEST_BYTES",
    "MAX_TABLE_BYTES",
    "SAMPLE_BYTES",
    "SHARD_TABLE_AHEAD_BYTES",
    "shard_table_bytes",
    "table_bytes",
    "table_file_bytes",
]

MAX_MANIFEST_BYTES = 2**24
"""The longest manifest, which is read before anything is known. It has room for half a million names of classes."""

MAX_TABLE_BYTES = 2**28
"""The longest table, whatever is said of it."""

SHARD_TABLE_AHEAD_BYTES = 2**21
"""The most of a root table that is fetched from a server before its manifest is here."""

SAMPLE_BYTES = 2048
"""Of a shard, at least: the headers of image and label, and a block of data for each."""

MAX_IMAGE_BYTES = 2**28
"""The longest encoded image of a shard. It is held in memory whole."""

MAX_LABEL_BYTES = 64
"""The longest label of a shard: the digits of an int64 and a line end take less."""

MAX_HEADER_BYTES = 2**16
"""The most bytes between the data of two members: a header, and pax headers for a long name."""

_FILE_BYTES = 2**16  # the footer and the headers of pages, of a table of any length
_SHARD_BYTES = 2**10  # a row of the root table: names of a file and a split, three digests, three numbers
_ROW_BYTES = 96  # a row of a sample table, without key and source
_BLOCK_BYTES = 24  # a block's digest, in hexadecimal digits and once more in Arrow's own form
_MOST_RATIO = 2  # of a file to the values in it, however they are written


def table_bytes(text_bytes: int, num_samples: int, num_bytes_in_blocks: int) -> int:
    """About how many bytes the values of a sample table take: the same for any writer of Parquet.

    Args:
        text_bytes: Of all keys and sources.
        num_samples: Its rows.
        num_bytes_in_blocks: The bytes that have a digest for each block of 65,536; 0 where blocks have none.

    Returns:
        The bytes, which the root table keeps for each shard.
    """
    return text_bytes + _ROW_BYTES * num_samples + _BLOCK_BYTES * -(-num_bytes_in_blocks // 2**16)


def table_file_bytes(values: int) -> int:
    """The longest file of a sample table.

    Args:
        values: Its `table_bytes`.
    """
    return min(_FILE_BYTES + _MOST_RATIO * values, MAX_TABLE_BYTES)


def shard_table_bytes(num_shards: int) -> int:
    """The longest file of a root table with so many shards."""
    return min(_FILE_BYTES + _SHARD_BYTES * num_shards, MAX_TABLE_BYTES)

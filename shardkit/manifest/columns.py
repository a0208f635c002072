"""Digests of a table's columns, one for each, so that whoever reads some columns can check these and no others.

They are over values and not over a file's bytes: another writer of Parquet, or another version of one, gives the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from shardkit.redact import brief

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["check_columns", "number_digest", "table_digest", "text_digest"]


def text_digest(lengths: NDArray[np.int64], joined: bytes) -> str:
    """The digest of a column of texts or bytes.

    Args:
        lengths: ``(n,)`` int64, the bytes of each.
        joined: All of them, one behind the other.

    Returns:
        xxh3_128 of the lengths as little-endian int64, then of the bytes: 32 hexadecimal digits.
    """
    hashed = xxhash.xxh3_128(lengths.astype("<i8", copy=False).tobytes())
    hashed.update(joined)
    return hashed.hexdigest()


def number_digest(values: NDArray[Any]) -> str:
    """The digest of a column of whole numbers.

    Args:
        values: ``(n,)``, of any type of whole numbers.

    Returns:
        xxh3_128 of them as little-endian numbers of 64 bits: 32 hexadecimal digits.
    """
    kind = "<u8" if values.dtype == np.uint64 else "<i8"
    return xxhash.xxh3_128_hexdigest(values.astype(kind, copy=False).tobytes())


def table_digest(digests: Mapping[str, str]) -> str:
    """The digest of all columns, which the root table keeps.

    Args:
        digests: Of each column, by its name.

    Returns:
        xxh3_128 of a line ``name digest`` for each column, sorted by name: 32 hexadecimal digits.
    """
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return xxhash.xxh3_128_hexdigest(lines.encode("utf-8", "backslashreplace"))


def check_columns(said: object, table: str, found: Mapping[str, str]) -> None:
    """Compare columns that were read with what is said of them.

    Args:
        said: The digests of all columns by name, as a table's file gives them.
        table: The digest of all columns.
        found: The digests of the columns that were read.

    Raises:
        ValueError: They differ.
    """
    if not isinstance(said, dict) or not all(isinstance(digest, str) for digest in said.values()):
        raise ValueError("it has no digests of its columns")
    if table_digest(said) != table:
        raise ValueError("the digests of its columns are not those of the root table")
    for name, digest in found.items():
        if said.get(name) != digest:
            raise ValueError(f"column {brief(name)} is not as it was packed")

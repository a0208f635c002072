"""Columns to and from Parquet files, trusting nothing that is read.

Columns are made of numpy's memory and numpy's of columns, not by pyarrow's own conversions: where pandas is installed,
those import it, which takes longer than packing thousands of pictures.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from shardkit.errors import ManifestError
from shardkit.manifest.bounds import Bounds, check_bounds

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "ADVICE",
    "Bounds",
    "Texts",
    "from_parquet",
    "joined_bytes",
    "number_column",
    "numbers",
    "text_bytes",
    "text_column",
    "to_parquet",
]

_FEW_VALUES = ("split", "mode", "format")  # columns worth a dictionary
_INTEGERS = frozenset(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_MAX_OFFSET = (1 << 31) - 1
_MOST_LISTED = 10_000  # columns, groups of rows and the like, in a list of a footer
ADVICE = "Copy the data set again, or pack it again"


class Texts(Sequence[str]):
    """A column of texts as a sequence; a text becomes a Python string only when it is asked for.

    Attributes:
        column: The column.
    """

    __slots__ = ("column",)

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """The first place of a text, found without making Python strings.

        Raises:
            ValueError: It is not there.
        """
        import pyarrow.compute as pc

        place: int = pc.index(self.column, value, start=start, end=stop).as_py()
        if place < 0:
            raise ValueError(f"{value!r} is not among these texts")
        return place

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        found = self.column[place]
        return found.to_pylist() if isinstance(place, slice) else found.as_py()  # type: ignore[no-any-return]


def text_bytes(texts: Sequence[str]) -> tuple[NDArray[np.int64], bytes]:
    """The length of each text in UTF-8 as ``(n,)`` int64, and all of them joined.

    Raises:
        ValueError: One is missing, or they are no texts.
    """
    if not isinstance(texts, Texts):
        return joined_bytes([text.encode() for text in texts])
    if texts.column.null_count:
        raise ValueError("a text is missing")
    chunks = [_text_buffers(chunk) for chunk in texts.column.chunks]
    lengths = [np.diff(offsets).astype(np.int64) for offsets, _ in chunks]
    return np.concatenate([np.zeros(0, dtype=np.int64), *lengths]), b"".join(data for _, data in chunks)


def joined_bytes(parts: Sequence[bytes]) -> tuple[NDArray[np.int64], bytes]:
    """The length of each as ``(n,)`` int64, and all of them joined."""
    return np.fromiter(map(len, parts), dtype=np.int64, count=len(parts)), b"".join(parts)


def _text_buffers(chunk: pa.Array) -> tuple[NDArray[Any], bytes]:
    """Where each text of a column's chunk starts and the last one ends, and the bytes from the first start on."""
    widths = {"string": np.int32, "large_string": np.int64}
    if str(chunk.type) not in widths:
        raise ValueError(f"a column holds {chunk.type} and no texts")
    _, starts, data = chunk.buffers()
    if not len(chunk) or data is None:
        return np.zeros(len(chunk) + 1, dtype=np.int64), b""
    offsets = np.frombuffer(starts, dtype=widths[str(chunk.type)])[chunk.offset : chunk.offset + len(chunk) + 1]
    return offsets, data.slice(int(offsets[0]), int(offsets[-1] - offsets[0])).to_pybytes()


def text_column(parts: Sequence[bytes], kind: pa.DataType) -> pa.Array:
    """A column of texts or bytes.

    Args:
        parts: Their bytes.
        kind: ``pa.string()``, for which they are UTF-8, or ``pa.binary()``.
    """
    import pyarrow as pa

    ends = np.cumsum(np.fromiter(map(len, parts), dtype=np.int64, count=len(parts)))
    if len(parts) and ends[-1] > _MAX_OFFSET:
        # pyarrow makes several chunks of what does not fit one.
        return pa.array([part.decode() if pa.types.is_string(kind) else part for part in parts], kind)
    offsets = np.concatenate([np.zeros(1, dtype=np.int32), ends.astype(np.int32)])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(parts))]
    return pa.Array.from_buffers(kind, len(parts), buffers)


def number_column(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """A column of whole numbers.

    Args:
        values: ``(n,)``.
        kind: The column's type; they must fit it.
    """
    import pyarrow as pa

    data = np.ascontiguousarray(values, dtype=kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(data), [None, pa.py_buffer(data)])


def numbers(table: pa.Table, name: str, dtype: type[Any]) -> NDArray[Any]:
    """A column of whole numbers, ``(n,)`` of the given type.

    Raises:
        ValueError: A place is empty.
        KeyError: There is no such column.
        TypeError: The numbers do not fit the type.
    """
    column = table.column(name)
    if column.null_count:
        raise ValueError(f"column {name} has empty places")
    if str(column.type) not in _INTEGERS:
        raise TypeError(f"column {name} holds {column.type} and no whole numbers")
    kind = np.dtype(str(column.type))
    parts = [
        np.frombuffer(chunk.buffers()[1], dtype=kind)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in column.chunks
        if len(chunk)
    ]
    found = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, dtype=kind), *parts])
    return found.astype(dtype, casting="safe", copy=False)


def to_parquet(table: pa.Table) -> bytes:
    """A file's bytes: the same for equal tables and the same pyarrow.

    Digests do not get smaller, and other numbers are compressed lightly: small tables are read in half the time.
    """
    import pyarrow.parquet as pq

    compression = {field.name: _compression(field) for field in table.schema}
    few_values = [name for name in _FEW_VALUES if name in compression]
    out = io.BytesIO()
    pq.write_table(table, out, compression=compression, use_dictionary=few_values, write_page_checksum=True)
    return out.getvalue()


def _compression(field: pa.Field) -> str:
    import pyarrow as pa

    if pa.types.is_uint64(field.type):
        return "none"
    return "snappy" if pa.types.is_integer(field.type) else "zstd"


def from_parquet(data: bytes, url: str, columns: list[str], bounds: Bounds) -> pa.Table:
    """The table in a file's bytes.

    Args:
        data: The bytes.
        url: Where they came from, for messages.
        columns: The columns wanted.
        bounds: What is known of the table; nothing is decoded before it is compared.

    Returns:
        The table.

    Raises:
        ManifestError: It is not a Parquet file, a damaged one, or another table than it should be.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        num_rows = check_bounds(data, columns, bounds)
        # A buffer, no file object, and without pre_buffer: otherwise threads of pyarrow's read, which give the bytes
        # back to Python whenever they like; at the interpreter's end that takes the process with them (SIGABRT).
        file = pq.ParquetFile(
            pa.BufferReader(data), page_checksum_verification=True, pre_buffer=False,
            thrift_string_size_limit=max(len(data), 1), thrift_container_size_limit=_MOST_LISTED,
        )  # fmt: skip
        if not num_rows:
            # Nobody has looked at its pages, of which there should be none.
            return pa.Table.from_batches([], file.schema_arrow)
        table = file.read(columns, use_threads=False)
        # Texts too, which pyarrow looks at only when one is taken out.
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise ManifestError(
            f"not the table that belongs here, or a damaged one: {exc}", shard=url, advice=ADVICE
        ) from exc
    return table

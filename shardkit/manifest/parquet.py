"""Columns to and from Parquet files, trusting nothing that is read."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from shardkit.errors import ManifestError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["ADVICE", "Texts", "from_parquet", "numbers", "text_bytes", "to_parquet"]

_FEW_VALUES = ("split", "mode", "format")  # columns worth a dictionary
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
        ValueError: One is missing.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    column = texts.column if isinstance(texts, Texts) else pa.chunked_array([pa.array(list(texts), pa.string())])
    if column.null_count:
        raise ValueError("a text is missing")
    if not len(column):
        return np.zeros(0, dtype=np.int64), b""
    array = pa.concat_arrays([chunk.cast(pa.large_string()) for chunk in column.chunks])
    lengths = _values(pc.binary_length(array))
    start = np.frombuffer(array.buffers()[1], dtype=np.int64, count=array.offset + 1)[array.offset]
    data = array.buffers()[2]
    return lengths, b"" if data is None else data.slice(start, int(lengths.sum())).to_pybytes()


def numbers(table: pa.Table, name: str, dtype: type[Any]) -> NDArray[Any]:
    """A column of whole numbers, ``(n,)`` of the given type.

    Raises:
        ValueError: A place is empty.
        KeyError: There is no such column.
        TypeError: The numbers do not fit the type.
    """
    import pyarrow as pa

    column = table.column(name)
    if column.null_count:
        raise ValueError(f"column {name} has empty places")
    if not pa.types.is_integer(column.type):
        raise TypeError(f"column {name} holds {column.type}")
    return _values(column.combine_chunks()).astype(dtype, casting="safe", copy=False)


def _values(array: pa.Array) -> NDArray[Any]:
    """Whole numbers without empty places, of the array's own memory.

    Not by the array's `to_numpy`, which imports pandas where it is installed: a fifth of a second.
    """
    dtype = np.dtype(array.type.to_pandas_dtype())
    if not len(array):
        return np.zeros(0, dtype=dtype)
    return np.frombuffer(array.buffers()[1], dtype=dtype, count=array.offset + len(array))[array.offset :]


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


def from_parquet(data: bytes, url: str, columns: list[str] | None = None) -> pa.Table:
    """The table in a file's bytes.

    Args:
        data: The bytes.
        url: Where they came from, for messages.
        columns: The columns wanted; all without it.

    Returns:
        The table.

    Raises:
        ManifestError: It is not a Parquet file, or a damaged one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
        return file.read(columns, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise ManifestError(f"not a Parquet file, or a damaged one: {exc}", shard=url, advice=ADVICE) from exc

"""Arrays of numbers in one file, as `numpy.savez` writes them, read without trust.

The file is whatever somebody put there. It may cost no more memory than twice its own size, whatever it claims: members
are not compressed, no two share bytes, and each is exactly as long as the shape and the type of its array say.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shardkit.adapters.keras.plain import Array

__all__ = ["read_arrays", "write_arrays"]

_SUFFIX = ".npy"
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '([<>|][biufc][0-9]{1,2})', 'fortran_order': False, 'shape': \(([0-9, ]{0,600})\), \} *\n"
)
_MOST_DIMENSIONS = 32
_ENCRYPTED = 1
# What zipfile raises for bytes that are no archive, beside its own errors.
_NO_ARCHIVE = (
    zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, OSError, EOFError, OverflowError,
    IndexError, KeyError, struct.error, zlib.error,
)  # fmt: skip


def write_arrays(file: Any, arrays: Mapping[str, Array]) -> None:
    """Write a file for `read_arrays`.

    Args:
        file: Takes the bytes.
        arrays: The arrays by name, of numbers, in C order.
    """
    # Nothing is pickled: all are arrays of numbers. Older versions of numpy cannot be told so.
    given: dict[str, Any] = dict(arrays)
    np.savez(file, **given)


def read_arrays(data: bytes) -> dict[str, Array]:
    """The arrays in a file. They cannot be written to.

    Args:
        data: Its bytes.

    Raises:
        ValueError: It is damaged, or nothing that `write_arrays` wrote.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members, len(data))
            return {each.filename.removesuffix(_SUFFIX): _array_in(archive.read(each)) for each in members}
    except _NO_ARCHIVE as exc:
        raise ValueError(str(exc) or type(exc).__name__) from exc


def _check_members(members: list[zipfile.ZipInfo], num_bytes: int) -> None:
    names = {each.filename for each in members}
    if len(names) != len(members):
        raise ValueError("a member is there twice")
    if not all(name.endswith(_SUFFIX) for name in names):
        raise ValueError("a member is no array")
    if any(each.compress_type != zipfile.ZIP_STORED or each.compress_size != each.file_size for each in members):
        raise ValueError("a member is compressed")
    if any(each.flag_bits & _ENCRYPTED for each in members):
        raise ValueError("a member is encrypted")
    if sum(each.file_size for each in members) > num_bytes:
        raise ValueError("its members claim more bytes than it has")


def _array_in(content: bytes) -> Array:
    start = len(_MAGIC) + 2
    if not content.startswith(_MAGIC) or len(content) < start:
        raise ValueError("a member is no array")
    end = start + int.from_bytes(content[len(_MAGIC) : start], "little")
    header = _HEADER.fullmatch(content[start:end])
    if header is None:
        raise ValueError("an array is of another type than numbers")
    sizes = [part.strip() for part in header[2].split(b",")]
    if sizes[-1:] == [b""]:
        sizes.pop()
    if len(sizes) > _MOST_DIMENSIONS or not all(part.isdigit() and len(part) < 20 for part in sizes):
        raise ValueError("an array has an unknown shape")
    shape = tuple(int(part) for part in sizes)
    try:
        dtype = np.dtype(header[1].decode())
    except TypeError as exc:
        raise ValueError("an array is of an unknown type") from exc
    if math.prod(shape) * dtype.itemsize != len(content) - end:
        raise ValueError("an array has another size than its shape says")
    # One size of it may be 0 and another huge.
    return np.ndarray(shape, dtype, buffer=content, offset=end)

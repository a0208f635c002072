"""What a Parquet file would take to decode, found out and bounded before anything of it is decoded.

A file of a few megabytes can stand for gigabytes: runs of equal values, pages that decompress to a thousand times their
length, dictionaries whose one long text is every row's, values that share their beginnings. The footer says how many
rows and bytes there are, but may lie; the header in front of each page is what the decoder goes by. So the rows are
compared with what is known of the table, and all pages are walked through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shardkit.manifest.thrift import read_struct
from shardkit.redact import brief

__all__ = ["Bounds", "check_bounds"]

_MAGIC = b"PAR1"
_TAIL_BYTES = 8  # behind the footer: its length and the magic
_FOOTER_BYTES = 2**16
_GROUP_BYTES = 2**13  # of the footer, for one more group of rows
_GROUP_ROWS = 2**10  # smaller groups would be waste, and nobody writes them
_PAGE_ROWS = 2**8  # the same
_FEW_PAGES = 8
_HEADER_BYTES = 2**16
_TEXT = 6
# By Parquet's number of the type, bytes of a row: a number's in a dictionary, and its place there; or a text's, of
# which the longest are paths, of at most 2**12 bytes, and keys, in which a byte of a path may be three.
_KINDS = {1: 16, 2: 16, _TEXT: 2**15}
_REPEATED = 2
_CHUNK_FIELDS = {2, 3, 4, 5, 6, 7}  # neither in another file nor encrypted
_SLACK_ROWS = 2**6  # of a table too small for its own averages
# Digests do not get smaller, so that a table is never compressed by much; but small ones may be, by long paths.
_MOST_RATIO = 32
_FREE_BYTES = 2**25
_CODECS = {0: None, 1: "snappy", 2: "gzip", 6: "zstd"}
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_HEADER_FIELD = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
_ENCODING_FIELD = {_DATA: 2, _DICTIONARY: 2, _DATA_V2: 4}
_PLAIN, _PLAIN_DICTIONARY, _RLE_DICTIONARY = 0, 2, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What is known of a table before it is read.

    Attributes:
        num_rows: How many rows it has; ``None`` where nobody says.
        row_bytes: Bytes of a row that no compression makes smaller: its digests.
        metadata_bytes: The most bytes of text kept beside the columns.
    """

    num_rows: int | None
    row_bytes: int
    metadata_bytes: int = 0


def check_bounds(data: bytes, columns: list[str], bounds: Bounds) -> int:
    """Refuse a table that has other rows than it should, or takes more memory than its like.

    Args:
        data: The file.
        columns: The columns that will be read.
        bounds: What is known of the table.

    Returns:
        How many rows it has.

    Raises:
        ValueError: It is so, or the file is none.
        ArrowException: A dictionary cannot be decompressed.
    """
    footer = _footer(data, bounds)
    schema, num_rows = _structs(footer, 2), _number(footer, 3)
    if bounds.num_rows is not None and num_rows != bounds.num_rows:
        raise ValueError(f"it has {num_rows} rows instead of {bounds.num_rows}, so it does not belong to this data set")
    if num_rows > _SLACK_ROWS + len(data) // bounds.row_bytes:
        raise ValueError(f"{num_rows} rows cannot be in {len(data)} bytes")
    # The first stands for the table, and has all the others in it.
    leaves = schema[1:]
    if any(leaf.get(5) or leaf.get(3) == _REPEATED for leaf in leaves):
        raise ValueError("a column holds other columns")
    names = [_name(leaf) for leaf in leaves]
    if len({*names}) < len(names):
        raise ValueError("it has two columns of one name")
    groups = _structs(footer, 4) if num_rows else []
    if len(groups) > 1 + num_rows // _GROUP_ROWS:
        raise ValueError(f"its {num_rows} rows are in {len(groups)} groups")
    wanted = [(number, name) for number, name in enumerate(names) if name in columns]
    left = _FREE_BYTES + _MOST_RATIO * len(data)
    in_groups = 0
    for group in groups:
        rows, chunks = _number(group, 3), _structs(group, 1)
        in_groups += rows
        if len(chunks) != len(leaves) or not rows:
            raise ValueError("a group of rows has no rows, or other columns")
        left -= sum(
            _chunk_bytes(data, name, _number(leaves[number], 1), chunks[number], rows) for number, name in wanted
        )
        if left < 0:
            raise ValueError(f"its {len(data)} bytes stand for many times as many")
    if in_groups != num_rows:
        raise ValueError("its groups of rows have other numbers of rows than it has")
    return num_rows


def _footer(data: bytes, bounds: Bounds) -> dict[int, Any]:
    """The part of the footer that tells of rows and columns."""
    length = int.from_bytes(data[-_TAIL_BYTES:-4], "little")
    stop = len(data) - _TAIL_BYTES
    if length > stop - len(_MAGIC) or data[-4:] != _MAGIC or data[:4] != _MAGIC:
        raise ValueError("it has no footer")
    num_rows = len(data) // bounds.row_bytes if bounds.num_rows is None else bounds.num_rows
    most = _FOOTER_BYTES + bounds.metadata_bytes + _GROUP_BYTES * (num_rows // _GROUP_ROWS)
    if length > most:
        raise ValueError(f"its footer has {length} bytes where at most {most} were expected")
    return read_struct(data[stop - length : stop], last=4)[0]


def _chunk_bytes(data: bytes, name: str, kind: int, chunk: dict[int, Any], num_rows: int) -> int:
    """About how much memory a column takes in one group of rows, once decoded."""
    about = chunk.get(3)
    if not isinstance(about, dict) or about.get(1) != kind or not chunk.keys() <= _CHUNK_FIELDS:
        raise ValueError(f"column {brief(name)} is kept in a way that no table is")
    codec = _number(about, 4)
    if codec not in _CODECS or kind not in _KINDS:
        raise ValueError(f"column {brief(name)} is of kind {kind}, {codec}, which no table has")
    start, dictionary_start = _number(about, 9), about.get(11)
    if type(dictionary_start) is int and 0 < dictionary_start < start:
        start = dictionary_start
    stop = start + _number(about, 7)
    if not len(_MAGIC) <= start <= stop <= len(data):
        raise ValueError(f"column {brief(name)} is outside the file")
    num_pages = num_values = num_bytes = 0
    while start < stop:
        page = _Page.at(data, start, stop)
        start = page.stop
        num_pages += 1
        num_bytes += page.num_bytes
        if page.kind != _DICTIONARY:
            num_values += page.num_values
        elif kind == _TEXT:
            num_bytes += num_rows * _longest(data, page, _CODECS[codec])
        if num_pages > _FEW_PAGES + num_rows // _PAGE_ROWS:
            raise ValueError(f"column {brief(name)} has too many pages for {num_rows} rows")
    if num_values != num_rows or about.get(5) != num_rows:
        raise ValueError(f"column {brief(name)} has {num_values} values for {num_rows} rows")
    most = num_rows * _KINDS[kind] + _HEADER_BYTES
    if num_bytes > most:
        raise ValueError(f"column {brief(name)} takes {num_bytes} bytes where at most {most} were expected")
    return num_bytes


@dataclass(frozen=True, slots=True)
class _Page:
    """A page by its header: what it is, and where its bytes are."""

    kind: int
    num_values: int
    num_bytes: int  # decompressed
    start: int
    stop: int

    @classmethod
    def at(cls, data: bytes, place: int, stop: int) -> _Page:
        """The page that begins at a place of the file; it has to end by another."""
        header, length = read_struct(data[place : min(stop, place + _HEADER_BYTES)])
        place += length
        kind = _number(header, 1)
        details = header.get(_HEADER_FIELD.get(kind, 0), None)
        if not isinstance(details, dict):
            raise ValueError("a page is of a kind that no table has")  # noqa: TRY004 (it is the file that is wrong)
        num_bytes, compressed, num_values = _number(header, 2), _number(header, 3), _number(details, 1)
        plain = (_PLAIN, _PLAIN_DICTIONARY) if kind == _DICTIONARY else (_PLAIN, _PLAIN_DICTIONARY, _RLE_DICTIONARY)
        if details.get(_ENCODING_FIELD[kind]) not in plain:
            raise ValueError("a page is encoded in a way that no table is")
        if compressed > stop - place:
            raise ValueError("a page reaches beyond its column")
        return cls(kind, num_values, num_bytes, place, place + compressed)


def _number(header: dict[int, Any], field: int) -> int:
    value = header.get(field)
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise ValueError("a header has a number that is none")
    return value


def _name(leaf: dict[int, Any]) -> str:
    found = leaf.get(4)
    if not isinstance(found, bytes):
        raise ValueError("its footer tells of no columns")  # noqa: TRY004 (it is the file that is wrong)
    return found.decode()


def _structs(header: dict[int, Any], field: int) -> list[dict[int, Any]]:
    found = header.get(field)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("its footer tells of no columns")
    return found


def _longest(data: bytes, page: _Page, codec: str | None) -> int:
    """The length of a dictionary's longest text: each of the rows may be that one."""
    import pyarrow as pa

    if page.num_bytes > _HEADER_BYTES:
        raise ValueError(f"a dictionary of {page.num_bytes} bytes is more than any table has")
    texts = data[page.start : page.stop]
    if codec is not None:
        texts = pa.decompress(texts, decompressed_size=page.num_bytes, codec=codec, asbytes=True)
    longest = place = 0
    for _ in range(page.num_values):
        length = int.from_bytes(texts[place : place + 4], "little")
        place += 4 + length
        longest = max(longest, length)
        if place > len(texts):
            raise ValueError("a dictionary is cut")
    return longest

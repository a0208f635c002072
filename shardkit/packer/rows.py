"""The rows of a table file: .csv, .tsv, .jsonl or .parquet, one at a time and two columns only."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from shardkit.errors import ConfigError
from shardkit.files import open_reader
from shardkit.packer.source import shown_path

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TABLE_SUFFIXES", "Row", "read_rows"]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")

Row = tuple[int, Any, Any]
Choose = Callable[[Sequence[str]], tuple[str, str]]


def read_rows(table: Path, choose: Choose) -> Iterator[Row]:
    """Read a table.

    Text is UTF-8 with or without a BOM. Bytes that are not come as lone surrogates, as in Python's file names, since a
    path may have them.

    Args:
        table: The file.
        choose: Given the names of the columns, says which holds paths and which labels.

    Yields:
        Each row's line, from 1 (Parquet: its row, from 1), its path and its label, as the file has them; ``None`` for
        what is not there.

    Raises:
        ConfigError: The file cannot be read or is not what its suffix says.
    """
    suffix = table.suffix.lower()
    try:
        if suffix == ".parquet":
            yield from _parquet(table, choose)
            return
        raw = open_reader(table)
        with io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            if suffix == ".jsonl":
                yield from _jsonl(file, table, choose)
            else:
                yield from _csv(file, table, "\t" if suffix == ".tsv" else ",", choose)
    except OSError as exc:
        _refuse(table, f"cannot read the table: {exc.strerror or _in_one_line(exc)}", exc)


def _refuse(table: Path, what: str, exc: Exception | None = None) -> NoReturn:
    raise ConfigError(what, setting="source", value=shown_path(table)) from exc


def _csv(file: TextIO, table: Path, delimiter: str, choose: Choose) -> Iterator[Row]:
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    places: tuple[int, int] | None = None
    line = 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as exc:
            _refuse(table, f"line {line} is no row of a table: {exc}", exc)
        if row is None:
            return
        if row and places is None:
            if not all(map(_is_text, row)):
                _refuse(table, f"line {line} is not UTF-8 text")
            columns = choose(row)
            places = row.index(columns[0]), row.index(columns[1])
        elif row and places is not None:
            path, label = (row[place] if place < len(row) else None for place in places)
            yield line, path, label
        line = reader.line_num + 1


def _jsonl(file: TextIO, table: Path, choose: Choose) -> Iterator[Row]:
    columns: tuple[str, str] | None = None
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as exc:
            # The decoder's own "line 1" is of this line's text.
            reason = f"{exc.msg} at column {exc.colno}" if isinstance(exc, json.JSONDecodeError) else str(exc)
            _refuse(table, f"line {line} is not JSON: {reason}", exc)
        if not isinstance(row, dict):
            _refuse(table, f"line {line} is not a JSON object")
        columns = columns or choose(list(row))
        yield line, row.get(columns[0]), row.get(columns[1])


def _parquet(table: Path, choose: Choose) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without pre_buffer, threads of pyarrow's would read, and give the file back to Python whenever they like.
        with open_reader(table) as opened, pq.ParquetFile(opened, pre_buffer=False) as file:
            path, label = choose(file.schema_arrow.names)
            start = 1
            for batch in file.iter_batches(columns=[path, label], use_threads=False):
                numbers = range(start, start + len(batch))
                yield from zip(numbers, batch.column(path).to_pylist(), batch.column(label).to_pylist(), strict=True)
                start += len(batch)
    except ConfigError:
        raise
    except (pa.ArrowException, ValueError, OverflowError, KeyError) as exc:
        _refuse(table, f"not a Parquet file that can be read: {_in_one_line(exc)}", exc)


def _in_one_line(exc: Exception) -> str:
    return " ".join(str(exc).split())


def _is_text(value: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in value)

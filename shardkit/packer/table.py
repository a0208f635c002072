"""A table of pictures and labels as a source: .csv, .tsv, .jsonl or .parquet."""

from __future__ import annotations

import csv
import json
import os
import stat
from typing import TYPE_CHECKING, Any

from shardkit.errors import ConfigError
from shardkit.packer.source import Source, SourceItem, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["TABLE_SUFFIXES", "read_table"]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_PATH_COLUMNS = (
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "img",
    "picture",
)
_LABEL_COLUMNS = ("label", "class", "class_name", "category", "target", "label_name")

Row = tuple[int, dict[str, Any]]


def read_table(
    table: Path, *, path_column: str | None = None, label_column: str | None = None, root: Path | None = None
) -> Source:
    """List the pictures that a table names.

    Args:
        table: The table's file; the first row of .csv and .tsv names the columns, UTF-8 with or without a BOM.
        path_column: The column of picture paths; without it, one with a usual name, such as ``path`` or ``file_name``.
        label_column: The column of labels; without it, one with a usual name, such as ``label`` or ``class``.
        root: The folder that the paths are relative to; the table's own folder without it.

    Returns:
        What was found. A row without a label, or whose picture is not there, is among the failures with its line.

    Raises:
        ConfigError: The table cannot be read, or its columns cannot be told.
    """
    found = Source()
    base = root or table.parent
    columns: tuple[str, str] | None = None
    try:
        for line, row in _rows(table):
            if columns is None:
                columns = (
                    _column(row, path_column, _PATH_COLUMNS, "path_column", table),
                    _column(row, label_column, _LABEL_COLUMNS, "label_column", table),
                )
            _take(row.get(columns[0]), row.get(columns[1]), f"{shown_path(table.name)} line {line}", base, found)
    except (OSError, UnicodeError, ValueError, csv.Error) as exc:
        if isinstance(exc, ConfigError):
            raise
        raise ConfigError(
            f"cannot read the table: {exc}", setting="source", value=shown_path(table),
            advice="It must be UTF-8 text or Parquet, as its suffix says",
        ) from exc  # fmt: skip
    return found


def _rows(table: Path) -> Iterator[Row]:
    """Each row with its line, from 1 (Parquet: its row, from 1)."""
    suffix = table.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        for number, row in enumerate(pq.read_table(table).to_pylist(), 1):
            yield number, row
        return
    with table.open(encoding="utf-8-sig", newline="") as file:
        if suffix == ".jsonl":
            for line, text in enumerate(file, 1):
                if text.strip():
                    row = json.loads(text)
                    if not isinstance(row, dict):
                        raise ValueError(f"line {line} is not a JSON object")
                    yield line, row
        else:
            reader = csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",", strict=True)
            for row in reader:
                yield reader.line_num, row


def _column(row: dict[str, Any], named: str | None, usual: tuple[str, ...], setting: str, table: Path) -> str:
    names = [name for name in row if isinstance(name, str)]
    if named is not None and named in names:
        return named
    matches = [name for name in names if name.strip().lower() in usual]
    if named is None and len(matches) == 1:
        return matches[0]
    what = (
        f"has no column {named!r}" if named else f"has {'several columns' if matches else 'no column'} that could be it"
    )
    raise ConfigError(
        f"{shown_path(table)} {what}", setting=setting, value=named,
        advice=f"Name one of {', '.join(names)} with --{setting.replace('_', '-')}",
    )  # fmt: skip


def _take(path: Any, label: Any, where: str, base: Path, found: Source) -> None:
    text = "" if path is None else str(path)
    where = f"{where}, {shown_path(text)}" if text else where
    if not text or "\0" in text:
        found.failures.append(f"{where}: names no picture")
        return
    name = "" if label is None else str(label).strip()
    if not name or (isinstance(label, float) and label != label):
        found.failures.append(f"{where}: the label is missing")
        return
    source = os.path.normpath(os.path.relpath(text, base) if os.path.isabs(text) else text)
    if source.startswith("..") and source.split("/", 1)[0] == "..":
        found.failures.append(f"{where}: lies outside {shown_path(base)}; name a folder that holds all with --root")
        return
    full = os.fsencode(base / source)
    try:
        status = os.stat(full)
    except OSError as exc:
        found.failures.append(f"{where}: cannot be read: {exc.strerror}")
        return
    if not stat.S_ISREG(status.st_mode):
        found.failures.append(f"{where}: not a regular file")
        return
    found.items.append(SourceItem(full, os.fsencode(source), status.st_size, name, where))

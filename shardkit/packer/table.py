"""A table of pictures and labels as a source: .csv, .tsv, .jsonl or .parquet."""

from __future__ import annotations

import os
import re
import stat
from functools import partial
from typing import TYPE_CHECKING, Any

from shardkit.errors import ConfigError
from shardkit.packer.rows import read_rows
from shardkit.packer.source import Source, SourceItem, shown_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["read_table"]

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
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_CLASS_NUMBER = re.compile(r"\+?(\d+)(\.0*)?", re.ASCII)


def read_table(
    table: Path, *, path_column: str | None = None, label_column: str | None = None, root: Path | None = None
) -> Source:
    """List the pictures that a table names.

    Labels that are all numbers are class numbers, ``2.0`` for 2 too; any other labels are names. JSON's and Parquet's
    true and false are the names ``true`` and ``false``.

    Args:
        table: The table's file; the first row of .csv and .tsv names the columns, UTF-8 with or without a BOM. Only
            paths may have bytes that are not UTF-8.
        path_column: The column of picture paths; without it, one with a usual name, such as ``path`` or ``file_name``.
        label_column: The column of labels; without it, one with a usual name, such as ``label`` or ``class``.
        root: The folder that the paths are relative to; the table's own folder without it.

    Returns:
        What was found. A row without a label, with one that is neither a name nor a class number, or whose picture is
        not there, is among the failures with its line.

    Raises:
        ConfigError: The table cannot be read, or its columns cannot be told.
    """

    def choose(names: Sequence[str]) -> tuple[str, str]:
        column = partial(_column, names, table=table)
        return (
            column(path_column, _PATH_COLUMNS, "path_column"),
            column(label_column, _LABEL_COLUMNS, "label_column"),
        )

    found = Source()
    for line, path, label in read_rows(table, choose):
        _take(path, label, f"{shown_path(table.name)} line {line}", root or table.parent, found)
    _number(found)
    return found


def _column(names: Sequence[str], named: str | None, usual: tuple[str, ...], setting: str, *, table: Path) -> str:
    matches = [name for name in names if (name == named if named else name.strip().lower() in usual)]
    if len(matches) == 1:
        return matches[0]
    if named:
        what = f"has {'several columns' if matches else 'no column'} {named!r}"
    else:
        what = f"has {'several columns' if matches else 'no column'} that could be it"
    raise ConfigError(
        f"{shown_path(table)} {what}", setting=setting, value=named,
        advice=f"Name one of {', '.join(map(shown_path, names))} with --{setting.replace('_', '-')}",
    )  # fmt: skip


def _take(path: Any, label: Any, where: str, base: Path, found: Source) -> None:
    if path is None or path in ("", b""):
        found.failures.append(f"{where}: names no picture")
        return
    try:
        text = os.fsdecode(path)
        os.fsencode(text)
        where = f"{where}, {shown_path(text)}"
        if "\0" in text:
            raise ValueError
    except (TypeError, ValueError):
        found.failures.append(f"{where}: what should be a path is none")
        return
    try:
        name = _label(label)
    except ValueError as exc:
        found.failures.append(f"{where}: {exc}")
        return
    source = os.path.normpath(os.path.relpath(text, base) if os.path.isabs(text) else text)
    if source.split("/", 1)[0] == "..":
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


def _label(value: Any) -> str:
    """A label as text; a ValueError says why it is none."""
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        raise ValueError("the label is missing")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"the label is {value}: class numbers are whole, from 0")
    if isinstance(value, int | float):
        return str(int(value))
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 (one kind of error for all that a label can be)
            f"the label is a {type(value).__name__}, neither a name nor a number"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("the label is not UTF-8 text") from None
    return value.strip()


def _number(found: Source) -> None:
    """Where all labels are numbers, write each in the one way a class number is written, or say which is none."""
    if not all(_NUMBER.fullmatch(item.label) for item in found.items):
        return
    for place, item in enumerate(found.items):
        whole = _CLASS_NUMBER.fullmatch(item.label)
        if whole is None:
            found.failures.append(f"{item.where}: the label is {item.label[:40]}: class numbers are whole, from 0")
        else:
            found.items[place] = item._replace(label=whole[1].lstrip("0") or "0")

"""What a user names as the source: told apart, checked, and listed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shardkit.errors import ConfigError, PackError
from shardkit.packer.folder import read_folder
from shardkit.packer.rows import TABLE_SUFFIXES
from shardkit.packer.source import Source, shown_path
from shardkit.packer.table import read_table
from shardkit.storage import check_local

if TYPE_CHECKING:
    from shardkit.packer.options import ClassFrom, LabelsFrom

__all__ = ["Listing"]

_OF_FOLDERS: dict[str, object] = {"class_from": "top", "follow_symlinks": False}
_OF_TABLES: dict[str, object] = {"path_column": None, "label_column": None, "root": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A source and how it is listed; see `pack` for what each setting means."""

    source: Path
    class_from: ClassFrom = "top"
    follow_symlinks: bool = False
    path_column: str | None = None
    label_column: str | None = None
    root: Path | None = None

    def kind(self) -> LabelsFrom:
        """Where the labels come from.

        Raises:
            ConfigError: The source is a URL, neither a folder nor a table, cannot be looked at, or has a setting that
                is only for the other kind.
        """
        check_local(self.source, "source")
        try:
            mode = self.source.stat().st_mode
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else exc
            what = "does not exist" if isinstance(exc, FileNotFoundError) else f"cannot be looked at: {reason}"
            raise ConfigError(f"the source {what}", setting="source", value=shown_path(self.source)) from exc
        if stat.S_ISDIR(mode):
            self._refuse(_OF_TABLES, "a table")
            return "folders"
        if stat.S_ISREG(mode) and self.source.suffix.lower() in TABLE_SUFFIXES:
            self._refuse(_OF_FOLDERS, "a folder")
            return "table"
        raise ConfigError(
            f"the source is neither a folder nor one of {', '.join(TABLE_SUFFIXES)}",
            setting="source", value=shown_path(self.source),
        )  # fmt: skip

    def refuse_nested(self, dest: Path) -> None:
        """Refuse a destination in the source's folder, which the next run would list too, and the other way round.

        Raises:
            ConfigError: One lies in the other.
        """
        if self.kind() == "table":
            return
        source, target = (Path(os.path.realpath(path)) for path in (self.source, dest))
        if source == target or source in target.parents or target in source.parents:
            raise ConfigError(
                f"the destination and the source {shown_path(self.source)} lie in each other",
                setting="dest", value=shown_path(dest), advice="Name a folder beside the source",
            )  # fmt: skip

    def read(self) -> Source:
        """List the pictures.

        Raises:
            ConfigError: The source cannot be listed or holds no pictures.
            PackError: Some pictures cannot be packed.
        """
        if self.kind() == "folders":
            found = read_folder(self.source, self.class_from, follow_symlinks=self.follow_symlinks)
        else:
            found = read_table(
                self.source, path_column=self.path_column, label_column=self.label_column, root=self.root
            )
        if found.failures:
            raise PackError(
                f"{len(found.failures)} files of the source cannot be packed", tuple(sorted(found.failures))
            )
        if not found.items:
            raise ConfigError("the source holds no pictures", setting="source", value=shown_path(self.source))
        return found

    def _refuse(self, defaults: dict[str, object], kind: str) -> None:
        for name, default in defaults.items():
            value = getattr(self, name)
            if type(value) is not type(default) or value != default:  # some things cannot be compared
                raise ConfigError(f"{name} is only for {kind} as the source", setting=name, value=value)

"""What lies at the destination of a packing run, and what may be done to it.

Two small documents tell: ``manifest.json`` a data set, ``unfinished.json`` one that is not finished, with the digest
of its plan, or none while files of an older data set are being deleted. Only files that follow from the split names in
them are ours to delete.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shardkit.errors import ConfigError, ManifestError
from shardkit.manifest.dataset import dataset_in
from shardkit.manifest.limits import MAX_MANIFEST_BYTES, table_bytes, table_file_bytes
from shardkit.manifest.manifest import MANIFEST_NAME
from shardkit.manifest.samples import SampleTable, row_in_table
from shardkit.manifest.shards import SHARD_TABLE_NAME, table_name
from shardkit.packer.shard import FIELDS
from shardkit.packer.source import shown_path

if TYPE_CHECKING:
    from shardkit.manifest import Manifest, ShardRow
    from shardkit.packer.plan import PackPlan, ShardTask
    from shardkit.storage import Store

__all__ = ["UNFINISHED_NAME", "Prepared", "Survey", "finished", "prepare", "survey", "tidy"]

UNFINISHED_NAME = "unfinished.json"
_SPLIT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What lies at a destination.

    Attributes:
        names: Its files, all of them ours.
        splits: The split names that shards there may have.
        plan: The digest of the plan that the data set, finished or not, follows; ``None`` where that is not known.
    """

    names: frozenset[str]
    splits: frozenset[str]
    plan: str | None

    @property
    def has_manifest(self) -> bool:
        """Whether a data set, whole or not, is there."""
        return MANIFEST_NAME in self.names


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A destination that is ready to be packed into.

    Attributes:
        kept: The rows of shards that an earlier run of the same plan finished, by name.
        replaced_unfinished: Whether an unfinished run of another plan was deleted.
    """

    kept: dict[str, ShardRow]
    replaced_unfinished: bool


def survey(store: Store) -> Survey:
    """Look at a destination.

    Args:
        store: The destination.

    Returns:
        What is there.

    Raises:
        ConfigError: Something else is there.
        StorageError: It cannot be looked at.
    """
    names = set(store.names())
    manifest = _document(store, MANIFEST_NAME, {"format_version", "fingerprint", "splits"})
    unfinished = _document(store, UNFINISHED_NAME, {"plan", "splits"})
    splits = _splits(manifest) | _splits(unfinished)
    ours = {name for name, document in ((MANIFEST_NAME, manifest), (UNFINISHED_NAME, unfinished)) if document}
    if ours:
        shard = re.compile(rf"({'|'.join(sorted(splits)) or '(?!)'})-\d{{6,}}\.(tar|parquet)")
        ours |= {name for name in names if name == SHARD_TABLE_NAME or shard.fullmatch(name)}
    if strangers := sorted(names - ours):
        shown = ", ".join(shown_path(name) for name in strangers[:3])
        raise ConfigError(
            f"the destination holds something else: {shown}", setting="dest", value=store.url,
            advice="Name an empty folder or a new one",
        )  # fmt: skip
    packed = manifest.get("packed")
    plan = packed.get("plan") if isinstance(packed, dict) else unfinished.get("plan")
    return Survey(names=frozenset(names & ours), splits=frozenset(splits), plan=plan if isinstance(plan, str) else None)


def finished(store: Store, plan: PackPlan) -> Manifest | None:
    """The manifest of a data set of this very plan, if it is there with all its shards.

    Args:
        store: The destination.
        plan: The plan.

    Returns:
        The manifest, or ``None``.
    """
    there = survey(store)
    if not there.has_manifest or there.plan != plan.digest:
        return None
    try:
        dataset = dataset_in(store)
    except ManifestError:
        return None
    kept = _kept(store, plan, there.names)
    return dataset.manifest if [kept.get(task.name) for task in plan.tasks] == list(dataset.shards) else None


def prepare(store: Store, plan: PackPlan, *, overwrite: bool) -> Prepared:
    """Make a destination ready. Only for the one who holds its lock.

    Stopped at any moment, the next call finds nothing that it would take for something else.

    Args:
        store: The destination.
        plan: The plan.
        overwrite: Whether what is there goes, even a data set.

    Returns:
        What of it is kept.

    Raises:
        ConfigError: There is a data set of another plan, or something else.
        StorageError: It cannot be made ready.
    """
    there = survey(store)
    same = there.plan == plan.digest and not overwrite
    if there.has_manifest and not same and not overwrite:
        raise ConfigError(
            "the destination holds a data set of other pictures or options", setting="dest", value=store.url,
            advice="Name another folder, or replace it with overwrite=True (--overwrite)",
        )  # fmt: skip
    mine = {task.split for task in plan.tasks}
    if not same and there.names:
        _write_unfinished(store, None, there.splits)
        # The manifest first: from here on nothing looks like a data set.
        for name in sorted(there.names - {UNFINISHED_NAME}, key=lambda name: (name != MANIFEST_NAME, name)):
            store.delete(name)
    _write_unfinished(store, plan.digest, mine)
    # Not all of its shards are there, or this would not be called.
    store.delete(MANIFEST_NAME)
    return Prepared(
        kept=_kept(store, plan, there.names) if same else {},
        replaced_unfinished=bool(there.names) and not there.has_manifest and not same,
    )


def tidy(store: Store) -> None:
    """Delete what a run that was killed after its last shard left beside a finished data set."""
    if store.size(UNFINISHED_NAME) is not None or store.has_temporary():
        with store.lock():
            store.delete(UNFINISHED_NAME)
            store.delete_temporary()


def _document(store: Store, name: str, keys: set[str]) -> dict[str, Any]:
    """A document of ours; empty where there is none, or one that is not ours."""
    size = store.size(name)
    if size is None or size > MAX_MANIFEST_BYTES:
        return {}
    try:
        value = json.loads(store.read_if_there(name, MAX_MANIFEST_BYTES) or b"")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) and keys <= value.keys() else {}


def _splits(document: dict[str, Any]) -> set[str]:
    names = document.get("splits", [])
    if not isinstance(names, dict | list):
        return set()
    return {name for name in names if isinstance(name, str) and _SPLIT_NAME.fullmatch(name)}


def _write_unfinished(store: Store, plan: str | None, splits: set[str] | frozenset[str]) -> None:
    with store.write(UNFINISHED_NAME) as writer:
        writer.write(json.dumps({"plan": plan, "splits": sorted(splits)}).encode())


def _kept(store: Store, plan: PackPlan, names: frozenset[str]) -> dict[str, ShardRow]:
    there = [task for task in plan.tasks if {task.name, table_name(task.name)} <= names]
    return {task.name: row for task in there if (row := _kept_row(store, task)) is not None}


def _kept_row(store: Store, task: ShardTask) -> ShardRow | None:
    """The row of a shard that is there whole: its table, which is written after it, and the shard at its length."""
    name, num_bytes = table_name(task.name), store.size(task.name)
    texts = sum(len(item.key.encode()) + len(item.source) for item in task.items)
    # What is longer than this plan's table can be is none, and is packed anew.
    most_bytes = table_file_bytes(table_bytes(texts, len(task.items), num_bytes or 0))
    size = store.size(name)
    data = store.read_if_there(name, most_bytes) if size is not None and size <= most_bytes else None
    if data is None:
        return None
    try:
        row = row_in_table(data, name)
        SampleTable.from_parquet(data, row, FIELDS)
    except ManifestError:
        return None
    return row if row.name == task.name and num_bytes == row.num_bytes else None

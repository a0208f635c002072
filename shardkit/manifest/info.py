"""What is in a data set, as a document."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from shardkit.manifest.dataset import DataSet, open_dataset

if TYPE_CHECKING:
    import os

    from shardkit.manifest.manifest import FieldInfo
    from shardkit.storage import StoreOptions

__all__ = ["describe"]


def describe(
    url: str | os.PathLike[str], *, options: StoreOptions | None = None, count: bool = False
) -> dict[str, Any]:
    """What is in a data set.

    Args:
        url: The data set.
        options: How to reach it.
        count: Whether classes, formats and sizes of pictures are counted, for which every sample table is read.

    Returns:
        A document for `json.dumps`.

    Raises:
        ManifestError: The manifest or a table is missing or damaged.
        StorageError: The data set cannot be read.
        ConfigError: The URL's scheme is not one that shardkit reads.
    """
    dataset = open_dataset(url, options)
    manifest = dataset.manifest
    found: dict[str, Any] = {
        "url": dataset.store.url,
        "format_version": manifest.format_version,
        "fingerprint": manifest.fingerprint,
        "splits": {
            name: {"num_samples": split.num_samples, "num_shards": split.num_shards, "num_bytes": split.num_bytes}
            for name, split in manifest.splits.items()
        },
        "fields": {name: _field(info) for name, info in manifest.fields.items()},
        "classes": list(manifest.classes),
        "packed": dict(manifest.packed),
    }
    return {**found, **_counts(dataset)} if count else found


def _field(info: FieldInfo) -> dict[str, Any]:
    return {name: value for name, value in info.as_json().items() if name != "extensions"}


def _counts(dataset: DataSet) -> dict[str, Any]:
    labels: dict[str, Counter[int]] = {name: Counter() for name in dataset.manifest.splits}
    formats: Counter[str] = Counter()
    widths: list[int] = []
    for row in dataset.shards:
        table = dataset.sample_table(row)
        labels[row.split].update(table.labels.tolist())
        formats.update(table.pictures["format"][:])
        if len(table):
            widths += [min(table.pictures["width"]), max(table.pictures["width"])]
    return {
        "class_counts": {
            split: {name: counts[number] for number, name in enumerate(dataset.manifest.classes)}
            for split, counts in labels.items()
        },
        "picture_formats": dict(formats.most_common()),
        "picture_widths": [min(widths), max(widths)] if widths else [],
    }

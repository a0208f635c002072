"""What the commands say."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from shardkit.redact import printable
from shardkit.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shardkit.manifest.verify import VerifyReport
    from shardkit.packer import PackResult
    from shardkit.storage.cache import CachedDataSet

__all__ = ["cached_words", "info_words", "packed_words", "verified_words"]

_SHOWN_CLASSES = 10


def packed_words(result: PackResult) -> str:
    """What a packing run did, for a person.

    Args:
        result: Its result.

    Returns:
        A few lines.
    """
    splits = result.manifest.splits
    samples = sum(split.num_samples for split in splits.values())
    shards = sum(split.num_shards for split in splits.values())
    size = sum(split.num_bytes for split in splits.values())
    what = f"{_count(samples, 'picture')} of {_count(len(result.manifest.classes), 'class', 'classes')} in "
    what += f"{_count(shards, 'shard')}, {format_bytes(size)}"
    if result.already_packed:
        told = "(told by names, sizes and labels; --overwrite packs anew)"
        lines = [f"already packed: {what}, at {printable(result.dest)} {told}"]
    else:
        rate = f"{samples / max(result.seconds, 1e-9):,.0f} pictures/s"
        lines = [f"packed {what}, at {printable(result.dest)} in {result.seconds:.1f} s ({rate})"]
    if result.num_kept_shards:
        lines.append(f"{_count(result.num_kept_shards, 'shard')} kept from an earlier run")
    if result.replaced_unfinished:
        lines.append("replaced what an unfinished run of other pictures or options had left there")
    lines += [
        f"  {printable(name)}: {split.num_samples:,} in {_count(split.num_shards, 'shard')}"
        for name, split in splits.items()
    ]
    if result.ignored:
        kinds = ", ".join(f"{count} {printable(suffix)}" for suffix, count in sorted(result.ignored.items()))
        lines.append(f"passed over what is no picture: {kinds}")
    return "\n".join(lines)


def verified_words(report: VerifyReport, url: str = "") -> str:
    """What verifying a data set came to, for a person.

    Args:
        report: What was found.
        url: The data set, where it is one of several.

    Returns:
        A line.
    """
    where = f"{url}: " if url else ""
    if report.problems:
        return f"{where}{len(report.problems)} of {report.num_shards} shards are damaged"
    size = format_bytes(report.num_bytes)
    return f"{where}whole: {report.num_samples:,} samples in {report.num_shards} shards, {size}"


def cached_words(found: Sequence[CachedDataSet]) -> str:
    """What a cache keeps, for a person.

    Args:
        found: What of each data set.

    Returns:
        A table.
    """
    if not found:
        return "nothing is kept"
    rows = [("data set", "shards", "fetched", "set aside", "used", "")]
    for one in found:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used))
        sizes = format_bytes(one.disk_bytes), format_bytes(one.num_bytes)
        rows.append((one.fingerprint, f"{one.num_objects:,}", *sizes, used, "in use" if one.in_use else ""))
    return "\n".join(_columns(rows))


def info_words(found: dict[str, Any]) -> str:
    """What is in a data set, for a person.

    Args:
        found: What `shardkit.manifest.info.describe` gave.

    Returns:
        A table with a few lines above and below.
    """
    names = list(found["splits"])
    rows = [("split", "samples", "shards", "size")]
    rows += [
        (name, f"{split['num_samples']:,}", f"{split['num_shards']:,}", format_bytes(split["num_bytes"]))
        for name, split in found["splits"].items()
    ]
    lines = [f"{printable(found['url'])}  (format {found['format_version']}, fingerprint {found['fingerprint']})", ""]
    lines += [*_columns(rows), ""]
    if "shape" in (image := found["fields"]["image"]):
        lines.append("pictures: raw " + "x".join(map(str, image["shape"])))
    classes = found["classes"]
    if "class_counts" in found:
        counts = found["class_counts"]
        table = [("label", "class", *names)]
        table += [
            (str(number), name, *(f"{counts[split][name]:,}" for split in names)) for number, name in enumerate(classes)
        ]
        lines += [*_columns(table), ""]
        lines.append(
            "formats: " + ", ".join(f"{printable(name)} {count:,}" for name, count in found["picture_formats"].items())
        )
        lines.append("widths: {} to {} pixels".format(*found["picture_widths"]))
    else:
        shown = ", ".join(map(printable, classes[:_SHOWN_CLASSES])) + (", …" if len(classes) > _SHOWN_CLASSES else "")
        lines.append(f"{_count(len(classes), 'class', 'classes')}: {shown}")
    return "\n".join(lines)


def _count(number: int, one: str, several: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def _columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows as lines: the first column to the left, numbers to the right."""
    rows = [tuple(printable(cell) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = [column for column in range(len(rows[0])) if not rows[-1][column][:1].isdigit()]
    return [
        "  ".join(
            cell.ljust(width) if column in text else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]

"""The packing run: from a source to a data set, going on where an earlier run was stopped."""

from __future__ import annotations

import contextlib
import gc
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

from shardkit.codecs.limits import DEFAULT_LIMITS
from shardkit.errors import ConfigError, PackError, ShardkitError, StorageError
from shardkit.machine import usable_cores
from shardkit.manifest import FieldInfo, Manifest, ShardRow, ShardTable, SplitInfo
from shardkit.manifest.manifest import MANIFEST_NAME
from shardkit.manifest.shards import SHARD_TABLE_NAME
from shardkit.packer.destination import UNFINISHED_NAME, finished, prepare, survey, tidy
from shardkit.packer.engines.local import LocalWorkers
from shardkit.packer.listing import Listing
from shardkit.packer.options import ClassFrom, PackOptions
from shardkit.packer.plan import PackPlan, make_plan
from shardkit.storage import LocalStore, Place, StoreOptions, check_local
from shardkit.units import MOST_WORKERS, one_of, whole_number

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from shardkit.codecs.colors import ColorMode
    from shardkit.codecs.limits import ImageLimits
    from shardkit.packer.pictures import Check, PictureOptions, StoreAs
    from shardkit.storage import Store, StoreKeywords

__all__ = ["PackResult", "pack"]

_WRITABLE = "Name a folder, or a bucket: s3://, gs:// or az://"
_LABEL = FieldInfo(kind="class", extensions=("cls",))
_IMAGE = FieldInfo(kind="image", extensions=("jpg", "png", "webp", "gif", "bmp", "tif", "ppm", "jp2", "avif"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PackResult:
    """What a packing run did.

    Attributes:
        dest: Where the data set is.
        manifest: What it is.
        already_packed: Whether it had been packed before, so that nothing was to be done.
        num_kept_shards: Shards that an earlier run of the same plan had packed.
        replaced_unfinished: Whether an unfinished run of other pictures or options was there, which is gone.
        ignored: Files of the source that are no pictures, by suffix.
        seconds: How long the run took.
    """

    dest: str
    manifest: Manifest
    already_packed: bool = False
    num_kept_shards: int = 0
    replaced_unfinished: bool = False
    ignored: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def pack(
    source: str | os.PathLike[str],
    dest: str | os.PathLike[str],
    *,
    split: Mapping[str, float] | str | None = None,
    stratify: bool = False,
    shard_size: str | int = "64MiB",
    shard_samples: int | None = None,
    seed: int = 0,
    shuffle: bool = True,
    workers: int | None = None,
    check: Check = "header",
    resize: int | None = None,
    quality: int | None = None,
    store: StoreAs = "encoded",
    image_size: tuple[int, int] | None = None,
    color_mode: ColorMode = "rgb",
    crop_to_aspect_ratio: bool = False,
    pad_to_aspect_ratio: bool = False,
    image_limits: ImageLimits = DEFAULT_LIMITS,
    overwrite: bool = False,
    class_from: ClassFrom = "top",
    follow_symlinks: bool = False,
    path_column: str | None = None,
    label_column: str | None = None,
    root: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    **options: Unpack[StoreKeywords],
) -> PackResult:
    """Pack labelled pictures into tar shards.

    The same pictures and options give the same bytes, whatever the machine, the number of workers and the order in
    which the file system lists. Stopped at any moment and called again, it goes on and ends with the same bytes.

    Args:
        source: A folder of class folders, or a table (.csv, .tsv, .jsonl, .parquet) that names pictures and labels.
        dest: The folder of the data set to be made: missing, empty, or an unfinished data set, which is gone on with
            where it is of this same plan and else replaced. Not inside the source. Or a place in a bucket: ``s3://``,
            ``gs://`` or ``az://``.
        split: Fractions by name: ``{"train": 0.9, "val": 0.1}`` or ``"train=0.9,val=0.1"``; one split, ``train``,
            without it. A picture's split follows from its path and the seed alone.
        stratify: Cut each class at the exact proportions.
        shard_size: The most bytes in a shard, such as ``"64MiB"``; with ``resize`` about what a shard will have, since
            shards are planned before pictures are read.
        shard_samples: The most samples in a shard; only ``shard_size`` counts without it.
        seed: Of the splits and the shuffle, 0 to 2**64 - 1.
        shuffle: Whether samples are shuffled over the whole split; else they lie sorted by key.
        workers: Processes; without it one more than there are usable cores, since one mostly waits for the disk.
        check: ``"header"`` looks at each picture's header and end, ``"decode"`` decodes it whole.
        resize: Pictures whose shorter side is larger than this many pixels are decoded, turned the right way up, made
            smaller so that it is this long, and encoded again: as JPEG, or as PNG where there is transparency. All
            others keep their bytes.
        quality: Of those JPEGs, 1 to 100; 90 without it.
        store: ``"encoded"`` keeps pictures as files; ``"raw"`` decodes each to an array of ``image_size``, as a
            `Loader` would, and keeps its ``(H, W, C)`` uint8 values, so that no epoch decodes anything.
        image_size: For raw pictures: height and width of all of them.
        color_mode: For raw pictures: ``"rgb"``, ``"grayscale"`` or ``"rgba"``.
        crop_to_aspect_ratio: For raw pictures: use the largest part in the middle that has the array's aspect ratio.
        pad_to_aspect_ratio: For raw pictures: keep the aspect ratio and fill up with zeros.
        image_limits: How much one image may take: pixels, memory, scans and seconds, see `ImageLimits`. One that takes
            more cannot be packed. A loader has the same limits, and needs those that were given here.
        overwrite: Replace what shardkit packed there before, and keep nothing of it.
        class_from: For a folder: ``"top"``, a picture's class is its first folder, as in Keras; ``"path"``: all of
            them.
        follow_symlinks: Whether links may lead out of the source folder, or to folders.
        path_column: For a table: the column of paths, where its name is not a usual one.
        label_column: For a table: the column of labels, where its name is not a usual one.
        root: For a table: the folder that paths are relative to; the table's own without it.
        progress: Whether to show a progress bar on standard error; only on a terminal without it.
        options: For a bucket: ``storage_options={}``, ``retries=8``, ``timeout=30.0``, see `StoreOptions`.

    Returns:
        What was done.

    Raises:
        ConfigError: An option is wrong, the source cannot be listed, or the destination holds something else.
        PackError: Some pictures cannot be packed; its ``failures`` name each.
        StorageError: The data set cannot be written.
    """
    started = time.monotonic()
    listing = Listing(
        source=Path(check_local(source, "source")), class_from=class_from, follow_symlinks=follow_symlinks,
        path_column=path_column, label_column=label_column,
        root=None if root is None else Path(check_local(root, "root")),
    )  # fmt: skip
    how = PackOptions.of(
        split=split, stratify=stratify, shard_size=shard_size, shard_samples=shard_samples, seed=seed, shuffle=shuffle,
        class_from=class_from, labels_from=listing.kind(), check=check, resize=resize, quality=quality,
        store=store, image_size=image_size, color_mode=color_mode, crop_to_aspect_ratio=crop_to_aspect_ratio,
        pad_to_aspect_ratio=pad_to_aspect_ratio, image_limits=image_limits,
    )  # fmt: skip
    if workers is not None:
        whole_number("workers", workers, 1, MOST_WORKERS)
    one_of("overwrite", overwrite, True, False)
    one_of("progress", progress, True, False, None)
    # What is wrong with the destination is said before a source of a million files is listed.
    place = Place(dest, StoreOptions(**options))
    target = place.open()
    if isinstance(target, LocalStore):
        listing.refuse_nested(target.folder)
    if target.read_only:
        raise ConfigError("web servers are only read from", setting="dest", value=target.url, advice=_WRITABLE)
    survey(target)
    with _no_collecting():
        found = listing.read()
    with LocalWorkers(workers or usable_cores() + 1) as engine:
        if overwrite or target.size(MANIFEST_NAME) is None:
            engine.start(how.about_shards(len(found.items), sum(item.size for item in found.items)))
        with _no_collecting():
            plan = make_plan(found, how)
        if not overwrite and (done := finished(target, plan)) is not None:
            tidy(target)
            return PackResult(dest=target.url, manifest=done, already_packed=True, ignored=found.ignored)
        # The workers go first, then what they left behind, then the lock.
        with target.lock(), _tidied(target), contextlib.closing(engine):
            prepared = prepare(target, plan, overwrite=overwrite)
            rows = _run(plan, place, prepared.kept, how.pictures, engine, progress)
            manifest = _finish(target, plan, how, rows)
    return PackResult(
        dest=target.url, manifest=manifest, num_kept_shards=len(prepared.kept),
        replaced_unfinished=prepared.replaced_unfinished, ignored=found.ignored, seconds=time.monotonic() - started,
    )  # fmt: skip


@contextlib.contextmanager
def _no_collecting() -> Iterator[None]:
    """Listing and planning make objects that all live: looking for garbage among them takes a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _tidied(store: Store) -> Iterator[None]:
    """Workers that were stopped, or died, leave the shard they were at under a temporary name."""
    try:
        yield
    finally:
        store.delete_temporary()


def _run(
    plan: PackPlan,
    place: Place,
    kept: dict[str, ShardRow],
    pictures: PictureOptions,
    engine: LocalWorkers,
    progress: bool | None,
) -> list[ShardRow]:
    rows = dict(kept)
    todo = [task for task in plan.tasks if task.name not in kept]
    total = sum(len(task.items) for task in plan.tasks)
    done = sum(row.num_samples for row in kept.values())
    failures: list[str] = []
    first: ShardkitError | None = None
    storage: StorageError | None = None
    with _Bar(total, done, disable=None if progress is None else not progress) as bar:
        for outcome in engine.run(todo, place, pictures, bar.add):
            if isinstance(outcome, ShardRow):
                rows[outcome.name] = outcome
            else:
                first = first or outcome
                failures.extend(getattr(outcome, "failures", ()))
                if isinstance(outcome, StorageError):
                    storage = storage or outcome
    if storage is not None:
        raise storage  # of the pictures, not all were looked at
    if failures:
        raise PackError(
            f"{len(failures)} of {total} pictures cannot be packed", tuple(sorted(failures)),
            advice="There is no data set until they are mended or taken away:",
        ) from first  # fmt: skip
    if first is not None:
        raise first
    return [rows[task.name] for task in plan.tasks]


class _Bar:
    """Pictures done, pictures/s, MB/s and time left, on a terminal only."""

    def __init__(self, total: int, done: int, *, disable: bool | None) -> None:
        from tqdm import tqdm  # workers import this module too, and never show a bar

        self._bar = tqdm(
            total=total, initial=done, unit=" pictures", disable=disable, dynamic_ncols=True, smoothing=0.1
        )
        self._bytes = 0
        self._started = time.monotonic()

    def add(self, pictures: int, size: int) -> None:
        """Count what was done since the last call."""
        self._bytes += size
        rate = self._bytes / 1e6 / max(time.monotonic() - self._started, 1e-3)
        self._bar.set_postfix_str(f"{rate:.0f} MB/s", refresh=False)
        self._bar.update(pictures)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def _finish(store: Store, plan: PackPlan, options: PackOptions, rows: list[ShardRow]) -> Manifest:
    """Write the root table and, last, the manifest."""
    shards = ShardTable.of(rows)
    splits = {}
    for name, _ in options.split:
        mine = [row for row in rows if row.split == name]
        splits[name] = SplitInfo(
            num_samples=sum(row.num_samples for row in mine),
            num_bytes=sum(row.num_bytes for row in mine),
            num_shards=len(mine),
        )
    shape = options.pictures.shape
    image = _IMAGE if shape is None else FieldInfo(kind="array", extensions=("raw",), shape=shape)
    manifest = Manifest(
        fingerprint=shards.fingerprint(),
        shards=shards.digest(),
        fields={"image": image, "label": _LABEL},
        classes=plan.classes,
        splits=splits,
        packed={**options.as_json(), "plan": plan.digest},
    )
    with store.write(SHARD_TABLE_NAME) as writer:
        writer.write(shards.to_parquet())
    with store.write(MANIFEST_NAME) as writer:
        writer.write(manifest.to_json())
    store.delete(UNFINISHED_NAME)
    return manifest

"""The commands. Libraries are imported inside them, so that `shardkit --help` answers at once."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from shardkit._version import __version__
from shardkit.cli.bench import bench
from shardkit.cli.cache import app as cache_app
from shardkit.cli.order import explain, find
from shardkit.cli.places import Dataset, Datasets, StorageOption, store_options, urls_of
from shardkit.cli.stop import unwind_when_stopped
from shardkit.codecs.limits import DEFAULT_LIMITS, ImageLimits
from shardkit.redact import printable

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["app"]

app = typer.Typer(
    name="shardkit",
    help="Pack labelled pictures into tar shards, and look after them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class CheckChoice(StrEnum):
    """How thoroughly each picture is looked at."""

    header = "header"
    decode = "decode"


class ClassFromChoice(StrEnum):
    """Which folders name a picture's class."""

    top = "top"
    path = "path"


class StoreChoice(StrEnum):
    """As what pictures are kept."""

    encoded = "encoded"
    raw = "raw"


class ColorChoice(StrEnum):
    """Which values a pixel has."""

    rgb = "rgb"
    grayscale = "grayscale"
    rgba = "rgba"


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"shardkit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
) -> None:
    # --version is acted on by its callback, and --debug by `main`, which runs outside of typer.
    del version, debug


@app.command()
def pack(
    source: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="A folder of class folders, or a table: .csv, .tsv, .jsonl, .parquet."),
    ],
    dest: Annotated[str, typer.Argument(metavar="DEST", help="Where it goes: a folder, or a URL (s3, gs, az).")],
    split: Annotated[
        str | None, typer.Option(metavar="NAME=FRACTION,…", help="Splits, such as train=0.9,val=0.1.")
    ] = None,
    stratify: Annotated[bool, typer.Option("--stratify", help="Cut each class at the exact proportions.")] = False,
    shard_size: Annotated[
        str, typer.Option(metavar="SIZE", help="The most bytes in a shard; about, with --resize.")
    ] = "64MiB",
    shard_samples: Annotated[int | None, typer.Option(metavar="N", help="The most samples in a shard.")] = None,
    seed: Annotated[int, typer.Option(help="Of the splits and the shuffle.")] = 0,
    shuffle: Annotated[bool, typer.Option(help="Shuffle over the whole split, or leave sorted by path.")] = True,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes; one more than cores without it.")] = None,
    check: Annotated[
        CheckChoice, typer.Option(help="Look at each picture's header and end, or decode it whole.")
    ] = CheckChoice.header,
    resize: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Make pictures smaller whose shorter side is over N pixels: JPEG again, or PNG."
        ),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(metavar="Q", help="Of the JPEGs that --resize makes, 1 to 100; 90 without it.")
    ] = None,
    store: Annotated[
        StoreChoice, typer.Option(help="Keep pictures encoded, or decode them to arrays of one size and keep those.")
    ] = StoreChoice.encoded,
    image_size: Annotated[
        tuple[int, int] | None, typer.Option(metavar="HEIGHT WIDTH", help="The size of raw pictures.")
    ] = None,
    color_mode: Annotated[ColorChoice, typer.Option(help="The channels of raw pictures.")] = ColorChoice.rgb,
    crop_to_aspect_ratio: Annotated[
        bool, typer.Option("--crop-to-aspect-ratio", help="Of raw pictures: cut to the array's shape, do not distort.")
    ] = False,
    pad_to_aspect_ratio: Annotated[
        bool, typer.Option("--pad-to-aspect-ratio", help="Of raw pictures: fill up with zeros, do not distort.")
    ] = False,
    max_pixels: Annotated[int, typer.Option(metavar="N", help="The most pixels of one image.")] = DEFAULT_LIMITS.pixels,
    max_memory: Annotated[
        str, typer.Option(metavar="SIZE", help="The most memory that decoding one image may take, by its header.")
    ] = "1.5GB",
    max_scans: Annotated[
        int, typer.Option(metavar="N", help="The most scans of a JPEG; a progressive one has about 10.")
    ] = DEFAULT_LIMITS.scans,
    max_seconds: Annotated[
        float, typer.Option(metavar="S", help="The longest that decoding one image may take, by its header.")
    ] = DEFAULT_LIMITS.seconds,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a data set that is at DEST.")] = False,
    class_from: Annotated[
        ClassFromChoice, typer.Option(help="The class is the first folder of a path, or the whole of it.")
    ] = ClassFromChoice.top,
    follow_symlinks: Annotated[
        bool, typer.Option("--follow-symlinks", help="Take links that lead out of SRC or to folders.")
    ] = False,
    path_column: Annotated[str | None, typer.Option(metavar="NAME", help="The table's column of paths.")] = None,
    label_column: Annotated[str | None, typer.Option(metavar="NAME", help="The table's column of labels.")] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="What the table's paths are relative to; its own folder.")
    ] = None,
    storage_option: StorageOption = None,
) -> None:
    """Pack labelled pictures into tar shards.

    Stopped at any moment, even killed, and run again, it goes on where it was and ends with the same bytes.
    """
    from shardkit.cli.words import packed_words
    from shardkit.packer import pack as run_pack

    where = store_options(storage_option)
    unwind_when_stopped(converts=False)
    result = run_pack(
        source, dest, split=split, stratify=stratify, shard_size=shard_size, shard_samples=shard_samples,
        seed=seed, shuffle=shuffle, workers=workers, check=check.value, resize=resize,
        quality=quality, store=store.value, image_size=image_size, color_mode=color_mode.value,
        crop_to_aspect_ratio=crop_to_aspect_ratio, pad_to_aspect_ratio=pad_to_aspect_ratio,
        image_limits=ImageLimits(pixels=max_pixels, memory=max_memory, scans=max_scans, seconds=max_seconds),
        overwrite=overwrite, class_from=class_from.value, follow_symlinks=follow_symlinks,
        path_column=path_column, label_column=label_column, root=root,
        **where.keywords,
    )  # fmt: skip
    typer.echo(packed_words(result))


@app.command()
def info(
    dataset: Datasets,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    classes: Annotated[
        bool, typer.Option("--classes", help="Count classes, picture formats and sizes too: reads every sample table.")
    ] = False,
    storage_option: StorageOption = None,
) -> None:
    """Say what is in a data set."""
    from shardkit.cli.words import info_words
    from shardkit.manifest.info import describe

    options = store_options(storage_option)
    for url in urls_of(dataset):
        found = describe(url, options=options, count=classes)
        typer.echo(json.dumps(found, indent=1) if as_json else info_words(found))


@app.command()
def verify(dataset: Datasets, storage_option: StorageOption = None) -> None:
    """Check every digest and every count of a data set."""
    from shardkit.cli.words import verified_words
    from shardkit.manifest.verify import verify as run_verify

    options, urls = store_options(storage_option), urls_of(dataset)
    damaged = False
    for url in urls:
        with _byte_bar() as bar:
            report = run_verify(url, **options.keywords, on_progress=lambda _name, size: bar.update(size))
        for problem in report.problems:
            typer.echo(f"shardkit: damaged: {printable(str(problem))}", err=True)
        typer.echo(verified_words(report, report.url if len(urls) > 1 else ""), err=bool(report.problems))
        damaged = damaged or bool(report.problems)
    if damaged:
        raise typer.Exit(1)


def _byte_bar() -> tqdm[NoReturn]:
    from tqdm import tqdm

    return tqdm(unit="B", unit_scale=True, disable=None)


@app.command()
def unpack(
    dataset: Dataset,
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Where the pictures go: a new or empty folder, or one that was stopped."),
    ],
    split: Annotated[str | None, typer.Option(metavar="NAME", help="One split only.")] = None,
    storage_option: StorageOption = None,
) -> None:
    """Write the pictures back under the names they had, byte for byte; raw ones as PNG."""
    from shardkit.packer import unpack as run_unpack

    unwind_when_stopped()
    count = run_unpack(dataset, folder, split=split, **store_options(storage_option).keywords)
    typer.echo(f"{count:,} pictures written to {printable(str(folder))}")


app.add_typer(cache_app, name="cache")
app.command()(bench)
app.command()(explain)
app.command()(find)

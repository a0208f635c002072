"""`shardkit bench`: how fast a data set loads here, where the time goes, and what would help."""

from __future__ import annotations

from enum import StrEnum
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shardkit.cli.places import Dataset, StorageOption, store_options

if TYPE_CHECKING:
    from shardkit.loader import Loader
    from shardkit.loader.config import LoaderOptions

__all__ = ["bench"]


class Shuffle(StrEnum):
    """As the loader's ``shuffle``."""

    YES = "yes"
    NO = "no"
    GLOBAL = "global"


_SHUFFLES: dict[Shuffle, Any] = {Shuffle.YES: True, Shuffle.NO: False, Shuffle.GLOBAL: "global"}


def bench(
    dataset: Dataset,
    split: Annotated[str, typer.Option(metavar="NAME", help="The split.")] = "train",
    batch_size: Annotated[int, typer.Option(metavar="N", help="Samples in a batch.")] = 256,
    image_size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="HEIGHT WIDTH", help="As the loader's; 224 224, or the size that raw samples have."),
    ] = None,
    shuffle: Annotated[Shuffle, typer.Option(help="As the loader's `shuffle`.")] = Shuffle.YES,
    antialias: Annotated[bool, typer.Option(help="As the loader's `antialias`.")] = True,
    decode: Annotated[bool, typer.Option(help="Decode pictures, or only read and verify them.")] = True,
    threads: Annotated[int | None, typer.Option(metavar="N", help="Threads; the cores, or 1 with --no-decode.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to load for.")] = 10.0,
    storage_option: StorageOption = None,
) -> None:
    """Load a data set as fast as it goes, and say where the time goes and what would help.

    Epoch after epoch if need be, with nothing done to the batches: what training would get at best.
    """
    from shardkit.loader import Loader
    from shardkit.manifest import read_manifest

    where = store_options(storage_option)
    is_raw = read_manifest(dataset, **where.keywords).fields["image"].shape is not None
    options: LoaderOptions = {
        "batch_size": batch_size, "image_size": image_size or (None if is_raw else (224, 224)),
        "shuffle": _SHUFFLES[shuffle], "antialias": antialias, "decode": decode, "threads": threads,
        "drop_remainder": False, "storage_options": where.storage_options, "retries": where.retries,
        "timeout": where.timeout,
    }  # fmt: skip
    started = perf_counter()
    next(Loader(dataset, split, **options).batches())
    first = perf_counter() - started
    # Another one, so that what the first had begun is in no figure.
    loader = Loader(dataset, split, **options)
    _load(loader, seconds)
    typer.echo(f"first batch after {first:.2f} s\n{loader.stats()}")


def _load(loader: Loader, seconds: float) -> None:
    stop = perf_counter() + seconds
    while perf_counter() < stop:
        for _ in loader:
            if perf_counter() >= stop:
                break

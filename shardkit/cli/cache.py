"""`shardkit cache`: what is kept of data sets on servers, and how to be rid of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look at, or clear, what `Loader(cache=...)` keeps of data sets.")
Folder = Annotated[
    Path | None, typer.Argument(metavar="DIR", help="The cache's folder; without it the one that cache=True means.")
]


@app.command()
def path() -> None:
    """Say which folder `cache=True` means."""
    from shardkit.storage.cache import default_cache

    typer.echo(default_cache())


@app.command()
def ls(folder: Folder = None) -> None:
    """List the data sets of which something is kept."""
    from shardkit.cli.words import cached_words
    from shardkit.storage.cache import cached_data_sets

    typer.echo(cached_words(cached_data_sets(_chosen(folder))))


@app.command()
def clear(folder: Folder = None) -> None:
    """Delete what is kept, but for data sets that are being used."""
    from shardkit.storage.cache import clear_cache

    cleared, left = clear_cache(_chosen(folder))
    typer.echo(f"{cleared} deleted" + (f", {left} in use and left alone" if left else ""))


def _chosen(folder: Path | None) -> Path:
    from shardkit.storage.cache import default_cache

    return default_cache() if folder is None else folder

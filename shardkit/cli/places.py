"""Data sets on the command line: where they lie, and how to get there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from shardkit.storage import StoreOptions

__all__ = ["Dataset", "Datasets", "StorageOption", "store_options", "urls_of"]

Dataset = Annotated[
    str, typer.Argument(metavar="DATASET", help="Where the data set lies: a folder, or a URL (http, s3, gs, az).")
]
Datasets = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="Where the data set lies: a folder, or a URL (http, s3, gs, az); s3://…/part-{00..12} means several.",
    ),
]
StorageOption = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option",
        metavar="NAME=VALUE",
        help="For a URL, any number of times: endpoint=…, region=…, retries=8, timeout=30. "
        "Keep credentials in the environment, where no list of processes shows them.",
    ),
]


def store_options(pairs: list[str] | None) -> StoreOptions:
    """What ``--storage-option`` was given.

    Args:
        pairs: Texts of the form ``NAME=VALUE``.

    Returns:
        The options.

    Raises:
        ConfigError: One is not of that form, or wrong.
    """
    from shardkit.errors import ConfigError
    from shardkit.storage import StoreOptions

    options = {}
    for pair in pairs or ():
        name, sign, value = pair.partition("=")
        if not name or not sign:
            # Not shown: it may be a password without its name.
            raise ConfigError("--storage-option takes NAME=VALUE", setting="storage_option")
        options[name] = value
    try:
        retries, timeout = int(options.pop("retries", 8)), float(options.pop("timeout", 30.0))
    except ValueError as exc:
        raise ConfigError("retries and timeout are numbers", setting="storage_option") from exc
    return StoreOptions(storage_options=options, retries=retries, timeout=timeout)


def urls_of(text: str) -> list[str]:
    """The data sets that an argument means: several where it is a URL with braces."""
    from shardkit.storage import expand_braces

    return expand_braces(text) if "://" in text else [text]

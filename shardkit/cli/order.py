"""`shardkit explain` and `shardkit find`: which samples a batch holds, and when a sample comes up."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shardkit.cli.places import Dataset, StorageOption, store_options
from shardkit.errors import ConfigError
from shardkit.files import read_regular
from shardkit.redact import printable

if TYPE_CHECKING:
    from shardkit.loader.order import OrderNumbers
    from shardkit.manifest import DataSet, Split

__all__ = ["explain", "find"]

_MOST_STATE_BYTES = 2**20

SplitName = Annotated[str, typer.Option("--split", metavar="NAME", help="The split.")]
StateFile = Annotated[
    Path | None,
    typer.Option("--state", metavar="FILE", help="A saved position (JSON): its order, and its epoch and step."),
]
BatchSize = Annotated[int, typer.Option("--batch-size", metavar="N", help="Samples in a global batch.")]
Shuffle = Annotated[str, typer.Option("--shuffle", metavar="yes|no|global", help="As the loader's `shuffle`.")]
Seed = Annotated[int, typer.Option("--seed", help="Of the shuffle.")]
Buffer = Annotated[str, typer.Option("--shuffle-buffer", metavar="SIZE", help="A size, or a number of samples.")]
Chunk = Annotated[str, typer.Option("--chunk-size", metavar="SIZE", help="auto, a size, or a number of samples.")]
Lanes = Annotated[int, typer.Option("--lanes", metavar="N", help="As the loader's `lanes`.")]
WorldSize = Annotated[int, typer.Option("--world-size", metavar="N", help="How many ranks share a batch.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def explain(
    dataset: Dataset,
    epoch: Annotated[int | None, typer.Option(help="The epoch; 0, or the saved position's.")] = None,
    step: Annotated[int | None, typer.Option(help="The step; 0, or the saved position's.")] = None,
    split: SplitName = "train",
    state: StateFile = None,
    batch_size: BatchSize = 32,
    shuffle: Shuffle = "yes",
    seed: Seed = 0,
    shuffle_buffer: Buffer = "256MB",
    chunk_size: Chunk = "auto",
    lanes: Lanes = 16,
    world_size: WorldSize = 1,
    as_json: AsJson = False,
    storage_option: StorageOption = None,
) -> None:
    """List the samples of a batch: key, label, shard, offset and rank.

    Nothing has to have been logged: the order is a function of the settings, which must be those of the training run.
    """
    from shardkit.loader.explain import explain_batch
    from shardkit.loader.order import EpochOrder
    from shardkit.manifest import open_dataset

    found = open_dataset(dataset, store_options(storage_option))
    document = _read_state(state)
    chosen = found.split(document["split"] if document else split)
    numbers = _numbers(found, chosen, document, batch_size, shuffle, seed, shuffle_buffer, chunk_size, lanes)
    epoch = document.get("epoch", 0) if epoch is None else epoch
    step = document.get("step", 0) if step is None else step
    refs = explain_batch(found, chosen, EpochOrder(numbers, epoch), step, world_size)
    if as_json:
        typer.echo(json.dumps([asdict(ref) for ref in refs], indent=1))
        return
    typer.echo(f"epoch {epoch}, step {step} of {numbers.num_steps}: {len(refs)} samples")
    classes = found.manifest.classes
    keys = [printable(ref.key) for ref in refs]
    width = max(map(len, keys))
    for key, ref in zip(keys, refs, strict=True):
        typer.echo(
            f"{key.ljust(width)}  {ref.label:>5} {printable(classes[ref.label])}  {printable(ref.shard)} "
            f"row {ref.row}, {ref.size} bytes at {ref.offset}, rank {ref.rank}"
        )


def find(
    dataset: Dataset,
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="The sample's key, as `explain` and `Loader.keys` show it.")
    ],
    epochs: Annotated[int, typer.Option(metavar="N", help="Look in the first N epochs.")] = 1,
    split: SplitName = "train",
    state: StateFile = None,
    batch_size: BatchSize = 32,
    shuffle: Shuffle = "yes",
    seed: Seed = 0,
    shuffle_buffer: Buffer = "256MB",
    chunk_size: Chunk = "auto",
    lanes: Lanes = 16,
    world_size: WorldSize = 1,
    as_json: AsJson = False,
    storage_option: StorageOption = None,
) -> None:
    """Say in which steps a sample comes up."""
    from shardkit.loader.explain import find_sample, index_of_key
    from shardkit.manifest import open_dataset

    found = open_dataset(dataset, store_options(storage_option))
    document = _read_state(state)
    chosen = found.split(document["split"] if document else split)
    numbers = _numbers(found, chosen, document, batch_size, shuffle, seed, shuffle_buffer, chunk_size, lanes)
    index = index_of_key(found, chosen, key)
    places = [find_sample(numbers, index, epoch, world_size) for epoch in range(epochs)]
    if as_json:
        typer.echo(json.dumps([asdict(place) for place in places if place is not None], indent=1))
        return
    for epoch, place in enumerate(places):
        where = (
            "in the remainder that is dropped"
            if place is None
            else f"step {place.step}, place {place.place}, rank {place.rank}"
        )
        typer.echo(f"epoch {epoch}: {where}")


def _read_state(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        document = json.loads(read_regular(path, _MOST_STATE_BYTES))
        if not all(
            isinstance(document[name], kind) for name, kind in (("split", str), ("order", dict), ("epoch", int))
        ):
            raise TypeError("split, order or epoch is missing")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ConfigError(f"cannot read the saved position: {exc}", setting="state", value=str(path)) from exc
    return document  # type: ignore[no-any-return]


def _numbers(
    dataset: DataSet, split: Split, document: dict[str, Any], batch_size: int, shuffle: str, seed: int,
    shuffle_buffer: str, chunk_size: str, lanes: int,
) -> OrderNumbers:  # fmt: skip
    from shardkit.loader.config import OrderConfig
    from shardkit.loader.order import OrderNumbers
    from shardkit.loader.state import read_state

    if document:
        try:
            numbers = OrderNumbers(**document["order"])
        except TypeError as exc:
            raise ConfigError(f"not a saved position: {exc}", setting="state") from exc
        # The same checks as going on from it; the data set must be the one it was saved with.
        here = {"fingerprint": dataset.manifest.fingerprint, "num_samples": split.num_samples}
        read_state(document, OrderNumbers(**{**asdict(numbers), **here}), split.name)
        return numbers
    choices: dict[str, Any] = {"yes": True, "no": False, "global": "global"}
    if shuffle not in choices:
        raise ConfigError("--shuffle must be yes, no or global", setting="shuffle", value=shuffle)
    config = OrderConfig(
        batch_size=batch_size, shuffle=choices[shuffle], seed=seed, lanes=lanes,
        shuffle_buffer=_size(shuffle_buffer), chunk_size=_size(chunk_size),
    )  # fmt: skip
    manifest = dataset.manifest
    return config.numbers(split, manifest.fingerprint, packed_shuffled=manifest.packed_shuffled)


def _size(text: str) -> int | str:
    """A bare number is a number of samples, as in the loader; anything else is a size in bytes."""
    return int(text) if text.isascii() and text.isdigit() else text

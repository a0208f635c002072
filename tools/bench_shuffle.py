"""How well are class-sorted shards mixed, by shardkit and by webdataset, at equal memory? Prints a Markdown table.

    python tools/bench_shuffle.py

Packs small pictures class by class, without a shuffle, into shards of half a class: the worst case. Then reads whole
epochs with webdataset's own pipeline (shuffled shards, then its shuffle buffer) and with `shardkit.Loader`, and counts
the classes of every batch. The default sizes are those of ImageNet (1,000 classes of 1,300 pictures of 110 kB, batches
of 256, a buffer of 256 MB, chunks of 2 MB) divided by about four: classes and batch by 3.3, the others by 4.5. With
`--class-samples 1300 --buffer 2304` only classes and batch are divided, which takes some minutes and 3 GB.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import webdataset
from PIL import Image
from simulate_order import held_samples

import shardkit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Chunks are these fractions of the buffer; 2 MB of 256 MB is the default.
FRACTIONS = (32, 64, 128, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Classes, pictures in each, pictures in a batch and in the buffer."""

    classes: int
    class_samples: int
    batch: int
    buffer: int


class Run(NamedTuple):
    """An epoch: the labels in the order they came, and how many samples were held at each."""

    labels: NDArray[np.int64]
    held: NDArray[np.int64]


class Row(NamedTuple):
    """What one way of reading gave."""

    name: str
    classes: float
    mix: float
    told: float | None
    held_mean: float
    held_most: int


def write_pictures(folder: Path, sizes: Sizes) -> None:
    """Class folders of PNG pictures of one colour each."""
    for label in range(sizes.classes):
        target = folder / f"class-{label:04d}"
        target.mkdir(parents=True)
        for number in range(sizes.class_samples):
            out = io.BytesIO()
            Image.new("RGB", (8, 8), (label % 256, number % 256, 16 * (label // 256) + number // 256)).save(out, "PNG")
            (target / f"{number:04d}.png").write_bytes(out.getvalue())


def ideal_classes(labels: NDArray[np.int64], size: int) -> float:
    """Distinct classes in a batch drawn from everything, on average over many draws."""
    rng = np.random.default_rng(0)
    batches = (rng.choice(labels, size, replace=False) for _ in range(1000))
    return float(np.mean([len(np.unique(batch)) for batch in batches]))


def classes_in(stream: NDArray[np.int64], size: int) -> float:
    """Distinct classes in the full batches of an epoch's labels, on average."""
    whole = stream[: len(stream) // size * size].reshape(-1, size)
    return float(np.mean([len(np.unique(batch)) for batch in whole]))


def read_webdataset(shards: Path, buffer: int, epoch: int) -> Run:
    """An epoch of webdataset; held is what its buffer holds."""
    urls = sorted(str(path) for path in shards.glob("*.tar"))
    taken = 0

    def count(samples: Iterator[dict[str, bytes]]) -> Iterator[dict[str, bytes]]:
        nonlocal taken
        for sample in samples:
            taken += 1
            yield sample

    source = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=epoch)
    pipeline = source.compose(count).shuffle(buffer, initial=buffer, seed=epoch)
    found, held = [], []
    for sample in pipeline:
        found.append(int(sample["cls"]))
        held.append(taken - len(found) + 1)
    return Run(np.array(found), np.array(held))


def read_shardkit(loader: shardkit.Loader, place: dict[str, int], epoch: int) -> Run:
    """An epoch of the loader; held are all samples of chunks in use, whether handed out already or not."""
    labels, samples = [], []
    for batch in loader.batches(epoch):
        labels.append(batch.labels)
        samples += [place[key] for key in batch.keys]
    order = loader.state()["order"]
    return Run(np.concatenate(labels), held_samples(np.array(samples), order["chunk_samples"], order["lanes"]))


def measure(shards: Path, sizes: Sizes, epochs: int) -> Iterator[Row]:
    """Read everything in every way."""
    plain = shardkit.Loader(shards, batch_size=sizes.batch, decode=False)
    place = {key: number for number, key in enumerate(plain.keys())}
    ideal = ideal_classes(np.concatenate([batch.labels for batch in plain.batches()]), sizes.batch)

    def row(name: str, runs: list[Run], told: float | None) -> Row:
        classes = float(np.mean([classes_in(run.labels, sizes.batch) for run in runs]))
        held = np.concatenate([run.held for run in runs])
        return Row(name, classes, (classes - 1) / (ideal - 1), told, float(held.mean()), int(held.max()))

    runs = [read_webdataset(shards, sizes.buffer, epoch) for epoch in range(epochs)]
    yield row(f"webdataset {webdataset.__version__}", runs, None)
    for fraction in FRACTIONS:
        loader = shardkit.Loader(
            shards, batch_size=sizes.batch, shuffle=True, shuffle_buffer=sizes.buffer,
            chunk_size=max(1, sizes.buffer // fraction), decode=False,
        )  # fmt: skip
        told = float(np.mean([loader.shuffle_quality(epoch).label_mix for epoch in range(epochs)]))
        runs = [read_shardkit(loader, place, epoch) for epoch in range(epochs)]
        yield row(f"shardkit, chunks of 1/{fraction} of the buffer", runs, told)


def main() -> None:
    """Pack, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2, help="epochs to read in each way (default 2)")
    parser.add_argument("--classes", type=int, default=300, help="classes (default 300)")
    parser.add_argument("--class-samples", type=int, default=300, help="pictures in each (default 300)")
    parser.add_argument("--batch", type=int, default=77, help="pictures in a batch (default 77)")
    parser.add_argument("--buffer", type=int, default=512, help="pictures in the shuffle buffer (default 512)")
    options = vars(parser.parse_args())
    epochs = options.pop("epochs")
    sizes = Sizes(**options)
    with tempfile.TemporaryDirectory() as folder:
        pictures, shards = Path(folder, "pictures"), Path(folder, "shards")
        write_pictures(pictures, sizes)
        shardkit.pack(pictures, shards, shuffle=False, shard_samples=sizes.class_samples // 2, workers=1)
        rows = list(measure(shards, sizes, epochs))
    print("| read by | classes in a batch | label mix | times webdataset | `shuffle_quality()` | held, mean / most |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        told = "" if row.told is None else f"{row.told:.3f}"
        held = f"{row.held_mean:.0f} / {row.held_most} samples"
        print(f"| {row.name} | {row.classes:.1f} | {row.mix:.3f} | {row.mix / rows[0].mix:.1f} | {told} | {held} |")


if __name__ == "__main__":
    main()

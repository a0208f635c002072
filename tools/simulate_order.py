"""Does the order hold up at a million shards and 10^9 samples? Prints a Markdown table.

    python tools/simulate_order.py

Writes the manifest and the root table of a data set that has no pictures into a temporary folder. A process of its own
then opens it as a loader does, with every check, and measures time and memory until the order is ready, batches at
random places of random epochs, a thousand ranks, and going on late in an epoch.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from shardkit.loader.config import OrderConfig
from shardkit.loader.order import EpochOrder, OrderNumbers, Share
from shardkit.manifest import open_dataset
from shardkit.manifest.manifest import FieldInfo, Manifest, SplitInfo
from shardkit.manifest.shards import SHARD_TABLE_NAME, ShardRow, ShardTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from shardkit.manifest import Split

MEAN_SAMPLE_BYTES = 110_000
MEAN_ROW_BYTES = 150
RANKS = 1024
RANKS_BATCH = 8192
# 256 MB for each of 1,024 ranks, as one rank has by default.
RANKS_BUFFER = "256GB"


def hexadecimal(rng: np.random.Generator, count: int) -> pa.Array:
    """Random digests: ``count`` texts of 32 hexadecimal digits."""
    digits = np.frombuffer(rng.bytes(16 * count).hex().encode("ascii"), dtype="S32")
    return pa.array(digits).cast(pa.string())


def write_dataset(folder: Path, num_shards: int, num_samples: int) -> None:
    """Manifest and root table of a data set; shards of unequal length, without their files."""
    rng = np.random.default_rng(0)
    mean = num_samples // num_shards
    counts = rng.integers(mean - mean // 10, mean + mean // 10 + 1, num_shards)
    counts[: abs(num_samples - counts.sum())] += np.sign(num_samples - counts.sum())
    sizes = counts * rng.integers(MEAN_SAMPLE_BYTES * 9 // 10, MEAN_SAMPLE_BYTES * 11 // 10, num_shards)
    names = [f"train-{number:07d}.tar" for number in range(num_shards)]
    digests = [hexadecimal(rng, num_shards) for _ in range(3)]
    columns = [pa.array(names), pa.array(["train"] * num_shards), counts, sizes, *digests, counts * MEAN_ROW_BYTES]
    table = ShardTable(pa.table(columns, [field.name for field in dataclasses.fields(ShardRow)]))
    split = SplitInfo(num_samples=int(counts.sum()), num_bytes=int(sizes.sum()), num_shards=num_shards)
    fields = {
        "image": FieldInfo(kind="image", extensions=("jpg",)),
        "label": FieldInfo(kind="class", extensions=("cls",)),
    }
    manifest = Manifest(
        fingerprint=table.fingerprint(),
        shards=table.digest(),
        fields=fields,
        classes=("a", "b"),
        splits={"train": split},
    )
    (folder / SHARD_TABLE_NAME).write_bytes(table.to_parquet())
    (folder / "manifest.json").write_bytes(manifest.to_json())


def peak_mb() -> float:
    """The most memory this process ever held, in MB. Unlike `getrusage`, it knows nothing of the parent process."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


class Timed(NamedTuple):
    """A call: seconds by the clock, seconds on a processor, and what it gave."""

    wall_s: float
    cpu_s: float
    found: Any


def timed(function: Callable[..., Any], *arguments: Any) -> Timed:
    """Call and time; on a busy machine the clock goes on while the call waits for a processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = function(*arguments)
    return Timed(time.perf_counter() - wall, time.process_time() - cpu, found)


def row(what: str, *values: str) -> None:
    """A row of the table."""
    print(f"| {what} | {' | '.join(values)} |")


def make_plan(folder: Path) -> tuple[OrderNumbers, Split]:
    """Open the data set and make an order with the default settings ready."""
    before = peak_mb()

    def plan() -> tuple[EpochOrder, Split]:
        dataset = open_dataset(folder)
        split = dataset.split("train")
        numbers = OrderConfig(batch_size=256, shuffle=True).numbers(split, dataset.manifest.fingerprint)
        return EpochOrder(numbers, 0), split

    run = timed(plan)
    order, split = run.found
    root_mb = (folder / SHARD_TABLE_NAME).stat().st_size / 1e6
    row("shards; samples; root table", f"{len(split.shards):,}; {split.num_samples:,}; {root_mb:.0f} MB", "")
    row("the order is ready after", f"{run.wall_s:.2f} s, {run.cpu_s:.2f} s of it on a processor", "2 s")
    row("most memory until then", f"{peak_mb():.0f} MB, {before:.0f} MB of it for Python's imports", "1,000 MB")
    return order.numbers, split


def cold_batch(numbers: OrderNumbers, epoch: int, step: int) -> Any:
    """The samples of one batch, with nothing made before."""
    return EpochOrder(numbers, epoch).samples_at(np.arange(*numbers.batch_range(step)))


def cold_position(numbers: OrderNumbers, epoch: int, sample: int) -> int:
    """The position at which a sample comes up, with nothing made before."""
    return EpochOrder(numbers, epoch).position_of(sample)


def first_batch(numbers: OrderNumbers, epoch: int, step: int) -> Any:
    """The first batch of an iteration that begins at a step."""
    return next(EpochOrder(numbers, epoch).batches(Share(), step))


def measure_batches(numbers: OrderNumbers, count: int) -> None:
    """Batches anywhere, and the way back from their first sample to where it comes up."""
    rng = np.random.default_rng(1)
    batches, found = [], []
    for _ in range(count):
        epoch, step = int(rng.integers(1 << 20)), int(rng.integers(numbers.num_steps))
        batches.append(timed(cold_batch, numbers, epoch, step))
        found.append(timed(cold_position, numbers, epoch, int(batches[-1].found[0])))
        assert found[-1].found == numbers.batch_range(step)[0], "the way back leads to the same place"
    row(f"any of {count:,} batches of {numbers.batch_size}, cold", spread(batches), "10 ms")
    row("when a sample comes up (`find`), cold", spread(found), "")


def spread(runs: list[Timed]) -> str:
    """Median and maximum of some times."""
    wall, cpu = (np.array(times) * 1e3 for times in zip(*[run[:2] for run in runs], strict=True))
    by_clock = f"{np.median(wall):.1f} ms median, {wall.max():.1f} ms most"
    return f"{by_clock}; on a processor {np.median(cpu):.1f} and {cpu.max():.1f}"


def measure_resume(numbers: OrderNumbers) -> None:
    """The first batch of an iteration, early and late; in turn, so that a busy machine hits all alike."""
    percents = (0, 10, 50, 90)
    runs = [
        [timed(first_batch, numbers, epoch, numbers.num_steps * percent // 100) for percent in percents]
        for epoch in range(200)
    ]
    for percent, some in zip(percents, zip(*runs, strict=True), strict=True):
        row(f"first batch of an iteration from {percent} % of an epoch", spread(list(some)), "10 ms")


def measure_ranks(numbers: OrderNumbers, count: int) -> None:
    """Ranks that share batches, which must be theirs exactly, without two reading the same chunk but at cuts."""
    rng = np.random.default_rng(2)
    runs, shared = [], []
    for step in [0, numbers.num_steps - 1, *rng.integers(numbers.num_steps, size=count - 2).tolist()]:
        order = EpochOrder(numbers, step % 7)
        start, stop = numbers.batch_range(step)
        whole, parts = np.full(stop - start, -1), []
        for rank in range(RANKS):
            positions = Share(rank=rank, world_size=RANKS).positions(numbers, step)
            runs.append(timed(order.samples_at, positions))
            parts.append(np.unique(runs[-1].found // numbers.chunk_samples))
            assert (whole[positions - start] == -1).all(), "no place belongs to two ranks"
            whole[positions - start] = runs[-1].found
        assert np.array_equal(whole, order.samples_at(np.arange(start, stop))), "the ranks' parts are the batch"
        assert len(np.unique(whole)) == len(whole), "no sample comes twice"
        shared.append(len(np.concatenate(parts)) - len(np.unique(np.concatenate(parts))))
    assert max(shared) < RANKS, "a lane shares at most the chunk at its cut"
    row(
        f"{RANKS:,} ranks, lanes={RANKS}, batches of {RANKS_BATCH:,}: {count} batches", "partitioned exactly", "exactly"
    )
    row("chunks of such a batch that two ranks read (a chunk at a cut)", f"{max(shared)} at most", f"{RANKS - 1:,}")
    row("a rank's part of such a batch", spread(runs), "10 ms")


def held_samples(samples: NDArray[np.int64], chunk_samples: int, lanes: int) -> NDArray[np.int64]:
    """How many samples are held at each position where each lane holds its chunks whole from first use to last.

    The first position must be one of lane 0. A chunk at a cut counts as two: one lane needs it first, the other last.
    """
    chunks = samples // chunk_samples * lanes + np.arange(len(samples)) % lanes
    _, first, size = np.unique(chunks, return_index=True, return_counts=True)
    last = len(chunks) - np.unique(chunks[::-1], return_index=True)[1]
    change = np.zeros(len(chunks) + 1, dtype=np.int64)
    np.add.at(change, first, size)
    np.add.at(change, last, -size)
    return np.cumsum(change)[:-1]


def measure_held(split: Split, fingerprint: str) -> None:
    """What has to be held so that no chunk is read twice in an epoch, in the midst of one, by chunk size."""
    for chunk in ("1MB", "2MB", "4MB", "8MB"):
        numbers = OrderConfig(batch_size=256, shuffle=True, chunk_size=chunk).numbers(split, fingerprint)
        steps = EpochOrder(numbers, 0).batches(Share(), numbers.num_steps // 2)
        samples = np.concatenate([samples for _, samples in islice(steps, 1000)])
        held = held_samples(samples, numbers.chunk_samples, numbers.lanes)
        # At both ends chunks are seen only in part.
        margin = 2 * numbers.lanes * (numbers.span + numbers.chunk_samples)
        megabytes = held[margin:-margin] * (split.num_bytes / split.num_samples) / 1e6
        bar = "256 MB" if chunk == "2MB" else ""
        row(
            f"held at once with chunks of {chunk}",
            f"{megabytes.mean():.0f} MB mean, {megabytes.max():.0f} MB most",
            bar,
        )


def measure(folder: Path, batches: int) -> None:
    """Print the table."""
    row("what", "measured", "bar")
    row("---", "---", "---")
    numbers, split = make_plan(folder)
    measure_batches(numbers, batches)
    measure_resume(numbers)
    many = OrderConfig(batch_size=RANKS_BATCH, shuffle=True, lanes=RANKS, shuffle_buffer=RANKS_BUFFER)
    measure_ranks(many.numbers(split, numbers.fingerprint), 8)
    measure_held(split, numbers.fingerprint)
    row("most memory in all", f"{peak_mb():.0f} MB", "1,000 MB")


def main() -> None:
    """Write the data set, then measure it in a process of its own, whose memory is not that of writing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=1_000_000, help="shards (default 1,000,000)")
    parser.add_argument("--samples", type=int, default=1_000_000_000, help="samples in all of them (default 10^9)")
    parser.add_argument("--batches", type=int, default=1000, help="batches at random places (default 1,000)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.batches)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), options.shards, options.samples)
        command = [sys.executable, __file__, "--measure", folder, "--batches", str(options.batches)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

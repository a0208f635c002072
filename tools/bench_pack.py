"""How fast is packing, beside GNU tar and beside a bare loop that resizes? Prints Markdown tables.

    python tools/bench_pack.py --folder /tmp/bench --pictures 30000

The same files are archived in turns by ``shardkit pack`` and by ``tar cf``, on one disk, from a warm page cache. What a
run takes for one picture is its fixed start; the steady rate is that of the other pictures. With ``--resize``, packing
stands beside processes that read, decode, resize and encode the same files by the same functions and keep nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.photos import make_data

from shardkit.codecs.header import read_header
from shardkit.codecs.shrink import shrink
from shardkit.machine import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable

QUALITY = 90


@dataclass(frozen=True)
class Bench:
    """What is measured on: a folder with many pictures, one with a single one, and where to write."""

    photos: Path
    single: Path
    work: Path
    pictures: int

    def pack(self, source: Path, *options: str) -> float:
        """Seconds that ``shardkit pack`` takes."""
        dest = self.work / "shards"
        command = [sys.executable, "-m", "shardkit.cli", "pack", str(source), str(dest)]
        return self._timed(lambda: self._run(*command, *options), dest)

    def tar(self, source: Path, *, durable: bool = False) -> float:
        """Seconds that GNU tar takes; ``durable`` with its archive flushed to the disk, as packing does with shards."""
        dest = self.work / "all.tar"

        def run() -> None:
            self._run("tar", "cf", str(dest), "-C", str(source), ".")
            if durable:
                self._run("sync", str(dest))

        return self._timed(run, dest)

    def bare_loop(self, source: Path, side: int) -> float:
        """Seconds that processes take which resize all pictures and do nothing else."""
        files = sorted(source.rglob("*.jpg"))
        jobs = [(path, side) for path in files]
        with multiprocessing.get_context("spawn").Pool(usable_cores(), initializer=os.setsid) as pool:
            pool.map(resize_one, jobs[:1] * 8 * usable_cores(), chunksize=1)  # everything is imported
            started = time.perf_counter()
            for _ in pool.imap_unordered(resize_one, jobs, chunksize=64):
                pass
            return time.perf_counter() - started

    @staticmethod
    def _run(*command: str) -> None:
        # In a session of its own, as the workers of packing are: Linux shares a busy machine out among sessions.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, start_new_session=True)

    @staticmethod
    def _timed(action: Callable[[], None], dest: Path) -> float:
        started = time.perf_counter()
        action()
        seconds = time.perf_counter() - started
        if dest.is_dir():
            shutil.rmtree(dest)
        else:
            dest.unlink()
        return seconds


def resize_one(job: tuple[Path, int]) -> None:
    """What the bare loop does with a picture."""
    data = job[0].read_bytes()
    shrink(data, read_header(data), job[1], QUALITY)


def against_tar(bench: Bench, runs: int) -> None:
    """Packing without a change to a byte."""
    print("| run | start, s | pack, pictures/s | tar | tar with sync | ratio | ratio with sync |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for number in range(runs):
        ours, theirs, durable = bench.pack(bench.photos), bench.tar(bench.photos), bench.tar(bench.photos, durable=True)
        start = bench.pack(bench.single)
        starts = (start, bench.tar(bench.single), bench.tar(bench.single, durable=True))
        rates = [
            (bench.pictures - 1) / (whole - one) for whole, one in zip((ours, theirs, durable), starts, strict=True)
        ]
        rows.append((start, rates[0] / rates[1], rates[0] / rates[2]))
        shown = " | ".join(f"{rate:,.0f}" for rate in rates)
        print(f"| {number} | {start:.2f} | {shown} | {rows[-1][1]:.2f} | {rows[-1][2]:.2f} |", flush=True)
    start, ratio, durable_ratio = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"| median | {start:.2f} | | | | {ratio:.2f} | {durable_ratio:.2f} |\n")


def against_bare_loop(bench: Bench, runs: int, side: int) -> None:
    """Packing that makes pictures smaller."""
    # Small shards: with a few large ones the last leaves all workers but one without work.
    options = ("--resize", str(side), "--quality", str(QUALITY), "--shard-size", "8MiB")
    print("| run | pack --resize, pictures/s | bare loop, pictures/s | ratio |\n|---|---|---|---|")
    ratios = []
    for number in range(runs):
        ours = bench.pack(bench.photos, *options)
        theirs = bench.bare_loop(bench.photos, side)
        rate = (bench.pictures - 1) / (ours - bench.pack(bench.single, *options))
        ratios.append(rate / (bench.pictures / theirs))
        print(f"| {number} | {rate:,.0f} | {bench.pictures / theirs:,.0f} | {ratios[-1]:.2f} |")
    print(f"| median | | | {statistics.median(ratios):.2f} |\n")


def main() -> None:
    """Make the pictures, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder without it")
    parser.add_argument("--pictures", type=int, default=30_000, help="how many (default 30,000)")
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs (default 5)")
    parser.add_argument("--side", type=int, default=256, help="the shorter side for --resize (default 256)")
    parser.add_argument("--only", choices=["tar", "resize"], help="one of the two tables")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        work = Path(name)
        photos, single = (make_data("photos", work, count) for count in (options.pictures, 1))
        size = sum(path.stat().st_size for path, _ in photos.files())
        print(f"{options.pictures:,} photographs, {size / options.pictures / 1000:.1f} kB each\n")
        bench = Bench(photos.folder, single.folder, work, options.pictures)
        bench.tar(bench.photos)  # the page cache is warm
        if options.only != "resize":
            against_tar(bench, options.runs)
        if options.only != "tar":
            against_bare_loop(bench, options.runs, options.side)


if __name__ == "__main__":
    main()

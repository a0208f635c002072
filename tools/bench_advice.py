"""Does following a loader's advice give what it promises? Prints a Markdown table.

    python tools/bench_advice.py

Photographs of two sizes are packed as they are and as the advice says, with `--resize`. Each round, in a process of its
own, asks the loader of the large ones for its advice and times epochs of both, in turn. Promised and found are the
medians of all rounds, and so is their ratio. A machine that is busy with other things shows in the spread.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.photos import material_dir
from PIL import Image

import shardkit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A short epoch is measured more often: a pause of the machine then hurts both alike.
_PAIRS, _SHORT_EPOCHS = 5, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Images of one size.

    Attributes:
        size: Width and height of the photographs.
        side: What the loader makes of them: squares of this side.
        resize: What the advice should say, and what the second data set is packed with.
        count: How many there are.
    """

    size: tuple[int, int]
    side: int
    resize: int
    count: int


CASES = (
    Case(size=(900, 700), side=224, resize=256, count=512),
    Case(size=(480, 360), side=168, resize=192, count=1024),
)


class Round(NamedTuple):
    """What one process found: the change that the loader advised, and the gains, as multiples of the rate before."""

    change: str
    promised: float
    found: float


def write_photos(folder: Path, size: tuple[int, int], count: int) -> Path:
    """Photographs of one size in two classes."""
    photos = [Image.open(material_dir() / "photos" / name).convert("RGB") for name in ("china.jpg", "flower.jpg")]
    photos = [photo.resize((size[0] + 200, size[1] + 150)) for photo in photos]
    for number in range(count):
        left, top = 17 * number % 190, 29 * number % 140
        path = folder / f"class-{number % 2}" / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photos[number % 2].crop((left, top, left + size[0], top + size[1])).save(path, quality=90)
    return folder


def seconds(loader: shardkit.Loader) -> float:
    """How long an epoch takes."""
    started = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - started


def measure(large: Path, small: Path, side: int) -> Round:
    """Ask the loader of the large images what to change, and time both."""
    before, after = (shardkit.Loader(folder, batch_size=16, image_size=(side, side)) for folder in (large, small))
    for loader in (before, after):  # the page cache and the first use of everything
        seconds(loader)
    before.stats(reset=True)
    long, short = [], []
    for _ in range(_PAIRS):
        long.append(seconds(before))
        short.append(statistics.mean(seconds(after) for _ in range(_SHORT_EPOCHS)))
    advice = before.stats().advice
    return Round(advice.change, advice.gain, statistics.median(long) / statistics.median(short))


def run(case: Case, folder: Path, rounds: int) -> list[Round]:
    """Pack the images of a case both ways, and measure."""
    photos = write_photos(folder / "photos", case.size, case.count)
    shardkit.pack(photos, folder / "large")
    shardkit.pack(photos, folder / "small", resize=case.resize)
    found = []
    for _ in range(rounds):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found.append(pool.apply(measure, (folder / "large", folder / "small", case.side)))
    return found


def table(cases: Sequence[tuple[Case, list[Round]]]) -> Iterator[str]:
    """The lines of the Markdown table."""
    yield "| photographs | loaded as | advised | promised | found | found / promised: median | least to most |"
    yield "|---|---|---|---|---|---|---|"
    for case, rounds in cases:
        ratios = [one.found / one.promised for one in rounds]
        advised = ", ".join(f"`{change}`" if change else "nothing" for change in sorted({one.change for one in rounds}))
        promised, found = (statistics.median(values) for values in zip(*(one[1:] for one in rounds), strict=True))
        yield (
            f"| {case.size[0]}x{case.size[1]} | {case.side}x{case.side} | {advised} | {promised:.2f} x | {found:.2f} x "
            f"| {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each case (default 7)")
    parser.add_argument("--images", type=int, help="images of each case (default 512 and 1,024)")
    options = parser.parse_args()
    found = []
    for usual in CASES:
        case = replace(usual, count=options.images or usual.count)
        with tempfile.TemporaryDirectory() as folder:
            found.append((case, run(case, Path(folder), options.rounds)))
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()

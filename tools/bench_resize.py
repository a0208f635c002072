"""How like Pillow's antialiased resize is ours, and how fast? Prints a Markdown table.

    python tools/bench_resize.py ../shared/material/photos

Each photograph is brought to a row of sizes, whole and as a crop, and resized to one target from there: by Pillow's
antialiased BILINEAR over the full decode, and by shardkit. Times are those of one thread; the best of a few runs is
taken for each picture, and the mean over pictures shown.
"""

from __future__ import annotations

import argparse
import io
import itertools
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from shardkit.codecs.geometry import Box
from shardkit.codecs.image import ImageDecoder
from shardkit.codecs.resize import resize_into

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES = (100, 160, 224, 260, 300, 400, 500, 700, 1000, 1500, 2200, 3000, 4500, 6000)
Pixels = np.ndarray[Any, Any]


class Row(NamedTuple):
    """One picture at one size: dB for the resize alone and for the JPEG, and times in seconds."""

    resize_db: float
    jpeg_db: float
    resize_s: float
    pillow_resize_s: float
    jpeg_s: float
    pillow_jpeg_s: float


def load_photos(folder: Path, most: int) -> list[Image.Image]:
    """Up to ``most`` RGB photographs from a folder tree, evenly picked."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
    return [Image.open(path).convert("RGB") for path in files[:: max(1, len(files) // most)]]


def at_size(photo: Image.Image, size: int, *, crop: bool) -> Image.Image:
    """The photograph with its longer side at ``size``: scaled down or repeated side by side, or a crop."""
    if max(photo.size) < size:
        pixels = np.asarray(photo)
        times = math.ceil(size / min(photo.size))
        tiled = np.tile(pixels, (times, times, 1))
        height = size if crop else max(1, size * photo.height // photo.width)
        return Image.fromarray(tiled[: min(height, size), :size])
    if crop:
        left, top = (photo.width - size) // 2, max(0, (photo.height - size) // 2)
        return photo.crop((left, top, left + size, min(top + size, photo.height)))
    scale = size / max(photo.size)
    return photo.resize(
        (max(1, round(photo.width * scale)), max(1, round(photo.height * scale))), Image.Resampling.LANCZOS
    )


def psnr(a: Pixels, b: Pixels) -> float:
    """Likeness of two arrays in dB; 99 when equal."""
    error = float(np.mean((a.astype(np.float32) - b) ** 2))
    return 99.0 if error == 0 else 10 * math.log10(255**2 / error)


def best_s(function: Callable[[], object], runs: int) -> float:
    """The thread's own seconds for one call, at best."""
    times = []
    for _ in range(runs):
        start = time.thread_time()
        function()
        times.append(time.thread_time() - start)
    return min(times)


def measure(picture: Image.Image, target: tuple[int, int], runs: int) -> Row:
    """One picture: likeness and times."""
    size = (target[1], target[0])
    bilinear = Image.Resampling.BILINEAR
    pixels, out = np.asarray(picture), np.empty((*target, 3), np.uint8)
    whole = Box(0, 0, *pixels.shape[:2])
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    jpeg, decoder = file.getvalue(), ImageDecoder(image_size=target)

    def ours() -> None:
        resize_into(pixels, whole, out, antialias=True)

    def pillow_jpeg() -> Pixels:
        return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB").resize(size, bilinear))

    ours()
    return Row(
        psnr(out, np.asarray(picture.resize(size, bilinear))),
        psnr(decoder.decode(jpeg), pillow_jpeg()),
        best_s(ours, runs),
        best_s(lambda: picture.resize(size, bilinear), runs),
        best_s(lambda: decoder.decode_into(jpeg, out), runs),
        best_s(pillow_jpeg, runs),
    )


def table(rows: dict[str, list[Row]]) -> Iterator[str]:
    """The lines of the Markdown table, with a last row over all pictures."""
    yield (
        "| longer side, px | resize dB mean / 5 % | JPEG dB mean / 5 % | resize us | Pillow us | ratio "
        "| JPEG to array us | Pillow us | ratio |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, some in [*rows.items(), ("all", list(itertools.chain(*rows.values())))]:
        values = np.array(some)
        db = [f"{values[:, at].mean():.1f} / {np.percentile(values[:, at], 5):.1f}" for at in (0, 1)]
        times = []
        for at in (2, 4):
            ours, pillow = values[:, at].mean() * 1e6, values[:, at + 1].mean() * 1e6
            times.append(f"{ours:,.0f} | {pillow:,.0f} | {ours / pillow:.2f}")
        yield f"| {name} | {' | '.join(db)} | {' | '.join(times)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder tree with photographs")
    parser.add_argument("--target", type=int, default=224, help="side of the array (default 224)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="longer sides to start from")
    parser.add_argument("--pictures", type=int, default=15, help="photographs to use at most, about")
    parser.add_argument("--runs", type=int, default=5, help="runs of which the best counts")
    options = parser.parse_args()
    photos = load_photos(options.photos, options.pictures)
    rows = {
        f"{size} {'crop' if crop else 'whole'}": [
            measure(at_size(photo, size, crop=crop), (options.target, options.target), options.runs)
            for photo in (photos if size < 2000 else photos[::3])
        ]
        for size in options.sizes
        for crop in (False, True)
    }
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()

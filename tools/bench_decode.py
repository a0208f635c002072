"""Which library decodes a JPEG how fast, and what do its shortcuts cost? Prints a Markdown table.

    python tools/bench_decode.py ../shared/material/photos

Each photograph is brought to a row of sizes, whole and as a crop, saved as a JPEG and decoded by simplejpeg, OpenCV and
Pillow: in full, with libjpeg-turbo's shortcuts, and at 1/2, 1/4 or 1/8 where that leaves twice the target or more. The
ways take turns; shown are medians, in microseconds of one thread's time and as a ratio to simplejpeg in full, and how
like the array that shardkit's resize then makes is to Pillow's antialiased BILINEAR resize of the full decode.
"""

from __future__ import annotations

import argparse
import io
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import simplejpeg
from bench_resize import SIZES, at_size, load_photos, psnr
from PIL import Image

from shardkit.codecs.geometry import Box
from shardkit.codecs.resize import resize_into

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Pixels = np.ndarray[Any, Any]
Found = dict[str, list[tuple[float, float, float]]]

BASE = "simplejpeg"
OPENCV_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def by_simplejpeg(jpeg: bytes, size: tuple[int, int], reduced: int = 1, **options: bool) -> Pixels:
    """Decode by libjpeg-turbo's own interface."""
    height, width = (-(-side // reduced) for side in size)
    pixels: Pixels = simplejpeg.decode_jpeg(
        jpeg, "RGB", min_height=height, min_width=width, min_factor=reduced, **options
    )
    return pixels


def by_opencv(jpeg: bytes, reduced: int = 1) -> Pixels:
    """Decode by OpenCV, to RGB."""
    flags = OPENCV_REDUCED[reduced] | cv2.IMREAD_IGNORE_ORIENTATION
    return np.asarray(cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), flags), cv2.COLOR_BGR2RGB))


def by_pillow(jpeg: bytes, reduced: int = 1) -> Pixels:
    """Decode by Pillow; its draft mode reduces."""
    with Image.open(io.BytesIO(jpeg)) as image:
        if reduced > 1:
            image.draft("RGB", (image.width // reduced, image.height // reduced))
        return np.asarray(image.convert("RGB"))


def ways(jpeg: bytes, size: tuple[int, int], target: int) -> dict[str, tuple[Callable[[], Pixels], int]]:
    """What decodes a JPEG, and by how much it reduces."""
    simple = partial(by_simplejpeg, jpeg, size)
    found: dict[str, tuple[Callable[[], Pixels], int]] = {
        BASE: (simple, 1),
        "simplejpeg fastdct": (partial(simple, fastdct=True), 1),
        "simplejpeg fastupsample": (partial(simple, fastupsample=True), 1),
        "OpenCV": (partial(by_opencv, jpeg), 1),
        "Pillow": (partial(by_pillow, jpeg), 1),
    }
    reduced = next((factor for factor in (8, 4, 2) if min(size) >= 2 * target * factor), 1)
    if reduced > 1:
        found["simplejpeg reduced"] = (partial(simple, reduced), reduced)
        found["simplejpeg reduced, fastdct"] = (partial(simple, reduced, fastdct=True), reduced)
        found["OpenCV reduced"] = (partial(by_opencv, jpeg, reduced), reduced)
        found["Pillow draft"] = (partial(by_pillow, jpeg, reduced), reduced)
    return found


def measure(picture: Image.Image, target: int, runs: int, found: Found) -> None:
    """One picture, by every way: adds time in us, ratio and dB."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    jpeg, size = file.getvalue(), (picture.height, picture.width)
    wanted = np.asarray(Image.fromarray(by_pillow(jpeg)).resize((target, target), Image.Resampling.BILINEAR))
    all_ways = ways(jpeg, size, target)
    times: dict[str, list[float]] = {name: [] for name in all_ways}
    for _ in range(runs):
        for name, (decode, _) in all_ways.items():
            start = time.thread_time()
            decode()
            times[name].append(time.thread_time() - start)
    base = float(np.median(times[BASE]))
    out = np.empty((target, target, 3), np.uint8)
    for name, (decode, reduced) in all_ways.items():
        resize_into(decode(), Box(0, 0, *size), out, antialias=True, reduced=reduced)
        taken = float(np.median(times[name]))
        found.setdefault(name, []).append((taken * 1e6, taken / base, psnr(out, wanted)))


def table(rows: dict[str, Found]) -> Iterator[str]:
    """The lines of the Markdown table."""
    yield "| longer side, px | by | us | ratio | dB mean / 5 % |"
    yield "|---|---|---|---|---|"
    for size, found in rows.items():
        for name, values in found.items():
            taken, ratio, likeness = np.array(values).T
            db = f"{likeness.mean():.1f} / {np.percentile(likeness, 5):.1f}"
            yield f"| {size} | {name} | {np.median(taken):,.0f} | {np.median(ratio):.2f} | {db} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder tree with photographs")
    parser.add_argument("--target", type=int, default=224, help="side of the array (default 224)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="longer sides to decode")
    parser.add_argument("--pictures", type=int, default=15, help="photographs to use at most, about")
    parser.add_argument("--runs", type=int, default=7, help="runs, of which the median counts")
    options = parser.parse_args()
    photos = load_photos(options.photos, options.pictures)
    rows: dict[str, Found] = {}
    for size in options.sizes:
        for photo in photos if size < 2000 else photos[::4]:
            for crop in (False, True):
                measure(at_size(photo, size, crop=crop), options.target, options.runs, rows.setdefault(str(size), {}))
    everything: Found = {}
    for found in rows.values():
        for name, values in found.items():
            everything.setdefault(name, []).extend(values)
    print("\n".join(table({**rows, "all": everything})))


if __name__ == "__main__":
    main()

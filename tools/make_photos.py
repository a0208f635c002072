"""Make a folder of class folders with photographs, hard to compress, from a few large ones. Deterministic.

    python tools/make_photos.py /tmp/photos --count 30000

Each picture is a crop of one of the photographs in ``$SHARDKIT_MATERIAL/photos``, resized and encoded as JPEG. It
follows from the seed and its number alone.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

__all__ = ["make_photos"]

Pixels = np.ndarray[Any, Any]
_CLASSES = 100
_QUALITY = 91


def make_photos(
    folder: Path, count: int, seed: int = 0, *, short_side: tuple[int, int] = (330, 430), most_aspect: float = 1.5
) -> int:
    """Write photographs as ``class-00/000000.jpg`` and so on.

    Args:
        folder: Where to write.
        count: How many.
        seed: Of the crops.
        short_side: The least and the most pixels of the shorter side.
        most_aspect: The longer side is up to this many times the shorter one.

    Returns:
        The bytes of all of them.
    """
    cv2.setNumThreads(0)
    photos = _load(Path(os.environ["SHARDKIT_MATERIAL"]) / "photos", 2 * short_side[1])
    for number in range(min(_CLASSES, count)):
        (folder / f"class-{number:02d}").mkdir(parents=True, exist_ok=True)

    def make(number: int) -> int:
        data = _picture(photos, np.random.default_rng((seed, number)), short_side, most_aspect)
        (folder / f"class-{number % _CLASSES:02d}" / f"{number:06d}.jpg").write_bytes(data)
        return len(data)

    with ThreadPoolExecutor() as threads:
        return sum(threads.map(make, range(count)))


def _load(folder: Path, least_side: int) -> list[Pixels]:
    """Every photograph in RGB, made larger where a crop would not fit."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png")):
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
        scale = max(1.0, least_side / min(pixels.shape[:2]))
        if scale > 1:
            pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        found.append(np.ascontiguousarray(pixels[..., ::-1]))
    return found


def _picture(photos: list[Pixels], rng: np.random.Generator, short_side: tuple[int, int], most_aspect: float) -> bytes:
    photo = photos[rng.integers(len(photos))]
    short = int(rng.integers(short_side[0], short_side[1] + 1))
    size = (short, int(short * rng.uniform(1.0, most_aspect)))
    height, width = size if rng.random() < 0.5 else size[::-1]
    scale = min(rng.uniform(1.0, 2.0), photo.shape[0] / height, photo.shape[1] / width)
    rows, columns = int(height * scale), int(width * scale)
    top, left = (int(rng.integers(most + 1)) for most in (photo.shape[0] - rows, photo.shape[1] - columns))
    crop = photo[top : top + rows, left : left + columns]
    small = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA)
    # Grain, as a sensor has it: photographs that were scaled down are smoother than those that are collected.
    grain = rng.integers(-4, 5, small.shape, dtype=np.int16)
    pixels = np.clip(small + grain, 0, 255).astype(np.uint8)
    data: bytes = simplejpeg.encode_jpeg(pixels, _QUALITY, "RGB", "420")
    return data


def main() -> None:
    """Write and say how much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--count", type=int, default=30_000, help="how many (default 30,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the crops")
    parser.add_argument("--short-side", type=int, nargs=2, default=(330, 430), help="least and most pixels")
    options = parser.parse_args()
    size = make_photos(options.folder, options.count, options.seed, short_side=tuple(options.short_side))
    print(f"{options.count:,} photographs, {size / options.count / 1000:.1f} kB each")


if __name__ == "__main__":
    main()

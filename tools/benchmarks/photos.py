"""The pictures that are loaded: photographs of about 461x411, 44 kB each, and handwritten digits of 28x28.

Each picture follows from the seed and its number alone, so that the same folder is made anywhere.
"""

from __future__ import annotations

import gzip
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

__all__ = ["Data", "Kind", "make_data", "material_dir"]

Kind = Literal["photos", "digits"]

_PHOTO_CLASSES = 100
_MEAN_SIZE, _SIZE_SPREAD, _LEAST_SIDE, _MOST_SIDE = (461, 411), 60, 240, 700
_JPEG_QUALITY = 91
_LEAST_SOURCE_SIDE = 400
_DIGIT_SIDE = 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A folder of class folders.

    Attributes:
        folder: Where it is.
        kind: What the pictures are.
    """

    folder: Path
    kind: Kind

    def files(self) -> list[tuple[Path, int]]:
        """Every picture and its label, sorted by path."""
        classes = sorted(entry.name for entry in os.scandir(self.folder) if entry.is_dir())
        return [
            (self.folder / name / file, label)
            for label, name in enumerate(classes)
            for file in sorted(os.listdir(self.folder / name))
        ]


def material_dir() -> Path:
    """The folder of photographs and digits that the pictures are made from.

    Raises:
        SystemExit: There is none.
    """
    named = os.environ.get("SHARDKIT_MATERIAL")
    folder = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "material"
    if not (folder / "photos").is_dir():
        raise SystemExit(f"no photographs in {folder / 'photos'}: set SHARDKIT_MATERIAL to a folder that has photos/")
    return folder


def make_data(kind: Kind, parent: Path, count: int, *, seed: int = 0) -> Data:
    """A folder of pictures, made unless it is there.

    Args:
        kind: What pictures.
        parent: Where folders of data are.
        count: How many pictures.
        seed: Of their content.

    Returns:
        The folder, complete.

    Raises:
        SystemExit: There is nothing to make them from.
    """
    folder = parent / f"{kind}-{count}"
    if not folder.is_dir():
        partial = parent / f"{kind}-{count}.partial"
        for number in range(_PHOTO_CLASSES if kind == "photos" else 10):
            (partial / f"class-{number:03d}").mkdir(parents=True, exist_ok=True)
        cores = len(os.sched_getaffinity(0))
        parts = [(kind, partial, range(start, count, cores), seed) for start in range(cores)]
        material_dir()
        with multiprocessing.get_context("spawn").Pool(cores) as pool:
            pool.starmap(_write, parts)
        partial.rename(folder)
    return Data(folder=folder, kind=kind)


def _write(kind: Kind, folder: Path, numbers: range, seed: int) -> None:
    if kind == "photos":
        _write_photos(folder, numbers, seed)
    else:
        _write_digits(folder, numbers, seed)


def _write_photos(folder: Path, numbers: range, seed: int) -> None:
    files = sorted(path for path in (material_dir() / "photos").rglob("*") if path.suffix in (".jpg", ".png"))
    photos = [Image.open(path).convert("RGB") for path in files]
    photos = [photo for photo in photos if min(photo.size) >= _LEAST_SOURCE_SIDE]
    for number in numbers:
        rng = np.random.default_rng((seed, number))
        photo = photos[int(rng.integers(len(photos)))]
        size = np.clip(rng.normal(_MEAN_SIZE, _SIZE_SPREAD), _LEAST_SIDE, _MOST_SIDE).astype(int)
        # The largest crop of that shape is reduced, the smallest is about as large as the picture.
        most = min(photo.width / size[0], photo.height / size[1])
        crop = np.floor(size * rng.uniform(min(1.0, most), most)).astype(int)
        left, top = (int(rng.integers(0, room + 1)) for room in np.array(photo.size) - crop)
        box = (left, top, left + int(crop[0]), top + int(crop[1]))
        picture = photo.resize((int(size[0]), int(size[1])), Image.Resampling.BICUBIC, box=box)
        picture.save(_path(folder, number, _PHOTO_CLASSES, "jpg"), quality=_JPEG_QUALITY)


def _write_digits(folder: Path, numbers: range, seed: int) -> None:
    with gzip.open(material_dir() / "labelled" / "mnist_5k.csv.gz", "rt") as file:
        digits = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    for number in numbers:
        rng = np.random.default_rng((seed, number))
        digit = digits[int(rng.integers(len(digits)))]
        shifted = np.roll(digit[:-1].reshape(_DIGIT_SIDE, _DIGIT_SIDE), rng.integers(-2, 3, 2), (0, 1))
        path = folder / f"class-{digit[-1]:03d}" / f"{number:06d}.png"
        Image.fromarray(shifted).save(path, compress_level=1)


def _path(folder: Path, number: int, classes: int, suffix: str) -> Path:
    return folder / f"class-{number % classes:03d}" / f"{number:06d}.{suffix}"

"""Small labelled pictures that tests write, and data sets made of them."""

from pathlib import Path

import numpy as np
from PIL import Image

import shardkit

__all__ = ["make_dataset", "tree", "write_pictures"]


def write_pictures(folder: Path, num_pictures: int = 60, *, classes: int = 3, size: int = 16, seed: int = 0) -> Path:
    """A folder of class folders of PNG pictures.

    The first pixel row of picture ``i`` holds ``i`` in base 256, so that a test can tell pictures apart once decoded.

    Args:
        folder: Where to write.
        num_pictures: How many pictures.
        classes: How many classes; picture ``i`` is of class ``i % classes``.
        size: Height and width.
        seed: Of the other pixels.

    Returns:
        The folder.
    """
    rng = np.random.default_rng(seed)
    for number in range(num_pictures):
        pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        pixels[0, :, :] = (number // 256, number % 256, number % classes)
        path = folder / f"class-{number % classes}" / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def numbers_in(images: np.ndarray) -> list[int]:
    """Which pictures of `write_pictures` a batch of undistorted images holds."""
    return [int(image[0, 0, 0]) * 256 + int(image[0, 0, 1]) for image in np.asarray(images).astype(np.int64)]


def make_dataset(folder: Path, num_pictures: int = 60, *, classes: int = 3, size: int = 16, **options) -> Path:
    """A packed data set of `write_pictures`, made in the folder.

    Args:
        folder: Where to write.
        num_pictures: How many pictures.
        classes: How many classes.
        size: Height and width.
        options: For `shardkit.pack`.

    Returns:
        The data set's folder.
    """
    source = write_pictures(folder / "pictures", num_pictures, classes=classes, size=size)
    shardkit.pack(source, folder / "shards", **{"workers": 1, "shard_samples": 25, **options})
    return folder / "shards"


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

"""`keras.utils.image_dataset_from_directory`, as its users have it: float32, and a bilinear resize that aliases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from benchmarks.settings import BATCH_SIZE, IMAGE_SIZE

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.photos import Data
    from benchmarks.settings import Settings

RESUMES = False


def prepare(data: Data, folder: Path) -> Path:  # noqa: ARG001
    """Nothing: the files are read as they are."""
    return data.folder


def batches(folder: Path, settings: Settings) -> Any:  # noqa: ARG001
    """The data set; it prefetches of itself."""
    return keras.utils.image_dataset_from_directory(
        folder, batch_size=BATCH_SIZE, image_size=IMAGE_SIZE, shuffle=True, verbose=False
    )

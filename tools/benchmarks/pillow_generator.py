"""What everybody writes first: a generator over files, with Pillow."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks.photos import Data
from benchmarks.settings import BATCH_SIZE, IMAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.settings import Settings

RESUMES = True


def prepare(data: Data, folder: Path) -> Path:  # noqa: ARG001
    """Nothing: the files are read as they are."""
    return data.folder


def batches(folder: Path, settings: Settings) -> _Epochs:
    """The generator, anew for each epoch."""
    return _Epochs(folder, settings)


class _Epochs:
    def __init__(self, folder: Path, settings: Settings) -> None:
        self._files = Data(folder=folder, kind="photos").files()
        self._start = settings.start * BATCH_SIZE

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        random.shuffle(self._files)
        images, labels = [], []
        for path, label in self._files[self._start :]:
            image = Image.open(path).convert("RGB").resize((IMAGE_SIZE[1], IMAGE_SIZE[0]), Image.Resampling.BILINEAR)
            images.append(np.asarray(image))
            labels.append(label)
            if len(images) == BATCH_SIZE:
                yield np.stack(images), np.array(labels)
                images, labels = [], []

"""MosaicML Streaming: MDS shards with its JPEG encoding, through a torch DataLoader."""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from benchmarks.settings import BATCH_SIZE, IMAGE_SIZE, SHARD_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.photos import Data
    from benchmarks.settings import Settings

RESUMES = True


def _without_vision() -> None:
    """Let `streaming.base` be imported where torchvision is not, which only `streaming.vision` needs.

    The package imports all its parts at once, and torchvision has no build for the CPU-only torch on PyPI.
    """
    found = importlib.util.find_spec("streaming")
    assert found is not None
    assert found.submodule_search_locations is not None
    package = types.ModuleType("streaming")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["streaming"] = package


_without_vision()

from streaming.base import MDSWriter, StreamingDataset  # noqa: E402


def prepare(data: Data, folder: Path) -> Path:
    """Shards with the files as they are: ``jpeg`` gives Pillow images, ``bytes`` what other functions take."""
    files = data.files()
    np.random.default_rng(0).shuffle(files)
    for encoding in ("jpeg", "bytes"):
        columns = {"image": encoding, "label": "int"}
        with MDSWriter(out=str(folder / encoding), columns=columns, size_limit=SHARD_BYTES) as writer:
            for path, label in files:
                image = Image.open(path) if encoding == "jpeg" else path.read_bytes()
                writer.write({"image": image, "label": label})
    return folder


def batches(folder: Path, settings: Settings) -> Any:
    """The loader."""
    encoding = "jpeg" if settings.functions == "own" else "bytes"
    found = _Pictures(folder / encoding, settings)
    if settings.start:
        state = found.state_dict(settings.start * BATCH_SIZE, from_beginning=True)
        found.load_state_dict({**state, "epoch": 0, "sample_in_epoch": settings.start * BATCH_SIZE})
    return DataLoader(
        found, batch_size=BATCH_SIZE, num_workers=settings.workers, drop_last=True, persistent_workers=True
    )


class _Pictures(StreamingDataset):  # type: ignore[misc]
    def __init__(self, folder: Path, settings: Settings) -> None:
        place = {"local": str(folder)}
        if (remote := settings.remote) is not None:
            place = {"remote": f"{remote.url}/{folder.name}", "local": remote.cache}
        super().__init__(**place, shuffle=True, shuffle_seed=0, batch_size=BATCH_SIZE, num_canonical_nodes=1)
        self._settings = settings
        for stream in self.streams if settings.remote is not None else ():
            # Workers would inherit the connection that the index came by, read each other's replies from it, and hang
            # until a minute is over.
            stream._downloader.clean_up()  # noqa: SLF001

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        image = found["image"]
        if self._settings.functions == "shardkit":
            return self._settings.decode(image), found["label"]
        image = image.convert("RGB").resize((IMAGE_SIZE[1], IMAGE_SIZE[0]), Image.Resampling.BILINEAR)
        return np.array(image), found["label"]

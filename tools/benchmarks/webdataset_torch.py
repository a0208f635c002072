"""webdataset shards through a torch DataLoader, whose workers read shards of their own and give whole batches."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import webdataset
from PIL import Image

from benchmarks.remote_shards import signed_urls
from benchmarks.settings import BATCH_SIZE, shard_samples

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.photos import Data
    from benchmarks.settings import Settings

RESUMES = False

# Samples in each worker's buffer: with two, as many as tf.data gets.
_SHUFFLE = 1_024


def prepare(data: Data, folder: Path) -> Path:
    """Shards by webdataset's own writer; digits as raw bytes."""
    files = data.files()
    np.random.default_rng(0).shuffle(files)
    length = shard_samples(len(files), sum(path.stat().st_size for path, _ in files))
    raw = data.kind == "digits"
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=length, maxsize=2**40, verbose=0) as writer:
        for path, label in files:
            image = np.asarray(Image.open(path)).tobytes() if raw else path.read_bytes()
            writer.write({"__key__": path.stem, "bin" if raw else "jpg": image, "cls": str(label).encode()})
    return folder


def batches(folder: Path, settings: Settings) -> Any:
    """The loader; ``variant="plain"`` iterates in this process, without torch."""
    if settings.remote is None:
        shards = sorted(map(str, folder.glob("*.tar")))
    else:
        # Signed beforehand: curl is all that webdataset's guide takes for a bucket.
        shards = [f"pipe:curl --silent --fail --show-error '{url}'" for url in signed_urls(settings.remote)]
    samples = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=0).shuffle(_SHUFFLE)
    if settings.content == "encoded":
        samples = samples.to_tuple("jpg", "cls")
    elif settings.content == "raw":
        samples = samples.to_tuple("bin", "cls").map_tuple(_digit, int)
    else:
        samples = samples.to_tuple("jpg", "cls").map_tuple(settings.decode, int)
    if settings.variant == "plain":
        return samples.batched(BATCH_SIZE, partial=False)
    return _torch_loader(samples, settings)


def _torch_loader(samples: Any, settings: Settings) -> Any:
    from torch.utils.data import default_collate

    # Pillow's arrays are read-only, of which torch warns; in a worker they are stacked right into shared memory.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    found = samples.batched(BATCH_SIZE, collation_fn=default_collate, partial=False)
    return webdataset.WebLoader(found, batch_size=None, num_workers=settings.workers, persistent_workers=True)


def _digit(data: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(data, dtype=np.uint8).reshape(28, 28, 1)

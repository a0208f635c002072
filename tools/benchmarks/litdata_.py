"""LitData: chunks made by `optimize`, through its StreamingDataLoader.

Its own JPEG decoding is torchvision's, which has no build for the CPU-only torch on PyPI; without it, LitData's users
decode with Pillow.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from litdata import StreamingDataLoader, StreamingDataset, optimize
from litdata.streaming import downloader

from benchmarks.settings import BATCH_SIZE, SHARD_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.photos import Data
    from benchmarks.settings import Settings

RESUMES = True


def prepare(data: Data, folder: Path) -> Path:
    """Chunks of the files' bytes."""
    files = data.files()
    random.Random(0).shuffle(files)
    chunks = folder / "chunks"
    optimize(fn=_sample, inputs=files, output_dir=str(chunks), chunk_bytes=SHARD_BYTES, num_workers=1, verbose=False)
    return chunks


def batches(folder: Path, settings: Settings) -> Any:
    """The loader."""
    place, options = str(folder), {}
    if (remote := settings.remote) is not None:
        # It has no setting for its obstore client, which would refuse an endpoint that is plain http.
        downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True  # noqa: SLF001
        credentials = {"aws_access_key_id": remote.key, "aws_secret_access_key": remote.secret}
        place = remote.url
        options = {
            "storage_options": {"endpoint_url": remote.endpoint, "region_name": remote.region, **credentials},
            "cache_dir": remote.cache,
        }
    found = StreamingDataset(place, shuffle=True, drop_last=True, transform=_Decode(settings), **options)
    loader = StreamingDataLoader(
        found, batch_size=BATCH_SIZE, num_workers=settings.workers, drop_last=True, persistent_workers=True
    )
    if settings.start:
        done = settings.start * BATCH_SIZE
        state = found.state_dict(done, settings.workers, BATCH_SIZE)
        loader.load_state_dict(
            {
                "dataset": {**state, "current_epoch": 1},
                "current_epoch": 1,
                "num_samples_yielded": done,
                "latest_worker_idx": 0,
            }
        )
    return loader


def _sample(item: tuple[Path, int]) -> dict[str, Any]:
    path, label = item
    return {"image": path.read_bytes(), "label": label}


class _Decode:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __call__(self, sample: dict[str, Any]) -> tuple[Any, int]:
        return self._settings.decode(sample["image"]), sample["label"]

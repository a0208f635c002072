"""What one writes first for tar files in a bucket: a generator over s3fs and tarfile, shard after shard."""

from __future__ import annotations

import random
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import s3fs

from benchmarks.settings import BATCH_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.photos import Data
    from benchmarks.settings import Settings

RESUMES = False


def prepare(data: Data, folder: Path) -> Path:  # noqa: ARG001
    """Nothing: it reads shardkit's shards."""
    return data.folder


def batches(folder: Path, settings: Settings) -> _Epochs:  # noqa: ARG001
    """The generator, anew for each epoch."""
    return _Epochs(settings)


class _Epochs:
    def __init__(self, settings: Settings) -> None:
        remote = settings.remote
        assert remote is not None
        self._settings = settings
        self._files = s3fs.S3FileSystem(
            key=remote.key, secret=remote.secret, endpoint_url=remote.endpoint,
            client_kwargs={"region_name": remote.region}, skip_instance_cache=True,
        )  # fmt: skip
        self._shards = [path for path in self._files.ls(remote.url) if path.endswith(".tar")]

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        random.shuffle(self._shards)
        images, labels = [], []
        for image, label in self._samples():
            images.append(self._settings.decode(image))
            labels.append(label)
            if len(images) == BATCH_SIZE:
                yield np.stack(images), np.array(labels)
                images, labels = [], []

    def _samples(self) -> Iterator[tuple[bytes, int]]:
        """Pictures and labels: members whose names differ by their endings, one behind the other."""
        for shard in self._shards:
            with self._files.open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r|") as tar:
                image = b""
                for member in tar:
                    content = tar.extractfile(member)
                    data = content.read() if content else b""
                    if member.name.endswith(".cls"):
                        yield image, int(data)
                    else:
                        image = data

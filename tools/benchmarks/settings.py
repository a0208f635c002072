"""What a peer is asked for, and what it is made of.

Importing this imports nothing heavy, for what a peer imports is counted.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import numpy as np

    from benchmarks.photos import Data

__all__ = [
    "BATCH_SIZE", "IMAGE_SIZE", "SHARD_BYTES", "Content", "Functions", "Peer", "Remote", "Settings", "shard_samples",
]  # fmt: skip

BATCH_SIZE = 256
IMAGE_SIZE = (224, 224)
SHARD_BYTES = 64 * 2**20

Content = Literal["decoded", "raw", "encoded"]
Functions = Literal["own", "shardkit"]

_KEPT = threading.local()  # of a process that has one choice of functions


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A data set in a bucket of an S3 server, and credentials, so that nobody looks for any.

    Attributes:
        url: ``s3://bucket/prefix``.
        endpoint: The server, or a proxy before it.
        key: The access key's name.
        secret: The access key.
        region: What the server says it is.
        cache: A folder that may keep what was fetched; none without it.
    """

    url: str
    endpoint: str
    key: str
    secret: str
    region: str
    cache: str = ""

    @property
    def storage_options(self) -> dict[str, str]:
        """As obstore and shardkit take them."""
        return {
            "endpoint": self.endpoint,
            "access_key_id": self.key,
            "secret_access_key": self.secret,
            "region": self.region,
            "allow_http": "true",
            "virtual_hosted_style_request": "false",
        }

    @property
    def environment(self) -> dict[str, str]:
        """For those who read all this from the environment; whatever else they might find is put out of reach."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "S3_ENDPOINT_URL": self.endpoint,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a peer is to load, and how.

    Attributes:
        content: ``decoded`` pictures of `IMAGE_SIZE`, ``raw`` arrays as they were stored, or ``encoded`` bytes.
        functions: Who decodes and resizes: the peer's usual way, or shardkit's `ImageDecoder`.
        antialias: Whether the resize is filtered, where that can be chosen.
        variant: A peer's own choice, such as ``processes``.
        num_samples: Samples in the data set.
        start: The step to begin at, for peers that can.
        workers: Worker threads or processes.
        remote: Where the data set is, if it is not in a folder.
    """

    content: Content = "decoded"
    functions: Functions = "own"
    antialias: bool = True
    variant: str = ""
    num_samples: int = 0
    start: int = 0
    workers: int = len(os.sched_getaffinity(0))
    remote: Remote | None = None

    def decode(self, data: bytes) -> np.ndarray[Any, Any]:
        """A picture's bytes as ``(H, W, 3)`` uint8, by the functions that are to be used."""
        return shardkit_decode(data, antialias=self.antialias) if self.functions == "shardkit" else pillow_decode(data)


class Peer(Protocol):
    """A module that loads pictures in one way.

    Attributes:
        RESUMES: Whether it begins at ``Settings.start`` itself; else the batches before are read and dropped.
    """

    RESUMES: bool

    def prepare(self, data: Data, folder: Path) -> Path:
        """Write the pictures in the peer's own form to a folder, which exists; the folder to be read."""
        ...

    def batches(self, folder: Path, settings: Settings) -> Iterable[Any]:
        """Images and labels, batch by batch; each iteration is an epoch."""
        ...


def shardkit_decode(data: bytes, *, antialias: bool) -> np.ndarray[Any, Any]:
    """By shardkit's functions; what they use again for the next picture is kept by each thread, as in its loader."""
    import numpy as np

    from shardkit.codecs.image import ImageDecoder
    from shardkit.codecs.scratch import Scratch

    if not hasattr(_KEPT, "decoder"):
        _KEPT.decoder, _KEPT.scratch = ImageDecoder(image_size=IMAGE_SIZE, antialias=antialias), Scratch()
    out = np.empty((*IMAGE_SIZE, 3), dtype=np.uint8)
    _KEPT.decoder.decode_into(data, out, scratch=_KEPT.scratch)
    return out


def pillow_decode(data: bytes) -> np.ndarray[Any, Any]:
    """The usual way in Python: Pillow, with its antialiased bilinear resize."""
    import io

    import numpy as np
    from PIL import Image

    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(image.resize((IMAGE_SIZE[1], IMAGE_SIZE[0]), Image.Resampling.BILINEAR))


def shard_samples(num_samples: int, num_bytes: int) -> int:
    """Samples in a shard of about `SHARD_BYTES`, in a number of equal shards that two or four workers share evenly."""
    shards = max(4, 4 * round(num_bytes / SHARD_BYTES / 4))
    return -(-num_samples // shards)

"""The rows of the comparison of loading from a bucket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks.rows import Row

__all__ = ["AT_ONCE", "CLOUD_ROWS", "CloudRow", "Form"]

Form = Literal["shardkit_", "mosaic", "litdata_"]

# What 192 MiB in chunks of 8 MB come to, which shardkit has on their way where nothing is decoded, and the 64 MiB that
# it begins with where something is.
AT_ONCE = (25, 8)
_MOST, _FIRST = AT_ONCE


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudRow(Row):
    """A row.

    Attributes:
        form: The peer in whose form the pictures are.
        is_remote: Whether it reads from the bucket; else from a folder.
        cache: Whether it is given a folder that keeps what was fetched, and whether that is ``empty``, so that only
            the first epoch counts, or ``full`` at the start.
    """

    form: Form = "shardkit_"
    is_remote: bool = True
    cache: Literal["", "empty", "full"] = ""
    functions: Literal["own", "shardkit"] = "shardkit"


CLOUD_ROWS: tuple[CloudRow, ...] = (
    CloudRow(name="local", title="**shardkit**, local files", peer="shardkit_", is_remote=False),
    CloudRow(name="bare-decode", title=f"the bare loop, {_FIRST} at once, that decodes too", peer="bare_ranges",
             variant=f"{_FIRST} decode"),
    CloudRow(name="bucket", title="**shardkit**", peer="shardkit_"),
    CloudRow(name="cache-empty", title="**shardkit**, cache=DIR, empty: first epoch", peer="shardkit_",
             cache="empty"),
    CloudRow(name="cache-full", title="**shardkit**, cache=DIR, full", peer="shardkit_", cache="full"),
    CloudRow(name="webdataset-curl", title="webdataset, pipe:curl, torch workers", peer="webdataset_torch",
             environment="bench-torch"),
    CloudRow(name="webdataset-curl-plain", title="webdataset, pipe:curl, plain iteration", peer="webdataset_torch",
             variant="plain"),
    CloudRow(name="mosaic-s3", title="MosaicML Streaming, torch workers, first epoch", peer="mosaic",
             environment="bench-torch", form="mosaic", cache="empty"),
    CloudRow(name="litdata-s3", title="LitData, torch workers, first epoch", peer="litdata_",
             environment="bench-torch", form="litdata_", cache="empty"),
    CloudRow(name="s3fs", title="Python generator, s3fs and tarfile", peer="s3fs_tarfile", environment="bench-s3fs"),
    CloudRow(name="encoded-local", title="**shardkit**, decode=False, local files", peer="shardkit_",
             content="encoded", resize="none", is_remote=False),
    *(
        CloudRow(name=f"bare-{at_once}", title=f"the bare loop, {at_once} requests at once", peer="bare_ranges",
                 content="encoded", resize="none", variant=str(at_once))
        for at_once in AT_ONCE
    ),
    CloudRow(name="bare-even", title=f"the bare loop, {_MOST} at once, multiples of 8 MiB",
             peer="bare_ranges", content="encoded", resize="none", variant=f"{_MOST} even"),
    CloudRow(name="bare-shuffle", title=f"the bare loop, {_MOST} at once, that shuffles too", peer="bare_ranges",
             content="encoded", resize="none", variant=f"{_MOST} shuffle"),
    CloudRow(name="encoded-bucket", title="**shardkit**, decode=False", peer="shardkit_", content="encoded",
             resize="none"),
)  # fmt: skip

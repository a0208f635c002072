"""What a packed data set is: its manifest, and the tables beside its shards."""

from shardkit.manifest.dataset import DataSet, Split, open_dataset, read_manifest
from shardkit.manifest.manifest import FORMAT_VERSION, FieldInfo, Manifest, SplitInfo
from shardkit.manifest.samples import BLOCK_BYTES, FieldColumns, SampleTable
from shardkit.manifest.shards import ShardRow, ShardTable

__all__ = [
    "BLOCK_BYTES",
    "FORMAT_VERSION",
    "DataSet",
    "FieldColumns",
    "FieldInfo",
    "Manifest",
    "SampleTable",
    "ShardRow",
    "ShardTable",
    "Split",
    "SplitInfo",
    "open_dataset",
    "read_manifest",
]

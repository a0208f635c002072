"""What a packed data set is: its manifest, and the tables beside its shards."""

from shardkit.manifest.dataset import DataSet, Split, open_dataset, read_manifest
from shardkit.manifest.manifest import FORMAT_VERSION, FieldInfo, Manifest, SplitInfo
from shardkit.manifest.tables import FieldColumns, SampleTable, ShardRow, fingerprint_of

__all__ = [
    "FORMAT_VERSION",
    "DataSet",
    "FieldColumns",
    "FieldInfo",
    "Manifest",
    "SampleTable",
    "ShardRow",
    "Split",
    "SplitInfo",
    "fingerprint_of",
    "open_dataset",
    "read_manifest",
]

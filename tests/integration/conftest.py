"""What the tests of packing start from."""

import pytest
from pictures import write_pictures

import shardkit


@pytest.fixture
def photos(tmp_path):
    """A folder of 60 pictures in 3 classes."""
    return write_pictures(tmp_path / "photos", 60)


@pytest.fixture
def packed(photos, tmp_path):
    """Those pictures packed into 6 shards."""
    shardkit.pack(photos, tmp_path / "shards", shard_samples=10, workers=1)
    return tmp_path / "shards"

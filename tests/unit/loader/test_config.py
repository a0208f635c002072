"""What the settings come to as numbers."""

import pytest

from shardkit.loader.config import OrderConfig
from shardkit.manifest.dataset import Split
from shardkit.manifest.shards import ShardRow, ShardTable


def split_of(num_shards):
    """A split of so many shards, each of 640 samples of 100 kB."""
    rows = [
        ShardRow(
            name=f"train-{number:06d}.tar", split="train", num_samples=640, num_bytes=64_000_000, digest="0" * 32,
            content="0" * 32, table="0" * 32, table_bytes=640 * 150,
        )
        for number in range(num_shards)
    ]  # fmt: skip
    return Split("train", ShardTable.of(rows))


def chunk_samples(num_shards, *, packed_shuffled, **options):
    config = OrderConfig(shuffle=True, **options)
    return config.numbers(split_of(num_shards), "0" * 32, packed_shuffled=packed_shuffled).chunk_samples


@pytest.mark.parametrize(
    ("num_shards", "packed_shuffled", "expected"),
    [
        (100, True, 80),  # 8 MB
        (100, False, 20),  # 2 MB
        (3, True, 60),  # two for each of 16 lanes
        (1, True, 20),
        (1, False, 20),
    ],
)
def test_chunks_are_larger_where_packing_has_shuffled(num_shards, packed_shuffled, expected):
    assert chunk_samples(num_shards, packed_shuffled=packed_shuffled) == expected


def test_a_chunk_size_that_is_given_is_taken():
    for packed_shuffled in (False, True):
        assert chunk_samples(100, packed_shuffled=packed_shuffled, chunk_size="4MB") == 40
        assert chunk_samples(100, packed_shuffled=packed_shuffled, chunk_size=7) == 7


def test_each_lane_has_two_chunks_at_least():
    assert chunk_samples(3, packed_shuffled=True, lanes=32) == 30

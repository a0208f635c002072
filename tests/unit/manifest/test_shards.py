"""The root table."""

import pytest

from shardkit.manifest import ShardRow, ShardTable


def row(number, split):
    return ShardRow(
        name=f"{split}-{number:06d}.tar",
        split=split,
        num_samples=number,
        num_bytes=1,
        digest="0" * 32,
        content="f" * 32,
        table="e" * 32,
        table_bytes=1,
    )


@pytest.mark.parametrize("splits", [[], ["a"], ["a", "b"], ["bb", "bb"], ["a", "bb", "a", "ab", "b", "b"]])
def test_a_split_has_its_own_shards_in_order_wherever_they_lie(splits):
    table = ShardTable.of([row(number, split) for number, split in enumerate(splits)])
    for name in ("a", "b", "bb", "ab", "a-longer-one"):
        expected = [number for number, split in enumerate(splits) if split == name]
        found = table.split(name)
        assert [shard.num_samples for shard in found] == found.num_samples.tolist() == expected
        assert len(found) == len(expected)

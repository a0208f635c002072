"""Sizes in words."""

import pytest

from shardkit.errors import ConfigError
from shardkit.units import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MiB", 64 * 2**20), ("2MB", 2_000_000), ("1.5 GB", 1_500_000_000), ("10k", 10_000), ("7", 7), ("1tib", 2**40)],
)
def test_parse(text, size):
    assert parse_bytes(text, setting="shard_size") == size


@pytest.mark.parametrize(
    "text", ["", "many", "-1MB", "0", "0.4", "1 XB", "1e9", "nan", "MB", "9" * 400, "0." + "1" * 400]
)
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="shard_size must be a size"):
        parse_bytes(text, setting="shard_size")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (256e6, "256 MB"), (1.44e9, "1.4 GB"), (3e15, "3000.0 TB")],
)
def test_format(size, text):
    assert format_bytes(size) == text

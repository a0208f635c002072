"""Digests of blocks: the same however the bytes come."""

import random

import pytest
import xxhash

from shardkit.manifest import BLOCK_BYTES
from shardkit.manifest.blocks import BlockHasher


@pytest.mark.parametrize("length", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES, 300_001])
def test_pieces_do_not_matter(length):
    data = random.Random(length).randbytes(length)
    expected = [xxhash.xxh3_64_intdigest(data[start : start + BLOCK_BYTES]) for start in range(0, length, BLOCK_BYTES)]
    for piece in (length or 1, BLOCK_BYTES, 7777):
        hasher = BlockHasher()
        for start in range(0, length, piece):
            hasher.update(data[start : start + piece])
        assert hasher.digests().tolist() == expected

"""From sample numbers to rows, over any number of shards, empty ones among them, and any cache."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.loader.rows import RowArena
from shardkit.loader.tables import TableCache
from shardkit.manifest import (
    DataSet,
    FieldColumns,
    FieldInfo,
    Manifest,
    SampleTable,
    ShardRow,
    ShardTable,
    Split,
    SplitInfo,
)
from shardkit.storage import LocalStore


def make_split(folder, sizes):
    """A split with real tables: sample ``n`` has key ``n``, label ``n % 7``, offset ``2048 * row + 512``."""
    store = LocalStore(folder)
    rows, first = [], 0
    for number, size in enumerate(sizes):
        numbers = np.arange(first, first + size)
        fields = {
            name: FieldColumns(
                offset=np.arange(size) * 2048 + start,
                size=np.full(size, length),
                xxh3_64=numbers.astype(np.uint64) + np.uint64(2**63),
            )
            for name, start, length in (("image", 512, 100), ("label", 1536, 1))
        }
        table = SampleTable(
            keys=[str(n) for n in numbers],
            sources=[b""] * size,
            labels=numbers % 7,
            fields=fields,
            pictures={"width": [1] * size, "height": [1] * size, "mode": [""] * size, "format": [""] * size,
                      "orientation": [1] * size},
        )  # fmt: skip
        row = ShardRow(
            name=f"train-{number:06d}.tar", split="train", num_samples=size, num_bytes=2048 * size + 1024,
            digest="0" * 32, content=table.content_digest(), table=table.table_digest(),
            table_bytes=table.table_bytes(0),
        )  # fmt: skip
        with store.write(f"train-{number:06d}.parquet") as writer:
            writer.write(table.to_parquet(row))
        rows.append(row)
        first += size
    shards = ShardTable.of(rows)
    field = FieldInfo(kind="x", extensions=())
    manifest = Manifest(
        fingerprint="0" * 32,
        shards="0" * 32,
        fields={"image": field, "label": field},
        classes=tuple("abcdefg"),
        splits={"train": SplitInfo(num_samples=first, num_bytes=1, num_shards=len(rows))},
    )
    return DataSet(store, manifest, shards), Split("train", shards)


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=40).filter(any),
    st.integers(1, 50),
    st.integers(1, 6),
    st.integers(0, 2**32),
)
def test_rows_are_right_whatever_was_asked_before(sizes, chunk_samples, live_chunks, seed):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        dataset, split = make_split(Path(folder), sizes)
        total = sum(sizes)
        assert split.starts.tolist() == [0, *np.cumsum(sizes)]
        tables = TableCache(dataset, split)
        arena = RowArena(tables, split, chunk_samples, live_chunks)
        held = []
        shard_of = np.repeat(np.arange(len(sizes)), sizes)
        announced = []
        for _ in range(12):
            samples = rng.integers(0, total, rng.integers(1, 40))
            rows = arena.locate(samples, announced.append)
            held.append((samples, rows))
            assert rows.shard.tolist() == shard_of[samples].tolist()
            assert rows.row.tolist() == (samples - split.starts[rows.shard]).tolist()
            assert rows.offset.tolist() == (rows.row * 2048 + 512).tolist()
            assert rows.label.tolist() == (samples % 7).tolist()
            assert rows.digest.tolist() == [int(sample) + 2**63 for sample in samples]
            assert tables.keys(samples) == [str(sample) for sample in samples]
            # A place stays a sample's own until it is released, whatever came in meanwhile.
            owner = dict(zip(rows.place.tolist(), samples.tolist(), strict=True))
            for others, other in held[:-1]:
                for place, sample in zip(other.place.tolist(), others.tolist(), strict=True):
                    assert owner.get(place, sample) == sample
            if rng.random() < 0.7:
                arena.release(held.pop(rng.integers(len(held)))[1])
        assert all(len(set(piece.numbers[:, 5].tolist())) == 1 for piece in announced)

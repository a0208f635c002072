"""A data set of each released format version stays readable, and packing its pictures again gives its bytes."""

from pathlib import Path

import shardkit

DATA = Path(__file__).parent / "data" / "format-2.0"
ORDER = [[2, 6, 0, 7], [11, 4, 10, 8]]


def test_it_reads():
    manifest = shardkit.read_manifest(DATA)
    assert manifest.format_version == "2.0"
    assert manifest.fingerprint == "f856998ea8dc40fb079dbc6f25429553"
    assert manifest.classes == ("class-0", "class-1", "class-2")
    assert {name: split.num_samples for name, split in manifest.splits.items()} == {"train": 9, "val": 3}
    assert shardkit.verify(DATA).problems == ()


def test_its_order_is_what_it_was():
    loader = shardkit.Loader(DATA, batch_size=4, image_size=(8, 8), shuffle=True, seed=5, chunk_size=2, lanes=2)
    assert [[int(key[-2:]) for key in batch.keys] for batch in loader.batches(1)] == ORDER


def test_packing_it_again_gives_the_same_shards(tmp_path):
    shardkit.unpack(DATA, tmp_path / "pictures")
    shardkit.pack(
        tmp_path / "pictures", tmp_path / "shards", split="train=0.7,val=0.3", shard_samples=5, stratify=True, seed=3
    )
    names = ["manifest.json", *(path.name for path in DATA.glob("*.tar"))]
    assert len(names) == 4
    # Parquet files name the library that wrote them, so they are the same only with the same pyarrow.
    assert all((tmp_path / "shards" / name).read_bytes() == (DATA / name).read_bytes() for name in names)

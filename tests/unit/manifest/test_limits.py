"""What tables and samples may be long: never less than a packer makes of them."""

import io

import pyarrow.parquet as pq
import pytest
from pictures import make_dataset, write_pictures

import shardkit
from shardkit.manifest import open_dataset
from shardkit.manifest.limits import (
    MAX_IMAGE_BYTES,
    MAX_TABLE_BYTES,
    shard_table_bytes,
    table_bytes,
    table_file_bytes,
)


@pytest.mark.parametrize("options", [{}, {"store": "raw", "image_size": (48, 48)}], ids=["encoded", "raw"])
@pytest.mark.parametrize("written", [{"compression": "none", "use_dictionary": False}, {"use_dictionary": True}, {}])
def test_no_table_is_longer_than_it_may_be(tmp_path, options, written):
    found = open_dataset(make_dataset(tmp_path, 60, shard_samples=40, **options))
    files = {path.name: path.read_bytes() for path in (tmp_path / "shards").glob("*.parquet")}
    for name in files if written else ():
        out = io.BytesIO()
        pq.write_table(pq.read_table(io.BytesIO(files[name])), out, **written)
        files[name] = out.getvalue()
    assert len(files["shards.parquet"]) < shard_table_bytes(2) < 2**17
    for row in found.shards:
        assert len(files[row.name.replace(".tar", ".parquet")]) < table_file_bytes(row.table_bytes) < 2**17
        assert row.table_bytes <= row.num_bytes
        texts = sum(len(key) for key in found.sample_table(row).keys[:])
        texts += sum(map(len, found.sample_table(row).sources))
        assert row.table_bytes == table_bytes(texts, row.num_samples, row.num_bytes if options else 0)


def test_no_claim_makes_a_table_longer():
    assert table_file_bytes(2**62) == shard_table_bytes(2**62) == MAX_TABLE_BYTES


def test_an_image_that_no_loader_would_read_is_not_packed(tmp_path):
    source = write_pictures(tmp_path / "pictures", 3)
    with (source / "class-0" / "long.ppm").open("wb") as file:
        file.write(b"P6\n16384 5462\n255\n")
        file.truncate(18 + 16384 * 5462 * 3)
    assert MAX_IMAGE_BYTES < 16384 * 5462 * 3
    with pytest.raises(shardkit.PackError, match="cannot be packed") as caught:
        shardkit.pack(source, tmp_path / "shards", workers=1)
    assert len(caught.value.failures) == 1
    assert f"over the limit of {MAX_IMAGE_BYTES} bytes" in caught.value.failures[0]

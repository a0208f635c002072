"""The tables: there and back, and nothing taken on trust."""

import dataclasses
import io
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from shardkit.errors import ManifestError
from shardkit.manifest import BLOCK_BYTES, FieldColumns, SampleTable, ShardRow, ShardTable
from shardkit.manifest.samples import row_in_table

KEYS = ["a/1", "a/zw\u00f6lf", "", "b/" + "x" * 300]


def table(keys=KEYS, **changes):
    count = len(keys)
    columns = {
        name: FieldColumns(
            offset=np.arange(count, dtype=np.int64) * 1024 + start,
            size=np.arange(count, dtype=np.int64) + 1,
            xxh3_64=np.arange(count, dtype=np.uint64) + np.uint64(2**63 + start),
        )
        for name, start in (("image", 512), ("label", 768))
    }
    given = {
        "keys": keys,
        "sources": [b"a/1.jpg", b"\xff\xfe.png", b"", b"b"][:count],
        "labels": np.array([0, 3, 1, 2][:count], dtype=np.int64),
        "fields": columns,
        "pictures": {
            "width": [1, 2, 3, 4][:count],
            "height": [5, 6, 7, 8][:count],
            "mode": ["RGB"] * count,
            "format": ["jpeg"] * count,
            "orientation": [1, 6, 1, 8][:count],
        },
    }
    return SampleTable(**{**given, **changes})


def row_of(samples, **changes):
    return dataclasses.replace(
        ShardRow(
            name="train-000000.tar",
            split="train",
            num_samples=len(samples),
            num_bytes=10_000,
            digest="0" * 32,
            content=samples.content_digest(),
            table=samples.table_digest(),
            table_bytes=samples.table_bytes(10_000),
        ),
        **changes,
    )


def same(left, right):
    assert list(left.keys) == list(right.keys)
    assert list(left.sources) == list(right.sources)
    assert left.labels.tolist() == right.labels.tolist()
    assert {name: list(values) for name, values in left.pictures.items()} == dict(right.pictures)
    for name in right.fields:
        for column in ("offset", "size", "xxh3_64"):
            found, expected = (getattr(t.fields[name], column) for t in (left, right))
            assert found.tolist() == expected.tolist()
            assert found.dtype == expected.dtype


@pytest.mark.parametrize("count", [0, 1, 4])
def test_there_and_back(count):
    samples = table(KEYS[:count])
    row = row_of(samples)
    data = samples.to_parquet(row)
    same(SampleTable.from_parquet(data, row, ("image", "label")), samples)
    assert data == samples.to_parquet(row)
    assert row_in_table(data, "t") == row


def test_training_reads_only_what_it_needs():
    samples = table()
    row = row_of(samples)
    found = SampleTable.from_parquet(samples.to_parquet(row), row, ("image", "label"), whole=False)
    assert (list(found.keys), list(found.sources), dict(found.pictures)) == (KEYS, [], {})


def test_other_tools_read_the_columns(tmp_path):
    samples = table()
    (tmp_path / "t.parquet").write_bytes(samples.to_parquet(row_of(samples)))
    found = pq.read_table(tmp_path / "t.parquet").to_pydict()
    assert found["key"] == KEYS
    assert found["image_offset"] == [512, 1536, 2560, 3584]
    assert found["orientation"] == [1, 6, 1, 8]


def test_the_content_digest_sees_keys_labels_sizes_and_digests_and_not_places():
    samples = table()
    digest = samples.content_digest()
    field = samples.fields["image"]
    moved = {**samples.fields, "image": dataclasses.replace(field, offset=field.offset + 512)}
    assert table(fields=moved).content_digest() == digest
    assert table(sources=[b""] * 4).content_digest() == digest
    others = [
        table(keys=["a/1a", "/zw\u00f6lf", "", KEYS[3]]),
        table(labels=np.array([0, 3, 1, 1])),
        table(fields={**samples.fields, "image": dataclasses.replace(field, size=field.size + 1)}),
        table(fields={**samples.fields, "image": dataclasses.replace(field, xxh3_64=field.xxh3_64 + np.uint64(1))}),
    ]
    assert len({digest, *(other.content_digest() for other in others)}) == 5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_samples": 3}, "does not belong"),
        ({"content": "1" * 32}, "does not belong"),
        ({"num_bytes": 3000}, "lies outside the shard"),
    ],
)
def test_a_table_that_does_not_fit_the_root_table_is_refused(change, reason):
    samples = table()
    with pytest.raises(ManifestError, match=reason):
        SampleTable.from_parquet(samples.to_parquet(row_of(samples)), row_of(samples, **change), ("image", "label"))


def test_negative_offsets_are_refused():
    field = table().fields["image"]
    samples = table(fields={"image": dataclasses.replace(field, offset=field.offset - 600)})
    with pytest.raises(ManifestError, match="lies outside"):
        SampleTable.from_parquet(samples.to_parquet(row_of(samples)), row_of(samples), ("image",))


def test_offsets_that_would_overflow_are_refused():
    field = table().fields["image"]
    huge = np.full(4, 2**63 - 1, dtype=np.int64)
    for samples in (
        table(fields={"image": dataclasses.replace(field, offset=huge)}),
        table(fields={"image": dataclasses.replace(field, size=huge)}),
        table(fields={"image": dataclasses.replace(field, size=-huge)}),
    ):
        with pytest.raises(ManifestError, match="lies outside"):
            SampleTable.from_parquet(samples.to_parquet(row_of(samples)), row_of(samples), ("image",))


@pytest.mark.parametrize("count", [-1, 1.5, "1", True, 1 << 70])
def test_a_kept_row_with_a_count_that_is_none_is_refused(count):
    samples = table()
    with pytest.raises(ManifestError, match="a count that is none"):
        row_in_table(samples.to_parquet(row_of(samples, num_bytes=count)), "t")


def test_reading_starts_no_threads():
    """One that still holds bytes of Python's at the interpreter's end takes the process with it."""
    script = (
        "import os, sys\n"
        "import numpy, pyarrow.parquet\n"
        "from shardkit.manifest import ShardTable\n"
        "data = sys.stdin.buffer.read()\n"
        "before = os.listdir('/proc/self/task')\n"
        "ShardTable.from_parquet(data)\n"
        "print(len(os.listdir('/proc/self/task')) - len(before))\n"
    )
    data = ShardTable.of([row_of(table())]).to_parquet()
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True, timeout=60)
    assert done.stdout == b"0\n"


@pytest.mark.parametrize("data", [b"", b"PAR1", b"<html>" * 100, b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_what_is_no_parquet_file_is_a_manifest_error(data):
    with pytest.raises(ManifestError):
        SampleTable.from_parquet(data, row_of(table()), ("image",))
    with pytest.raises(ManifestError):
        ShardTable.from_parquet(data)
    with pytest.raises(ManifestError):
        row_in_table(data, "t")


def test_the_root_table():
    rows = [row_of(table()), row_of(table(), name="val-000000.tar", split="val")]
    shards = ShardTable.from_parquet(ShardTable.of(rows).to_parquet())
    assert list(shards) == rows == [shards[0], shards[1]]
    assert list(shards.split("val")) == rows[1:]
    assert shards.num_samples.tolist() == [4, 4]
    assert shards.fingerprint() == ShardTable.of(rows).fingerprint() != ShardTable.of(rows[::-1]).fingerprint()
    assert len(shards.fingerprint()) == 32
    assert len(ShardTable.from_parquet(ShardTable.of([]).to_parquet())) == 0


@pytest.mark.parametrize("name", ["../x.tar", "/etc/x.tar", "x", ".x.tar", "a\\x.tar", "http://host/x.tar"])
def test_a_shard_outside_the_data_set_is_refused(name):
    with pytest.raises(ManifestError, match="not a shard's name"):
        ShardTable.from_parquet(ShardTable.of([row_of(table(), name=name)]).to_parquet())


def test_negative_counts_are_refused():
    with pytest.raises(ManifestError, match="a count that is none"):
        ShardTable.from_parquet(ShardTable.of([row_of(table(), num_samples=-1)]).to_parquet())


BLOCKS = np.array([1, 2**64 - 1], dtype=np.uint64)
LONG = {"num_bytes": BLOCK_BYTES + 1024}


def test_digests_of_blocks_there_and_back():
    samples = table(blocks=BLOCKS)
    row = row_of(samples, **LONG)
    for whole in (True, False):
        found = SampleTable.from_parquet(samples.to_parquet(row), row, ("image", "label"), whole=whole)
        assert found.blocks.tolist() == BLOCKS.tolist()
        assert found.blocks.dtype == np.uint64
    row = row_of(table())
    assert len(SampleTable.from_parquet(table().to_parquet(row), row, ("image", "label")).blocks) == 0


def test_digests_of_blocks_are_under_the_content_digest():
    digests = {table(**given).content_digest() for given in ({}, {"blocks": BLOCKS}, {"blocks": BLOCKS[::-1]})}
    assert len(digests) == 3
    other = table(blocks=BLOCKS[::-1])
    row = row_of(table(blocks=BLOCKS), **LONG)
    for samples in (other, table()):
        with pytest.raises(ManifestError, match="does not belong"):
            SampleTable.from_parquet(samples.to_parquet(row), row, ("image", "label"))


@pytest.mark.parametrize("num_bytes", [BLOCK_BYTES, 2 * BLOCK_BYTES + 1, 10_000])
def test_another_number_of_blocks_than_the_shard_has_is_refused(num_bytes):
    samples = table(blocks=BLOCKS)
    row = row_of(samples, num_bytes=num_bytes)
    with pytest.raises(ManifestError, match="digests of 2 blocks"):
        SampleTable.from_parquet(samples.to_parquet(row), row, ("image", "label"))


@pytest.mark.parametrize("text", [b"xyz", b"00", "\u00e9".encode()])
def test_digests_of_blocks_that_are_none_are_refused(text):
    samples = table()
    row = row_of(samples)
    read = pq.read_table(io.BytesIO(samples.to_parquet(row)))
    file = io.BytesIO()
    pq.write_table(read.replace_schema_metadata({**read.schema.metadata, b"shardkit.blocks": text}), file)
    with pytest.raises(ManifestError, match="not a sample table"):
        SampleTable.from_parquet(file.getvalue(), row, ("image", "label"))

"""Tables that would take far more memory than their like are refused before anything of them is decoded."""

import io
import resource
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardkit.errors import ManifestError
from shardkit.manifest.samples import SampleTable, row_in_table
from shardkit.manifest.shards import ShardRow, ShardTable
from shardkit.manifest.thrift import read_struct

FIELDS = ("image", "label")
ROW = ShardRow(
    name="train-000000.tar",
    split="train",
    num_samples=1,
    num_bytes=1 << 40,
    digest="0" * 32,
    content="0" * 32,
    table="0" * 32,
    table_bytes=1000,
)
MILLIONS = 10**8
TEXT = "x" * 10**6


def file_of(columns, **options):
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, **{"compression": "zstd", **options})
    return out.getvalue()


def samples_of(num_rows, **changed):
    """The columns of a sample table, as much alike as can be."""
    numbers, texts = pa.array(np.ones(num_rows, dtype=np.int64)), pa.array(["a"] * num_rows)
    columns = {"key": texts, "source": texts.cast(pa.binary()), "label": numbers}
    for field in FIELDS:
        columns |= {f"{field}_offset": numbers, f"{field}_size": numbers}
        columns[f"{field}_xxh3_64"] = numbers.cast(pa.uint64())
    columns |= {"width": numbers.cast(pa.int32()), "height": numbers.cast(pa.int32()), "mode": texts, "format": texts}
    return {**columns, "orientation": numbers.cast(pa.int8()), **changed}


def shards_of(num_rows, **changed):
    texts, numbers = pa.array(["train"] * num_rows), pa.array(np.ones(num_rows, dtype=np.int64))
    digests = pa.array(["0" * 32] * num_rows)
    columns = {"name": texts, "split": texts, "num_samples": numbers, "num_bytes": numbers}
    return {**columns, "table_bytes": numbers, "digest": digests, "content": digests, "table": digests, **changed}


def refused(data, num_rows, reason):
    """That a file is neither a sample table nor a root table, found out with little memory."""
    before = pa.total_allocated_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    row = replace(ROW, num_samples=num_rows)
    with pytest.raises(ManifestError, match=reason):
        SampleTable.from_parquet(data, row, FIELDS)
    for count in (num_rows, None):
        with pytest.raises(ManifestError):
            ShardTable.from_parquet(data, num_shards=count)
    assert pa.total_allocated_bytes() - before[0] < 10**6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before[1] < 100_000


def made_elsewhere(script):
    """What a script writes to its output, whatever memory it takes."""
    begin = "import sys, io, numpy as np, pyarrow as pa, pyarrow.parquet as pq\nout = io.BytesIO()\n"
    end = "\nsys.stdout.buffer.write(out.getvalue())\n"
    return subprocess.run([sys.executable, "-c", begin + script + end], capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def rows_in_runs():
    """A file of 10^8 equal rows."""
    script = (
        "few = pa.array(np.zeros(10**6, dtype=np.int64))\n"
        f"names = {[*samples_of(1), *shards_of(1)]}\n"
        "kinds = [pa.field(name, pa.int64()) for name in dict.fromkeys(names)]\n"
        "with pq.ParquetWriter(out, pa.schema(kinds[:3]), compression='zstd') as writer:\n"
        "    for _ in range(100):\n"
        "        writer.write_table(pa.table([few] * 3, names=[kind.name for kind in kinds[:3]]))"
    )
    return made_elsewhere(script)


@pytest.mark.parametrize("num_rows", [1, 10**6, MILLIONS])
def test_runs_of_equal_rows(rows_in_runs, num_rows):
    assert len(rows_in_runs) < 2 * 10**6
    refused(rows_in_runs, num_rows, "does not belong" if num_rows < MILLIONS else "cannot be in")


@pytest.mark.parametrize("make", [samples_of, shards_of])
def test_as_many_rows_as_the_root_table_says_but_too_few_bytes(make):
    data = file_of(make(300_000))
    refused(data, 300_000, "cannot be in")


BOMBS = {
    "texts that compress": ({"key": pa.array([TEXT] * 100)}, {"use_dictionary": False}, "many times|at most"),
    "one text of a dictionary": ({"key": pa.array([TEXT] * 100)}, {"use_dictionary": True}, "dictionary of 1000004"),
    "short texts of a dictionary": ({"mode": pa.array(["x" * 60_000] * 100)}, {"use_dictionary": True}, "at most"),
    "texts that share": (
        {"source": pa.array([TEXT.encode()] * 100)},
        {"use_dictionary": False, "column_encoding": {"source": "DELTA_BYTE_ARRAY"}},
        "encoded in a way",
    ),
    "lists": ({"label": pa.array([[1] * 1000] * 100)}, {}, "holds other columns"),
    "structs": ({"label": pa.array([{"a": {"b": 1}}] * 100)}, {}, "holds other columns"),
    "fixed": ({"label": pa.array([b"x" * 10**5] * 100, pa.binary(10**5))}, {}, "of kind 7"),
    "times": ({"width": pa.array([1.5] * 100)}, {}, "of kind 5"),
    "groups": ({}, {"row_group_size": 1}, "in 100 groups"),
    "pages": ({}, {"max_rows_per_page": 1}, "pages for 100 rows"),
    "brotli": ({}, {"compression": "brotli"}, "of kind 6, 4"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_takes_more_than_its_like(bomb):
    changed, options, reason = BOMBS[bomb]
    try:
        data = file_of(samples_of(100, **changed), **options)
    except TypeError:
        pytest.skip("this pyarrow writes no such file")
    refused(data, 100, reason)


def test_metadata_and_columns_without_end():
    table = pa.table(samples_of(3))
    for changed in (
        table.replace_schema_metadata({"shardkit.more": "x" * 10**6}),
        table.replace_schema_metadata({f"{number}": "" for number in range(10**4)}),
        pa.table({**samples_of(3), **{f"more-{number}": pa.array([1] * 3) for number in range(1000)}}),
    ):
        out = io.BytesIO()
        pq.write_table(changed, out)
        small = replace(ROW, num_bytes=5000)
        with pytest.raises(ManifestError, match="its footer has"):
            SampleTable.from_parquet(out.getvalue(), replace(small, num_samples=3), FIELDS)


def test_columns_nested_deep_and_columns_of_one_name():
    kind = pa.int64()
    for _ in range(500):
        kind = pa.struct([("a", kind)])
    refused(file_of({**samples_of(1), "deep": pa.array([None], kind)}), 1, "holds other columns")
    twice = pa.Table.from_arrays([*samples_of(1).values(), pa.array([1])], [*samples_of(1), "label"])
    out = io.BytesIO()
    pq.write_table(twice, out)
    refused(out.getvalue(), 1, "two columns of one name")


def test_a_footer_that_tells_less_than_its_pages_hold():
    """The decoder goes by the header of each page, so what the footer says of bytes counts for nothing."""
    data = file_of({"label": pa.array([b"x" * 10**6] * 9)}, use_dictionary=False)
    chunk = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0).column(0)
    size = chunk.total_uncompressed_size
    told = bytes([size << 1 & 127 | 128, size >> 6 & 127 | 128, size >> 13 & 127 | 128, size >> 20])
    # The same number of bytes for 1.
    lying = data.replace(told, b"\x82\x80\x80\x00")
    assert pq.ParquetFile(pa.BufferReader(lying)).metadata.row_group(0).column(0).total_uncompressed_size == 1
    assert len(lying) == len(data) < 10**5
    refused(lying, 9, "takes 90.* bytes where at most")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x15", b"\x15\xff", b"\x15" + b"\x80" * 20, b"\x18\x7f", b"\x19\xf5\xff\xff\xff\x0f", b"\x1c" * 100,
     b"\x1f", b"\x19" * 100, b"\x1b\x01", b"\x15\x02\x05\x02\x02"],
)  # fmt: skip
def test_headers_that_are_none(data):
    with pytest.raises(ValueError, match="header"):
        read_struct(data)


def test_headers_that_are_some():
    data = b"\x15\x01\x11\x12\x18\x02ab\x19\x25\x02\x04\x1c\x15\x02\x00\x00rest"
    found, stop = read_struct(data)
    assert found == {1: -1, 2: True, 3: False, 4: b"ab", 5: [1, 2], 6: {1: 1}}
    assert data[stop:] == b"rest"
    assert read_struct(b"-" + data, 1, last=4) == ({1: -1, 2: True, 3: False, 4: b"ab"}, 9)


@pytest.mark.parametrize("num_rows", [0, 1, 3000])
def test_any_flipped_byte_is_an_error_or_no_difference(num_rows):
    rng = np.random.default_rng(0)
    columns = samples_of(num_rows, image_xxh3_64=pa.array(rng.integers(0, 1 << 63, num_rows).astype(np.uint64)))
    whole = file_of(columns, use_dictionary=["mode", "format"], compression="snappy")
    for at in rng.integers(0, len(whole), 1500).tolist():
        data = whole[:at] + bytes([whole[at] ^ int(rng.integers(1, 256))]) + whole[at + 1 :]
        with pytest.raises(ManifestError):
            SampleTable.from_parquet(data, replace(ROW, num_samples=num_rows), FIELDS)
        with pytest.raises(ManifestError):
            row_in_table(data, "t")

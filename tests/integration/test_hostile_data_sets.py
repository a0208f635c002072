"""Data sets that an attacker made: whoever opens them gets a named error, or what is really there."""

import os
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from material import material_dir
from pictures import make_dataset, tree
from remote import OPTIONS, served
from servers import modes
from servers.rules import Rule
from signing import change_columns, sign

import shardkit
from shardkit.manifest.info import describe

BAD_TEXT = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], dtype=np.int32)), pa.py_buffer(b"\xff\xfe")]
)


def empty_first(column):
    return pa.array([None, *column.to_pylist()[1:]], column.type)


DAMAGED = {
    "root name": ("shards.parquet", {"name": lambda column: pa.chunked_array([*[BAD_TEXT] * len(column)])}, "UTF8"),
    "width": ("train-000000.parquet", {"width": empty_first}, "column width has empty places"),
    "source": (
        "train-000000.parquet",
        {"source": lambda column: pa.array(range(len(column)), pa.timestamp("s"))},
        "column source holds timestamp",
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("hostile"), 40, shard_samples=20)


@pytest.fixture
def dataset(made, tmp_path):
    return shutil.copytree(made, tmp_path / "shards")


def command(*words):
    return subprocess.run([sys.executable, "-m", "shardkit.cli", *words], capture_output=True, text=True)


def train(url):
    return list(shardkit.Loader(url, **OPTIONS).batches())


def refused(dataset, tmp_path, reason, *, also_training=True):
    """That a data set is refused by name wherever it is used, and nothing of it is written."""
    try:
        problems = shardkit.verify(dataset).problems
    except shardkit.ManifestError as error:
        problems = (error,)
    assert problems
    assert re.search(reason, str(problems[0]))
    with pytest.raises(shardkit.FormatError, match=reason):
        shardkit.unpack(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(shardkit.FormatError, match=reason):
        describe(dataset, count=True)
    if also_training:
        with pytest.raises(shardkit.FormatError, match=reason):
            train(dataset)


@pytest.mark.parametrize("name", DAMAGED)
def test_columns_of_other_kinds_are_errors_by_name(dataset, name, tmp_path):
    file, columns, reason = DAMAGED[name]
    change_columns(dataset / file, **columns)
    refused(dataset, tmp_path, reason, also_training=name == "root name")
    for words in (["verify", dataset], ["info", "--classes", dataset]) if name == "width" else ():
        ran = command(*words)
        assert ran.returncode == 1, ran.stderr
        assert "Traceback" not in ran.stderr


def turned(column):
    """A column backwards, or with another first value where all are equal."""
    return column.take(pa.array(range(len(column)))[::-1]) if len(set(column.to_pylist())) > 1 else other(column)


def other(column):
    """A column of the same type and length with another value in its first place."""
    first = column[0].as_py()
    value = {int: lambda: first ^ 1, str: lambda: first + "x", bytes: lambda: first + b"x"}[type(first)]()
    return pa.array([value, *column.to_pylist()[1:]], column.type)


SAMPLE_COLUMNS = (
    "key", "source", "label", "image_offset", "image_size", "image_xxh3_64", "label_offset", "label_size",
    "label_xxh3_64", "width", "height", "mode", "format", "orientation",
)  # fmt: skip
OF_IMAGES = {"source", "width", "height", "mode", "format", "orientation"}


def test_these_are_all_columns(made):
    assert pq.read_schema(made / "train-000000.parquet").names == list(SAMPLE_COLUMNS)


@pytest.mark.parametrize("column", SAMPLE_COLUMNS)
def test_every_column_of_a_sample_table_is_under_a_digest(dataset, tmp_path, column):
    change_columns(dataset / "train-000000.parquet", **{column: turned})
    under_content = column in {"key", "label"} or column.endswith(("size", "xxh3_64"))
    reason = "does not belong to this data set" if under_content else f"column '{column}' is not as it was packed"
    refused(dataset, tmp_path, reason, also_training=column not in OF_IMAGES)


@pytest.mark.parametrize(
    "column", ["name", "split", "num_samples", "num_bytes", "digest", "content", "table", "table_bytes"]
)
def test_every_column_of_the_root_table_is_under_a_digest(dataset, tmp_path, column):
    def change(column):
        values = column.to_pylist()
        if isinstance(values[0], int):
            return pa.array([values[0] - 1, *values[1:]], column.type)
        new = f"u{values[0][1:]}" if values[0].startswith("train") else "1" * len(values[0])
        return pa.array([new, *values[1:]], column.type)

    change_columns(dataset / "shards.parquet", **{column: change})
    refused(dataset, tmp_path, "belongs to another data set|other counts")


def test_a_table_that_another_writer_wrote_is_read(dataset, tmp_path):
    whole = tree(dataset)
    expected = train(dataset)
    for path in dataset.glob("*.parquet"):
        pq.write_table(pq.read_table(path), path, compression="gzip", version="1.0", use_dictionary=False)
    assert tree(dataset) != whole
    assert shardkit.verify(dataset).problems == ()
    assert shardkit.unpack(dataset, tmp_path / "out") == 40
    assert [batch.keys for batch in train(dataset)] == [batch.keys for batch in expected]


SIGNED = {
    "source": (turned, "the source of a sample does not fit its key"),
    "width": (
        lambda column: pc.add(column, pa.scalar(1, pa.int32())),
        "the width of the image is 16 in the shard and 17",
    ),
    "height": (lambda column: pc.add(column, pa.scalar(1, pa.int32())), "the height of the image is 16"),
    "mode": (lambda column: pa.array(["L"] * len(column)), "the mode of the image is RGB in the shard and L"),
    "format": (lambda column: pa.array(["jpeg"] * len(column)), "the format of the image is png"),
    "orientation": (lambda column: pa.array([6] * len(column), pa.int8()), "the orientation of the image is 1"),
    "label": (lambda column: pa.array([0] * len(column)), "in the shard and 0 in its table"),
    "image_offset": (turned, "the shard's headers do not agree with its table"),
}


@pytest.mark.parametrize("column", SIGNED)
def test_what_an_attacker_signed_is_compared(dataset, column):
    change, reason = SIGNED[column]
    change_columns(dataset / "train-000000.parquet", **{column: change})
    sign(dataset)
    problems = shardkit.verify(dataset).problems
    assert len(problems) == 1
    assert reason in str(problems[0])


def test_signing_what_is_unchanged_changes_nothing(dataset):
    whole = tree(dataset)
    sign(dataset)
    assert tree(dataset) == whole


def test_the_same_shard_four_times(dataset):
    sign(dataset, repeat=4)
    said = "the same samples are in the data set twice: shard 'train-000000.tar'"
    assert said in str(shardkit.verify(dataset).problems[0])


def test_a_data_set_of_a_pre_release_is_refused():
    for name in ("unsigned-source-swap", "signed-labels-column-lies"):
        folder = material_dir("hostile", name)
        for use in (shardkit.verify, describe, train, lambda url: shardkit.unpack(url, "nowhere")):
            with pytest.raises(shardkit.ManifestError, match="of a pre-release.*Pack its images again"):
                use(folder)


@pytest.fixture
def bounded():
    """Nothing here takes memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


GAP = 10 * 2**30
HUGE = {
    "a sample": {"image_size": GAP},
    "a gap": {"image_offset": GAP, "label_offset": GAP, "other": GAP},
    "a tail": {"other": GAP},
    "a label": {"label_size": 2**20},
}


def stretched(dataset, added):
    """A signed data set whose first shard is a sparse file, and its last sample elsewhere or longer in it."""
    path = dataset / "train-000000.parquet"
    grown = max(added.values())
    columns = {name: value for name, value in added.items() if name != "other"}
    change_columns(
        path,
        **{
            name: lambda column, value=value: pa.array(
                [*column.to_pylist()[:-1], column[-1].as_py() + value], pa.int64()
            )
            for name, value in columns.items()
        },
    )
    if "image_size" in added:
        change_columns(
            path, label_offset=lambda column: pa.array([*column.to_pylist()[:-1], column[-1].as_py() + grown])
        )
    size = os.path.getsize(dataset / "train-000000.tar") + grown
    os.truncate(dataset / "train-000000.tar", size)
    sign(dataset, change_row=lambda row, number: row if number else replace(row, num_bytes=size))


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("what", HUGE)
def test_a_sparse_shard_takes_no_memory(dataset, tmp_path, what):
    stretched(dataset, HUGE[what])
    assert os.stat(dataset / "train-000000.tar").st_blocks * 512 < 2**20
    reason = {
        "a sample": "bytes are over the limit of 268435456",
        "a gap": "does not come next after a header",
        "a tail": "that its samples take",
        "a label": "bytes are over the limit of 64",
    }[what]
    refused(dataset, tmp_path, reason)
    with pytest.raises(shardkit.FormatError, match=reason) as caught:
        train(dataset)
    assert caught.value.shard == "train-000000.tar"
    assert caught.value.key or what == "a tail"
    with served(dataset) as server, pytest.raises(shardkit.FormatError, match=reason):
        train(server.url)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("name", ["manifest.json", "shards.parquet", "train-000000.parquet"])
def test_what_is_longer_than_it_may_be_is_not_read(dataset, tmp_path, name):
    """A sparse file here, and one of a server that tells its length or does not."""
    os.truncate(dataset / name, 2**34)
    with pytest.raises(shardkit.StorageError, match=r"\d+ bytes where at most \d+ were expected") as caught:
        train(dataset)
    assert name in str(caught.value)
    for fault in (), (Rule(fault=modes.NoLength()),):
        with served(dataset, *fault) as server:
            with pytest.raises(
                shardkit.StorageError, match=r"the \d+ bytes that|bytes where at most \d+ were expected"
            ):
                shardkit.unpack(server.url, tmp_path / "out")
            sent = sum(request.sent for request in server.requests if request.target.endswith(name))
            # What is on its way in sockets besides.
            assert sent < (2**24 if name == "manifest.json" else 2**21) + 2**23


def test_names_cannot_command_a_terminal(dataset, tmp_path):
    manifest = shardkit.read_manifest(dataset)
    sign(dataset, classes=("\x1b]0;pwned\x07", *manifest.classes[1:]))
    for words in (["info"], ["verify"], ["explain", "--batch-size", "4"]):
        ran = command(words[0], dataset, *words[1:])
        assert ran.returncode == 0, ran.stderr
        assert not {character for character in ran.stdout + ran.stderr if not character.isprintable()} - {"\n"}
    assert "\\x1b]0;pwned\\x07" in command("info", dataset).stdout
    odd = tmp_path / "odd\x1b[2J"
    shutil.copytree(dataset, odd)
    os.truncate(odd / "shards.parquet", 100)
    ran = command("info", odd)
    assert ran.returncode == 1
    assert "\x1b" not in ran.stderr

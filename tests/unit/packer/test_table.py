"""Tables as sources: labels, columns, and errors that name the line."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardkit.errors import ConfigError
from shardkit.packer.options import PackOptions
from shardkit.packer.plan import make_plan
from shardkit.packer.table import read_table

FROM_TABLE = PackOptions(labels_from="table")


@pytest.fixture
def base(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"x" * (number + 1))
    return tmp_path


def table_of(base, labels, suffix=".csv"):
    rows = [{"path": f"{number}.png", "label": label} for number, label in enumerate(labels)]
    path = base / f"t{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text("path,label\n" + "".join(f"{row['path']},{row['label']}\n" for row in rows))
    return path


def classes_of(found):
    plan = make_plan(found, FROM_TABLE)
    numbers = {item.source: item.label for task in plan.tasks for item in task.items}
    return plan.classes, [numbers[source] for source in sorted(numbers)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_whole_numbers_written_as_floats_are_class_numbers(base, suffix):
    found = read_table(table_of(base, [0.0, 2.0, 10.0], suffix))
    classes, numbers = classes_of(found)
    assert (len(classes), numbers) == (11, [0, 2, 10])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(("labels", "line"), [([0, 1, -1, 2, 10], 2), ([0.0, 1.0, 2.5], 2), ([1e-07, 1.0], 0)])
def test_numbers_that_are_no_class_numbers_are_failures_with_their_line(base, suffix, labels, line):
    found = read_table(table_of(base, labels, suffix))
    where = line + (2 if suffix == ".csv" else 1)
    assert len(found.failures) == 1
    assert f"line {where}, {line}.png: the label is {labels[line]}" in found.failures[0]


def test_one_name_makes_names_of_all(base):
    assert classes_of(read_table(table_of(base, ["-1", "10", "9", "cat"]))) == (("-1", "10", "9", "cat"), [0, 1, 2, 3])


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_true_and_false_are_names(base, suffix):
    assert classes_of(read_table(table_of(base, [True, False], suffix))) == (("false", "true"), [1, 0])


@pytest.mark.parametrize(
    ("label", "suffix", "reason"),
    [
        ([1, 2], ".jsonl", "the label is a list"),
        ({"x": 1}, ".jsonl", "the label is a dict"),
        (b"x", ".parquet", "the label is a bytes"),
        (float("inf"), ".parquet", "the label is inf"),
        ("\udcff", ".jsonl", "the label is not UTF-8"),
    ],
)
def test_what_is_no_label_is_a_failure(base, label, suffix, reason):
    (failure,) = read_table(table_of(base, [label], suffix)).failures
    assert f"line 1, 0.png: {reason}" in failure


def test_a_label_of_thousands_of_digits_is_too_large(base):
    with pytest.raises(ConfigError, match="too large"):
        make_plan(read_table(table_of(base, ["9" * 5000, "1"])), FROM_TABLE)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "t.jsonl",
            b'{"path": "0.png", "label": 1}\n{"path": "1.png", "label": }\n',
            "line 2 is not JSON: Expecting value at column \\d+ ",
        ),
        ("t.jsonl", b"[" * 100_000, "line 1 is not JSON"),
        ("t.jsonl", b'{"path": "0.png", "label": ' + b"9" * 5000 + b"}", "line 1 is not JSON"),
        ("t.jsonl", b"[1]\n", "line 1 is not a JSON object"),
        ("t.csv", b'path,label\n0.png,a\n"1.png,b\n2.png,c\n', "line 3 is no row of a table"),
        ("t.csv", b"p\xffth,label\n0.png,a\n", "line 1 is not UTF-8"),
        ("t.csv", b"path,label,label\n0.png,a,b\n", "several columns that could be it"),
        ("t.parquet", b"PAR1 not", "not a Parquet file"),
    ],
)
def test_a_table_that_cannot_be_read_is_named_with_its_line(base, name, content, reason):
    (base / name).write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        read_table(base / name)


def test_a_named_column_that_is_there_twice_is_an_error(base):
    (base / "t.csv").write_text("path,species,species\n0.png,a,b\n")
    with pytest.raises(ConfigError, match="has several columns 'species'"):
        read_table(base / "t.csv", label_column="species")
    pq.write_table(pa.table([["0.png"], ["a"], ["b"]], names=["path", "label", "label"]), base / "t.parquet")
    with pytest.raises(ConfigError, match="several columns"):
        read_table(base / "t.parquet", label_column="label")


def test_of_parquet_only_two_columns_are_read(base):
    rows = {"path": ["0.png"], "label": ["a"], "pixels": [os.urandom(100_000)]}
    pq.write_table(pa.table(rows), base / "t.parquet", compression="none", use_dictionary=False)
    data = bytearray((base / "t.parquet").read_bytes())
    start = pq.ParquetFile(base / "t.parquet").metadata.row_group(0).column(2).data_page_offset
    data[start : start + 50] = b"\xff" * 50
    (base / "t.parquet").write_bytes(data)
    with pytest.raises(OSError, match="thrift"):
        pq.read_table(base / "t.parquet")
    assert [item.label for item in read_table(base / "t.parquet").items] == ["a"]


def test_paths_may_be_no_utf8_in_every_kind_of_table(base):
    name = b"caf\xe9.png"
    (base / "0.png").rename(base / os.fsdecode(name))
    (base / "t.csv").write_bytes(b"path,label\n" + name + b",a\n")
    (base / "t.jsonl").write_text(json.dumps({"path": os.fsdecode(name), "label": "a"}))
    pq.write_table(pa.table({"path": pa.array([name], pa.binary()), "label": ["a"]}), base / "t.parquet")
    for suffix in (".csv", ".jsonl", ".parquet"):
        found = read_table(base / f"t{suffix}")
        assert [item.source for item in found.items] == [name], found.failures


def test_lines_are_those_where_a_row_starts(base):
    (base / "t.csv").write_text('path,label\n"0.png","a\nb"\n\n1.png,\n')
    assert read_table(base / "t.csv").failures == ["t.csv line 5, 1.png: the label is missing"]

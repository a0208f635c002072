"""The loading comparison runs from end to end, over the rows that need nothing but the development environment."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from material import material_dir

ROOT = Path(__file__).resolve().parents[2]
ROWS = ("bare", "shardkit", "shardkit-tf", "shardkit-keras", "pillow", "keras", "tfrecord", "tfrecord-raw-batched",
        "shardkit-encoded", "webdataset-encoded", "tfrecord-encoded")  # fmt: skip


def bench_load(folder, *arguments):
    command = [sys.executable, str(ROOT / "tools" / "bench_load.py"), "--quick", "--folder", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    material_dir("photos")
    return tmp_path_factory.mktemp("bench")


@pytest.mark.slow
def test_tables_and_plot_are_written(folder):
    text = bench_load(folder, "--only", ",".join(ROWS))
    assert (folder / "load.md").read_text() == text
    assert "not there" not in text
    assert (folder / "load.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((folder / "load.json").read_text())
    assert list(results["warm"]) == list(ROWS)
    for rounds in results["warm"].values():
        assert all(found["rate"] > 0 and found["first_s"] > 0 for found in rounds)


@pytest.mark.slow
def test_a_row_that_fails_says_so_and_the_others_are_measured(folder):
    (folder / "photos-1100-pillow_generator").mkdir(exist_ok=True)
    (folder / "photos-1100-pillow_generator" / "prepared.json").write_text('{"folder": "/nowhere"}')
    text = bench_load(folder, "--only", "bare,pillow")
    assert "not there: FileNotFoundError" in text
    assert "| the bare loop | shardkit's functions | " in text


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["resume", "memory", "small-shards", "device", "adapters"])
def test_the_further_questions_are_answered(folder, mode):
    text = bench_load(folder, f"--{mode}", "--only", "shardkit")
    assert text.startswith("### ")
    assert "not there" not in text
    assert len(text.splitlines()) >= 5

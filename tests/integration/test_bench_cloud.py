"""The comparison of loading from a bucket runs from end to end, over the rows that need no environment of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.cloud_rows import AT_ONCE
from material import material_dir
from servers.process import NotInstalled, program

ROOT = Path(__file__).resolve().parents[2]
BARE = [f"bare-{at_once}" for at_once in AT_ONCE]


def bench_cloud(folder, *arguments):
    command = [sys.executable, str(ROOT / "tools" / "bench_cloud.py"), "--quick", "--folder", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    material_dir("photos")
    try:
        program("weed")
    except NotInstalled as error:
        pytest.skip(str(error))
    return tmp_path_factory.mktemp("bench")


@pytest.mark.slow
def test_tables_and_plot_are_written(folder):
    text = bench_cloud(folder)
    assert (folder / "cloud.md").read_text() == text
    assert "not there" not in text
    assert (folder / "cloud.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((folder / "cloud.json").read_text())
    assert list(results["by_latency"]) == ["0", "20"]
    assert list(results["through"]["warm"]) == BARE
    for found in results["by_latency"].values():
        for rounds in found["warm"].values():
            assert all(one["rate"] > 0 and one["first_s"] > 0 for one in rounds)
    counted = results["counted"]
    packed = sum(path.stat().st_size for path in folder.glob("photos-*-shardkit/data/*.tar"))
    # The bare loop asks for all bytes of the shards once, and for a list of them; what is in the cache already is not
    # asked for at all.
    assert packed < counted[BARE[0]]["reply_bytes"] < 1.01 * packed
    assert packed < 1.1 * counted["cache-empty"]["reply_bytes"]
    assert counted["cache-full"]["reply_bytes"] < 0.01 * packed
    assert counted["bucket"]["requests"] > 1
    leftover = {path.name.split("-")[0] for path in folder.iterdir()}
    assert leftover == {"photos", "cloud.md", "cloud.png", "cloud.json"}


@pytest.mark.slow
def test_a_row_that_fails_says_so_and_the_others_are_measured(folder):
    (folder / "photos-1100-shardkit").mkdir(exist_ok=True)
    (folder / "photos-1100-shardkit" / "prepared.json").write_text('{"folder": "/nowhere"}')
    text = bench_cloud(folder, "--only", "local,bare-8", "--latencies", "0")
    assert "| **shardkit**, local files | not there: " in text
    assert "| the bare loop, 8 requests at once | " in text

"""What `loader.stats()` and `shardkit bench` say of real data sets, and what they advise."""

import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench_advice import write_photos
from material import material_dir
from pictures import make_dataset

import shardkit
from shardkit.manifest import open_dataset

TOOL = Path(__file__).parents[2] / "tools" / "bench_advice.py"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("stats"), 100)


def test_an_epoch_s_samples_bytes_and_stages(dataset):
    def slow(array, rng):
        time.sleep(0.002)
        return array

    loader = shardkit.Loader(dataset, batch_size=8, image_size=(16, 16), augment=[slow], threads=2)
    list(loader)
    found = loader.stats(reset=True)
    table = open_dataset(dataset)
    sizes = sum(int(table.sample_table(row).fields["image"].size.sum()) for row in table.shards)
    assert (found.samples, found.batches, found.bytes_read) == (100, 13, sizes)
    assert found.stages["augment"] >= 100 * 0.002
    assert all(seconds > 0 for seconds in found.stages.values())
    assert 0 < found.waited <= found.seconds
    assert found.busy <= 2 * found.seconds
    assert "augmentation is the limit" in str(found)
    assert loader.stats().samples == 0


def test_whoever_iterates_slowly_is_told_so(dataset):
    loader = shardkit.Loader(dataset, batch_size=8, image_size=(16, 16))
    for _ in loader:
        time.sleep(0.2)  # much longer than the first batch takes, on a busy machine too
    found = loader.stats()
    assert "whoever iterates is the limit" in str(found.advice)
    assert found.occupancy["wait"] > 0.5


def test_the_command_says_the_same(dataset):
    command = [sys.executable, "-m", "shardkit.cli", "bench", str(dataset), "--seconds", "0.3", "--batch-size", "10"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("first batch after ")
    for word in ("samples in", "read ", "verify ", "decode ", "assemble ", "wait ", "is the limit"):
        assert word in said


@pytest.mark.parametrize(
    ("size", "image_size", "change"),
    [((900, 700), (224, 224), "--resize 256"), ((480, 360), (168, 168), "--resize 192")],
)
def test_large_photographs_should_be_packed_smaller(tmp_path, size, image_size, change):
    """Whether that gives what it promises depends on the machine: `tools/bench_advice.py` measures it."""
    material_dir("photos")
    shardkit.pack(write_photos(tmp_path / "photos", size, 48), tmp_path / "shards", workers=1)
    loader = shardkit.Loader(tmp_path / "shards", batch_size=16, image_size=image_size)
    list(loader)
    advice = loader.stats().advice
    assert advice.change == change
    assert 1 < advice.gain < math.inf
    assert f"packing with `{change}` would give about" in str(advice)


def test_what_the_advice_gives_is_measured_by_a_tool():
    material_dir("photos")
    command = [sys.executable, TOOL, "--rounds", "1", "--images", "16"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    header, _, *rows = (line.strip("|").split("|") for line in said.splitlines())
    assert {len(header), *map(len, rows)} == {7}
    assert [row[0].strip() for row in rows] == ["900x700", "480x360"]
    assert all(float(row[5]) > 0 for row in rows)

"""What `loader.stats()` and `shardkit bench` say of real data sets, and whether their advice holds."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from material import material_dir
from pictures import make_dataset
from PIL import Image

import shardkit
from shardkit.manifest import open_dataset

TOLERANCE = 0.25
SCRIPT = Path(__file__).with_name("advice_script.py")


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
    for _ in range(2):
        for _ in loader:
            time.sleep(0.05)
    found = loader.stats()
    assert "whoever iterates is the limit" in str(found.advice)
    assert found.occupancy["wait"] > 0.5


def test_the_command_says_the_same(dataset):
    command = [sys.executable, "-m", "shardkit.cli", "bench", str(dataset), "--seconds", "0.3", "--batch-size", "10"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("first batch after ")
    for word in ("samples in", "read ", "verify ", "decode ", "assemble ", "wait ", "is the limit"):
        assert word in said


def write_photos(folder, size, count):
    """Photographs of one size in two classes."""
    photos = [Image.open(material_dir("photos", name)).convert("RGB") for name in ("china.jpg", "flower.jpg")]
    photos = [photo.resize((size[0] + 200, size[1] + 150)) for photo in photos]
    for number in range(count):
        left, top = 17 * number % 190, 29 * number % 140
        path = folder / f"class-{number % 2}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photos[number % 2].crop((left, top, left + size[0], top + size[1])).save(path, quality=90)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "image_size", "change", "count"),
    [((900, 700), (224, 224), "--resize 256", 512), ((480, 360), (168, 168), "--resize 192", 1024)],
)
def test_what_was_advised_gives_what_was_promised(tmp_path, size, image_size, change, count):
    photos = write_photos(tmp_path / "photos", size, count)
    shardkit.pack(photos, tmp_path / "large")
    shardkit.pack(photos, tmp_path / "small", resize=int(change.split()[1]))
    found, off = [], []
    for _ in range(7):  # a machine may be busy with other things for a while
        # In a process of its own, as it is used: other tests leave threads and memory behind.
        command = [sys.executable, SCRIPT, tmp_path / "large", tmp_path / "small", *map(str, image_size)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(ran.stdout))
        assert found[-1]["change"] == change
        off.append(abs(found[-1]["gain"] / found[-1]["promised"] - 1))
        if len(off) >= 3 and statistics.median(off) < TOLERANCE:
            return
    pytest.fail(f"promised and found: {found}")

"""Pictures that are made smaller while they are packed: same bytes always, what the tables say, and what comes back."""

import signal
import subprocess

import numpy as np
import pytest
from material import material_dir
from pictures import tree
from PIL import Image
from stopping import COMMAND, goes_on_to_the_same_bytes

import shardkit
from shardkit.codecs.header import read_header
from shardkit.manifest import open_dataset


@pytest.fixture
def mixed(tmp_path):
    """A folder of 48 pictures: large and small, photographs, gray, with transparency, lying on a side."""
    photo = Image.open(material_dir("photos", "china.jpg"))
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(48):
        left = number * 5
        image = photo.crop((left, 0, left + 160 + number, 260))
        path = tmp_path / "photos" / f"class-{number % 3}" / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 8 == 0:
            image.putalpha(image.convert("L"))
            image.save(path.with_suffix(".png"))
        elif number % 8 == 1:
            image.resize((40, 50)).save(path.with_suffix(".png"))
        elif number % 8 == 2:
            image.convert("L").save(path)
        else:
            image.save(path, quality=85, exif=exif)
    return tmp_path / "photos"


def stored(dataset):
    """Each picture's source path with its bytes and what the table says of it."""
    found = open_dataset(dataset)
    for row in found.shards:
        table = found.sample_table(row)
        columns = table.fields["image"]
        for place, source in enumerate(table.sources):
            data = found.store.read_range(row.name, int(columns.offset[place]), int(columns.size[place]))
            yield source.decode(), data, {name: values[place] for name, values in table.pictures.items()}


def test_the_number_of_workers_does_not_change_a_byte(mixed, tmp_path):
    for workers in (1, 2, 5):
        shardkit.pack(mixed, tmp_path / f"w{workers}", workers=workers, shard_samples=7, resize=64)
    packed = tree(tmp_path / "w1")
    assert tree(tmp_path / "w2") == packed
    assert tree(tmp_path / "w5") == packed


def test_tables_say_what_is_stored_and_small_pictures_are_kept(mixed, tmp_path):
    shardkit.pack(mixed, tmp_path / "shards", resize=64, quality=80)
    kept = 0
    for source, data, said in stored(tmp_path / "shards"):
        header = read_header(data)
        assert said == {name: getattr(header, name) for name in said}
        number, original = int(source.split("/")[1][:2]), (mixed / source).read_bytes()
        if number % 8 == 1:
            kept += data == original
            continue
        assert min(header.width, header.height) == 64
        assert header.orientation == 1
        assert (header.width > header.height) == (number % 8 > 2)
        assert (header.format, header.mode) == {0: ("png", "RGBA"), 2: ("jpeg", "L")}.get(number % 8, ("jpeg", "RGB"))
        assert len(data) < len(original)
    assert kept == 6
    assert shardkit.verify(tmp_path / "shards").problems == ()
    manifest = shardkit.read_manifest(tmp_path / "shards")
    assert (manifest.packed["resize"], manifest.packed["quality"]) == (64, 80)


def test_what_was_not_asked_for_leaves_no_trace(mixed, tmp_path):
    shardkit.pack(mixed, tmp_path / "shards")
    assert not {"resize", "quality"} & shardkit.read_manifest(tmp_path / "shards").packed.keys()
    shardkit.unpack(tmp_path / "shards", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(mixed)


def test_unpack_gives_back_what_is_stored(mixed, tmp_path):
    shardkit.pack(mixed, tmp_path / "shards", resize=64)
    assert shardkit.unpack(tmp_path / "shards", tmp_path / "back") == 48
    assert tree(tmp_path / "back") == {source: data for source, data, _ in stored(tmp_path / "shards")}


def test_a_loader_sees_nearly_the_same_pictures(mixed, tmp_path):
    shardkit.pack(mixed, tmp_path / "whole")
    shardkit.pack(mixed, tmp_path / "small", resize=64, quality=95)
    options = {"image_size": (32, 32), "batch_size": 48, "color_mode": "rgba"}
    whole, small = (next(shardkit.Loader(tmp_path / name, **options).batches()) for name in ("whole", "small"))
    assert whole.keys == small.keys
    assert whole.labels.tolist() == small.labels.tolist()
    difference = whole.arrays["image"].astype(np.int16) - small.arrays["image"]
    assert np.abs(difference).mean() < 4


def test_the_number_of_shards_follows_from_what_is_expected(mixed, tmp_path):
    shardkit.pack(mixed, tmp_path / "whole", shard_size="100kB", workers=1)
    shardkit.pack(mixed, tmp_path / "small", shard_size="100kB", workers=1, resize=48)
    sizes = [row.num_bytes for row in open_dataset(tmp_path / "small").shards]
    assert len(sizes) < len(open_dataset(tmp_path / "whole").shards)
    assert max(sizes) < 200_000


def test_other_options_are_another_data_set(mixed, tmp_path):
    shardkit.pack(mixed, tmp_path / "shards", resize=64)
    assert shardkit.pack(mixed, tmp_path / "shards", resize=64, quality=90).already_packed
    for options in ({}, {"resize": 65}, {"resize": 64, "quality": 91}):
        with pytest.raises(shardkit.ConfigError, match="other pictures or options"):
            shardkit.pack(mixed, tmp_path / "shards", **options)


def test_a_picture_that_does_not_decode_is_named(mixed, tmp_path):
    path = mixed / "class-0" / "03.jpg"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    shardkit.pack(mixed, tmp_path / "whole")
    for workers in (1, 2):
        with pytest.raises(shardkit.PackError, match=r"class-0/03\.jpg: the JPEG data end early") as caught:
            shardkit.pack(mixed, tmp_path / "small", resize=64, workers=workers, shard_samples=9)
        assert len(caught.value.failures) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_and_gone_on_it_gives_the_same_bytes(mixed, tmp_path, how):
    options = ["--resize", "64", "--shard-samples", "2", "--workers", "2"]
    goes_on_to_the_same_bytes(mixed, tmp_path, options, how)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--resize", "0"], "resize must be a whole number, from 1 to"),
        (["--resize", "64", "--quality", "101"], "quality must be a whole number, from 1 to 100"),
        (["--quality", "90"], "without resize"),
    ],
)
def test_wrong_options_are_named(mixed, tmp_path, options, said):
    done = subprocess.run(
        [*COMMAND, "pack", mixed, tmp_path / "shards", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / "shards").exists()

"""Pictures that are stored as arrays: same bytes always, every byte under a digest, and back as PNG."""

import csv
import io
import shutil
import signal
import subprocess
import tarfile

import numpy as np
import pytest
import xxhash
from pictures import tree, write_pictures
from PIL import Image
from stopping import COMMAND, goes_on_to_the_same_bytes

import shardkit
from shardkit.codecs.image import ImageDecoder
from shardkit.manifest import BLOCK_BYTES, FieldInfo, open_dataset

RAW = {"store": "raw", "image_size": (12, 20)}


@pytest.fixture
def packed(photos, tmp_path):
    """The pictures as raw ones, in 6 shards."""
    shardkit.pack(photos, tmp_path / "shards", shard_samples=10, workers=1, **RAW)
    return tmp_path / "shards"


def test_the_number_of_workers_does_not_change_a_byte(photos, tmp_path):
    for workers in (1, 2, 5):
        shardkit.pack(
            photos, tmp_path / f"w{workers}", workers=workers, shard_samples=7, split="train=0.8,val=0.2", **RAW
        )
    packed = tree(tmp_path / "w1")
    assert tree(tmp_path / "w2") == packed
    assert tree(tmp_path / "w5") == packed


@pytest.mark.parametrize(
    ("color_mode", "channels", "mode"), [("rgb", 3, "RGB"), ("grayscale", 1, "L"), ("rgba", 4, "RGBA")]
)
def test_what_is_stored_is_what_a_decoder_gives(photos, tmp_path, color_mode, channels, mode):
    shardkit.pack(photos, tmp_path / "shards", color_mode=color_mode, pad_to_aspect_ratio=True, **RAW)
    decoder = ImageDecoder(image_size=(12, 20), color_mode=color_mode, pad_to_aspect_ratio=True)
    with tarfile.open(tmp_path / "shards" / "train-000000.tar") as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}
    assert len(members) == 120
    for path in photos.rglob("*.png"):
        name = str(path.relative_to(photos).with_suffix(""))
        assert members[f"{name}.raw"] == decoder.decode(path.read_bytes()).tobytes()
        assert members[f"{name}.cls"].decode() == path.parent.name[-1]
    manifest = shardkit.read_manifest(tmp_path / "shards")
    assert manifest.fields["image"] == FieldInfo(kind="array", extensions=("raw",), shape=(12, 20, channels))
    assert manifest.packed["store"] == "raw"
    dataset = open_dataset(tmp_path / "shards")
    table = dataset.sample_table(dataset.shards[0])
    expected = {"width": 20, "height": 12, "mode": mode, "format": "raw", "orientation": 1}
    assert {name: set(values) for name, values in table.pictures.items()} == {n: {v} for n, v in expected.items()}


def test_samples_lie_at_a_constant_stride_and_shards_are_planned_exactly(photos, tmp_path):
    stride = 512 + 1024 + 512 + 512
    shardkit.pack(photos, tmp_path / "shards", shard_size=7 * stride + 1024, **RAW)
    dataset = open_dataset(tmp_path / "shards")
    assert [row.num_samples for row in dataset.shards] == [7] * 8 + [4]
    for row in dataset.shards:
        offsets = dataset.sample_table(row).fields["image"].offset
        assert offsets.tolist() == [512 + stride * number for number in range(len(offsets))]
        assert row.num_bytes == len(offsets) * stride + 1024


def test_every_block_has_its_digest(photos, tmp_path):
    shardkit.pack(photos, tmp_path / "shards", store="raw", image_size=(40, 50))
    dataset = open_dataset(tmp_path / "shards")
    (row,) = dataset.shards
    data = (tmp_path / "shards" / row.name).read_bytes()
    assert len(data) > 5 * BLOCK_BYTES
    assert dataset.sample_table(row, whole=False).blocks.tolist() == [
        xxhash.xxh3_64_intdigest(data[start : start + BLOCK_BYTES]) for start in range(0, len(data), BLOCK_BYTES)
    ]


def test_verify_finds_a_flipped_bit_wherever_it_is(photos, tmp_path):
    shardkit.pack(photos, tmp_path / "shards", store="raw", image_size=(40, 50))
    assert shardkit.verify(tmp_path / "shards").problems == ()
    shard = tmp_path / "shards" / "train-000000.tar"
    whole = shard.read_bytes()
    size = 40 * 50 * 3
    stride = 512 + 6144 + 1024
    pixels, padding, header, label, end = (
        20 * stride + 700,
        20 * stride + 512 + size + 3,
        20 * stride + 5,
        0,
        len(whole) - 9,
    )
    label = 20 * stride + 512 + 6144 + 512
    for offset in (pixels, padding, header, label, end):
        damaged = bytearray(whole)
        damaged[offset] ^= 4
        shard.write_bytes(damaged)
        (problem,) = shardkit.verify(tmp_path / "shards").problems
        assert problem.shard == shard.name
        assert problem.offset is not None, offset
        assert problem.offset <= offset < problem.offset + BLOCK_BYTES
    shard.write_bytes(whole)
    assert shardkit.verify(tmp_path / "shards").problems == ()


def test_unpack_gives_png_that_lose_nothing(photos, tmp_path):
    (photos / "class-0" / "00000.png").rename(photos / "class-0" / "a.b.JPG")
    (photos / "class-1" / "00001.png").rename(photos / "class-1" / "no-suffix")
    shardkit.pack(photos, tmp_path / "shards", color_mode="rgba", **RAW)
    assert shardkit.unpack(tmp_path / "shards", tmp_path / "back") == 60
    back = tree(tmp_path / "back")
    assert {"class-0/a.b.png", "class-1/no-suffix.png", "class-2/00002.png"} <= back.keys()
    for name, data in back.items():
        found = [path for path in (photos / name).parent.iterdir() if path.stem == (photos / name).stem]
        expected = ImageDecoder(image_size=(12, 20), color_mode="rgba").decode(found[0].read_bytes())
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), expected)
    assert shardkit.unpack(tmp_path / "shards", tmp_path / "back") == 60


def test_unpacked_pictures_of_a_table_pack_to_the_same_arrays(photos, tmp_path):
    with (photos / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for number in range(0, 30, 3):
            shutil.copy(photos / "class-0" / f"{number:05d}.png", photos / f"{number}.jpg")
            writer.writerow([f"{number}.jpg", f"label {number}"])
    for size, color_mode in (((16, 16), "grayscale"), ((16, 16), "rgb")):
        options = {"store": "raw", "image_size": size, "color_mode": color_mode}
        shardkit.pack(photos / "t.csv", tmp_path / f"a-{color_mode}", **options)
        shardkit.unpack(tmp_path / f"a-{color_mode}", tmp_path / f"back-{color_mode}")
        shardkit.pack(tmp_path / f"back-{color_mode}" / "labels.csv", tmp_path / f"b-{color_mode}", **options)
        first, second = ((tmp_path / f"{n}-{color_mode}" / "train-000000.tar").read_bytes() for n in "ab")
        assert first == second


def test_samples_are_handed_out_as_raw_bytes(packed, photos):
    samples = list(shardkit.to_webdataset(shardkit.Loader(packed)))
    assert len(samples) == 60
    decoder = ImageDecoder(image_size=(12, 20))
    for sample in samples:
        assert sample.keys() == {"__key__", "__url__", "raw", "cls"}
        assert sample["raw"] == decoder.decode((photos / f"{sample['__key__']}.png").read_bytes()).tobytes()


def test_info_says_so(packed):
    said = subprocess.run([*COMMAND, "info", packed], capture_output=True, text=True, check=True).stdout
    assert "pictures: raw 12x20x3" in said


def test_other_options_are_another_data_set(photos, packed):
    assert shardkit.pack(photos, packed, shard_samples=10, **RAW).already_packed
    for options in ({}, {**RAW, "image_size": (12, 21)}, {**RAW, "color_mode": "rgba"}):
        with pytest.raises(shardkit.ConfigError, match="other pictures or options"):
            shardkit.pack(photos, packed, shard_samples=10, **options)


def test_a_picture_that_does_not_decode_is_named(photos, tmp_path):
    path = photos / "class-0" / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-1000] + b"\xff\xd9")
    for workers in (1, 2):
        with pytest.raises(shardkit.PackError, match=r"class-0/cut\.jpg: the JPEG data end early") as caught:
            shardkit.pack(photos, tmp_path / "shards", workers=workers, shard_samples=9, **RAW)
        assert len(caught.value.failures) == 1


def as_raw(dataset, shape):
    """Say in a data set's manifest that its pictures are arrays."""
    manifest = shardkit.read_manifest(dataset)
    fields = {**manifest.fields, "image": FieldInfo(kind="array", extensions=("raw",), shape=shape)}
    changed = {name: getattr(manifest, name) for name in manifest.__slots__} | {"fields": fields}
    (dataset / "manifest.json").write_bytes(type(manifest)(**changed).to_json())


def test_tables_that_do_not_fit_the_arrays_are_refused(photos, packed, tmp_path):
    as_raw(packed, (12, 20, 4))
    problems = shardkit.verify(packed).problems
    assert len(problems) == 6
    assert all("is not that of its array" in str(problem) for problem in problems)
    for path in photos.rglob("*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    shardkit.pack(photos, tmp_path / "encoded")
    as_raw(tmp_path / "encoded", (1, path.with_suffix(".bmp").stat().st_size, 1))
    with pytest.raises(shardkit.ManifestError, match="no digests of blocks"):
        shardkit.unpack(tmp_path / "encoded", tmp_path / "back")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_and_gone_on_it_gives_the_same_bytes(tmp_path, how):
    photos = write_pictures(tmp_path / "photos", 600, size=48)
    options = ["--store", "raw", "--image-size", "32", "32", "--shard-samples", "5", "--workers", "2"]
    goes_on_to_the_same_bytes(photos, tmp_path, options, how)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--store", "raw"], "needs the size"),
        (["--image-size", "8", "8"], "image_size is only for store='raw'"),
        (["--color-mode", "grayscale"], "color_mode is only for store='raw'"),
        (["--pad-to-aspect-ratio"], "pad_to_aspect_ratio is only for store='raw'"),
        (["--store", "raw", "--image-size", "8", "8", "--resize", "9"], "exclude each other"),
        (["--store", "raw", "--image-size", "8", "0"], "each a whole number from 1"),
    ],
)
def test_wrong_options_are_named(photos, tmp_path, options, said):
    done = subprocess.run(
        [*COMMAND, "pack", photos, tmp_path / "shards", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / "shards").exists()

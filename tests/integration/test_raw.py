"""Raw data sets: the same samples in the same order as encoded ones, gathered or one by one, and damage found."""

import shutil

import numpy as np
import pytest
from pictures import make_dataset, numbers_in

import shardkit
from shardkit.loader.gather import GatherJob
from shardkit.manifest import open_dataset

COUNT = 700
SIZE = 16


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same pictures encoded (PNG, so lossless) and raw, the latter in three shards of 700 x 1,792 bytes in all."""
    folder = tmp_path_factory.mktemp("raw")
    encoded = make_dataset(folder, COUNT, size=SIZE, shard_samples=260)
    raw = folder / "raw"
    shardkit.pack(
        folder / "pictures", raw, store="raw", image_size=(SIZE, SIZE), color_mode="rgb", shard_samples=260, workers=1
    )
    return encoded, raw


@pytest.fixture
def gathered(monkeypatch):
    """The batches that were gathered."""
    made = []
    original = GatherJob.__init__

    def counting(self, arena, pixels, rows, batches, recorder):
        made.extend(batches)
        original(self, arena, pixels, rows, batches, recorder)

    monkeypatch.setattr(GatherJob, "__init__", counting)
    return made


def load(dataset, **options):
    # Chunks that are large enough to be gathered from, and several of them in a lane.
    defaults = {"batch_size": 32, "shuffle": True, "chunk_size": 151, "lanes": 2, "shuffle_buffer": 400}
    return shardkit.Loader(dataset, **{**defaults, **options})


def batches(loader, epoch=0, start=0):
    return [(batch.arrays["image"].copy(), batch.labels.tolist(), batch.keys) for batch in loader.batches(epoch, start)]


def same(first, second):
    assert len(first) == len(second)
    for (images, labels, keys), (other_images, other_labels, other_keys) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, other_images)
        assert (labels, keys) == (other_labels, other_keys)


def by_key(loader, epoch=0):
    return {key: image for images, _, keys in batches(loader, epoch) for key, image in zip(keys, images, strict=False)}


def test_a_raw_data_set_holds_the_same_pixels_and_labels(both, gathered):
    encoded, raw = both
    loader = load(raw, drop_remainder=False)
    assert loader.signature["image"].shape == (None, SIZE, SIZE, 3)
    pixels, expected = by_key(loader), by_key(load(encoded, image_size=(SIZE, SIZE), drop_remainder=False))
    assert len(gathered) == len(loader) == 22
    assert pixels.keys() == expected.keys()
    for key, image in pixels.items():
        np.testing.assert_array_equal(image, expected[key])


@pytest.mark.parametrize("shuffle", [True, False])
def test_gathering_changes_nothing(both, gathered, shuffle):
    _, raw = both
    loader = load(raw, shuffle=shuffle)
    fast = batches(loader)
    count = len(gathered)
    assert count == len(loader)
    # A transform that does nothing makes it go sample by sample.
    same(fast, batches(load(raw, shuffle=shuffle, augment=[lambda array, rng: array])))
    assert len(gathered) == count
    for threads, prefetch in ((1, 1), (2, 4), (5, 2)):
        same(fast, batches(load(raw, shuffle=shuffle, threads=threads, prefetch=prefetch)))


def test_any_step_can_be_begun_at(both, gathered):
    loader = load(both[1])
    whole = batches(loader, 3)
    for start in range(0, len(loader), 4):
        same(whole[start:], batches(loader, 3, start))
    assert gathered


@pytest.mark.filterwarnings("ignore:world_size=.* does not divide lanes:shardkit.ShardkitWarning")
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_global_batches(both, gathered, world_size):
    alone = batches(load(both[1]))
    ranks = [batches(load(both[1], rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert gathered
    for step, (_, _, keys) in enumerate(alone):
        assert sorted(keys) == sorted(key for rank in ranks for key in rank[step][2])


def test_a_global_shuffle_reads_sample_by_sample(both, gathered):
    _, raw = both
    assert sum(map(numbers_in, (images for images, _, _ in batches(load(raw, shuffle="global")))), start=[])
    assert not gathered


@pytest.mark.parametrize(
    "settings",
    [
        {"image_size": (8, 24)},
        {"image_size": (SIZE, SIZE), "dtype": "float32"},
        {"image_size": (SIZE, SIZE), "data_format": "channels_first"},
        {"image_size": (10, 10), "crop_to_aspect_ratio": True},
        {"image_size": (8, 24), "pad_to_aspect_ratio": True},
    ],
)
def test_other_sizes_types_and_layouts_are_those_of_encoded_pictures(both, settings):
    found, expected = (by_key(load(dataset, shuffle=False, drop_remainder=False, **settings)) for dataset in both)
    for key, image in found.items():
        np.testing.assert_array_equal(image, expected[key])


def test_raw_samples_are_augmented(both):
    found, plain = (by_key(load(both[1], augment=augment)) for augment in ([shardkit.random_flip()], []))
    turned = {key for key, image in found.items() if (image != plain[key]).any()}
    assert COUNT / 3 < len(turned) < COUNT * 2 / 3
    assert all((found[key] == plain[key][:, ::-1]).all() for key in turned)


def test_other_channels_are_refused(both):
    with pytest.raises(shardkit.ConfigError, match="kept with 3 values per pixel"):
        load(both[1], color_mode="grayscale")


def test_bytes_can_be_had(both):
    (data, *_), _, _ = batches(load(both[1], decode=False, shuffle=False))[0]
    assert len(data) == SIZE * SIZE * 3


@pytest.fixture
def damaged(both, tmp_path):
    """A copy with one byte changed in a sample's pixels, and that sample's key."""
    folder = tmp_path / "damaged"
    shutil.copytree(both[1], folder)
    dataset = open_dataset(folder)
    row = dataset.shards[1]
    table = dataset.sample_table(row)
    offset = int(table.fields["image"].offset[77]) + 5
    with (folder / row.name).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    return folder, table.keys[77]


def test_damage_is_an_error_that_names_the_sample(damaged, gathered):
    folder, key = damaged
    with pytest.raises(shardkit.FormatError, match="not those that were packed") as caught:
        batches(load(folder, drop_remainder=False))
    assert key in str(caught.value)
    assert gathered


def test_damage_can_be_left_out_and_only_the_bad_sample_is(both, damaged, gathered):
    folder, key = damaged
    loader = load(folder, drop_remainder=False, on_error="skip")
    found = batches(loader)
    assert len(loader.skipped) == 1
    assert key in loader.skipped[0]
    for (images, _, keys), (expected, _, expected_keys) in zip(
        found, batches(load(both[1], drop_remainder=False)), strict=True
    ):
        for place, name in enumerate(expected_keys):
            if name == key:
                assert keys[place] != key
            else:
                assert keys[place] == name
                np.testing.assert_array_equal(images[place], expected[place])
    assert gathered


def test_damage_between_samples_hurts_no_one(both, tmp_path, gathered):
    """A block is not as it was packed, and yet each sample in it is."""
    folder = tmp_path / "damaged"
    shutil.copytree(both[1], folder)
    row = open_dataset(folder).shards[0]
    with (folder / row.name).open("r+b") as file:
        file.seek(100)  # in the first header
        file.write(b"7")
    same(batches(load(folder)), batches(load(both[1])))
    assert gathered

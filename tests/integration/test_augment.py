"""Augmentation and the form of the arrays, through the loader: the same pixels however a run is stopped and spread."""

import re
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from material import material_dir
from pictures import make_dataset
from PIL import Image

import shardkit

SIZE = (16, 16)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("augment"), 53, size=24)


def noisy(array, rng):
    return array + rng.normal(0, 9, array.shape)


def everything():
    return [shardkit.random_resized_crop(), noisy, shardkit.random_flip(vertical=True)]


def load(dataset, **options):
    return shardkit.Loader(
        dataset,
        **{"batch_size": 8, "image_size": SIZE, "shuffle": True, "chunk_size": 3, "augment": everything(), **options},
    )


def by_key(loader, epoch=0, start=0):
    return {
        key: image.tobytes()
        for batch in loader.batches(epoch, start)
        for key, image in zip(batch.keys, batch.arrays["image"], strict=False)
    }


def test_the_same_pixels_come_after_a_resume_at_any_step(dataset):
    whole = [batch.arrays["image"] for epoch in (0, 1) for batch in load(dataset).batches(epoch)]
    steps = len(load(dataset))
    for at in range(2 * steps):
        loader = load(dataset, state=load(dataset).state(at // steps, at % steps))
        rest = [images for images, _ in loader]
        assert all(np.array_equal(*pair) for pair in zip(rest, whole[at:], strict=False))
        assert len(rest) == steps - at % steps


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 2}, {"threads": 5, "prefetch": 4}])
def test_threads_change_nothing(dataset, options):
    assert by_key(load(dataset, **options)) == by_key(load(dataset))


@pytest.mark.filterwarnings("ignore::shardkit.ShardkitWarning")
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [5, 8, 53])
@pytest.mark.parametrize("shuffle", [True, False, "global"])
def test_ranks_batch_sizes_and_the_order_change_no_pixel(dataset, world_size, batch_size, shuffle):
    expected = by_key(load(dataset, drop_remainder=False), epoch=3)
    options = {"batch_size": batch_size, "shuffle": shuffle, "drop_remainder": False, "world_size": world_size}
    found = [by_key(load(dataset, rank=rank, **options), epoch=3) for rank in range(world_size)]
    assert sum(map(len, found)) == 53
    assert {key: pixels for part in found for key, pixels in part.items()} == expected


def test_epochs_and_seeds_differ_in_every_picture(dataset):
    first, second, other = (
        by_key(load(dataset, drop_remainder=False, seed=seed), epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))
    )
    assert first.keys() == second.keys() == other.keys()
    assert not any(first[key] in (second[key], other[key]) for key in first)


def test_augmenting_shapes_no_order(dataset):
    plain, augmented = load(dataset, augment=()), load(dataset)
    assert plain.state(2, 3) == augmented.state(2, 3)
    assert plain.keys(1) == augmented.keys(1)
    assert plain.explain(1, 2) == augmented.explain(1, 2)
    assert [sample.fields for sample in plain.samples()] == [sample.fields for sample in augmented.samples()]


def test_a_function_gets_the_decoded_picture_and_the_same_stream_each_time(dataset):
    def record(array, rng):
        with lock:
            seen.append((array.shape, str(array.dtype), int(rng.integers(1 << 62))))
        return array

    lock, runs = threading.Lock(), []
    plain = [batch.arrays["image"] for batch in load(dataset, augment=[]).batches()]
    for threads in (1, 3, 2):
        seen = []
        loader = load(dataset, augment=[record], threads=threads)
        found = [batch.arrays["image"] for batch in loader.batches()]
        assert all(np.array_equal(*pair) for pair in zip(found, plain, strict=True))
        runs.append(sorted(seen))
    assert runs[0] == runs[1] == runs[2]
    assert {entry[:2] for entry in seen} == {((16, 16, 3), "uint8")}
    assert len({entry[2] for entry in seen}) == 48


@pytest.mark.parametrize("augment", [(), "everything"])
@pytest.mark.parametrize("color_mode", ["rgb", "grayscale", "rgba"])
def test_types_and_layouts_hold_the_same_values(dataset, color_mode, augment):
    augment = [shardkit.random_resized_crop(), shardkit.random_flip()] if augment else ()
    plain, _ = next(iter(load(dataset, color_mode=color_mode, augment=augment)))
    for dtype in ("uint8", "float32", "float16"):
        for data_format in ("channels_last", "channels_first"):
            loader = load(dataset, color_mode=color_mode, augment=augment, dtype=dtype, data_format=data_format)
            found, _ = next(iter(loader))
            spec = loader.signature["image"]
            assert (found.shape, found.dtype.name) == (spec.shape, spec.dtype)
            assert found.dtype == dtype
            assert found.flags.c_contiguous
            assert np.array_equal(plain, found if data_format == "channels_last" else found.transpose(0, 2, 3, 1))


def test_floats_of_a_function_stay_as_they_are(dataset):
    def shift(array, rng):
        return array - 300.5

    plain, _ = next(iter(load(dataset, augment=())))
    found, _ = next(iter(load(dataset, augment=[shift], dtype="float32", data_format="channels_first")))
    assert np.array_equal(found.transpose(0, 2, 3, 1), plain - np.float32(300.5))
    with pytest.warns(shardkit.ShardkitWarning, match="shift returned values from -"):
        bytes_, _ = next(iter(load(dataset, augment=[shift])))
    assert (bytes_ == 0).all()


def scale(array, rng):
    return array / 255.0


def center(array, rng):
    return array - np.float32([103.9, 116.8, 123.7])


def keep(array, rng):
    return array


@pytest.mark.parametrize(
    ("augment", "dtype", "said"),
    [
        ([scale], "uint8", "scale returned values from 0.*, but batches of dtype='uint8' hold .* dtype=\"float32\""),
        ([center], "uint8", "center returned values from -"),
        ([scale, shardkit.random_flip()], "uint8", "scale returned values from 0"),
        ([keep, scale, keep], "float32", r"augment\[1\], scale .* but augment\[2\] is given .* Put it last"),
    ],
)
def test_floats_that_bytes_cannot_hold_are_told_once(dataset, augment, dtype, said):
    loader = load(dataset, augment=augment, dtype=dtype, threads=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            list(loader)
    assert [warning.category for warning in caught] == [shardkit.ShardkitWarning]
    assert re.search(said, str(caught[0].message))
    with pytest.warns(shardkit.ShardkitWarning, match=said):
        list(load(dataset, augment=augment, dtype=dtype))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("function", [scale, center])
def test_nothing_is_told_where_floats_are_kept(dataset, function, dtype):
    list(load(dataset, augment=[keep, function, shardkit.random_flip()], dtype=dtype))


def test_a_warning_from_a_thread_is_printed(dataset):
    script = (
        "import sys, shardkit\n"
        "def scale(array, rng): return array / 255\n"
        "for _ in shardkit.Loader(sys.argv[1], image_size=(16, 16), augment=[scale], threads=2): pass"
    )
    ran = subprocess.run([sys.executable, "-c", script, dataset], capture_output=True, text=True, check=True)
    assert ran.stderr.count("ShardkitWarning: augment[0], scale returned values from 0") == 1


def test_a_function_that_fails_ends_the_run_and_names_the_sample(dataset):
    def fail(array, rng):
        raise ZeroDivisionError("mine")

    loader = load(dataset, augment=[fail], on_error="skip", max_skipped=1000)
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        next(iter(loader))
    notes = " ".join(caught.value.__notes__)
    assert "fail" in notes
    assert "class-" in notes
    assert "train-00000" in notes
    with pytest.raises(shardkit.ConfigError, match="shape"):
        next(iter(load(dataset, augment=[lambda array, rng: array[:3]], on_error="skip")))


@pytest.mark.filterwarnings("ignore::shardkit.ShardkitWarning")
def test_padding_and_replaced_rows_are_copies(dataset):
    loader = load(dataset, dtype="float32", data_format="channels_first", world_size=3, drop_remainder=False)
    for batch in loader.batches():
        images = batch.arrays["image"]
        for place in range(len(batch) - batch.num_padding, len(batch)):
            assert any(np.array_equal(images[place], image) for image in images[: len(batch) - batch.num_padding])


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_cropping_while_decoding_is_cropping_and_then_resizing(tmp_path, form, orientation):
    """Within what reducing a JPEG changes; PSNR against Pillow's antialiased resize of the same part."""
    photo = Image.open(material_dir("photos", "coffee.png")).convert("RGB").resize((1800, 1200), Image.Resampling.BOX)
    folder, exif = tmp_path / "photos" / "cup", Image.Exif()
    folder.mkdir(parents=True)
    exif[0x112] = orientation
    for number in range(8):
        photo.save(folder / f"{number}.{form.lower()}", form, exif=exif, quality=95)
    shardkit.pack(tmp_path / "photos", tmp_path / "shards", workers=1)
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE}
    with Image.open(folder / f"0.{form.lower()}") as image:
        shown = image.transpose(turn[orientation]) if orientation in turn else image.copy()
    crop = shardkit.random_resized_crop(scale=(0.02, 1))
    loader = shardkit.Loader(tmp_path / "shards", batch_size=8, image_size=(96, 128), augment=[crop], seed=7)
    ((images, _),) = loader
    words = loader._decode.augmenter(loader._order, 0).draw(np.arange(8))[0].tolist()
    for image, row in zip(images, words, strict=True):
        top, left, height, width = crop.choose(shown.height, shown.width, words=row)
        part = shown.crop((left, top, left + width, top + height)).resize((128, 96), Image.Resampling.BILINEAR)
        error = np.mean((image.astype(float) - np.asarray(part)) ** 2)
        assert 10 * np.log10(255**2 / error) > 36


def test_keras_trains_on_augmented_batches(dataset):
    keras = pytest.importorskip("keras")
    first = keras.backend.image_data_format() == "channels_first"
    loader = load(dataset, dtype="float32", data_format="channels_first" if first else "channels_last")
    model = keras.Sequential(
        [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    history = model.fit(shardkit.to_keras(loader), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_tensorflow_is_told_the_type_and_the_layout(dataset, dtype):
    pytest.importorskip("tensorflow")
    loader = load(dataset, dtype=dtype, data_format="channels_first")
    tf_dataset = shardkit.to_tf(loader)
    spec = tf_dataset.element_spec[0]
    assert (tuple(spec.shape), spec.dtype.name) == ((8, 3, 16, 16), dtype)
    images, _ = next(iter(tf_dataset))
    assert np.array_equal(
        images.numpy(), next(load(dataset, dtype=dtype, data_format="channels_first").batches()).arrays["image"]
    )

"""The loader on real data sets: every sample, in the promised order, and nothing left behind."""

import gc
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pictures import make_dataset, numbers_in

import shardkit
from shardkit.manifest import open_dataset

SIZE = (16, 16)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("loader"), 103, split="train=0.8,val=0.2", stratify=True)


def load(dataset, **options):
    return shardkit.Loader(
        dataset, **{"batch_size": 8, "image_size": SIZE, "shuffle": True, "chunk_size": 3, **options}
    )


def seen(loader, epoch=0):
    return [numbers_in(batch.arrays["image"][: len(batch) - batch.num_padding]) for batch in loader.batches(epoch)]


def all_of(dataset, split="train"):
    return sorted(int(key.rsplit("/", 1)[1]) for key in load(dataset, split=split, shuffle=False).keys())


@pytest.mark.filterwarnings("ignore:world_size=.* does not divide lanes:shardkit.ShardkitWarning")
@pytest.mark.parametrize("world_size", range(1, 10))
@pytest.mark.parametrize("shuffle", [False, True, "global"])
def test_every_sample_comes_once_an_epoch_on_any_number_of_ranks(dataset, world_size, shuffle):
    ranks = [
        load(dataset, rank=rank, world_size=world_size, shuffle=shuffle, drop_remainder=False, batch_size=12)
        for rank in range(world_size)
    ]
    batches = [seen(loader) for loader in ranks]
    assert len({len(loader) for loader in ranks}) == 1
    alone = seen(load(dataset, shuffle=shuffle, drop_remainder=False, batch_size=12))
    for step, batch in enumerate(alone):
        assert sorted(sum((rank[step] for rank in batches), [])) == sorted(batch)
    assert sorted(sum(alone, [])) == all_of(dataset)


def test_keys_line_up_with_padded_rows(dataset):
    loader = load(dataset, split="val", rank=0, world_size=2, batch_size=5, drop_remainder=False, label_mode=None)
    rows = [key for batch in loader.batches() for key in [*batch.keys, *[""] * batch.num_padding]]
    assert loader.keys(padding=True) == rows
    assert "" in rows
    assert loader.keys() == [key for key in rows if key]
    assert next(iter(loader)).shape == (3, 16, 16, 3)


@pytest.mark.filterwarnings("ignore::shardkit.ShardkitWarning")
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_workers_share_a_ranks_samples(dataset, shuffle, num_workers, monkeypatch):
    loader = load(dataset, shuffle=shuffle, rank=1, world_size=2, drop_remainder=False)
    found = []
    for worker in range(num_workers):
        monkeypatch.setenv("WORKER", str(worker))
        monkeypatch.setenv("NUM_WORKERS", str(num_workers))
        found += [sample["__key__"] for sample in shardkit.to_webdataset(loader)]
    assert sorted(found) == sorted(loader.keys())


@pytest.mark.filterwarnings("ignore::shardkit.ShardkitWarning")
def test_ranks_padded_to_one_length_carry_weights(dataset):
    loader = load(dataset, rank=2, world_size=3, batch_size=8, drop_remainder=False)
    for batch in loader.batches():
        weights = batch.arrays["sample_weight"]
        assert len(weights) == len(batch)
        assert (weights[len(batch) - batch.num_padding :] == 0).all()
        assert len(set(weights[: len(batch) - batch.num_padding].tolist())) == 1
        assert len(batch.keys) == len(batch) - batch.num_padding
    assert list(loader.signature) == ["image", "label", "sample_weight"]


def test_labels_and_keys_belong_to_their_pictures(dataset):
    for batch in load(dataset).batches(3):
        numbers = numbers_in(batch.arrays["image"])
        assert [f"class-{number % 3}/{number:05d}" for number in numbers] == batch.keys
        assert [number % 3 for number in numbers] == batch.arrays["label"].tolist()


def test_each_iteration_is_the_next_epoch_and_epochs_differ(dataset):
    loader = load(dataset)
    first, second = ([numbers_in(images) for images, _ in loader] for _ in range(2))
    assert first == seen(loader, 0)
    assert second == seen(loader, 1)
    assert first != second
    assert len(first) == len(loader) == 10
    assert loader.num_samples == 82
    assert first != seen(load(dataset, seed=1), 0)


def test_a_new_process_gives_the_same_order(dataset):
    script = (
        "import json, sys, shardkit;"
        f"loader = shardkit.Loader({str(dataset)!r}, batch_size=8, image_size=(16, 16), shuffle=True, chunk_size=3);"
        "print(json.dumps([loader.keys(epoch) for epoch in range(3)]))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    loader = load(dataset)
    assert [json.loads(text) for text in said] == [[loader.keys(epoch) for epoch in range(3)]] * 2


def test_any_step_can_be_begun_at(dataset):
    loader = load(dataset)
    batches = seen(loader, 2)
    for start in range(len(loader) + 1):
        assert [numbers_in(batch.arrays["image"]) for batch in loader.batches(2, start)] == batches[start:]
    with pytest.raises(shardkit.ConfigError, match="start must be from 0 to 10"):
        loader.batches(0, 11)


def test_running_settings_change_nothing(dataset):
    expected = seen(load(dataset))
    for threads, prefetch in ((1, 1), (2, 5), (7, 2)):
        assert seen(load(dataset, threads=threads, prefetch=prefetch)) == expected


def test_pixels_are_those_of_the_pictures(dataset):
    from PIL import Image

    source = dataset.parent / "pictures"
    for batch in load(dataset, batch_size=5).batches():
        for key, image in zip(batch.keys, batch.arrays["image"], strict=True):
            with Image.open(source / f"{key}.png") as picture:
                np.testing.assert_array_equal(image, np.asarray(picture))


def test_encoded_samples(dataset):
    source = dataset.parent / "pictures"
    loader = load(dataset, decode=False)
    for batch in loader.batches():
        assert all(
            (source / f"{k}.png").read_bytes() == data
            for k, data in zip(batch.keys, batch.arrays["image"], strict=True)
        )
    assert loader.signature["image"].dtype == "object"
    samples = list(loader.samples())
    assert [sample.key for sample in samples] == loader.keys()
    assert samples[0].fields["cls"] == samples[0].key[6:7].encode()


def test_label_modes(dataset, tmp_path):
    plain = next(iter(load(dataset)))[1]
    assert (plain.dtype, plain.shape) == (np.int64, (8,))
    hot = next(iter(load(dataset, label_mode="categorical")))[1]
    assert (hot.dtype, hot.shape) == (np.float32, (8, 3))
    assert hot.argmax(axis=1).tolist() == plain.tolist()
    assert hot.sum() == 8
    images = next(iter(load(dataset, label_mode=None)))
    assert images.shape == (8, 16, 16, 3)
    with pytest.raises(shardkit.ConfigError, match="needs two classes; there are 3"):
        load(dataset, label_mode="binary")
    two = make_dataset(tmp_path, 20, classes=2)
    flags = next(iter(load(two, label_mode="binary")))[1]
    assert (flags.dtype, flags.shape) == (np.float32, (8, 1))
    for mode, loader in {m: load(two, label_mode=m) for m in ("int", "categorical", "binary", None)}.items():
        batch = next(iter(loader.batches()))
        assert {n: (a.shape, str(a.dtype)) for n, a in batch.arrays.items()} == {
            n: (s.shape, s.dtype) for n, s in loader.signature.items()
        }, mode


def test_the_last_batch_is_short_and_never_padded_in_one_process(dataset):
    loader = load(dataset, shuffle=False)
    lengths = [len(batch) for batch in loader.batches()]
    assert lengths == [8] * 10 + [2]
    assert loader.signature["image"].shape == (None, 16, 16, 3)
    assert "sample_weight" not in loader.signature


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1"),
        ({"batch_size": 8.0}, "batch_size must be a whole number"),
        ({"batch_size": 100}, "82 samples, fewer than one batch of 100"),
        ({"split": "test"}, "there is no split 'test'.*train, val"),
        ({"shuffle": "yes"}, "shuffle must be True, False or 'global'"),
        ({"shuffle_buffer": "many"}, "shuffle_buffer must be a size"),
        ({"chunk_size": 0}, "chunk_size must be a whole number"),
        ({"lanes": 0}, "lanes must be"),
        ({"seed": -1}, "seed must be"),
        ({"rank": 2, "world_size": 2}, "rank must be from 0 to world_size - 1"),
        ({"image_size": (0, 4)}, "image_size"),
        ({"color_mode": "cmyk"}, "color_mode"),
        ({"label_mode": "float"}, "label_mode"),
        ({"threads": 0}, "threads must be"),
        ({"on_error": "ignore"}, "on_error must be"),
        ({"drop_remainder": "no"}, "drop_remainder must be True, False or None"),
        ({"crop_to_aspect_ratio": "no"}, "crop_to_aspect_ratio must be"),
        ({"rank": "0"}, "rank and world_size must be whole numbers"),
        ({"world_size": 2.0}, "rank and world_size must be whole numbers"),
        ({"shuffle": [1]}, "shuffle must be"),
        ({"label_mode": ["int"]}, "label_mode must be"),
        ({"decode": False, "image_size": "small"}, "image_size must be"),
        ({"bach_size": 3}, "no setting bach_size.*batch_size"),
    ],
)
def test_a_wrong_setting_is_named(dataset, options, reason):
    with pytest.raises(shardkit.ConfigError, match=reason):
        load(dataset, **options)


@pytest.fixture
def nothing_before():
    """Dropped iterators of other tests may still be ending."""
    gc.collect()
    wait_until_gone(60)


def wait_until_gone(seconds=5):
    """Dropped iterators are not waited for, since the garbage collector may drop them anywhere."""
    deadline = time.monotonic() + seconds
    while (ours() or open_shards()) and time.monotonic() < deadline:
        time.sleep(0.01)


def ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith("shardkit")]


def open_shards():
    links = (
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    )
    return [link for link in links if link.endswith(".tar")]


@pytest.mark.usefixtures("nothing_before")
def test_an_iteration_that_ends_leaves_nothing(dataset):
    loader = load(dataset)
    iterator = loader.batches()
    assert len(list(iterator)) == 10
    assert ours() == []
    assert open_shards() == []


@pytest.mark.usefixtures("nothing_before")
@pytest.mark.parametrize("how", ["break", "exception", "close", "drop"])
def test_an_iteration_that_is_left_leaves_nothing(dataset, how):
    loader = load(dataset)
    iterator = loader.batches()
    next(iterator)
    assert ours()
    if how == "break":
        for _ in iterator:
            break
        del iterator
    elif how == "exception":
        try:
            for _ in iterator:
                raise ValueError("in the training step")
        except ValueError:
            del iterator
    elif how == "close":
        iterator.close()
        assert list(iterator) == []
    else:
        del iterator
        gc.collect()
    if how != "close":
        wait_until_gone()
    assert ours() == []
    assert open_shards() == []


@pytest.mark.usefixtures("nothing_before")
def test_an_iterator_that_lies_about_keeps_no_thread_for_long(dataset):
    iterator = load(dataset).batches()
    next(iterator)
    deadline = time.monotonic() + 10
    while ours() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ours() == []
    assert open_shards() == []
    assert len(list(iterator)) == 9


def test_the_interpreter_ends_while_dropped_iterators_still_decode(tmp_path):
    """Threads that the end of the interpreter stops by force within a decoder take the process with them."""
    dataset = make_dataset(tmp_path, 40, size=700)
    script = (
        "import shardkit\n"
        f"loader = shardkit.Loader({str(dataset)!r}, batch_size=2, image_size=(600, 600), threads=4)\n"
        "for _ in range(3):\n"
        "    for batch in loader:\n"
        "        break\n"
        "del batch\n"
    )
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "ending", ["", "raise SystemExit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGINT)"]
)
def test_the_interpreter_ends_with_a_live_iterator(dataset, ending):
    script = (
        "import shardkit\n"
        f"iterator = shardkit.Loader({str(dataset)!r}, batch_size=8, image_size=(16, 16), shuffle=True).batches()\n"
        f"next(iterator)\n{ending}\n"
    )
    # Where a thread dies within a library, faulthandler says which and where.
    command = [sys.executable, "-X", "faulthandler", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == {"": 0, "raise SystemExit(3)": 3}.get(ending, -2)
    assert "Fatal" not in done.stderr
    assert "shardkit-decode" not in done.stderr


def test_iterators_in_reference_cycles_are_collected_anywhere_without_a_hang(dataset):
    import gc as collector

    loader = load(dataset, batch_size=4, threads=4)
    old = collector.get_threshold()
    collector.set_threshold(5, 2, 2)
    try:
        for round_ in range(40):
            iterator = loader.batches(round_)
            next(iterator)
            cycle = {"iterator": iterator}
            cycle["itself"] = cycle
            del iterator, cycle
        assert seen(loader, 0) == seen(load(dataset, batch_size=4), 0)
    finally:
        collector.set_threshold(*old)
    collector.collect()
    wait_until_gone()
    assert ours() == []


def test_ctrl_c_is_a_keyboard_interrupt_wherever_it_comes(dataset):
    script = f"""
import _thread, random, threading, time, shardkit
loader = shardkit.Loader({str(dataset)!r}, batch_size=4, image_size=(16, 16), shuffle=True, threads=3)
rng = random.Random(0)
kinds = {{}}
for number in range(150):
    timer = threading.Timer(rng.uniform(0.0, 0.02), _thread.interrupt_main)
    try:
        timer.start()
        for epoch in range(100):
            for batch in loader.batches(epoch):
                pass
    except BaseException as exc:
        kinds[type(exc).__name__] = kinds.get(type(exc).__name__, 0) + 1
    timer.join()
time.sleep(0.5)
print(kinds, [t.name for t in threading.enumerate() if t.name.startswith("shardkit")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "{'KeyboardInterrupt': 150} []", done.stdout + done.stderr


def test_after_an_error_the_loader_gives_the_right_samples(dataset, tmp_path):
    import shutil

    copied = tmp_path / "copy"
    shutil.copytree(dataset, copied)
    whole = load(copied)
    expected = [(batch.keys, numbers_in(batch.arrays["image"])) for batch in whole.batches(1)]
    for name in ("train-000001.tar", "train-000002.parquet"):
        loader = load(copied)
        (copied / name).rename(tmp_path / name)
        with pytest.raises(shardkit.FormatError):
            list(loader.batches(0))
        (tmp_path / name).rename(copied / name)
        assert [(batch.keys, numbers_in(batch.arrays["image"])) for batch in loader.batches(1)] == expected


def test_two_iterations_at_once_do_not_disturb_each_other(dataset):
    loader = load(dataset)
    for left, right in zip(loader.batches(0), loader.batches(1), strict=True):
        np.testing.assert_array_equal(left.labels, [int(key[6]) for key in left.keys])
        np.testing.assert_array_equal(right.labels, [int(key[6]) for key in right.keys])
    assert seen(loader, 0) != seen(loader, 1)


def test_arrays_handed_out_are_not_written_again(dataset):
    loader = load(dataset)
    kept = [(batch.arrays["image"], batch.arrays["image"].copy()) for batch in loader.batches()]
    list(loader.batches(1))
    assert all((array == copy).all() for array, copy in kept)


def damaged(dataset, tmp_path, keep):
    """A copy of a data set in which the picture with this number in its key has other bytes."""
    import shutil

    copied = tmp_path / "damaged"
    shutil.copytree(dataset, copied)
    picture = (dataset.parent / "pictures" / f"{keep}.png").read_bytes()
    for shard in copied.glob("*.tar"):
        data = shard.read_bytes()
        at = data.find(picture)
        if at >= 0:
            shard.write_bytes(data[: at + 40] + bytes([data[at + 40] ^ 1]) + data[at + 41 :])
            return copied, shard.name, at
    raise AssertionError("no such picture")


def test_a_flipped_bit_is_an_error_that_names_the_place(dataset, tmp_path):
    key = load(dataset).keys()[30]
    copied, shard, offset = damaged(dataset, tmp_path, key)
    with pytest.raises(shardkit.FormatError) as caught:
        seen(load(copied))
    assert (caught.value.shard, caught.value.offset) == (shard, offset)
    assert (caught.value.key, caught.value.field) == (key, "image")
    assert ours() == []


def whole_step(loader, key):
    return loader.find(key)[0].step


def test_a_bad_sample_can_be_skipped_and_is_counted(dataset, tmp_path):
    loader = load(dataset)
    key = loader.keys()[30]
    copied, _, _ = damaged(dataset, tmp_path, key)
    for world_size in (1, 2):
        for rank in range(world_size):
            whole = load(dataset, rank=rank, world_size=world_size)
            skipping = load(copied, on_error="skip", rank=rank, world_size=world_size)
            for good, batch in zip(seen(whole), seen(skipping), strict=True):
                if int(key[-5:]) in good:
                    assert set(batch) == set(good) - {int(key[-5:])}
                    assert len(batch) == len(good)
                    assert [
                        int(name[-5:]) for name in next(iter(skipping.batches(0, whole_step(whole, key)))).keys
                    ] == batch
                    assert len(skipping.skipped) == 1
                    assert key in skipping.skipped[0]
                else:
                    assert batch == good
    with pytest.raises(shardkit.FormatError) as caught:
        seen(load(copied, on_error="skip", max_skipped=0))
    assert "1 bad samples are more than max_skipped=0" in caught.value.__notes__[0]
    assert caught.value.key == key
    skipping = load(copied, on_error="skip", max_skipped=1)
    for epoch in range(5):
        for batch in skipping.batches(epoch):
            numbers = numbers_in(batch.arrays["image"])
            assert [int(name[-5:]) for name in batch.keys] == numbers
            assert batch.labels.tolist() == [number % 3 for number in numbers]
    assert len(skipping.skipped) == 1, "the same bad sample counts once"
    assert key not in [sample.key for sample in skipping.samples()]
    assert len(list(skipping.samples())) == 79


@pytest.mark.parametrize("change", [Path.unlink, lambda path: os.truncate(path, 5000)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_all_samples_of_a_cut_or_missing_shard_can_be_skipped(dataset, tmp_path, change, shuffle):
    copied = shutil.copytree(dataset, tmp_path / "copy")
    change(sorted(copied.glob("*.tar"))[1])
    whole, skipping = load(dataset, shuffle=shuffle), load(copied, shuffle=shuffle, on_error="skip")
    found = {key for batch in skipping.batches() for key in batch.keys}
    lost = set(whole.keys()) - found
    in_shard = int(open_dataset(dataset).shards.num_samples[1])
    assert 0 < len(lost) <= in_shard
    assert len(skipping.skipped) == len(lost)
    assert all("train-000001.tar" in line for line in skipping.skipped)
    # Rows that were given to others have the image, key and label of those, wherever the iteration begins.
    for batch in skipping.batches():
        assert [int(key[-5:]) for key in batch.keys] == numbers_in(batch.arrays["image"])
        assert batch.labels.tolist() == [int(key[-5:]) % 3 for key in batch.keys]
        again = skipping.batch(0, batch.step)
        assert np.array_equal(again.arrays["image"], batch.arrays["image"])
        assert again.keys == batch.keys


def test_where_nothing_can_be_read_skipping_ends_with_an_error(dataset, tmp_path):
    copied = shutil.copytree(dataset, tmp_path / "copy")
    for shard in copied.glob("*.tar"):
        os.truncate(shard, 100)
    with pytest.raises(shardkit.FormatError, match="no sample of the epoch can be read"):
        seen(load(copied, on_error="skip"))
    with pytest.raises(shardkit.FormatError, match="instead of") as caught:
        seen(load(copied, on_error="skip", max_skipped=20))
    assert "bad samples are more than max_skipped=20" in caught.value.__notes__[0]


def test_a_shard_cut_or_flipped_is_an_error_or_the_same_data(tmp_path):
    dataset = make_dataset(tmp_path, 12, shard_samples=None)
    shard = dataset / "train-000000.tar"
    whole = shard.read_bytes()
    expected = [(batch.keys, batch.arrays["image"].tobytes()) for batch in load(dataset).batches()]
    rng = random.Random(0)
    cuts = [*range(0, len(whole), 512), *(rng.randrange(len(whole)) for _ in range(200))]
    for cut in cuts:
        shard.write_bytes(whole[:cut])
        with pytest.raises(shardkit.FormatError) as caught:
            list(load(dataset).batches())
        assert (caught.value.shard, caught.value.offset) == ("train-000000.tar", cut)
        assert shardkit.verify(dataset).problems[0].shard == "train-000000.tar"
    same = 0
    for _ in range(200):
        at, bit = rng.randrange(len(whole)), 1 << rng.randrange(8)
        shard.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
        try:
            found = [(batch.keys, batch.arrays["image"].tobytes()) for batch in load(dataset).batches()]
        except shardkit.FormatError as exc:
            assert exc.shard == "train-000000.tar"
            assert 0 <= exc.offset <= at
        else:
            assert found == expected
            same += 1
        assert len(shardkit.verify(dataset).problems) == 1, "verify sees every flipped bit"
    assert 0 < same < 200


def test_what_is_missing_is_told_apart(dataset, tmp_path):
    import shutil

    for name, error, reason in (
        ("manifest.json", shardkit.ManifestError, "no data set here"),
        ("shards.parquet", shardkit.ManifestError, "table of shards is missing"),
        ("train-000001.parquet", shardkit.ManifestError, "sample table is missing"),
        ("train-000001.tar", shardkit.FormatError, "shard is missing"),
    ):
        copied = tmp_path / name
        shutil.copytree(dataset, copied)
        (copied / name).unlink()
        with pytest.raises(error, match=reason):
            seen(load(copied))


def test_tables_that_were_tampered_with_are_refused(dataset, tmp_path):
    import shutil

    rng = random.Random(0)
    expected = seen(load(dataset)), load(dataset).keys()
    for name in ("shards.parquet", "train-000001.parquet", "manifest.json"):
        whole = (dataset / name).read_bytes()
        copied = tmp_path / name
        shutil.copytree(dataset, copied)
        for _ in range(40):
            at = rng.randrange(len(whole))
            (copied / name).write_bytes(whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :])
            try:
                found = seen(load(copied)), load(copied).keys()
            except shardkit.ShardkitError:
                continue
            assert found == expected

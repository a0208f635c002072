"""Packing into buckets and training from them: as on the disk, bit for bit."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from urllib.parse import unquote

import numpy as np
import pytest
from pictures import make_dataset, tree, write_pictures
from remote import batches_of, same_batches
from servers.fault import FaultServer, Mix, Rule
from servers.modes import Reset, Stall, Status

import shardkit
from shardkit.errors import ConfigError, StorageError
from shardkit.manifest.verify import verify
from shardkit.storage import StoreOptions, object_lock, open_store

WRITABLE = ["seaweedfs", "azurite"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """240 pictures in 10 shards; the pictures lie beside it."""
    return make_dataset(tmp_path_factory.mktemp("cloud"), 240)


@pytest.fixture
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def place(server, request):
    """A URL that no other test uses, and how to get there."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return f"{server.url}/{name}", server.storage_options


def objects_of(url, options):
    store = open_store(url, StoreOptions(storage_options=options))
    return {name: store.read(name) for name in store.names()}


@pytest.mark.parametrize("server", WRITABLE, indirect=True)
@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_bytes_in_a_bucket(dataset, place, workers):
    url, options = place
    result = shardkit.pack(dataset.parent / "pictures", url, shard_samples=25, workers=workers, storage_options=options)
    assert result.dest == url
    assert objects_of(url, options) == tree(dataset)
    assert verify(url, storage_options=options).problems == ()
    again = shardkit.pack(dataset.parent / "pictures", url, shard_samples=25, storage_options=options)
    assert again.already_packed
    with pytest.raises(ConfigError, match="other pictures or options"):
        shardkit.pack(dataset.parent / "pictures", url, shard_samples=24, storage_options=options)
    shardkit.pack(dataset.parent / "pictures", url, shard_samples=100, storage_options=options, overwrite=True)
    assert len(objects_of(url, options)) == 2 * 3 + 2


def test_large_shards_go_in_parts(seaweedfs, tmp_path):
    source = write_pictures(tmp_path / "large", 24, size=1000)
    options = {"storage_options": seaweedfs.storage_options, "workers": 1}
    shardkit.pack(source, f"{seaweedfs.url}/large", **options)
    shardkit.pack(source, tmp_path / "shards", workers=1)
    assert objects_of(f"{seaweedfs.url}/large", seaweedfs.storage_options) == tree(tmp_path / "shards")
    assert (tmp_path / "shards" / "train-000000.tar").stat().st_size > 2**25


@pytest.mark.parametrize("name", ["seaweedfs", "azurite", "gcs", "nginx"])
def test_the_same_batches_from_everywhere_by_ranges_alone(dataset, name, request):
    server = request.getfixturevalue(name)
    options = {}
    if name == "nginx":
        shutil.copytree(dataset, server.root / "data")
        url = server.url + "data"
    elif name == "gcs":
        server.upload(dataset, prefix="same/")
        url = f"{server.url}/same"
    else:
        url = f"{server.url}/same"
        shardkit.pack(
            dataset.parent / "pictures", url, shard_samples=25, workers=1, storage_options=server.storage_options
        )
    if name == "nginx":
        for epoch in range(2):
            assert same_batches(batches_of(url, epoch), batches_of(dataset, epoch))
        asked = [(found.path, found.range) for found in server.requests()]
    else:
        with FaultServer(f"127.0.0.1:{server.port}") as proxy:
            options = server.through(proxy.port).storage_options
            for epoch in range(2):
                assert same_batches(batches_of(url, epoch, storage_options=options), batches_of(dataset, epoch))
            asked = [(found.path, found.range) for found in proxy.requests]
    shards = [found for found in asked if unquote(found[0]).endswith(".tar")]
    assert shards
    assert all(found[1] for found in shards)


def test_raw_samples_from_a_bucket(tmp_path, seaweedfs):
    source = write_pictures(tmp_path / "pictures", 3000, size=32)
    how = {"store": "raw", "image_size": (32, 32), "workers": 1, "shard_size": "4MiB"}
    shardkit.pack(source, tmp_path / "shards", **how)
    url = f"{seaweedfs.url}/raw"
    shardkit.pack(source, url, storage_options=seaweedfs.storage_options, **how)
    for options in ({}, {"shuffle_buffer": 600}, {"shuffle": False}):
        options = {"image_size": None, "batch_size": 100, "chunk_size": "300kB", **options}
        found = batches_of(url, storage_options=seaweedfs.storage_options, **options)
        assert same_batches(found, batches_of(tmp_path / "shards", **options))


@pytest.mark.parametrize("server", WRITABLE, indirect=True)
def test_packing_over_a_bad_network(dataset, server, place):
    url, _ = place
    mix = Mix(
        [(0.05, Reset()), (0.05, Status(503)), (0.03, Stall()), (0.05, Reset(carried_out=True))],
        seed=3,
    )
    with FaultServer(f"127.0.0.1:{server.port}", mix) as proxy:
        options = server.through(proxy.port).storage_options
        shardkit.pack(
            dataset.parent / "pictures", url, shard_samples=25, workers=1, storage_options=options, timeout=1.0
        )
        assert sum(request.fault is not None for request in proxy.requests) > 3
    assert objects_of(url, server.storage_options) == tree(dataset)


@pytest.mark.parametrize("server", ["seaweedfs"], indirect=True)
@pytest.mark.parametrize(
    "path", ["*/train-000005.tar", "*/train-000005.parquet", "*/shards.parquet", "*/manifest.json"]
)
def test_packing_that_fails_leaves_nothing_that_looks_like_a_data_set(dataset, server, place, path):
    url, options = place
    how = {"shard_samples": 25, "workers": 1}
    rule = Rule(fault=Status(403), path=path, methods=("PUT", "POST"))
    with FaultServer(f"127.0.0.1:{server.port}", rule) as proxy:
        through = server.through(proxy.port).storage_options
        with pytest.raises(StorageError, match="access is refused"):
            shardkit.pack(dataset.parent / "pictures", url, storage_options=through, **how)
    there = objects_of(url, options)
    assert "manifest.json" not in there
    assert path.removeprefix("*/") not in there
    with pytest.raises(shardkit.ShardkitError, match="no data set here"):
        shardkit.Loader(url, storage_options=options)
    result = shardkit.pack(dataset.parent / "pictures", url, storage_options=options, **how)
    assert result.num_kept_shards >= 5
    assert objects_of(url, options) == tree(dataset)


@pytest.mark.parametrize("server", WRITABLE, indirect=True)
@pytest.mark.parametrize("workers", [1, 3])
def test_packing_ends_soon_when_the_place_refuses(dataset, server, place, workers):
    url, _ = place
    rule = Rule(fault=Status(403), path="*.tar", methods=("PUT", "POST"), skip=2)
    with FaultServer(f"127.0.0.1:{server.port}", rule) as proxy:
        options = server.through(proxy.port).storage_options
        with pytest.raises(StorageError, match="access is refused"):
            shardkit.pack(dataset.parent / "pictures", url, shard_samples=5, workers=workers, storage_options=options)
        refused = {request.path for request in proxy.requests if request.fault is not None}
    # Of 48: one for each worker, and those that were begun before the first answer was heard of.
    assert 1 <= len(refused) <= 3 * workers


@pytest.mark.parametrize("server", WRITABLE, indirect=True)
@pytest.mark.parametrize(
    ("code", "said"), [(401, "refused"), (403, "refused"), (404, "no data set here"), (400, "400")]
)
def test_a_bucket_that_refuses_is_asked_once(dataset, server, place, code, said):
    url, options = place
    shardkit.pack(dataset.parent / "pictures", url, shard_samples=25, workers=1, storage_options=options)
    with FaultServer(f"127.0.0.1:{server.port}", Rule(fault=Status(code), path="*/manifest.json")) as proxy:
        with pytest.raises(shardkit.ShardkitError, match=said):
            batches_of(url, storage_options=server.through(proxy.port).storage_options)
        assert [request.path.endswith("/manifest.json") for request in proxy.requests].count(True) == 1


LARGE = random.Random(3).randbytes(20 * 2**20)  # three parts


def put(store, name, data):
    with store.write(name) as writer:
        for start in range(0, len(data), 2**20):
            writer.write(data[start : start + 2**20])


@pytest.mark.parametrize("server", WRITABLE, indirect=True)
def test_what_takes_long_to_send_is_no_silence(server, place):
    url, _ = place
    with FaultServer(f"127.0.0.1:{server.port}", Rule(fault=Stall(seconds=2.0), methods=("PUT",))) as proxy:
        options = StoreOptions(storage_options=server.through(proxy.port).storage_options, timeout=0.5, retries=0)
        store = open_store(url, options)
        for data in (LARGE, LARGE[: 2**20]):
            put(store, "large", data)
            assert store.read_range("large", 0, len(data)) == data


@pytest.mark.parametrize("server", WRITABLE, indirect=True)
def test_an_upload_in_parts_over_a_bad_network(server, place):
    url, _ = place
    mix = Mix([(0.2, Reset()), (0.2, Status(503)), (0.1, Reset(carried_out=True))], seed=2)

    def of_a_part(request):
        """Parts alone: what an upload ends with is in a test of its own."""
        asked = request.target.lower()
        found = mix(request)
        return found if "partnumber" in asked or ("comp=block" in asked and "blocklist" not in asked) else None

    with FaultServer(f"127.0.0.1:{server.port}", of_a_part) as proxy:
        store = open_store(url, StoreOptions(storage_options=server.through(proxy.port).storage_options))
        for number in range(4):
            put(store, f"large-{number}", LARGE)
        assert sum(request.fault is not None for request in proxy.requests) > 2
    assert set(objects_of(url, server.storage_options).values()) == {LARGE}


@pytest.mark.parametrize("server", WRITABLE, indirect=True)
def test_an_upload_whose_last_answer_is_lost_is_known_to_be_whole(server, place):
    url, _ = place

    def ends_an_upload(request):
        asked = request.target.lower()
        return (request.method == "POST" and "uploadid=" in asked) or "comp=blocklist" in asked

    lost = Rule(fault=Reset(carried_out=True), when=ends_an_upload, times=1)
    with FaultServer(f"127.0.0.1:{server.port}", lost) as proxy:
        store = open_store(url, StoreOptions(storage_options=server.through(proxy.port).storage_options))
        put(store, "large", LARGE)
        assert sum(request.fault is not None for request in proxy.requests) == 1
    assert objects_of(url, server.storage_options) == {"large": LARGE}


def test_an_upload_that_fails_at_its_end_has_failed(seaweedfs):
    url = f"{seaweedfs.url}/end"
    refused = Rule(fault=Status(403), methods=("POST",), when=lambda request: "uploadid=" in request.target.lower())
    with FaultServer(f"127.0.0.1:{seaweedfs.port}", refused) as proxy:
        store = open_store(url, StoreOptions(storage_options=seaweedfs.through(proxy.port).storage_options))
        with pytest.raises(StorageError, match="access is refused"):
            put(store, "large", LARGE)
    assert objects_of(url, seaweedfs.storage_options) == {}


def test_an_upload_that_fails_midway_is_called_off(seaweedfs):
    url = f"{seaweedfs.url}/midway"
    second = Rule(fault=Status(403), when=lambda request: "partnumber=2" in request.target.lower())
    with FaultServer(f"127.0.0.1:{seaweedfs.port}", second) as proxy:
        store = open_store(url, StoreOptions(storage_options=seaweedfs.through(proxy.port).storage_options))
        with pytest.raises(StorageError, match="access is refused"):
            put(store, "large", LARGE)
        ended = [request for request in proxy.requests if "uploadid" in request.target.lower()]
    assert ended[-1].method == "DELETE"
    assert objects_of(url, seaweedfs.storage_options) == {}


@pytest.mark.parametrize("damage", ["missing", "cut", "longer"])
def test_unpacking_what_is_damaged_in_a_bucket_names_the_shard(dataset, seaweedfs, tmp_path, damage):
    url, options = f"{seaweedfs.url}/damaged-{damage}", seaweedfs.storage_options
    shardkit.pack(dataset.parent / "pictures", url, shard_samples=25, workers=1, storage_options=options)
    store = open_store(url, StoreOptions(storage_options=options))
    data = store.read("train-000003.tar")
    if damage == "missing":
        store.delete("train-000003.tar")
    else:
        put(store, "train-000003.tar", data[:1000] if damage == "cut" else data + bytes(1024))
    with pytest.raises(StorageError, match="train-000003.tar"):
        shardkit.unpack(url, tmp_path / "out", storage_options=options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"endpoint": "127.0.0.1:9"}, "begins with http:// or https://.*endpoint"),
        ({"aws_endpoint_url": "localhost"}, "begins with http:// or https://.*aws_endpoint_url"),
        ({"endpont": "http://127.0.0.1:9"}, "a storage option is wrong: .*endpont"),
        ({"skip_signature": "perhaps"}, "a storage option is wrong: .*value skip_signature"),
        ({"retries": "1"}, "retries is no storage option"),
    ],
)
def test_wrong_options_are_said_in_a_line(options, said):
    usual = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}
    with pytest.raises(ConfigError, match=said) as caught:
        shardkit.Loader("s3://bucket/x", storage_options={**usual, **options})
    assert "Debug" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [("s3://bucket//x", "empty part"), ("s3:/bucket/x", "two slashes"), ("https:/host/x", "two slashes")],
)
def test_mistyped_urls_are_said_to_be_so(url, said):
    with pytest.raises(ConfigError, match=said):
        shardkit.Loader(url, storage_options={"skip_signature": "true"})


@pytest.mark.parametrize("url", ["s3://bucket/x", "s3:/bucket/x"])
def test_where_only_a_path_may_stand_a_url_is_refused(dataset, url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="a path of this machine, and no URL"):
        shardkit.unpack(dataset, url)
    with pytest.raises(ConfigError, match="a path of this machine, and no URL"):
        shardkit.pack(url, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_lock_is_renewed_though_an_answer_is_lost(seaweedfs, monkeypatch):
    monkeypatch.setattr(object_lock, "RENEWED_EVERY_S", 0.2)
    url = f"{seaweedfs.url}/renewed"
    lost = Rule(fault=Reset(carried_out=True), path="*/shardkit-lock.json", methods=("PUT",), skip=2, times=2)
    with FaultServer(f"127.0.0.1:{seaweedfs.port}", lost) as proxy:
        store = open_store(url, StoreOptions(storage_options=seaweedfs.through(proxy.port).storage_options))
        with store.lock():
            until, versions = time.monotonic() + 30, set()
            while len(versions) < 8 and time.monotonic() < until:
                versions.add(store.read("shardkit-lock.json"))
                time.sleep(0.05)
            assert len(versions) == 8
        assert sum(request.fault is not None for request in proxy.requests) == 2
    assert objects_of(url, seaweedfs.storage_options) == {}


@pytest.mark.parametrize("owner", [{}, {"host": "elsewhere"}, {"host": os.uname().nodename, "machine": "a container"}])
def test_a_lock_that_nobody_renews_is_taken_over_after_a_while(seaweedfs, monkeypatch, owner):
    monkeypatch.setattr(object_lock, "_WATCHED_S", 2.0)
    store = open_store(f"{seaweedfs.url}/left", StoreOptions(storage_options=seaweedfs.storage_options))
    # No process of this machine has that number, but of others nobody knows.
    put(store, "shardkit-lock.json", json.dumps({"process": 2**22 + 1, "token": "another's", **owner}).encode())
    started = time.monotonic()
    with store.lock():
        assert time.monotonic() - started >= 2.0
    assert list(store.names()) == []


@pytest.mark.slow
def test_packing_that_is_killed_goes_on(dataset, seaweedfs):
    url = f"{seaweedfs.url}/killed"
    command = [sys.executable, "-m", "shardkit.cli", "pack", str(dataset.parent / "pictures"), url]
    command += ["--shard-samples", "25", "--workers", "2"]
    for name, value in seaweedfs.storage_options.items():
        command += ["--storage-option", f"{name}={value}"]
    chance = random.Random(1)
    with FaultServer(f"127.0.0.1:{seaweedfs.port}", latency=0.05) as proxy:
        slow = [text.replace(str(seaweedfs.port), str(proxy.port)) for text in command]
        for _ in range(6):
            process = subprocess.Popen(slow, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            time.sleep(chance.uniform(0.5, 3.0))
            process.kill()
            process.communicate()
            assert set(objects_of(url, seaweedfs.storage_options)) <= {*tree(dataset), "unfinished.json"}
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    assert objects_of(url, seaweedfs.storage_options) == tree(dataset)


def test_two_packers_do_not_write_into_one_place(dataset, seaweedfs):
    url = f"{seaweedfs.url}/two"
    store = open_store(url, StoreOptions(storage_options=seaweedfs.storage_options))
    with store.lock(), pytest.raises(ConfigError, match=f"another run is writing there: process {os.getpid()} on"):
        shardkit.pack(dataset.parent / "pictures", url, storage_options=seaweedfs.storage_options)


@pytest.mark.slow
def test_a_fit_over_a_bad_network_sees_every_sample(tmp_path, seaweedfs):
    keras = pytest.importorskip("keras")
    source = write_pictures(tmp_path / "pictures", 2000, classes=10)
    url = f"{seaweedfs.url}/fit"
    shardkit.pack(source, url, shard_samples=100, storage_options=seaweedfs.storage_options)
    shardkit.pack(source, tmp_path / "shards", shard_samples=100)
    mix = Mix(
        [
            (0.02, lambda chance: Reset(after=chance.random())),
            (0.02, Status(503)),
            (0.02, lambda chance: Stall(after=chance.random())),
        ],
        seed=5,
    )

    class Seen(keras.layers.Layer):
        """Adds up what comes by, by the picture's number in its first row."""

        def build(self, shape):
            self.counts = self.add_weight(shape=(2000,), initializer="zeros", trainable=False, dtype="int32")

        def call(self, images, training=None):
            if training:
                numbers = keras.ops.cast(images[:, 0, 0, 0], "int32") * 256 + keras.ops.cast(
                    images[:, 0, 0, 1], "int32"
                )
                self.counts.assign_add(keras.ops.sum(keras.ops.one_hot(numbers, 2000, dtype="int32"), axis=0))
            return keras.ops.cast(images, "float32")

    seen = Seen()
    model = keras.Sequential([seen, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    options = {"batch_size": 50, "image_size": (16, 16), "shuffle": True, "chunk_size": 10, "shuffle_buffer": 400}
    with FaultServer(f"127.0.0.1:{seaweedfs.port}", mix) as proxy:
        through = seaweedfs.through(proxy.port).storage_options
        train = shardkit.Loader(url, storage_options=through, timeout=1.0, **options)
        model.fit(shardkit.to_keras(train), epochs=2, verbose=0)
        assert {type(request.fault) for request in proxy.requests} == {type(None), Reset, Status, Stall}
    assert np.array_equal(np.asarray(seen.counts), np.full(2000, 2))


@pytest.mark.slow
def test_a_run_that_is_saved_in_a_bucket_goes_on(dataset, seaweedfs, tmp_path):
    keras = pytest.importorskip("keras")
    url = f"{seaweedfs.url}/runs/one"

    def run(directory, epochs, **options):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        train = shardkit.Loader(dataset, batch_size=24, image_size=(16, 16), shuffle=True)
        resume = shardkit.Resume(train, directory, **options)
        return model.fit(shardkit.to_keras(train), epochs=epochs, verbose=0, callbacks=[resume]).history["loss"]

    options = {"storage_options": seaweedfs.storage_options}
    stopped = run(url, 1, **options)
    assert stopped + run(url, 2, **options)[-1:] == run(tmp_path / "whole", 2)
    with FaultServer(f"127.0.0.1:{seaweedfs.port}", Rule(fault=Status(403))) as proxy, pytest.raises(StorageError):
        run(url, 2, storage_options=seaweedfs.through(proxy.port).storage_options)


def test_a_killed_trainer_leaves_nothing_behind_on_this_machine(seaweedfs, dataset, tmp_path):
    url = f"{seaweedfs.url}/trainer"
    shardkit.pack(
        dataset.parent / "pictures", url, shard_samples=25, workers=1, storage_options=seaweedfs.storage_options
    )
    code = (
        "import shardkit, sys, time\n"
        f"loader = shardkit.Loader({url!r}, storage_options={seaweedfs.storage_options!r}, batch_size=8,"
        " image_size=(16, 16))\n"
        # Not one long sleep: a signal that comes just before Python begins it does not end it.
        "batches = iter(loader)\nnext(batches)\nprint('on', flush=True)\nfor _ in range(600):\n    time.sleep(0.1)\n"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    for end in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        )
        assert process.stdout.readline() == b"on\n"
        started = time.monotonic()
        process.send_signal(end)
        process.communicate(timeout=30)
        assert time.monotonic() - started < 30
        assert process.returncode == -end
    assert list(tmp_path.iterdir()) == []

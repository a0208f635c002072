"""Loading through the cache: fetched once, shared, and never in the way."""

import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest
from pictures import write_pictures
from remote import batches_of, same_batches, served
from servers import modes
from servers.fault import Rule

import shardkit
from shardkit.errors import ConfigError, ShardkitWarning
from shardkit.storage.cache import cached_data_sets
from shardkit.storage.cache_entry import BLOCK_BYTES

READER = """
import json, sys
import shardkit
url, cache, epochs = sys.argv[1:]
loader = shardkit.Loader(url, batch_size=8, image_size=(16, 16), shuffle=True, cache=cache, timeout=5.0)
for epoch in range(int(epochs)):
    for batch in loader.batches(epoch):
        print(json.dumps([epoch, batch.step, batch.keys, int(batch.arrays["image"].sum())]), flush=True)
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """600 pictures in 3 shards of a few blocks each."""
    folder = tmp_path_factory.mktemp("cached")
    source = write_pictures(folder / "pictures", 600, size=40)
    shardkit.pack(source, folder / "shards", shard_samples=200, workers=1)
    assert (folder / "shards" / "train-000000.tar").stat().st_size > 4 * BLOCK_BYTES
    return folder / "shards"


@pytest.fixture(scope="module")
def expected(dataset):
    return [batches_of(dataset, epoch) for epoch in range(2)]


def shard_bytes(dataset):
    return sum(path.stat().st_size for path in dataset.glob("*.tar"))


def sent(server):
    return sum(request.sent for request in server.requests if request.path.endswith(".tar"))


def reader(url, cache, epochs=1):
    command = [sys.executable, "-c", READER, url, str(cache), str(epochs)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "options", [{}, {"decode": False, "image_size": None}, {"shuffle": "global"}, {"shuffle": False}]
)
def test_what_was_fetched_is_fetched_once(dataset, tmp_path, options):
    with served(dataset) as server:
        for epoch in range(2):
            found = batches_of(server.url, epoch, cache=tmp_path / "cache", **options)
            assert same_batches(found, batches_of(dataset, epoch, **options))
        assert sent(server) <= shard_bytes(dataset)
        server.forget()
        assert len(batches_of(server.url, 2, cache=tmp_path / "cache", **options)) == 75
        assert not [request for request in server.requests if request.path.endswith(".tar")]


def test_on_this_machine_s_own_data_sets_nothing_is_kept(dataset, expected, tmp_path):
    assert same_batches(batches_of(dataset, cache=tmp_path / "cache"), expected[0])
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_is_smaller_than_the_data_set(dataset, expected, tmp_path):
    limit = shard_bytes(dataset) * 2 // 3 + 3 * BLOCK_BYTES // 2
    with served(dataset) as server:
        for epoch in range(2):
            found = batches_of(server.url, epoch, cache=tmp_path / "cache", cache_limit=limit)
            assert same_batches(found, expected[epoch])
            [kept] = cached_data_sets(tmp_path / "cache")
            assert kept.num_objects == 2
            assert kept.disk_bytes <= limit
            assert sum(path.stat().st_size for path in (tmp_path / "cache" / kept.fingerprint).iterdir()) <= limit


def test_what_went_bad_in_the_cache_is_fetched_again_once(dataset, expected, tmp_path):
    with served(dataset) as server:
        batches_of(server.url, cache=tmp_path / "cache")
        [kept] = cached_data_sets(tmp_path / "cache")
        for path in (tmp_path / "cache" / kept.fingerprint).iterdir():
            if path.name != "lock":
                with path.open("r+b") as file:
                    file.seek(BLOCK_BYTES + 5000)
                    file.write(bytes(3000))
        server.forget()
        for epoch in range(2):
            assert same_batches(batches_of(server.url, epoch, cache=tmp_path / "cache"), expected[epoch])
        assert 0 < sent(server) <= 3 * 2 * BLOCK_BYTES


def test_a_cached_file_that_was_cut_is_filled_again(dataset, expected, tmp_path):
    with served(dataset) as server:
        loader = shardkit.Loader(
            server.url, batch_size=8, image_size=(16, 16), shuffle=True, cache=tmp_path / "cache", cache_limit="1GB"
        )
        assert len(list(loader.batches(0))) == 75
        [kept] = cached_data_sets(tmp_path / "cache")
        for path in (tmp_path / "cache" / kept.fingerprint).iterdir():
            os.truncate(path, path.stat().st_size // 2)
        found = [(batch.keys, *batch.arrays.values()) for batch in loader.batches(1)]
        assert same_batches(found, expected[1])


def test_a_cache_that_is_deleted_while_it_is_used(dataset, expected, tmp_path):
    with served(dataset) as server, warnings.catch_warnings():
        warnings.simplefilter("ignore", ShardkitWarning)
        loader = shardkit.Loader(server.url, batch_size=8, image_size=(16, 16), shuffle=True, cache=tmp_path / "cache")
        found = []
        for batch in loader.batches(0):
            if len(found) == 5:
                shutil.rmtree(tmp_path / "cache")
            found.append((batch.keys, *batch.arrays.values()))
        assert same_batches(found, expected[0])


def can_mount(folder):
    folder.mkdir()
    return (
        os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder]).returncode == 0
    )


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one mebibyte."""
    if not can_mount(tmp_path / "disk"):
        pytest.skip("nothing can be mounted here")
    (tmp_path / "disk").chmod(0o700)
    yield tmp_path / "disk"
    subprocess.run(["umount", "-l", tmp_path / "disk"], check=True)


def test_a_full_disk(dataset, expected, small_disk):
    with served(dataset) as server, pytest.warns(ShardkitWarning, match="not used any more: No space left on device"):
        assert same_batches(batches_of(server.url, cache=small_disk), expected[0])


def test_a_read_only_disk(dataset, expected, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with served(dataset) as server, pytest.warns(ShardkitWarning, match="not used any more: Read-only file system"):
        assert same_batches(batches_of(server.url, cache=small_disk), expected[0])


def test_a_folder_that_others_may_write_in_is_refused(dataset, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with served(dataset) as server, pytest.raises(ConfigError, match="nobody else may write"):
        batches_of(server.url, cache=tmp_path / "open")


def test_whoever_holds_up_all_others_is_not_waited_for(dataset, expected, tmp_path):
    """A process that was stopped while it held the folder's lock."""
    code = (
        "import fcntl, os, sys\n"
        f"descriptor = os.open({str(tmp_path / 'cache' / 'lock')!r}, os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(descriptor, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    (tmp_path / "cache").mkdir(mode=0o700)
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    started = time.monotonic()
    with served(dataset) as server, pytest.warns(ShardkitWarning, match="not used any more"):
        assert same_batches(batches_of(server.url, cache=tmp_path / "cache"), expected[0])
    assert time.monotonic() - started < 60
    holder.communicate("")


@pytest.mark.slow
def test_eight_processes_and_one_of_them_killed(dataset, tmp_path):
    with served(dataset, Rule(fault=modes.Stall(seconds=0.2), path="/*.tar")) as server:
        readers = [reader(server.url, tmp_path / "cache", 2) for _ in range(8)]
        # In the middle of its first fetches.
        server.wait_for(lambda requests: any(found.path.endswith(".tar") for found in requests), 60)
        time.sleep(0.1)
        readers[0].kill()
        readers[0].communicate()
        told = [process.communicate(timeout=120) for process in readers[1:]]
        assert [process.returncode for process in readers[1:]] == [0] * 7, told
        assert len({out for out, _ in told}) == 1
        assert len(told[0][0].splitlines()) == 150
        assert sent(server) <= 2 * shard_bytes(dataset)
        blocks = Counter()
        for request in server.requests:
            if request.path.endswith(".tar") and request.end == "whole":
                first, last = map(int, request.range.removeprefix("bytes=").split("-"))
                blocks.update((request.path, block) for block in range(first // BLOCK_BYTES, last // BLOCK_BYTES + 1))
        assert max(blocks.values()) <= 2


@pytest.mark.slow
def test_killed_at_any_moment_the_next_reads_all_right(dataset, expected, tmp_path):
    chance = random.Random(7)
    with served(dataset, Rule(fault=modes.Stall(after=0.5, seconds=0.05), path="/*.tar")) as server:
        for _ in range(12):
            process = reader(server.url, tmp_path / "cache")
            time.sleep(chance.uniform(0.3, 1.5))
            process.kill()
            process.communicate()
        found = batches_of(server.url, cache=tmp_path / "cache")
    assert same_batches(found, expected[0])
    assert {path.name for path in Path(tmp_path / "cache").iterdir()} <= {
        "lock",
        "used-bytes",
        cached_data_sets(tmp_path / "cache")[0].fingerprint,
    }

"""The cache: one object's blocks, room, and who may delete what."""

import fcntl
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from shardkit.errors import ConfigError, ShardkitWarning
from shardkit.storage import cache as cache_module
from shardkit.storage.cache import Cache, cached_data_sets, clear_cache, default_cache
from shardkit.storage.cache_entry import BLOCK_BYTES, Entry, file_bytes

ONE, TWO, THREE = "1" * 32, "2" * 32, "3" * 32
SIZE = 5 * BLOCK_BYTES + 17
DATA = random.Random(0).randbytes(SIZE)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", "10MB", ONE)


def entry_of(cache, digest="a" * 32, size=SIZE):
    return cache.entry(digest, size)


def fill(entry, start=0, stop=SIZE):
    while (claim := entry.claim(start, stop)) is not None:
        entry.write(claim, memoryview(DATA)[claim.start : claim.stop])
        entry.release(claim)


def test_what_was_written_is_there_and_nothing_else(cache):
    entry = entry_of(cache)
    assert not entry.has(0, 1)
    fill(entry, 2 * BLOCK_BYTES + 5, 3 * BLOCK_BYTES + 1)
    assert entry.has(2 * BLOCK_BYTES, 4 * BLOCK_BYTES)
    assert not entry.has(2 * BLOCK_BYTES - 1, 3 * BLOCK_BYTES)
    assert not entry.has(3 * BLOCK_BYTES, 4 * BLOCK_BYTES + 1)
    assert entry.read(3 * BLOCK_BYTES - 3, 3 * BLOCK_BYTES + 9) == DATA[3 * BLOCK_BYTES - 3 : 3 * BLOCK_BYTES + 9]
    fill(entry)
    assert entry.read(0, SIZE) == DATA


def test_claims_are_whole_blocks_that_are_missing(cache):
    entry = entry_of(cache)
    fill(entry, BLOCK_BYTES, BLOCK_BYTES + 1)
    first = entry.claim(10, SIZE)
    assert (first.start, first.stop) == (0, BLOCK_BYTES)
    second = entry.claim(10, SIZE)
    assert (second.start, second.stop) == (2 * BLOCK_BYTES, SIZE)
    assert entry.claim(0, SIZE) is None
    entry.release(second)
    assert entry.claim(0, SIZE) == second


def test_what_one_has_claimed_nobody_else_fetches(cache, tmp_path):
    mine, other = entry_of(cache), entry_of(Cache(tmp_path / "cache", "10MB", ONE))
    claim = mine.claim(0, SIZE)
    assert other.claim(0, SIZE) is None
    mine.write(claim, memoryview(DATA))
    mine.release(claim)
    assert other.claim(0, SIZE) is None
    assert other.has(0, SIZE)
    assert other.read(0, SIZE) == DATA


def test_what_the_dead_have_claimed_is_free(cache, tmp_path):
    entry = entry_of(cache)
    code = (
        "import os, sys\nfrom shardkit.storage.cache import Cache\n"
        f"entry = Cache({str(tmp_path / 'cache')!r}, '10MB', {ONE!r}).entry({'a' * 32!r}, {SIZE})\n"
        f"print(entry.claim(0, {SIZE}), flush=True)\nsys.stdin.read()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert "Claim" in child.stdout.readline()
    assert entry.claim(0, SIZE) is None
    child.kill()
    child.wait()
    assert entry.claim(0, SIZE).stop == SIZE
    child.stdin.close()
    child.stdout.close()


def test_what_came_out_wrong_is_fetched_again(cache):
    entry = entry_of(cache)
    fill(entry)
    entry.forget(BLOCK_BYTES + 1, BLOCK_BYTES + 2)
    assert entry.claim(0, SIZE).start == BLOCK_BYTES


@pytest.mark.parametrize("length", [0, 5, file_bytes(SIZE) + 1])
def test_a_file_of_another_length_is_replaced(cache, tmp_path, length):
    path = tmp_path / "cache" / ONE / ("b" * 32)
    path.write_bytes(b"\1" * length)
    with pytest.raises(OSError, match="another length"):
        Entry(path, SIZE)
    cache = Cache(tmp_path / "cache", "10MB", ONE)
    found = entry_of(cache, "b" * 32)
    assert not found.has(0, 1)
    fill(found)
    assert found.read(0, SIZE) == DATA
    assert (tmp_path / "cache" / "used-bytes").read_text() == f"{file_bytes(SIZE):020d}"


def test_what_a_killed_process_has_begun_to_make_is_no_object(cache, tmp_path):
    (tmp_path / "cache" / ONE / "new").write_bytes(b"half")
    assert entry_of(cache) is not None
    (tmp_path / "cache" / ONE / "new").write_bytes(b"half")
    [found] = cached_data_sets(tmp_path / "cache")
    assert found.num_objects == 1
    cache.close()
    assert clear_cache(tmp_path / "cache") == (1, 0)


def test_while_others_are_busy_nothing_is_kept_and_later_it_is(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "_PATIENCE_S", 0.05)
    descriptor = os.open(tmp_path / "cache" / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert entry_of(cache) is None
    os.close(descriptor)
    assert entry_of(cache) is not None


def test_the_limit_is_never_passed(tmp_path):
    room = 2 * file_bytes(SIZE)
    cache = Cache(tmp_path, room, ONE)
    assert entry_of(cache, "a" * 32) is not None
    assert entry_of(cache, "b" * 32) is not None
    assert entry_of(cache, "c" * 32) is None
    # A data set makes no room for itself, and somebody uses it.
    assert entry_of(Cache(tmp_path, room, TWO)) is None
    assert sum(found.num_bytes for found in cached_data_sets(tmp_path)) == room


def test_room_is_made_by_what_nobody_uses_the_oldest_first(tmp_path):
    room = 2 * file_bytes(SIZE)
    for age, fingerprint in enumerate((ONE, TWO)):
        cache = Cache(tmp_path, room, fingerprint)
        fill(entry_of(cache))
        cache.close()
        os.utime(tmp_path / fingerprint / "lock", (1000 + age, 1000 + age))
    fill(entry_of(Cache(tmp_path, room, THREE)))
    assert sorted(found.fingerprint for found in cached_data_sets(tmp_path)) == [TWO, THREE]


def test_what_is_larger_than_the_cache_is_not_kept(tmp_path):
    assert entry_of(Cache(tmp_path, SIZE, ONE)) is None


def test_what_was_counted_wrong_is_counted_again(tmp_path):
    (tmp_path / "used-bytes").write_text(f"{10**12:020d}")
    assert entry_of(Cache(tmp_path, "10MB", ONE)) is not None
    (tmp_path / "used-bytes").write_text("rubbish")
    assert entry_of(Cache(tmp_path, "10MB", TWO)) is not None


@pytest.mark.parametrize("name", ["used-bytes", "lock", f"{ONE}/lock", f"{ONE}/{'a' * 32}"])
@pytest.mark.parametrize("when", ["before", "while"])
def test_a_fifo_in_a_files_place_blocks_nobody(tmp_path, name, when):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShardkitWarning)
        if when == "while":
            cache = Cache(tmp_path, "10MB", ONE)
        (tmp_path / ONE).mkdir(exist_ok=True, mode=0o700)
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
        if when == "before":
            cache = Cache(tmp_path, "10MB", ONE)
        # Replaced by a file, or not used any more.
        found = cache.entry("a" * 32, SIZE)
        assert found is None or found.read(0, 1) == b"\0"


def test_clearing_leaves_what_is_in_use(cache, tmp_path):
    fill(entry_of(cache))
    other = Cache(tmp_path / "cache", "10MB", TWO)
    fill(entry_of(other))
    other.close()
    assert [(found.fingerprint, found.in_use) for found in cached_data_sets(tmp_path / "cache")] == [
        (TWO, False),
        (ONE, True),
    ]
    assert clear_cache(tmp_path / "cache") == (1, 1)
    assert entry_of(cache).read(0, SIZE) == DATA
    cache.close()
    assert clear_cache(tmp_path / "cache") == (1, 0)
    assert clear_cache(tmp_path / "nowhere") == (0, 0)


def test_no_folder_in_which_others_may_write(tmp_path):
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigError, match="nobody else may write"):
        Cache(tmp_path / "open", "1GB", ONE)
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(ConfigError, match="no link"):
        Cache(tmp_path / "link", "1GB", ONE)
    assert Cache(tmp_path / "mine", "1GB", ONE).entry("a" * 32, 10) is not None
    assert (tmp_path / "mine" / ONE).stat().st_mode & 0o777 == 0o700


def test_a_planted_link_is_not_followed(cache, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(bytes(file_bytes(SIZE)))
    (tmp_path / "cache" / ONE / ("a" * 32)).symlink_to(victim)
    fill(entry_of(cache))
    assert victim.read_bytes() == bytes(file_bytes(SIZE))
    assert not (tmp_path / "cache" / ONE / ("a" * 32)).is_symlink()


def test_a_folder_that_is_gone_is_told_once(cache, tmp_path):
    entry = entry_of(cache)
    fill(entry)
    (tmp_path / "cache").rename(tmp_path / "gone")
    assert entry.read(0, SIZE) == DATA
    with pytest.warns(ShardkitWarning, match="not used any more: No such file"):
        assert entry_of(cache, "b" * 32) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert entry_of(cache, "c" * 32) is None


def test_the_usual_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "shardkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "shardkit"


@pytest.mark.parametrize("name", ["thesis.txt", "d41d8cd98f00b204e9800998ecf8427e/thesis.txt"])
def test_folders_of_others_are_left_alone(tmp_path, name):
    # Many things are named by 32 hexadecimal digits.
    mine = tmp_path / "cache" / "d41d8cd98f00b204e9800998ecf8427e" / name
    mine.parent.mkdir(mode=0o700, parents=True)
    mine.parent.parent.chmod(0o700)
    (tmp_path / "cache").chmod(0o700)
    mine.write_text("words")
    (mine.parents[len(Path(name).parts) - 1] / "lock").write_text("")
    assert cached_data_sets(tmp_path / "cache") == []
    assert clear_cache(tmp_path / "cache") == (0, 0)
    assert mine.read_text() == "words"

"""What a packing run finds at its destination, and what it may do to it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from pictures import tree, write_pictures

import shardkit

COMMAND = [sys.executable, "-m", "shardkit.cli"]


def again(photos, packed, **options):
    return shardkit.pack(photos, packed, **{"shard_samples": 10, "workers": 1, **options})


def unfinished(photos, dest, **options):
    """Pack all shards but those of a class with a bad picture in it."""
    bad = photos / "class-0" / "bad.png"
    bad.write_bytes(b"nonsense")
    with pytest.raises(shardkit.PackError):
        again(photos, dest, **options)
    bad.unlink()
    assert (dest / "unfinished.json").exists()


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("train-000000.tar", os.unlink),
        ("train-000003.tar", cut),
        ("train-000002.parquet", os.unlink),
        ("train-000002.parquet", cut),
        ("shards.parquet", os.unlink),
        ("manifest.json", lambda path: path.write_text(path.read_text().replace('"class-1"', '"other"'))),
    ],
)
def test_what_is_missing_from_a_data_set_is_packed_again(photos, packed, name, damage):
    before = tree(packed)
    damage(packed / name)
    result = again(photos, packed)
    assert not result.already_packed
    assert result.num_kept_shards == (5 if name.startswith("train") else 6)
    assert tree(packed) == before
    assert again(photos, packed).already_packed


def test_a_data_set_of_the_weaker_check_is_not_taken_for_one_of_the_stronger(photos, packed):
    assert shardkit.read_manifest(packed).packed["check"] == "header"
    with pytest.raises(shardkit.ConfigError, match="other pictures or options"):
        again(photos, packed, check="decode")
    assert again(photos, packed, check="decode", overwrite=True).num_kept_shards == 0
    assert again(photos, packed, check="decode").already_packed


def test_overwrite_keeps_nothing(photos, packed, tmp_path):
    expected = tree(packed)
    plan = shardkit.read_manifest(packed).packed["plan"]
    (packed / "manifest.json").unlink()
    (packed / "unfinished.json").write_text(json.dumps({"plan": plan, "splits": ["train"]}))
    shutil.copytree(packed, tmp_path / "copy")
    for dest, overwrite, kept in ((tmp_path / "copy", False, 6), (packed, True, 0)):
        assert again(photos, dest, overwrite=overwrite).num_kept_shards == kept
        assert tree(dest) == expected


def test_an_unfinished_run_of_another_plan_is_replaced(photos, packed, tmp_path):
    unfinished(photos, tmp_path / "dest")
    result = again(photos, tmp_path / "dest")
    assert result.replaced_unfinished
    assert tree(tmp_path / "dest") == tree(packed)


def test_an_unfinished_run_of_other_splits_leaves_nothing_behind(photos, packed, tmp_path):
    unfinished(photos, tmp_path / "dest", split="old=0.5,val=0.5")
    assert list((tmp_path / "dest").glob("old-*.tar"))
    again(photos, tmp_path / "dest")
    assert tree(tmp_path / "dest") == tree(packed)


def test_an_unfinished_run_of_the_same_plan_is_gone_on_with(photos, packed):
    before = tree(packed)
    plan = shardkit.read_manifest(packed).packed["plan"]
    (packed / "manifest.json").unlink()
    (packed / "train-000004.parquet").unlink()
    (packed / "unfinished.json").write_text(json.dumps({"plan": plan, "splits": ["train"]}))
    result = again(photos, packed)
    assert (result.num_kept_shards, result.replaced_unfinished) == (5, False)
    assert tree(packed) == before


def test_stopped_while_an_older_data_set_is_deleted_nothing_of_it_is_kept(photos, packed):
    """In that moment ``unfinished.json`` names no plan, and shards of the older data set are still there."""
    expected = tree(packed)
    again(photos, packed, seed=1, overwrite=True)
    (packed / "manifest.json").unlink()
    (packed / "unfinished.json").write_text(json.dumps({"plan": None, "splits": ["train"]}))
    assert again(photos, packed).num_kept_shards == 0
    assert tree(packed) == expected


@pytest.mark.parametrize(
    "manifest",
    ['{"name": "my web app"}', "[]", "not JSON", "[" * 100_000, '{"plan": "x"}', '{"format_version": "1.0"}'],
)
def test_a_folder_with_some_other_manifest_is_left_alone(photos, tmp_path, manifest):
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / "manifest.json").write_text(manifest)
    (dest / "photos-123456.tar").write_bytes(b"mine")
    (dest / "unfinished.json").write_text(manifest)
    before = tree(dest)
    with pytest.raises(shardkit.ConfigError, match="something else: manifest.json"):
        again(photos, dest, overwrite=True)
    assert tree(dest) == before


def test_files_of_a_split_that_the_data_set_has_not_are_not_ours(photos, packed):
    (packed / "photos-123456.tar").write_bytes(b"mine")
    before = tree(packed)
    for overwrite in (False, True):
        with pytest.raises(shardkit.ConfigError, match="something else: photos-123456.tar"):
            again(photos, packed, seed=1, overwrite=overwrite)
    assert tree(packed) == before


def test_source_and_destination_do_not_lie_in_each_other(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    for source, dest in (
        (photos, photos / "shards"), (photos, photos), (photos, tmp_path), (photos, tmp_path / "link" / "x"),
        (photos, tmp_path / "photos" / "class-0" / ".." / "x"),
    ):  # fmt: skip
        with pytest.raises(shardkit.ConfigError, match="lie in each other"):
            shardkit.pack(source, dest)
    assert len(list(photos.rglob("*"))) == 63
    shardkit.pack(photos, tmp_path / "photos-shards")


def test_a_wrong_destination_is_named_before_the_source_is_listed(photos, tmp_path):
    os.mkfifo(photos / "class-0" / "pipe.jpg")
    with pytest.raises(shardkit.PackError):
        shardkit.pack(photos, tmp_path / "shards")
    (tmp_path / "file").write_text("mine")
    for dest in ("ftp://host/x", "a\0b", tmp_path / "file" / "x"):
        with pytest.raises((shardkit.ConfigError, shardkit.StorageError)) as caught:
            shardkit.pack(photos, dest)
        assert not isinstance(caught.value, shardkit.PackError)


@pytest.mark.parametrize(
    ("setting", "value"), [("path_column", "a"), ("label_column", "a"), ("root", "."), ("class_from", "path"),
                           ("follow_symlinks", True)],
)  # fmt: skip
def test_a_setting_for_the_other_kind_of_source_is_refused(photos, tmp_path, setting, value):
    table = tmp_path / "t.csv"
    table.write_text("path,label\nphotos/class-0/00000.png,a\n")
    source = table if setting in ("class_from", "follow_symlinks") else photos
    with pytest.raises(shardkit.ConfigError, match=f"{setting} is only for a") as caught:
        shardkit.pack(source, tmp_path / "shards", **{setting: value})
    assert caught.value.setting == setting


@pytest.mark.parametrize("workers", [0, 1.5, "2", True])
def test_workers_are_a_whole_number(photos, tmp_path, workers):
    with pytest.raises(shardkit.ConfigError, match="workers must be a whole number"):
        shardkit.pack(photos, tmp_path / "shards", workers=workers)


@pytest.mark.parametrize("source", ["n" * 300, "a\0b", "gone"])
def test_a_source_that_cannot_be_looked_at_is_a_config_error(tmp_path, source):
    with pytest.raises(shardkit.ConfigError, match="the source"):
        shardkit.pack(source, tmp_path / "shards")


def started(source, dest):
    process = subprocess.Popen(
        [*COMMAND, "pack", source, dest, "--shard-samples", "10", "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not dest.is_dir() or len(list(dest.iterdir())) < 6:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    return process


def test_of_two_packers_on_one_destination_the_second_fails_at_once(tmp_path):
    source = write_pictures(tmp_path / "photos", 500, size=12)
    first = started(source, tmp_path / "shards")
    first.send_signal(signal.SIGSTOP)
    try:
        for options in ({}, {"seed": 1}, {"overwrite": True}):
            with pytest.raises(shardkit.ConfigError, match=f"process {first.pid} on {os.uname().nodename}"):
                shardkit.pack(source, tmp_path / "shards", shard_samples=10, **options)
    finally:
        first.send_signal(signal.SIGCONT)
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 0, said
    shardkit.pack(source, tmp_path / "other", shard_samples=10)
    assert tree(tmp_path / "shards") == tree(tmp_path / "other")


def test_the_lock_of_a_killed_packer_is_no_hindrance(tmp_path):
    source = write_pictures(tmp_path / "photos", 500, size=12)
    first = started(source, tmp_path / "shards")
    first.kill()
    first.communicate()
    assert (tmp_path / "shards" / ".shardkit-lock").read_text().startswith(f"process {first.pid} on ")
    shardkit.pack(source, tmp_path / "shards", shard_samples=10)
    shardkit.pack(source, tmp_path / "other", shard_samples=10)
    assert tree(tmp_path / "shards") == tree(tmp_path / "other")


def test_what_a_run_killed_after_its_last_shard_left_is_tidied_up(photos, packed):
    before = tree(packed)
    (packed / ".shardkit-lock").write_text("process 1 on elsewhere")
    (packed / ".shardkit-0123456789abcdef").write_bytes(b"half a table")
    plan = shardkit.read_manifest(packed).packed["plan"]
    (packed / "unfinished.json").write_text(json.dumps({"plan": plan, "splits": ["train"]}))
    assert again(photos, packed).already_packed
    assert tree(packed) == before

"""The source tree back: whole files only, gone on with after a stop, and nothing else is touched."""

import csv
import os
import shutil
import subprocess
import sys
import time

import pytest
from pictures import tree, write_pictures

import shardkit

COMMAND = [sys.executable, "-m", "shardkit.cli"]


def table_of(folder, names):
    with (folder / "t.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows((name, f"label {number}") for number, name in enumerate(names))
    return folder / "t.csv"


def test_it_goes_on_where_it_was_stopped(photos, packed, tmp_path):
    back = tmp_path / "back"
    assert shardkit.unpack(packed, back) == 60
    (back / "class-0" / "00003.png").unlink()
    (back / ".shardkit-0123456789abcdef").write_bytes(b"half a picture")
    kept = (back / "class-1" / "00001.png").stat()
    assert shardkit.unpack(packed, back) == 60
    assert tree(back) == tree(photos)
    assert (back / "class-1" / "00001.png").stat().st_ino == kept.st_ino


def test_killed_at_any_moment_no_picture_is_half_there(tmp_path):
    photos = write_pictures(tmp_path / "photos", 2000, size=12)
    shardkit.pack(photos, tmp_path / "shards", workers=1)
    expected = tree(photos)
    process = subprocess.Popen([*COMMAND, "unpack", tmp_path / "shards", tmp_path / "back"], stdout=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not list((tmp_path / "back").glob("*/*")):
        assert time.monotonic() < deadline
    process.kill()
    process.communicate()
    there = {name: data for name, data in tree(tmp_path / "back").items() if not name.startswith(".shardkit-")}
    assert 0 < len(there) < 2000
    assert there.items() <= expected.items()
    assert shardkit.unpack(tmp_path / "shards", tmp_path / "back") == 2000
    assert tree(tmp_path / "back") == expected


@pytest.mark.parametrize(
    "name", ["thesis.txt", "class-0/thesis.txt", "class-0/.shardkit-1", ".shardkit-notes.txt", "00001.png"]
)
def test_a_folder_with_something_else_is_left_alone(packed, tmp_path, name):
    file = tmp_path / "back" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"mine")
    with pytest.raises(shardkit.ConfigError, match=f"something else: {name}"):
        shardkit.unpack(packed, tmp_path / "back")
    assert tree(tmp_path / "back") == {name: b"mine"}


def test_a_picture_that_is_another_is_left_alone(packed, tmp_path):
    (tmp_path / "back" / "class-0").mkdir(parents=True)
    (tmp_path / "back" / "class-0" / "00000.png").write_bytes(b"mine")
    with pytest.raises(shardkit.ConfigError, match="another than the data set's"):
        shardkit.unpack(packed, tmp_path / "back")
    assert (tmp_path / "back" / "class-0" / "00000.png").read_bytes() == b"mine"


def test_links_are_not_followed(packed, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "class-0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(shardkit.ConfigError, match="something else: class-0"):
        shardkit.unpack(packed, tmp_path / "back")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_picture_named_as_the_table_of_labels_is_refused_before_anything_is_written(photos, tmp_path):
    shutil.copy(photos / "class-0" / "00000.png", photos / "labels.csv")
    shardkit.pack(table_of(photos, ["labels.csv", "class-1/00001.png"]), tmp_path / "shards")
    with pytest.raises(shardkit.ConfigError, match=r"the name of the table of labels, labels\.csv"):
        shardkit.unpack(tmp_path / "shards", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_table_with_odd_names_comes_back_and_packs_to_the_same_bytes(photos, tmp_path):
    names = [b"caf\xe9.png", b"new\nline.png", b"comma,\"quote'.png", "d\u00f6g.png".encode(), b" space .png"]
    for name in names:
        shutil.copy(os.fsencode(photos / "class-0" / "00000.png"), os.fsencode(photos) + b"/" + name)
    shardkit.pack(table_of(photos, map(os.fsdecode, names)), tmp_path / "first")
    assert shardkit.unpack(tmp_path / "first", tmp_path / "back") == 5
    assert sorted(os.listdir(os.fsencode(tmp_path / "back"))) == sorted([*names, b"labels.csv"])
    shardkit.pack(tmp_path / "back" / "labels.csv", tmp_path / "second")
    assert tree(tmp_path / "second") == tree(tmp_path / "first")


def test_a_folder_that_cannot_be_used_is_a_storage_error(packed, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("n" * 300), f"{tmp_path}/a\0b"):
        with pytest.raises(shardkit.StorageError, match="cannot write"):
            shardkit.unpack(packed, folder)


def test_a_label_of_no_class_is_a_manifest_error(packed, tmp_path):
    from shardkit.manifest import Manifest

    manifest = shardkit.read_manifest(packed)
    fewer = {name: getattr(manifest, name) for name in manifest.__slots__} | {"classes": ("a",)}
    (packed / "manifest.json").write_bytes(Manifest(**fewer).to_json())
    for read in (lambda: shardkit.unpack(packed, tmp_path / "back"), lambda: shardkit.Loader(packed).keys()):
        with pytest.raises(shardkit.ManifestError, match="a label is of no class"):
            read()
    report = shardkit.verify(packed)
    assert len(report.problems) == 6
    assert "a label is of no class" in str(report.problems[0])

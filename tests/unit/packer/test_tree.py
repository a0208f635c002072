"""Files below a folder: whole or not there, and never through a link."""

import os

import pytest

from shardkit.errors import ConfigError
from shardkit.packer.tree import Tree


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


def test_files_are_written_below_folders_that_are_made(root):
    with Tree(root) as tree:
        for path in (b"a/b/one", b"a/b/two", b"three", b"a/b/one"):
            tree.write(path, path)
    assert (root / "a/b/one").read_bytes() == b"a/b/one"
    assert (root / "a/b/two").read_bytes() == b"a/b/two"
    assert sorted(os.listdir(root)) == ["a", "three"]


def test_another_file_stays(root):
    with Tree(root) as tree:
        tree.write(b"a/one", b"1")
        for data in (b"2", b"", b"12"):
            with pytest.raises(ConfigError, match="another than the data set's"):
                tree.write(b"a/one", data)
    assert (root / "a/one").read_bytes() == b"1"


def test_a_folder_that_becomes_a_link_is_not_followed(root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    with Tree(root) as tree:
        tree.write(b"a/b/one", b"1")
        tree.write(b"other", b"1")
        (root / "a/b").rename(root / "moved")
        (root / "a/b").symlink_to(outside)
        with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
            tree.write(b"a/b/two", b"2")
        (root / "link").symlink_to(outside / "new")
        with pytest.raises(OSError, match="it is a link"):
            tree.write(b"link", b"3")
    assert os.listdir(outside) == []
    assert not [name for name in os.listdir(root) if name.startswith(".shardkit-")]


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_file_is_an_error_and_never_waited_for(root, kind):
    root.mkdir()
    os.mkfifo(root / "name") if kind == "fifo" else (root / "name").mkdir()
    with Tree(root) as tree, pytest.raises(OSError, match="no regular file"):
        tree.write(b"name", b"1")


def test_descriptors_are_closed(root):
    before = len(os.listdir("/proc/self/fd"))
    with Tree(root) as tree:
        for number in range(20):
            tree.write(b"a%d/b/one" % (number % 3), b"1")
    assert len(os.listdir("/proc/self/fd")) == before

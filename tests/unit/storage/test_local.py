"""The local store keeps the contract of all stores, and what is its own: URLs, umask, durable names."""

import os

import pytest

from shardkit.errors import ConfigError, StorageError
from shardkit.storage import HasPaths, LocalStore, open_store


def test_paths_and_file_urls_lead_to_the_same_folder(tmp_path):
    folder = tmp_path / "a folder"
    for url in (folder, str(folder), f"file://{str(folder).replace(' ', '%20')}", f"file://localhost{folder}"):
        assert open_store(url).folder == folder
    assert isinstance(open_store(folder), HasPaths)


@pytest.mark.parametrize("url", ["pipe:cat /etc/passwd", "|cmd", "$(cmd)"])
def test_what_looks_like_a_command_is_a_path_and_nothing_runs(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_store(url).size("manifest.json") is None


@pytest.mark.parametrize(
    "url",
    ["ftp://host/x", "pipe://cat", "", "file://elsewhere/x", "http://[x", "a\0b", "file:///a%00b", "\ud800", None, 7],
)
def test_other_urls_are_refused_by_name(url):
    with pytest.raises(ConfigError):
        open_store(url)


def test_files_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        with LocalStore(tmp_path).write("x") as writer:
            writer.write(b"1")
    finally:
        os.umask(old)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a\0b"])
def test_a_name_never_leads_out_of_the_folder(tmp_path, name):
    with pytest.raises(ConfigError):
        LocalStore(tmp_path).path(name)


def test_temporary_files_are_not_listed_and_can_be_cleared(tmp_path):
    store = LocalStore(tmp_path)
    with store.write("x") as writer:
        writer.write(b"half")
        (left,) = tmp_path.iterdir()
        assert list(store.names()) == []
    left.write_bytes(b"what a killed writer left")
    (tmp_path / ".shardkit-notes.txt").write_bytes(b"a user's")
    assert list(store.names()) == [".shardkit-notes.txt", "x"]
    store.delete_temporary()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".shardkit-notes.txt", "x"]


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        LocalStore(tmp_path / "file" / "below").write("x")


def test_pieces_that_the_kernel_takes_in_part_are_written_whole(tmp_path, monkeypatch):
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda descriptor, pieces: real(descriptor, [b"".join(pieces)[:5]]))
    with LocalStore(tmp_path).write("a") as writer:
        writer.write_all([b"012", b"345", b"6789"])
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_pieces_that_cannot_be_written_are_a_storage_error(tmp_path, monkeypatch):
    def full(descriptor, pieces):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(StorageError, match="No space left"), LocalStore(tmp_path).write("a") as writer:
        writer.write_all([b"0"])
    assert list(tmp_path.iterdir()) == []

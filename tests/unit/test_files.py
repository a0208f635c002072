"""Only regular files are opened, without waiting, and read as far as they are long."""

import os

import pytest
from special import SPECIAL, make_special

from shardkit.files import is_temporary, open_reader, open_regular, read_regular, regular_size, temporary_name

KINDS = {"fifo": "a FIFO", "link to a fifo": "a FIFO", "socket": "a socket", "folder": "a folder", "device": "a device"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read", [open_regular, read_regular, open_reader, regular_size])
def test_what_is_no_regular_file_is_named_and_not_opened(tmp_path, kind, read):
    path = make_special(tmp_path / "x", kind)
    with pytest.raises(OSError, match="no regular file") as caught:
        read(path)
    assert caught.value.strerror == f"it is {KINDS[kind]} and no regular file"
    assert caught.value.filename == str(path)


@pytest.mark.parametrize("kind", SPECIAL[-3:])
def test_what_has_another_length_than_it_says(tmp_path, kind):
    path = make_special(tmp_path / "x", kind)
    with pytest.raises(OSError, match="should have 0 bytes|Invalid argument|symbolic links"):
        read_regular(path, 10**6)
    if kind != "loop":
        with open_reader(path) as file:
            assert file.read() == b""


def test_a_fifo_that_takes_the_place_meanwhile_blocks_nobody(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"1")
    regular = os.stat(path)
    make_special(path, "fifo")
    monkeypatch.setattr(os, "stat", lambda *_, **__: regular)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="a FIFO"):
        open_regular(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_regular_files_and_links_to_them_are_read(tmp_path):
    path, link = tmp_path / "x", tmp_path / "link"
    path.write_bytes(b"0123456789" * 10**5)
    link.symlink_to(path)
    for there in (path, link, str(path)):
        assert read_regular(there) == read_regular(there, 10**6) == path.read_bytes()
        assert regular_size(there) == 10**6
        with open_reader(there) as file:
            assert file.read(3) == b"012"
            assert file.seek(-2, os.SEEK_END) == 10**6 - 2
            assert file.read() == b"89"
            assert file.seek(1) == 1
            with path.open("ab") as more:
                more.write(b"x")
            assert file.read() == path.read_bytes()[1:-1]
        path.write_bytes(b"0123456789" * 10**5)
    with pytest.raises(OSError, match="1000000 bytes where at most 999999 were expected"):
        read_regular(path, 10**6 - 1)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none")


def test_names_of_temporary_files():
    assert is_temporary(temporary_name())
    assert not any(map(is_temporary, (".shardkit-notes.txt", ".shardkit-0123456789abcdef.txt", ".shardkit-lock")))

"""One writer at a time, whoever dies."""

import os
import threading

import pytest

from shardkit.errors import ConfigError, StorageError
from shardkit.storage import LocalStore


def test_the_second_is_told_who_holds_it_and_nothing_is_left(tmp_path):
    store = LocalStore(tmp_path / "new")
    with store.lock():
        assert list(store.names()) == []
        with pytest.raises(ConfigError, match=f"process {os.getpid()} on {os.uname().nodename}"), store.lock():
            pass
        store.delete_temporary()
        with pytest.raises(ConfigError), LocalStore(tmp_path / "new").lock():
            pass
    assert list((tmp_path / "new").iterdir()) == []
    with store.lock():
        assert store.has_temporary()


def test_a_lock_file_that_nobody_holds_is_taken_over(tmp_path):
    (tmp_path / ".shardkit-lock").write_text("process 4194305 on a host with a long name that is gone")
    with LocalStore(tmp_path).lock():
        assert (tmp_path / ".shardkit-lock").read_text() == f"process {os.getpid()} on {os.uname().nodename}"
    assert list(tmp_path.iterdir()) == []


def test_many_that_take_turns_never_hold_it_together(tmp_path):
    """Each takes the file away when it is done, while others open it."""
    inside, most, turns = [0], [0], [0]

    def work():
        for _ in range(200):
            try:
                with LocalStore(tmp_path).lock():
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    turns[0] += 1
                    os.sched_yield()
                    inside[0] -= 1
            except ConfigError:
                os.sched_yield()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert turns[0] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_locked_is_a_storage_error(tmp_path):
    (tmp_path / ".shardkit-lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="cannot lock"), LocalStore(tmp_path).lock():
        pass
    assert not (tmp_path / "elsewhere").exists()

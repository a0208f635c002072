"""The thread that runs requests."""

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError

import pytest

from shardkit.storage import io_thread
from shardkit.storage.io_thread import IoScope


def io_threads():
    return [thread for thread in threading.enumerate() if thread.name == "shardkit-io"]


@pytest.fixture
def ended():
    return []


@pytest.fixture
def thread(ended):
    async def on_end():
        ended.append(threading.current_thread().name)

    # Those of other tests end by themselves.
    deadline = time.monotonic() + 60
    while io_threads() and time.monotonic() < deadline:
        time.sleep(0.1)
    thread = IoScope(on_end)
    yield thread
    thread.close()
    assert not io_threads()


async def answer(value, seconds=0.0):
    await asyncio.sleep(seconds)
    return value


def test_there_is_no_thread_before_there_is_work(thread, ended):
    assert not io_threads()
    assert thread.run(answer(3)) == 3
    assert len(io_threads()) == 1
    thread.close()
    assert not io_threads()
    assert ended == ["shardkit-io"]


def test_it_ends_when_there_is_nothing_to_do_and_starts_again(thread, ended, monkeypatch):
    monkeypatch.setattr(io_thread, "_IDLE_S", 0.1)
    for number in range(3):
        assert thread.run(answer(number)) == number
        until = time.monotonic() + 10
        while io_threads() and time.monotonic() < until:
            time.sleep(0.01)
        assert not io_threads()
    assert len(ended) == 3


def test_it_stays_while_there_is_something_to_do_now_and_then(thread, ended, monkeypatch):
    monkeypatch.setattr(io_thread, "_IDLE_S", 0.3)
    thread.run(answer(0))
    (first,) = io_threads()
    until = time.monotonic() + 1.5
    number = 0
    while time.monotonic() < until:
        asked = time.monotonic()
        assert thread.run(answer(number, 0.02)) == number
        time.sleep(0.03)
        if time.monotonic() - asked > 0.25:
            pytest.skip("the machine is too busy to tell")
        number += 1
    # Nothing was running most of the time that a timer ended, but there was something since it had begun.
    assert io_threads() == [first]
    assert not ended


def test_many_at_once(thread):
    started = time.monotonic()
    futures = [thread.submit(answer(number, 0.2)) for number in range(200)]
    assert [future.result() for future in futures] == list(range(200))
    assert time.monotonic() - started < 10


def test_errors_come_back(thread):
    async def fail():
        raise ValueError("so it is")

    with pytest.raises(ValueError, match="so it is"):
        thread.run(fail())


def test_closing_calls_off_what_runs(thread):
    future = thread.submit(answer(1, 3600))
    time.sleep(0.05)
    thread.close()
    with pytest.raises(CancelledError):
        future.result(5)


def test_after_closing_in_the_midst_of_work_it_is_as_new(thread, ended, monkeypatch):
    monkeypatch.setattr(io_thread, "_IDLE_S", 0.2)
    for _ in range(3):
        futures = [thread.submit(answer(1, 3600)) for _ in range(4)]
        time.sleep(0.05)
        thread.close()
        assert all(future.cancelled() for future in futures)
    # What runs longer than an idle thread stays is not called off, whatever ended before.
    assert thread.submit(answer(7, 1.0)).result(20) == 7
    until = time.monotonic() + 10
    while io_threads() and time.monotonic() < until:
        time.sleep(0.01)
    assert not io_threads()


def test_whoever_submits_while_it_is_closed_gets_an_answer(thread):
    stop = threading.Event()

    def closing():
        while not stop.is_set():
            thread.close()

    closer = threading.Thread(target=closing)
    closer.start()
    try:
        for number in range(500):
            future = thread.submit(answer(number))
            try:
                assert future.result(20) == number
            except CancelledError:
                continue
    finally:
        stop.set()
        closer.join()


def test_what_is_called_off_before_it_begins_is_counted_too(thread, monkeypatch):
    monkeypatch.setattr(io_thread, "_IDLE_S", 0.05)
    for _ in range(50):
        for future in [thread.submit(answer(1, 3600)) for _ in range(4)]:
            future.cancel()
    until = time.monotonic() + 10
    while io_threads() and time.monotonic() < until:
        time.sleep(0.01)
    assert not io_threads()


def test_all_scopes_share_one_thread_that_ends_with_the_last(ended, thread):
    async def on_end():
        ended.append("other")

    others = [IoScope(on_end) for _ in range(20)]
    assert [scope.run(answer(number)) for number, scope in enumerate([*others, thread])] == list(range(21))
    assert len(io_threads()) == 1
    for scope in others:
        scope.close()
    assert ended == ["other"] * 20
    assert len(io_threads()) == 1
    assert thread.run(answer(1)) == 1


def test_closing_a_scope_leaves_the_others_alone(thread):
    async def on_end():
        pass

    other = IoScope(on_end)
    mine, others = thread.submit(answer(1, 3600)), other.submit(answer(2, 0.3))
    thread.close()
    assert mine.cancelled()
    assert others.result(20) == 2
    other.close()


def test_of_many_idle_scopes_the_oldest_ends(thread, ended, monkeypatch):
    monkeypatch.setattr(io_thread, "_MOST_IDLE", 3)
    done = []

    def scope(number):
        async def on_end():
            done.append(number)

        return IoScope(on_end)

    scopes = [scope(number) for number in range(6)]
    for each in scopes:
        each.run(answer(0))
    thread.run(answer(0))
    until = time.monotonic() + 10
    while len(done) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    assert done[:3] == [0, 1, 2]
    # One that has ended begins anew.
    assert scopes[0].run(answer(5)) == 5
    for each in scopes:
        each.close()


FORKS = """
import os
from shardkit.storage.io_thread import IoScope

async def nothing():
    pass

async def answer(value):
    return value

thread = IoScope(nothing)
assert thread.run(answer(1)) == 1
child = os.fork()
if child == 0:
    os._exit(thread.run(answer(42)))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
assert thread.run(answer(2)) == 2
"""


def test_a_forked_process_has_a_thread_of_its_own():
    # In a process of its own: libraries that other tests have loaded do not like to be forked.
    subprocess.run([sys.executable, "-c", FORKS], check=True, timeout=60)


EXITS = """
import atexit

@atexit.register
def late():
    try:
        scope.run(answer(1))
    except ShardkitError as exc:
        print(exc.what, flush=True)

from shardkit.errors import ShardkitError
from shardkit.storage.io_thread import IoScope

async def nothing():
    print("closed", flush=True)

async def answer(value):
    return value

scope = IoScope(nothing)
scope.run(answer(1))
"""


def test_when_python_exits_connections_are_closed_and_nothing_begins_anymore():
    # Functions that were registered first run last.
    found = subprocess.run([sys.executable, "-c", EXITS], check=True, timeout=60, capture_output=True, text=True)
    assert found.stdout.splitlines() == ["closed", "Python is exiting: nothing more is loaded or written"]
    assert not found.stderr

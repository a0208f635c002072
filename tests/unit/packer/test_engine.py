"""The local engine: whatever happens in a worker, the packer hears of it and never waits for ever."""

import os
import resource
import subprocess
import sys

import pytest

from shardkit.errors import PackError
from shardkit.packer.engines.local import LocalWorkers
from shardkit.packer.pictures import PictureOptions
from shardkit.packer.plan import ShardTask
from shardkit.storage import Place


class GoodHereOnly:
    """A value that a worker cannot read: it says so in the worker's process, and nowhere else."""

    def __reduce__(self):
        return (only_in, (os.getpid(),))


def only_in(pid):
    if os.getpid() != pid:
        raise LookupError("this cannot be read in another process")
    return GoodHereOnly()


def run(tasks, dest, pictures=PictureOptions()):
    with LocalWorkers(2) as workers:
        return list(workers.run(tasks, Place(dest), pictures, lambda _pictures, _bytes: None))


def test_a_task_that_a_worker_cannot_read_is_an_error(tmp_path):
    outcomes = run([ShardTask(f"train-{n:06d}.tar", "train", (GoodHereOnly(),)) for n in range(3)], tmp_path)
    assert len(outcomes) == 3
    assert all(isinstance(outcome, PackError) for outcome in outcomes)
    assert "a worker could not read its task" in str(outcomes[0])


def test_an_error_that_nobody_foresaw_names_task_and_cause(tmp_path):
    # A picture that is no picture's place at all.
    outcomes = run([ShardTask(f"train-{n:06d}.tar", "train", (None,)) for n in range(2)], tmp_path)
    said = sorted(map(str, outcomes))
    assert "packing train-000000.tar failed: AttributeError" in said[0]
    assert "train-000001.tar" in said[1]
    assert "Traceback" in outcomes[0].__notes__[0]


def test_an_answer_that_the_packer_cannot_read_is_an_error(tmp_path, monkeypatch):
    """The workers' module of that name answers with what no pickle is."""
    fake = tmp_path / "shardkit" / "packer" / "engines"
    fake.mkdir(parents=True)
    for folder in (fake, fake.parent, fake.parent.parent):
        (folder / "__init__.py").write_text("")
    (fake / "worker.py").write_text(
        "import sys\n"
        "def main():\n"
        "    sys.stdout.buffer.write((3).to_bytes(8, 'little') + b'abc')\n"
        "    sys.stdout.buffer.flush()\n"
        "    sys.stdin.read()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    outcomes = run([ShardTask(f"train-{n:06d}.tar", "train", ()) for n in range(3)], tmp_path)
    said = sorted(map(str, outcomes))
    assert len(said) == 3
    assert "no answer could be read about train-00000" in said[0]
    assert "UnpicklingError" in said[0]


def test_when_a_worker_cannot_be_started_those_that_were_are_stopped():
    script = (
        "import os, resource\n"
        "from shardkit.packer.engines.local import LocalWorkers\n"
        "from shardkit.packer.pictures import PictureOptions\n"
        "from shardkit.packer.plan import ShardTask\n"
        "from shardkit.errors import PackError\n"
        "tasks = [ShardTask(str(n), 'train', ()) for n in range(8)]\n"
        "used = len(os.listdir('/proc/self/fd'))\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (used + 10, {resource.getrlimit(resource.RLIMIT_NOFILE)[1]}))\n"
        "try:\n"
        "    with LocalWorkers(8) as workers:\n"
        "        list(workers.run(tasks, None, 'header', print))\n"
        "except PackError as exc:\n"
        "    print(exc)\n"
        "print(open(f'/proc/self/task/{os.getpid()}/children').read() or 'no child is left')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        "a worker cannot be started: Too many open files. Use fewer with --workers",
        "no child is left",
    ], done.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_no_tasks_no_outcomes(tmp_path, workers):
    with LocalWorkers(workers) as engine:
        assert list(engine.run([], Place(tmp_path), PictureOptions(), lambda *_: None)) == []


def test_workers_that_are_started_before_the_tasks_are_known_are_used_and_gone_at_the_end(tmp_path):
    before = set(children())
    with LocalWorkers(3) as engine:
        engine.start(2)
        started = set(children()) - before
        assert len(started) == 2
        tasks = [ShardTask(f"train-{n:06d}.tar", "train", ()) for n in range(4)]
        assert len(list(engine.run(tasks, Place(tmp_path), PictureOptions(), lambda *_: None))) == 4
    assert not started & set(children())


def test_workers_that_turn_out_to_be_too_many_are_gone_at_the_end(tmp_path):
    before = children()
    with LocalWorkers(3) as engine:
        engine.start(3)
        assert list(engine.run([], Place(tmp_path), PictureOptions(), lambda *_: None)) == []
    assert children() == before


def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()

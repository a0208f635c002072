"""Several processes that train one model together, over loopback: JAX on the CPU, a device to a process."""

import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from pictures import make_dataset, numbers_in

import shardkit
from shardkit.adapters.keras.snapshot import read_snapshot
from shardkit.storage import open_store

pytest.importorskip("jax", reason="JAX is not installed")
pytest.importorskip("keras", reason="Keras is not installed")

SCRIPT = Path(__file__).with_name("processes_script.py")
SECONDS = 300
NUM_PICTURES = 100
EPOCHS = 3
BATCH_SIZE = 9
OPTIONS = {"image_size": (16, 16), "chunk_size": 3, "lanes": 12, "threads": 1}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    return make_dataset(folder, NUM_PICTURES, split="train=0.7,val=0.3", stratify=True)


@pytest.fixture(scope="module")
def plan(dataset):
    """Which pictures each step of the run must hold, from one loader alone."""
    loader = shardkit.Loader(dataset, "train", batch_size=BATCH_SIZE, shuffle=True, seed=3, **OPTIONS)
    return [sorted(numbers_in(batch.arrays["image"])) for epoch in range(EPOCHS) for batch in loader.batches(epoch)]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def started(dataset, folder, world_size, **settings):
    """The script's processes, stopped when this is left."""
    folder.mkdir()
    address = f"127.0.0.1:{free_port()}"
    processes = []
    try:
        for rank in range(world_size):
            own = {"rank": rank, "world_size": world_size, "address": address, "out": str(folder / str(rank))}
            shared = {"dataset": str(dataset), "epochs": EPOCHS, "num_pictures": NUM_PICTURES}
            given = {
                name: value.format(rank=rank) if isinstance(value, str) else value for name, value in settings.items()
            }
            document = json.dumps(own | shared | given)
            with (folder / f"{rank}.log").open("w") as log:
                processes.append(
                    subprocess.Popen([sys.executable, str(SCRIPT), document], stdout=log, stderr=subprocess.STDOUT)
                )
        yield processes
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(timeout=SECONDS)


def wait_until(fact, processes, folder):
    """Wait for a fact; a process that fails ends the wait with what it said."""
    deadline = time.monotonic() + SECONDS
    while not fact():
        failed = [rank for rank, process in enumerate(processes) if process.poll()]
        assert not failed, (folder / f"{failed[0]}.log").read_text()
        assert time.monotonic() < deadline, f"not done in {SECONDS} s"
        time.sleep(0.1)


def run(dataset, folder, world_size, **settings):
    """What each rank wrote, once all have ended."""
    with started(dataset, folder, world_size, **settings) as processes:
        wait_until(lambda: all(process.poll() == 0 for process in processes), processes, folder)
    return [
        (json.loads((folder / f"{rank}.json").read_text()), np.load(folder / f"{rank}.npz"))
        for rank in range(world_size)
    ]


def pictures_by_step(arrays):
    assert arrays["seen"].max() == 1
    return [np.flatnonzero(row).tolist() for row in arrays["seen"]]


def plain_evaluation(dataset, arrays):
    """Loss, accuracy and top-2 accuracy over the validation split, in float64, without Keras."""
    loader = shardkit.Loader(dataset, "val", batch_size=11, **OPTIONS)
    images, labels = (np.concatenate(parts) for parts in zip(*loader, strict=True))
    assert len(labels) == loader.num_samples == 30
    logits = images.reshape(len(images), -1) / 255 @ arrays["kernel"].astype(np.float64) + arrays["bias"]
    true = logits[np.arange(len(labels)), labels]
    better = (logits > true[:, None]).sum(axis=1)
    loss = (np.log(np.exp(logits).sum(axis=1)) - true).mean()
    return {"loss": loss, "accuracy": (better == 0).mean(), "top_2": (better < 2).mean()}


@pytest.fixture(scope="module")
def undisturbed(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return run(dataset, folder / "alone", 1, run=str(folder / "save"))[0]


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_train_and_evaluate_as_one(dataset, plan, undisturbed, tmp_path, world_size):
    ranks = run(dataset, tmp_path / "out", world_size, run=str(tmp_path / "save-{rank}"))
    assert [(found["rank"], found["world_size"]) for found, _ in ranks] == [(r, world_size) for r in range(world_size)]
    rows = world_size * -(-BATCH_SIZE // world_size)
    for found, arrays in ranks:
        assert pictures_by_step(arrays) == plan
        assert (arrays["rows"] == rows).all()
        assert f"together in {world_size} processes" in found["refused"]
        plain = plain_evaluation(dataset, arrays)
        assert {name: found["evaluated"][name] for name in plain} == pytest.approx(plain, rel=1e-6)
        for name in plain:
            assert found["history"][f"val_{name}"][-1] == pytest.approx(plain[name], rel=1e-6)
            assert found["history"][name] == pytest.approx(undisturbed[0]["history"][name], rel=1e-4)
        np.testing.assert_allclose(arrays["kernel"], undisturbed[1]["kernel"], atol=1e-5)
    assert [path.name for path in tmp_path.glob("save-*/*.npz")] == ["resume.npz"]
    assert (tmp_path / "save-0" / "resume.npz").exists()


@pytest.mark.slow
def test_a_run_killed_on_four_ranks_goes_on_on_one_two_and_three(dataset, plan, undisturbed, tmp_path):
    done = len(plan) // EPOCHS + 3
    folder = tmp_path / "four"
    with started(dataset, folder, 4, run=str(tmp_path / "save"), hang_after=done) as processes:
        wait_until(lambda: len(list(folder.glob("*.hangs"))) == 4, processes, folder)
    saved = read_snapshot(open_store(tmp_path / "save"), "resume.npz").loader
    assert (saved["epoch"], saved["step"]) == (1, 2)
    for world_size in (1, 2, 3):
        save = tmp_path / f"save-{world_size}"
        shutil.copytree(tmp_path / "save", save)
        for found, arrays in run(dataset, tmp_path / str(world_size), world_size, run=str(save)):
            assert found["epochs"] == list(range(EPOCHS))
            assert pictures_by_step(arrays) == plan
            rows = [12] * (done - 1) + [world_size * -(-BATCH_SIZE // world_size)] * (len(plan) - done + 1)
            assert arrays["rows"].tolist() == rows
            plain = plain_evaluation(dataset, arrays)
            assert {name: found["evaluated"][name] for name in plain} == pytest.approx(plain, rel=1e-6)
            for name in plain:
                before, now = undisturbed[0]["history"], found["history"]
                assert now[f"val_{name}"] == pytest.approx(before[f"val_{name}"], rel=1e-4)
                # Keras's mean over an epoch weighs steps by rows, which changed in the middle of epoch 1.
                assert [now[name][0], now[name][2]] == pytest.approx([before[name][0], before[name][2]], rel=1e-4)
            np.testing.assert_allclose(arrays["kernel"], undisturbed[1]["kernel"], atol=1e-5)

"""A directory belongs to one run at a time."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fits
import keras
import pytest
from fits import Stop, fit, loaders, make_model, stopped
from pictures import make_dataset

import shardkit
from shardkit.storage import StoreOptions, open_store

SCRIPT = Path(__file__).with_name("resume_lock_script.py")
LOCK = ".shardkit-lock"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("lock"), 100, split="train=0.7,val=0.3", stratify=True)


def start(dataset, directory, *words):
    command = [sys.executable, SCRIPT, dataset, directory, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_second_process_is_refused_until_the_first_is_gone(dataset, tmp_path):
    first = start(dataset, tmp_path, "wait")
    try:
        assert [first.stdout.readline() for _ in range(3)] == ["step 0\n", "step 1\n", "step 2\n"]
        said, complaint = start(dataset, tmp_path).communicate(timeout=300)
        assert said == "", "it trains nothing"
        assert f"another run trains with this directory: process {first.pid} on" in complaint
        assert "give Resume another directory" in complaint
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=60)
        assert (tmp_path / LOCK).exists(), "a kill leaves the file"
        last = start(dataset, tmp_path)
        said, complaint = last.communicate(timeout=300)
        assert last.returncode == 0, complaint
        # Step 2 had not begun to train; the steps before are stepped over.
        assert said.splitlines() == [f"step {step}" for step in range(8)]
    finally:
        first.kill()
        first.communicate(timeout=60)
    assert [path.name for path in tmp_path.iterdir()] == ["resume.npz"]


def test_the_lock_is_held_while_fit_runs(dataset, tmp_path):
    class Look(keras.callbacks.Callback):
        resume_attributes = ()

        def __init__(self):
            super().__init__()
            self.seen = []

        def on_train_batch_end(self, batch, logs=None):
            self.seen.append((tmp_path / LOCK).exists())

    look = Look()
    fit(dataset, tmp_path, look, epochs=1)
    assert look.seen == [True] * 8
    assert not (tmp_path / LOCK).exists()


def test_a_fit_within_a_fit_needs_a_directory_of_its_own(dataset, tmp_path):
    class Nested(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                with pytest.raises(
                    shardkit.ConfigError, match="another run trains with this directory: in this process"
                ):
                    fit(dataset, tmp_path / ".." / tmp_path.name, epochs=1)
                fit(dataset, tmp_path / "inner", epochs=1)

    fit(dataset, tmp_path, Nested(), epochs=1)
    assert (tmp_path / "inner" / "resume.npz").exists()


def test_what_an_exception_left_locked_is_taken_over(dataset, tmp_path):
    stopped(dataset, tmp_path, at=(0, 3))
    assert (tmp_path / LOCK).exists()
    stopped(dataset, tmp_path, at=(1, 3))
    fit(dataset, tmp_path)
    assert not (tmp_path / LOCK).exists()


def test_a_directory_in_a_bucket_is_locked_as_well(dataset, seaweedfs):
    def run(*callbacks):
        train = loaders(dataset)[0]
        options = {"storage_options": seaweedfs.storage_options}
        resume = shardkit.Resume(train, f"{seaweedfs.url}/locked-run", every=0, **options)
        make_model().fit(shardkit.to_keras(train), epochs=2, verbose=0, callbacks=[resume, *callbacks])

    class Look(keras.callbacks.Callback):
        resume_attributes = ()
        seen = ()

        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                self.seen = (*self.seen, owner())
                with pytest.raises(
                    shardkit.ConfigError, match="another run trains with this directory: in this process"
                ):
                    run()

    def owner():
        place = StoreOptions(storage_options=seaweedfs.storage_options)
        data = open_store(f"{seaweedfs.url}/locked-run", place).read_if_there("shardkit-lock.json", 4096)
        return None if data is None else json.loads(data)["process"]

    with pytest.raises(InterruptedError):
        run(Stop(0, 3))
    assert owner() == os.getpid()
    look = Look()
    run(look)
    assert look.seen == (os.getpid(), os.getpid())
    assert owner() is None


def test_a_fit_that_is_refused_leaves_nothing_locked(dataset, tmp_path):
    fit(dataset, tmp_path, epochs=1)
    with pytest.raises(shardkit.StateError):
        fit(dataset, tmp_path, seed=5)
    assert not (tmp_path / LOCK).exists()


def test_other_ranks_do_not_lock(dataset, tmp_path):
    train = shardkit.Loader(dataset, "train", batch_size=8, image_size=(16, 16), rank=1, world_size=2)
    model = make_model()
    with pytest.raises(InterruptedError):
        model.fit(
            shardkit.to_keras(train), verbose=0, callbacks=[shardkit.Resume(train, tmp_path, every=0), Stop(0, 3)]
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_lock_of_a_failed_fit_goes_with_the_process(dataset, tmp_path):
    script = f"""
import sys
sys.path[:0] = {[str(Path(fits.__file__).parent)]!r}
from fits import Stop, fit
fit({str(dataset)!r}, {str(tmp_path)!r}, Stop(0, 3), epochs=1)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert "InterruptedError" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["resume.npz"]
    assert fit(dataset, tmp_path, epochs=1)[1].epoch == [0]
    assert loaders(dataset)[0].position.step == 0

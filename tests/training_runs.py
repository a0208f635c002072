"""The training script of `integration/training_script.py`, started, killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

__all__ = ["Run", "same"]

SCRIPT = Path(__file__).with_name("integration") / "training_script.py"


class Run:
    """The training script, with its own save and result."""

    def __init__(self, folder, dataset, name, *, backend="tensorflow", **settings):
        self.settings = {
            "dataset": str(dataset),
            "run": str(folder / name),
            "out": str(folder / f"{name}-out"),
            **settings,
        }
        self.environment = {**os.environ, "KERAS_BACKEND": backend}

    def start(self, **changes):
        settings = json.dumps({**self.settings, **changes})
        return subprocess.Popen([sys.executable, SCRIPT, settings], env=self.environment, stderr=subprocess.PIPE)

    def finish(self, **changes):
        process = self.start(**changes)
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said.decode()[-3000:]

    def kill_after_a_save(self, delay, **changes):
        """Start, wait until it has saved once more, wait a little, kill; False when it ended before."""
        save = Path(self.settings["run"]) / "resume.npz"
        before = save.stat().st_mtime_ns if save.exists() else None
        process = self.start(**changes)
        try:
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                if save.exists() and save.stat().st_mtime_ns != before:
                    break
                time.sleep(0.01)
            time.sleep(delay)
            killed = process.poll() is None
            process.send_signal(signal.SIGKILL)
        finally:
            process.communicate(timeout=60)
        return killed

    def result(self):
        with np.load(self.settings["out"] + ".npz") as found:
            variables = [found[name] for name in found.files]
        return json.loads(Path(self.settings["out"] + ".json").read_text()), variables


def same(left, right):
    assert left[0] == right[0]
    assert len(left[1]) == len(right[1])
    for one, other in zip(left[1], right[1], strict=True):
        np.testing.assert_array_equal(one, other)

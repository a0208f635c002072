"""Every use in `keras_uses.py`, on each backend, and on the oldest supported Keras where its environment is there."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pictures import make_dataset

SCRIPT = Path(__file__).with_name("keras_uses.py")
# Made by `tools/keras-oldest`, which `tools/test` runs.
OLDEST = Path(__file__).parents[2] / "build" / "env" / "keras-oldest" / "bin" / "python"
NAMES = tuple(
    name
    for script in (SCRIPT, *(SCRIPT.with_name(f"keras_{name}.py") for name in ("examples", "resume_uses")))
    for name in re.findall(r"^@use\ndef (\w+)", script.read_text(), re.MULTILINE)
)
CASES = [("newest", "tensorflow"), ("newest", "jax"), ("newest", "torch"), ("oldest", "tensorflow")]
if "SHARDKIT_ALL_KERAS" in os.environ:
    CASES += [("oldest", "jax"), ("oldest", "torch")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A process for each environment and backend, two at a time where no other tests run meanwhile."""
    dataset = make_dataset(tmp_path_factory.mktemp("uses"), 100, split="train=0.7,val=0.3", stratify=True)
    with ThreadPoolExecutor(1 if "PYTEST_XDIST_WORKER" in os.environ else 2) as threads:
        yield {case: threads.submit(problems, dataset, *case) for case in CASES}


def problems(dataset, environment, backend):
    """What went wrong with each use, or ``None``, by name; a text where they cannot be run."""
    python = sys.executable if environment == "newest" else OLDEST
    if not Path(python).exists():
        return "tools/keras-oldest has not run"
    if subprocess.run([python, "-c", f"import {backend}"], capture_output=True).returncode:
        return f"{backend} is not installed"
    settings = {**os.environ, "KERAS_BACKEND": backend}
    ran = subprocess.run([python, SCRIPT, dataset], capture_output=True, text=True, env=settings, timeout=1200)
    assert ran.returncode == 0, ran.stderr[-3000:]
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"use"')]
    return {line["use"]: line["problem"] for line in lines}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
@pytest.mark.parametrize("name", NAMES)
def test_each_use_sees_exactly_the_plan(runs, case, name):
    found = runs[case].result()
    if isinstance(found, str):
        pytest.skip(found)
    assert found[name] is None

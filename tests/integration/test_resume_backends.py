"""Runs of every kind of model and every backend of Keras, killed and started again, end bit for bit the same."""

import importlib.util
import random

import pytest
from pictures import make_dataset
from stopping import kills_of_each_kind
from training_runs import Run, same


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("backends"), 100, split="train=0.7,val=0.3", stratify=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "model"),
    [("tensorflow", "gan"), *((backend, model) for backend in ("jax", "torch") for model in ("plain", "gan", "vae"))],
)
def test_a_killed_run_ends_bit_for_bit_the_same(tmp_path, dataset, backend, model):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    settings = {"backend": backend, "model": model, "epochs": 3}
    # The classifier has a random layer without a seed. It is evaluated on the training data as well, changed by map=.
    if model == "plain":
        settings |= {"evaluate": True, "map": True}
    whole, run = Run(tmp_path, dataset, "whole", **settings), Run(tmp_path, dataset, "killed", slow=0.1, **settings)
    undisturbed = whole.start()
    try:
        rng, done = random.Random(f"{backend} {model}"), 0
        for _ in range(kills_of_each_kind()):
            done += run.kill_after_a_save(rng.uniform(0, 1), threads=rng.randint(1, 3))
        run.finish(slow=0)
    finally:
        said = undisturbed.communicate(timeout=300)[1]
    assert undisturbed.returncode == 0, said.decode()[-3000:]
    assert done, "it ended before it was killed"
    expected = whole.result()
    assert expected[0]["epochs"] == [0, 1, 2]
    assert len(expected[0]["read"]) == (3 * 8 if model == "plain" else 0)
    same(run.result(), expected)

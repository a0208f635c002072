"""Who this process is, from what frameworks and launchers say."""

import json
import types
import warnings

import pytest

from shardkit.errors import ConfigError, ShardkitWarning
from shardkit.loader.order import OrderNumbers, Share
from shardkit.loader.ranks import find_rank, share_of, warn_of_shared_chunks

CLUSTER = {"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "8"}, (3, 8)),
        ({"RANK": "3"}, (0, 1)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, (1, 2)),
        ({"PMI_RANK": "1", "PMI_SIZE": "4"}, (1, 4)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "6"}, (5, 6)),
        ({"TF_CONFIG": json.dumps({**CLUSTER, "task": {"type": "chief", "index": 0}})}, (0, 3)),
        ({"TF_CONFIG": json.dumps({**CLUSTER, "task": {"type": "worker", "index": 1}})}, (2, 3)),
        ({"TF_CONFIG": "{}"}, (0, 1)),
        (
            {"TF_CONFIG": json.dumps({"cluster": {"worker": ["a", "b"]}, "task": {"type": "worker", "index": 1}})},
            (1, 2),
        ),
    ],
)
def test_what_launchers_say(environment, expected):
    assert find_rank(environment, {}) == expected


def test_jax_is_asked_first_where_it_runs_several_processes():
    several = types.SimpleNamespace(process_count=lambda: 4, process_index=lambda: 2)
    alone = types.SimpleNamespace(process_count=lambda: 1, process_index=lambda: 0)
    environment = {"RANK": "1", "WORLD_SIZE": "2"}
    assert find_rank(environment, {"jax": several}) == (2, 4)
    assert find_rank(environment, {"jax": alone}) == (1, 2)


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "x", "WORLD_SIZE": "2"},
        {"TF_CONFIG": "{"},
        {"TF_CONFIG": json.dumps({**CLUSTER, "task": {"type": "ps", "index": 0}})},
        {"TF_CONFIG": json.dumps(CLUSTER)},
    ],
)
def test_nonsense_is_an_error(environment):
    with pytest.raises(ConfigError):
        find_rank(environment, {})


def test_shares(monkeypatch):
    assert share_of({}) == Share()
    assert share_of({"rank": 1, "world_size": 3}) == Share(rank=1, world_size=3)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert share_of({"rank": "auto"}) == Share(rank=1, world_size=2)
    with pytest.raises(ConfigError, match="finds world_size itself"):
        share_of({"rank": "auto", "world_size": 2})


def order(lanes, *, shuffled=True):
    return OrderNumbers(
        fingerprint="0" * 32, num_samples=100, batch_size=10, drop_remainder=True, seed=0, shuffled=shuffled,
        chunk_samples=1, lanes=lanes, span=0, first_span=16,
    )  # fmt: skip


@pytest.mark.parametrize(("world_size", "lanes", "times", "better"), [(6, 16, 3, 18), (32, 16, 2, 32), (3, 16, 3, 18)])
def test_one_warning_names_a_better_number_of_lanes(world_size, lanes, times, better):
    with pytest.warns(ShardkitWarning, match=f"each chunk is read by {times} ranks; lanes={better} would") as caught:
        warn_of_shared_chunks(Share(world_size=world_size), order(lanes))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_shared_chunks(Share(world_size=world_size), order(better))
        warn_of_shared_chunks(Share(world_size=world_size), order(lanes, shuffled=False))

"""Loaders in forked and spawned processes: right data or a named error, and no hang."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import make_dataset
from remote import served

import shardkit
from shardkit.errors import ConfigError

SCRIPT = Path(__file__).with_name("forks_script.py")
# More of each: `SHARDKIT_FORKS=100 tools/test tests/integration/test_forks.py`.
FORKS = int(os.environ.get("SHARDKIT_FORKS", "6"))
SPAWNS = max(1, FORKS // 5)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """60 images in 6 shards."""
    return make_dataset(tmp_path_factory.mktemp("forks"), 60, shard_samples=10)


@pytest.fixture(scope="module")
def expected(dataset):
    """The digest of the first epoch."""
    return outcomes("digest", dataset, "")[0]


@pytest.fixture(scope="module")
def bucket(dataset, seaweedfs):
    """The data set in a bucket: its URL, and how to get there."""
    url = f"{seaweedfs.url}/forks"
    shardkit.pack(dataset.parent / "pictures", url, shard_samples=10, storage_options=seaweedfs.storage_options)
    return url, seaweedfs.storage_options


def outcomes(kind, url, expected, options=None, environment=None):
    """What as many processes as are asked for come to."""
    count = {"digest": 1, "spawn": SPAWNS}.get(kind, FORKS)
    run = subprocess.run(
        [sys.executable, SCRIPT, kind, str(count), str(url), json.dumps(options or {}), expected],
        check=False, capture_output=True, text=True, timeout=1200, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    assert "Traceback" not in run.stderr, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert len(found) >= count
    return found


def test_a_loader_of_this_machine(dataset, expected):
    assert set(outcomes("before", dataset, expected)) == {"right"}
    assert set(outcomes("spawn", dataset, expected)) == {"right"}


def test_a_loader_of_a_web_server(dataset, expected):
    with served(dataset) as server:
        assert set(outcomes("before", server.url, expected)) == {"right"}
        assert set(outcomes("spawn", server.url, expected)) == {"right"}


@pytest.mark.parametrize("remote", [False, True])
def test_forks_while_the_parent_iterates(dataset, expected, remote):
    if remote:
        with served(dataset) as server:
            found = outcomes("while", server.url, expected)
    else:
        found = outcomes("while", dataset, expected)
    assert {one for one in found if not one.startswith("named: ShardkitError: the process was forked")} == {"right"}


def test_a_loader_of_a_bucket(bucket, expected):
    url, options = bucket
    for kind in ("before", "while"):
        found = {one for one in outcomes(kind, url, expected, options) if one != "right"}
        assert all(one.startswith("named: ") and "forked" in one for one in found), found
    environment = {"AWS_ACCESS_KEY_ID": options["access_key_id"], "AWS_SECRET_ACCESS_KEY": options["secret_access_key"]}
    assert set(outcomes("spawn", url, expected, options, environment)) == {"right"}


def test_pickles_hold_no_secret(bucket, monkeypatch):
    url, options = bucket
    loader = shardkit.Loader(url, storage_options=options)
    data = pickle.dumps(loader)
    assert options["secret_access_key"].encode() not in data
    assert options["access_key_id"].encode() not in data
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match="pickled without access_key_id, secret_access_key.*environment variables"):
        pickle.loads(data)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret_access_key"])
    assert pickle.loads(data).num_samples == loader.num_samples


def test_secrets_that_no_environment_stands_in_for_are_refused(dataset):
    with served(dataset) as server:
        for url, options in [
            (server.url.replace("://", "://user:Tr0ub4dor@"), {}),
            (f"{server.url}?sig=Tr0ub4dor", {}),
            (server.url, {"Authorization": "Bearer Tr0ub4dor"}),
        ]:
            loader = shardkit.Loader(url, storage_options=options)
            with pytest.raises(ConfigError, match="cannot be pickled") as raised:
                pickle.dumps(loader)
            assert "Tr0ub4dor" not in str(raised.value)

"""Many data sets at once: one thread for requests, and few descriptors."""

import json
import subprocess
import sys

import pytest
from pictures import make_dataset
from remote import served

SCRIPT = """
import json, os, resource, sys, threading
import shardkit

resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
loaders = [shardkit.Loader(sys.argv[1], batch_size=8, image_size=(16, 16)) for _ in range(70)]
for loader in loaders[:10]:
    batches = iter(loader)
    next(batches)
for _ in range(70):
    assert shardkit.verify(sys.argv[1]).problems == ()
print(json.dumps([thread.name for thread in threading.enumerate()]))
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("many"), 20)


@pytest.mark.parametrize("remote", [False, True])
def test_with_a_hundred_descriptors(dataset, remote):
    def run(url):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(url)], check=False, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    if not remote:
        assert "shardkit-io" not in run(dataset)
    else:
        with served(dataset) as server:
            assert run(server.url).count("shardkit-io") == 1

"""Python exits while daemon threads still load: quietly or with a named error, and never with a crash."""

import json
import os
import re
import subprocess
import sys

import pytest
from pictures import make_dataset
from remote import served

import shardkit

# More of each: `SHARDKIT_EXITS=40 tools/test tests/integration/test_exit.py`.
EXITS = int(os.environ.get("SHARDKIT_EXITS", "2"))

SCRIPT = """
import json, sys, threading, time
import shardkit

url, options, seconds = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])
loader = shardkit.Loader(url, storage_options=options, batch_size=8, image_size=(64, 64), shuffle=True, threads=2)
begun = threading.Event()

def forever():
    epoch = 0
    while True:
        for batch in loader.batches(epoch):
            begun.set()
        epoch += 1

for _ in range(2):
    threading.Thread(target=forever, daemon=True).start()
assert begun.wait(60)
time.sleep(seconds)
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """120 images in 6 shards."""
    return make_dataset(tmp_path_factory.mktemp("exit"), 120, shard_samples=20)


def leave(url, options=None):
    for number in range(EXITS):
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(url), json.dumps(options or {}), str(0.013 * number)],
            check=False, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr[-3000:]
        named = re.findall(r"^\S*(?:Error|Exception|Fatal|terminate)\S*:", run.stderr, re.MULTILINE)
        assert all(one.startswith("shardkit.errors.") for one in named), run.stderr[-3000:]


def test_a_loader_of_this_machine(dataset):
    leave(dataset)


def test_a_loader_of_a_web_server(dataset):
    with served(dataset) as server:
        leave(server.url)


def test_a_loader_of_a_bucket(dataset, seaweedfs):
    url = f"{seaweedfs.url}/exit"
    shardkit.pack(dataset.parent / "pictures", url, shard_samples=20, storage_options=seaweedfs.storage_options)
    leave(url, seaweedfs.storage_options)

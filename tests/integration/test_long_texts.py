"""What a server or a file says at length is neither shown at length nor slow to hide secrets in."""

import time

import pytest
from material import material_dir
from pictures import make_dataset
from remote import batches_of, served
from servers import modes
from servers.fault import Rule

import shardkit

MARKER = "q7Zgeheim9x"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("long"), 30)


def error_of(act):
    """What an error says, and the CPU seconds it took."""
    started = time.process_time()
    with pytest.raises(shardkit.ShardkitError) as caught:
        act()
    return str(caught.value), time.process_time() - started


LOCATIONS = ["a-" * 3900, "file://" + "a:" * 3900, "x" * 7900, f"file://{MARKER}:{'a' * 7000}@h/?{MARKER}"]


@pytest.mark.parametrize("location", LOCATIONS, ids=range(len(LOCATIONS)))
def test_where_a_server_leads_to(dataset, location):
    location = location if ":" in location else f"ftp://{location}/"
    with served(dataset, Rule(fault=modes.Redirect(location), path="/manifest.json")) as server:
        said, seconds = error_of(lambda: batches_of(server.url, retries=0))
    assert "which is no web address" in said
    assert len(said) < 1000
    assert MARKER not in said
    assert seconds < 5  # of 0.1 s


def test_a_manifest_of_long_texts(tmp_path):
    (tmp_path / "manifest.json").write_bytes(material_dir("hostile", "manifest-redos-60kB.json").read_bytes())
    for act in (shardkit.read_manifest, shardkit.Loader, shardkit.verify):
        said, seconds = error_of(lambda act=act: act(tmp_path))
        assert "not a shardkit manifest" in said or "format version" in said
        assert len(said) < 1000
        assert seconds < 5  # of 0.1 s

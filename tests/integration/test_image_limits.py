"""Images that take too much: refused by name when packed, named when loaded, and never in the way of Ctrl-C."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hostile_images import many_scans
from pictures import write_pictures
from typer.testing import CliRunner

import shardkit
from shardkit.cli.commands import app
from shardkit.packer.options import PackOptions

WIDE = shardkit.ImageLimits(scans=1_000_000, seconds=1e6)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = write_pictures(tmp_path_factory.mktemp("limits") / "pictures", 9)
    (folder / "class-0" / "mean.jpg").write_bytes(many_scans(150))
    return folder


@pytest.fixture(scope="module")
def dataset(source):
    place = source.parent / "shards"
    shardkit.pack(source, place, workers=1, image_limits=WIDE)
    return place


def test_the_packer_names_the_image_and_the_option(source, tmp_path):
    with pytest.raises(shardkit.PackError) as caught:
        shardkit.pack(source, tmp_path / "shards", workers=1)
    assert caught.value.failures == ("class-0/mean.jpg: the JPEG has over 100 scans, the limit (--max-scans)",)
    assert not (tmp_path / "shards" / "manifest.json").exists()


def test_on_the_command_line(source, tmp_path):
    command = ["pack", str(source), str(tmp_path / "shards"), "--workers", "1"]
    assert isinstance(CliRunner().invoke(app, command).exception, shardkit.PackError)
    done = CliRunner().invoke(app, [*command, "--max-scans", "150"])
    assert done.exit_code == 0, done.output
    for option in ("--max-pixels=255", "--max-memory=1kB", "--max-seconds=1e-9"):
        found = CliRunner().invoke(app, [*command[:2], str(tmp_path / option), "--workers", "1", option])
        assert isinstance(found.exception, shardkit.PackError)
        assert option.partition("=")[0] in str(found.exception)
    refused = CliRunner().invoke(app, [*command, "--max-memory", "lots"]).exception
    assert isinstance(refused, shardkit.ConfigError)


def test_other_limits_are_kept_in_the_manifest(source, dataset):
    assert shardkit.read_manifest(dataset).packed["image_limits"] == WIDE.as_json()
    assert "image_limits" not in PackOptions.of(split=None, shard_size=1).as_json()
    with pytest.raises(shardkit.ConfigError, match="image_limits"):
        shardkit.pack(source, dataset, image_limits={"scans": 3})
    with pytest.raises(shardkit.ConfigError, match="image_limits"):
        shardkit.Loader(dataset, image_limits=5)


def test_the_loader_names_shard_and_key_or_takes_another(dataset):
    options = {"batch_size": 10, "image_size": (16, 16)}
    with pytest.raises(shardkit.CodecError, match="over 100 scans") as caught:
        list(shardkit.Loader(dataset, **options))
    assert (caught.value.shard, caught.value.key, caught.value.field) == ("train-000000.tar", "class-0/mean", "image")
    assert "image_limits=ImageLimits(scans=...)" in str(caught.value)
    loader = shardkit.Loader(dataset, on_error="skip", **options)
    (batch,) = loader.batches()
    assert len(batch.keys) == 10
    assert np.count_nonzero(np.asarray(batch.keys) == "class-0/mean") == 0
    (batch,) = shardkit.Loader(dataset, image_limits=WIDE, **options).batches()
    assert "class-0/mean" in list(batch.keys)


LOADING = """
import sys, shardkit
limits = shardkit.ImageLimits(scans=1_000_000, seconds=1e9)
batches = iter(shardkit.Loader(sys.argv[1], image_limits=limits, image_size=(8, 8), batch_size=1, threads=1))
print("decoding", flush=True)
next(batches)
"""
PACKING = """
import sys, shardkit
limits = shardkit.ImageLimits(scans=1_000_000, seconds=1e9)
shardkit.pack(sys.argv[1] + "/../slow", sys.argv[1] + "/../again", workers=1, check="decode", image_limits=limits)
"""


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A data set of one image that takes minutes, next to the image's folder."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "slow" / "class").mkdir(parents=True)
    (folder / "slow" / "class" / "mean.jpg").write_bytes(many_scans(50_000, side=5000))
    shardkit.pack(
        folder / "slow", folder / "shards", workers=1, image_limits=shardkit.ImageLimits(scans=10**6, seconds=1e9)
    )
    return folder / "shards"


@pytest.mark.parametrize("code", [LOADING, PACKING], ids=["loading", "packing"])
def test_ctrl_c_does_not_wait_for_the_decoder(slow, code):
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(slow)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # Until it has used a second more than starting takes, it may not be at the decoder yet.
    deadline = time.monotonic() + 60
    while cpu_seconds(process.pid) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - started < 15  # the promise is two seconds, and decoding takes minutes
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors


def cpu_seconds(process):
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100

"""The command line: one line for an error, exit codes, and what a stop says."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pictures import tree, write_pictures

import shardkit

COMMAND = [sys.executable, "-m", "shardkit.cli"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    source = write_pictures(folder / "photos", 60)
    shardkit.pack(source, folder / "shards", shard_samples=10, workers=1, split="train=0.7,val=0.3")
    return folder / "shards"


def run(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False, **options
    )


def one_line_of(done):
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("shardkit: ")
    return line


def test_what_is_in_a_data_set(dataset):
    found = json.loads(run("info", dataset, "--json", "--classes").stdout)
    assert found["splits"]["train"]["num_samples"] + found["splits"]["val"]["num_samples"] == 60
    assert sum(found["class_counts"]["train"].values()) == found["splits"]["train"]["num_samples"]
    assert (found["picture_formats"], found["picture_widths"]) == ({"png": 60}, [16, 16])
    said = run("info", dataset, "--classes").stdout
    assert "widths: 16 to 16 pixels" in said
    assert "3 classes: class-0, class-1, class-2" in run("info", dataset).stdout


@pytest.mark.parametrize("url", ["http://[x", "ftp://host/x", "s3://", "", "gone"])
@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_wrong_place_is_one_line(command, url):
    one_line_of(run(command, url))


def test_wrong_settings_are_one_line(dataset, tmp_path):
    photos = dataset.parent / "photos"
    for options, reason in (
        (["--shard-size", "9" * 400], "shard_size must be a size"),
        (["--split", "train=nan"], "fraction of split train"),
        (["--label-column", "x"], "label_column is only for a table"),
        (["--workers", "0"], "workers must be a whole number"),
    ):
        assert reason in one_line_of(run("pack", photos, tmp_path / "dest", *options))
    assert not (tmp_path / "dest").exists()


def test_a_manifest_that_was_edited_is_refused_by_all(dataset, tmp_path):
    for name, data in tree(dataset).items():
        (tmp_path / name).write_bytes(data)
    document = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**document, "classes": ["a"]}))
    for arguments in (["verify", tmp_path], ["info", tmp_path], ["unpack", tmp_path, tmp_path / "back"]):
        assert "its digest does not fit what it says" in one_line_of(run(*arguments))


def test_a_manifest_that_is_far_too_large_is_not_read(dataset, tmp_path):
    with (tmp_path / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)
    assert "1099511627776 bytes where at most" in one_line_of(run("info", tmp_path))


def test_it_says_that_an_unfinished_run_was_replaced(dataset, tmp_path):
    photos = dataset.parent / "photos"
    (tmp_path / "unfinished.json").write_text(json.dumps({"plan": "0" * 32, "splits": ["val"]}))
    (tmp_path / "val-000000.tar").write_bytes(b"of an older plan")
    said = run("pack", photos, tmp_path).stdout
    assert "replaced what an unfinished run of other pictures or options had left there" in said
    assert not (tmp_path / "val-000000.tar").exists()


# Root reads everything, so the script becomes nobody once all is imported.
UNREADABLE = """
import os, sys, shardkit
from pathlib import Path
os.chdir(sys.argv[1])
shardkit.verify("shards"), shardkit.unpack("shards", "first"), shardkit.pack("photos", "first-shards", workers=1)
for path, mode in (("shards/train-000001.tar", 0), ("shards/train-000002.parquet", 0), ("locked", 0)):
    os.chmod(path, mode)
if os.getuid() == 0:
    os.setgroups([])
    os.setuid(65534)
report = shardkit.verify("shards")
print(sorted(Path(problem.url).name for problem in report.problems), report.num_samples)
for call in (
    lambda: shardkit.pack("locked/photos", "a"), lambda: shardkit.pack("locked/t.csv", "a"),
    lambda: shardkit.unpack("shards", "locked"), lambda: shardkit.unpack("shards", "locked/below"),
    lambda: shardkit.pack("photos", "locked/a"), lambda: shardkit.pack("locked", "a"),
    lambda: shardkit.unpack("first-shards", "locked"), lambda: shardkit.unpack("first-shards", "locked/below"),
):
    try:
        call()
    except shardkit.ShardkitError as exc:
        print(type(exc).__name__, "Permission denied" in str(exc))
"""


def test_what_may_not_be_read_is_named_and_verify_goes_on(tmp_path):
    # Below pytest's own folder, which is for its owner only.
    folder = tmp_path / "open"
    write_pictures(folder / "photos", 60)
    shardkit.pack(folder / "photos", folder / "shards", shard_samples=10, workers=1)
    (folder / "locked").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", UNREADABLE, folder], capture_output=True, text=True, timeout=60, check=False
    )
    (folder / "locked").chmod(0o755)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "['train-000001.tar', 'train-000002.parquet'] 40"
    assert [line.split()[1] for line in lines[1:]] == ["True"] * 8, lines
    assert {line.split()[0] for line in lines[1:]} == {"ConfigError", "StorageError"}


ADVICE = "stopped; the same command goes on where it was"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_at_any_moment_it_says_so_in_one_line(dataset, tmp_path, number, code):
    """Before anything large is imported, while it is, and after."""
    commands = [
        (["pack", dataset.parent / "photos", tmp_path / "dest"], ADVICE),
        (["pack", dataset.parent / "photos", tmp_path / "dest", "--overwrite"], "stopped; the same command without"),
        (["unpack", dataset, tmp_path / "back"], ADVICE),
        (["verify", dataset], "stopped"),
        (["info", dataset], "stopped"),
    ]
    stopped = 0
    for place, (arguments, words) in enumerate(commands):
        for delay in (0.0, 0.1, 0.2, 0.4, 0.6):
            process = subprocess.Popen(
                [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                process_group=0,
            )  # fmt: skip
            wait_until_it_listens(process.pid)
            time.sleep(delay + place * 0.01)
            process.send_signal(number)
            result, said = process.communicate(timeout=30)
            if result and not said:
                continue  # it was done already
            assert process.returncode == code, said
            (line,) = said.splitlines()
            assert line.startswith(f"shardkit: {words}")
            stopped += 1
    assert stopped >= len(commands)  # each of them at least at once, however fast the machine


def wait_until_it_listens(pid):
    """Until the process has taken SIGTERM, the last of its signals: before, Python itself ends it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        if int(status["SigCgt"], 16) & 1 << (signal.SIGTERM - 1):
            return
        time.sleep(0.001)
    raise AssertionError("it never listened")


def test_a_closed_pipe_is_no_traceback(dataset):
    script = f"{sys.executable} -m shardkit.cli info {dataset} --json --classes | true"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=True, env=os.environ)
    assert "Traceback" not in done.stderr

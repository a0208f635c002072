"""Packing, as a user meets it: same bytes always, the tree back, and clear errors."""

import csv
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from material import material_dir
from pictures import make_dataset, tree, write_pictures
from PIL import Image
from stopping import kills_of_each_kind

import shardkit

COMMAND = [sys.executable, "-m", "shardkit.cli"]


def keys_of(dataset, split="train"):
    return shardkit.Loader(dataset, split, image_size=(8, 8)).keys()


def picture(path: Path, value: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path, format="PNG")
    return path


def test_the_number_of_workers_does_not_change_a_byte(photos, tmp_path):
    for workers in (1, 2, 5):
        shardkit.pack(photos, tmp_path / f"w{workers}", workers=workers, shard_samples=7, split="train=0.8,val=0.2")
    packed = tree(tmp_path / "w1")
    assert len(packed) > 12
    assert tree(tmp_path / "w2") == packed
    assert tree(tmp_path / "w5") == packed


def test_neither_listing_order_nor_place_nor_time_changes_a_byte(photos, tmp_path):
    elsewhere = tmp_path / "some" / "other place"
    files = sorted(photos.rglob("*.png"), key=lambda path: path.name, reverse=True)
    for path in files:
        copied = elsewhere / path.relative_to(photos)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copied)
        os.utime(copied, (1e9, 1e9))
    shardkit.pack(photos, tmp_path / "a", shard_samples=20)
    subprocess.run(
        [*COMMAND, "pack", elsewhere, tmp_path / "b", "--shard-samples", "20"],
        check=True, env={**os.environ, "TZ": "Asia/Tokyo", "LC_ALL": "C"}, cwd="/", stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_unpack_gives_every_file_back(photos, tmp_path):
    (photos / "class-0" / "notes.txt").write_text("not a picture")
    result = shardkit.pack(photos, tmp_path / "shards", split="train=0.5,val=0.5")
    assert result.ignored == {".txt": 1}
    assert shardkit.unpack(tmp_path / "shards", tmp_path / "back") == 60
    expected = {name: data for name, data in tree(photos).items() if not name.endswith(".txt")}
    assert tree(tmp_path / "back") == expected


NAMES = [
    b"plain.png", b"a.b.png", b"a.c.png", b".hidden.png", b"UPPER.PNG", b"no-suffix", b"double.png.jpg", b"-dash.png",
    b"new\nline.png", b"tab\t.png", b"quote'\".png", b"per%cent.png", b"per%2Ecent.png", b"trailing .png", b"x.txt.png",
    "caf\u00e9.png".encode(), "cafe\u0301.png".encode(), "\U0001f600.png".encode(), b"bad\xff\xfe.png", b"case.png",
    b"CASE2.png", b"Case.png", b"n" * 240 + b".png", b"d" * 120 + b"/" + b"e" * 120 + b"/" + b"f" * 100 + b".png",
]  # fmt: skip


def test_every_odd_name_comes_through(tmp_path):
    source = os.fsencode(tmp_path / "photos")
    for number, name in enumerate(NAMES):
        path = source + b"/class.v1/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        picture(tmp_path / "one.png", number)
        os.rename(tmp_path / "one.png", path)
    shardkit.pack(tmp_path / "photos", tmp_path / "shards")
    keys = keys_of(tmp_path / "shards")
    assert len(set(keys)) == len(NAMES)
    assert all("." not in key and key.isprintable() for key in keys)
    assert "class%2Ev1/a%2Eb" in keys
    shardkit.unpack(tmp_path / "shards", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(tmp_path / "photos")
    assert shardkit.verify(tmp_path / "shards").problems == ()


def test_real_pictures_in_nested_folders(tmp_path):
    stamps = material_dir("labelled", "tuxpaint")
    result = shardkit.pack(stamps, tmp_path / "top")
    assert result.manifest.classes == tuple(sorted(path.name for path in stamps.iterdir() if path.is_dir()))
    whole = shardkit.pack(stamps, tmp_path / "path", class_from="path")
    assert "food/fruit" in whole.manifest.classes
    shardkit.unpack(tmp_path / "top", tmp_path / "back")
    expected = {name: data for name, data in tree(stamps).items() if name.endswith(".png")}
    assert tree(tmp_path / "back") == expected


def test_the_format_is_told_by_content(tmp_path):
    picture(tmp_path / "photos" / "a" / "really-png.jpg")
    shardkit.pack(tmp_path / "photos", tmp_path / "shards")
    listed = subprocess.run(["tar", "-tf", tmp_path / "shards" / "train-000000.tar"], capture_output=True, check=True)
    assert listed.stdout.split() == [b"a/really-png.png", b"a/really-png.cls"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("page.jpg", b"<html>not found</html>", "picture"),
        ("empty.png", b"", ""),
        ("cut.png", None, "end"),
    ],
)
def test_a_bad_picture_is_named_and_nothing_is_half_written(photos, tmp_path, name, content, reason):
    whole = next(photos.rglob("*.png")).read_bytes()
    (photos / "class-0" / name).write_bytes(whole[:-20] if content is None else content)
    for workers in (1, 2):
        with pytest.raises(shardkit.PackError) as caught:
            shardkit.pack(photos, tmp_path / "shards", workers=workers, shard_samples=9)
        assert [failure.split(":")[0] for failure in caught.value.failures] == [f"class-0/{name}"]
        assert reason in str(caught.value)
        assert not (tmp_path / "shards" / "manifest.json").exists()
        with pytest.raises(shardkit.ManifestError, match="no data set"):
            shardkit.Loader(tmp_path / "shards")


def test_all_bad_pictures_are_named_at_once(photos, tmp_path):
    for number in range(30):
        (photos / "class-1" / f"bad{number:02d}.jpg").write_bytes(b"nonsense")
    with pytest.raises(shardkit.PackError) as caught:
        shardkit.pack(photos, tmp_path / "shards", shard_samples=5)
    assert len(caught.value.failures) == 30
    assert "and 10 more" in str(caught.value)


def test_a_picture_that_lies_in_no_class_folder_has_no_label(photos, tmp_path):
    picture(photos / "stray.png")
    with pytest.raises(shardkit.PackError, match=r"stray\.png: lies in no class folder"):
        shardkit.pack(photos, tmp_path / "shards")


def test_two_pictures_with_one_key_are_both_named(photos, tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(photos / "class-0" / "00000.jpg")
    with pytest.raises(shardkit.PackError) as caught:
        shardkit.pack(photos, tmp_path / "shards")
    assert "class-0/00000.jpg" in str(caught.value)
    assert "class-0/00000.png" in str(caught.value)


def test_an_empty_source_is_an_error(tmp_path):
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    with pytest.raises(shardkit.ConfigError, match="no pictures"):
        shardkit.pack(tmp_path / "photos", tmp_path / "shards")


def test_a_destination_with_something_else_is_left_alone(photos, tmp_path):
    (tmp_path / "dest").mkdir()
    (tmp_path / "dest" / "thesis.tar").write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(shardkit.ConfigError, match="something else: thesis.tar"):
            shardkit.pack(photos, tmp_path / "dest", overwrite=overwrite)
    assert tree(tmp_path / "dest") == {"thesis.tar": b"mine"}


def test_packed_already_other_options_and_overwrite(photos, tmp_path):
    first = shardkit.pack(photos, tmp_path / "shards")
    before = tree(tmp_path / "shards")
    assert shardkit.pack(photos, tmp_path / "shards").already_packed
    with pytest.raises(shardkit.ConfigError, match="other pictures or options"):
        shardkit.pack(photos, tmp_path / "shards", seed=1)
    assert tree(tmp_path / "shards") == before
    second = shardkit.pack(photos, tmp_path / "shards", seed=1, overwrite=True)
    assert second.manifest.fingerprint != first.manifest.fingerprint
    assert shardkit.verify(tmp_path / "shards").problems == ()


def test_a_fifo_is_never_opened(photos, tmp_path):
    os.mkfifo(photos / "class-0" / "pipe.jpg")
    with pytest.raises(shardkit.PackError, match="not a regular file"):
        shardkit.pack(photos, tmp_path / "shards")


def test_links(photos, tmp_path):
    outside = picture(tmp_path / "outside" / "o.png")
    (photos / "class-0" / "inside.png").symlink_to(photos / "class-1" / "00001.png")
    (photos / "class-0" / "out.png").symlink_to(outside)
    with pytest.raises(shardkit.PackError, match=r"class-0/out\.png: a link that leads out") as caught:
        shardkit.pack(photos, tmp_path / "shards")
    assert len(caught.value.failures) == 1
    assert shardkit.pack(photos, tmp_path / "shards", follow_symlinks=True).manifest.splits["train"].num_samples == 62
    (photos / "class-0" / "loop").symlink_to(photos)
    with pytest.raises(shardkit.PackError, match="leads back"):
        shardkit.pack(photos, tmp_path / "other", follow_symlinks=True)


def test_a_split_follows_from_the_path_alone(photos, tmp_path):
    shardkit.pack(photos, tmp_path / "a", split="train=0.7,val=0.3")
    before = set(keys_of(tmp_path / "a", "val"))
    for number in range(40):
        picture(photos / "class-2" / f"new{number}.png")
    shardkit.pack(photos, tmp_path / "b", split="train=0.7,val=0.3")
    after = set(keys_of(tmp_path / "b", "val"))
    assert {key for key in after if "new" not in key} == before
    assert 5 < len(before) < 32


def test_stratified_splits_are_exact(tmp_path):
    source = write_pictures(tmp_path / "photos", 300)
    shardkit.pack(source, tmp_path / "shards", split="train=0.8,val=0.1,test=0.1", stratify=True)
    for split, each in (("train", 80), ("val", 10), ("test", 10)):
        counts = [sum(key.startswith(f"class-{n}/") for key in keys_of(tmp_path / "shards", split)) for n in range(3)]
        assert counts == [each] * 3


def test_shards_hold_no_more_than_they_may(tmp_path):
    source = write_pictures(tmp_path / "photos", 60, size=40)
    shardkit.pack(source, tmp_path / "shards", shard_size="20kB")
    sizes = [path.stat().st_size for path in (tmp_path / "shards").glob("*.tar")]
    assert len(sizes) > 10
    assert max(sizes) <= 20_000
    shardkit.pack(source, tmp_path / "tiny", shard_size="1kB")
    assert len(list((tmp_path / "tiny").glob("*.tar"))) == 60


def rows_of(photos):
    return [
        {"file_name": str(path.relative_to(photos)), "label": path.parent.name}
        for path in sorted(photos.rglob("*.png"))
    ]


def write_table(photos, suffix):
    path = photos / f"labels{suffix}"
    rows = rows_of(photos)
    if suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, ["file_name", "label"], delimiter="," if suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_table_gives_what_the_folder_gives(photos, tmp_path, suffix):
    shardkit.pack(photos, tmp_path / "folder")
    shardkit.pack(write_table(photos, suffix), tmp_path / "table")
    from_folder, from_table = tree(tmp_path / "folder"), tree(tmp_path / "table")
    assert from_table["train-000000.tar"] == from_folder["train-000000.tar"]
    shardkit.unpack(tmp_path / "table", tmp_path / "back")
    with (tmp_path / "back" / "labels.csv").open(newline="") as file:
        assert [{"file_name": row["path"], "label": row["label"]} for row in csv.DictReader(file)] == rows_of(photos)


def test_whole_numbers_as_labels_are_kept(photos, tmp_path):
    table = photos / "t.csv"
    names = [str(path.relative_to(photos)) for path in sorted(photos.rglob("*.png"))]
    table.write_text("path,label\n" + "".join(f"{name},{3 * (number % 2) + 1}\n" for number, name in enumerate(names)))
    result = shardkit.pack(table, tmp_path / "shards")
    assert result.manifest.classes == ("0", "1", "2", "3", "4")
    labels = {int(label) for _, labels in shardkit.Loader(tmp_path / "shards", image_size=(8, 8)) for label in labels}
    assert labels == {1, 4}


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        ("path,label\nclass-0/00000.png,\n", shardkit.PackError, r"line 2, class-0/00000.png: the label is missing"),
        ("path,label\n,cat\n", shardkit.PackError, "line 2: names no picture"),
        ("path,label\nclass-0/gone.png,cat\n", shardkit.PackError, "line 2, class-0/gone.png: cannot be read"),
        ("path,label\n../../etc/passwd,cat\n", shardkit.PackError, "lies outside"),
        (
            "path,label\nclass-0/00000.png,a\nclass-0/00000.png,b\n",
            shardkit.PackError,
            "line 3, .* has the same key as",
        ),
        ("one,two\nclass-0/00000.png,cat\n", shardkit.ConfigError, "--path-column"),
        ("path,label\n", shardkit.ConfigError, "no pictures"),
        (b"\xff\xfep\x00a\x00", shardkit.ConfigError, "UTF-8"),
    ],
)
def test_a_table_that_is_wrong(photos, tmp_path, text, error, reason):
    table = photos / "t.csv"
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error, match=reason):
        shardkit.pack(table, tmp_path / "shards")


def test_a_picture_that_changes_while_it_is_packed_is_named(photos, tmp_path, monkeypatch):
    module = importlib.import_module("shardkit.packer.pack")
    real = module.make_plan

    def plan_then_change(*args):
        plan = real(*args)
        with (photos / "class-0" / "00003.png").open("ab") as file:
            file.write(b"more")
        (photos / "class-0" / "00006.png").unlink()
        return plan

    monkeypatch.setattr(module, "make_plan", plan_then_change)
    with pytest.raises(shardkit.PackError) as caught:
        shardkit.pack(photos, tmp_path / "shards", workers=1)
    assert ["changed while" in line or "No such file" in line for line in caught.value.failures] == [True, True]


def interrupted(source, dest, *, after, how):
    """Start packing with slow progress and stop it at some moment; the exit code, or None when it was done already."""
    process = subprocess.Popen(
        [*COMMAND, "pack", source, dest, "--shard-samples", "25", "--workers", "2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(how)
    code = process.wait(10)
    process.stderr.close()
    return code


@pytest.mark.slow
def test_killed_at_random_moments_and_gone_on_it_gives_the_same_bytes(tmp_path):
    source = write_pictures(tmp_path / "photos", 3000, size=12)
    started = time.monotonic()
    subprocess.run(
        [*COMMAND, "pack", source, tmp_path / "whole", "--shard-samples", "25", "--workers", "2"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    length = time.monotonic() - started
    expected = tree(tmp_path / "whole")
    rng = random.Random(0)
    killed, runs = 0, 2 * kills_of_each_kind()
    for number in range(runs):
        dest = tmp_path / f"again{number}"
        for _ in range(2):
            killed += interrupted(source, dest, after=length * rng.uniform(0.2, 1.0), how=signal.SIGKILL) != 0
        kept = {name: (dest / name).stat().st_mtime_ns for name in tree(dest) if name.endswith(".parquet")} if (
            dest.exists()) else {}  # fmt: skip
        deadline = time.monotonic() + 20
        while interrupted(source, dest, after=60, how=signal.SIGKILL) != 0:
            # A worker of the killed run may still be finishing its shard; it is gone in a moment.
            assert time.monotonic() < deadline
        assert tree(dest) == expected
        committed = [name for name in kept if name != "shards.parquet"]
        assert all((dest / name).stat().st_mtime_ns == kept[name] for name in committed[:-2])
        shutil.rmtree(dest)
    assert killed >= runs // 2


def packing(source, dest):
    """A packing run in two processes that is well under way."""
    process = subprocess.Popen(
        [*COMMAND, "pack", source, dest, "--shard-samples", "10", "--workers", "2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not dest.is_dir() or len(list(dest.iterdir())) < 6:
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.005)
    return process


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_it_ends_at_once_and_says_how_to_go_on(tmp_path, how, code):
    source = write_pictures(tmp_path / "photos", 2000, size=12)
    process = packing(source, tmp_path / "shards")
    process.send_signal(how)
    _, said = process.communicate(timeout=10)
    assert process.returncode == code
    assert "the same command goes on where it was" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "shards").glob(".shardkit-*"))
    shardkit.pack(source, tmp_path / "shards", shard_samples=10)
    assert shardkit.verify(tmp_path / "shards").problems == ()


def test_a_killed_worker_is_an_error_and_not_a_hang(tmp_path):
    source = write_pictures(tmp_path / "photos", 2000, size=12)
    process = packing(source, tmp_path / "shards")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "killed by signal 9" in said
    shardkit.pack(source, tmp_path / "shards", shard_samples=10)
    assert shardkit.verify(tmp_path / "shards").num_samples == 2000


def test_packing_imports_nothing_that_it_does_not_need(photos, tmp_path):
    """Not pandas, which pyarrow's own conversions import: it takes longer than packing thousands of pictures."""
    script = (
        "import sys, shardkit;"
        "shardkit.pack(sys.argv[1], sys.argv[2], workers=1, shard_samples=50);"
        "print(*{'pandas', 'pyarrow.compute', 'cv2', 'PIL', 'simplejpeg', 'webdataset'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, photos, tmp_path / "shards"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_a_full_disk_is_named(tmp_path):
    source = write_pictures(tmp_path / "photos", 60, size=64)
    script = (
        "import resource, shardkit; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"shardkit.pack({str(source)!r}, {str(tmp_path / 'shards')!r}, workers=1)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "StorageError" in said.stderr
    assert "File too large" in said.stderr
    assert not (tmp_path / "shards" / "manifest.json").exists()
    assert not list((tmp_path / "shards").glob(".shardkit-*"))


# webdataset leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_other_readers_agree(tmp_path):
    import tarfile

    import webdataset as wds

    dataset = make_dataset(tmp_path, 30, shard_samples=None)
    shard = dataset / "train-000000.tar"
    ours = list(shardkit.to_webdataset(shardkit.Loader(dataset, image_size=(8, 8))))
    theirs = list(wds.WebDataset(str(shard), shardshuffle=False))
    assert [(s["__key__"], s["png"], s["cls"]) for s in ours] == [(s["__key__"], s["png"], s["cls"]) for s in theirs]
    decoded = list(wds.WebDataset(str(shard), shardshuffle=False).decode("rgb8").to_tuple("png", "cls"))
    assert [label for _, label in decoded] == [int(sample["cls"]) for sample in ours]
    with tarfile.open(shard) as archive:
        members = [(member.name, archive.extractfile(member).read()) for member in archive]
    assert [name for name, _ in members[:2]] == [f"{ours[0]['__key__']}.png", f"{ours[0]['__key__']}.cls"]
    assert [data for name, data in members if name.endswith(".png")] == [sample["png"] for sample in ours]
    (tmp_path / "gnu").mkdir()
    subprocess.run(["tar", "-xf", shard, "-C", tmp_path / "gnu"], check=True)
    assert dict(members) == tree(tmp_path / "gnu")

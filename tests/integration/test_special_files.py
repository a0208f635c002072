"""Whatever stands in the place of a file: a named error at once, and never a process that hangs or grows."""

import json
import os
import resource
import shutil

import numpy as np
import pytest
from pictures import make_dataset, write_pictures
from special import SPECIAL, make_special
from typer.testing import CliRunner

import shardkit
from shardkit.cli.commands import app
from shardkit.manifest.info import describe
from shardkit.storage import LocalStore


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("special"), 30)


def epoch(place):
    return list(shardkit.Loader(place, batch_size=5, image_size=(8, 8), shuffle=True).batches())


@pytest.fixture(autouse=True)
def bounded():
    """Nothing here takes memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # of under 100 MB that libraries take


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["manifest.json", "shards.parquet", "train-000001.parquet", "train-000001.tar"])
def test_in_a_data_set(dataset, tmp_path, name, kind):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    make_special(copy / name, kind)
    with pytest.raises((shardkit.StorageError, shardkit.FormatError), match=name.replace(".", r"\.")):
        epoch(copy)
    with pytest.raises((shardkit.StorageError, shardkit.FormatError)):
        shardkit.unpack(copy, tmp_path / "tree")
    if name in ("manifest.json", "shards.parquet"):
        for read in (describe, shardkit.verify):
            with pytest.raises((shardkit.StorageError, shardkit.FormatError), match=name):
                read(copy)
    else:
        (problem,) = shardkit.verify(copy).problems
        assert name in str(problem)


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_as_a_table_to_pack(tmp_path, suffix, kind):
    with pytest.raises(shardkit.ConfigError, match=suffix):
        shardkit.pack(make_special(tmp_path / f"table{suffix}", kind), tmp_path / "out")


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["x.jpg", "x.txt", "x"])
def test_as_an_image_of_a_folder(tmp_path, name, kind):
    pictures = write_pictures(tmp_path / "pictures", 3)
    make_special(pictures / "class-0" / name, kind)
    if kind == "loop":
        with pytest.raises(shardkit.ConfigError, match=rf"{name}: Too many levels of symbolic links"):
            shardkit.pack(pictures, tmp_path / "out", workers=1, follow_symlinks=True)
    elif name == "x.jpg" and kind != "folder":
        with pytest.raises(shardkit.PackError, match=r"x\.jpg"):
            shardkit.pack(pictures, tmp_path / "out", workers=1, follow_symlinks=True)
    else:
        packed = shardkit.pack(pictures, tmp_path / "out", workers=1, follow_symlinks=True)
        assert packed.manifest.splits["train"].num_samples == 3


@pytest.mark.parametrize("kind", [kind for kind in SPECIAL if kind != "folder"])
def test_as_an_image_of_a_table(tmp_path, kind):
    make_special(tmp_path / "x.jpg", kind)
    (tmp_path / "table.csv").write_text("path,label\nx.jpg,a\n")
    with pytest.raises(shardkit.PackError, match=r"x\.jpg"):
        shardkit.pack(tmp_path / "table.csv", tmp_path / "out", workers=1)


@pytest.mark.parametrize("kind", SPECIAL)
def test_where_something_is_to_be_packed_or_unpacked(dataset, tmp_path, kind):
    pictures = write_pictures(tmp_path / "pictures", 3)
    out = tmp_path / "out"
    out.mkdir()
    make_special(out / "manifest.json", kind)
    with pytest.raises(shardkit.ShardkitError):
        shardkit.pack(pictures, out, workers=1)
    tree = tmp_path / "tree" / "class-0"
    tree.mkdir(parents=True)
    make_special(tree / "00000.png", kind)
    with pytest.raises(shardkit.ShardkitError):
        shardkit.unpack(dataset, tmp_path / "tree")


@pytest.mark.parametrize("kind", SPECIAL)
def test_as_a_saved_position(dataset, tmp_path, kind):
    state = make_special(tmp_path / "state.json", kind)
    ran = CliRunner().invoke(app, ["explain", str(dataset), "--state", str(state)])
    assert isinstance(ran.exception, shardkit.ConfigError)
    assert "cannot read the saved position" in str(ran.exception)


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_a_store_does_with_it(tmp_path, kind):
    make_special(tmp_path / "x", kind)
    store = LocalStore(tmp_path)
    target = tmp_path / "target"
    for read in (
        store.read,
        lambda name: store.read_if_there(name, 1000),
        lambda name: store.read_range(name, 0, 2**60),
        lambda name: store.download(name, 1, target),
    ):
        with pytest.raises(shardkit.StorageError) as caught:
            read("x")
        assert caught.value.operation == "read"
        assert caught.value.url == str(tmp_path / "x")
    assert not target.exists()


def test_links_to_regular_files_are_followed(dataset, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in dataset.iterdir():
        (linked / path.name).symlink_to(path)
    assert not shardkit.verify(linked).problems
    for mine, other in zip(epoch(linked), epoch(dataset), strict=True):
        np.testing.assert_array_equal(mine.arrays["image"], other.arrays["image"])
    rows = [{"path": str(path), "label": path.parent.name} for path in (dataset.parent / "pictures").rglob("*.png")]
    (tmp_path / "real.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "table.jsonl").symlink_to(tmp_path / "real.jsonl")
    packed = shardkit.pack(tmp_path / "table.jsonl", tmp_path / "out", root=dataset.parent / "pictures", workers=1)
    assert packed.manifest.splits["train"].num_samples == 30
    assert os.path.islink(tmp_path / "table.jsonl")

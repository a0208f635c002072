"""Data sets that claim to be larger than they are, by all their digests: named errors, and no memory for claims."""

import resource
import shutil
from dataclasses import replace

import pytest
from pictures import make_dataset
from remote import served

import shardkit
from shardkit.manifest import SplitInfo, open_dataset
from shardkit.manifest.shards import ShardTable

MILLIARD = 10**9


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("claims"), 30)


def claiming(dataset, folder, **counts):
    """A copy whose first shard has other counts, in its row and in the manifest."""
    copy = shutil.copytree(dataset, folder)
    whole = open_dataset(copy)
    rows = [replace(row, **counts) if number == 0 else row for number, row in enumerate(whole.shards)]
    table = ShardTable.of(rows)
    (copy / "shards.parquet").write_bytes(table.to_parquet())
    sums = {name: sum(getattr(row, name) for row in rows) for name in ("num_samples", "num_bytes")}
    train = replace(whole.manifest.splits["train"], **sums)
    manifest = replace(whole.manifest, splits={"train": train}, fingerprint=table.fingerprint(), shards=table.digest())
    (copy / "manifest.json").write_bytes(manifest.to_json())
    return copy


def use(url, **options):
    loader = shardkit.Loader(url, batch_size=4, image_size=(8, 8), **{"shuffle": True, **options})
    list(loader.batches())


@pytest.fixture(autouse=True)
def bounded():
    """Nothing here takes memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # of under 100 MB that libraries take


@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"shuffle": "global"}, {"chunk_size": "1GB"}], ids=str)
@pytest.mark.parametrize("num_bytes", [None, MILLIARD * 2048, MILLIARD * 10**6, 1 << 59])
def test_more_samples_than_there_are(dataset, tmp_path, num_bytes, options):
    counts = {"num_samples": MILLIARD} | ({"num_bytes": num_bytes} if num_bytes else {})
    copy = claiming(dataset, tmp_path / "copy", **counts)
    with pytest.raises(shardkit.FormatError) as caught:
        use(copy, **options)
    assert caught.value.shard in ("shards.parquet", "train-000000.parquet", "train-000000.tar")
    if num_bytes is None:
        assert "fewer bytes than its samples take" in str(caught.value)
    with served(copy) as server, pytest.raises(shardkit.FormatError):
        use(server.url, **options)


def test_more_bytes_than_can_be_added(dataset, tmp_path):
    """A sum that overflows is small again."""
    copy = claiming(dataset, tmp_path / "copy")
    whole = open_dataset(copy)
    sizes = [(1 << 62) - 1] * 4 + [10**6]
    rows = [replace(whole.shards[0], name=f"{number}.tar", num_bytes=size) for number, size in enumerate(sizes)]
    table = ShardTable.of(rows)
    (copy / "shards.parquet").write_bytes(table.to_parquet())
    train = SplitInfo(num_samples=25 * 5, num_bytes=sum(sizes) % (1 << 64), num_shards=5)
    manifest = replace(whole.manifest, splits={"train": train}, fingerprint=table.fingerprint(), shards=table.digest())
    (copy / "manifest.json").write_bytes(manifest.to_json())
    with pytest.raises(shardkit.ManifestError, match="more bytes than there are"):
        use(copy)


def test_more_shards_than_there_are(dataset, tmp_path):
    copy = claiming(dataset, tmp_path / "copy")
    manifest = shardkit.read_manifest(copy)
    train = replace(manifest.splits["train"], num_shards=MILLIARD)
    (copy / "manifest.json").write_bytes(replace(manifest, splits={"train": train}).to_json())
    with pytest.raises(shardkit.ManifestError, match="2 rows instead of 1000000000"):
        use(copy)

"""The manifest document: what it says, and what it refuses."""

import json

import pytest

from shardkit.errors import ManifestError
from shardkit.manifest import FieldInfo, Manifest, SplitInfo

MANIFEST = Manifest(
    fingerprint="0123456789abcdef0123456789abcdef",
    fields={"image": FieldInfo(kind="image", extensions=("jpg",))},
    classes=("cat", "d\u00f6g"),
    splits={"train": SplitInfo(num_samples=9, num_bytes=10240, num_shards=1)},
    packed={"seed": 3},
)


def changed(**changes):
    return json.dumps({**json.loads(MANIFEST.to_json()), **changes}).encode()


def test_there_and_back():
    data = MANIFEST.to_json()
    assert Manifest.from_json(data) == MANIFEST
    assert data.isascii()
    assert json.loads(data)["splits"] == {"train": {"num_samples": 9, "num_bytes": 10240, "num_shards": 1}}


def test_a_newer_major_version_is_refused_by_name():
    with pytest.raises(ManifestError, match=r"format version 2\.0; this shardkit reads up to 1\.x.*Upgrade"):
        Manifest.from_json(changed(format_version="2.0"))


def test_a_newer_minor_version_and_unknown_keys_are_read():
    assert Manifest.from_json(changed(format_version="1.7", more={"x": 1})).classes == MANIFEST.classes


SPLIT = {"num_samples": 9, "num_bytes": 10240, "num_shards": 1}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b"[" * 100_000,
        changed(fingerprint="abc"),
        changed(fingerprint=None),
        changed(format_version=1),
        changed(format_version="1"),
        changed(splits={"train": {**SPLIT, "num_samples": -1}}),
        changed(splits={"train": {**SPLIT, "num_samples": 1.5}}),
        changed(splits={"train": {**SPLIT, "num_samples": True}}),
        changed(splits={"train": {**SPLIT, "num_bytes": 1 << 70}}),
        changed(splits={"../train": SPLIT}),
        changed(splits=[]),
        changed(classes=[1, 2]),
        changed(classes=None),
        changed(fields={"image": {}}),
        b"\xff\xfe",
    ],
)
def test_what_is_no_manifest(data):
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(data, url="manifest.json")
    assert caught.value.shard == "manifest.json"

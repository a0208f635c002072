"""The manifest document: what it says, and what it refuses."""

import dataclasses
import json

import pytest
import xxhash

from shardkit.errors import ManifestError
from shardkit.manifest import FieldInfo, Manifest, SplitInfo

MANIFEST = Manifest(
    fingerprint="0123456789abcdef0123456789abcdef",
    shards="0" * 32,
    fields={
        "image": FieldInfo(kind="image", extensions=("jpg",)),
        "label": FieldInfo(kind="class", extensions=("cls",)),
    },
    classes=("cat", "d\u00f6g"),
    splits={"train": SplitInfo(num_samples=9, num_bytes=10240, num_shards=1)},
    packed={"seed": 3},
)


def changed(**changes):
    return json.dumps({**json.loads(MANIFEST.to_json()), **changes}).encode()


def signed(**changes):
    """Changed, with a digest that fits."""
    document = {**json.loads(MANIFEST.to_json()), **changes}
    del document["digest"]
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return json.dumps({**document, "digest": xxhash.xxh3_128_hexdigest(text.encode())}).encode()


def test_there_and_back():
    data = MANIFEST.to_json()
    assert Manifest.from_json(data) == MANIFEST
    assert data.isascii()
    assert json.loads(data)["splits"] == {"train": {"num_samples": 9, "num_bytes": 10240, "num_shards": 1}}


def test_a_newer_major_version_is_refused_by_name():
    with pytest.raises(ManifestError, match=r"format version 3\.0; this shardkit reads up to 2\.x.*Upgrade"):
        Manifest.from_json(changed(format_version="3.0"))


def test_a_pre_release_is_refused_by_name():
    with pytest.raises(ManifestError, match=r"format version 1\.0, of a pre-release.*Pack its images again"):
        Manifest.from_json(changed(format_version="1.0"))


def test_a_newer_minor_version_and_unknown_keys_are_read():
    assert Manifest.from_json(signed(format_version="2.7", more={"x": 1})).classes == MANIFEST.classes


def test_everything_is_under_the_digest():
    document = json.loads(MANIFEST.to_json())
    for name, value in {
        "classes": ["a"],
        "fingerprint": "f" * 32,
        "fields": {**document["fields"], "mask": {"kind": "image", "extensions": ["png"]}},
        "splits": {"train": {"num_samples": 8, "num_bytes": 10240, "num_shards": 1}},
        "shards": "f" * 32,
        "packed": {"seed": 4},
        "format_version": "2.7",
        "more": 1,
        "digest": "0" * 32,
    }.items():
        with pytest.raises(ManifestError, match="its digest does not fit"):
            Manifest.from_json(changed(**{name: value}))


def test_the_digest_can_be_made_by_other_programs():
    assert json.loads(signed()) == json.loads(MANIFEST.to_json())


@pytest.mark.parametrize("missing", ["image", "label"])
def test_every_data_set_has_pictures_and_labels(missing):
    fields = {name: info for name, info in MANIFEST.fields.items() if name != missing}
    with pytest.raises(ManifestError, match=f"there is no field {missing}"):
        Manifest.from_json(dataclasses.replace(MANIFEST, fields=fields).to_json())


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
        signed(classes="ab"),
        signed(packed=[["seed", 3]]),
        signed(fields={**json.loads(MANIFEST.to_json())["fields"], "image": {"kind": "image", "extensions": "jpg"}}),
        b"\xff\xfe",
    ],
)
def test_what_is_no_manifest(data):
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(data, url="manifest.json")
    assert caught.value.shard == "manifest.json"


def raw(**changes):
    """A manifest of raw pictures, with changes in its image field: a digest that fits, so that only they are wrong."""
    fields = {**MANIFEST.fields, "image": FieldInfo(kind="array", extensions=("raw",), shape=(32, 48, 3))}
    document = json.loads(dataclasses.replace(MANIFEST, fields=fields).to_json())
    document["fields"]["image"] = {
        name: value for name, value in {**document["fields"]["image"], **changes}.items() if value != "gone"
    }
    return json.dumps(document).encode()


def test_raw_pictures_have_a_shape_there_and_back():
    found = Manifest.from_json(raw())
    assert found.fields["image"] == FieldInfo(kind="array", extensions=("raw",), shape=(32, 48, 3))
    assert json.loads(found.to_json())["fields"] == {
        "image": {"kind": "array", "extensions": ["raw"], "shape": [32, 48, 3], "dtype": "uint8"},
        "label": {"kind": "class", "extensions": ["cls"]},
    }
    assert json.loads(MANIFEST.to_json())["fields"]["image"] == {"kind": "image", "extensions": ["jpg"]}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"shape": "gone"}, "has no shape"),
        ({"kind": "image"}, "has a shape"),
        ({"dtype": "gone"}, "'dtype' is missing"),
        ({"dtype": "float32"}, "arrays of 'float32' are not read"),
        ({"shape": None}, "not a shape"),
        ({"shape": []}, "not a shape"),
        ({"shape": [32, 48]}, "not a shape"),
        ({"shape": [32, 48, 3, 1]}, "not a shape"),
        ({"shape": [0, 48, 3]}, "not a shape"),
        ({"shape": [-32, -48, 3]}, "not a shape"),
        ({"shape": [32.0, 48, 3]}, "not a shape"),
        ({"shape": [True, 48, 3]}, "not a shape"),
        ({"shape": ["32", 48, 3]}, "not a shape"),
        ({"shape": [32, 48, 2]}, "not a picture's"),
        ({"shape": [1 << 20, 1 << 20, 3]}, "not a picture's"),
        ({"shape": [10**400, 1, 1]}, "not a picture's"),
        ({"shape": [32, 48, 1]}, "its digest does not fit"),
    ],
)
def test_raw_pictures_that_are_none(changes, reason):
    with pytest.raises(ManifestError, match=reason):
        Manifest.from_json(raw(**changes))

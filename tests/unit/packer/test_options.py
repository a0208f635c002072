"""Settings of a packing run that are wrong are a ConfigError that names them, whatever they are."""

import pytest

from shardkit.errors import ConfigError
from shardkit.packer.options import PackOptions
from shardkit.packer.pictures import PictureOptions


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("seed", "a"), ("seed", -1), ("seed", 1 << 64), ("seed", 1.0), ("seed", None), ("seed", True),
        ("shard_samples", 1.5), ("shard_samples", 0), ("shard_samples", "7"),
        ("split", {"train": "1"}), ("split", ["train"]), ("split", {"train": None}), ("split", {1: 1.0}), ("split", {}),
        ("split", {"train": float("nan")}), ("split", {"train": 10**400}), ("split", {"train": True}),
        ("split", 0.5), ("split", "train=nan"),
        ("shard_size", 1.5), ("shard_size", None), ("shard_size", 0), ("shard_size", 10**400), ("shard_size", b"1MB"),
        ("shard_size", "9" * 400), ("shuffle", "no"), ("stratify", 1),
        ("class_from", []), ("class_from", "bottom"), ("check", {}), ("check", "all"),
        ("resize", 0), ("resize", "256"), ("resize", 64.0), ("resize", True), ("quality", 90), ("quality", 0),
        ("store", "png"), ("store", []), ("image_size", (8, 8)), ("image_size", "8"), ("color_mode", "grayscale"),
        ("color_mode", []), ("crop_to_aspect_ratio", True), ("pad_to_aspect_ratio", "yes"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(setting, value):
    given = {"split": None, "shard_size": "1MB", setting: value}
    with pytest.raises(ConfigError) as caught:
        PackOptions.of(**given)
    assert caught.value.setting == setting
    str(caught.value)


def test_sizes_as_text_and_as_numbers():
    assert PackOptions.of(split=None, shard_size=2_000_000) == PackOptions.of(split="train=1", shard_size="2MB")


def test_options_that_are_not_given_leave_no_trace():
    assert not {"resize", "quality", "store", "image_size", "color_mode"} & set(PackOptions().as_json())
    assert PackOptions.of(split=None, shard_size="1MB", resize=64).as_json()["quality"] == 90


@pytest.mark.parametrize("quality", [0, 101, "90", 90.0, True])
def test_a_quality_that_is_none(quality):
    with pytest.raises(ConfigError, match="from 1 to 100"):
        PackOptions.of(split=None, shard_size="1MB", resize=64, quality=quality)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("image_size", None), ("image_size", 8), ("image_size", (8,)), ("image_size", (8, 0)), ("image_size", (8.0, 8)),
        ("image_size", "88"), ("image_size", (1 << 20, 1 << 20)), ("image_size", [8, True]), ("color_mode", "cmyk"),
        ("color_mode", []), ("crop_to_aspect_ratio", 1), ("pad_to_aspect_ratio", "no"), ("resize", 64),
    ],
)  # fmt: skip
def test_a_wrong_setting_of_raw_pictures_is_named(setting, value):
    given = {"split": None, "shard_size": "1MB", "store": "raw", "image_size": (8, 8), setting: value}
    with pytest.raises(ConfigError) as caught:
        PackOptions.of(**given)
    assert caught.value.setting == setting
    str(caught.value)


def test_raw_pictures_cannot_be_both_cropped_and_padded():
    with pytest.raises(ConfigError, match="exclude each other"):
        PictureOptions(store="raw", image_size=(8, 8), crop_to_aspect_ratio=True, pad_to_aspect_ratio=True)


def test_a_size_as_a_list_is_the_same():
    given, same = (PictureOptions(store="raw", image_size=size) for size in ([8, 9], (8, 9)))
    assert given == same
    assert given.shape == (8, 9, 3)
    assert given.as_json() == {
        "check": "header", "store": "raw", "image_size": [8, 9], "color_mode": "rgb", "crop_to_aspect_ratio": False,
        "pad_to_aspect_ratio": False,
    }  # fmt: skip

"""Settings of a packing run that are wrong are a ConfigError that names them, whatever they are."""

import pytest

from shardkit.errors import ConfigError
from shardkit.packer.options import PackOptions


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("seed", "a"), ("seed", -1), ("seed", 1 << 64), ("seed", 1.0), ("seed", None), ("seed", True),
        ("shard_samples", 1.5), ("shard_samples", 0), ("shard_samples", "7"),
        ("split", {"train": "1"}), ("split", ["train"]), ("split", {"train": None}), ("split", {1: 1.0}), ("split", {}),
        ("split", {"train": float("nan")}), ("split", 0.5), ("split", "train=nan"),
        ("shard_size", 1.5), ("shard_size", None), ("shard_size", 0), ("shard_size", 10**400), ("shard_size", b"1MB"),
        ("shard_size", "9" * 400), ("shuffle", "no"), ("stratify", 1),
        ("class_from", []), ("class_from", "bottom"), ("check", {}), ("check", "all"),
        ("resize", 0), ("resize", "256"), ("resize", 64.0), ("resize", True), ("quality", 90), ("quality", 0),
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
    assert "resize" not in PackOptions.of(split=None, shard_size="1MB").as_json()
    assert PackOptions.of(split=None, shard_size="1MB", resize=64).as_json()["quality"] == 90


@pytest.mark.parametrize("quality", [0, 101, "90", 90.0, True])
def test_a_quality_that_is_none(quality):
    with pytest.raises(ConfigError, match="from 1 to 100"):
        PackOptions.of(split=None, shard_size="1MB", resize=64, quality=quality)

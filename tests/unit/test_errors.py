"""Errors say what, where and what to do, and survive a trip between processes."""

import pickle

import pytest

from shardkit import errors


def test_the_message_holds_what_where_and_what_to_do():
    error = errors.FormatError("it is damaged", shard="a.tar", offset=512, advice="Copy it again")
    assert str(error) == "it is damaged [shard a.tar, offset 512]. Copy it again"
    assert (error.shard, error.offset, error.key) == ("a.tar", 512, None)


def test_a_place_is_filled_in_once():
    error = errors.CodecError("no JPEG", shard="a.tar")
    assert error.locate(shard="b.tar", key="k", url="ignored") is error
    assert (error.shard, error.key) == ("a.tar", "k")


def test_what_an_error_cannot_know_is_refused():
    with pytest.raises(TypeError, match="ConfigError knows no shard"):
        errors.ConfigError("wrong", shard="a.tar")


def test_control_characters_and_long_values_do_not_reach_the_terminal():
    text = str(errors.ConfigError("wrong", setting="x", value="\x1b[2J" + "y" * 1000))
    assert "\x1b" not in text
    assert len(text) < 300


@pytest.mark.parametrize(
    "error",
    [
        errors.FormatError("damaged", shard="a.tar", offset=3, advice="Copy it"),
        errors.PackError("two are bad", ("a.jpg: cut", "b.jpg: cut"), advice="Mend them"),
        errors.StorageError("cannot write", url="x", operation="write"),
    ],
)
def test_pickling_keeps_everything(error):
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is type(error)
    assert str(copied) == str(error)
    assert vars(copied) == vars(error)


def test_the_tree():
    assert issubclass(errors.ManifestError, errors.FormatError)
    for name in errors.__all__:
        if name == "ShardkitWarning":
            continue
        kind = getattr(errors, name)
        assert issubclass(kind, errors.ShardkitError)
        assert name in errors.__doc__
    assert issubclass(errors.StorageError, OSError)
    for name in ("ConfigError", "FormatError", "CodecError", "StateError"):
        assert issubclass(getattr(errors, name), ValueError)

"""Several URLs written as one."""

import pytest

from shardkit.errors import ConfigError
from shardkit.storage import expand_braces


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("s3://b/x", ["s3://b/x"]),
        ("s3://b/{008..011}", ["s3://b/008", "s3://b/009", "s3://b/010", "s3://b/011"]),
        ("s3://b/{a,b}/{1..2}", ["s3://b/a/1", "s3://b/a/2", "s3://b/b/1", "s3://b/b/2"]),
        ("{,x}y", ["y", "xy"]),
        ("a{b}c", ["a{b}c"]),
        ("$HOME/`id`/$(id)/*", ["$HOME/`id`/$(id)/*"]),
    ],
)
def test_what_braces_stand_for(text, urls):
    assert expand_braces(text) == urls


@pytest.mark.parametrize("text", ["{0..999999999}", "{0..99}{0..99}{0..99}", "{0..999999999999}" * 50])
def test_bombs_are_refused_before_they_go_off(text):
    with pytest.raises(ConfigError, match="more than 10,000 URLs"):
        expand_braces(text)


def test_a_range_that_runs_backwards():
    with pytest.raises(ConfigError, match="backwards"):
        expand_braces("{9..1}")


def test_secrets_are_not_repeated():
    with pytest.raises(ConfigError) as caught:
        expand_braces("https://me:geheim@host/{0..999999999}")
    assert "geheim" not in str(caught.value)


def test_long_urls_are_counted_by_their_characters():
    with pytest.raises(ConfigError, match="characters are meant"):
        expand_braces("s3://b/" + "x" * 100_000 + "/{0..999}")

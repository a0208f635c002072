"""What users give: sizes in words, numbers, and one of a few values."""

import math
from fractions import Fraction

import numpy as np
import pytest

from shardkit.errors import ConfigError
from shardkit.units import float_of, format_bytes, index_within, one_of, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("64MiB", 64 * 2**20), ("2MB", 2_000_000), ("1.5 GB", 1_500_000_000), ("10k", 10_000), ("7", 7), ("1tib", 2**40)],
)
def test_parse(text, size):
    assert parse_bytes(text, setting="shard_size") == size


@pytest.mark.parametrize(
    "text", ["", "many", "-1MB", "0", "0.4", "1 XB", "1e9", "nan", "MB", "9" * 400, "0." + "1" * 400]
)
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="shard_size must be a size"):
        parse_bytes(text, setting="shard_size")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (256e6, "256 MB"), (1.44e9, "1.4 GB"), (3e15, "3000.0 TB")],
)
def test_format(size, text):
    assert format_bytes(size) == text


class Mute:
    def __index__(self):
        raise RuntimeError("no")

    __float__ = __index__


@pytest.mark.parametrize("value", [10**400, -(10**400), Fraction(10**400), "1", None, True, 1j, Mute(), np.ones(1)])
def test_what_is_no_float_compares_as_false(value):
    assert math.isnan(float_of(value))


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), Fraction(1, 2)])
def test_a_float_of_any_number(value):
    assert float_of(value) == 0.5


@pytest.mark.parametrize("value", [-1, 4, 10**5000, 1.0, "1", None, Mute(), [1]], ids=list("abcdefgh"))
def test_a_number_that_is_out_of_bounds_or_none(value):
    with pytest.raises(ConfigError, match="step must be from 0 to 3"):
        index_within("step", value, 0, 3)


def test_numbers_of_any_kind_are_taken():
    assert index_within("step", np.int16(3), 0, 3) == 3


@pytest.mark.parametrize("value", [1, "true", np.array([True, False]), None, []], ids=list("abcde"))
def test_one_of_a_few_values_asks_for_the_type_too(value):
    with pytest.raises(ConfigError, match="shuffle must be True, False or 'global'"):
        one_of("shuffle", value, True, False, "global")

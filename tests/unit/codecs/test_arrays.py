"""Turning pictures over, and laying them into other types and layouts."""

import numpy as np
import pytest

from shardkit.codecs.arrays import as_bytes, flip, lay_into


def noise(channels, dtype=np.uint8):
    return np.random.default_rng(channels).integers(0, 256, (7, 10, channels)).astype(dtype)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
@pytest.mark.parametrize("horizontal", [False, True])
@pytest.mark.parametrize("vertical", [False, True])
def test_flips_turn_over_and_write_uint8_in_place_only(channels, dtype, horizontal, vertical):
    batch = np.stack([noise(channels, dtype)] * 3)
    expected = batch[1][:: -1 if vertical else 1, :: -1 if horizontal else 1].copy()
    found = flip(batch[1], horizontal=horizontal, vertical=vertical)
    assert np.array_equal(found, expected)
    assert np.shares_memory(found, batch[1])
    assert np.array_equal(batch[1], expected if dtype == np.uint8 else noise(channels, dtype))
    assert np.array_equal(batch[[0, 2]], np.stack([noise(channels, dtype)] * 2))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("given", ["uint8", "int16", "float64", "bool"])
def test_every_value_arrives_in_every_type_and_layout(channels, dtype, channels_first, given):
    pixels = noise(channels, given)
    shape = (channels, 7, 10) if channels_first else (7, 10, channels)
    batch = np.full((3, *shape), 77, dtype)
    lay_into(pixels, batch[1], channels_first=channels_first)
    assert np.array_equal(batch[1].transpose(1, 2, 0) if channels_first else batch[1], pixels)
    assert (batch[[0, 2]] == 77).all()


def test_all_bytes_survive_as_halves():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    out = np.empty((16, 16, 1), np.float16)
    lay_into(values, out, channels_first=False)
    assert np.array_equal(out, values)


def test_numbers_become_bytes_by_rounding_and_cutting_off():
    assert as_bytes(np.array([-3.0, 0.4, 0.6, 254.6, 300.0, np.inf])).tolist() == [0, 0, 1, 255, 255, 255]
    assert as_bytes(np.array([-3, 7, 300])).tolist() == [0, 7, 255]
    assert as_bytes(np.array([False, True])).tolist() == [0, 1]
    assert as_bytes(np.array([7], np.uint8)).dtype == np.uint8


def test_floats_keep_what_bytes_cannot_say():
    out = np.empty((1, 1, 3), np.float32)
    lay_into(np.array([[[-3.0, 0.5, 300.0]]]), out, channels_first=False)
    assert out.tolist() == [[[-3.0, 0.5, 300.0]]]


def test_a_view_of_the_row_itself_may_be_laid_into_it():
    row = noise(3)
    expected = row[::-1, ::-1].copy()
    lay_into(row[::-1, ::-1], row, channels_first=False)
    assert np.array_equal(row, expected)

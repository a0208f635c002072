"""Which floats of a user's function are taken for a mistake where they become uint8."""

import warnings

import numpy as np
import pytest

from shardkit.errors import ShardkitWarning
from shardkit.loader.rounding import RoundingCheck

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8)
BLACK = np.zeros_like(IMAGE)
DARK = IMAGE // 128  # 0 and 1
NIGHT = IMAGE // 5  # up to 51
MEAN = np.float32([103.9, 116.8, 123.7])


def told(*results, word=0):
    """What is said of some pairs of what a function was given and what it returned."""
    check = RoundingCheck("mine", "batches hold", "Do something")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for given, found in results:
            check.look(given, np.asarray(found), word)
    assert all(warning.category is ShardkitWarning for warning in caught)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize(
    "function",
    [
        lambda image: image / 255,
        lambda image: image / 127.5 - 1,
        lambda image: image / 255 - 0.5,
        lambda image: (image - image.mean()) / image.std(),
        lambda image: (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        lambda image: image[..., ::-1] - MEAN,
        lambda image: image - image.mean(),
        lambda image: image - 300.5,
    ],
)
def test_scaled_and_centered_images_are_told(function, dtype):
    (said,) = told((IMAGE, function(IMAGE).astype(dtype)), (IMAGE, function(IMAGE)))
    assert said.startswith("mine returned values from ")
    assert said.endswith("Do something")


@pytest.mark.parametrize("image", [IMAGE, BLACK, DARK, NIGHT, np.full_like(IMAGE, 255)], ids=str)
@pytest.mark.parametrize(
    "function",
    [
        lambda image: image.astype(float),
        lambda image: image * 1.4,
        lambda image: image * 0.6,
        lambda image: image + 40.5,
        lambda image: image - 40.5,
        lambda image: (image - 128.0) * 1.8 + 128,
        lambda image: image + RNG.normal(0, 25, image.shape),
        lambda image: 255.0 - image,
        lambda image: image * 0.0,
        lambda image: (image > 100) * 1.0,
        lambda image: image > 100,
        lambda image: image.astype(int) - 200,
        lambda image: np.clip(image - MEAN, 0, 255),
    ],
)
def test_changes_that_stay_images_are_not_told(function, image):
    assert told((image, function(image))) == []


def test_black_images_divided_by_255_neither_tell_nor_hide_others():
    assert told(*[(BLACK, BLACK / 255)] * 3, *[(DARK, DARK / 255)] * 3) == []
    assert len(told(*[(BLACK, BLACK / 255)] * 3, (IMAGE, IMAGE / 255))) == 1


def test_after_many_that_were_fine_the_random_word_says_which_are_looked_at():
    fine = [(IMAGE, IMAGE * 1.0)]
    scaled = [(IMAGE, IMAGE / 255)]
    for number, word, expected in [(63, 2**64 - 1, 1), (64, 2**64 - 1, 0), (64, 2**60, 0), (64, 2**60 - 1, 1)]:
        assert len(told(*fine * number, *scaled, word=word)) == expected


def test_arrays_without_values_and_not_a_number_are_not_told():
    assert told((IMAGE[:0], np.zeros((0, 12, 3))), (IMAGE, np.full(IMAGE.shape, np.nan))) == []

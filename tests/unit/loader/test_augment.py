"""What is drawn for a picture: its distribution, what it depends on, and what is refused."""

import functools
import math
from fractions import Fraction

import numpy as np
import pytest

import shardkit
from shardkit.errors import ConfigError
from shardkit.loader.augment import Augmenter, RandomResizedCrop, as_transforms, random_flip, random_resized_crop
from shardkit.loader.config import DecodeConfig

FINGERPRINT = "00112233445566778899aabbccddeeff"
NUM_SAMPLES = 4000


def augmenter(*augment, seed=0, epoch=0, fingerprint=FINGERPRINT):
    return Augmenter(as_transforms(augment), fingerprint=fingerprint, seed=seed, epoch=epoch)


def chances(*augment, samples=None, **options):
    found = augmenter(*augment, **options)
    words = found.draw(np.arange(NUM_SAMPLES) if samples is None else np.array(samples))
    return [found.chance(words, row) for row in range(len(words[0]))]


def boxes(height, width, *, samples=None, **options):
    return [chance.choose_box(height, width) for chance in chances(random_resized_crop(**options), samples=samples)]


def picture():
    return np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def uniform(values, low, high):
    """The largest distance between the distribution of some values and the uniform one (Kolmogorov and Smirnov)."""
    ranks = np.arange(1, len(values) + 1) / len(values)
    return np.abs((np.sort(values) - low) / (high - low) - ranks).max() * math.sqrt(len(values))


# --- crops ---


@pytest.mark.parametrize("pair", [(1, 10**400), (Fraction(1, 2), Fraction(10**400)), (1, math.inf), (0, 1), (2, 1), 1])
def test_a_pair_that_is_no_range_is_refused(pair):
    with pytest.raises(ConfigError, match="ratio must be two numbers"):
        random_resized_crop(ratio=pair)


def test_areas_are_uniform_in_scale_and_ratios_in_their_logarithm():
    found = boxes(3000, 3000, scale=(0.1, 0.5))  # everything fits, so that no draw is refused
    areas = [box.height * box.width / 9e6 for box in found]
    ratios = [math.log(box.width / box.height) for box in found]
    assert uniform(areas, 0.1, 0.5) < 1.95  # passed by 999 of 1,000 truly uniform samples
    assert uniform(ratios, math.log(3 / 4), math.log(4 / 3)) < 1.95


def test_places_are_uniform():
    found = boxes(3000, 3000, scale=(0.1, 0.5))
    assert uniform([box.top / (3001 - box.height) for box in found], 0, 1) < 1.95
    assert uniform([box.left / (3001 - box.width) for box in found], 0, 1) < 1.95


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3), (37, 53), (480, 640), (640, 480), (30, 3000)])
@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (5, 9), (0.1, 0.2)])
def test_boxes_lie_within_the_picture(size, ratio):
    found = boxes(*size, ratio=ratio)
    for box in found:
        assert box.top >= 0
        assert box.left >= 0
        assert box.height >= 1
        assert box.width >= 1
        assert box.top + box.height <= size[0]
        assert box.left + box.width <= size[1]
        assert all(type(value) is int for value in box)


@pytest.mark.parametrize("size", [(37, 53), (480, 640), (640, 480)])
def test_boxes_reach_the_pictures_edges(size):
    found = boxes(*size)
    assert min(box.top for box in found) == min(box.left for box in found) == 0
    assert max(box.top + box.height for box in found) == size[0]
    assert max(box.left + box.width for box in found) == size[1]


def test_what_never_fits_is_the_largest_part_in_the_middle():
    assert set(boxes(100, 1000, scale=(1.0, 1.0))) == {(0, 433, 100, 133)}
    assert set(boxes(1000, 100, scale=(1.0, 1.0))) == {(433, 0, 133, 100)}
    assert set(boxes(100, 100, scale=(1.0, 1.0), ratio=(1, 1))) == {(0, 0, 100, 100)}
    assert set(boxes(100, 100, scale=(1.0, 1.0), ratio=(2, 2))) == {(25, 0, 50, 100)}


def test_crops_agree_with_torchvisions_algorithm_given_the_same_numbers():
    def get_params(height, width, scale, ratio, words):
        """``torchvision.transforms.RandomResizedCrop.get_params``, its calls for chance replaced."""
        area = height * width
        drawn = iter(word / 2**64 for word in words)
        log_ratio = [math.log(value) for value in ratio]
        for _ in range(10):
            target_area = area * (scale[0] + (scale[1] - scale[0]) * next(drawn))
            aspect_ratio = math.exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * next(drawn))
            w = round(math.sqrt(target_area * aspect_ratio))
            h = round(math.sqrt(target_area / aspect_ratio))
            i, j = next(drawn), next(drawn)
            if 0 < w <= width and 0 < h <= height:
                return int(i * (height - h + 1)), int(j * (width - w + 1)), h, w
        in_ratio = float(width) / float(height)
        if in_ratio < min(ratio):
            w = width
            h = round(w / min(ratio))
        elif in_ratio > max(ratio):
            h = height
            w = round(h * max(ratio))
        else:
            w = width
            h = height
        return (height - h) // 2, (width - w) // 2, h, w

    crop = random_resized_crop(scale=(0.3, 1.0))
    words = augmenter(crop).draw(np.arange(500))[0].tolist()
    for size in [(333, 500), (50, 500), (500, 40)]:
        for row in words:
            assert crop.choose(*size, words=row) == get_params(*size, (0.3, 1.0), (3 / 4, 4 / 3), row)


# --- flips ---


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 1.0])
def test_flips_come_at_their_probability_each_on_its_own(p):
    pixels = picture()
    kinds = {pixels[::down, ::across].tobytes(): (down, across) for down in (1, -1) for across in (1, -1)}
    found = [
        kinds[chance.change(pixels.copy()).tobytes()]
        for chance in chances(random_flip(horizontal=True, vertical=True, p=p))
    ]
    tolerance = 4 * math.sqrt(p * (1 - p) / NUM_SAMPLES)
    for at in (0, 1):
        assert abs(np.mean([kind[at] == -1 for kind in found]) - p) <= tolerance
    assert abs(np.mean([kind == (-1, -1) for kind in found]) - p * p) <= tolerance


def test_a_flip_may_be_of_one_kind_only():
    pixels = picture()
    found = {chance.change(pixels.copy()).tobytes() for chance in chances(random_flip())}
    assert found == {pixels.tobytes(), pixels[:, ::-1].tobytes()}
    found = {chance.change(pixels.copy()).tobytes() for chance in chances(random_flip(False, True, 1))}
    assert found == {pixels[::-1].tobytes()}


# --- functions ---


def test_a_function_gets_a_stream_of_its_own_for_each_sample_and_place():
    def draw(array, rng):
        streams.append(rng.integers(0, 2**63))
        return array

    streams = []
    for chance in chances(draw, draw, samples=range(100)):
        chance.change(picture())
    assert len(set(streams)) == 200
    again, streams = streams, []
    for chance in chances(draw, draw, samples=range(99, -1, -1)):
        chance.change(picture())
    assert [streams[at : at + 2] for at in range(0, 200, 2)] == [again[at : at + 2] for at in range(198, -1, -2)]


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}, {"fingerprint": FINGERPRINT[::-1]}])
def test_everything_drawn_depends_on_data_set_seed_and_epoch(other):
    crop = random_resized_crop()
    assert all(
        not np.isin(one, two).any()
        for one, two in zip(
            augmenter(crop, random_flip()).draw(np.arange(50)),
            augmenter(crop, random_flip(), **other).draw(np.arange(50)),
            strict=True,
        )
    )


def test_no_two_transforms_or_samples_share_a_word():
    words = augmenter(random_resized_crop(), random_flip(), random_flip(), print).draw(np.arange(1000))
    flat = np.concatenate([values.ravel() for values in words])
    assert len(np.unique(flat)) == len(flat) == 1000 * (40 + 2 + 2 + 2)


def test_what_is_added_last_changes_nothing_before_it():
    one = augmenter(random_resized_crop(), random_flip()).draw(np.arange(50))
    two = augmenter(random_resized_crop(), random_flip(), print).draw(np.arange(50))
    assert all(np.array_equal(*pair) for pair in zip(one, two, strict=False))


def test_functions_may_write_in_place_or_return_another_array_of_any_type():
    def darken(array, rng):
        assert array.dtype == np.uint8
        assert array.flags.writeable
        array //= 2
        return array

    def brighten(array, rng):
        assert array.dtype == np.uint8
        return array * 3.0

    def invert(array, rng):
        return 255 - array

    pixels = picture()
    (chance,) = chances(darken, brighten, invert, random_flip(p=1), samples=[0])
    expected = 255 - np.minimum(pixels // 2 * 3.0, 255)
    assert np.array_equal(chance.change(pixels.copy()), expected[:, ::-1])
    (chance,) = chances(darken, brighten, random_flip(p=1), samples=[0])
    assert np.array_equal(chance.change(pixels.copy()), (pixels // 2 * 3.0)[:, ::-1])


def test_an_array_of_the_functions_own_is_not_written_to():
    own = picture()
    own.flags.writeable = False
    pixels = np.zeros_like(own)
    (chance,) = chances(lambda array, rng: own, random_flip(p=1), lambda array, rng: array, samples=[0])
    assert np.array_equal(chance.change(pixels), own[:, ::-1])
    assert np.array_equal(own, picture())


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, r"shape \(\)"),
        (np.zeros((8, 6, 3)), r"shape \(8, 6, 3\)"),
        (np.zeros((6, 8, 1), np.uint8), r"shape \(6, 8, 1\)"),
        (np.zeros((6, 8, 3), complex), "complex128"),
        (np.full((6, 8, 3), "a"), "<U1"),
    ],
)
def test_what_is_no_picture_of_the_same_shape_names_the_function(value, says):
    def give_back(array, rng):
        return value

    (chance,) = chances(random_flip(), give_back, samples=[0])
    with pytest.raises(ConfigError, match=rf"augment\[1\], .*give_back returned.*{says}"):
        chance.change(picture())


def test_what_a_function_raises_comes_through_and_says_where():
    def fail(array, rng):
        raise ZeroDivisionError("mine")

    (chance,) = chances(functools.partial(fail), samples=[0])
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        chance.change(picture())
    assert "augment[0], functools.partial" in caught.value.__notes__[0]


# --- settings ---


@pytest.mark.parametrize("pair", [(0, 1), (0.5, 0.4), (0.1, 1.1), (0.1,), 0.5, "ab", (0.1, float("nan")), (True, 1)])
def test_impossible_scales_are_refused(pair):
    with pytest.raises(ConfigError, match="random_resized_crop: scale must be two numbers") as caught:
        random_resized_crop(scale=pair)
    assert caught.value.setting == "scale"


@pytest.mark.parametrize("pair", [(0, 1), (2, 1), (-1, 1), (1, float("inf")), (1, 2, 3), None])
def test_impossible_ratios_are_refused(pair):
    with pytest.raises(ConfigError, match="random_resized_crop: ratio must be two numbers"):
        random_resized_crop(ratio=pair)


@pytest.mark.parametrize("options", [{"p": -0.1}, {"p": 1.5}, {"p": "a"}, {"p": float("nan")}, {"horizontal": 1}])
def test_impossible_flips_are_refused(options):
    with pytest.raises(ConfigError, match=f"random_flip: {next(iter(options))} must be"):
        random_flip(**options)


def test_lists_and_tuples_are_equal():
    assert random_resized_crop(scale=[0.1, 1], ratio=[1, 1]) == RandomResizedCrop((0.1, 1.0), (1.0, 1.0))
    assert DecodeConfig(augment=[random_flip()]) == DecodeConfig(augment=(random_flip(),))


@pytest.mark.parametrize(
    ("augment", "says"),
    [
        (random_flip(), "must be a list or a tuple"),
        (None, "must be a list or a tuple"),
        ([random_flip], r"augment\[0\] must be .* Call it"),
        ([random_flip(), "flip"], r"augment\[1\] must be"),
        ([random_flip(), random_resized_crop()], r"random_resized_crop is augment\[1\].*Put it first"),
        ([random_resized_crop(), random_resized_crop()], "Put it first"),
        ([random_flip()] * 256, "255 are the most"),
    ],
)
def test_impossible_lists_are_refused(augment, says):
    with pytest.raises(ConfigError, match=f"(?s){says}") as caught:
        DecodeConfig(augment=augment)
    assert caught.value.setting == "augment"


def test_settings_that_exclude_each_other_are_refused():
    with pytest.raises(ConfigError, match="decode=False"):
        DecodeConfig(augment=[random_flip()], decode=False)
    for name in ("crop_to_aspect_ratio", "pad_to_aspect_ratio"):
        with pytest.raises(ConfigError, match=name):
            DecodeConfig(augment=[random_resized_crop()], **{name: True})
        DecodeConfig(augment=[random_flip()], **{name: True})


@pytest.mark.parametrize("options", [{"dtype": "float64"}, {"dtype": np.float32}, {"data_format": "NCHW"}])
def test_unknown_types_and_layouts_are_refused(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))} must be"):
        DecodeConfig(**options)


def test_the_public_names_are_these():
    assert shardkit.random_flip is random_flip
    assert shardkit.random_resized_crop is random_resized_crop

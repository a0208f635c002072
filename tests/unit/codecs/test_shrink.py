"""Large pictures made smaller once: which ones, to what size, and what kind of file they become."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from material import material_dir
from PIL import Image

from shardkit.codecs.header import read_header
from shardkit.codecs.shrink import shrink, shrunk_size
from shardkit.errors import CodecError


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def picture(height, width, mode="RGB"):
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 7 * 30], axis=2)
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def shrunk(data, side=32, quality=90):
    found = shrink(data, read_header(data), side, quality)
    if found is not None:
        assert read_header(found[0]) == found[1]
    return found


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 500))
def test_the_shorter_side_is_exact_and_the_longer_one_keeps_the_aspect_ratio(height, width, side):
    size = shrunk_size((height, width), side)
    assert min(size) == side
    for length, new in zip((height, width), size, strict=True):
        assert abs(new - length * side / min(height, width)) <= 0.5


@pytest.mark.parametrize(("size", "expected"), [((300, 400), (256, 341)), ((400, 300), (341, 256)), ((2, 3), (1, 2))])
def test_sizes(size, expected):
    assert shrunk_size(size, min(expected)) == expected


@pytest.mark.parametrize("size", [(32, 32), (32, 900), (31, 40), (1, 1)])
def test_a_picture_that_is_not_larger_is_left_alone(size):
    assert shrunk(encoded(picture(*size))) is None


@pytest.mark.parametrize(
    ("mode", "form", "kind", "kept"),
    [
        ("RGB", "JPEG", "jpeg", "RGB"),
        ("L", "JPEG", "jpeg", "L"),
        ("CMYK", "JPEG", "jpeg", "RGB"),
        ("RGB", "PNG", "jpeg", "RGB"),
        ("L", "PNG", "jpeg", "L"),
        ("1", "PNG", "jpeg", "L"),
        ("I;16", "PNG", "jpeg", "L"),
        ("P", "PNG", "jpeg", "RGB"),
        ("RGBA", "PNG", "png", "RGBA"),
        ("LA", "PNG", "png", "RGBA"),
        ("RGB", "WEBP", "jpeg", "RGB"),
        ("RGBA", "WEBP", "png", "RGBA"),
        ("P", "GIF", "jpeg", "RGB"),
        ("RGB", "BMP", "jpeg", "RGB"),
        ("RGBA", "TIFF", "png", "RGBA"),
        ("L", "PPM", "jpeg", "L"),
    ],
)
def test_what_becomes_of_each_kind(mode, form, kind, kept):
    image = picture(80, 120) if mode in ("LA", "RGBA", "I;16") else picture(80, 120, mode)
    if mode == "I;16":
        image = Image.fromarray(np.full((80, 120), 0x40C0, np.uint16))
    elif mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(np.arange(80 * 120, dtype=np.uint32).reshape(80, 120).astype(np.uint8)))
        image = image.convert(mode)
    data, header = shrunk(encoded(image, form))
    assert (header.format, header.mode, header.height, header.width, header.orientation) == (kind, kept, 32, 48, 1)
    if mode == "I;16":
        assert np.unique(np.asarray(Image.open(io.BytesIO(data)))).tolist() == [0x40]


def test_a_transparent_colour_and_a_palette_with_alpha_are_kept():
    palette = picture(64, 64).quantize(4)
    for data in (
        encoded(palette, transparency=b"\x00\x80\xff\xff"),
        encoded(picture(64, 64), transparency=(0, 0, 0)),
        encoded(palette, "GIF", transparency=0),
    ):
        found, header = shrunk(data)
        assert (header.format, header.mode) == ("png", "RGBA")
        assert np.asarray(Image.open(io.BytesIO(found)))[..., 3].min() < 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_the_right_way_up(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture(96, 192)
    data = encoded(stored, "JPEG", exif=exif, quality=95)
    found, header = shrunk(data)
    assert (header.height, header.width) == ((64, 32) if orientation >= 5 else (32, 64))
    upright = Image.open(io.BytesIO(data))
    from PIL import ImageOps

    expected = ImageOps.exif_transpose(upright).resize((header.width, header.height), Image.Resampling.BILINEAR)
    difference = np.asarray(Image.open(io.BytesIO(found)), np.int16) - np.asarray(expected, np.int16)
    assert np.abs(difference).mean() < 6


def test_photographs_are_as_good_as_pillow_makes_them():
    for name in ("china.jpg", "flower.jpg", "rocket.jpg"):
        data = material_dir("photos", name).read_bytes()
        found, header = shrunk(data, side=200, quality=95)
        expected = Image.open(io.BytesIO(data)).resize((header.width, header.height), Image.Resampling.BILINEAR)
        error = np.asarray(Image.open(io.BytesIO(found)), np.float64) - np.asarray(expected)
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 34, name


def test_the_quality_decides_the_size_and_the_bytes_are_the_same_each_time():
    data = encoded(picture(300, 300))
    sizes = [len(shrunk(data, quality=quality)[0]) for quality in (1, 50, 90, 100)]
    assert sizes == sorted(set(sizes))
    assert shrunk(data) == shrunk(data)


def test_one_that_is_too_long_for_a_jpeg_becomes_a_png():
    _, header = shrunk(encoded(Image.new("L", (70_000, 2), 9)), side=1, quality=1)
    assert (header.format, header.height, header.width, header.mode) == ("jpeg", 1, 35_000, "L")
    _, header = shrunk(encoded(Image.new("L", (140_000, 2), 9)), side=1, quality=1)
    assert (header.format, header.height, header.width, header.mode) == ("png", 1, 70_000, "L")


def test_what_does_not_decode_is_an_error():
    data = encoded(picture(300, 300), "JPEG")
    broken = data[: len(data) // 2] + b"\xff\xd9"
    with pytest.raises(CodecError, match="end early"):
        shrink(broken, read_header(broken), 32, 90)
    floats = encoded(Image.fromarray(np.zeros((40, 40), np.float32)), "TIFF")
    with pytest.raises(CodecError, match="floating-point"):
        shrink(floats, read_header(floats), 32, 90)

"""Resizing: as Pillow does with antialiasing, as Keras does without, cropped and padded as Keras does."""

import io
import math
import time
from typing import Any

import numpy as np
import pytest
from material import material_dir
from PIL import Image

from shardkit.codecs.geometry import Box
from shardkit.codecs.image import ImageDecoder
from shardkit.codecs.resize import resize_into

Pixels = np.ndarray[Any, Any]
TARGET = (224, 224)


def psnr(a: Pixels, b: Pixels) -> float:
    error = float(np.mean((a.astype(np.float32) - b) ** 2))
    return 99.0 if error == 0 else 10 * math.log10(255**2 / error)


def encoded(form: str, pixels: Pixels, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **({"compress_level": 1} if form == "PNG" else {}), **options)
    return file.getvalue()


def by_pillow(pixels: Pixels, size: tuple[int, int], box: tuple[int, int, int, int] | None = None) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))


def photographs(size: int) -> list[Image.Image]:
    """Photographs whose longer side is ``size``: scaled down, or repeated side by side."""
    found = []
    names = ["astronaut.png", "coffee.png", "rocket.jpg", "wallpapers/Dune.jpg"]
    for name in names:
        image = Image.open(material_dir("photos", name)).convert("RGB")
        if max(image.size) >= size:
            scale = size / max(image.size)
            found.append(image.resize((round(image.width * scale), round(image.height * scale))))
        else:
            times = math.ceil(size / min(image.size))
            height = size * image.height // image.width
            found.append(Image.fromarray(np.tile(np.asarray(image), (times, times, 1))[:height, :size]))
    return found


def keras_resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Bilinear sampling at pixel centres, as tf.image.resize does it, in plain numpy; float."""
    values = pixels.astype(np.float64)
    for axis, length in enumerate(size):
        at = (np.arange(length) + 0.5) * values.shape[axis] / length - 0.5
        low = np.floor(at).astype(int)
        weight = (at - low).reshape(-1, *[1] * (2 - axis))
        most = values.shape[axis] - 1
        before = np.take(values, np.clip(low, 0, most), axis)
        values = before + (np.take(values, np.clip(low + 1, 0, most), axis) - before) * weight
    return values


def test_likeness_to_pillow_on_photographs_of_every_size() -> None:
    alone, from_jpeg = [], []
    for size in (100, 200, 300, 450, 700, 1000, 1500, 3000, 6000):
        for image in photographs(size)[:: 4 if size > 2500 else 1]:
            pixels, out = np.asarray(image), np.empty((*TARGET, 3), np.uint8)
            resize_into(pixels, Box(0, 0, *pixels.shape[:2]), out, antialias=True)
            alone.append(psnr(out, by_pillow(pixels, TARGET)))
            jpeg = encoded("JPEG", pixels, quality=92)
            full = np.asarray(Image.open(io.BytesIO(jpeg)))
            from_jpeg.append(psnr(ImageDecoder(image_size=TARGET).decode(jpeg), by_pillow(full, TARGET)))
    for values in (alone, from_jpeg):
        assert np.mean(values) >= 45
        assert np.percentile(values, 5) >= 38


@pytest.mark.parametrize("target", [(64, 200), (299, 299)])
def test_likeness_to_pillow_at_other_targets(target: tuple[int, int]) -> None:
    values = []
    for image in photographs(900):
        pixels = np.asarray(image)
        values.append(psnr(ImageDecoder(image_size=target).decode(encoded("PNG", pixels)), by_pillow(pixels, target)))
    assert np.mean(values) >= 45
    assert min(values) >= 38


@pytest.mark.parametrize("shape", [(1, 40_000), (40_000, 1), (3, 9_000), (70_000, 17), (1, 1), (2, 300), (5000, 5000)])
@pytest.mark.parametrize("target", [(1, 1), (16, 16), (224, 224)])
def test_extreme_shapes_take_a_moment_only(shape: tuple[int, int], target: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), 93, np.uint8)
    out = np.empty((*target, 3), np.uint8)
    start = time.monotonic()
    resize_into(pixels, Box(0, 0, *shape), out, antialias=True)
    assert time.monotonic() - start < 5
    assert (out == 93).all()


def test_brightness_is_kept() -> None:
    pixels = np.asarray(photographs(1700)[0])
    for target in ((400, 300), (224, 224), (64, 64), (7, 9)):
        out = np.empty((*target, 3), np.uint8)
        resize_into(pixels, Box(0, 0, *pixels.shape[:2]), out, antialias=True)
        assert abs(out.mean() - pixels.mean()) < 1.5


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_without_antialiasing_it_is_keras(form: str) -> None:
    for image in photographs(700):
        data = encoded(form, np.asarray(image))
        full = np.asarray(Image.open(io.BytesIO(data)))
        found = ImageDecoder(image_size=(120, 90), antialias=False).decode(data)
        assert np.abs(found - keras_resize(full, (120, 90))).max() <= 1.01


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (333, 500), (224, 224)])
@pytest.mark.parametrize("target", [(50, 50), (40, 80), (80, 40), (31, 57)])
def test_cropping_is_keras_smart_resize(size: tuple[int, int], target: tuple[int, int]) -> None:
    pixels = np.asarray(photographs(600)[0].resize((size[1], size[0])))
    height, width = size
    crop_height = max(min(height, int(float(width * target[0]) / target[1])), 1)
    crop_width = max(min(width, int(float(height * target[1]) / target[0])), 1)
    top, left = int(float(height - crop_height) / 2), int(float(width - crop_width) / 2)
    part = pixels[top : top + crop_height, left : left + crop_width]
    decoder = ImageDecoder(image_size=target, crop_to_aspect_ratio=True, antialias=False)
    assert np.abs(decoder.decode(encoded("PNG", pixels)) - keras_resize(part, target)).max() <= 1.01


def test_cropping_a_reduced_jpeg_hits_the_same_part() -> None:
    pixels = np.asarray(photographs(3001)[0])[:1999]
    jpeg = encoded("JPEG", pixels, quality=92)
    full = np.asarray(Image.open(io.BytesIO(jpeg)))
    left = (3001 - 1999) // 2
    expected = by_pillow(full, (96, 96), (left, 0, left + 1999, 1999))
    found = ImageDecoder(image_size=(96, 96), crop_to_aspect_ratio=True).decode(jpeg)
    assert psnr(found, expected) >= 40


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (333, 500), (224, 224)])
@pytest.mark.parametrize("target", [(50, 50), (40, 80), (80, 40), (31, 57)])
def test_padding_keeps_the_whole_picture_in_the_middle_of_zeros(size: Any, target: Any) -> None:
    pixels = np.maximum(np.asarray(photographs(600)[0].resize((size[1], size[0]))), 1)
    decoder = ImageDecoder(image_size=target, pad_to_aspect_ratio=True, antialias=False)
    found = decoder.decode(encoded("PNG", pixels))
    scale = min(target[0] / size[0], target[1] / size[1])
    rows, columns = min(round(size[0] * scale), target[0]), min(round(size[1] * scale), target[1])
    top, left = (target[0] - rows) // 2, (target[1] - columns) // 2
    inner = found[top : top + rows, left : left + columns]
    assert np.abs(inner - keras_resize(pixels, (rows, columns))).max() <= 1.01
    frame = found.copy()
    frame[top : top + rows, left : left + columns] = 0
    assert not frame.any()
    assert rows == target[0] or columns == target[1]

"""What becomes of a picture when it is packed, and how long it is expected to be."""

import io

import numpy as np
import pytest
from material import material_dir
from PIL import Image

from shardkit.codecs.header import read_header
from shardkit.codecs.image import ImageDecoder
from shardkit.errors import CodecError
from shardkit.packer.pictures import PictureOptions, stored_picture


def png(height, width):
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_without_options_the_bytes_are_kept():
    data = png(50, 60)
    for options in (PictureOptions(), PictureOptions(check="decode"), PictureOptions(resize=50)):
        assert stored_picture(data, options) == (data, read_header(data), "png")


def test_a_large_picture_is_made_smaller():
    data, header, extension = stored_picture(png(100, 60), PictureOptions(resize=30))
    assert read_header(data) == header
    assert (header.format, header.height, header.width, extension) == ("jpeg", 50, 30, "jpg")


def test_a_small_picture_is_checked_as_any_other():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30), np.uint8)).save(file, "JPEG")
    cut = file.getvalue()[:-200] + b"\xff\xd9"
    stored_picture(cut, PictureOptions(resize=30))
    with pytest.raises(CodecError, match="end early"):
        stored_picture(cut, PictureOptions(resize=30, check="decode"))


def test_the_planned_length():
    assert PictureOptions().planned_bytes(5_000_000) == 5_000_000
    planned = [PictureOptions(resize=256, quality=quality).planned_bytes(10**9) for quality in range(1, 101)]
    assert planned == sorted(set(planned))
    assert PictureOptions(resize=256).planned_bytes(10**9) == 24_576
    assert PictureOptions(resize=256).planned_bytes(9_000) == 9_000


@pytest.mark.parametrize("quality", [75, 90, 95])
def test_the_planned_length_of_photographs_is_about_right(quality):
    options = PictureOptions(resize=256, quality=quality)
    files = [path.read_bytes() for path in sorted(material_dir("photos", "wallpapers").iterdir())[::3]]
    lengths = [(len(stored_picture(data, options).data), options.planned_bytes(len(data))) for data in files]
    found, planned = (sum(column) for column in zip(*lengths, strict=True))
    assert 0.6 < found / planned < 1.6


@pytest.mark.parametrize(
    ("color_mode", "channels", "mode"), [("rgb", 3, "RGB"), ("grayscale", 1, "L"), ("rgba", 4, "RGBA")]
)
def test_a_raw_picture_is_what_the_decoder_gives(color_mode, channels, mode):
    options = PictureOptions(store="raw", image_size=(6, 9), color_mode=color_mode, crop_to_aspect_ratio=True)
    data = material_dir("photos", "china.jpg").read_bytes()
    stored, header, extension = stored_picture(data, options)
    decoder = ImageDecoder(image_size=(6, 9), color_mode=color_mode, crop_to_aspect_ratio=True)
    assert np.array_equal(np.frombuffer(stored, np.uint8).reshape(6, 9, channels), decoder.decode(data))
    assert (header.format, header.height, header.width, header.mode, header.orientation) == ("raw", 6, 9, mode, 1)
    assert extension == "raw"
    assert options.planned_bytes(len(data)) == len(stored)

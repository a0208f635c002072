"""GIF whose first image is to be taken away again."""

import io

import numpy as np
import pytest
from PIL import Image

from shardkit.codecs.gif import without_disposal
from shardkit.codecs.image import ImageDecoder
from shardkit.codecs.pillow import open_picture

SMALL = ImageDecoder(image_size=(8, 8))


def animation(disposal: int, **options: object) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 30, 40), dtype=np.uint8)
    first, second = (Image.fromarray(each) for each in pixels)
    first.save(file, "GIF", save_all=True, append_images=[second], disposal=disposal, **options)
    return file.getvalue()


@pytest.mark.parametrize("disposal", [2, 3])
def test_no_memory_is_taken_for_what_is_shown_after_the_first_image(disposal: int) -> None:
    data = animation(disposal, transparency=3, comment=b"x" * 600)
    with Image.open(io.BytesIO(data)) as image:
        assert image.dispose is not None
    with open_picture(memoryview(data), "gif") as image:
        assert image.dispose is None
    assert np.array_equal(SMALL.decode(data), SMALL.decode(animation(1, transparency=3, comment=b"x" * 600)))


def test_a_gif_that_says_nothing_of_it_is_not_copied() -> None:
    for data in (animation(0), animation(1)):
        assert without_disposal(data) is data


def test_a_gif_that_is_cut_anywhere_is_left_to_pillow() -> None:
    data = animation(2, comment=b"x")
    for stop in range(len(data)):
        assert len(without_disposal(data[:stop])) == stop

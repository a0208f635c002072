"""Memory that is used again for the next picture."""

import numpy as np
from material import material_dir

from shardkit.codecs.image import ImageDecoder
from shardkit.codecs.scratch import Scratch
from shardkit.errors import CodecError


def test_arrays_of_one_picture_do_not_share_memory_and_the_next_one_gets_them_again():
    scratch = Scratch()
    first, second = scratch.take((10, 20, 3)), scratch.take((5, 5))
    assert first.shape == (10, 20, 3)
    assert first.flags.c_contiguous
    assert not np.shares_memory(first, second)
    scratch.restart()
    assert np.shares_memory(first, scratch.take((4, 4)))
    scratch.restart()
    assert not np.shares_memory(first, scratch.take((40, 40, 3)))


def test_very_large_arrays_are_not_kept():
    scratch = Scratch()
    large = scratch.take((3000, 3000, 3))
    scratch.restart()
    assert not np.shares_memory(large, scratch.take((3000, 3000, 3)))


def test_what_was_decoded_before_leaves_no_trace():
    """Pictures of falling and rising size, gray and colour, turned and not: the same with scratch as without."""
    files = [
        *material_dir("photos").glob("*.jpg"),
        *sorted(material_dir("pillow").glob("*.jpg"))[:20],
        *sorted(material_dir("photos").glob("*.png")),
    ]
    for color_mode in ("rgb", "grayscale"):
        decoder = ImageDecoder(image_size=(50, 70), color_mode=color_mode)
        scratch = Scratch()
        for path in [*files, *files[::-1]]:
            try:
                expected = decoder.decode(path.read_bytes())
            except CodecError:
                continue
            out = np.empty(decoder.shape, np.uint8)
            decoder.decode_into(path.read_bytes(), out, scratch=scratch)
            np.testing.assert_array_equal(out, expected)

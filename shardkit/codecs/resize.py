"""Resizing with OpenCV, as good as Pillow's antialiased bilinear filter at less than half its time.

Pillow's filter is a triangle as wide as the scale on both sides. A blur of equal variance followed by bilinear
sampling looks the same and is made of fast parts. Large pictures are halved first, by averaging blocks of 2x2 pixels,
and the blur gets what variance the averages have not used up. It is a Gaussian, or a few of OpenCV's filters of small
whole numbers where they have about that variance: they take half the time. ``tools/bench_resize.py`` measures likeness
and time.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import cv2
import numpy as np

from shardkit.codecs.geometry import Box
from shardkit.codecs.scratch import Scratch

__all__ = ["resize_into"]

# The one place that says how OpenCV runs: in the thread that calls it. Parallel work is the loader's, whose threads
# each decode a picture of their own; OpenCV's would fight them for the cores.
cv2.setNumThreads(0)

_SAMPLING_VARIANCE = 0.75  # of bilinear sampling, in units of 1/6 square pixel; found by measuring
_KERNEL_SIGMAS = 2.2  # where the Gaussian is cut off
_HALVE_FROM = 3.2  # the scale from which on a picture is halved first,
_HALVE_AGAIN_FROM = 5.0  # and again; more costs time, less likeness
_TRIANGLE, _MEAN = 1 / 2, 2 / 3  # variances of the filters (1 2 1) / 4 and (1 1 1) / 3
_NEAR_ENOUGH = 0.3  # part of the variance that they may miss; likeness stays above 40 dB
_MOST_PASSES = 3  # more take longer than a Gaussian
_MAX_WARP_PIXELS = 32_000  # a side that OpenCV's warpAffine takes


def resize_into(
    pixels: np.ndarray[Any, Any],
    box: Box,
    out: np.ndarray[Any, Any],
    *,
    antialias: bool,
    reduced: int = 1,
    scratch: Scratch | None = None,
) -> None:
    """Resize a part of a picture into an array.

    Args:
        pixels: ``(h, w, C)`` uint8: the picture, or what its JPEG decoder reduced it to.
        box: The part to use, in the pixels of the picture before that reduction.
        out: ``(H, W, C)`` uint8, rows may lie apart: is overwritten.
        antialias: Whether shrinking averages over what it drops (Pillow) or samples it (Keras).
        reduced: By how much the JPEG decoder has reduced it: 1, 2, 4 or 8.
        scratch: Memory to work in.
    """
    whole = reduced == 1 and _is_whole(box, pixels)
    if whole and pixels.shape == out.shape:
        np.copyto(out, pixels)
        return
    if pixels.shape[2] == 1:  # OpenCV writes one channel to two axes only
        pixels, out = pixels[..., 0], out[..., 0]
    if not whole:
        pixels, box = _cut(pixels, Box(*(value / reduced for value in box)))
    if antialias:
        pixels, box = _prefilter(pixels, box, out.shape, reduced, scratch or Scratch())
    _sample(pixels, box, out)


def _cut(pixels: np.ndarray[Any, Any], box: Box) -> tuple[np.ndarray[Any, Any], Box]:
    """The pixels that a box touches, and the box within them."""
    top, left = int(box.top), int(box.left)
    rows, columns = math.ceil(box.top + box.height), math.ceil(box.left + box.width)
    return pixels[top:rows, left:columns], box._replace(top=box.top - top, left=box.left - left)


def _prefilter(
    pixels: np.ndarray[Any, Any], box: Box, shape: tuple[int, ...], reduced: int, scratch: Scratch
) -> tuple[np.ndarray[Any, Any], Box]:
    """Halve, then blur, so that sampling aliases no more."""
    block_y = block_x = 8 if reduced == 8 else 1  # of the JPEG reductions only 1/8 averages; the others stay sharp
    limit = _HALVE_FROM if reduced == 1 else _HALVE_AGAIN_FROM
    while True:
        scale_y, scale_x = box.height / shape[0], box.width / shape[1]
        both = min(scale_y, scale_x) >= limit  # OpenCV is fast at blocks of 2x2, so other shapes wait longer
        rows = 2 if both or scale_y >= 2 * limit else 1
        columns = 2 if both or scale_x >= 2 * limit else 1
        if rows == columns == 1:
            break
        height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
        even = pixels[: height * rows, : width * columns]
        halved = scratch.take((height, width, *pixels.shape[2:]))
        pixels = cv2.resize(even, (width, height), dst=halved, interpolation=cv2.INTER_AREA)
        box = Box(box.top / rows, box.left / columns, box.height / rows, box.width / columns)
        block_y, block_x = block_y * rows, block_x * columns
        limit = _HALVE_AGAIN_FROM
    return _blur(pixels, _variance(scale_y, block_y), _variance(scale_x, block_x), scratch), box


def _variance(scale: float, block: int) -> float:
    """What is left to blur by at a scale when blocks of that side have been averaged, in square pixels."""
    if scale <= 1.0:
        return 0.0
    return max((scale * scale - _SAMPLING_VARIANCE) / 6 - (1 - 1 / block**2) / 12, 0.0)


def _blur(pixels: np.ndarray[Any, Any], down: float, across: float, scratch: Scratch) -> np.ndarray[Any, Any]:
    """Blur by a variance in each direction."""
    filters = _whole_numbers(round(down, 2), round(across, 2))
    if filters is None:
        sigma_y, sigma_x = math.sqrt(down), math.sqrt(across)
        kernel = (_kernel_size(sigma_x), _kernel_size(sigma_y))
        if kernel == (1, 1):
            return pixels
        # A sigma of 0 asks OpenCV to choose one; with a kernel of 1 it makes no difference.
        blurred = scratch.take(pixels.shape)
        cv2.GaussianBlur(pixels, kernel, sigma_x or 1.0, dst=blurred, sigmaY=sigma_y or 1.0)
        return blurred
    means, triangles_down, triangles_across = filters
    for _ in range(means):
        pixels = cv2.blur(pixels, (3, 3), dst=scratch.take(pixels.shape))
    for number in range(max(triangles_down, triangles_across)):
        kernel = (3 if number < triangles_across else 1, 3 if number < triangles_down else 1)
        pixels = cv2.GaussianBlur(pixels, kernel, 0, dst=scratch.take(pixels.shape))  # 0 asks for 1 2 1
    return pixels


@functools.lru_cache(maxsize=4096)
def _whole_numbers(down: float, across: float) -> tuple[int, int, int] | None:
    """How often to average 3 x 3 pixels, and to apply 1 2 1 downwards and across; the fewest that come near enough."""
    if min(down, across) <= 0.0:
        return None
    found = []
    for means in (0, 1):
        counts = [max(round((variance - means * _MEAN) / _TRIANGLE), 1 - means) for variance in (down, across)]
        missed = max(
            abs(means * _MEAN + count * _TRIANGLE - variance) / variance
            for count, variance in zip(counts, (down, across), strict=True)
        )
        passes = means + max(counts)
        if missed <= _NEAR_ENOUGH and passes <= _MOST_PASSES:
            found.append((passes, missed, (means, counts[0], counts[1])))
    return min(found)[2] if found else None


def _kernel_size(sigma: float) -> int:
    return 2 * int(_KERNEL_SIGMAS * sigma + 0.5) + 1


def _sample(pixels: np.ndarray[Any, Any], box: Box, out: np.ndarray[Any, Any]) -> None:
    """Bilinear sampling of a box; its edges may lie within pixels after blocks were averaged."""
    height, width = out.shape[:2]
    whole = _is_whole(box, pixels)
    if whole and pixels.shape == out.shape:
        np.copyto(out, pixels)
    elif whole or max(pixels.shape[:2]) > _MAX_WARP_PIXELS:
        cv2.resize(pixels, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    else:
        scale_y, scale_x = box.height / height, box.width / width
        matrix = np.array(
            [
                [scale_x, 0.0, box.left + (scale_x - 1) / 2],
                [0.0, scale_y, box.top + (scale_y - 1) / 2],
            ]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(pixels, matrix, (width, height), dst=out, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _is_whole(box: Box, pixels: np.ndarray[Any, Any]) -> bool:
    return box == (0, 0, *pixels.shape[:2])

"""What is done to a decoded picture's array: turning it over, and laying it into a batch of another type or layout."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

__all__ = ["as_bytes", "flip", "lay_into"]

Pixels = np.ndarray[Any, Any]

# The bits of the numbers 0 to 255 as float16, looked up because numpy converts to float16 nine times slower.
_HALVES = np.arange(256, dtype=np.uint8).astype(np.float16).view(np.int16)[np.newaxis]


def flip(pixels: Pixels, *, horizontal: bool, vertical: bool) -> Pixels:
    """Turn a picture over.

    Args:
        pixels: ``(H, W, C)``. uint8 is turned over in place and must be contiguous and writable; anything else is not
            written to.
        horizontal: Left to right.
        vertical: Top to bottom.

    Returns:
        The array itself where it is uint8, else a view of it.
    """
    if pixels.dtype != np.uint8:
        return pixels[:: -1 if vertical else 1, :: -1 if horizontal else 1]
    if horizontal or vertical:
        planes = pixels[..., 0] if pixels.shape[2] == 1 else pixels  # OpenCV writes one channel to two axes only
        cv2.flip(planes, -1 if horizontal and vertical else int(horizontal), dst=planes)
    return pixels


def as_bytes(values: Pixels) -> Pixels:
    """Numbers as uint8: rounded to the nearest, and what lies outside of 0 to 255 cut off there.

    Args:
        values: Any shape: booleans, whole or floating-point numbers.

    Returns:
        The same shape, uint8; the array itself where it is uint8 already.
    """
    if values.dtype == np.uint8:
        return values
    return np.clip(np.rint(values) if values.dtype.kind == "f" else values, 0, 255).astype(np.uint8)


def lay_into(pixels: Pixels, out: Pixels, *, channels_first: bool) -> None:
    """Write a picture into an array of another type or layout.

    Args:
        pixels: ``(H, W, C)``: booleans, whole or floating-point numbers; may share memory with ``out``.
        out: ``(H, W, C)``, or ``(C, H, W)`` with ``channels_first``: uint8, where numbers are rounded and cut off as
            by `as_bytes`, or float32 or float16, where they stay as they are. Is overwritten.
        channels_first: The layout of ``out``.
    """
    if out.dtype == np.uint8:
        pixels = as_bytes(pixels)
    if pixels.dtype != np.uint8:
        np.copyto(out, pixels.transpose(2, 0, 1) if channels_first else pixels, casting="unsafe")
    elif channels_first:
        for plane, values in zip(out, cv2.split(pixels), strict=True):
            _convert(values, plane)
    elif pixels.shape[2] == 1:
        _convert(pixels[..., 0], out[..., 0])
    else:
        _convert(pixels, out)


def _convert(values: Pixels, out: Pixels) -> None:
    if out.dtype == np.float16:
        cv2.LUT(values, _HALVES, dst=out.view(np.int16))
    else:
        np.copyto(out, values)

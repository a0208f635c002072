"""Where a picture goes: its orientation, the part that is used, and the place that part takes in the array.

Pure arithmetic on sizes. *Stored* is the picture as it lies in the file, *shown* is the picture the right way up.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np

__all__ = ["Box", "centre_crop", "centred", "shown", "shown_size", "stored_box"]

Pixels = TypeVar("Pixels", bound=np.ndarray[Any, Any])

# EXIF orientation -> (flip rows, flip columns, then swap rows and columns) makes shown of stored
_TURNS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (True, True, False),
    4: (True, False, False),
    5: (False, False, True),
    6: (True, False, True),
    7: (True, True, True),
    8: (False, True, True),
}


class Box(NamedTuple):
    """A rectangle in pixels.

    Attributes:
        top: Its first row.
        left: Its first column.
        height: Its number of rows.
        width: Its number of columns.
    """

    top: float
    left: float
    height: float
    width: float


def shown_size(size: tuple[int, ...], orientation: int) -> tuple[int, int]:
    """The size of a picture the right way up; and back again, as it is its own inverse.

    Args:
        size: The stored picture's height and width.
        orientation: EXIF's, 1 to 8.

    Returns:
        Height and width.
    """
    height, width = size
    return (width, height) if orientation >= 5 else (height, width)


def shown(pixels: Pixels, orientation: int) -> Pixels:
    """A picture the right way up, as a view.

    Args:
        pixels: ``(H, W, ...)`` as stored.
        orientation: EXIF's, 1 to 8.

    Returns:
        The same memory with axes turned.
    """
    flip_rows, flip_columns, swap = _TURNS[orientation]
    turned = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    return turned.swapaxes(0, 1) if swap else turned  # type: ignore[return-value]


def stored_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Where a rectangle of the shown picture lies in the stored one.

    Args:
        box: The rectangle in the shown picture.
        size: The stored picture's height and width.
        orientation: EXIF's, 1 to 8.

    Returns:
        The same rectangle in the stored picture.
    """
    if orientation == 1:
        return box
    flip_rows, flip_columns, swap = _TURNS[orientation]
    top, left, height, width = box
    if swap:
        top, left, height, width = left, top, width, height
    if flip_rows:
        top = size[0] - top - height
    if flip_columns:
        left = size[1] - left - width
    return Box(top, left, height, width)


def centre_crop(size: tuple[int, int], target: tuple[int, int]) -> Box:
    """The largest rectangle in the middle that has the target's aspect ratio, rounded as Keras rounds it.

    Args:
        size: The picture's height and width.
        target: The array's height and width.

    Returns:
        The rectangle, in whole pixels.
    """
    height, width = size
    crop_height = max(min(height, width * target[0] // target[1]), 1)
    crop_width = max(min(width, height * target[1] // target[0]), 1)
    return Box((height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width)


def centred(size: tuple[int, int], target: tuple[int, int]) -> tuple[slice, slice]:
    """Where the whole picture goes when it keeps its aspect ratio and lies in the middle of the array.

    Args:
        size: The picture's height and width.
        target: The array's height and width.

    Returns:
        Its rows and its columns in the array.
    """
    scale = min(target[0] / size[0], target[1] / size[1])
    rows = min(max(round(size[0] * scale), 1), target[0])
    columns = min(max(round(size[1] * scale), 1), target[1])
    top, left = (target[0] - rows) // 2, (target[1] - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)

"""Pictures decoded by Pillow as 8-bit arrays, whatever kind of pixels they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from shardkit.codecs.costs import image_cost
from shardkit.codecs.ends import is_whole
from shardkit.codecs.limits import DEFAULT_LIMITS
from shardkit.codecs.pillow import open_picture, orientation_in, reported
from shardkit.errors import CodecError

if TYPE_CHECKING:
    from PIL import ImageFile

    from shardkit.codecs.limits import ImageLimits

__all__ = ["decode_with_pillow"]

_16_BITS = 0xFFFF
_STRIP_PIXELS = 1 << 20


def decode_with_pillow(
    data: bytes | memoryview, form: str, mode: str, limits: ImageLimits = DEFAULT_LIMITS
) -> tuple[np.ndarray[Any, Any], int]:
    """Decode the first picture in a file.

    Args:
        data: The file.
        form: Its format.
        mode: The pixels wanted: Pillow's ``RGB``, ``L`` or ``RGBA``.
        limits: What one image may take.

    Returns:
        ``(h, w, C)`` uint8, and the orientation still to be applied.

    Raises:
        CodecError: It does not decode, or is over a limit.
    """
    with open_picture(data, form) as image, reported(form):
        limits.check_size(*image.size)
        limits.check(image_cost(data, form, image))
        if not is_whole(data, form, image):
            raise CodecError(f"the {form} data end early")
        orientation = 1 if form == "tiff" else orientation_in(image, form)  # Pillow turns TIFF itself
        image.load()
        return _as_array(image, mode), orientation


def _as_array(image: ImageFile.ImageFile, mode: str) -> np.ndarray[Any, Any]:
    """An image's pixels. Those of a large one are converted strip by strip: Pillow would keep three more copies."""
    width, height = image.size
    if width * height <= 2 * _STRIP_PIXELS:
        pixels = np.asarray(_converted(image, mode))
        return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]
    rows = max(1, _STRIP_PIXELS // width)
    out = np.empty((height, width, len(mode)), np.uint8)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        out[top : top + rows] = np.asarray(_converted(strip, mode)).reshape(-1, width, len(mode))
    return out


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F":
        raise CodecError("the picture holds floating-point numbers", advice="Convert it to 8 bits first")
    if image.mode.startswith("I"):
        return Image.fromarray(_high_bytes(np.asarray(image))).convert(mode)
    if mode != "RGBA":
        image.info.pop("transparency", None)  # dropped as all alpha is; Pillow would try to carry it over
    return image if image.mode == mode else image.convert(mode)


def _high_bytes(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """16-bit grays as 8-bit ones. Pillow would cut everything over 255 to white."""
    if values.dtype.itemsize > 2 and (values.min() < 0 or values.max() > _16_BITS):
        raise CodecError("the picture's values do not fit 16 bits", advice="Convert it to 8 bits first")
    return (values >> 8).astype(np.uint8)

"""Pictures decoded by Pillow as 8-bit arrays, whatever kind of pixels they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageFile

from shardkit.codecs.ends import is_whole
from shardkit.codecs.header import check_size
from shardkit.codecs.pillow import open_picture, orientation_in, reported
from shardkit.errors import CodecError

__all__ = ["decode_with_pillow"]

_16_BITS = 0xFFFF


def decode_with_pillow(data: bytes | memoryview, form: str, mode: str) -> tuple[np.ndarray[Any, Any], int]:
    """Decode the first picture in a file.

    Args:
        data: The file.
        form: Its format.
        mode: The pixels wanted: Pillow's ``RGB``, ``L`` or ``RGBA``.

    Returns:
        ``(h, w, C)`` uint8, and the orientation still to be applied.

    Raises:
        CodecError: It does not decode.
    """
    with open_picture(data, form) as image, reported(form):
        check_size(*image.size)
        if not is_whole(data, form, image):
            raise CodecError(f"the {form} data end early")
        orientation = 1 if form == "tiff" else orientation_in(image, form)  # Pillow turns TIFF itself
        image.load()
        pixels = np.asarray(_converted(image, mode))
        return (pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]), orientation


def _converted(image: ImageFile.ImageFile, mode: str) -> Image.Image:
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

"""Arrays to the bytes of a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import simplejpeg
from PIL import Image

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MAX_JPEG_SIDE", "encode_jpeg", "encode_png"]

MAX_JPEG_SIDE = 65_500
"""The most pixels that libjpeg takes across or down."""


def encode_jpeg(pixels: np.ndarray[Any, Any], quality: int) -> bytes:
    """Encode a JPEG: baseline, colours at half the resolution in both directions (4:2:0), no metadata.

    Args:
        pixels: ``(H, W, C)`` uint8, C-contiguous, 3 channels of RGB or 1 of gray; at most `MAX_JPEG_SIDE` a side.
        quality: libjpeg's, 1 to 100.

    Returns:
        The file's bytes, the same for the same pixels and the same library.
    """
    colours, sampling = ("GRAY", "Gray") if pixels.shape[2] == 1 else ("RGB", "420")
    data: bytes = simplejpeg.encode_jpeg(pixels, quality, colours, sampling, fastdct=False)
    return data


def encode_png(pixels: np.ndarray[Any, Any]) -> bytes:
    """Encode a PNG, which loses nothing.

    Args:
        pixels: ``(H, W, C)`` uint8: 1 channel of gray, 3 of RGB or 4 of RGBA.

    Returns:
        The file's bytes, the same for the same pixels and the same library.
    """
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(out, "PNG")
    return out.getvalue()

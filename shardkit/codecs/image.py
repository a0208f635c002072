"""Pictures to arrays of one size.

What becomes of each kind of picture is in ``docs/reference/pictures.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import simplejpeg

from shardkit.codecs.colors import CHANNELS, PILLOW_MODES, ColorMode
from shardkit.codecs.geometry import Box, centre_crop, centred, shown, shown_size, stored_box
from shardkit.codecs.header import check_size, sniff
from shardkit.codecs.jpeg import JpegFrame, check_frame, parse_jpeg
from shardkit.codecs.pixels import decode_with_pillow
from shardkit.codecs.png import parse_png
from shardkit.codecs.resize import resize_into
from shardkit.errors import CodecError, ConfigError
from shardkit.sample import ArraySpec

__all__ = ["ColorMode", "ImageDecoder"]

_JPEG_COLORS = {"rgb": "RGB", "grayscale": "GRAY", "rgba": "RGBA"}
_JPEG_REDUCTIONS = (8, 4, 2)  # the ones libjpeg-turbo does at full speed
_MIN_SCALE = 2  # what JPEG reduction leaves to the antialiased resize


@dataclass(frozen=True, kw_only=True)
class ImageDecoder:
    """Decodes pictures of any kind and size to uint8 arrays of one size. Safe to use from several threads at once.

    Attributes:
        image_size: Height and width of the array.
        color_mode: ``rgb``, ``grayscale`` or ``rgba``: 3, 1 or 4 channels.
        crop_to_aspect_ratio: Use the largest part in the middle that has the array's aspect ratio.
        pad_to_aspect_ratio: Keep the picture's aspect ratio and fill up with zeros around it.
        antialias: Average when shrinking, as Pillow does; otherwise sample, as Keras does.

    Raises:
        ConfigError: A value is not possible.
    """

    image_size: tuple[int, int]
    color_mode: ColorMode = "rgb"
    crop_to_aspect_ratio: bool = False
    pad_to_aspect_ratio: bool = False
    antialias: bool = True

    def __post_init__(self) -> None:
        size: object = self.image_size
        if not (isinstance(size, tuple) and len(size) == 2 and all(map(_is_count, size))):
            raise ConfigError(
                "image_size must be (height, width), each a whole number from 1", setting="image_size", value=size
            )
        if self.color_mode not in get_args(ColorMode):
            raise ConfigError(
                f"color_mode must be one of {', '.join(get_args(ColorMode))}",
                setting="color_mode",
                value=self.color_mode,
            )
        if self.crop_to_aspect_ratio and self.pad_to_aspect_ratio:
            raise ConfigError(
                "crop_to_aspect_ratio and pad_to_aspect_ratio exclude each other",
                advice="Set one of them",
                setting="crop_to_aspect_ratio",
                value=True,
            )

    @property
    def channels(self) -> int:
        """Values per pixel."""
        return CHANNELS[self.color_mode]

    @property
    def spec(self) -> ArraySpec:
        """The arrays that come out: ``(H, W, C) uint8``."""
        return ArraySpec((*self.image_size, self.channels), "uint8")

    def decode(self, data: bytes | memoryview) -> np.ndarray[Any, Any]:
        """Decode one picture.

        Args:
            data: The file's bytes.

        Returns:
            ``(H, W, C)`` uint8.

        Raises:
            CodecError: The bytes do not decode to a picture.
        """
        out = np.empty((*self.image_size, self.channels), np.uint8)
        self.decode_into(data, out)
        return out

    def decode_into(self, data: bytes | memoryview, out: np.ndarray[Any, Any]) -> None:
        """Decode one picture into an array.

        Args:
            data: The file's bytes.
            out: ``(H, W, C)`` uint8, C-contiguous, such as one row of a batch. Of undefined content after an error.

        Raises:
            CodecError: The bytes do not decode to a picture.
            ValueError: ``out`` is not such an array.
        """
        if out.shape != (*self.image_size, self.channels) or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise ValueError(f"out must be a contiguous array of {self.spec}")
        form = sniff(data)
        if form is None:
            raise CodecError("not a picture of a known format")
        if form != "jpeg":
            self._decode_with_pillow(data, form, out)
            return
        frame = parse_jpeg(data)
        check_frame(frame)
        check_size(frame.width, frame.height)
        if frame.components == 4 or not self._decode_jpeg(data, frame, out):  # CMYK is Pillow's, too
            self._decode_with_pillow(data, form, out, orientation=frame.orientation)

    def _decode_jpeg(self, data: bytes | memoryview, frame: JpegFrame, out: np.ndarray[Any, Any]) -> bool:
        """Decode by libjpeg-turbo; False where it objects to something that Pillow may let pass."""
        box, view = self._place((frame.height, frame.width), frame.orientation, out)
        reduced = self._jpeg_reduction(box, shown_size(view.shape[:2], frame.orientation))
        fits = frame.orientation == 1 and (frame.height, frame.width) == self.image_size
        try:
            pixels = simplejpeg.decode_jpeg(
                data,
                _JPEG_COLORS[self.color_mode],
                min_height=-(-frame.height // reduced),
                min_width=-(-frame.width // reduced),
                min_factor=reduced,
                buffer=out if fits else None,
            )
        except ValueError as exc:
            if "premature end" in str(exc).lower():
                raise CodecError("the JPEG data end early") from exc
            return False
        if not fits:
            self._fill(pixels, box, view, frame.orientation, reduced)
        return True

    def _decode_with_pillow(
        self, data: bytes | memoryview, form: str, out: np.ndarray[Any, Any], orientation: int | None = None
    ) -> None:
        if form == "png":
            frame = parse_png(data)
            check_size(frame.width, frame.height)
            orientation = frame.orientation
        pixels, found = decode_with_pillow(data, form, PILLOW_MODES[self.color_mode])
        orientation = orientation or found
        box, view = self._place(pixels.shape[:2], orientation, out)
        self._fill(pixels, box, view, orientation, 1)

    def _place(
        self, stored: tuple[int, ...], orientation: int, out: np.ndarray[Any, Any]
    ) -> tuple[Box, np.ndarray[Any, Any]]:
        """The part of the stored picture to use, and the part of the array it goes to; the rest is filled up."""
        height, width = stored
        whole = Box(0, 0, height, width)
        if self.pad_to_aspect_ratio:
            rows, columns = centred(shown_size(stored, orientation), self.image_size)
            out[...] = 0
            return whole, out[rows, columns]
        if self.crop_to_aspect_ratio:
            box = centre_crop(shown_size(stored, orientation), self.image_size)
            return stored_box(box, (height, width), orientation), out
        return whole, out

    def _jpeg_reduction(self, box: Box, target: tuple[int, int]) -> int:
        if self.antialias:
            for factor in _JPEG_REDUCTIONS:
                least = factor * _MIN_SCALE
                if box.height >= least * target[0] and box.width >= least * target[1]:
                    return factor
        return 1

    def _fill(
        self, pixels: np.ndarray[Any, Any], box: Box, view: np.ndarray[Any, Any], orientation: int, reduced: int
    ) -> None:
        """Resize first and turn the small result: turning moves far fewer bytes then."""
        if orientation == 1:
            resize_into(pixels, box, view, antialias=self.antialias, reduced=reduced)
            return
        turned = np.empty((*shown_size(view.shape[:2], orientation), view.shape[2]), np.uint8)
        resize_into(pixels, box, turned, antialias=self.antialias, reduced=reduced)
        view[...] = shown(turned, orientation)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1

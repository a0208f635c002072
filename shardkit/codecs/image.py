"""Pictures to arrays of one size.

What becomes of each kind of picture is in ``docs/reference/pictures.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import simplejpeg

from shardkit.codecs.arrays import lay_into
from shardkit.codecs.colors import CHANNELS, PILLOW_MODES, ColorMode
from shardkit.codecs.costs import check_jpeg, pixel_cost
from shardkit.codecs.geometry import Box, centre_crop, centred, shown, shown_size, stored_box
from shardkit.codecs.header import sniff
from shardkit.codecs.jpeg import JpegFrame, check_frame, parse_jpeg
from shardkit.codecs.limits import DEFAULT_LIMITS, ImageLimits
from shardkit.codecs.pixels import decode_with_pillow
from shardkit.codecs.plain_png import decode_plain_png
from shardkit.codecs.png import parse_png
from shardkit.codecs.resize import resize_into
from shardkit.codecs.scratch import Scratch
from shardkit.errors import CodecError, ConfigError
from shardkit.sample import ArraySpec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ColorMode", "DataFormat", "Dtype", "ImageDecoder"]

DataFormat = Literal["channels_last", "channels_first"]
Dtype = Literal["uint8", "float32", "float16"]

Pixels = np.ndarray[Any, Any]

_JPEG_COLORS = {"rgb": "RGB", "grayscale": "GRAY", "rgba": "RGBA"}
_JPEG_REDUCTIONS = (8, 4, 2)  # the ones libjpeg-turbo does at full speed
_MIN_SCALE = 2  # what JPEG reduction leaves to the antialiased resize


@dataclass(frozen=True, kw_only=True)
class ImageDecoder:
    """Decodes pictures of any kind and size to arrays of one size. Safe to use from several threads at once.

    Attributes:
        image_size: Height and width of the array.
        color_mode: ``rgb``, ``grayscale`` or ``rgba``: 3, 1 or 4 channels.
        crop_to_aspect_ratio: Use the largest part in the middle that has the array's aspect ratio.
        pad_to_aspect_ratio: Keep the picture's aspect ratio and fill up with zeros around it.
        antialias: Average when shrinking, as Pillow does; otherwise sample, as Keras does.
        dtype: ``uint8``, or ``float32`` or ``float16`` for the same values, 0 to 255.
        data_format: ``channels_last`` for (H, W, C), ``channels_first`` for (C, H, W).
        stored: Height, width and channels of pictures that are kept as the bytes of such an array; ``None`` for
            pictures that are encoded.
        limits: What one image may take; one that takes more is a `CodecError`.

    Raises:
        ConfigError: A value is not possible.
    """

    image_size: tuple[int, int]
    color_mode: ColorMode = "rgb"
    crop_to_aspect_ratio: bool = False
    pad_to_aspect_ratio: bool = False
    antialias: bool = True
    dtype: Dtype = "uint8"
    data_format: DataFormat = "channels_last"
    stored: tuple[int, int, int] | None = None
    limits: ImageLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        size: object = self.image_size
        if not (isinstance(size, tuple) and len(size) == 2 and all(map(_is_count, size))):
            raise ConfigError(
                "image_size must be (height, width), each a whole number from 1", setting="image_size", value=size
            )
        for name, known in (("color_mode", ColorMode), ("dtype", Dtype), ("data_format", DataFormat)):
            value = getattr(self, name)
            if value not in get_args(known):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(known))}", setting=name, value=value)
        if self.stored is not None and self.stored[2] != self.channels:
            raise ConfigError(
                f"the pictures are kept with {self.stored[2]} values per pixel, and color_mode has {self.channels}",
                setting="color_mode",
                value=self.color_mode,
                advice="Leave color_mode out, or pack them again",
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
    def shape(self) -> tuple[int, int, int]:
        """The shape of the arrays that come out: (H, W, C), or (C, H, W)."""
        height, width = self.image_size
        first = self.data_format == "channels_first"
        return (self.channels, height, width) if first else (height, width, self.channels)

    @property
    def copies(self) -> bool:
        """Whether pictures are kept just as they come out, so that decoding is copying."""
        return self.stored == self.shape and self.dtype == "uint8" and self.data_format == "channels_last"

    @property
    def spec(self) -> ArraySpec:
        """The arrays that come out."""
        return ArraySpec(self.shape, self.dtype)

    def decode(self, data: bytes | memoryview) -> Pixels:
        """Decode one picture.

        Args:
            data: The file's bytes.

        Returns:
            An array of `spec`.

        Raises:
            CodecError: The bytes do not decode to a picture.
        """
        out = np.empty(self.shape, self.dtype)
        self.decode_into(data, out)
        return out

    def decode_into(
        self,
        data: bytes | memoryview,
        out: Pixels,
        choose_box: Callable[[int, int], Box] | None = None,
        change: Callable[[Pixels], Pixels] | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        """Decode one picture into an array.

        Args:
            data: The file's bytes.
            out: An array of `spec`, C-contiguous, such as one row of a batch. Of undefined content after an error.
            choose_box: Given the height and width of the picture the right way up, says which part of it to use,
                instead of `crop_to_aspect_ratio` and `pad_to_aspect_ratio`. May be called more than once.
            change: Given the decoded ``(H, W, C)`` uint8 array, which is ``out`` itself where that is such an array,
                gives an array of that shape to use instead: the same one, changed, or another one.
            scratch: The calling thread's memory to work in.

        Raises:
            CodecError: The bytes do not decode to a picture.
            ValueError: ``out`` is not such an array.
        """
        if out.shape != self.shape or out.dtype != self.dtype or not out.flags.c_contiguous:
            raise ValueError(f"out must be a contiguous array of {self.spec}")
        direct = self.dtype == "uint8" and self.data_format == "channels_last"
        pixels = out if direct else np.empty((*self.image_size, self.channels), np.uint8)
        scratch = scratch or Scratch()
        scratch.restart()
        try:
            self._decode(data, pixels, choose_box or self._usual_box, scratch)
        except MemoryError as exc:
            raise CodecError("there is not enough memory to decode the picture") from exc
        changed = pixels if change is None else change(pixels)
        if changed is not out:
            lay_into(changed, out, channels_first=self.data_format == "channels_first")

    def _decode(
        self, data: bytes | memoryview, out: Pixels, choose_box: Callable[[int, int], Box], scratch: Scratch
    ) -> None:
        if self.stored is not None:
            kept = np.frombuffer(data, dtype=np.uint8).reshape(self.stored)
            box, view = self._place(self.stored[:2], 1, out, choose_box)
            self._fill(kept, box, view, scratch)
            return
        form = sniff(data)
        if form is None:
            raise CodecError("not a picture of a known format")
        if form != "jpeg":
            self._decode_other(data, form, out, choose_box, scratch)
            return
        frame = parse_jpeg(data)
        check_frame(frame)
        check_jpeg(data, frame, self.limits)
        # CMYK is Pillow's, too.
        if frame.components == 4 or not self._decode_jpeg(data, frame, out, choose_box, scratch):
            self._decode_other(data, form, out, choose_box, scratch, frame.orientation)

    def _decode_jpeg(
        self,
        data: bytes | memoryview,
        frame: JpegFrame,
        out: Pixels,
        choose_box: Callable[[int, int], Box],
        scratch: Scratch,
    ) -> bool:
        """Decode by libjpeg-turbo; False where it objects to something that Pillow may let pass."""
        stored = (frame.height, frame.width)
        box, view = self._place(stored, frame.orientation, out, choose_box)
        reduced = self._jpeg_reduction(box, shown_size(view.shape[:2], frame.orientation))
        fits = frame.orientation == 1 and stored == self.image_size and box == (0, 0, *stored)
        try:
            pixels = simplejpeg.decode_jpeg(
                data,
                _JPEG_COLORS[self.color_mode],
                min_height=-(-frame.height // reduced),
                min_width=-(-frame.width // reduced),
                min_factor=reduced,
                buffer=out if fits else scratch.take(self._decoded_shape(frame, reduced)),
            )
        except MemoryError:
            raise
        except Exception as exc:  # whatever it is, Pillow's word counts
            if "premature end" in str(exc).lower():
                raise CodecError("the JPEG data end early") from exc
            return False
        if not fits:
            self._fill(pixels, box, view, scratch, frame.orientation, reduced)
        return True

    def _decoded_shape(self, frame: JpegFrame, reduced: int) -> tuple[int, int, int]:
        return -(-frame.height // reduced), -(-frame.width // reduced), self.channels

    def _decode_other(
        self,
        data: bytes | memoryview,
        form: str,
        out: Pixels,
        choose_box: Callable[[int, int], Box],
        scratch: Scratch,
        orientation: int | None = None,
    ) -> None:
        pixels, orientation = self._decode_whole(data, form, orientation)
        box, view = self._place((pixels.shape[0], pixels.shape[1]), orientation, out, choose_box)
        self._fill(pixels, box, view, scratch, orientation)

    def _decode_whole(self, data: bytes | memoryview, form: str, orientation: int | None) -> tuple[Pixels, int]:
        """A picture's pixels, all of them, and its orientation."""
        if form == "png":
            frame = parse_png(data)
            self.limits.check_size(frame.width, frame.height)
            self.limits.check(pixel_cost(frame.width * frame.height, form, len(data)))
            orientation = frame.orientation
            plain = decode_plain_png(data, frame, self.color_mode)
            if plain is not None:
                return plain, orientation
        pixels, found = decode_with_pillow(data, form, PILLOW_MODES[self.color_mode], self.limits)
        return pixels, orientation or found

    def _place(
        self, stored: tuple[int, int], orientation: int, out: Pixels, choose_box: Callable[[int, int], Box]
    ) -> tuple[Box, Pixels]:
        """The part of the stored picture to use, and the part of the array it goes to; the rest is filled up."""
        size = shown_size(stored, orientation)
        if choose_box == self._usual_box and self.pad_to_aspect_ratio:
            rows, columns = centred(size, self.image_size)
            out[...] = 0
            out = out[rows, columns]
        return stored_box(choose_box(*size), stored, orientation), out

    def _usual_box(self, height: int, width: int) -> Box:
        if self.crop_to_aspect_ratio:
            return centre_crop((height, width), self.image_size)
        return Box(0, 0, height, width)

    def _jpeg_reduction(self, box: Box, target: tuple[int, int]) -> int:
        if self.antialias:
            for factor in _JPEG_REDUCTIONS:
                least = factor * _MIN_SCALE
                if box.height >= least * target[0] and box.width >= least * target[1]:
                    return factor
        return 1

    def _fill(
        self, pixels: Pixels, box: Box, view: Pixels, scratch: Scratch, orientation: int = 1, reduced: int = 1
    ) -> None:
        """Resize first and turn the small result: turning moves far fewer bytes then."""
        if orientation == 1:
            resize_into(pixels, box, view, antialias=self.antialias, reduced=reduced, scratch=scratch)
            return
        turned = scratch.take((*shown_size(view.shape[:2], orientation), view.shape[2]))
        resize_into(pixels, box, turned, antialias=self.antialias, reduced=reduced, scratch=scratch)
        view[...] = shown(turned, orientation)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1

"""What a picture says about itself, told by its content: format, size, mode, which way up, and whether it is whole.

Nothing is decoded. Runs once for each picture that is packed, so JPEG and PNG are read by hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from shardkit.codecs.costs import check_jpeg, image_cost, pixel_cost
from shardkit.codecs.jpeg import check_frame, has_end, parse_jpeg
from shardkit.codecs.limits import DEFAULT_LIMITS, MAX_PIXELS
from shardkit.codecs.png import parse_png
from shardkit.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shardkit.codecs.limits import ImageLimits

__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "PICTURE_SUFFIXES",
    "ImageHeader",
    "orientation_of",
    "read_header",
    "sniff",
]

EXTENSIONS: Mapping[str, str] = MappingProxyType(
    {
        "jpeg": "jpg",
        "png": "png",
        "gif": "gif",
        "webp": "webp",
        "bmp": "bmp",
        "tiff": "tif",
        "ppm": "ppm",
        "pgm": "pgm",
        "pbm": "pbm",
        "jp2": "jp2",
        "j2k": "j2k",
        "avif": "avif",
    }
)
"""The formats that are read, and the extension that a picture of each gets in a shard."""

PICTURE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".jpx", ".j2k", ".j2c", ".jpc", ".avif"),
    }
)
"""File-name suffixes, in lower case, that promise a picture."""

_SNIFF_BYTES = 64
_MAGIC = re.compile(
    rb"(?P<jpeg>\xff\xd8\xff)"
    rb"|(?P<png>\x89PNG\r\n\x1a\n)"
    rb"|(?P<gif>GIF8[79]a)"
    rb"|(?P<webp>RIFF.{4}WEBP)"
    rb"|(?P<tiff>II[*+]\0|MM\0[*+])"
    rb"|(?P<pbm>P[14][\s#])|(?P<pgm>P[25][\s#])|(?P<ppm>P[36][\s#])"
    rb"|(?P<jp2>\0\0\0\x0cjP  \r\n\x87\n)"
    rb"|(?P<j2k>\xff\x4f\xff\x51)"
    rb"|(?P<avif>.{4}ftyp(?:.{4})*?avi[fs])"
    rb"|(?P<bmp>BM)",
    re.DOTALL,
)
_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a picture says about itself.

    Attributes:
        format: A key of `EXTENSIONS`.
        width: Pixels across, as displayed: after the orientation is applied.
        height: Pixels down, as displayed.
        mode: The kind of pixels, by Pillow's names: ``RGB``, ``L``, ``P``, ``RGBA``, ``CMYK``, ``I;16``, ``1`` ...
        orientation: EXIF's, 1 (upright) to 8; what the file says, already allowed for in the size.
    """

    format: str
    width: int
    height: int
    mode: str
    orientation: int


def sniff(data: bytes | memoryview) -> str | None:
    """The format of a picture by its first bytes.

    Args:
        data: The file or its first 64 bytes.

    Returns:
        A key of `EXTENSIONS`, or ``None`` when it is none of them.
    """
    found = _MAGIC.match(data[:_SNIFF_BYTES])
    return found.lastgroup if found else None


def read_header(data: bytes | memoryview, limits: ImageLimits = DEFAULT_LIMITS) -> ImageHeader:
    """Read a picture's header and see that its end is there, and that decoding it does not take too much.

    Args:
        data: The whole file.
        limits: What one image may take.

    Returns:
        What it says.

    Raises:
        CodecError: It is no picture, of a format that is not read, damaged, cut, empty or over a limit.
    """
    try:
        return _read(data, limits)
    except MemoryError as exc:
        raise CodecError("there is not enough memory to look at the picture") from exc


def _read(data: bytes | memoryview, limits: ImageLimits) -> ImageHeader:
    form = sniff(data)
    if form is None:
        raise CodecError(_not_a_picture(data), advice=f"Known are {', '.join(EXTENSIONS)}")
    if form == "jpeg":
        frame = parse_jpeg(data)
        check_frame(frame)
        check_jpeg(data, frame, limits)
        mode = _JPEG_MODES[frame.components]
        header = _header(form, frame.width, frame.height, mode, frame.orientation)
        if not has_end(data, frame):
            raise CodecError("the JPEG data end early: there is no end marker")
        return header
    if form == "png":
        png = parse_png(data)
        limits.check_size(png.width, png.height)
        limits.check(pixel_cost(png.width * png.height, form, len(data)))
        return _header(form, png.width, png.height, png.mode, png.orientation)
    return _read_with_pillow(data, form, limits)


def orientation_of(data: bytes | memoryview) -> int:
    """Which way up a picture is.

    Args:
        data: The whole file.

    Returns:
        EXIF's orientation, 1 to 8; 1 where nothing is said.

    Raises:
        CodecError: It is no picture or damaged.
    """
    if data[:3] == b"\xff\xd8\xff":
        return parse_jpeg(data).orientation
    return read_header(data).orientation


def _header(form: str, width: int, height: int, mode: str, orientation: int) -> ImageHeader:
    if orientation >= 5:  # these four lie on a side
        width, height = height, width
    return ImageHeader(form, width, height, mode, orientation)


def _read_with_pillow(data: bytes | memoryview, form: str, limits: ImageLimits) -> ImageHeader:
    from shardkit.codecs.ends import is_whole
    from shardkit.codecs.pillow import open_picture, orientation_in, reported, stored_size

    with open_picture(data, form) as image, reported(form):
        limits.check_size(*image.size)
        limits.check(image_cost(data, form, image))
        orientation = orientation_in(image, form)
        header = _header(form, *stored_size(image, form), image.mode, orientation)
        if not is_whole(data, form, image):
            raise CodecError(f"the {form} data end early")
        return header


def _not_a_picture(data: bytes | memoryview) -> str:
    if not len(data):
        return "the file is empty"
    return f"not a picture: the data start with {bytes(data[:16])!r}"

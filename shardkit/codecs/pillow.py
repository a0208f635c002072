"""Pictures that Pillow opens: everything but the common JPEG.

Two things are taken care of here and nowhere else. Pillow's plug-ins raise whatever the damage leads to, so every
exception becomes a `CodecError`. And they warn about damaged metadata, which is no news to someone who trains on
the picture; those warnings are kept quiet without touching anyone else's.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from shardkit.codecs.exif import exif_orientation, xmp_orientation
from shardkit.codecs.gif import without_disposal
from shardkit.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["is_transparent", "open_picture", "orientation_in", "reported", "stored_size"]

_PLUGINS = {
    "jpeg": "JPEG",
    "png": "PNG",
    "gif": "GIF",
    "webp": "WEBP",
    "bmp": "BMP",
    "tiff": "TIFF",
    "jp2": "JPEG2000",
    "j2k": "JPEG2000",
    "avif": "AVIF",
    **dict.fromkeys(("ppm", "pgm", "pbm"), "PPM"),
}
# Held for short moments only; no fork may come in one of them.
_quiet_lock = threading.Lock()
os.register_at_fork(before=_quiet_lock.acquire, after_in_parent=_quiet_lock.release, after_in_child=_quiet_lock.release)


def open_picture(data: bytes | memoryview, form: str) -> ImageFile.ImageFile:
    """Open a picture without decoding it.

    Args:
        data: The file.
        form: Its format, as `shardkit.codecs.header.sniff` names it.

    Returns:
        The first picture in it. Decoding it gives no warning.

    Raises:
        CodecError: It is damaged or not of that format.
    """
    data = without_disposal(data) if form == "gif" else data
    with reported(form), _quiet():
        image = Image.open(io.BytesIO(data), formats=[_PLUGINS[form]])
        if form == "tiff":
            _read_directories(image)
        return image


def is_transparent(data: bytes | memoryview, form: str) -> bool:
    """Whether a picture says that some of its pixels may be transparent; nothing is decoded.

    Args:
        data: The file.
        form: Its format, as `shardkit.codecs.header.sniff` names it.

    Returns:
        True where it has an alpha channel, a palette with alpha, or a transparent colour.

    Raises:
        CodecError: It is damaged or not of that format.
    """
    with open_picture(data, form) as image:
        return image.has_transparency_data


def orientation_in(image: Image.Image, form: str) -> int:
    """The orientation that an open picture's metadata give.

    Args:
        image: The picture, not decoded yet.
        form: Its format.

    Returns:
        EXIF's 1 to 8; 1 where nothing is said.
    """
    if form == "tiff":
        value = image.tag_v2.get(ExifTags.Base.Orientation)  # type: ignore[attr-defined]
        return value if isinstance(value, int) and 1 <= value <= 8 else 1
    exif, xmp = image.info.get("exif"), image.info.get("xmp")
    found = exif_orientation(exif) if isinstance(exif, bytes) else None
    if found is None and isinstance(xmp, bytes):
        found = xmp_orientation(xmp)
    return found or 1


def stored_size(image: Image.Image, form: str) -> tuple[int, int]:
    """A picture's size before its orientation is applied.

    Args:
        image: The picture, not decoded yet.
        form: Its format.

    Returns:
        Width and height in pixels.
    """
    if form == "tiff":  # Pillow applies a TIFF's orientation itself, to the size at once in some versions
        tags = image.tag_v2  # type: ignore[attr-defined]
        return tags[256], tags[257]
    return image.size


@contextmanager
def reported(form: str) -> Iterator[None]:
    """Turn whatever Pillow raises into a `CodecError`.

    Args:
        form: The picture's format, for the message.

    Yields:
        Nothing.

    Raises:
        CodecError: Something was raised within.
    """
    try:
        yield
    except CodecError:
        raise
    except MemoryError as exc:
        raise CodecError(f"there is not enough memory to decode the {form} picture") from exc
    except Image.DecompressionBombError as exc:
        raise CodecError(f"the {form} picture has too many pixels: {exc}") from exc
    except UnidentifiedImageError as exc:
        raise CodecError(f"the {form} picture's header is damaged, or of a kind Pillow does not know") from exc
    except Exception as exc:  # a plug-in raises whatever the damage leads to; there is no list
        raise CodecError(f"the {form} picture does not decode: {exc}") from exc


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's own warnings back.

    Python's filters belong to the whole process, so only what is short and holds the interpreter's lock anyway
    runs in here, one thread at a time, and the filter names Pillow alone.
    """
    with _quiet_lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _read_directories(image: ImageFile.ImageFile) -> None:
    """Have Pillow read now, where it is quiet, what it would read and warn about while decoding."""
    exif = image.getexif()
    for group in ExifTags.IFD:
        if group in exif:
            exif.get_ifd(group)

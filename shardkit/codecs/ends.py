"""Whether a picture's data are all there, told without decoding it. JPEG and PNG have their own modules."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["is_whole"]

_TAIL_BYTES = 4096
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 273, 279, 324, 325  # TIFF tags: where the pixels lie


def is_whole(data: bytes | memoryview, form: str, image: Any) -> bool:
    """Whether nothing is missing at the end.

    Args:
        data: The file.
        form: Its format.
        image: The picture as Pillow opened it, not decoded yet.

    Returns:
        False when the data certainly end early.
    """
    check = _CHECKS.get(form)
    return check is None or check(data, image)


def _gif(data: bytes | memoryview, _: Any) -> bool:
    return _tail(data).endswith(b";")


def _codestream(data: bytes | memoryview, _: Any) -> bool:
    return _tail(data).endswith(b"\xff\xd9")


def _webp(data: bytes | memoryview, _: Any) -> bool:
    return int.from_bytes(data[4:8], "little") + 8 <= len(data)


def _boxes(data: bytes | memoryview, _: Any) -> bool:
    """AVIF and JPEG 2000 files are a row of boxes, each with its length; a length of 0 runs to the end."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if length == 0:
            return _codestream(data, None) if data[at + 4 : at + 8] == b"jp2c" else True
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        at += max(length, 8)
    return at <= len(data)


def _tiff(data: bytes | memoryview, image: Any) -> bool:
    tags = image.tag_v2
    starts: Iterable[int] = tags.get(_STRIPS) or tags.get(_TILES) or ()
    sizes: Iterable[int] = tags.get(_STRIP_BYTES) or tags.get(_TILE_BYTES) or ()
    return all(start + size <= len(data) for start, size in zip(starts, sizes, strict=False))


def _bmp(data: bytes | memoryview, image: Any) -> bool:
    for tile in image.tile:
        if tile.codec_name == "raw":
            _, stride, _ = tile.args
            return bool(tile.offset + stride * image.height <= len(data))
    return bool(struct.unpack_from("<I", data, 2)[0] <= len(data))


def _pnm(data: bytes | memoryview, image: Any) -> bool:
    for tile in image.tile:
        if tile.codec_name == "raw":
            bits = {"1": 1, "L": 8, "RGB": 24}.get(image.mode, 0)
            return bool(tile.offset + (image.width * bits + 7) // 8 * image.height <= len(data))
    return True


def _tail(data: bytes | memoryview) -> bytes:
    """The end of the file without the zeros that some cameras and disks pad with."""
    return bytes(data[-_TAIL_BYTES:]).rstrip(b"\0")


_CHECKS: dict[str, Callable[[bytes | memoryview, Any], bool]] = {
    "gif": _gif,
    "webp": _webp,
    "bmp": _bmp,
    "tiff": _tiff,
    "jp2": _boxes,
    "j2k": _codestream,
    "avif": _boxes,
    **dict.fromkeys(("ppm", "pgm", "pbm"), _pnm),
}

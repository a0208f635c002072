"""What decoding takes, estimated from a header: the memory and the seconds of each format.

The figures were measured on images of 25 million pixels, flat, photographic and noise, on one core of 2026, and rounded
up. Memory counts what is held at the worst moment, besides the file: the decoder's own planes, Pillow's image, and the
array of 4 bytes a pixel at most that comes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from shardkit.codecs.jpeg import count_scans, most_scans
from shardkit.codecs.jpeg2000 import read_codestream
from shardkit.codecs.limits import Cost

if TYPE_CHECKING:
    from shardkit.codecs.jpeg import JpegFrame
    from shardkit.codecs.jpeg2000 import Codestream
    from shardkit.codecs.limits import ImageLimits

__all__ = ["check_jpeg", "image_cost", "pixel_cost"]

_OUT_BYTES = 4  # a pixel of the array that comes out, with alpha
_PILLOW_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # of a pixel; 4 of all other modes
_COEFFICIENT_BYTES = 2
_NS = 1e-9
_TILE_WIDTH, _TILE_HEIGHT, _BITS, _COMPRESSION, _CHANNELS, _ROWS_PER_STRIP = 322, 323, 258, 259, 277, 278  # TIFF tags
_RLE = "bmp_rle"


class _Rate(NamedTuple):
    """What a format takes: bytes of memory per pixel besides Pillow's image, and nanoseconds."""

    memory: int
    per_pixel: float
    per_byte: float


_RATES = {
    "png": _Rate(_OUT_BYTES, 30, 8),
    "gif": _Rate(_OUT_BYTES, 25, 10),
    "webp": _Rate(14, 35, 75),
    "bmp": _Rate(_OUT_BYTES, 15, 0),
    _RLE: _Rate(_OUT_BYTES, 120, 300),
    "tiff": _Rate(_OUT_BYTES, 25, 15),
    "avif": _Rate(14, 30, 150),
    "jpeg": _Rate(_OUT_BYTES, 20, 20),
    **dict.fromkeys(("ppm", "pgm", "pbm"), _Rate(_OUT_BYTES, 15, 0)),
}
_SCAN_NS = 0.25  # of each sample, in each scan
_SLOW_BYTE_NS = 300
_LZMA, _LZMA_BYTE_NS = 34925, 70
_STRIP_NS = 10_000  # of each strip or tile that Pillow decodes on its own, however small

_BLOCK_BYTES, _PRECINCT_BYTES, _TILE_BYTES, _TILE_COMPONENT_BYTES = 420, 200, 6000, 2200  # OpenJPEG's structures
_JPEG2000_SAMPLE_NS, _JPEG2000_BYTE_NS, _BLOCK_NS, _TILE_NS = 25, 190, 600, 15_000


def check_jpeg(data: bytes | memoryview, frame: JpegFrame, limits: ImageLimits) -> None:
    """Refuse a JPEG that takes too much.

    Args:
        data: The file.
        frame: Its header.
        limits: What one image may take.

    Raises:
        CodecError: It is empty or over a limit.
    """
    pixels = frame.width * frame.height
    if frame.one_scan and pixels > 0 and pixels + len(data) <= limits.easy:
        return
    limits.check_size(frame.width, frame.height)
    limits.check_either(
        _jpeg_cost(data, frame, most_scans(data, frame)),
        lambda: _jpeg_cost(data, frame, count_scans(data, frame, limits.scans)),
    )


def pixel_cost(pixels: int, form: str, num_bytes: int, pillow_bytes: int = 4) -> Cost:
    """What an image takes of a format in which pixels and bytes say all.

    Args:
        pixels: How many it has.
        form: Its format.
        num_bytes: The file's length.
        pillow_bytes: What Pillow keeps of a pixel.

    Returns:
        The cost.
    """
    rate = _RATES[form]
    seconds = (pixels * rate.per_pixel + num_bytes * rate.per_byte) * _NS
    return Cost(pixels * (rate.memory + pillow_bytes), seconds)


def image_cost(data: bytes | memoryview, form: str, image: Any) -> Cost:
    """What an image takes that Pillow has opened.

    Args:
        data: The file.
        form: Its format.
        image: The image, not decoded yet.

    Returns:
        The cost.

    Raises:
        CodecError: It is a JPEG 2000 file whose parts contradict each other.
    """
    width, height = image.size
    if form in ("jp2", "j2k"):
        return _jpeg2000_cost(read_codestream(data, form, image.size), len(data))
    if form == "tiff":
        return _tiff_cost(image, len(data))
    if form == "bmp" and any(tile.codec_name == _RLE for tile in image.tile):
        form = _RLE
    cost = pixel_cost(width * height, form, len(data), _PILLOW_BYTES.get(image.mode, 4))
    # What Python reads bit by bit: numbers in words, and the comments of a GIF.
    slow = len(data) if any(tile.codec_name == "ppm_plain" for tile in image.tile) else 0
    if form == "gif" and image.tile:
        slow = image.tile[0].offset
    return cost._replace(seconds=cost.seconds + slow * _SLOW_BYTE_NS * _NS)


def _jpeg_cost(data: bytes | memoryview, frame: JpegFrame, scans: int) -> Cost:
    pixels = frame.width * frame.height
    held = 0
    per_pixel, per_byte = 2.0 * frame.components, 15
    if not frame.one_scan:
        # The coefficients of the whole image are kept, and each scan goes over them.
        share = _sample_share(data, frame)
        held = int(pixels * share * _COEFFICIENT_BYTES)
        per_pixel, per_byte = 3.0 * frame.components + _SCAN_NS * share * scans, 35
    if frame.arithmetic:
        per_pixel, per_byte = per_pixel + 2 * frame.components + 3 * scans, 100
    if frame.components == 4:  # by Pillow, which converts it afterwards
        memory = 4 * pixels + max(held, _OUT_BYTES * pixels)
        per_pixel += 10
    else:
        memory = _OUT_BYTES * pixels + held
    return Cost(memory, (pixels * per_pixel + len(data) * per_byte) * _NS, scans)


def _sample_share(data: bytes | memoryview, frame: JpegFrame) -> float:
    """Samples kept for a pixel: 3 of a colour image, 1.5 where the colours have half of the rows and columns."""
    factors = [data[frame.start + 11 + 3 * number] for number in range(frame.components)]
    across, down = max(factor >> 4 for factor in factors), max(factor & 15 for factor in factors)
    if not across or not down:
        return frame.components
    return sum((factor >> 4) * (factor & 15) for factor in factors) / (across * down)


def _tiff_cost(image: Any, num_bytes: int) -> Cost:
    tags = image.tag_v2
    width, height = image.size
    bits, channels = tags.get(_BITS, (1,)), tags.get(_CHANNELS, 1)
    sample_bytes = -(-max(bits if isinstance(bits, tuple) else (bits,)) // 8) * channels
    across, down = tags.get(_TILE_WIDTH, width), tags.get(_TILE_HEIGHT, min(tags.get(_ROWS_PER_STRIP, height), height))
    tile = across * down
    covered = -(-width // max(across, 1)) * -(-height // max(down, 1)) * tile
    cost = pixel_cost(max(width * height, covered), "tiff", num_bytes, 0)
    slow = len(image.tile) * _STRIP_NS + (num_bytes * _LZMA_BYTE_NS if tags.get(_COMPRESSION) == _LZMA else 0)
    cost = cost._replace(seconds=cost.seconds + slow * _NS)
    kept = width * height * _PILLOW_BYTES.get(image.mode, 4)
    return cost._replace(memory=kept + max(tile * max(sample_bytes, 4), width * height * _OUT_BYTES))


def _jpeg2000_cost(stream: Codestream, num_bytes: int) -> Cost:
    pixels = stream.width * stream.height
    samples = stream.tile_pixels * stream.components
    held = samples * (4 + stream.sample_bytes) + stream.blocks * _BLOCK_BYTES + stream.precincts * _PRECINCT_BYTES
    tiles = stream.tiles * (_TILE_BYTES + _TILE_COMPONENT_BYTES * stream.components)
    seconds = max(pixels, stream.tile_pixels) * stream.components * _JPEG2000_SAMPLE_NS + num_bytes * _JPEG2000_BYTE_NS
    seconds += stream.tiles * (_TILE_NS + stream.blocks * _BLOCK_NS)
    return Cost(4 * pixels + max(held + tiles, _OUT_BYTES * pixels), seconds * _NS)

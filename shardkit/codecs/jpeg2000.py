"""The header of a JPEG 2000 codestream, read by hand: what a decoder will allocate hides in it.

OpenJPEG makes a structure for each tile of the grid, and for each code-block and precinct of the tile it is at. A file
of 120 bytes can ask for gigabytes of them.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from shardkit.errors import CodecError

__all__ = ["Codestream", "read_codestream"]

_START = b"\xff\x4f\xff\x51"
_STYLE, _COMPONENT_STYLE, _TILE_PART, _TILE_DATA, _END = 0x52, 0x53, 0x90, 0x93, 0xD9
_MAX_COMPONENTS = 4
_MAX_LEVELS = 32
_MAX_STYLES = 256  # of all channels and tiles; real files have one
_WHOLE = 15  # the exponent of a precinct's size that stands for "all of it"
_size = struct.Struct(">IIIIIIIIH").unpack_from
_head = struct.Struct(">HH").unpack_from


class Codestream(NamedTuple):
    """What a codestream's headers say.

    Attributes:
        width: Pixels across.
        height: Pixels down.
        components: Channels.
        sample_bytes: Bytes of a value once decoded.
        tiles: Tiles of the grid.
        tile_pixels: Pixels of the largest of them.
        blocks: Code-blocks of such a tile, over all channels, at most.
        precincts: Precincts of such a tile, over all channels, at most.
    """

    width: int
    height: int
    components: int
    sample_bytes: int
    tiles: int
    tile_pixels: int
    blocks: int
    precincts: int


class _Style(NamedTuple):
    """How a channel is cut up: levels, exponents of the code-blocks' sides, and those of each level's precincts."""

    levels: int
    across: int
    down: int
    precincts: bytes


def read_codestream(data: bytes | memoryview, form: str, shown: tuple[int, int]) -> Codestream:
    """Read the headers of a codestream, those of its tiles included.

    Args:
        data: The file.
        form: ``jp2`` for one in boxes, ``j2k`` for a bare one.
        shown: The width and height that the file says outside of it.

    Returns:
        What they say.

    Raises:
        CodecError: They are damaged, contradict the size outside, or say what no decoder here reads.
    """
    try:
        at = 0 if form == "j2k" else _codestream_box(data)
        if data[at : at + 4] != _START:
            raise CodecError("the JPEG 2000 codestream is missing")
        right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = _size(data, at + 8)
        if (right - left, bottom - top) != shown:
            raise CodecError("the JPEG 2000 header and its codestream differ in size")
        if not 1 <= components <= _MAX_COMPONENTS:
            raise CodecError(f"the JPEG 2000 codestream has {components} channels; only 1 to 4 can be decoded")
        if not tile_width or not tile_height or tile_left > left or tile_top > top:
            raise CodecError("the JPEG 2000 codestream has an impossible grid of tiles")
        bits = max((data[at + 42 + 3 * number] & 0x7F) + 1 for number in range(components))
        styles = _styles(data, at + 4)
    except (IndexError, struct.error) as exc:
        raise CodecError("the JPEG 2000 data end within a header") from exc
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    across, down = min(tile_width, right - left), min(tile_height, bottom - top)
    cut = [_cut(across, down, style) for style in styles]
    blocks, precincts = (components * max(counts) for counts in zip(*cut, strict=True))
    sample_bytes = 1 if bits <= 8 else 2 if bits <= 16 else 4
    return Codestream(right - left, bottom - top, components, sample_bytes, tiles, across * down, blocks, precincts)


def _codestream_box(data: bytes | memoryview) -> int:
    """Where the box with the codestream has its content."""
    at = 0
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        if kind == b"jp2c":
            return start
        if length == 0:
            raise IndexError
        at += max(length, 8)


def _styles(data: bytes | memoryview, at: int) -> set[_Style]:
    """Every way in which some channel of some tile is cut up, from the headers of the image and its tiles."""
    found: set[_Style] = set()
    end = len(data)
    (length,) = struct.unpack_from(">H", data, at)
    at += length
    components = struct.unpack_from(">H", data, at - length + 36)[0]
    part_end = end
    while at + 4 <= end:
        marker, length = _head(data, at)
        if marker == 0xFF00 | _TILE_PART:
            (size,) = struct.unpack_from(">I", data, at + 6)
            part_end = at + size if size else end
        elif marker == 0xFF00 | _TILE_DATA:
            if part_end < at + 2:
                raise CodecError("a part of the JPEG 2000 codestream ends before it begins")
            at = part_end
            continue
        elif marker == 0xFF00 | _STYLE:
            levels, across, down, _, _ = data[at + 9 : at + 14]
            found.add(_style(levels, across, down, data[at + 14 : at + 2 + length] if data[at + 4] & 1 else b""))
        elif marker == 0xFF00 | _COMPONENT_STYLE:
            first = at + 4 + (1 if components < 257 else 2)
            levels, across, down, _, _ = data[first + 1 : first + 6]
            found.add(_style(levels, across, down, data[first + 6 : at + 2 + length] if data[first] & 1 else b""))
        elif marker == 0xFF00 | _END or marker < 0xFF00:
            break
        if len(found) > _MAX_STYLES:
            raise CodecError("the JPEG 2000 codestream is coded in too many ways")
        at += 2 + max(length, 2)
    if not found:
        raise CodecError("the JPEG 2000 codestream says nothing about its coding")
    return found


def _style(levels: int, across: int, down: int, precincts: bytes | memoryview) -> _Style:
    if levels > _MAX_LEVELS:
        raise CodecError("the JPEG 2000 codestream has an impossible number of levels")
    return _Style(levels, (across & 15) + 2, (down & 15) + 2, bytes(precincts))


def _cut(width: int, height: int, style: _Style) -> tuple[int, int]:
    """Code-blocks and precincts of one channel of a tile, at most."""
    blocks = precincts = 0
    for level in range(style.levels + 1):
        scale = style.levels - level
        across, down = max(-(-width // (1 << scale)), 1), max(-(-height // (1 << scale)), 1)
        size = style.precincts[level] if level < len(style.precincts) else _WHOLE << 4 | _WHOLE
        columns, rows = (across >> (size & 15)) + 2, (down >> (size >> 4)) + 2
        bands, half = (1, 0) if level == 0 else (3, 1)
        # A precinct holds whole code-blocks, so these are no larger than it.
        block_across, block_down = (
            min(style.across, max((size & 15) - half, 0)),
            min(style.down, max((size >> 4) - half, 0)),
        )
        precincts += bands * columns * rows
        blocks += bands * (((across >> half) >> block_across) + columns) * (((down >> half) >> block_down) + rows)
    return blocks, precincts

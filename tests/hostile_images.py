"""Small images that take much to decode, made byte by byte."""

import io
import struct
import zlib

from PIL import Image

__all__ = ["jp2", "jpeg2000", "many_scans", "png_chunk", "tiled_tiff"]


def many_scans(scans: int, side: int = 64, *, tail: bytes = b"") -> bytes:
    """A progressive JPEG with so many scans: its last one again and again.

    Args:
        scans: How many.
        side: The width and height that it claims.
        tail: What follows its end marker.
    """
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 60, 30)).save(file, "JPEG", progressive=True)
    data = bytearray(file.getvalue())
    frame = data.index(b"\xff\xc2")
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    starts = data.count(b"\xff\xda")
    last = bytes(data[data.rindex(b"\xff\xda") : -2])
    return bytes(data[:-2]) + last * (scans - starts) + b"\xff\xd9" + tail


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def jpeg2000(
    width: int, height: int, tile: tuple[int, int], *, components: int = 3, block: int = 4, precincts: bytes = b""
) -> bytes:
    """A codestream of black pixels.

    Args:
        width: Pixels across.
        height: Pixels down.
        tile: A tile's width and height.
        components: Channels.
        block: The exponent of a code-block's side, less 2: 0 for 4 pixels.
        precincts: The sizes of precincts, a byte a level.
    """
    size = struct.pack(">HIIIIIIIIH", 0, width, height, 0, 0, *tile, 0, 0, components) + b"\7\1\1" * components
    style = struct.pack(">BBHBBBBBB", bool(precincts), 0, 1, components >= 3, 5, block, block, 0, 1) + precincts
    steps = b"\x40" + b"\x48" * 16
    head = b"".join(
        marker + struct.pack(">H", len(body) + 2) + body
        for marker, body in ((b"\xff\x51", size), (b"\xff\x52", style), (b"\xff\x5c", steps))
    )
    packets = bytes(6 * components)
    part = b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 14 + len(packets), 0, 1) + b"\xff\x93" + packets
    return b"\xff\x4f" + head + part + b"\xff\xd9"


def jp2(width: int, height: int, codestream: bytes, between: bytes = b"") -> bytes:
    """A codestream of three channels in boxes, which say a size of their own."""

    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body) + 8) + kind + body

    header = box(b"ihdr", struct.pack(">IIHBBBB", height, width, 3, 7, 7, 0, 0)) + box(b"colr", b"\1\0\0\0\0\0\x10")
    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return start + box(b"jp2h", header) + between + box(b"jp2c", codestream)


def tiled_tiff(side: int, tile: int) -> bytes:
    """A gray TIFF, compressed by Deflate, of one tile that may be larger than the image."""
    data = zlib.compress(bytes(tile * tile) if tile < 1000 else bytes(64))
    start = 8 + len(data)
    tags = [
        (256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1),
        (322, 4, tile), (323, 4, tile), (324, 4, 8), (325, 4, len(data)),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", start) + data + struct.pack("<H", len(tags)) + directory + bytes(4)

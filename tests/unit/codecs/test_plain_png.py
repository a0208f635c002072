"""PNGs decoded by OpenCV: the pixels that Pillow gives, the same refusals, and nothing on standard error."""

import io
import struct
import zlib

import numpy as np
import pytest
from material import material_dir
from PIL import Image

from shardkit.codecs.image import ImageDecoder
from shardkit.codecs.pixels import decode_with_pillow
from shardkit.codecs.plain_png import decode_plain_png
from shardkit.codecs.png import parse_png
from shardkit.errors import CodecError

MODES = {"rgb": "RGB", "grayscale": "L", "rgba": "RGBA"}
FOLDERS = [("pillow",), ("libjpeg-turbo",), ("photos",), ("photos", "wallpapers"), ("labelled", "tuxpaint")]


def encoded(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def noise(channels, size=(31, 47)):
    values = np.random.default_rng(channels).integers(0, 256, (*size, channels), dtype=np.uint8)
    return values if channels > 1 else values[..., 0]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*data, header=(64, 64, 8, 2, 0, 0, 0)):
    """A PNG of one data chunk for each of some pieces of the compressed rows."""
    pieces = b"".join(chunk(b"IDAT", piece) for piece in data)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *header)) + pieces + chunk(b"IEND", b"")


def fast(data, color_mode="rgb"):
    return decode_plain_png(data, parse_png(data), color_mode)


@pytest.mark.parametrize("color_mode", MODES)
def test_every_png_of_the_material_gives_pillows_pixels(color_mode, capfd):
    num_fast = num_refused = 0
    for path in sorted(path for parts in FOLDERS for path in material_dir(*parts).rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        if not data.startswith(b"\x89PNG"):
            continue
        try:
            found = fast(data, color_mode)
        except CodecError:
            num_refused += 1
            continue
        if found is not None:
            expected, _ = decode_with_pillow(data, "png", MODES[color_mode])
            assert np.array_equal(found, expected), path.name
            num_fast += 1
        said = capfd.readouterr()
        # A test file of Pillow's with more compressed data than its picture needs; nothing but decoding would tell.
        assert said == ("", "libpng warning: IDAT: Extra compressed data\n" if path.name == "padded_idat.png" else "")
    assert num_fast > (1 if color_mode == "grayscale" else 40)
    assert num_refused > 2


@pytest.mark.parametrize("color_mode", MODES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gray_colour_and_alpha_take_the_fast_way_where_no_rounding_differs(channels, color_mode):
    data = encoded(noise(channels))
    found = fast(data, color_mode)
    if color_mode == "grayscale" and channels > 1:
        assert found is None
    else:
        assert np.array_equal(found, decode_with_pillow(data, "png", MODES[color_mode])[0])
        assert np.array_equal(found, fast(memoryview(data), color_mode))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 70_000)])
def test_all_sizes_are_right(size):
    pixels = noise(3, size)
    assert np.array_equal(fast(encoded(pixels)), pixels)


def test_what_else_is_in_the_file_is_not_shown_to_libpng(capfd):
    pixels = noise(3)
    bodies = {b"gAMA": b"\0\0\0\0", b"cHRM": b"broken", b"PLTE": b"\0\1\2" * 5, b"iCCP": b"no profile"}
    bodies |= {b"tEXt": b"comment", b"quXt": b"unknown", b"tRNS": struct.pack(">HHH", 1, 2, 3), b"CrIT": b"critical"}
    data = encoded(pixels)
    data = data[:33] + b"".join(chunk(*item) for item in bodies.items()) + data[33:]
    assert np.array_equal(fast(data), pixels)
    assert fast(data, "rgba") is None  # a transparent colour is Pillow's
    assert capfd.readouterr() == ("", "")


def test_other_kinds_are_left_to_pillow():
    pixels = noise(3)
    palette = io.BytesIO()
    Image.fromarray(pixels).quantize(20).save(palette, "PNG")
    animated = io.BytesIO()
    Image.fromarray(pixels).save(animated, "PNG", save_all=True, append_images=[Image.fromarray(pixels // 2)])
    for data in (
        palette.getvalue(),
        animated.getvalue(),
        encoded(noise(1).astype(np.uint16) * 257),
        encoded(noise(1) > 99),
        png(zlib.compress(bytes(64 * 193)), header=(64, 64, 8, 2, 0, 0, 1)),
    ):
        assert fast(data) is None


def damaged():
    pixels = noise(3, (64, 64))
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    packed = zlib.compress(rows)
    return {
        "cut": png(packed[:-4000]),
        "a byte missing": png(zlib.compress(rows[:-1])),
        "half the rows": png(zlib.compress(rows[: len(rows) // 2])),
        "nothing": png(b""),
        "no stream": png(bytes(noise(1).ravel())),
        "wrong adler": png(packed[:-4] + b"\0\0\0\0"),
        "no adler": png(packed[:-4]),
        "wrong filter": png(zlib.compress(rows[: 193 * 30] + b"\x09" + rows[193 * 30 + 1 :])),
        "other bytes within": png(packed[:3000] + b"\xff\xff\xff\xff\xff" + packed[3005:]),
        "more rows": png(zlib.compress(rows + bytes(1000))),
        "more bytes": png(packed + b"junk"),
        "wrong checksum": png(packed)[:-16] + b"\0\0\0\0" + png(packed)[-12:],
        "wrong checksum of the header": png(packed)[:29] + b"\0\0\0\0" + png(packed)[33:],
        "unknown compression": png(packed, header=(64, 64, 8, 2, 1, 0, 0)),
        "unknown filters": png(packed, header=(64, 64, 8, 2, 0, 1, 0)),
        "parts apart": png(packed[:50], b"", packed[50:]).replace(chunk(b"IDAT", b""), chunk(b"tEXt", b"a\0b")),
        "in pieces": png(*(packed[at : at + 100] for at in range(0, len(packed), 100)), b""),
        "much too wide": png(zlib.compress(bytes(2_000_001)), header=(2_000_000, 1, 8, 0, 0, 0, 0)),
    }


@pytest.mark.parametrize("name", damaged())
def test_what_is_damaged_comes_out_as_from_pillow(name):
    data = damaged()[name]

    def outcome(function):
        try:
            return function().tobytes()
        except CodecError as error:
            return str(error)

    size = struct.unpack(">II", data[16:24])[::-1]
    found = outcome(lambda: ImageDecoder(image_size=size).decode(data))
    assert found == outcome(lambda: decode_with_pillow(data, "png", "RGB")[0])


def test_wrong_checksums_are_seen_before_libpng_complains(capfd):
    for name in ("wrong checksum", "wrong checksum of the header", "unknown compression", "unknown filters"):
        assert fast(damaged()[name]) is None
    assert capfd.readouterr() == ("", "")

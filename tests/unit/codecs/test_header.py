"""What a picture says about itself, and that cut, broken and monstrous ones are refused."""

import io
import re
import resource
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import pytest
from material import material_dir
from PIL import Image

from shardkit.codecs.header import EXTENSIONS, PICTURE_SUFFIXES, orientation_of, read_header, sniff
from shardkit.errors import CodecError


def encoded(form: str, image: Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (image or Image.effect_noise((40, 30), 90).convert("RGB")).save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    frame = struct.pack(">BBHBHHB", 0xFF, 0xC0, 17, 8, height, width, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    return b"\xff\xd8" + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + b"\xff\xd9"


@pytest.mark.parametrize(
    ("form", "sniffed"),
    [
        *[("JPEG", "jpeg"), ("PNG", "png"), ("GIF", "gif"), ("WEBP", "webp"), ("BMP", "bmp"), ("TIFF", "tiff")],
        *[("PPM", "ppm"), ("AVIF", "avif"), ("JPEG2000", "jp2")],
    ],
)
def test_formats_are_told_by_content(form: str, sniffed: str) -> None:
    data = encoded(form)
    assert sniff(data) == sniff(data[:64]) == sniff(memoryview(data)) == sniffed
    header = read_header(data)
    assert (header.format, header.width, header.height, header.orientation) == (sniffed, 40, 30, 1)
    assert header.mode == ("P" if form == "GIF" else "RGB")
    assert read_header(memoryview(data)) == header
    assert f".{EXTENSIONS[sniffed]}" in PICTURE_SUFFIXES


@pytest.mark.parametrize("data", [b"", b"\xff", b"<html>", b"P7 1", b"\0" * 100, b"%PDF-1.4", b"RIFF1234WAVE"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    assert sniff(data) is None
    with pytest.raises(CodecError, match=r"empty|not a picture"):
        read_header(data)


def test_headers_agree_with_pillow_on_every_picture_of_the_material() -> None:
    checked = 0
    for path in sorted([*material_dir("pillow").iterdir(), *material_dir("libjpeg-turbo").iterdir()]):
        data = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                header = read_header(data)
            except CodecError:
                continue
        if path.name.startswith("crash-"):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            turned = image.getexif().get(0x112, 1)
        lies = header.orientation >= 5 and header.format != "tiff"  # Pillow turns a TIFF's size itself
        size = (header.height, header.width) if lies else (header.width, header.height)
        assert (size, header.mode, header.orientation) == (image.size, image.mode, turned), path.name
        checked += 1
    assert checked > 100


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_exif_orientation(orientation: int, suffix: str) -> None:
    data = material_dir("pillow", f"hopper_orientation_{orientation}.{suffix}").read_bytes()
    assert read_header(data).orientation == orientation_of(data) == orientation


def test_size_is_the_displayed_one() -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    for form in ("JPEG", "PNG", "WEBP", "TIFF"):
        header = read_header(encoded(form, exif=exif))
        assert (header.width, header.height, header.orientation) == (30, 40, 6), form


@pytest.mark.parametrize("value", [0, 9, 77, 65535])
def test_absurd_orientations_count_as_upright(value: int) -> None:
    exif = Image.Exif()
    exif[0x112] = value
    assert read_header(encoded("JPEG", exif=exif)).orientation == 1


@pytest.mark.parametrize("exif", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"junk" * 9])
def test_damaged_exif_is_ignored(exif: bytes) -> None:
    body = b"Exif\0\0" + exif
    data = encoded("JPEG")
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    assert read_header(data).orientation == 1


def test_xmp_tells_the_orientation_where_exif_does_not() -> None:
    body = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="8"/>'
    data = encoded("JPEG")
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    assert orientation_of(data) == 8
    assert orientation_of(material_dir("pillow", "xmp_tags_orientation.png").read_bytes()) == 3


@pytest.mark.parametrize(
    ("form", "options"),
    [
        *[("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {}), ("TIFF", {})],
        *[("TIFF", {"compression": "tiff_lzw"}), ("PPM", {}), ("AVIF", {}), ("JPEG2000", {}), ("GIF", {})],
        ("JPEG2000", {"no_jp2": True}),
    ],
)
def test_a_cut_file_is_refused_wherever_it_is_cut(form: str, options: dict[str, object]) -> None:
    data = encoded(form, Image.effect_noise((160, 120), 90).convert("RGB"), **options)
    read_header(data)
    for part in range(1, 40):
        with pytest.raises(CodecError):
            read_header(data[: len(data) * part // 40])
    with pytest.raises(CodecError):
        read_header(data[:-1])


def test_a_thumbnail_in_the_header_does_not_count_as_the_end() -> None:
    thumbnail, picture = encoded("JPEG"), encoded("JPEG", Image.effect_noise((400, 300), 90))
    body = b"Exif\0\0" + thumbnail
    data = picture[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + picture[2:]
    assert read_header(data).width == 400
    with pytest.raises(CodecError, match="end early"):
        read_header(data[: len(data) // 2])


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 5000, b"\n", b"MOTION" * 1000])
def test_what_follows_the_end_of_a_jpeg_or_png_does_not_matter(tail: bytes) -> None:
    second_picture = encoded("JPEG")
    for form in ("JPEG", "PNG"):
        data = encoded(form)
        assert read_header(data + tail) == read_header(data + second_picture) == read_header(data)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (65500, 65500), (20_000, 20_000)])
def test_impossible_sizes_are_refused(width: int, height: int) -> None:
    for data in (jpeg_of(width, height), png_of(width, height)):
        with pytest.raises(CodecError, match=r"empty|limit"):
            read_header(data)


def test_a_large_picture_under_the_limit_gives_no_warning() -> None:
    assert read_header(png_of(13_000, 13_000)).width == 13_000
    bmp = bytearray(encoded("BMP", Image.new("1", (13_000, 13_000))))
    assert read_header(bytes(bmp)).width == 13_000


def test_bombs_are_refused_without_filling_the_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bombs = [jpeg_of(65500, 65500), png_of(2**31 - 1, 2**31 - 1)]
    bombs += [path.read_bytes() for path in material_dir("pillow").glob("decompression_bomb.*")]
    assert len(bombs) == 4
    for data in bombs:
        with pytest.raises(CodecError):
            read_header(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_twelve_bit_jpeg_is_named() -> None:
    data = material_dir("libjpeg-turbo", "monkey12.jpg").read_bytes()
    with pytest.raises(CodecError, match="12 bits"):
        read_header(data)


def test_endless_junk_ends() -> None:
    with pytest.raises(CodecError, match="overwritten"):
        read_header(b"\xff\xd8\xff\0" + b"\0" * 10_000_000)
    with pytest.raises(CodecError):
        read_header(b"\xff\xd8" + b"\xff" * 10_000_000)


def test_reading_headers_loads_no_image_library() -> None:
    code = "import sys, shardkit.codecs.header; print([m for m in ('cv2', 'PIL', 'numpy') if m in sys.modules])"
    root = Path(__file__).resolve().parents[3]
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert re.sub(r"\s", "", found.stdout) == "[]"


def test_a_png_of_many_color_profiles_is_refused() -> None:
    # Pillow decompresses each of them when it decodes the image.
    png = encoded("png")
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1000)))
    assert read_header(png[:33] + profile + png[33:]).format == "png"
    with pytest.raises(CodecError, match="color profiles"):
        read_header(png[:33] + 11 * profile + png[33:])

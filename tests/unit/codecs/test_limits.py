"""What one image may take, told from its header: pixels, memory, scans and seconds."""

import io
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from hostile_images import jp2, jpeg2000, many_scans, png_chunk, tiled_tiff
from material import material_dir
from PIL import Image

from shardkit.codecs.header import read_header
from shardkit.codecs.image import ImageDecoder
from shardkit.codecs.jpeg import count_scans, most_scans, parse_jpeg
from shardkit.codecs.jpeg2000 import read_codestream
from shardkit.codecs.limits import DEFAULT_LIMITS, ImageLimits
from shardkit.errors import CodecError, ConfigError

WIDE = ImageLimits(pixels=1 << 60, memory="1TB", scans=1 << 30, seconds=1e9)
SMALL = ImageDecoder(image_size=(8, 8))


def encoded(form: str, size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("pixels", 0), ("pixels", 1.5), ("pixels", True), ("memory", "much"), ("memory", 0), ("memory", None)],
        *[("scans", 0), ("scans", "9"), ("seconds", 0), ("seconds", float("nan")), ("seconds", float("inf"))],
        *[("seconds", "1"), ("seconds", True), ("pixels", 1 << 70)],
        *[("seconds", 10**400), ("seconds", -(10**400))],
    ],
)
def test_a_limit_that_is_none_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        ImageLimits(**{name: value})


def test_limits_compare_by_what_they_mean() -> None:
    assert ImageLimits(memory="1.5GB", seconds=10) == DEFAULT_LIMITS == ImageLimits()
    assert ImageLimits(memory="1GiB").most_bytes == 2**30
    assert ImageLimits(seconds=1e308).seconds == 1e308
    assert ImageLimits(scans=7).as_json() == {**DEFAULT_LIMITS.as_json(), "scans": 7}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"])
@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (ImageLimits(pixels=64 * 48 - 1), r"64x48 pixels: over the limit of 3071 pixels \(--max-pixels\)"),
        (ImageLimits(memory=64 * 48), r"of memory: over the limit of 3.1 kB \(--max-memory\)"),
        (ImageLimits(seconds=1e-9), r"over the limit of 1e-09 s \(--max-seconds\)"),
    ],
)
def test_each_limit_holds_for_every_format_in_header_and_decoder(form: str, limits: ImageLimits, words: str) -> None:
    data = encoded(form)
    assert read_header(data, WIDE).width == 64
    with pytest.raises(CodecError, match=words):
        read_header(data, limits)
    with pytest.raises(CodecError, match=words):
        ImageDecoder(image_size=(8, 8), limits=limits).decode(data)


def test_a_jpeg_with_many_scans_is_refused() -> None:
    data = many_scans(101)
    frame = parse_jpeg(data)
    assert not frame.one_scan
    assert most_scans(data, frame) == count_scans(data, frame, 1000) == 101
    for refuse in (read_header, SMALL.decode):
        with pytest.raises(CodecError, match=r"the JPEG has over 100 scans, the limit \(--max-scans\)"):
            refuse(data)
    read_header(many_scans(100))
    read_header(memoryview(data), ImageLimits(scans=101))
    assert count_scans(data, frame, 5) == 6


def test_scans_after_the_end_marker_do_not_count() -> None:
    data = many_scans(12, tail=b"\xff\xda" * 1000)
    assert most_scans(data, parse_jpeg(data)) == 1012
    assert count_scans(data, parse_jpeg(data), 2000) == 12
    assert read_header(data).width == 64


def test_a_baseline_jpeg_of_one_scan_is_not_searched() -> None:
    data = encoded("JPEG") + b"\xff\xda" * 1000
    assert parse_jpeg(data).one_scan
    assert most_scans(data, parse_jpeg(data)) == 1
    assert read_header(data) == read_header(encoded("JPEG"))


def test_a_baseline_jpeg_of_many_scans_is_counted() -> None:
    data = bytearray(encoded("JPEG"))
    scan = data.index(b"\xff\xda")
    one_channel = b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(data[scan + 14 : -2])
    several = bytes(data[:scan]) + one_channel * 150 + b"\xff\xd9"
    assert not parse_jpeg(several).one_scan
    with pytest.raises(CodecError, match="over 100 scans"):
        read_header(several)


def test_pixels_times_scans_are_limited_too() -> None:
    read_header(many_scans(90, side=2000))
    with pytest.raises(CodecError, match=r"takes about .* s: over the limit of 10 s"):
        read_header(many_scans(200, side=13_000), ImageLimits(scans=1000))
    with pytest.raises(CodecError, match=r"of memory: over"):
        read_header(many_scans(10, side=13_000), ImageLimits(memory="1GB"))


@pytest.mark.parametrize("segment", [b"\xff\xe5\0\2", b"\xff\1", b"\xff\xfe\0\2", b"\xff\1junk"])
def test_endless_segments_are_refused_soon(segment: bytes) -> None:
    data = encoded("JPEG")
    started = time.process_time()
    with pytest.raises(CodecError, match=r"over 10000 segments|overwritten"):
        read_header(data[:2] + segment * 1_000_000 + data[2:])
    assert time.process_time() - started < 5


def test_two_frame_headers_are_refused() -> None:
    data = encoded("JPEG")
    frame = data.index(b"\xff\xc0")
    with pytest.raises(CodecError, match="two frame headers"):
        read_header(data[:frame] + data[frame : frame + 19] + data[frame:])


def test_images_of_large_cameras_pass() -> None:
    for side in (10_100, 12_250):  # 102 and 150 million pixels
        baseline = bytearray(encoded("JPEG"))
        frame = baseline.index(b"\xff\xc0")
        baseline[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
        assert read_header(bytes(baseline) + bytes(80_000_000)).width == side
    assert read_header(many_scans(12, side=10_100)).width == 10_100


@pytest.mark.parametrize(
    "codestream",
    [
        jpeg2000(13_300, 13_300, (13_300, 13_300)),
        jpeg2000(6000, 6000, (6000, 6000), block=0),
        jpeg2000(6000, 6000, (6000, 6000), precincts=b"\x11" * 6),
        jpeg2000(600, 600, (1, 1)),
        jpeg2000(60, 60, (1 << 31, 1 << 31))[:-2] * 1,
    ],
)
def test_jpeg_2000_is_measured_by_what_its_codestream_asks_for(codestream: bytes) -> None:
    width = struct.unpack_from(">I", codestream, 8)[0]
    for form, data in (("j2k", codestream), ("jp2", jp2(width, width, codestream))):
        if width == 60:
            assert read_codestream(data, form, (60, 60)).tile_pixels == 3600
            continue
        with pytest.raises(CodecError, match="over the limit of"):
            read_header(data)


def test_jpeg_2000_counts_its_parts_rather_too_high() -> None:
    data = encoded("JPEG2000", (300, 200), tile_size=(128, 64), no_jp2=True)
    found = read_codestream(data, "j2k", (300, 200))
    assert (found.width, found.height, found.components, found.sample_bytes) == (300, 200, 3, 1)
    assert (found.tiles, found.tile_pixels) == (12, 8192)
    assert 3 * 16 <= found.blocks <= 3 * 100
    assert SMALL.decode(data).shape == (8, 8, 3)


def test_jpeg_2000_boxes_that_contradict_the_codestream_are_refused() -> None:
    codestream = jpeg2000(1000, 1000, (1000, 1000))
    free = struct.pack(">I4s", 8, b"free")
    with pytest.raises(CodecError, match="differ in size"):
        read_header(jp2(8, 8, codestream, free))
    with pytest.raises(CodecError, match="5 channels"):
        read_header(jp2(64, 64, jpeg2000(64, 64, (64, 64), components=5), free))
    with pytest.raises(CodecError, match="grid of tiles"):
        read_header(jpeg2000(64, 64, (0, 64)))


@pytest.mark.parametrize("length", [1, 2, 11, 12, 13])
def test_a_jpeg_2000_tile_that_ends_before_it_begins_is_refused(length: int) -> None:
    data = bytearray(encoded("JPEG2000", no_jp2=True))
    tile = data.index(b"\xff\x90\0\x0a")
    data[tile + 6 : tile + 10] = struct.pack(">I", length)
    with pytest.raises(CodecError):
        read_header(bytes(data))


def test_a_jpeg_2000_coded_in_endless_ways_is_refused_soon() -> None:
    data = jpeg2000(64, 64, (64, 64))
    style = data.index(b"\xff\x52")
    ways = b"".join(struct.pack(">HH5B5BI", 0xFF52, 16, 1, 0, 0, 1, 0, 32, 4, 4, 0, 1, n) for n in range(60_000))
    started = time.process_time()
    with pytest.raises(CodecError, match="too many ways"):
        read_header(data[:style] + ways + data[style:])
    assert time.process_time() - started < 5


def test_every_cut_or_changed_jpeg_2000_header_is_a_codec_error() -> None:
    data = jp2(64, 64, jpeg2000(64, 64, (32, 32), precincts=b"\x44" * 6))
    rng = np.random.default_rng(0)
    for number in range(600):
        changed = bytearray(data[: rng.integers(0, len(data))] if number % 2 else data)
        for at in rng.integers(0, max(len(changed), 1), 3):
            if at < len(changed):
                changed[at] = rng.integers(0, 256)
        try:
            read_header(bytes(changed))
        except CodecError:
            continue


def test_the_tiles_of_a_tiff_count_and_not_only_its_pixels() -> None:
    assert SMALL.decode(tiled_tiff(16, 64)).shape == (8, 8, 3)
    for refuse in (read_header, SMALL.decode):
        with pytest.raises(CodecError, match="of memory: over the limit"):
            refuse(tiled_tiff(16, 30_000))


def test_the_strips_of_a_tiff_count_also_those_that_hold_nothing() -> None:
    tags = [(256, 4, 1, 28), (257, 4, 1, 20), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 3, 240_000, 300)]
    tags += [(277, 3, 1, 1), (278, 3, 1, 1), (279, 3, 240_000, 300)]
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    data += bytes(500_000)
    limits = ImageLimits(seconds=0.5)
    for refuse in (
        lambda: read_header(data, limits),
        lambda: ImageDecoder(image_size=(8, 8), limits=limits).decode(data),
    ):
        with pytest.raises(CodecError, match="over the limit of 0.5 s"):
            refuse()


@pytest.mark.parametrize("chunk", [png_chunk(b"tEXt", b"a\0b"), png_chunk(b"prVt", b"")])
def test_endless_chunks_of_a_png_are_refused(chunk: bytes) -> None:
    data = encoded("PNG")
    with pytest.raises(CodecError, match="over 10000 chunks besides its pixels"):
        read_header(data[:33] + chunk * 10_001 + data[33:])
    assert read_header(data[:33] + chunk * 5000 + data[33:]).width == 64


def test_only_the_first_image_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (64, 48), (shade, 0, 0)) for shade in range(0, 250, 5)]
    limits = ImageLimits(memory=64 * 48 * 21)
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        file = io.BytesIO()
        frames[0].save(file, form, save_all=True, append_images=frames[1:])
        assert ImageDecoder(image_size=(48, 64), limits=limits).decode(file.getvalue())[0, 0].max() < 8, form


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "I;16", "LA"])
def test_a_large_image_converted_in_strips_is_the_same(mode: str) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (1700, 1300, 3), dtype=np.uint8)
    image = (
        Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 200)
        if mode == "I;16"
        else Image.fromarray(pixels).convert(mode)
    )
    file = io.BytesIO()
    image.save(file, "TIFF" if mode != "P" else "BMP")
    for color_mode, wanted in (("rgb", "RGB"), ("grayscale", "L"), ("rgba", "RGBA")):
        found = ImageDecoder(image_size=(1700, 1300), color_mode=color_mode).decode(file.getvalue())
        whole = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if mode == "I;16" else image
        expected = np.asarray(whole.convert(wanted)).reshape(found.shape)
        assert np.array_equal(found, expected), color_mode


def test_too_little_memory_is_a_codec_error(tmp_path) -> None:
    code = """
import resource, sys
from pathlib import Path
from shardkit.codecs.image import ImageDecoder
from shardkit.errors import CodecError
decoder = ImageDecoder(image_size=(8, 8), antialias=False)
small, large = ([path.read_bytes() for path in Path(sys.argv[1]).glob(f"*.{size}")] for size in ("small", "large"))
for data in small:
    decoder.decode(data)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 10_000_000,) * 2)
for data in large:
    try:
        decoder.decode(data)
    except CodecError as exc:
        print("refused", exc)
"""
    for form in ("PNG", "JPEG", "TIFF", "GIF", "JPEG2000"):
        for name, size in (("small", (9, 9)), ("large", (4000, 4000))):
            (tmp_path / f"{form}.{name}").write_bytes(encoded(form, size))
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    assert done.stdout.count("refused") == 5, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("jpeg-20000-scans.jpg", "over 100 scans"),
        ("jp2-256-bytes-3.3GB.jp2", "3.4 GB of memory"),
        ("webp-7kB-3GB.webp", "3.2 GB of memory"),
    ],
)
def test_hostile_images_are_refused_at_once(name: str, words: str) -> None:
    data = material_dir("hostile", name).read_bytes()
    for refuse in (read_header, SMALL.decode):
        started = time.process_time()
        with pytest.raises(CodecError, match=words):
            refuse(data)
        assert time.process_time() - started < 1


def test_no_image_of_the_material_is_over_a_limit() -> None:
    folders = [material_dir(name) for name in ("photos", "pillow", "libjpeg-turbo", "labelled")]
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        try:
            read_header(path.read_bytes())
        except CodecError as exc:
            assert "--max" not in str(exc), path

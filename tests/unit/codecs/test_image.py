"""What becomes of each kind of picture: the facts of ``docs/reference/pictures.md``."""

import io
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from material import material_dir
from PIL import Image

from shardkit.codecs.geometry import Box
from shardkit.codecs.header import sniff
from shardkit.codecs.image import ImageDecoder
from shardkit.errors import CodecError, ConfigError
from shardkit.sample import ArraySpec

Pixels = np.ndarray[Any, Any]


def encoded(form: str, image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def noise(height: int, width: int, channels: int = 3) -> Pixels:
    values = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (height, width, channels), np.uint8)
    return values if channels > 1 else values[..., 0]


def smooth(height: int, width: int) -> Pixels:
    """A picture without a symmetry, and soft enough for JPEG to keep."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack(
        [rows * 255 // height, columns * 255 // width, (rows * 2 + columns) * 80 // (height + width)], axis=2
    ).astype(np.uint8)


def as_is(data: bytes, **options: Any) -> Pixels:
    """The picture at its own size, so that nothing is resized."""
    with Image.open(io.BytesIO(data)) as image:
        return ImageDecoder(image_size=(image.height, image.width), **options).decode(data)


def picture(*parts: str) -> bytes:
    return material_dir(*parts).read_bytes()


# --- every picture of the material ---


def pillow_decodes(data: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            Image.open(io.BytesIO(data)).load()
        except Exception:  # noqa: BLE001  (whatever a plug-in raises)
            return False
    return True


@pytest.mark.parametrize("color_mode", ["rgb", "grayscale", "rgba"])
def test_every_picture_that_pillow_decodes_is_decoded_and_no_other(color_mode: Any) -> None:
    decoder = ImageDecoder(image_size=(48, 64), color_mode=color_mode)
    decoded = refused = 0
    for path in sorted([*material_dir("pillow").iterdir(), *material_dir("libjpeg-turbo").iterdir()]):
        data, start = path.read_bytes(), time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                array = decoder.decode(data)
            except CodecError as error:
                refused += 1
                ours = (sniff(data), str(error))
            else:
                decoded += 1
                ours = None
        assert time.monotonic() - start < 5, path.name
        if ours is None:
            assert (array.shape, array.dtype) == ((48, 64, decoder.channels), np.uint8)
            assert pillow_decodes(data), path.name
        else:
            assert ours[0] is None or not pillow_decodes(data), path.name
    assert decoded > 100
    assert refused > 20


# --- orientation ---


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_every_orientation_shows_the_same_picture(orientation: int, suffix: str) -> None:
    upright = as_is(picture("pillow", f"hopper.{suffix}")).astype(int)
    turned = as_is(picture("pillow", f"hopper_orientation_{orientation}.{suffix}"))
    assert np.abs(upright - turned).mean() < 6
    stored = np.asarray(Image.open(material_dir("pillow", f"hopper_orientation_{orientation}.{suffix}")))
    assert np.abs(upright - stored).mean() > 20


@pytest.mark.parametrize("orientation", [6, 8])
def test_tiff_is_turned_once(orientation: int) -> None:
    upright = as_is(picture("pillow", "g4_orientation_1.tif")).astype(int)
    turned = as_is(picture("pillow", f"g4_orientation_{orientation}.tif"))
    assert np.abs(upright - turned).mean() < 0.7  # turned by another program, a few dots differ
    assert np.abs(upright - turned[::-1, ::-1]).mean() > 20


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("options", [{}, {"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True}])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_cropping_and_padding_happen_the_right_way_up(form: str, options: Any, orientation: int) -> None:
    decoder = ImageDecoder(image_size=(60, 50), **options)
    shown = smooth(131, 230)
    undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    undo |= {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180}
    undo |= {4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 7: Image.Transpose.TRANSVERSE}
    image, exif = Image.fromarray(shown), Image.Exif()
    exif[0x112] = orientation
    stored = image.transpose(undo[orientation]) if orientation > 1 else image
    quality = {} if form in ("PNG", "TIFF") else {"quality": 95}
    turned = decoder.decode(encoded(form, stored, exif=exif, **quality)).astype(int)
    assert np.abs(turned - decoder.decode(encoded("PNG", image))).mean() < 2.5


def test_orientation_in_xmp_counts() -> None:
    data = picture("pillow", "xmp_tags_orientation.png")
    stored = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(as_is(data), stored[::-1, ::-1])


# --- colour ---


def test_lossless_pictures_at_their_own_size_are_exact() -> None:
    pixels = noise(37, 53)
    for form, options in [("PNG", {}), ("BMP", {}), ("PPM", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]:
        assert np.array_equal(as_is(encoded(form, Image.fromarray(pixels), **options)), pixels), form


def test_jpeg_is_decoded_as_pillow_decodes_it() -> None:
    for name in ("hopper.jpg", "hopper_gray.jpg", "hopper_16bit_qtables.jpg", "flower.jpg", "pil_sample_cmyk.jpg"):
        data = picture("pillow", name)
        assert np.array_equal(as_is(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))), name


def test_arithmetic_coding_decodes() -> None:
    plain = as_is(picture("libjpeg-turbo", "testorig.jpg")).astype(int)
    assert np.abs(plain - as_is(picture("libjpeg-turbo", "testimgari.jpg"))).mean() < 1


def test_gray_is_repeated_and_colour_becomes_luma() -> None:
    gray = noise(20, 30, 1)
    assert np.array_equal(as_is(encoded("PNG", Image.fromarray(gray))), np.dstack([gray] * 3))
    data = picture("pillow", "hopper.jpg")
    luma = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert np.abs(as_is(data, color_mode="grayscale")[..., 0].astype(int) - luma).mean() < 0.5


def test_palettes_are_looked_up() -> None:
    image = Image.fromarray(smooth(40, 40)).quantize(200)
    assert np.array_equal(as_is(encoded("PNG", image)), np.asarray(image.convert("RGB")))
    assert np.array_equal(as_is(encoded("GIF", image)), np.asarray(image.convert("RGB")))


def test_alpha_is_dropped_or_kept() -> None:
    pixels = noise(20, 30, 4)
    data = encoded("PNG", Image.fromarray(pixels))
    assert np.array_equal(as_is(data), pixels[..., :3])
    assert np.array_equal(as_is(data, color_mode="rgba"), pixels)
    assert (as_is(picture("pillow", "hopper.jpg"), color_mode="rgba")[..., 3] == 255).all()
    assert (as_is(picture("pillow", "hopper.png"), color_mode="rgba")[..., 3] == 255).all()
    assert set(np.unique(as_is(picture("pillow", "rgb_trns.png"), color_mode="rgba")[..., 3])) == {0, 255}


def test_sixteen_bits_keep_their_high_byte() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for data in (
        encoded("PNG", Image.fromarray(values)),
        encoded("TIFF", Image.fromarray(values)),
        encoded("TIFF", Image.fromarray(values.astype(np.int32))),
        b"P5 256 256 65535\n" + values.astype(">u2").tobytes(),
    ):
        assert np.array_equal(as_is(data)[..., 0], (values >> 8).astype(np.uint8))
    assert np.array_equal(
        as_is(picture("libjpeg-turbo", "monkey16.png")),
        np.asarray(Image.open(material_dir("libjpeg-turbo", "monkey16.png"))),
    )


def test_one_bit_is_black_and_white() -> None:
    bits = noise(16, 16, 1) > 127
    assert np.array_equal(as_is(encoded("PNG", Image.fromarray(bits)))[..., 0], bits * np.uint8(255))


def test_numbers_that_are_no_eight_or_sixteen_bits_are_refused() -> None:
    with pytest.raises(CodecError, match="floating-point"):
        as_is(encoded("TIFF", Image.new("F", (5, 5))))
    with pytest.raises(CodecError, match="16 bits"):
        as_is(encoded("TIFF", Image.fromarray(np.full((5, 5), 70_000, np.int32))))


def test_twelve_bit_jpeg_is_named() -> None:
    with pytest.raises(CodecError, match="12 bits"):
        ImageDecoder(image_size=(9, 9)).decode(picture("libjpeg-turbo", "monkey12.jpg"))


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_of_several_pictures_the_first_counts(form: str) -> None:
    first, second = Image.new("RGB", (20, 20), (250, 20, 20)), Image.new("RGB", (20, 20), (20, 20, 250))
    data = encoded(form, first, save_all=True, append_images=[second])
    assert np.abs(as_is(data).astype(int) - (250, 20, 20)).max() < 12


# --- a part of a picture ---


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_chosen_part_is_that_part_of_the_shown_picture(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encoded(form, Image.fromarray(smooth(61, 83)), **({} if form == "BMP" else {"exif": exif}))
    turned = orientation >= 5 and form != "BMP"
    size = (83, 61) if turned else (61, 83)
    whole = ImageDecoder(image_size=size).decode(data)

    def choose(height: int, width: int) -> Box:
        assert (height, width) == size
        return Box(7, 11, 40, 45)

    out = np.empty((40, 45, 3), np.uint8)
    ImageDecoder(image_size=(40, 45)).decode_into(data, out, choose)
    assert np.array_equal(out, whole[7:47, 11:56])


def test_a_part_of_a_jpeg_that_is_as_large_as_the_array_is_resized_all_the_same() -> None:
    data = encoded("JPEG", Image.fromarray(smooth(64, 64)), quality=95)
    decoder, out = ImageDecoder(image_size=(64, 64)), np.empty((64, 64, 3), np.uint8)
    decoder.decode_into(data, out, lambda height, width: Box(0, 0, 16, 16))
    assert out.max() < 80
    assert decoder.decode(data).max() > 200


def test_how_far_a_jpeg_is_reduced_follows_from_the_part() -> None:
    data = encoded("JPEG", Image.fromarray(noise(800, 800)), quality=95)
    part, decoder = (100, 300, 190, 190), ImageDecoder(image_size=(100, 100))
    out = np.empty((100, 100, 3), np.uint8)
    decoder.decode_into(data, out, lambda height, width: Box(*part))
    full = as_is(data)[100:290, 300:490]
    assert np.array_equal(out, decoder.decode(encoded("PNG", Image.fromarray(full))))  # the whole would be halved


def test_what_changes_a_picture_sees_bytes_and_may_give_others() -> None:
    data = encoded("PNG", Image.fromarray(noise(10, 12)))

    def invert(pixels: Pixels) -> Pixels:
        assert pixels.dtype == np.uint8
        assert pixels.shape == (10, 12, 3)
        return 255.5 - pixels

    for dtype, expected in (("float32", 255.5 - as_is(data)), ("uint8", np.rint(255.5 - as_is(data)).clip(0, 255))):
        out = np.empty((3, 10, 12), dtype)
        decoder = ImageDecoder(image_size=(10, 12), dtype=dtype, data_format="channels_first")  # type: ignore[arg-type]
        decoder.decode_into(data, out, None, invert)
        assert np.array_equal(out.transpose(1, 2, 0), expected)


# --- damage ---


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 4}])
@pytest.mark.parametrize("image_size", [(400, 500), (60, 60)])
def test_a_cut_jpeg_is_refused_wherever_it_is_cut(options: dict[str, object], image_size: tuple[int, int]) -> None:
    data = encoded("JPEG", Image.open(material_dir("photos", "chelsea.png")).convert("RGB"), **options)
    decoder = ImageDecoder(image_size=image_size)
    decoder.decode(data)
    for cut in [*range(1, len(data), len(data) // 50), len(data) - 1, len(data) - 2, len(data) - 3]:
        with pytest.raises(CodecError):
            decoder.decode(data[:cut])


def test_a_cut_jpeg_with_an_end_marker_is_refused() -> None:
    data = picture("photos", "rocket.jpg")
    for cut in range(len(data) // 4, len(data) - 100, len(data) // 20):
        with pytest.raises(CodecError, match="end early"):
            ImageDecoder(image_size=(64, 64)).decode(data[:cut] + b"\xff\xd9")


@pytest.mark.parametrize("name", ["hopper.png", "hopper.gif", "hopper.webp", "hopper.bmp", "hopper.tif", "hopper.ppm"])
def test_other_cut_pictures_are_refused(name: str) -> None:
    data = picture("pillow", name)
    decoder = ImageDecoder(image_size=(128, 128))
    for part in range(20):
        with pytest.raises(CodecError):
            decoder.decode(data[: len(data) * part // 20])


def test_junk_that_libjpeg_steps_over_does_no_harm() -> None:
    for name in ("junk_jpeg_header.jpg", "jpeg_ff00_header.jpg", "photoshop-200dpi-broken.jpg"):
        data = picture("pillow", name)
        assert np.array_equal(as_is(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))), name


# --- the array ---


def test_decoding_writes_into_its_row_of_the_batch_and_nowhere_else() -> None:
    for name, size in [("hopper.jpg", (128, 128)), ("hopper.jpg", (50, 70)), ("hopper_orientation_6.jpg", (50, 70))]:
        for mode, channels in [("rgb", 3), ("grayscale", 1), ("rgba", 4)]:
            for pad in (False, True):
                decoder = ImageDecoder(image_size=size, color_mode=mode, pad_to_aspect_ratio=pad)
                batch = np.full((3, *size, channels), 77, np.uint8)
                decoder.decode_into(memoryview(picture("pillow", name)), batch[1])
                assert np.array_equal(batch[1], decoder.decode(picture("pillow", name)))
                assert (batch[[0, 2]] == 77).all()


def test_other_arrays_are_refused() -> None:
    decoder, data = ImageDecoder(image_size=(10, 20)), picture("pillow", "hopper.jpg")
    for out in (
        np.empty((20, 10, 3), np.uint8),
        np.empty((10, 20, 3), np.float32),
        np.empty((10, 40, 3), np.uint8)[:, ::2],
    ):
        with pytest.raises(ValueError, match="contiguous"):
            decoder.decode_into(data, out)


def test_spec_is_true() -> None:
    for mode, channels in [("rgb", 3), ("grayscale", 1), ("rgba", 4)]:
        decoder = ImageDecoder(image_size=(10, 20), color_mode=mode)
        assert decoder.spec == ArraySpec((10, 20, channels), "uint8")
        assert decoder.decode(picture("pillow", "hopper.png")).shape == decoder.spec.shape


@pytest.mark.parametrize(
    "options",
    [
        *[{"image_size": size} for size in [(0, 5), (5,), (5, 5, 3), (5.0, 5), "ab", (True, 5), (5, -1), 224, [5, 5]]],
        {"image_size": (5, 5), "color_mode": "RGB"},
        {"image_size": (5, 5), "dtype": "float64"},
        {"image_size": (5, 5), "data_format": "NCHW"},
        {"image_size": (5, 5), "crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True},
    ],
)
def test_impossible_settings_are_refused(options: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ImageDecoder(**options)
    assert caught.value.setting in options


def test_threads_get_what_one_thread_gets() -> None:
    decoder = ImageDecoder(image_size=(96, 96))
    names = ["hopper.jpg", "hopper.png", "hopper.tif", "hopper.webp", "hopper.gif", "pil_sample_cmyk.jpg"]
    files = [picture("pillow", name) for name in names] * 30
    expected = [decoder.decode(data) for data in files]
    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(decoder.decode, files))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert list(warnings.filters) == filters

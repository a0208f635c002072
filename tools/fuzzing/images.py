"""Pictures: their headers read, and decoded to a small array."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fuzzing.mutate import ODD_NUMBERS
from fuzzing.target import damaged, material
from shardkit.codecs.encode import encode_png
from shardkit.codecs.header import EXTENSIONS, MAX_PIXELS, orientation_of, read_header
from shardkit.codecs.image import ImageDecoder
from shardkit.codecs.limits import ImageLimits
from shardkit.errors import ShardkitError

if TYPE_CHECKING:
    from random import Random

__all__ = ["ImageTarget"]

_WAYS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(("jpeg", "RGB", {}), ("jpeg", "RGB", {"progressive": True}), ("jpeg", "L", {}), ("jpeg", "CMYK", {})),
    *(("png", "RGB", {}), ("png", "RGBA", {}), ("png", "P", {}), ("png", "I;16", {}), ("png", "1", {})),
    *(("gif", "P", {}), ("webp", "RGB", {}), ("webp", "RGBA", {"lossless": True}), ("bmp", "RGB", {})),
    *(("tiff", "RGB", {}), ("tiff", "L", {"compression": "tiff_lzw"}), ("ppm", "RGB", {}), ("ppm", "L", {})),
    *(("jpeg2000", "RGB", {}), ("jpeg2000", "L", {"no_jp2": True, "tile_size": (8, 8)}), ("avif", "RGB", {})),
)
_PATTERNS = ("hostile/*.jp*", "hostile/*.webp", "pillow/*", "libjpeg-turbo/*", "photos/*")
_LIMITS = ImageLimits(memory="64MB", seconds=0.5)
_ODD_SIZES = (0, 1, 2, 7, 255, 256, 4000, 16383, 16384, 65500, 65535, 2**31 - 1, 2**32 - 1)
_DEPTHS = (0, 1, 2, 3, 4, 6, 8, 16, 255)


class ImageTarget:
    """`read_header`, `orientation_of`, and `ImageDecoder.decode` in two ways.

    What decoding one image may take is a setting, whose default is more than an input may take here: 1.5 GB and 10 s.
    So the decoders have narrower limits, and what they decode has to stay within the limits of an input. Headers are
    read with the default, whatever the image would take: they stay within the limits of an input themselves.
    """

    def __init__(self) -> None:
        self.seeds = [_picture(*way) for way in _WAYS]
        self.seeds.append(encode_png(np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3)))
        exif = Image.Exif()
        exif[0x0112] = 6
        self.seeds.append(_picture("jpeg", "RGB", {"exif": exif.tobytes()}))
        self._more = [*self.seeds, *material(*_PATTERNS)]
        self._decoders = [
            ImageDecoder(image_size=(24, 24), limits=_LIMITS),
            ImageDecoder(
                image_size=(9, 17), color_mode="rgba", crop_to_aspect_ratio=True, dtype="float32", limits=_LIMITS
            ),
        ]

    def mutant(self, rng: Random) -> bytes:
        """A changed picture."""
        data = rng.choice(self._more if rng.random() < 0.5 else self.seeds)
        if rng.random() < 0.5:
            if data[:2] == b"\xff\xd8":
                return _changed_jpeg(rng, data)
            if data[:4] == b"\x89PNG":
                return _changed_png(rng, data)
            return _changed_front(rng, data)
        return damaged(rng, [data])

    def parse(self, data: bytes) -> None:
        """Read and decode it; whatever refuses it, the others are asked too."""
        refusal = None
        for look in (self._look_at, *(decoder.decode for decoder in self._decoders)):
            try:
                found = look(data)
            except ShardkitError as error:
                # Without its traceback, which keeps the image in memory.
                refusal = refusal or type(error)(str(error))
            else:
                assert found is None or found.shape in ((24, 24, 3), (9, 17, 4)), "an array has another shape"
        if refusal is not None:
            raise refusal

    def _look_at(self, data: bytes) -> None:
        header = read_header(data)
        assert header.format in EXTENSIONS, "an unknown format"
        assert header.width > 0, "no width"
        assert header.height > 0, "no height"
        assert header.width * header.height <= MAX_PIXELS, "too many pixels"
        assert 1 <= header.orientation <= 8, "no orientation"
        assert orientation_of(data) == header.orientation, "two orientations"


def _picture(form: str, mode: str, options: dict[str, Any]) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def _changed_front(rng: Random, data: bytes) -> bytes:
    """With other numbers where most formats keep sizes, depths, tiles and lengths: near the start."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        width = rng.choice((1, 2, 2, 4))
        place = min(int(rng.expovariate(1 / 60)), max(0, len(data) - width))
        value = rng.choice(rng.choice((_ODD_SIZES, ODD_NUMBERS))) % (1 << 8 * width)
        changed[place : place + width] = value.to_bytes(width, rng.choice(("big", "little")))
    return bytes(changed)


def _changed_jpeg(rng: Random, data: bytes) -> bytes:
    """With segments taken away, repeated, moved, of other lengths, or with other sizes and tables."""
    parts, rest = _segments(data)
    if not parts:
        return damaged(rng, [data])
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, kind = rng.randrange(len(parts)), rng.randrange(8)
        part = bytearray(parts[at])
        if kind == 0:
            parts[at] = b""
        elif kind == 1:
            parts[at] *= rng.choice((2, 2, 50, 1000))
        elif kind == 2:
            parts.insert(rng.randrange(len(parts)), bytes(part))
        elif kind == 3:
            part[2:4] = (rng.choice(ODD_NUMBERS) % 65536).to_bytes(2, "big")
            parts[at] = bytes(part)
        elif kind == 4:
            payload = rng.choice((b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\0\x01", b"Adobe\0", b"ICC_PROFILE\0", b""))
            payload += rng.randbytes(rng.randrange(60))
            marker = rng.choice((0xE0, 0xE1, 0xE2, 0xEE, 0xFE, 0xDD, 0xC4, 0xDB, 0xDC, 0xC8))
            parts.insert(at, bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload)
        elif kind == 5:
            rest *= rng.choice((2, 10, 200))
        elif (frame := next((n for n, one in enumerate(parts) if one[1:2] in (b"\xc0", b"\xc2")), None)) is not None:
            part = bytearray(parts[frame])
            if kind == 6 and len(part) >= 9:
                place = 5 + 2 * rng.randrange(2)
                part[place : place + 2] = (rng.choice(_ODD_SIZES) % 65536).to_bytes(2, "big")
            else:
                part[rng.randrange(4, len(part))] = rng.choice((0, 1, 2, 3, 4, 8, 12, 0x11, 0x22, 0x44, 0xFF))
            parts[frame] = bytes(part)
    return (b"\xff\xd8" + b"".join(parts) + rest)[:900_000]


def _segments(data: bytes) -> tuple[list[bytes], bytes]:
    """The segments before the first scan, and what is left."""
    parts, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        parts.append(data[at:stop])
        at = stop
    return parts, data[at:]


def _changed_png(rng: Random, data: bytes) -> bytes:
    """With chunks taken away, repeated, moved, or changed under sums that are right again."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return damaged(rng, [data])
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, kind = rng.randrange(len(chunks)), rng.randrange(6)
        name, content = chunks[at]
        if kind == 0:
            chunks[at : at + 1] = []
        elif kind == 1:
            chunks[at:at] = [chunks[at]] * rng.choice((1, 1, 50, 3000))
        elif kind == 2:
            chunks.insert(rng.randrange(len(chunks)), (name, content))
        elif kind == 3:
            chunks[at] = (rng.choice((b"IDAT", b"PLTE", b"tRNS", b"eXIf", b"iCCP", b"zTXt", b"acTL", b"fdAT")), content)
        elif kind == 4:
            chunks[at] = (name, damaged(rng, [content]))
        else:
            header = bytearray(chunks[0][1].ljust(13, b"\0"))
            place = rng.randrange(4)
            if place < 2:
                header[4 * place : 4 * place + 4] = rng.choice(_ODD_SIZES).to_bytes(4, "big")
            else:
                header[rng.randrange(8, 13)] = rng.choice(_DEPTHS)
            chunks[0] = (chunks[0][0], bytes(header))
        if not chunks:
            break
    joined = b"".join(
        len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
        for name, content in chunks
    )
    return (data[:8] + joined)[:900_000]

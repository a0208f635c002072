"""Changes to bytes and to JSON documents, each drawn from a generator: the same generator, the same change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

__all__ = ["MOST_BYTES", "ODD_NUMBERS", "changed_bytes", "changed_json", "odd_text", "odd_value"]

MOST_BYTES = 1_000_000 - 1
"""The length of the longest input: the limits of time and memory are promised for less than 1 MB."""

ODD_NUMBERS = (
    *(0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 511, 512, 1023, 65535, 65536),
    *(2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
)
_ODD_BYTES = (0, 1, 0x20, 0x2F, 0x3D, 0x7F, 0x80, 0xC0, 0xFE, 0xFF)
_WIDTHS = (1, 2, 3, 4, 8, 12)
_LONG = 20_000


def changed_bytes(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Data with one to a few places changed.

    Args:
        rng: What decides.
        data: The bytes.
        others: Where splices may come from; the data themselves without them.

    Returns:
        At most `MOST_BYTES`.
    """
    changed = bytearray(data)
    for _ in range(1 + min(int(rng.expovariate(0.7)), 8)):
        _CHANGES[rng.randrange(len(_CHANGES))](rng, changed, others)
    return bytes(changed[:MOST_BYTES])


def _place(rng: Random, data: bytearray) -> int:
    return rng.randrange(len(data) + 1)


def _flip(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice(_ODD_BYTES) if rng.random() < 0.5 else rng.randrange(256)


def _number(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    """A length field, perhaps: a number that is odd, or near what is there."""
    width = rng.choice(_WIDTHS)
    place = _place(rng, data)
    order: Any = rng.choice(("little", "big"))
    if rng.random() < 0.5:
        value = rng.choice(ODD_NUMBERS)
    else:
        value = int.from_bytes(data[place : place + width], order) + rng.randrange(-9, 10)
    data[place : place + width] = (value % (1 << 8 * width)).to_bytes(width, order)


def _digits(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    """A number in words, where there is one."""
    starts = [at for at, byte in enumerate(data[:4096]) if 48 <= byte <= 57]
    if not starts:
        return
    start = stop = rng.choice(starts)
    while stop < len(data) and 48 <= data[stop] <= 57:
        stop += 1
    data[start:stop] = rng.choice((b"-1", b"", b"1e9", b"9" * rng.randrange(1, 40), b"%d" % rng.choice(ODD_NUMBERS)))


def _insert(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    place = _place(rng, data)
    data[place:place] = rng.randbytes(rng.randrange(1, 20))


def _delete(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    place = _place(rng, data)
    del data[place : place + rng.choice((1, 2, 4, 16, 512, rng.randrange(1, 2000)))]


def _truncate(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[_place(rng, data) :]


def _splice(rng: Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = rng.choice(others) if others else bytes(data)
    start = rng.randrange(len(other) + 1)
    piece = other[start : start + rng.choice((4, 16, 512, 4096))]
    place = _place(rng, data)
    data[place : place + (len(piece) if rng.random() < 0.5 else 0)] = piece


def _repeat(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    """A block many times: seldom as often as an input may be long."""
    start = _place(rng, data)
    piece = data[start : start + rng.choice((1, 2, 16, 64, 512, 1024, rng.randrange(1, 600)))]
    most = MOST_BYTES if rng.random() < 0.01 else _LONG
    times = rng.randrange(1, 2 + most // (len(piece) + 1)) if rng.random() < 0.3 else rng.randrange(1, 5)
    data[start:start] = piece * times


def _swap(rng: Random, data: bytearray, _: Sequence[bytes]) -> None:
    first, second = sorted((_place(rng, data), _place(rng, data)))
    length = rng.choice((1, 4, 16, 512))
    data[first : first + length], data[second : second + length] = (
        data[second : second + length],
        data[first : first + length],
    )


_CHANGES: tuple[Callable[[Random, bytearray, Sequence[bytes]], None], ...] = (
    *(_flip, _flip, _set, _set, _number, _number, _digits),
    *(_insert, _delete, _truncate, _splice, _repeat, _swap),
)


def odd_text(rng: Random) -> str:
    """A text that nobody expects."""
    kind = rng.randrange(12)
    if kind == 0:
        return rng.choice("a/-\\0é☃{[(%\"'") * rng.choice((1, 100, _LONG))
    if kind == 1:
        return "".join(chr(rng.choice((rng.randrange(128), rng.randrange(0x110000)))) for _ in range(rng.randrange(30)))
    return rng.choice(
        (
            "",
            "\0",
            "\ud800",
            "..",
            "../x",
            "/etc/passwd",
            "nan",
            "-1",
            "1e999",
            "%00",
            "\r\n",
            "9" * 5000,
            "\x1b[2J",
            " ",
        )
    )


def odd_value(rng: Random, depth: int = 0) -> Any:
    """A value of JSON that nobody expects."""
    kind = rng.randrange(9)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind == 1:
        return rng.choice((0.5, -0.0, 1e308, float("nan"), float("inf"), 1e-320, 3.0))
    if kind in (2, 3):
        return rng.choice((1, -1)) * rng.choice(ODD_NUMBERS)
    if kind == 4:
        return 10 ** rng.choice((19, 40, 400, 4000))
    if kind == 5 and depth < 3:
        return [odd_value(rng, depth + 1) for _ in range(rng.choice((0, 1, 2, 3, 30)))]
    if kind == 6 and depth < 3:
        return {odd_text(rng): odd_value(rng, depth + 1) for _ in range(rng.randrange(3))}
    return odd_text(rng)


def changed_json(rng: Random, document: Any) -> Any:
    """A document with one to a few values replaced, taken away, repeated or renamed.

    Args:
        rng: What decides.
        document: The document, which stays as it is.

    Returns:
        The other one.
    """
    changed = json.loads(json.dumps(document))
    for _ in range(1 + min(int(rng.expovariate(1.0)), 5)):
        holder, key = _some_place(rng, changed)
        if holder is None:
            changed = odd_value(rng)
            continue
        kind = rng.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            renamed = rng.choice((odd_text(rng), f"{key}s", rng.choice(list(holder))))
            holder[renamed] = holder.pop(key)
        elif kind == 1:
            holder.insert(key, holder[key])
        elif kind == 2 and type(holder[key]) is int:
            holder[key] += rng.choice((-1, 1))
        else:
            holder[key] = odd_value(rng)
    return changed


def _some_place(rng: Random, document: Any) -> tuple[Any, Any]:
    holder, key, inner = None, None, document
    while isinstance(inner, dict | list) and inner and (holder is None or rng.random() < 0.7):
        holder = inner
        key = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
        inner = holder[key]
    return holder, key

"""GIF, as far as its first image needs it."""

from __future__ import annotations

__all__ = ["without_disposal"]

_SCREEN_BYTES = 13
_HAS_PALETTE = 128
_EXTENSION, _CONTROL = 0x21, 0xF9
_IMAGE, _END = 0x2C, 0x3B
_DISPOSAL_BITS, _FROM = 0b00011100, 0b00001000


def without_disposal(data: bytes | memoryview) -> bytes | memoryview:
    """A GIF that does not say what becomes of the first image when the next one is shown.

    For what should become of it, Pillow takes the memory of a second image as soon as it opens the file, before anybody
    can look at the size. The first image stays the same.

    Args:
        data: The file.

    Returns:
        The file itself where it says nothing of the kind, else a changed copy.
    """
    places = _places(data)
    if not places:
        return data
    changed = bytearray(data)
    for place in places:
        changed[place] &= ~_DISPOSAL_BITS
    return bytes(changed)


def _places(data: bytes | memoryview) -> list[int]:
    """Where a disposal is said that needs a copy of the image, before the first image."""
    found: list[int] = []
    try:
        at = _SCREEN_BYTES + (3 << (data[10] & 7) + 1 if data[10] & _HAS_PALETTE else 0)
        while (block := data[at]) not in (_IMAGE, _END):
            at += 1
            if block != _EXTENSION:
                continue
            if data[at] == _CONTROL and data[at + 1] and data[at + 2] & _DISPOSAL_BITS >= _FROM:
                found.append(at + 2)
            at += 1
            while length := data[at]:
                at += 1 + length
            at += 1
    except IndexError:
        pass  # it is cut, which Pillow tells
    return found

"""Class labels as WebDataset keeps them: the number in decimal digits, in a member ``.cls``."""

from __future__ import annotations

import re

from shardkit.errors import CodecError

__all__ = ["decode_class", "encode_class"]

_NUMBER = re.compile(rb"(?:0|-?[1-9][0-9]{0,18})")
_MIN, _MAX = -(2**63), 2**63 - 1


def encode_class(label: int) -> bytes:
    """Write a class label.

    Args:
        label: The class, an int64.

    Returns:
        Its decimal digits in ASCII.

    Raises:
        CodecError: It does not fit int64.
    """
    if not _MIN <= label <= _MAX:
        raise CodecError(f"the class label {label} does not fit int64")
    return b"%d" % label


def decode_class(data: bytes | memoryview) -> int:
    """Read a class label.

    Args:
        data: Decimal digits in ASCII: no sign but a minus, no leading zero; a line end behind them is allowed, as
            text editors leave one.

    Returns:
        The class.

    Raises:
        CodecError: It is anything else.
    """
    text = bytes(data)
    digits = text.removesuffix(b"\n").removesuffix(b"\r")
    if _NUMBER.fullmatch(digits) and _MIN <= (label := int(digits)) <= _MAX:
        return label
    raise CodecError(f"not a class label: {text[:40]!r}", advice="A label is a whole number in decimal digits")

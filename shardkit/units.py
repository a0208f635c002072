"""What users give: sizes in words, ``"64MiB"`` to bytes and back, numbers, and one of a few values."""

from __future__ import annotations

import math
import operator
import re
from numbers import Real

from shardkit.errors import ConfigError

__all__ = ["MOST_WORKERS", "float_of", "format_bytes", "index_within", "one_of", "parse_bytes", "whole_number"]

MOST_WORKERS = 1024
"""The most threads or processes that may be asked for: more than there are cores, and fewer than end the machine."""

_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
# No more digits than a size can have: what is longer is no size, and too long for a float.
_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)


def parse_bytes(text: str, *, setting: str) -> int:
    """A size in bytes.

    Args:
        text: A number with a unit: ``"2MB"`` is 2,000,000 bytes, ``"64MiB"`` is 64 * 2**20. The ``B`` may be left out.
        setting: The setting's name, for messages.

    Returns:
        The size, at least 1.

    Raises:
        ConfigError: It is not a size, or less than one byte.
    """
    found = _SIZE.fullmatch(text)
    size = round(float(found[1]) * _UNITS[(found[2] or "").lower()]) if found else 0
    if size < 1:
        raise ConfigError(
            f"{setting} must be a size of at least one byte",
            setting=setting,
            value=text,
            advice="Write it like 64MiB or 2MB",
        )
    return size


def whole_number(name: str, value: object, least: int, most: int | None = None) -> None:
    """Refuse a setting that is not a whole number, or out of bounds.

    Args:
        name: The setting's name.
        value: What was given.
        least: The least it may be.
        most: The most it may be; no limit without it.

    Raises:
        ConfigError: It is something else.
    """
    if type(value) is not int or value < least or (most is not None and value > most):
        rule = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ConfigError(f"{name} must be a whole number, {rule}", setting=name, value=value)


def float_of(value: object) -> float:
    """A number of any kind, numpy's too, as a float that compares as false with everything where it is none.

    Args:
        value: What was given.

    Returns:
        The float; NaN for what is no number, for ``True`` and ``False``, and for what is too large for a float.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except Exception:  # noqa: BLE001 (a user's own class may raise anything)
        return math.nan


def index_within(name: str, value: object, least: int, most: int) -> int:
    """A whole number of any kind, numpy's too, that has to be within bounds.

    Args:
        name: The setting's name.
        value: What was given.
        least: The least it may be.
        most: The most it may be.

    Returns:
        The number.

    Raises:
        ConfigError: It is something else.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 (a user's own class may raise anything)
        number = least - 1
    if not least <= number <= most:
        raise ConfigError(f"{name} must be from {least} to {most}, a whole number", setting=name, value=value)
    return number


def one_of(name: str, value: object, *allowed: object) -> None:
    """Refuse a setting that is none of a few values; anything may be asked about, also what cannot be compared.

    Args:
        name: The setting's name.
        value: What was given.
        allowed: What it may be, two at least. Types count: 1 is not ``True``.

    Raises:
        ConfigError: It is something else.
    """
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        raise ConfigError(
            f"{name} must be {', '.join(map(repr, allowed[:-1]))} or {allowed[-1]!r}", setting=name, value=value
        )


def format_bytes(size: float) -> str:
    """A size as a person reads it: ``"1.4 GB"``, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"

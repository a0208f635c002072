"""Several URLs written as one: ``s3://bucket/part-{000..127}`` and ``{red,green}/photos``."""

from __future__ import annotations

import itertools
import re
from math import prod

from shardkit.errors import ConfigError
from shardkit.redact import redacted

__all__ = ["MOST_URLS", "expand_braces"]

MOST_URLS = 10_000
_MOST_CHARACTERS = 10_000_000  # of all of them
_GROUP = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,12})\.\.(\d{1,12})")


def expand_braces(text: str) -> list[str]:
    """The URLs that one with braces stands for, in order.

    Nothing but braces means anything: no variables, no wildcards, no commands.

    Args:
        text: A URL; ``{a,b}`` and ``{000..127}`` in it are expanded, the last one fastest.

    Returns:
        At least one URL; ``[text]`` without braces.

    Raises:
        ConfigError: It stands for more than `MOST_URLS` or for too long ones, or a range runs backwards.
    """
    parts = _GROUP.split(text)
    ranges = [_RANGE.fullmatch(group) for group in parts[1::2]]
    counts = [
        int(found[2]) - int(found[1]) + 1 if found else group.count(",") + 1
        for found, group in zip(ranges, parts[1::2], strict=True)
    ]
    # Counted before anything is made: a short text can stand for billions.
    what = ""
    if min(counts, default=1) < 1:
        what = "a range runs backwards"
    elif prod(counts) > MOST_URLS:
        what = f"more than {MOST_URLS:,} URLs are meant"
    elif (characters := prod(counts) * len(text)) > _MOST_CHARACTERS:
        what = f"URLs of about {characters:,} characters are meant"
    if what:
        raise ConfigError(f"braces cannot be expanded: {what}", setting="url", value=redacted(text))
    choices = [
        [f"{number:0{len(found[1])}d}" for number in range(int(found[1]), int(found[2]) + 1)]
        if found
        else (group.split(",") if "," in group else [f"{{{group}}}"])
        for found, group in zip(ranges, parts[1::2], strict=True)
    ]
    return [
        "".join(itertools.chain.from_iterable(zip(parts[::2], [*chosen, ""], strict=True)))
        for chosen in itertools.product(*choices)
    ]

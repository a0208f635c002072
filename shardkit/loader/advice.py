"""What a loader's figures say should be changed, and what that would give: computed, never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from shardkit.codecs.scratch import Scratch
from shardkit.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardkit.codecs.image import ImageDecoder
    from shardkit.loader.recorder import Figures

__all__ = ["Advice", "RawForm", "Trial", "advise", "try_resize"]

_ENOUGH_WAIT = 0.03  # below this part of the time, whoever iterates is the limit
_WORTHWHILE = 1.15  # a smaller gain is not worth packing again
_NAMES = {"read": "reading", "verify": "verifying", "decode": "decoding", "augment": "augmentation",
          "assemble": "assembling batches"}  # fmt: skip
_QUALITY = 90
_MAX_RAW_BYTES = 2**14
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Advice:
    """One sentence, and what it is about.

    Attributes:
        text: The sentence.
        change: What to change: an option of `shardkit pack` or a setting of the loader; empty where nothing would help.
        gain: The samples per second it would give, as a multiple of those measured; 1 where nothing would help.
    """

    text: str
    change: str = ""
    gain: float = 1.0

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class RawForm:
    """A sample that is kept decoded.

    Attributes:
        image_size: Its height and width.
        num_bytes: Its bytes.
    """

    image_size: tuple[int, int]
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Trial:
    """What making pictures smaller did to some of them.

    Attributes:
        side: The shorter side they were given, in pixels.
        decode: Their decoding time afterwards, as a part of that before.
        size: Their bytes afterwards, as a part of those before.
    """

    side: int
    decode: float
    size: float


def advise(figures: Figures, cores: int, trial: Trial | None = None, raw: RawForm | None = None) -> Advice:
    """What to change.

    A change takes its part of the working threads' time away and leaves the rest as it was, their waiting too (for the
    first files of an epoch, for its last batch), up to the speed of whoever iterates.

    Args:
        figures: What was measured.
        cores: Cores that this process may use.
        trial: What `try_resize` found, if anything.
        raw: What the samples would be if they were kept raw; ``None`` where that is not possible.

    Returns:
        The advice.
    """
    if not figures.samples or not figures.seconds:
        return Advice("nothing was measured yet: iterate over the loader first")
    waited = figures.waited / figures.seconds
    if waited < _ENOUGH_WAIT:
        return Advice(
            f"whoever iterates is the limit: it waited for data {waited:.1%} of the time, and a faster loader would "
            "change nothing"
        )
    stage = max(figures.stages, key=lambda name: figures.stages[name])
    # Batches made ahead, and not handed out yet, are work too.
    part = min(figures.busy / (figures.threads * figures.seconds), 1.0)
    threads = f"{figures.threads} thread{'s' if figures.threads > 1 else ''}"
    limit = f"{_NAMES[stage]} is the limit: {threads} at {part:.0%}"
    best = max(_changes(figures, cores, trial, raw), key=lambda change: change.gain, default=None)
    if best is None or best.gain < _WORTHWHILE:
        return Advice(f"{limit}; {_nothing(stage, figures)}")
    return Advice(f"{limit}; {best.text} {best.gain:.2g} x", best.change, best.gain)


def _changes(figures: Figures, cores: int, trial: Trial | None, raw: RawForm | None) -> list[Advice]:
    """Each possible change, with what it would give."""
    stages, spent = figures.stages, max(figures.threads * figures.seconds, figures.busy)
    most = figures.seconds / max(figures.seconds - figures.waited, 1e-9)
    found = []
    if figures.threads < cores:
        change = f"threads={cores}"
        found.append(Advice(f"{change} would give about", change, min(cores / figures.threads, most)))
    if trial is not None:
        saved = stages["decode"] * (1 - trial.decode) + (stages["read"] + stages["verify"]) * (1 - trial.size)
        change = f"--resize {trial.side}"
        gain = min(spent / (spent - saved), most)
        found.append(Advice(f"packing with `{change}` would give about", change, gain))
    if raw is not None and raw.num_bytes <= _MAX_RAW_BYTES:
        change = "--store raw --image-size {} {}".format(*raw.image_size)
        # Raw samples are read and put together at less cost, too, but how much less was not measured.
        gain = min(spent / max(spent - stages["decode"], 1e-9), most)
        found.append(Advice(f"packing with `{change}` would give at least", change, gain))
    return found


def _nothing(stage: str, figures: Figures) -> str:
    if stage == "read":
        return f"the disk gave {figures.bytes_read / figures.seconds / 1e6:.0f} MB/s, and a faster one is what helps"
    if stage == "augment":
        return "cheaper transforms, or more cores, are what helps"
    return "it is at what these pictures and cores allow"


def try_resize(pictures: Sequence[bytes], decoder: ImageDecoder, side: int) -> Trial | None:
    """Make some pictures smaller, as ``shardkit pack --resize`` does, and time their decoding before and after.

    Args:
        pictures: Encoded pictures of the data set.
        decoder: What the loader decodes with.
        side: The shorter side to try, in pixels.

    Returns:
        What came of it; ``None`` without pictures.
    """
    from shardkit.codecs.header import read_header
    from shardkit.codecs.shrink import shrink

    before, after = [], []
    # Each into memory of its own, as in a batch: writing to the same again would be faster than it is in use.
    rows, scratch = np.empty((len(pictures), *decoder.shape), decoder.dtype), Scratch()
    for picture in pictures:
        try:
            shrunk = shrink(picture, read_header(picture, decoder.limits), side, _QUALITY, decoder.limits)
            decoder.decode_into(picture, rows[0], scratch=scratch)
        except CodecError:
            continue
        before.append(picture)
        after.append(picture if shrunk is None else shrunk[0])
    if not before or before == after:
        return None

    def decoding_seconds(pictures: Sequence[bytes]) -> float:
        started = perf_counter()
        for picture, out in zip(pictures, rows, strict=False):
            decoder.decode_into(picture, out, scratch=scratch)
        return perf_counter() - started

    seconds = [[decoding_seconds(some) for some in (before, after)] for _ in range(_ROUNDS)]
    long, short = (min(times) for times in zip(*seconds, strict=True))
    return Trial(side, short / long, sum(map(len, after)) / sum(map(len, before)))

"""Where a loader's time goes, and what follows from that."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from shardkit.loader.advice import Advice, RawForm, advise, try_resize
from shardkit.loader.recorder import Figures, Recorder
from shardkit.machine import usable_cores
from shardkit.units import format_bytes

if TYPE_CHECKING:
    from shardkit.codecs.image import ImageDecoder

__all__ = ["Stats", "make_stats"]

# Pictures are packed an eighth or so larger than they are used, as is usual: 256 for 224.
_RESIZE_MARGIN = 8 / 7
_RESIZE_STEP = 8


@dataclass(frozen=True, kw_only=True)
class Stats(Figures):
    """What a loader did, how long it took, and what to change. Prints as a small table.

    Attributes:
        advice: The one change that would give most, computed from the figures.
    """

    advice: Advice

    def __str__(self) -> str:
        """A small table, and the advice."""
        parts, threads = self.occupancy, "1 thread" if self.threads == 1 else f"{self.threads} threads"
        rate, waited = f"{self.samples_per_second:,.0f} a second", self.waited / self.seconds if self.seconds else 0.0
        lines = [
            f"{self.samples:,} samples in {self.seconds:.1f} s: {rate}; {format_bytes(self.bytes_read)} read",
            f"waited for data {self.waited:.1f} s, {waited:.0%} of the time",
            "",
            f"{'stage':<10}{'thread seconds':>16}{'us a sample':>14}{'of ' + threads:>14}",
        ]
        idle = parts["wait"] * self.threads * self.seconds
        for stage, seconds in {**self.stages, "wait": idle}.items():
            each = 1e6 * seconds / self.samples if self.samples else 0.0
            lines.append(f"{stage:<10}{seconds:>16.2f}{each:>14.1f}{parts[stage]:>14.1%}")
        return "\n".join([*lines, "", str(self.advice)])


def make_stats(recorder: Recorder, threads: int, decoder: ImageDecoder | None, raw: RawForm | None) -> Stats:
    """The figures so far, and what follows from them.

    Args:
        recorder: What was measured.
        threads: Working threads.
        decoder: What pictures are decoded with; ``None`` where there is nothing to decode.
        raw: What the samples would be if they were kept raw; ``None`` where that is not possible.

    Returns:
        The figures with advice.
    """
    figures = recorder.figures(threads)
    trial = None
    if decoder is not None and figures.stages["decode"] > figures.busy / 2:
        side = round(min(decoder.image_size) * _RESIZE_MARGIN / _RESIZE_STEP) * _RESIZE_STEP
        trial = try_resize(list(recorder.pictures), decoder, max(side, 1))
    values = {field.name: getattr(figures, field.name) for field in fields(Figures)}
    # Without decoding, more threads would only wait for each other.
    cores = threads if decoder is None else usable_cores()
    return Stats(**values, advice=advise(figures, cores, trial, raw))

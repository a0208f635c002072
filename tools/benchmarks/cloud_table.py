"""What was measured of loading from a bucket, as Markdown and as a plot."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.cloud_rows import AT_ONCE, CLOUD_ROWS
from benchmarks.table import MOST_OTHERS, Results, calm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.cloud_rows import CloudRow

__all__ = ["CloudResults", "bars", "markdown", "plot", "proxy_lines"]

_COLUMNS = {
    "decoded": (
        "", "images/s, median (range)", "of local files", "of local files, but for the server's CPU", "MB/s",
        "first batch, s (range)", "first epoch, s (range)", "requests an image", "kB an image", "CPU, us an image",
        "the server's", "memory, MB",
    ),
    "encoded": (
        "", "images/s, median (range)", *(f"of the bare loop, {at_once}" for at_once in AT_ONCE), "MB/s",
        "first batch, s (range)", "requests an image", "kB an image", "CPU, us an image", "the server's", "memory, MB",
    ),
}  # fmt: skip
_ROWS = {row.name: row for row in CLOUD_ROWS}
_LEAST_OF_LOCAL, _LEAST_OF_BARE, _MOST_FIRST_S = 0.9, 0.9, 1.0


@dataclass(kw_only=True)
class CloudResults:
    """Measurements by latency in ms. Local files are read again for each, so that what is compared is close in time.

    Attributes:
        by_latency: Speeds.
        counted: What went over the network in one whole first epoch of each row.
        through: The bare loop through the proxy without latency.
    """

    by_latency: dict[int, Results] = field(default_factory=dict)
    counted: dict[str, dict[str, int]] = field(default_factory=dict)
    through: Results = field(default_factory=Results)

    def of_local(self, latency: int, row: CloudRow, *, set_aside: bool) -> float | None:
        """The rate over that of local files, in the rounds that were calm for both, or in all.

        Args:
            latency: In ms.
            row: The row.
            set_aside: Whether to divide each rate by the processor time that the server left.
        """
        rounds = self.by_latency[latency].warm
        pairs = list(zip(rounds.get(row.name, ()), rounds.get("local", ()), strict=False))
        undisturbed = [pair for pair in pairs if max(found["others"] for found in pair) <= MOST_OTHERS] or pairs
        ratios = [_rate(one, set_aside) / _rate(other, set_aside) for one, other in undisturbed]
        return median(ratios) if ratios else None


def _rate(found: dict[str, Any], set_aside: bool) -> float:
    """Images a second; or those that all cores would make at this pace, if the server took none of them."""
    cores = len(os.sched_getaffinity(0))
    left = cores - found["rate"] * found["servers_cpu_s"]
    return float(found["rate"] * (cores / left if set_aside else 1))


def markdown(results: CloudResults) -> Iterator[str]:
    """The lines of the tables."""
    for latency, found in results.by_latency.items():
        for content, headings in _COLUMNS.items():
            rows = [row for row in CLOUD_ROWS if row.name in {*found.warm, *found.errors} and row.content == content]
            if not rows:
                continue
            what = "Decoded to 224x224" if content == "decoded" else "Encoded samples, not decoded"
            yield from ("", f"### {what}, {latency} ms more for each request", "")
            yield from (f"| {' | '.join(headings)} |", "|---|" + "---:|" * (len(headings) - 1))
            for row in rows:
                yield f"| {' | '.join(_cells(results, latency, row))} |"


def _cells(results: CloudResults, latency: int, row: CloudRow) -> Iterator[str]:
    found = results.by_latency[latency]
    rates = found.values(row, "rate")
    yield row.title
    if not rates:
        yield f"not there: {found.errors.get(row.name, 'not measured')}".replace("|", "/")
        yield from ("",) * (len(_COLUMNS[row.content]) - 2)
        return
    yield f"{median(rates):,.0f} ({min(rates):,.0f} - {max(rates):,.0f})"
    if row.content == "decoded":
        ratios = [results.of_local(latency, row, set_aside=set_aside) for set_aside in (False, True)]
    else:
        ratios = [found.ratio(row, _ROWS[f"bare-{at_once}"]) for at_once in AT_ONCE]
    yield from ("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
    counted = results.counted.get(row.name)
    requests, num_bytes = (
        (counted[name] / counted["num_samples"] for name in ("requests", "reply_bytes")) if counted else (None, None)
    )
    yield "" if num_bytes is None else f"{median(rates) * num_bytes / 1e6:,.0f}"
    is_bare = row.peer == "bare_ranges"
    yield "" if is_bare else _with_range(found.values(row, "first_s"))
    if row.content == "decoded":
        yield _with_range(found.values(row, "epoch_s"), 1)
    yield "" if requests is None else f"{requests:.4f}"
    yield "" if num_bytes is None else f"{num_bytes / 1e3:.1f}"
    for name in ("cpu_s", "servers_cpu_s"):
        yield f"{median(found.values(row, name)) * 1e6:,.0f}"
    yield f"{median(found.values(row, 'pss_peak_bytes')) / 1e6:,.0f}"


def _with_range(values: list[float], places: int = 2) -> str:
    middle, least, most = (f"{value:.{places}f}" for value in (median(values), min(values), max(values)))
    return f"{middle} ({least} - {most})"


def bars(results: CloudResults) -> Iterator[str]:
    """What is asked of shardkit, and what was reached, as a list."""
    bucket, encoded = _ROWS["bucket"], _ROWS["encoded-bucket"]
    for latency, found in results.by_latency.items():
        plain, aside = (results.of_local(latency, bucket, set_aside=set_aside) for set_aside in (False, True))
        if plain is not None:
            yield (
                f"- decoded, {latency} ms: {plain:.2f} x the rate of local files, {aside:.2f} x with the server's "
                f"processor time set aside (asked: {_LEAST_OF_LOCAL:g} x)"
            )
        if (ratio := found.ratio(bucket, _ROWS["bare-decode"])) is not None:
            yield f"- decoded, {latency} ms: {ratio:.2f} x the rate of the bare loop that decodes too"
        for at_once in AT_ONCE:
            ratio = found.ratio(encoded, _ROWS[f"bare-{at_once}"])
            if ratio is not None:
                yield (
                    f"- encoded, {latency} ms: {ratio:.2f} x the rate of the bare loop with {at_once} requests at once "
                    f"(asked: {_LEAST_OF_BARE:g} x)"
                )
        if (ratio := found.ratio(encoded, _ROWS["bare-shuffle"])) is not None:
            yield f"- encoded, {latency} ms: {ratio:.2f} x the rate of the bare loop that shuffles too"
        if first := found.values(bucket, "first_s"):
            asked = f" (asked: {_MOST_FIRST_S:g} s)" if latency == 100 else ""
            yield f"- first batch, {latency} ms: after {median(first):.2f} s{asked}"


def proxy_lines(results: CloudResults) -> Iterator[str]:
    """What the proxy lets through, so that it is seen whether it limits what stands behind it."""
    direct = results.by_latency.get(0, Results())
    for at_once in AT_ONCE:
        row = _ROWS[f"bare-{at_once}"]
        through = calm(results.through.warm.get(row.name, []))
        counted = results.counted.get(row.name)
        if not through or not counted:
            continue
        mb = counted["reply_bytes"] / counted["num_samples"] / 1e6
        rates = [f"{median(found['rate'] for found in through) * mb:,.0f} MB/s"]
        if direct.values(row, "rate"):
            rates.append(f"{median(direct.values(row, 'rate')) * mb:,.0f} MB/s straight from the server")
        cpu = [f"{median(found[name] for found in through) / mb * 1e3:.2f}" for name in ("servers_cpu_s", "cpu_s")]
        yield (
            f"- the bare loop with {at_once} requests at once, through the proxy without latency: {', '.join(rates)}; "
            f"server and proxy took {cpu[0]}, the loop {cpu[1]} seconds of processor time a GB"
        )


def plot(results: CloudResults, path: Path) -> None:
    """The rates as bars, one panel for decoded and one for encoded samples, a bar for each latency."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    panels = []
    for content in ("decoded", "encoded"):
        rows = [
            row for row in CLOUD_ROWS[::-1]
            if row.content == content and any(found.values(row, "rate") for found in results.by_latency.values())
        ]  # fmt: skip
        if rows:
            panels.append((content, rows))
    if not panels:
        return
    num_bars = len(results.by_latency)
    heights = [len(rows) + 1.0 for _, rows in panels]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(9, 0.25 * num_bars * sum(heights)), height_ratios=heights, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, (content, rows) in zip(axes[:, 0], panels, strict=True):
        for number, (latency, found) in enumerate(results.by_latency.items()):
            known = [(place, found.values(row, "rate")) for place, row in enumerate(rows) if found.values(row, "rate")]
            middles = [median(values) for _, values in known]
            spread = [
                [middle - min(values) for middle, (_, values) in zip(middles, known, strict=True)],
                [max(values) - middle for middle, (_, values) in zip(middles, known, strict=True)],
            ]
            places = [place - (number - (num_bars - 1) / 2) * 0.8 / num_bars for place, _ in known]
            axis.barh(
                places, middles, height=0.75 / num_bars, xerr=spread, color=_SHADES[number % len(_SHADES)],
                error_kw={"lw": 1, "capsize": 2}, label=f"{latency} ms",
            )  # fmt: skip
        axis.set_yticks(range(len(rows)), [row.title.replace("*", "") for row in rows])
        axis.set_title(
            "Decoded to 224x224" if content == "decoded" else "Encoded, not decoded", loc="left", fontsize=10
        )
        axis.tick_params(labelsize=8)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(title="more for each request", fontsize=8, title_fontsize=8)
    axes[-1, 0].set_xlabel("images/s, median; the line is the range")
    figure.savefig(path, dpi=120)
    plt.close(figure)


_SHADES = ("#c8501e", "#e39a6f", "#4878a8", "#999999")

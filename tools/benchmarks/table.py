"""What was measured, as Markdown and as a plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from benchmarks.rows import Row

__all__ = ["MOST_OTHERS", "Results", "bars", "calm", "markdown", "plot"]

# Of the processor time of the machine, taken by other processes: a run with more is disturbed.
MOST_OTHERS = 0.08

_HEADINGS = {
    ("decoded", "antialiased"): "Decoded to 224x224, antialiased resize",
    ("decoded", "aliasing"): "Decoded to 224x224, plain (aliasing) bilinear resize",
    ("raw", "none"): "Small raw samples, 28x28",
    ("encoded", "none"): "Encoded samples, not decoded",
}
_COLUMNS = (
    "", "decoded by", "images/s, median (range)", "of the bare loop", "of the best peer", "first batch, s",
    "CPU, us an image", "memory, MB", "cold disk: images/s", "cold disk: first batch, s", "imports, s",
)  # fmt: skip


@dataclass(kw_only=True)
class Results:
    """Measurements by row name: a list with one for each round. A row that failed once is left out from there on.

    Attributes:
        warm: With the data set in the page cache.
        cold: With the data set on the disk only.
        errors: Why a row is not there.
    """

    warm: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    cold: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def values(self, row: Row, name: str, *, cold: bool = False) -> list[float]:
        """What was measured of a row, over its calm rounds."""
        rounds = (self.cold if cold else self.warm).get(row.name, [])
        return [found[name] for found in calm(rounds)]

    def ratio(self, row: Row, other: Row | None) -> float | None:
        """The median over the rounds of a row's rate to another's; of the medians where no round was calm for both."""
        if other is None or not self.values(row, "rate") or not self.values(other, "rate"):
            return None
        pairs = list(zip(self.warm[row.name], self.warm[other.name], strict=False))
        found = [a["rate"] / b["rate"] for a, b in pairs if max(a["others"], b["others"]) <= MOST_OTHERS]
        return median(found) if found else median(self.values(row, "rate")) / median(self.values(other, "rate"))

    def measured(self) -> list[Row]:
        """The rows that were asked for."""
        return [row for row in ROWS if row.name in self.warm or row.name in self.errors]

    def best(self, rows: Iterable[Row]) -> Row | None:
        """The fastest peer of some rows."""
        found = [row for row in rows if row.is_peer and self.values(row, "rate")]
        return max(found, key=lambda row: median(self.values(row, "rate")), default=None)


def calm(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rounds in which other processes took little of the machine; all, where there is no such round."""
    return [found for found in rounds if found["others"] <= MOST_OTHERS] or rounds


def markdown(results: Results) -> Iterator[str]:
    """The lines of the tables."""
    rows = results.measured()
    for (content, resize), heading in _HEADINGS.items():
        mine = [row for row in rows if (row.content, row.resize) == (content, resize)]
        if not mine:
            continue
        yield from ("", f"### {heading}", "", f"| {' | '.join(_COLUMNS)} |", "|---|---|" + "---:|" * 9)
        bare, best = next((row for row in mine if row.peer == "bare"), None), results.best(mine)
        for row in sorted(mine, key=lambda row: -median(results.values(row, "rate") or [0])):
            yield f"| {' | '.join(_cells(results, row, bare, best))} |"


def bars(results: Results) -> Iterator[str]:
    """What is asked of shardkit, and what was reached, as a list."""
    by_name = {row.name: row for row in results.measured()}
    same = [row for row in by_name.values() if row.functions == "shardkit"]
    for suffix, what in (("", "antialiased"), ("-aliasing", "aliasing")):
        mine, bare = by_name.get(f"shardkit{suffix}"), by_name.get(f"bare{suffix}")
        if mine is not None:
            peer = results.best(row for row in same if row.resize == mine.resize)
            yield from _bar(results, mine, bare, 0.95, f"of the bare loop ({what})")
            yield from _bar(results, mine, peer, 1.3, f"of the best peer given the same functions ({what})")
    own = [row for row in by_name.values() if row.functions == "own"]
    for name, bar, content, peers in (
        ("shardkit-aliasing", 1.5, "decoded", ""),
        ("shardkit-raw", 15, "raw", "tfrecord"),
        ("shardkit-encoded", 10, "encoded", "webdataset"),
    ):
        if name in by_name:
            peer = results.best(row for row in own if row.content == content and row.peer.startswith(peers))
            yield from _bar(results, by_name[name], peer, bar, "of the best peer in its own way")
    for row in by_name.values():
        is_loader = row.peer == "shardkit_" and row.content == "decoded" and not row.variant
        if is_loader and (first := results.values(row, "first_s")):
            yield f"- {row.name}: first batch after {median(first):.2f} s (asked: 0.5 s)"


def _bar(results: Results, row: Row, other: Row | None, bar: float, what: str) -> Iterator[str]:
    found = results.ratio(row, other)
    if found is not None and other is not None:
        yield f"- {row.name}: {found:.2f} x the rate {what}, {other.name} (asked: {bar:g} x)"


def _cells(results: Results, row: Row, bare: Row | None, best: Row | None) -> Iterator[str]:
    yield row.title
    yield _decoder(row)
    rates = results.values(row, "rate")
    if not rates:
        yield f"not there: {results.errors.get(row.name, 'not measured')}".replace("|", "/")
        yield from ("",) * 8
        return
    yield f"{median(rates):,.0f} ({min(rates):,.0f} - {max(rates):,.0f})"
    for other in (bare, best):
        ratio = results.ratio(row, other)
        yield "" if ratio is None else f"{ratio:.2f}"
    is_bare = row.peer == "bare"
    yield "" if is_bare else f"{median(results.values(row, 'first_s')):.2f}"
    yield f"{median(results.values(row, 'cpu_s')) * 1e6:,.0f}"
    yield "" if is_bare else f"{median(results.values(row, 'pss_peak_bytes')) / 1e6:,.0f}"
    cold = results.values(row, "rate", cold=True)
    yield f"{median(cold):,.0f}" if cold else ""
    yield f"{median(results.values(row, 'first_s', cold=True)):.2f}" if cold else ""
    yield f"{median(results.values(row, 'import_s')):.1f}"


def _decoder(row: Row) -> str:
    if row.content != "decoded":
        return ""
    if row.functions == "shardkit":
        return "shardkit's functions"
    return "TensorFlow" if row.peer in ("tfrecord", "keras_directory") else "Pillow"


def plot(results: Results, path: Path) -> None:
    """The rates as bars, one panel a table, with the range as a line and the bare loop as a rule."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    groups = []
    for key, heading in _HEADINGS.items():
        mine = [row for row in results.measured() if (row.content, row.resize) == key and results.values(row, "rate")]
        if mine:
            groups.append((heading, sorted(mine, key=lambda row: median(results.values(row, "rate")))))
    if not groups:
        return
    heights = [len(rows) + 1.5 for _, rows in groups]
    figure, axes = plt.subplots(
        len(groups), 1, figsize=(9, 0.32 * sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axis, (heading, rows) in zip(axes[:, 0], groups, strict=True):
        middles = [median(results.values(row, "rate")) for row in rows]
        spread = [
            [middle - min(results.values(row, "rate")) for row, middle in zip(rows, middles, strict=True)],
            [max(results.values(row, "rate")) - middle for row, middle in zip(rows, middles, strict=True)],
        ]
        colors = [{"bare": "#999999", "shardkit_": "#c8501e"}.get(row.peer, "#4878a8") for row in rows]
        labels = [", ".join(filter(None, (row.title.replace("*", ""), _decoder(row)))) for row in rows]
        axis.barh(labels, middles, color=colors, xerr=spread, error_kw={"lw": 1, "capsize": 2})
        for row, middle in zip(rows, middles, strict=True):
            if row.peer == "bare":
                axis.axvline(middle, color="#999999", lw=1, ls="--")
        axis.bar_label(axis.containers[-1], fmt="{:,.0f}", padding=6, fontsize=8)
        axis.set_title(heading, loc="left", fontsize=10)
        axis.tick_params(labelsize=8)
        axis.margins(x=0.12)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("images/s, median; the line is the range")
    figure.savefig(path, dpi=120)
    plt.close(figure)

"""Draw the figures of docs/explanation/order.md, from the order itself.

python tools/draw_order.py
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from shardkit.loader.order import EpochOrder, OrderNumbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "figures"
RANK_COLOURS = ("#8ecae6", "#ffb703", "#90be6d")
SMALL = OrderNumbers(
    fingerprint="0123456789abcdef0123456789abcdef",
    num_samples=46,
    batch_size=8,
    drop_remainder=False,
    seed=7,
    shuffled=True,
    chunk_samples=4,
    lanes=4,
    span=4,
    first_span=2,
)
# The defaults where a sample has 110 kB: chunks of 2 MB, a buffer of 256 MB.
DEFAULT = replace(SMALL, num_samples=1_000_000, batch_size=256, chunk_samples=18, lanes=16, span=127, first_span=16)


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def strip(axes: Axes, chunks: NDArray[np.int64], y: float, name: str, cuts: list[int]) -> None:
    """A row of samples, each a square with its chunk's number and colour, and some cuts."""
    colours = mpl.colormaps["viridis"](np.linspace(0.15, 1, int(chunks.max()) + 1))
    for x, chunk in enumerate(chunks):
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colours[chunk], edgecolor="white", linewidth=0.6))
        ink = "white" if chunk < len(colours) // 2 else "black"
        axes.text(x + 0.5, y + 0.47, str(chunk), ha="center", va="center", fontsize=6.5, color=ink)
    for cut in cuts:
        axes.plot([cut, cut], [y - 0.2, y + 1.2], color="black", linewidth=1.6)
    axes.text(-0.7, y + 0.5, name, ha="right", va="center", fontsize=8)


def draw_tape(figure_of: OrderNumbers) -> Figure:
    """Shards, tape and epoch of a small data set, one under the other."""
    order, count, length = EpochOrder(figure_of, 0), figure_of.num_samples, figure_of.chunk_samples
    figure, (axes,) = new_figure(8, 1.9)
    places = np.arange(count)
    share, longer = divmod(count, figure_of.lanes)
    lane_cuts = [lane * share + min(lane, longer) for lane in range(figure_of.lanes + 1)]
    batch_cuts = [*range(0, count, figure_of.batch_size), count]
    strip(axes, places // length, 4, "shards", [0, 16, 32, count])
    strip(axes, order.samples_on_tape(places) // length, 2, "tape, cut into lanes", lane_cuts)
    strip(axes, order.samples_at(places) // length, 0, "epoch, cut into batches", batch_cuts)
    axes.set(xlim=(-9, count + 0.2), ylim=(-0.3, 5.3))
    axes.axis("off")
    return figure


def draw_lanes(figure_of: OrderNumbers) -> Figure:
    """Which position of the epoch each lane gives, and which rank takes it."""
    figure, panels = new_figure(8, 2.2, 2)
    for axes, world_size in zip(panels, (2, 3), strict=True):
        for position in range(32):
            offset, lane = divmod(position, figure_of.lanes)
            colour = RANK_COLOURS[position % world_size]
            axes.add_patch(Rectangle((offset, lane), 1, 1, facecolor=colour, edgecolor="white"))
            axes.text(offset + 0.5, lane + 0.5, str(position), ha="center", va="center", fontsize=7.5)
        for batch in range(5):
            axes.plot([2 * batch] * 2, [-0.15, 4.15], color="black", linewidth=1.6)
        shared = "a lane belongs to one rank" if world_size == 2 else "all ranks read every lane"
        axes.set_title(f"{world_size} ranks, 4 lanes: {shared}", fontsize=8.5)
        axes.set(xlim=(-0.1, 8.1), ylim=(4.2, -0.2), xticks=[])
        axes.set_yticks(np.arange(4) + 0.5, [f"lane {lane}" for lane in range(4)], fontsize=8)
        names = [f"rank {rank}" for rank in range(world_size)]
        handles = [Patch(color=colour) for colour in RANK_COLOURS[:world_size]]
        axes.legend(handles, names, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 0.02), fontsize=8, frameon=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def draw_jitter(figure_of: OrderNumbers) -> Figure:
    """When each place of one lane comes, for a small and a large span."""
    figure, panels = new_figure(7, 3.1, 2)
    count = 240
    for axes, span in zip(panels, (12, 72), strict=True):
        lane = replace(figure_of, num_samples=count, chunk_samples=count, lanes=1, span=span, first_span=4)
        offsets = np.arange(count)
        axes.fill_between(offsets, offsets - span, offsets + span, color="#dddddd", label="at most the span away")
        axes.plot(offsets, EpochOrder(lane, 0).samples_at(offsets), ".", markersize=3, color="#1d4e89")
        axes.set(xlim=(0, count), ylim=(0, count))
        axes.set_title(f"span {span}", fontsize=9)
        plain(axes, "offset: when it comes", "place in the lane")
        axes.legend(fontsize=7, loc="upper left", frameon=False)
    return figure


def draw_start(figure_of: OrderNumbers) -> Figure:
    """How many chunks an epoch needs for its first samples, with a small and a full first span."""
    figure, (axes,) = new_figure(5.5, 2.8)
    count, epochs = 2048, 20
    for first_span, name in ((figure_of.span, "full span from the start"), (figure_of.first_span, "first span 16")):
        numbers, begun = replace(figure_of, first_span=first_span), np.zeros(count)
        for epoch in range(epochs):
            chunks = EpochOrder(numbers, epoch).samples_at(np.arange(count)) // numbers.chunk_samples
            new = np.zeros(count)
            new[np.unique(chunks, return_index=True)[1]] = 1
            begun += np.cumsum(new) / epochs
        axes.plot(np.arange(1, count + 1), begun, label=f"{name}: {begun[255]:.0f} chunks for the first batch")
        axes.plot(256, begun[255], "o", color=axes.lines[-1].get_color())
    axes.axvline(256, color="#999999", linewidth=0.8, linestyle="--")
    axes.set(xlim=(0, count), ylim=(0, 190))
    plain(axes, "samples handed out (dashed: the first batch of 256)", "chunks read")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def plain(axes: Axes, x: str, y: str) -> None:
    """Small labels, no frame above and to the right."""
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw all figures; the same files each time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (default docs/explanation/figures)")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "tape": draw_tape(SMALL),
        "lanes": draw_lanes(SMALL),
        "jitter": draw_jitter(SMALL),
        "start": draw_start(DEFAULT),
    }
    settings: dict[Any, Any] = {"svg.hashsalt": "shardkit", "svg.fonttype": "none"}
    with mpl.rc_context(settings):
        for name, figure in figures.items():
            figure.savefig(folder / f"order-{name}.svg", metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main()

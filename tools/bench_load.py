"""How fast do shardkit and the others load the same pictures on this machine? Writes Markdown tables and a plot.

    tools/bench_load                          # everything; makes what environments it needs
    python tools/bench_load.py --quick        # in this Python, which has shardkit[demo]

Every measurement is a process of its own, one at a time; rounds are interleaved, so that what else the machine does
falls on all rows alike, and ratios are medians over the ratios of each round. `docs/explanation/speed.md` says what the
columns mean. Results go to load.md, load.png and load.json in build/bench.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import modes
from benchmarks.processes import ROOT, Bench, RowError, say
from benchmarks.rows import ROWS
from benchmarks.table import MOST_OTHERS, Results, bars, markdown, plot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.rows import Row

_QUICK_PICTURES, _QUICK_SECONDS = 1_100, 0.5
_MODES = ("resume", "memory", "small_shards", "device", "adapters", "short_fits")


def prepare(bench: Bench, rows: list[Row]) -> Results:
    """Make environments and data, so that nothing is written while something is measured."""
    results = Results()
    for row in rows:
        try:
            bench.prepared(row)
        except RowError as exc:
            say(f"{row.name}: {exc}")
            results.errors[row.name] = str(exc)
    return results


def compare(bench: Bench, rows: list[Row], repeats: int, cold_repeats: int) -> Results:
    """Measure the rows, round by round."""
    results = prepare(bench, rows)
    for number in range(repeats + cold_repeats):
        cold = number >= repeats
        # Each other round goes backwards, so that no row always follows the same one.
        for row in rows if number % 2 == 0 else rows[::-1]:
            if row.name in results.errors or (cold and (row.content != "decoded" or row.peer == "bare")):
                continue
            options = ("--epochs", "1") if cold else ()
            try:
                found = bench.run_calm(row, cold=cold, options=options)
            except RowError as exc:
                say(f"{row.name}: {exc}")
                results.errors[row.name] = str(exc)
                continue
            (results.cold if cold else results.warm).setdefault(row.name, []).append(found)
            say(
                f"round {number + 1} of {repeats + cold_repeats}{', cold' if cold else ''}: {row.name} "
                f"{found['rate']:,.0f}/s, first batch {found['first_s']:.2f} s, imports {found['import_s']:.1f} s, "
                f"{found['pss_peak_bytes'] / 1e6:,.0f} MB, others {found['others']:.0%}"
            )
    return results


def machine() -> str:
    """The machine, in a line."""
    info = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{len(os.sched_getaffinity(0))} cores ({models[0] if models else platform.machine()}), {memory:.0f} GB, "
        f"Python {platform.python_version()}"
    )


def report(bench: Bench, results: Results, repeats: int) -> Iterator[str]:
    """The lines of load.md."""
    measured = {found["versions"] for rounds in results.warm.values() for found in rounds}
    yield "## Loading pictures"
    yield ""
    yield (
        f"{machine()}. {bench.counts['photos']:,} photographs of about 461x411, {bench.counts['digits']:,} digits; "
        f"batches of 256, shuffled; {repeats} rounds."
    )
    yield f"Versions: {', '.join(sorted(measured))}."
    others = [found["others"] for rounds in results.warm.values() for found in rounds]
    if others:
        yield (
            f"Other processes took {median(others):.1%} of the processor time (median of the runs). "
            f"{sum(share > MOST_OTHERS for share in others)} of {len(others)} runs, with more than {MOST_OTHERS:.0%}, "
            "count only where a row has no calmer one."
        )
    if dropped := {found["cold"] for rounds in results.cold.values() for found in rounds}:
        yield f"For the cold runs the page cache was dropped by: {'; '.join(sorted(dropped))}."
    yield from markdown(results)
    yield from ("", "### Asked and reached", "", *bars(results))


def chosen(names: str | None, default: tuple[Row, ...]) -> list[Row]:
    """The rows of a list of names.

    Raises:
        SystemExit: There is no such row.
    """
    if names is None:
        return list(default)
    by_name = {row.name: row for row in ROWS}
    if unknown := [name for name in names.split(",") if name not in by_name]:
        raise SystemExit(f"no such row: {', '.join(unknown)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names.split(",")]


def _help(mode: str) -> str:
    # argparse takes a percent sign for the beginning of a value.
    return str(getattr(modes, mode).__doc__).replace("%", "%%")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=6_000, help="photographs (default 6000; 32470 are 1.4 GB)")
    parser.add_argument("--digits", type=int, default=60_000, help="small pictures (default 60000)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--cold-repeats", type=int, default=1, help="rounds with a cold page cache (default 1)")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured in each run (default 5)")
    parser.add_argument("--tries", type=int, default=3, help="for a run that others disturb (default 3)")
    parser.add_argument("--only", help="rows, separated by commas")
    parser.add_argument("--prepare", action="store_true", help="only make the environments and the data")
    parser.add_argument("--quick", action="store_true", help="a smoke test: few pictures, one round")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="for data and results")
    for name in _MODES:
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=_help(name))
    options = parser.parse_args()
    if options.quick:
        options.pictures = options.digits = _QUICK_PICTURES
        options.repeats = options.cold_repeats = options.tries = 1
        options.seconds = _QUICK_SECONDS
    return options


def main() -> None:
    """Measure and write."""
    options = parse()
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        folder=options.folder.resolve(),
        counts={"photos": options.pictures, "digits": options.digits},
        seconds=options.seconds,
        tries=options.tries,
    )
    if options.prepare:
        prepare(bench, chosen(options.only, ROWS))
        return
    for name in _MODES:
        if getattr(options, name):
            mode = getattr(modes, name)
            rows = chosen(options.only, tuple(row for row in ROWS if row.name in modes.DEFAULT_ROWS[name]))
            text = "\n".join(mode(bench, rows, options.repeats))
            (options.folder / f"{name}.md").write_text(text + "\n")
            print(text)
    if not any(getattr(options, name) for name in _MODES):
        results = compare(bench, chosen(options.only, ROWS), options.repeats, options.cold_repeats)
        text = "\n".join(report(bench, results, options.repeats))
        (options.folder / "load.md").write_text(text + "\n")
        (options.folder / "load.json").write_text(json.dumps(asdict(results), indent=1))
        plot(results, options.folder / "load.png")
        print(text)


if __name__ == "__main__":
    main()

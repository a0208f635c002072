"""How fast do shardkit and the others load the same pictures from a bucket? Writes Markdown tables and a plot.

    tools/bench_cloud                         # everything; makes what environments it needs
    python tools/bench_cloud.py --quick       # in this Python, which has shardkit[demo]

The bucket is SeaweedFS's, on this machine; a proxy makes each request late by a given time. Every measurement is a
process of its own, one at a time; rounds are interleaved, and ratios are taken within a round, as in
`tools/bench_load.py`. `docs/explanation/speed.md` says what the columns mean. Results go to cloud.md, cloud.png and
cloud.json in build/bench. It needs SeaweedFS, which `tools/servers` installs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench_load import machine
from benchmarks.cloud_rows import AT_ONCE, CLOUD_ROWS, CloudRow
from benchmarks.cloud_servers import Bucket, Proxy, as_options, sessions_of_children
from benchmarks.cloud_table import CloudResults, bars, markdown, plot, proxy_lines
from benchmarks.processes import ROOT, Bench, RowError, say
from benchmarks.table import MOST_OTHERS, Results

sys.path.insert(0, str(ROOT / "tests"))
from servers.s3 import seaweedfs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.s3 import SeaweedFS

_QUICK_PICTURES, _QUICK_SECONDS = 1_100, 0.5
_QUICK_ROWS = (
    "local,bare-decode,bucket,cache-empty,cache-full,encoded-local,bare-shuffle,encoded-bucket,webdataset-curl-plain,"
    + ",".join(f"bare-{at_once}" for at_once in AT_ONCE)
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is measured on.

    Attributes:
        decoded: The pictures that are decoded.
        encoded: The pictures that are not.
        bucket: The bucket.
        proxies: One for each latency in ms; one for 0 too, which only counts.
        work: An empty folder.
    """

    decoded: Bench
    encoded: Bench
    bucket: Bucket
    proxies: dict[int, Proxy]
    work: Path

    def bench(self, row: CloudRow) -> Bench:
        """The row's pictures and processes."""
        return self.encoded if row.content == "encoded" else self.decoded

    def name(self, row: CloudRow) -> str:
        """What the row's data set is called in the bucket."""
        return f"{self.bench(row).data('photos').folder.name}-{row.form.rstrip('_')}"

    def folder(self, row: CloudRow) -> Path:
        """Where the row's data set is, or would be, on this machine.

        Raises:
            RowError: It cannot be made.
        """
        return self.bench(row).prepared(row) if not row.is_remote or row.form != "shardkit_" else self.work

    def prepare(self, row: CloudRow) -> None:
        """Bring the row's data set into the bucket, and what it needs into its cache.

        Raises:
            RowError: That failed.
        """
        folder = self.folder(row)
        if not row.is_remote:
            return
        if row.form == "shardkit_":
            self.bucket.pack(self.bench(row).data("photos"), self.name(row))
        elif row.form == "mosaic":
            self.bucket.upload(folder / "bytes", f"{self.name(row)}/bytes")
        else:
            self.bucket.upload(folder, self.name(row))
        if row.cache == "full":
            self.bench(row).run(row, "epoch", folder=folder, options=self.options(row, None))

    def options(self, row: CloudRow, port: int | None) -> tuple[str, ...]:
        """The arguments that say where the row's data set is."""
        whole = ("--whole-epochs",) if row.content == "encoded" else ()
        if not row.is_remote:
            return whole
        cache = self.work / f"cache-{row.name}" if row.cache else None
        found = as_options(self.bucket.remote(self.name(row), port, cache), sessions_of_children())
        return (*found, *whole, *(("--empty-cache",) if row.cache == "empty" else ()))

    def speed(self, row: CloudRow, port: int | None, results: Results) -> None:
        """Measure a row once; a row that failed before is left out."""
        if row.name in results.errors:
            return
        try:
            options = self.options(row, port)
            task = "speed" if row.content == "encoded" else "epoch"
            found = self.bench(row).run_calm(row, task, folder=self.folder(row), options=options)
        except RowError as exc:
            say(f"{row.name}: {exc}")
            results.errors[row.name] = str(exc)
            return
        results.warm.setdefault(row.name, []).append(found)
        say(
            f"  {row.name}: {found['rate']:,.0f}/s, first batch {found['first_s']:.2f} s, "
            f"{found['pss_peak_bytes'] / 1e6:,.0f} MB, others {found['others']:.0%}"
        )

    def count(self, row: CloudRow, results: CloudResults) -> None:
        """Count what one whole epoch takes from the network."""
        found, proxy = results.by_latency[0], self.proxies[0]
        if not row.is_remote or row.name in found.errors:
            return
        proxy.passed()
        try:
            options = self.options(row, proxy.port)
            epoch = self.bench(row).run(row, "epoch", folder=self.folder(row), options=options)
        except RowError as exc:
            found.errors[row.name] = str(exc)
            return
        results.counted[row.name] = {"num_samples": epoch["num_samples"], **proxy.passed()}


def compare(comparison: Comparison, rows: list[CloudRow], repeats: int) -> Iterator[CloudResults]:
    """Measure the rows, round by round: what is known after each part of a round."""
    results = CloudResults(by_latency={latency: Results() for latency in comparison.proxies})
    for row in rows:
        try:
            comparison.prepare(row)
        except RowError as exc:
            say(f"{row.name}: {exc}")
            for found in results.by_latency.values():
                found.errors[row.name] = str(exc)
    for number in range(repeats):
        # Each other round goes backwards, so that no row always follows the same one.
        order = slice(None, None, 1 if number % 2 == 0 else -1)
        for latency in list(comparison.proxies)[order]:
            say(f"round {number + 1} of {repeats}, {latency} ms")
            proxy = comparison.proxies[latency]
            for row in rows[order]:
                comparison.speed(row, proxy.port if latency else None, results.by_latency[latency])
                if row.variant.isdecimal() and not latency:
                    comparison.speed(row, proxy.port, results.through)
                if number == 0 and not latency:
                    comparison.count(row, results)
            yield results


def report(comparison: Comparison, results: CloudResults, repeats: int) -> Iterator[str]:
    """The lines of cloud.md."""
    rounds = [
        found
        for at_latency in results.by_latency.values()
        for of_row in at_latency.warm.values()
        for found in of_row
    ]  # fmt: skip
    yield from ("## Loading pictures from a bucket", "")
    yield (
        f"{machine()}. {comparison.decoded.counts['photos']:,} photographs of about 461x411, "
        f"{comparison.encoded.counts['photos']:,} of them where nothing is decoded; batches of 256, shuffled; "
        f"{repeats} rounds. SeaweedFS on the same machine, whose cores it shares."
    )
    yield f"Versions: {', '.join(sorted({found['versions'] for found in rounds}))}."
    others = [found["others"] for found in rounds]
    if others:
        yield (
            f"Processes other than the loader's, the server's and the proxy's took {median(others):.1%} of the "
            f"processor time (median of the runs); in {sum(share > MOST_OTHERS for share in others)} of {len(others)} "
            f"runs more than {MOST_OTHERS:.0%}: these count only where a row has no calmer one."
        )
    yield from markdown(results)
    yield from ("", "### Asked and reached", "", *bars(results))
    yield from ("", "### The proxy", "", *proxy_lines(results))


def chosen(names: str | None) -> list[CloudRow]:
    """The rows of a list of names; all of them without one.

    Raises:
        SystemExit: There is no such row.
    """
    by_name = {row.name: row for row in CLOUD_ROWS}
    wanted = list(by_name) if names is None else names.split(",")
    if unknown := [name for name in wanted if name not in by_name]:
        raise SystemExit(f"no such row: {', '.join(unknown)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in wanted]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=32_000, help="photographs that are decoded (default 32000)")
    parser.add_argument("--encoded", type=int, default=32_000, help="those that are not (default 32000)")
    parser.add_argument("--latencies", default="0,20,100", help="ms that each request is late (default 0,20,100)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default 3)")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="measured in each run that decodes nothing, at least (default 5)"
    )
    parser.add_argument("--tries", type=int, default=3, help="for a run that others disturb (default 3)")
    parser.add_argument("--only", help="rows, separated by commas")
    parser.add_argument("--quick", action="store_true", help="a smoke test: few pictures, one round")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "bench", help="for data and results")
    options = parser.parse_args()
    options.folder = options.folder.resolve()  # servers run in another one
    if options.quick:
        options.pictures = options.encoded = _QUICK_PICTURES
        options.repeats = options.tries = 1
        options.seconds = _QUICK_SECONDS
        options.latencies = "0,20"
        options.only = options.only or _QUICK_ROWS
    return options


def measure(options: argparse.Namespace, server: SeaweedFS, work: Path) -> None:
    """Measure what the command line asks for, and write down what is known so far."""
    rows = chosen(options.only)
    latencies = sorted({0, *map(int, options.latencies.split(","))})
    benches = {
        count: Bench(folder=options.folder, counts={"photos": count}, seconds=options.seconds, tries=options.tries)
        for count in (options.pictures, options.encoded)
    }
    with ExitStack() as stack:
        comparison = Comparison(
            decoded=benches[options.pictures],
            encoded=benches[options.encoded],
            bucket=Bucket(server=server),
            proxies={ms: stack.enter_context(Proxy(server.port, ms / 1000)) for ms in latencies},
            work=work,
        )
        for results in compare(comparison, rows, options.repeats):
            text = "\n".join(report(comparison, results, options.repeats))
            (options.folder / "cloud.md").write_text(text + "\n")
            (options.folder / "cloud.json").write_text(json.dumps(asdict(results), indent=1))
            plot(results, options.folder / "cloud.png")


def main() -> None:
    """Measure and write."""
    options = parse()
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        for part in ("server", "work"):
            Path(name, part).mkdir()
        with seaweedfs(Path(name, "server")) as server:
            measure(options, server, Path(name, "work"))
    print((options.folder / "cloud.md").read_text(), end="")


if __name__ == "__main__":
    main()

"""The further questions: resuming, memory over epochs, very many shards, a fast device, adapters, short fits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median
from typing import TYPE_CHECKING, Any

import shardkit
from benchmarks.pairs import WAYS
from benchmarks.processes import ROOT, RowError, say
from benchmarks.settings import BATCH_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.processes import Bench
    from benchmarks.rows import Row

__all__ = ["DEFAULT_ROWS", "adapters", "device", "memory", "resume", "short_fits", "small_shards"]

DEFAULT_ROWS = {
    "resume": (
        "shardkit", "webdataset-same", "grain-same", "mosaic-same", "litdata-same", "tfrecord",
        "keras", "pillow",
    ),
    "memory": ("shardkit",),
    "small_shards": ("shardkit",),
    "device": ("shardkit", "shardkit-aliasing"),
    "adapters": ("shardkit",),
    "short_fits": ("shardkit",),
}  # fmt: skip

_EPOCHS = 20
_SMALL_SHARDS = 10_000
_STEP_TIMES = 1.15
_DEVICE_SECONDS = 20
_SHORT_FITS = 200


def resume(bench: Bench, rows: list[Row], repeats: int) -> Iterator[str]:
    """First batch at the start of an epoch and at 90 % of it."""
    yield from ("### Resuming", "", "| | first batch, s (range) | at 90 % of an epoch, s (range) |", "|---|---:|---:|")
    starts: dict[str, tuple[list[float], list[float]]] = {row.name: ([], []) for row in rows}
    errors = {}
    for _ in range(repeats):
        for row in rows:
            for found, start in zip(starts[row.name], ("0", "0.9"), strict=True):
                try:
                    found.append(bench.run(row, "first", options=("--start", start))["first_s"])
                    say(f"{row.name} from {start}: {found[-1]:.2f} s")
                except RowError as exc:
                    errors[row.name] = str(exc)
                    say(f"{row.name}: {exc}")
    for row in rows:
        cells = [_median(found) or f"not there: {errors[row.name]}" for found in starts[row.name]]
        yield f"| {row.title} | {' | '.join(cells)} |"


def memory(bench: Bench, rows: list[Row], repeats: int) -> Iterator[str]:  # noqa: ARG001
    """Most memory in each of 20 epochs."""
    yield from ("### Memory over epochs", "", "| | MB in epochs 1, 2, ... |", "|---|---|")
    for row in rows:
        found = bench.run(row, "memory", options=("--epochs", str(_EPOCHS)))["pss_bytes"]
        yield f"| {row.title} | {', '.join(f'{value / 1e6:.0f}' for value in found)} |"


def small_shards(bench: Bench, rows: list[Row], repeats: int) -> Iterator[str]:
    """First batch, resume and memory with 10,000 small shards of digits, beside the same digits in few shards."""
    row = rows[0]
    data = bench.data("digits")
    samples = bench.counts["digits"]
    yield "### Ten thousand small shards"
    yield ""
    yield "| shards | first batch, s (range) | at 90 % of an epoch, s (range) | memory, MB |"
    yield "|---:|---:|---:|---:|"
    for length in (None, max(1, samples // _SMALL_SHARDS)):
        folder = bench.folder / f"{data.folder.name}-shards-of-{length or 'any'}"
        say(f"packing {folder.name} ...")
        packed = shardkit.pack(data.folder, folder, shard_samples=length, progress=False)
        firsts: dict[str, list[float]] = {"0": [], "0.9": []}
        peaks = []
        options = ("--variant", "digits", "--num-samples", str(samples))
        for _ in range(repeats):
            for start, found in firsts.items():
                found.append(bench.run(row, "first", folder=folder, options=(*options, "--start", start))["first_s"])
            peaks.append(bench.run(row, "speed", folder=folder, options=options)["pss_peak_bytes"])
        cells = [_median(found) for found in firsts.values()]
        num_shards = sum(info.num_shards for info in packed.manifest.splits.values())
        yield f"| {num_shards} | {' | '.join(cells)} | {median(peaks) / 1e6:.0f} |"


def device(bench: Bench, rows: list[Row], repeats: int) -> Iterator[str]:
    """Share of time that a train step of 1.15 times the loader's batch time waits for data."""
    yield from (
        "### Feeding a fast device",
        "",
        "| | images/s | step, ms | waited, % (range) |",
        "|---|---:|---:|---:|",
    )
    for row in rows:
        rates, waited = [], []
        for _ in range(repeats):
            rates.append(bench.run_calm(row)["rate"])
            step_s = _STEP_TIMES * BATCH_SIZE / rates[-1]
            options = ("--step-s", str(step_s), "--seconds", str(max(bench.seconds, _DEVICE_SECONDS * step_s)))
            waited.append(100 * bench.run(row, "device", options=options)["waited"])
            say(f"{row.name}: {rates[-1]:,.0f}/s, waited {waited[-1]:.2f} %")
        step_ms = 1000 * _STEP_TIMES * BATCH_SIZE / median(rates)
        yield f"| {row.name} | {median(rates):,.0f} | {step_ms:.0f} | {_median(waited)} |"


def adapters(bench: Bench, rows: list[Row], repeats: int) -> Iterator[str]:
    """The rates of adapters as parts of that of plain iteration, over interleaved epochs."""
    say("epochs of plain iteration, to_tf and to_keras in turn ...")
    rates = _script("pairs", str(bench.prepared(rows[0])), str(repeats))
    yield "### Adapters"
    yield ""
    yield f"| {repeats} pairs of epochs | images/s, median | of plain iteration, median (range) |"
    yield "|---|---:|---:|"
    for way in WAYS:
        ratios = [mine / plain for mine, plain in zip(rates[way], rates[WAYS[0]], strict=True)]
        yield f"| {way} | {median(rates[way]):,.0f} | {_median(ratios)} |"


def short_fits(bench: Bench, rows: list[Row], repeats: int) -> Iterator[str]:  # noqa: ARG001
    """What fits leave behind that end before their data, beside fits over arrays."""
    folder = str(bench.prepared(rows[0]))
    yield f"### {_SHORT_FITS} short fits"
    yield ""
    yield "| backend | data | MB more in the second half | threads more | files more |"
    yield "|---|---|---:|---:|---:|"
    for backend in ("tensorflow", "jax", "torch"):
        for kind in ("numpy", "shardkit", "one"):
            say(f"{_SHORT_FITS} fits on {backend}, {kind} ...")
            left = _script("short_fits", kind, str(_SHORT_FITS), folder, backend=backend)
            middle, last = left[len(left) // 2 - 1], left[-1]
            grown = [last[name] - middle[name] for name in ("mb", "threads", "files")]
            data = {"numpy": "arrays", "shardkit": "a new to_keras each", "one": "one to_keras"}[kind]
            yield f"| {backend} | {data} | {grown[0]:.1f} | {grown[1]} | {grown[2]} |"


def _script(name: str, *arguments: str, backend: str = "tensorflow") -> Any:
    """What a module of this package prints as JSON, in a process of its own."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    ran = subprocess.run(command, cwd=ROOT / "tools", env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


def _median(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} - {max(values):.2f})" if values else ""

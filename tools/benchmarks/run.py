"""One measurement in a process of its own: `python -m benchmarks.run ROW ...` prints one line of JSON at its end."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import shutil
import time
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmarks.cloud_rows import CLOUD_ROWS
from benchmarks.measure import pss_bytes, throughput, timed_first, waiting, whole_epochs
from benchmarks.photos import Data
from benchmarks.rows import ROWS, Row
from benchmarks.settings import BATCH_SIZE, Peer, Remote, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_DISTRIBUTIONS = {
    "bare": ("numpy", "simplejpeg", "opencv-python-headless"),
    "shardkit_": ("shardkit",),
    "pillow_generator": ("pillow",),
    "keras_directory": ("keras",),
    "tfrecord": ("tensorflow",),
    "webdataset_torch": ("webdataset",),
    "grain_array_record": ("grain", "array_record"),
    "mosaic": ("mosaicml-streaming", "torch"),
    "litdata_": ("litdata", "torch"),
    "bare_ranges": ("obstore",),
    "s3fs_tarfile": ("s3fs",),
}


def main() -> None:
    """Measure, or prepare, as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row", choices=[row.name for row in (*ROWS, *CLOUD_ROWS)])
    parser.add_argument("task", choices=("prepare", "speed", "device", "memory", "first", "epoch"))
    parser.add_argument("--data", type=Path, required=True, help="the folder of class folders")
    parser.add_argument("--folder", type=Path, required=True, help="where the peer's own form is or is to be")
    parser.add_argument("--num-samples", type=int, required=True)
    parser.add_argument("--variant", default=None, help="instead of the row's own")
    parser.add_argument("--start", type=float, default=0.0, help="the part of an epoch to begin behind")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--step-s", type=float, default=0.0)
    parser.add_argument("--whole-epochs", action="store_true", help="measure speed over whole epochs, behind the first")
    parser.add_argument("--empty-cache", action="store_true", help="empty the folder that keeps what was fetched")
    parser.add_argument("--remote", type=json.loads, help="a Remote, as JSON")
    parser.add_argument("--server", type=int, action="append", default=[], help="a session that samples come from")
    options = parser.parse_args()
    row = next(row for row in (*ROWS, *CLOUD_ROWS) if row.name == options.row)
    if options.remote is not None:
        options.remote = Remote(**options.remote)
        os.environ.update(options.remote.environment)
        if options.empty_cache:
            shutil.rmtree(options.remote.cache, ignore_errors=True)
    started = time.perf_counter()
    peer = _import(row)
    imported_s = time.perf_counter() - started
    if options.task == "prepare":
        folder = peer.prepare(Data(folder=options.data, kind=row.kind), options.folder)
        print(json.dumps({"folder": str(folder)}), flush=True)
        return
    print(json.dumps({"import_s": imported_s, "versions": versions(row), **measure(row, peer, options)}), flush=True)


def measure(row: Row, peer: Peer, options: argparse.Namespace) -> dict[str, Any]:
    """What the task asks for, by name."""
    start = int(options.start * (options.num_samples // BATCH_SIZE))
    settings = Settings(
        content=row.content,
        functions=row.functions,
        antialias=row.resize != "aliasing",
        variant=row.variant if options.variant is None else options.variant,
        num_samples=options.num_samples,
        start=start,
        remote=options.remote,
    )
    skip = 0 if peer.RESUMES else start
    first_s, batches, rest = timed_first(lambda: peer.batches(options.folder, settings), skip)
    found: dict[str, Any] = {"first_s": first_s}
    if options.task == "speed":
        if options.whole_epochs:
            for _ in rest:
                pass
            found |= asdict(whole_epochs(repeat(batches), options.seconds, options.server))
        else:
            found |= asdict(throughput(batches, rest, options.seconds, options.epochs, options.server))
    elif options.task == "epoch":
        found |= first_epoch(rest, first_s, options.server)
    elif options.task == "device":
        found["waited"] = waiting(batches, rest, options.seconds, options.step_s)
    elif options.task == "memory":
        found["pss_bytes"] = memory(batches, rest, options.epochs)
    return found


def first_epoch(rest: Iterator[Any], first_s: float, servers: Sequence[int]) -> dict[str, Any]:
    """The speed behind its first batch, seconds from making the loader to its end, and how many samples it had."""
    speed = whole_epochs([rest], 0, servers)
    seconds = first_s + speed.num_samples / speed.rate
    return {**asdict(speed), "epoch_s": seconds, "num_samples": BATCH_SIZE + speed.num_samples}


def memory(batches: Iterable[Any], first_epoch: Iterator[Any], epochs: int) -> list[int]:
    """The most memory seen in each epoch, looked at behind every eighth batch."""
    peaks = []
    for number in range(epochs):
        peaks.append(pss_bytes(os.getsid(0)))
        for step, _ in enumerate(first_epoch if number == 0 else batches):
            if step % 8 == 0:
                peaks[-1] = max(peaks[-1], pss_bytes(os.getsid(0)))
    return peaks


def versions(row: Row) -> str:
    """What the peer is made of, with versions."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _DISTRIBUTIONS[row.peer])


def _import(row: Row) -> Peer:
    """The peer's module, and what its user would have imported beside it."""
    module = importlib.import_module(f"benchmarks.{row.peer}")
    if row.peer == "shardkit_" and row.variant:
        homes = {"keras": "shardkit.adapters.keras.dataset", "tf": "shardkit.adapters.tensorflow"}
        importlib.import_module(homes[row.variant])
    if row.peer not in ("shardkit_", "tfrecord", "keras_directory"):
        importlib.import_module("PIL.Image" if row.functions == "own" else "shardkit.codecs.image")
    return cast("Peer", module)


if __name__ == "__main__":
    main()

"""The process that runs inputs: it may die of one, and then its parent knows of which.

It writes lines of JSON to the file descriptor that it is given, and the number of the input it is at to a file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from fuzzing.measure import Limits, Meter, Used
from fuzzing.target import Target, find_target
from shardkit.errors import ShardkitError

__all__ = ["input_number", "main"]

_EVERY_S = 0.5
_MOST_ADDRESSES = 8 * 2**30  # more than at the start, so that the machine survives
_KILLED_AFTER = 5.0  # times the limit of seconds


def input_number(target: Target, name: str, seed: int, number: int) -> bytes:
    """One of the inputs that a seed gives: the seeds of the target themselves come first."""
    if number < len(target.seeds):
        return target.seeds[number]
    return target.mutant(random.Random(f"{name} {seed} {number}"))


class Worker:
    """Runs inputs and tells what came of them.

    Args:
        name: The target's name.
        limits: What an input may take.
        out: Where lines go.
    """

    def __init__(self, name: str, limits: Limits, out: int) -> None:
        self._name = name
        self._limits = limits
        self._out = out
        self._target = find_target(name)
        self._meter = Meter(limits.seconds * _KILLED_AFTER)
        self._errors: Counter[str] = Counter()
        for data in self._target.seeds:  # what is imported late takes time and memory once
            self._outcome(data)

    def run(self, seed: int, numbers: range, skipped: set[int], progress: int) -> None:
        """Run inputs.

        Args:
            seed: What they are drawn from.
            numbers: Which of them.
            skipped: Not these.
            progress: The file that the number is written to.
        """
        slowest, largest, told = (0.0, -1), (0.0, -1), time.monotonic()
        for number in numbers:
            os.pwrite(progress, b"%-20d" % number, 0)
            if number in skipped:
                continue
            data = input_number(self._target, self._name, seed, number)
            kind, text, used = self._outcome(data)
            if kind is None and not self._fits(used):
                kind, text, used = self._outcome(data)  # once more: it may have been something else's
                if kind is None and not self._fits(used):
                    kind = "too slow" if used.seconds > self._limits.seconds else "too large"
                    text = f"{used.seconds:.1f} s, {used.megabytes:.0f} MB"
            if kind is None and number < len(self._target.seeds) and text:
                kind = f"a seed is refused: {text}"
            if kind is not None:
                self._tell(failure={"number": number, "kind": kind, "text": text, "bytes": data.hex()})
            slowest, largest = max(slowest, (used.seconds, number)), max(largest, (used.megabytes, number))
            if time.monotonic() - told > _EVERY_S:
                self._tell_totals(number + numbers.step, slowest, largest)
                told = time.monotonic()
        self._tell_totals(numbers.stop, slowest, largest)

    def run_one(self, data: bytes) -> None:
        """Run one input, and tell what came of it."""
        kind, text, used = self._outcome(data)
        if kind is None and not self._fits(used):
            kind = "too slow or too large"
        print(f"{kind or 'as it should be'}: {text or 'it is taken'} ({used.seconds:.3f} s, {used.megabytes:.1f} MB)")
        sys.exit(kind is not None)

    def _fits(self, used: Used) -> bool:
        return used.seconds <= self._limits.seconds and used.megabytes <= self._limits.megabytes

    def _outcome(self, data: bytes) -> tuple[str | None, str, Used]:
        """The kind of a failure or ``None``, what was said, and what it took."""
        kind, text = None, ""

        def call() -> None:
            nonlocal kind, text
            try:
                self._target.parse(data)
            except ShardkitError as exc:
                text = f"{type(exc).__name__}: {exc}"
                self._errors[type(exc).__name__] += 1
            except KeyboardInterrupt:
                raise
            except BaseException as exc:  # noqa: BLE001 (a panic of Rust's is no Exception)
                kind, text = _kind_of(exc), "".join(traceback.format_exception(exc))[-3000:]
            else:
                self._errors["taken"] += 1

        used = self._meter.measured(call)
        return kind, text, used

    def _tell_totals(self, following: int, slowest: tuple[float, int], largest: tuple[float, int]) -> None:
        self._tell(following=following, errors=dict(self._errors), slowest=slowest, largest=largest)
        self._errors.clear()

    def _tell(self, **what: Any) -> None:
        os.write(self._out, (json.dumps(what) + "\n").encode())


def _kind_of(exc: BaseException) -> str:
    """A failure's kind: its class, and the last place of ours that it went through."""
    frames = traceback.extract_tb(exc.__traceback__)
    ours = [frame for frame in frames if "/shardkit/" in frame.filename.replace(os.sep, "/")] or frames
    where = f" in {Path(ours[-1].filename).name}, {ours[-1].name}" if ours else ""
    what = f": {exc}" if isinstance(exc, AssertionError) else ""
    return f"{type(exc).__name__}{where}{what}"


def main() -> None:
    """Run what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--numbers", type=int, nargs=3, default=(0, 0, 1))
    parser.add_argument("--skip", type=int, nargs="*", default=())
    parser.add_argument("--limits", type=float, nargs=2, default=(1.0, 100.0))
    parser.add_argument("--progress", type=Path)
    parser.add_argument("--out", type=int, default=1)
    parser.add_argument("--input", type=Path, help="run the bytes of this file only")
    parser.add_argument("--save", type=Path, nargs="?", help="write the first of the inputs to this file, and run none")
    found = parser.parse_args()
    warnings.simplefilter("ignore")
    if found.save is not None:
        found.save.write_bytes(input_number(find_target(found.name), found.name, found.seed, found.numbers[0]))
        return
    worker = Worker(found.name, Limits(*found.limits), found.out)
    with open("/proc/self/statm", encoding="ascii") as statm:
        addresses = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (addresses + _MOST_ADDRESSES,) * 2)
    if found.input is not None:
        worker.run_one(found.input.read_bytes())
        return
    with found.progress.open("r+b", buffering=0) as progress:
        worker.run(found.seed, range(*found.numbers), set(found.skip), progress.fileno())


if __name__ == "__main__":
    main()

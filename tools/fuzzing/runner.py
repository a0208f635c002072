"""From a target's name and a seed to what came of many inputs, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fuzzing.measure import Limits

__all__ = ["Failure", "Result", "Run"]

_TOOLS = Path(__file__).resolve().parents[1]
_KEPT = 5  # inputs of one kind of failure
_MOST_DEATHS = 200
_MALLOC = {
    # What is freed is given back, so that the next input's memory is seen.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 20),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that did what none may do.

    Attributes:
        kind: What, in a few words.
        text: More of it, such as a traceback.
        path: The file that holds the input.
    """

    kind: str
    text: str
    path: Path


@dataclass(slots=True)
class Result:
    """What came of the inputs so far.

    Attributes:
        count: How many there were.
        errors: How many the parser refused, by the error's class, and how many it took (``taken``).
        failures: Some of each kind.
        kinds: How many of each kind.
        slowest: The most seconds of CPU time that one took, and its number.
        largest: The most megabytes, and the input's number.
        seconds: How long it all took.
    """

    count: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    largest: tuple[float, int] = (0.0, -1)
    seconds: float = 0.0


@dataclass
class Run:
    """Inputs for one target.

    Attributes:
        name: The target's name.
        seed: What the inputs are drawn from.
        count: How many of them.
        limits: What each may take.
        folder: Where those that fail are written to.
        processes: How many run them.
    """

    name: str
    seed: int
    count: int
    limits: Limits
    folder: Path
    processes: int = 1
    result: Result = field(default_factory=Result)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def __call__(self) -> Result:
        """Run them all.

        Raises:
            RuntimeError: A process cannot be started, or too many died.
        """
        begun = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        problems: list[RuntimeError] = []

        def work(first: int) -> None:
            try:
                self._work(first)
            except RuntimeError as exc:
                problems.append(exc)

        threads = [threading.Thread(target=work, args=(first,)) for first in range(self.processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if problems:
            raise problems[0]
        self.result.count = self.count
        self.result.seconds = time.monotonic() - begun
        return self.result

    def _work(self, first: int) -> None:
        """One process after another, each from where the one before it died."""
        following, skipped = first, list[int]()
        progress = self.folder / f"{self.name}-{self.seed}-process{first}.at"
        log = progress.with_suffix(".log")
        while following < self.count:
            progress.write_bytes(b"%-20d" % -1)
            process = _Process(self, following, skipped, progress, log)
            for told in process.lines():
                following = self._take(told, following)
            if process.status == 0:
                break
            died_at = int(progress.read_bytes())
            if process.status > 0 or died_at < 0 or died_at in skipped or len(skipped) > _MOST_DEATHS:
                raise RuntimeError(f"{self.name}: {process.end()}\n{log.read_text(errors='replace')[-3000:]}")
            skipped.append(died_at)
            path = self._path(died_at)
            self._start(path_of_save=path, numbers=(died_at, died_at + 1, 1)).wait()
            self._add(Failure(process.end(), log.read_text(errors="replace")[-3000:], path))
        progress.unlink(missing_ok=True)
        log.unlink(missing_ok=True)

    def _take(self, told: dict[str, Any], following: int) -> int:
        failure = told.get("failure")
        if failure is not None:
            path = self._path(failure["number"])
            if self.result.kinds[failure["kind"]] < _KEPT:
                path.write_bytes(bytes.fromhex(failure["bytes"]))
            self._add(Failure(failure["kind"], failure["text"], path))
            return following
        with self._lock:
            result = self.result
            result.errors.update(told["errors"])
            result.slowest = max(result.slowest, tuple(told["slowest"]))
            result.largest = max(result.largest, tuple(told["largest"]))
        return int(told["following"])

    def _add(self, failure: Failure) -> None:
        with self._lock:
            self.result.kinds[failure.kind] += 1
            if self.result.kinds[failure.kind] <= _KEPT:
                self.result.failures.append(failure)

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.name}-{self.seed}-{number}.bin"

    def _start(
        self, *, numbers: tuple[int, int, int], path_of_save: Path | None = None, more: tuple[str, ...] = (), **how: Any
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-X", "faulthandler", "-m", "fuzzing.worker", self.name]
        command += ["--seed", str(self.seed), "--numbers", *map(str, numbers), *more]
        if path_of_save is not None:
            command += ["--save", str(path_of_save)]
        paths = [str(_TOOLS), str(_TOOLS.parent), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, **_MALLOC, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, **how)


class _Process:
    """A process that runs inputs, and what it tells."""

    def __init__(self, run: Run, following: int, skipped: list[int], progress: Path, log: Path) -> None:
        reading, writing = os.pipe()
        limits = (str(run.limits.seconds), str(run.limits.megabytes))
        more = ("--limits", *limits, "--progress", str(progress), "--out", str(writing), "--skip", *map(str, skipped))
        numbers = (following, run.count, run.processes)
        self._reading = reading
        try:
            with log.open("wb") as out:
                self._process = run._start(numbers=numbers, more=more, stdout=out, stderr=out, pass_fds=(writing,))  # noqa: SLF001
        finally:
            os.close(writing)

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it tells, until it ends."""
        with os.fdopen(self._reading, "rb") as reading:
            for line in reading:
                if line.endswith(b"\n"):
                    yield json.loads(line)
        self._process.wait()

    @property
    def status(self) -> int:
        """Its exit status."""
        return int(self._process.returncode)

    def end(self) -> str:
        """How it ended, in words."""
        return f"the process died of signal {-self.status}" if self.status < 0 else f"it ended with {self.status}"

"""Environments, data and the processes that measure, one at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import PeakMemory, drop_page_cache, read_all
from benchmarks.photos import Data, make_data
from benchmarks.table import MOST_OTHERS

if TYPE_CHECKING:
    from benchmarks.photos import Kind
    from benchmarks.rows import Environment, Row

__all__ = ["Bench", "RowError", "say"]

ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 1800

# Versions are pinned where a newer one may need other settings. The second list is installed without what it asks for:
# clouds' clients, and torchvision, which has no build for the CPU-only torch.
_ENVIRONMENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "bench-torch": (
        ("torch==2.13.0", "transformers<5", "boto3", "lightning-utilities", "tifffile", "obstore", "requests",
         "catalogue", "zstd", "Brotli", "python-snappy", "matplotlib", "-e", "."),
        ("mosaicml-streaming==0.13.0", "litdata==0.2.76"),
    ),
    # Of its own: it wants an older botocore than boto3's newest.
    "bench-s3fs": (("s3fs==2026.9.0", "-e", "."), ()),
    "bench-grain": (("grain==0.2.18", "array_record==0.8.6", "-e", "."), ()),
}  # fmt: skip


class RowError(Exception):
    """A row could not be measured; the text says why."""


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


@dataclass(kw_only=True)
class Bench:
    """What has been made ready so far.

    Attributes:
        folder: Where data sets and results go.
        counts: How many pictures of each kind.
        seconds: How long to measure.
        tries: How often to measure, at most, while other processes take much of the machine.
    """

    folder: Path
    counts: dict[Kind, int]
    seconds: float
    tries: int
    _data: dict[Kind, Data] = field(default_factory=dict)
    _pythons: dict[Environment, str] = field(default_factory=dict)
    _broken: dict[str, RowError] = field(default_factory=dict)

    def data(self, kind: Kind) -> Data:
        """The pictures, made on first use."""
        if kind not in self._data:
            say(f"{self.counts[kind]} {kind} ...")
            self._data[kind] = make_data(kind, self.folder, self.counts[kind])
        return self._data[kind]

    def prepared(self, row: Row) -> Path:
        """The pictures in the row's own form, made on first use.

        Raises:
            RowError: They cannot be made.
        """
        data = self.data(row.kind)
        folder = self.folder / f"{data.folder.name}-{row.peer.rstrip('_')}"
        stamp = folder / "prepared.json"
        if folder.name in self._broken:
            raise self._broken[folder.name]
        if not stamp.exists():
            say(f"preparing {folder.name} ...")
            place = folder / "data"
            subprocess.run(["rm", "-rf", folder], check=True)
            place.mkdir(parents=True)
            try:
                found, _ = self._process(row, "prepare", ["--data", str(data.folder), "--folder", str(place)])
            except RowError as exc:
                self._broken[folder.name] = exc
                raise
            stamp.write_text(json.dumps(found))
        return Path(json.loads(stamp.read_text())["folder"])

    def run(
        self, row: Row, task: str, *, cold: bool = False, folder: Path | None = None, options: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """One measurement in a new process.

        Args:
            row: The row.
            task: What to measure.
            cold: Whether the data set is to be read from the disk; it is in the page cache otherwise.
            folder: The data set, where it is not the row's usual one.
            options: More arguments of `benchmarks.run`.

        Returns:
            What was measured, by name.

        Raises:
            RowError: It failed.
        """
        folder = folder or self.prepared(row)
        how = ""
        if cold:
            how = drop_page_cache(folder)
        else:
            read_all(folder)
        arguments = ["--data", str(self.data(row.kind).folder), "--folder", str(folder)]
        found, peak = self._process(row, task, [*arguments, "--seconds", str(self.seconds), *options])
        return {**found, "pss_peak_bytes": peak, "cold": how}

    def run_calm(
        self,
        row: Row,
        task: str = "speed",
        *,
        cold: bool = False,
        folder: Path | None = None,
        options: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """A measurement of speed; where other processes took much of the machine meanwhile, the calmest of a few.

        Args:
            row: The row.
            task: ``"speed"``, or ``"epoch"``, which has the first epoch's.
            cold: Whether the data set is to be read from the disk.
            folder: The data set, where it is not the row's usual one.
            options: More arguments of `benchmarks.run`.

        Returns:
            What was measured, by name.

        Raises:
            RowError: It failed.
        """
        found = self.run(row, task, cold=cold, folder=folder, options=options)
        for _ in range(self.tries - 1):
            if found["others"] <= MOST_OTHERS:
                break
            say(f"{row.name}: others took {found['others']:.0%} of the processor time: once more")
            again = self.run(row, task, cold=cold, folder=folder, options=options)
            found = min(found, again, key=lambda one: float(one["others"]))
        return found

    def _process(self, row: Row, task: str, arguments: list[str]) -> tuple[dict[str, Any], int]:
        command = [self._python(row.environment), "-m", "benchmarks.run", row.name, task, *arguments]
        if "--num-samples" not in arguments:
            command += ["--num-samples", str(self.counts[row.kind])]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tools"), "TF_CPP_MIN_LOG_LEVEL": "2"},
        )  # fmt: skip
        with PeakMemory(process.pid) as memory:
            try:
                output, errors = process.communicate(timeout=_TIMEOUT_S)
            except subprocess.TimeoutExpired as exc:
                raise RowError(f"took longer than {_TIMEOUT_S} s") from exc
            finally:
                _end(process)
        result = output.strip().splitlines()[-1:]
        if process.returncode and result and result[0].startswith("{"):
            # An interpreter that ends within an epoch may be aborted by threads still at work; all is measured
            say(f"{row.name}: measured, then ended with status {process.returncode}")
        elif process.returncode:
            lines = [line for line in errors.splitlines() if line.strip()] or ["no output"]
            last = [line for line in lines if line[0].isalpha() and "Error" in line.split(":")[0]][-1:] or lines[-1:]
            raise RowError(last[0][:300])
        return json.loads(result[0]), memory.num_bytes

    def _python(self, name: Environment) -> str:
        if name not in self._pythons:
            self._pythons[name] = sys.executable if name == "here" else _make_environment(name)
        return self._pythons[name]


def _make_environment(name: str) -> str:
    """The Python of an environment of the tool's own.

    Raises:
        RowError: It cannot be made.
    """
    python = f"build/env/{name}/bin/python"
    wanted, alone = _ENVIRONMENTS[name]
    script = f'set -e; . tools/environment.sh; make_environment {name} "$@" >&2'
    commands = [["bash", "-c", script, "bash", *wanted]]
    if alone:
        commands.append([python, "-m", "pip", "install", "--quiet", "--no-deps", *alone])
    for command in commands:
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()[-1:]
            raise RowError(f"environment {name}: {' '.join(lines)[:300]}")
    return str(ROOT / python)


def _end(process: subprocess.Popen[str]) -> None:
    """Worker processes that outlive their parent would be measured with the next row."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()

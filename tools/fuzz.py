"""Does a parser of shardkit take any bytes without anything but its own errors, quickly and in little memory?

    tools/fuzz tar --count 100000           one target; --seed for other inputs
    tools/fuzz all --count 1000             all of them
    tools/fuzz tar --input FILE             one input again, such as one that failed

An input fails if anything but a `ShardkitError` comes out of the parser, if what the parser makes of it contradicts
itself, if the process dies, or if it takes more CPU time or memory than the limits. It is written to build/fuzz.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fuzzing.measure import Limits
from fuzzing.runner import Run
from fuzzing.target import TARGETS

if TYPE_CHECKING:
    from fuzzing.runner import Result

_ROOT = Path(__file__).resolve().parents[1]


def said(name: str, seed: int, result: Result) -> str:
    """A result as a person reads it."""
    errors = ", ".join(f"{kind} {count:,}" for kind, count in result.errors.most_common())
    rate = result.count / max(result.seconds, 1e-9)
    lines = [f"{name}: {result.count:,} inputs of seed {seed} in {result.seconds:.0f} s ({rate:,.0f}/s): {errors}"]
    slowest, largest = (f"{most:.3f} {{}} (input {at})" for most, at in (result.slowest, result.largest))
    failures = sum(result.kinds.values())
    lines.append(f"  slowest {slowest.format('s')}, largest {largest.format('MB')}, {failures:,} failures")
    for kind, count in result.kinds.most_common():
        first = min(
            (failure for failure in result.failures if failure.kind == kind), key=lambda one: one.path.stat().st_size
        )
        lines.append(f"  {count:,} times: {kind}")
        lines += [f"      {line}" for line in first.text.rstrip().splitlines()[-4:]]
        lines.append(f"    again: tools/fuzz {name} --input {os.path.relpath(first.path, _ROOT)}")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line says; the exit status is 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*TARGETS, "all"])
    parser.add_argument("--count", type=int, default=10_000, help="inputs")
    parser.add_argument("--seed", type=int, default=0, help="what they are drawn from")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU time that an input may take")
    parser.add_argument("--megabytes", type=float, default=100.0, help="memory that an input may take")
    parser.add_argument("--folder", type=Path, default=_ROOT / "build" / "fuzz", help="where inputs that fail go")
    parser.add_argument("--input", type=Path, help="run the bytes of this file only")
    found = parser.parse_args()
    limits = Limits(found.seconds, found.megabytes)
    if found.input is not None:
        command = [
            sys.executable,
            "-X",
            "faulthandler",
            "-m",
            "fuzzing.worker",
            found.name,
            "--input",
            str(found.input),
        ]
        command += ["--limits", str(limits.seconds), str(limits.megabytes)]
        paths = [str(_ROOT / "tools"), str(_ROOT)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        status = subprocess.run(command, env=environment, check=False).returncode
        if status < 0:
            print(f"the process died of signal {-status}: of 27 where it took five times the limit of CPU time")
        sys.exit(status != 0)
    failed = False
    for name in TARGETS if found.name == "all" else (found.name,):
        result = Run(name, found.seed, found.count, limits, found.folder, found.processes)()
        print(said(name, found.seed, result), flush=True)
        failed = failed or bool(result.kinds)
    sys.exit(failed)


if __name__ == "__main__":
    main()

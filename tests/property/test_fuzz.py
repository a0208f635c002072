"""Whatever bytes a parser is given, it ends with a right result or an error of ours, soon and in little memory.

The same inputs each time, and limits ten times as wide as those that are promised; `tools/fuzz` runs more of them.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing.measure import Limits, Meter
from fuzzing.mutate import MOST_BYTES
from fuzzing.runner import Run
from fuzzing.target import TARGETS, find_target
from fuzzing.worker import input_number

FUZZ = Path(__file__).resolve().parents[2] / "tools" / "fuzz.py"
LIMITS = Limits().wider(10)
# About as many as an idle core does in five seconds.
COUNTS = {
    "tar": 5000,
    "manifest": 6000,
    "shard-table": 1000,
    "sample-table": 600,
    "image": 2500,
    "position": 4000,
    "resume": 1500,
    "url": 1500,
    "http": 2500,
}


@pytest.fixture(autouse=True)
def without_material(monkeypatch):
    monkeypatch.delenv("SHARDKIT_MATERIAL", raising=False)  # the same inputs on every machine


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_makes_a_parser_fail(name, tmp_path):
    result = Run(name, 0, COUNTS[name], LIMITS, tmp_path)()
    assert result.kinds == {}, "\n".join(f"{failure.kind}\n{failure.text}" for failure in result.failures)
    assert sum(result.errors.values()) >= COUNTS[name]
    # Were all inputs refused, nothing would be said of what becomes of the others.
    assert result.errors["taken"] > COUNTS[name] // 50


@pytest.mark.parametrize("name", ["tar", "manifest", "shard-table", "sample-table", "position", "resume", "image"])
def test_inputs_depend_on_nothing_except_the_seed(name):
    target, again = find_target(name), find_target(name)
    mine = [input_number(target, name, 5, number) for number in range(60)]
    assert mine == [input_number(again, name, 5, number) for number in range(60)]
    assert mine[30:] != [input_number(target, name, 6, number) for number in range(30, 60)]
    assert max(map(len, mine)) <= MOST_BYTES


def test_seconds_and_megabytes_are_measured():
    meter = Meter(60)
    assert meter.measured(lambda: None).megabytes < 10
    used = meter.measured(lambda: [bytearray(80 << 20) and None for _ in range(2)])
    assert 70 < used.megabytes < 300
    assert meter.measured(lambda: sum(range(3_000_000))).seconds > 0.001


def test_what_fails_is_kept_and_can_be_run_again(tmp_path):
    result = Run("position", 3, 40, Limits(0.0, 100.0), tmp_path)()
    assert result.kinds == {"too slow": 40}
    command = [sys.executable, str(FUZZ), "position", "--input", str(result.failures[-1].path)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    done = subprocess.run([*command, "--seconds", "0"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout[:8]) == (1, "too slow")

"""What this process has of the machine."""

import os

import pytest

from shardkit.machine import interruptible, usable_cores


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000", 8), ("250000 100000", 3), ("200000 100000", 2), ("5000 100000", 1), ("1600000 100000", 8),
     ("nonsense", 8), ("", 8)],
)  # fmt: skip
def test_a_container_s_quota_counts(tmp_path, eight_cores, text, cores):
    (tmp_path / "cpu.max").write_text(text)
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("150000", 2)])
def test_a_quota_of_the_older_kind_counts(tmp_path, eight_cores, quota, cores):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert usable_cores(tmp_path) == cores


def test_without_control_groups_the_processors_count(tmp_path, eight_cores):
    assert usable_cores(tmp_path) == 8


def test_work_in_a_thread_of_its_own_returns_and_raises():
    assert interruptible(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0)

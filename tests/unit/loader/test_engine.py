"""Ordered work on threads."""

import threading
import time

import pytest

from shardkit.loader import engine


def OrderedWork(jobs, *, threads, ahead, on_idle=lambda: None):
    return engine.OrderedWork(jobs, threads=threads, ahead=ahead, on_idle=on_idle, on_abandon=lambda: None)


class Counted:
    """A job that says which parts ran, and on which threads."""

    def __init__(self, number, parts=3, wait=0.0, error=None):
        self.number, self.num_parts, self.wait, self.error = number, parts, wait, error
        self.ran, self.threads = [], set()

    def run(self, part):
        time.sleep(self.wait)
        if self.error is not None and part == 1:
            raise self.error
        self.ran.append(part)
        self.threads.add(threading.get_ident())

    def finish(self):
        return [(self.number, sorted(self.ran))]


def alive():
    return [thread for thread in threading.enumerate() if thread.name == "shardkit-decode"]


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("ahead", [1, 3])
def test_results_leave_in_order_and_every_part_ran_once(threads, ahead):
    jobs = (Counted(number, parts=1 + number % 4, wait=0.001 * (number % 3)) for number in range(40))
    found = list(OrderedWork(jobs, threads=threads, ahead=ahead))
    assert found == [(number, list(range(1 + number % 4))) for number in range(40)]
    assert alive() == []


def test_no_more_is_made_than_may_be_ahead():
    made = []

    def jobs():
        for number in range(20):
            made.append(number)
            yield Counted(number)

    work = OrderedWork(jobs(), threads=2, ahead=2)
    for taken in range(1, 6):
        next(work)
        time.sleep(0.05)
        assert len(made) <= taken + 3
    work.close()
    assert alive() == []


def test_an_error_comes_when_its_job_has_its_turn():
    jobs = (Counted(number, error=KeyError("bad") if number == 3 else None) for number in range(9))
    work = OrderedWork(jobs, threads=4, ahead=5)
    assert [next(work)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="bad"):
        next(work)
    assert list(work) == []
    assert alive() == []


def test_an_error_while_making_jobs_comes_after_those_that_were_made():
    def jobs():
        yield Counted(0)
        yield Counted(1)
        raise RuntimeError("no more tables")

    work = OrderedWork(jobs(), threads=2, ahead=5)
    assert [next(work)[0] for _ in range(2)] == [0, 1]
    with pytest.raises(RuntimeError, match="no more tables"):
        next(work)
    assert alive() == []


def test_parts_of_one_job_run_on_several_threads():
    jobs = [Counted(0, parts=16, wait=0.01)]
    list(OrderedWork((job for job in jobs), threads=4, ahead=1))
    assert len(jobs[0].threads) == 4


def test_closing_while_parts_run_waits_for_them_and_closes_the_maker():
    closed = []

    def jobs():
        try:
            for number in range(100):
                yield Counted(number, wait=0.05)
        finally:
            closed.append(threading.get_ident())

    work = OrderedWork(jobs(), threads=3, ahead=3)
    next(work)
    work.close()
    assert alive() == []
    assert len(closed) == 1
    work.close()
    assert list(work) == []


def test_nothing_to_do():
    assert list(OrderedWork((job for job in ()), threads=3, ahead=1)) == []


def test_idle_threads_end_and_start_again():
    idle = []
    work = OrderedWork(
        (Counted(number) for number in range(10)), threads=2, ahead=1, on_idle=lambda: idle.append(len(alive()))
    )
    next(work)
    deadline = time.monotonic() + 10
    while alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive() == []
    assert len(idle) == 1
    assert len(list(work)) == 9
    assert len(idle) == 2


def test_a_thread_that_a_decoder_holds_is_not_waited_for_for_long():
    tidied = threading.Event()
    work = OrderedWork(
        (Counted(number, parts=1, wait=6 * number) for number in range(2)), threads=1, ahead=1, on_idle=tidied.set
    )
    next(work)
    started = time.monotonic()
    work.close()
    assert time.monotonic() - started < 5  # a second, and not what is left of six
    assert list(work) == []
    assert tidied.wait(60)

"""Trying again: how often, how long after, and what is not tried again."""

import asyncio
import time

import pytest

from shardkit.errors import ConfigError
from shardkit.storage.attempts import FailedError, MissingError, RetryPolicy, TemporaryError, attempted


class Request:
    """Fails in the given ways, one after the other, and then succeeds; notes when it was made."""

    def __init__(self, *failures):
        self.failures = list(failures)
        self.times = []

    async def __call__(self, expect):
        self.times.append(time.monotonic())
        if self.failures:
            failure = self.failures.pop(0)
            if failure == "stall":
                await asyncio.sleep(3600)
            raise failure
        return "done"

    def run(self, **policy):
        return asyncio.run(attempted(RetryPolicy(**policy), self))


def test_what_fails_for_a_while_is_tried_again():
    request = Request(*[TemporaryError("busy")] * 3)
    assert request.run() == "done"
    assert len(request.times) == 4


@pytest.mark.parametrize("kind", [FailedError, MissingError])
def test_what_fails_for_good_is_not(kind):
    request = Request(kind("no"))
    with pytest.raises(kind, match="no"):
        request.run()
    assert len(request.times) == 1


@pytest.mark.parametrize(("retries", "said"), [(0, "busy; tried once"), (2, "busy; tried 3 times")])
def test_giving_up_says_how_often_it_was_tried(retries, said):
    request = Request(*[TemporaryError("busy")] * 9)
    with pytest.raises(FailedError, match=said):
        request.run(retries=retries)
    assert len(request.times) == retries + 1


def test_a_server_that_asks_to_wait_is_obeyed():
    request = Request(TemporaryError("busy", retry_after=0.5))
    request.run()
    assert 0.5 <= request.times[1] - request.times[0] < 5


def test_a_server_that_asks_for_too_long_is_given_up():
    request = Request(TemporaryError("busy", retry_after=3600))
    with pytest.raises(FailedError, match="asks to wait 3600 s"):
        request.run()


def test_what_stalls_is_tried_again():
    request = Request("stall")
    assert request.run(timeout=0.2) == "done"
    assert request.times[1] - request.times[0] >= 0.2


def test_an_answer_that_has_begun_may_take_as_long_as_its_bytes_may():
    async def slow(expect):
        expect(2**14)
        await asyncio.sleep(0.6)
        return "done"

    assert asyncio.run(attempted(RetryPolicy(timeout=0.2, retries=0), slow)) == "done"


def test_a_longer_answer_may_take_longer():
    assert RetryPolicy(timeout=2).deadline(0) == 2
    assert RetryPolicy(timeout=2).deadline(2**20) == 2 + 64


def test_delays_grow_up_to_a_cap_and_differ():
    policy = RetryPolicy()
    for attempt, most in [(0, 0.1), (3, 0.8), (60, 20.0)]:
        delays = [policy.delay(attempt, None) for _ in range(200)]
        assert 0 <= min(delays) < 0.2 * most
        assert 0.8 * most < max(delays) <= most


@pytest.mark.parametrize(
    "wrong", [{"retries": -1}, {"retries": 1.5}, {"timeout": 0}, {"timeout": "30s"}, {"timeout": True}]
)
def test_what_is_no_policy(wrong):
    with pytest.raises(ConfigError):
        RetryPolicy(**wrong)

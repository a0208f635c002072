"""What may go wrong between here and a server, and trying again.

Delays grow exponentially with full jitter, as in M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog,
2015); where a server says how long to wait, that is obeyed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from shardkit.errors import ConfigError
from shardkit.units import whole_number

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["Expect", "FailedError", "MissingError", "RetryPolicy", "TakenError", "TemporaryError", "attempted"]

_MOST_RETRIES = 1000
_FIRST_DELAY_S = 0.1
_MOST_DELAY_S = 20.0
_MOST_RETRY_AFTER_S = 300.0
_LEAST_BYTES_PER_S = 16 * 2**10
_TRY_AGAIN = "Check that the address is right, and try again later, or with more retries or a longer timeout"
T = TypeVar("T")
Expect = Callable[[int], None]


class FailedError(Exception):
    """A request failed, and would fail again.

    Args:
        what: What happened, without secrets.
        advice: What to do about it.
    """

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice


class MissingError(FailedError):
    """There is no such object."""


class TakenError(FailedError):
    """The object is there already, or is another than expected."""


class TemporaryError(FailedError):
    """A request failed that may well succeed soon.

    Args:
        what: What happened, without secrets.
        retry_after: Seconds that the server asks to wait, if it does.
    """

    def __init__(self, what: str, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patient to be.

    Attributes:
        retries: How many times a request is tried again, at most 1,000.
        timeout: Seconds in which a server must answer. Longer answers get the time that they take at 16 KiB a second
            besides, so that one that drips is given up too.
    """

    retries: int = 8
    timeout: float = 30.0

    def __post_init__(self) -> None:
        whole_number("retries", self.retries, 0, _MOST_RETRIES)
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float) or not 0 < self.timeout < 1e6:
            raise ConfigError("timeout must be a number of seconds above 0", setting="timeout", value=self.timeout)

    def delay(self, attempt: int, retry_after: float | None) -> float:
        """Seconds to wait after a failed attempt.

        Args:
            attempt: Its number, from 0.
            retry_after: What the server asked for.
        """
        jittered = random.uniform(0, min(_MOST_DELAY_S, _FIRST_DELAY_S * 2**attempt))  # noqa: S311 (no secret)
        return jittered if retry_after is None else retry_after + jittered

    def deadline(self, num_bytes: int) -> float:
        """Seconds that a request for, or of, so many bytes may take."""
        return self.timeout + num_bytes / _LEAST_BYTES_PER_S


async def attempted(policy: RetryPolicy, request: Callable[[Expect], Awaitable[T]], *, sends: int = 0) -> T:
    """Make a request until it succeeds, fails for good, or was tried often enough.

    Args:
        policy: How patient to be.
        request: Makes it once. It is given a function to call when the answer begins to come, with the bytes that will
            come: from then on they have the time that so many may take.
        sends: Bytes that the request itself has.

    Returns:
        Its result.

    Raises:
        FailedError: It failed for good; the message says how often it was tried.
    """
    import asyncio  # packing and loading on this machine need not wait for it

    now = asyncio.get_running_loop().time
    for attempt in range(policy.retries + 1):
        begun = now()
        try:
            async with asyncio.timeout(policy.deadline(sends)) as limit:
                return await request(lambda size: limit.reschedule(now() + policy.deadline(size)))
        except TemporaryError as exc:
            failure = exc
        except TimeoutError:
            failure = TemporaryError(f"no answer, or too slow a one, within {now() - begun:.1f} s")
        asked = failure.retry_after
        if asked is not None and asked > _MOST_RETRY_AFTER_S:
            raise FailedError(f"{failure.what}; the server asks to wait {asked:.0f} s") from None
        if attempt < policy.retries:
            await asyncio.sleep(policy.delay(attempt, asked))
    tries = "once" if policy.retries == 0 else f"{policy.retries + 1} times"
    raise FailedError(f"{failure.what}; tried {tries}", _TRY_AGAIN)

"""Which requests a fault meets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from random import Random

from servers.messages import Request
from servers.modes import Fault

__all__ = ["Choice", "Mix", "Rule", "Rules"]

Choice = Callable[[Request], Fault | None]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A fault, and the requests that it is for.

    Attributes:
        fault: What to do to them.
        path: A pattern for their path, in which ``*`` stands for anything.
        methods: Their methods; empty means all.
        skip: How many of them pass first.
        times: How many of them it meets then; ``None`` means all.
        when: What else must be true of them.
    """

    fault: Fault
    path: str = "*"
    methods: tuple[str, ...] = ()
    skip: int = 0
    times: int | None = None
    when: Callable[[Request], bool] | None = None

    def fits(self, request: Request) -> bool:
        """Whether it is for a request, the numbers left aside."""
        return (
            fnmatchcase(request.path, self.path)
            and (not self.methods or request.method in self.methods)
            and (self.when is None or self.when(request))
        )


class Rules:
    """Several rules: for each request, the first that fits it and is neither waiting nor used up."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """Start counting."""
        self._rules = list(rules)
        self._seen = [0] * len(self._rules)

    def __call__(self, request: Request) -> Fault | None:
        """The fault for a request."""
        for index, rule in enumerate(self._rules):
            if rule.fits(request):
                seen = self._seen[index]
                self._seen[index] += 1
                if seen >= rule.skip and (rule.times is None or seen < rule.skip + rule.times):
                    return rule.fault
        return None


class Mix:
    """Faults by chance: each with the share of requests that it meets.

    The same requests meet the same faults in every run, also when they come in another order: chance depends on the
    seed, on what is asked for, and on how many times that was asked for before.
    """

    def __init__(self, faults: Sequence[tuple[float, Fault | Callable[[Random], Fault]]], *, seed: int) -> None:
        """Take shares and faults.

        Args:
            faults: Shares, which add up to 1 at most, and faults, or functions that make one by chance.
            seed: Another number gives other chances.
        """
        self._faults = list(faults)
        self._seed = seed
        self._asked = Counter[tuple[str, str, str | None]]()

    def __call__(self, request: Request) -> Fault | None:
        """The fault for a request."""
        asked = (request.method, request.path, request.range)
        self._asked[asked] += 1
        # A text seeds the same way in every process; a tuple would not.
        random = Random(f"{self._seed} {asked} {self._asked[asked]}")
        point = random.random()
        for share, fault in self._faults:
            point -= share
            if point < 0:
                return fault(random) if callable(fault) else fault
        return None

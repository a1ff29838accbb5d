"""How long a provider that fails is left alone: back-off with full jitter for each question, a breaker for all of them.

Moments are Unix time, chance is a number of [0, 1).
"""

import math
from dataclasses import dataclass

from monitor.errors import FeedError
from monitor.grid.feed import About

FIRST_RETRY_S = 10.0
LONGEST_RETRY_S = 1800.0
LONGEST_RETRY_AFTER_S = 24 * 3600.0
"""What a provider asks for is kept, but for nonsense."""
BREAKS_AFTER = 5
"""Failures in a row, whatever the zones: from then on one question at a time finds out whether it is well again."""
HOPELESS_S = 6 * 3600.0
"""A zone that the provider does not know, or that the plan does not include, is asked for so seldom."""
KEY_PATIENCE_S = 900.0
"""Valid keys are refused at times, for minutes; for longer it is the key."""
WRONG_KEY_S = 3600.0
OF_ONE_ZONE = frozenset({"plan", "zone"})
"""These say nothing of the provider's health."""


def retry_s(about: About, tries: int, error: FeedError, chance: float) -> float:
    """How long to wait after the failure number `tries` in a row."""
    if error.reason in OF_ONE_ZONE:
        wait_s = HOPELESS_S
    else:
        wait_s = chance * min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(tries - 1, 16))
    if error.reason == "quota":
        wait_s = max(wait_s, about.apart_s)
    return max(wait_s, min(error.retry_after_s or 0.0, LONGEST_RETRY_AFTER_S))


@dataclass(slots=True)
class Breaker:
    """Of one provider, all of its zones together."""

    failures: int = 0
    """In a row."""
    not_before_s: float = -math.inf
    key_since_s: float | None = None
    """Since when every answer has been that the key is not good."""

    @property
    def is_open(self) -> bool:
        """Whether only one question per back-off is asked."""
        return self.failures >= BREAKS_AFTER

    def key_is_wrong(self, at_s: float) -> bool:
        """Whether the key has been refused for so long that somebody must look at it."""
        return self.key_since_s is not None and at_s - self.key_since_s >= KEY_PATIENCE_S

    def well(self) -> None:
        """It answered."""
        self.failures, self.not_before_s, self.key_since_s = 0, -math.inf, None

    def failed(self, about: About, error: FeedError, at_s: float, chance: float) -> None:
        """It did not, or not with a value."""
        if error.reason in OF_ONE_ZONE:
            return
        self.failures += 1
        if error.reason != "key":
            self.key_since_s = None
        elif self.key_since_s is None:
            self.key_since_s = at_s
        wait_s = 0.0
        if self.is_open:
            wait_s = retry_s(about, self.failures, error, chance)
        elif error.reason == "quota" or error.retry_after_s is not None:
            # It is the machine that asks too much, not the zone.
            wait_s = retry_s(about, 1, error, 0.0)
        if self.key_is_wrong(at_s):
            wait_s = max(wait_s, WRONG_KEY_S)
        self.not_before_s = at_s + wait_s

    def refused_login(self, at_s: float) -> None:
        """A password is not refused by chance, and accounts are locked: it counts as wrong from the first time on."""
        self.key_since_s = at_s - KEY_PATIENCE_S

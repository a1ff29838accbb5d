"""When a provider is asked: at the pace it publishes, for the past when slots settle, never beyond its quota.

Pure: moments are Unix time and arguments, chance is a number of [0, 1).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from monitor.grid.feed import About

CHECKS_S = tuple(hours * 3600.0 for hours in (1, 3, 6, 24, 72))
"""So long after a slot has ended its value is asked for again: feeds go on changing theirs (DESIGN.md section 6)."""
FORECAST_EVERY_S = 3 * 3600.0
MOST_JITTER_S = 60.0
JITTER_RATIO = 0.1
"""Part of the cadence, so that a site's machines do not all ask in one second."""
LATE_RATIO = 0.25
"""A check may be late by this part of its own age: then one request covers many slots."""
SHORTEST_ROUND_S = 900.0
ROUNDING = 1e-6
"""Part of a cadence that counts as none."""


class Checked(NamedTuple):
    """A question for the past that was answered, at `at_s`, for all from `start_s` on."""

    start_s: float
    at_s: float


class Slots(NamedTuple):
    """Ends of the slots that a provider has to settle: of the first one all, of a stand-in those it stood in for."""

    from_s: float = -math.inf
    until_s: float = math.inf


ALL = Slots()


def latest_due_s(about: About, asked_s: float | None, chance: float) -> float:
    """When the next value can be expected: a multiple of the cadence, the phase, and some jitter. -inf = at once."""
    if asked_s is None:
        return -math.inf
    turns = math.floor((asked_s - about.phase_s) / about.cadence_s + ROUNDING) + 1
    return turns * about.cadence_s + about.phase_s + _jitter_s(about, chance)


def forecast_due_s(about: About, asked_s: float | None, chance: float) -> float:
    """When the next forecast is asked for; inf = it has none."""
    if about.forecast_s <= 0.0:
        return math.inf
    return -math.inf if asked_s is None else asked_s + FORECAST_EVERY_S + _jitter_s(about, chance)


def past_due_s(about: About, checked: Sequence[Checked], slots: Slots = ALL) -> float:
    """When the past is asked for next; inf = never."""
    return min((_due_s(about, age_s, checked, slots) for age_s in _ages(about)), default=math.inf)


def past_start_s(about: About, checked: Sequence[Checked], at_s: float, slots: Slots = ALL) -> float:
    """From when on, if it is asked now, up to now: one range that has every slot with a check due."""
    ages = _ages(about)
    # What is older is final, or cannot be had.
    reach_s = min(about.past_s, max((age_s + _late_s(about, age_s) for age_s in ages), default=0.0) + about.cadence_s)
    # What would be due before the next question goes along with this one.
    soon_s = at_s + max(about.cadence_s, SHORTEST_ROUND_S)
    due = [age_s for age_s in ages if _due_s(about, age_s, checked, slots) <= soon_s]
    oldest_s = min((_open_from_s(about, age_s, checked, slots) for age_s in due), default=at_s)
    return max(at_s - reach_s, oldest_s - about.cadence_s)


def quota_free_s(about: About, asked_s: float | None) -> float:
    """When the provider may be asked again, whatever for and whatever zone."""
    return -math.inf if asked_s is None else asked_s + about.apart_s


def _ages(about: About) -> list[float]:
    if about.past_s <= 0.0:
        return []
    # The deepest check that the provider still reaches is made as deep as it reaches.
    within = [age_s for age_s in CHECKS_S if age_s <= about.settles_after_s]
    return sorted({min(age_s, about.past_s) for age_s in within})


def _done_s(about: About, age_s: float, checked: Sequence[Checked]) -> float:
    """When slots of this age were asked for last."""
    deep = age_s if age_s < about.past_s else about.past_s - about.cadence_s
    return max((one.at_s for one in checked if one.start_s <= one.at_s - deep), default=-math.inf)


def _open_from_s(about: About, age_s: float, checked: Sequence[Checked], slots: Slots) -> float:
    """Slots that have ended after this have not been checked at this age."""
    return max(_done_s(about, age_s, checked) - age_s, slots.from_s)


def _due_s(about: About, age_s: float, checked: Sequence[Checked], slots: Slots) -> float:
    open_from_s = _open_from_s(about, age_s, checked, slots)
    if open_from_s >= slots.until_s:
        return math.inf
    return max(open_from_s + age_s, _done_s(about, age_s, checked) + _late_s(about, age_s))


def _late_s(about: About, age_s: float) -> float:
    """So late a check may be, so that one request makes many."""
    return max(about.cadence_s, LATE_RATIO * age_s, SHORTEST_ROUND_S)


def _jitter_s(about: About, chance: float) -> float:
    return chance * min(MOST_JITTER_S, JITTER_RATIO * about.cadence_s)

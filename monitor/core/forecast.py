"""What a forecast is worth: how far off the last ones were, the cleanest time to start, the grams that lie ahead."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import fsum
from typing import NamedTuple

from monitor.core.model import Basis, Intensity, Quality, Rate, Signal

AHEAD_S = 3600.0
"""A forecast counts when it was there so long before its slot began: later ones are nearly readings."""
FEWEST_PAIRS = 12
KNOWN = frozenset({Quality.ACTUAL, Quality.ESTIMATED})
_WHOLE = 1.0 - 1e-9


class Score(NamedTuple):
    """Forecasts against what came, in g/kWh."""

    mean_error_g: float
    """Mean absolute error."""
    bias_g: float
    """Mean of forecast less actual."""
    error_ratio: float | None
    """Mean absolute error over the mean of what came; None where that is 0."""


class Start(NamedTuple):
    """The cleanest time to start something that takes a while. Unix time, and means over its length in g/kWh."""

    start_s: float
    mean_g: float
    now_mean_g: float | None
    """Of starting now; None where the forecast does not cover that."""


def score(forecasts: Sequence[Intensity], actuals: Sequence[Intensity]) -> Score | None:
    """How far off forecasts were: of each slot the newest one that was there an hour before it began.

    They are compared with the time-weighted mean of the same provider's values of the same zone, signal and basis, over
    slots that these cover wholly. None with fewer than twelve such slots.
    """
    came: dict[_Kind, dict[tuple[float, float], Intensity]] = {}
    for actual in actuals:
        if actual.quality in KNOWN:
            came.setdefault(_kind(actual), {})[actual.valid_from_s, actual.valid_until_s] = actual  # the newest word
    lines = {kind: _Line(_rates(slots.values())) for kind, slots in came.items()}
    pairs: list[tuple[float, float]] = []
    for forecast in _newest_in_time(forecasts):
        line = lines.get(_kind(forecast))
        mean_g = line.mean(forecast.valid_from_s, forecast.valid_until_s) if line is not None else None
        if mean_g is not None:
            pairs.append((forecast.grams_per_kilowatthour, mean_g))
    if len(pairs) < FEWEST_PAIRS:
        return None
    count = len(pairs)
    error_g = fsum(abs(said - came_g) for said, came_g in pairs) / count
    mean_g = fsum(came_g for _said, came_g in pairs) / count
    bias_g = fsum(said - came_g for said, came_g in pairs) / count
    return Score(error_g, bias_g, error_g / mean_g if mean_g > 0.0 else None)


def best_start(
    slots: Sequence[Rate], length_s: float, not_before_s: float, deadline_s: float | None, now_s: float
) -> Start | None:
    """The start t that makes the mean over [t, t + length) least; the earliest of equal ones. None = none is covered.

    `slots` are grams per kWh by time; all moments are Unix time. It ends by the deadline. The mean is piecewise linear
    in t, so that it is least where the start or the end meets an edge of a slot, or at a limit.
    """
    line = _Line(slots)
    last_s = line.edges[-1] if line.edges else not_before_s
    latest_s = (last_s if deadline_s is None else min(deadline_s, last_s)) - length_s
    at_edges = {start for edge in line.edges for start in (edge, edge - length_s)}
    candidates = sorted(start for start in {not_before_s, latest_s} | at_edges if not_before_s <= start <= latest_s)
    means = [(mean_g, start) for start in candidates if (mean_g := line.mean(start, start + length_s)) is not None]
    if not means or length_s <= 0.0:
        return None
    least_g = min(means)[0]
    # Sums differ in the last digit: what is as good to a billionth is as good, and sooner is better.
    mean_g, start_s = next((mean_g, start) for mean_g, start in means if mean_g <= least_g + 1e-9 * max(1.0, least_g))
    return Start(start_s, mean_g, line.mean(now_s, now_s + length_s))


class _Line:
    """A value over time, with holes. Of slots that overlap the one that begins first counts."""

    def __init__(self, slots: Iterable[Rate]) -> None:
        self._parts: list[Rate] = []
        for slot in sorted(slots, key=lambda slot: slot.valid_from_s):
            since_s = max(slot.valid_from_s, self._parts[-1].valid_until_s) if self._parts else slot.valid_from_s
            if since_s < slot.valid_until_s:
                self._parts.append(Rate(slot.amount, since_s, slot.valid_until_s))
        self._starts = [part.valid_from_s for part in self._parts]
        lengths = [part.valid_until_s - part.valid_from_s for part in self._parts]
        self._covered = [0.0, *accumulate(lengths)]
        self._sums = [
            0.0,
            *accumulate(part.amount * length for part, length in zip(self._parts, lengths, strict=True)),
        ]
        self.edges = sorted({edge for part in self._parts for edge in part[1:]})

    def mean(self, start_s: float, end_s: float) -> float | None:
        """The time-weighted mean over [start, end); None where it does not cover all of that."""
        covered_low, sum_low = self._up_to(start_s)
        covered_high, sum_high = self._up_to(end_s)
        span_s = end_s - start_s
        if span_s <= 0.0 or covered_high - covered_low < span_s * _WHOLE:
            return None
        return (sum_high - sum_low) / (covered_high - covered_low)

    def _up_to(self, at_s: float) -> tuple[float, float]:
        """Seconds covered before a moment, and the integral over them."""
        index = bisect_right(self._starts, at_s) - 1
        if index < 0:
            return 0.0, 0.0
        part = self._parts[index]
        inside_s = min(at_s, part.valid_until_s) - part.valid_from_s
        return self._covered[index] + inside_s, self._sums[index] + part.amount * inside_s


_Kind = tuple[str, str, Signal, Basis]


def _kind(slot: Intensity) -> _Kind:
    return slot.provider, slot.zone, slot.signal, slot.basis


def _rates(slots: Iterable[Intensity]) -> list[Rate]:
    return [Rate(slot.grams_per_kilowatthour, slot.valid_from_s, slot.valid_until_s) for slot in slots]


def _newest_in_time(forecasts: Iterable[Intensity]) -> Iterable[Intensity]:
    newest: dict[tuple[_Kind, float, float], Intensity] = {}
    for slot in forecasts:
        if slot.quality is not Quality.FORECAST or slot.fetched_at_s is None:
            continue
        if slot.fetched_at_s > slot.valid_from_s - AHEAD_S:
            continue
        key = (_kind(slot), slot.valid_from_s, slot.valid_until_s)
        if key not in newest or (newest[key].fetched_at_s or 0.0) < slot.fetched_at_s:
            newest[key] = slot
    return newest.values()

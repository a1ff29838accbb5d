"""What providers expect of a zone, and how far off they were lately."""

from collections.abc import Sequence

from monitor.core import forecast
from monitor.core.fallback import OBSERVED
from monitor.core.model import Intensity, Outlook, Quality, Rate, Signal
from monitor.core.settlement import first_of_each_moment

SCORED_S = 7 * 24 * 3600.0
"""Forecasts of the last week are scored."""


def outlooks(
    names: Sequence[str], values: Sequence[Intensity], versions: Sequence[Intensity], at_s: float
) -> list[Outlook]:
    """One for each signal: of the first provider in order that looks ahead. `versions` are those of the last week."""
    found = []
    for signal in Signal:
        for name in names:
            own = [value for value in values if value.provider == name and value.signal is signal]
            ahead = [value for value in own if value.quality is Quality.FORECAST and value.valid_until_s > at_s]
            if ahead:
                found.append(_outlook(max(ahead, key=_issued_at_s), own, versions, at_s))
                break
    return found


def _outlook(newest: Intensity, own: Sequence[Intensity], versions: Sequence[Intensity], at_s: float) -> Outlook:
    """Of the provider, signal and basis of its newest forecast."""
    name, signal, basis = newest.provider, newest.signal, newest.basis
    # What holds now is known already where it is: an observation of a slot comes in place of its forecast.
    order = sorted(
        (value for value in own if value.basis is basis and value.valid_until_s > at_s),
        key=lambda value: (value.quality in OBSERVED, _issued_at_s(value)),
        reverse=True,
    )
    begins_s, ends_s = min(v.valid_from_s for v in order), max(v.valid_until_s for v in order)
    slots = [
        Rate(value.grams_per_kilowatthour, from_s, until_s)
        for from_s, until_s, value in first_of_each_moment(order, begins_s, ends_s)
        if value is not None and until_s > at_s
    ]
    past = [value for value in versions if value.provider == name and value.signal is signal and value.basis is basis]
    score = forecast.score(
        [value for value in past if value.quality is Quality.FORECAST],
        [value for value in past if value.quality in OBSERVED],
    )
    return Outlook(
        zone=newest.zone,
        provider=name,
        basis=basis,
        signal=signal,
        issued_at_s=_issued_at_s(newest),
        slots=tuple(slots),
        mean_error_g=None if score is None else score.mean_error_g,
        bias_g=None if score is None else score.bias_g,
        error_ratio=None if score is None else score.error_ratio,
    )


def _issued_at_s(value: Intensity) -> float:
    return value.fetched_at_s if value.fetched_at_s is not None else value.updated_at_s or 0.0

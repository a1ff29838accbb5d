"""Which of the known intensities prices which moment: DESIGN.md section 6 as one list, in order of preference."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from monitor.core.model import Basis, Intensity, Quality, Signal

CARRIED_SLOTS = 2
"""A provider's last value stands in for its next ones so many of its own slots long, before anything else does."""
LONGEST_CARRY_S = 3 * 3600.0
"""No value is carried longer, whatever its slots; so long it is better than a yearly one."""
OBSERVED = (Quality.ACTUAL, Quality.ESTIMATED)
RELAY = "relay"
"""The provider that hands on others' values under their own names."""


def in_order(
    known: Sequence[Intensity],
    providers: Sequence[str],
    static: Intensity | None,
    *,
    at_s: float,
    keep_s: float,
    signal: Signal = Signal.AVERAGE,
) -> tuple[Intensity, ...]:
    """What prices one zone, in order of preference: of those that cover a moment, the first one prices it.

    For each provider what it observed, its last value carried by two slots, what it forecast; then of all of them the
    last value carried by 3 h. Whatever has the basis of the first provider comes before all that has another, so that a
    run's grams are of one basis as far as possible: bases are never added. The static value comes last, whatever its
    basis: somebody who named a second provider wants its live values, and not those of a year.
    `known` is the newest version of each value, in any order; values of other providers and signals are left out, and
    what has ended before `at_s - keep_s`.
    """
    since_s = at_s - keep_s
    ranks = {name: rank for rank, name in enumerate(dict.fromkeys(providers))}
    usable = [value for value in known if value.signal is signal and value.provider in ranks]
    basis = _first_basis(usable, ranks)
    found: list[Intensity] = []
    for is_other in (False, True):
        of_basis = [value for value in usable if (value.basis is not basis) is is_other]
        found += _of_basis([[v for v in of_basis if v.provider == name] for name in ranks])
    if static is not None:
        found.append(static)
    return tuple(slot for slot in found if slot.valid_until_s > since_s)


def that_price(slots: Sequence[Intensity], start_s: float, end_s: float) -> tuple[Intensity, ...]:
    """Those of the list that price a moment of [start, end), in their order; one that holds for ever stays, too."""
    open_spans = [(start_s, end_s)]
    used = []
    for slot in slots:
        rest: list[tuple[float, float]] = []
        prices = slot.is_for_ever
        for begin_s, stop_s in open_spans:
            from_s, until_s = max(begin_s, slot.valid_from_s), min(stop_s, slot.valid_until_s)
            if from_s >= until_s:
                rest.append((begin_s, stop_s))
                continue
            prices = True
            rest += [span for span in ((begin_s, from_s), (until_s, stop_s)) if span[0] < span[1]]
        open_spans = rest
        if prices:
            used.append(slot)
    return tuple(used)


def with_relayed(providers: Sequence[str], known: Iterable[Intensity]) -> tuple[str, ...]:
    """The order with those in place of the relay that it told of: providers of `known` that the order does not name."""
    if RELAY not in providers:
        return tuple(providers)
    told_of = sorted({value.provider for value in known} - set(providers))
    place = list(providers).index(RELAY)
    return (*providers[: place + 1], *told_of, *providers[place + 1 :])


def _first_basis(usable: Sequence[Intensity], ranks: dict[str, int]) -> Basis | None:
    """Basis of the newest value of the first provider that has any."""
    if not usable:
        return None
    return min(usable, key=lambda value: (ranks[value.provider], *_newest_first(value), value.basis)).basis


def _of_basis(by_provider: Sequence[Sequence[Intensity]]) -> Iterator[Intensity]:
    """The values of one group of bases, provider by provider."""
    observed = [[list(_observed(values, basis)) for basis in Basis] for values in by_provider]
    for values, observations in zip(by_provider, observed, strict=True):
        seen = [value for of_one in observations for value in of_one]
        yield from sorted(seen, key=_firmest_first)
        own = (slot for of_one in observations for slot in _carried(of_one, CARRIED_SLOTS))
        yield from sorted(own, key=_latest_first)
        # What another trainwatt had carried already is carried no further.
        yield from sorted(_of(values, Quality.CARRIED), key=_latest_first)
        yield from sorted(_of(values, Quality.FORECAST), key=_firmest_first)
    for observations in observed:
        yield from sorted((slot for of_one in observations for slot in _carried(of_one, None)), key=_latest_first)
    for values in by_provider:
        yield from sorted(_of(values, Quality.STATIC), key=_firmest_first)


def _observed(values: Iterable[Intensity], basis: Basis) -> Iterator[Intensity]:
    return (value for value in values if value.basis is basis and value.quality in OBSERVED)


def _of(values: Iterable[Intensity], quality: Quality) -> Iterator[Intensity]:
    return (value for value in values if value.quality is quality)


def _carried(values: Sequence[Intensity], most_slots: int | None) -> Iterator[Intensity]:
    """What one provider observed in one basis, each from its end on until the next observation ends.

    From then on that one is the last value. Where the next one begins at once there is nothing to carry.
    """
    last = {value.valid_until_s: value for value in sorted(values, key=_firmest_first, reverse=True)}
    ends = sorted(last)
    for end_s, next_end_s in pairwise([*ends, math.inf]):
        value = last[end_s]
        span_s = LONGEST_CARRY_S
        if most_slots is not None:
            span_s = min(span_s, most_slots * (end_s - value.valid_from_s))
        until_s = min(end_s + span_s, next_end_s)
        following = last.get(next_end_s)
        if math.isinf(end_s) or (following is not None and following.valid_from_s <= end_s):
            continue
        yield replace(value, quality=Quality.CARRIED, valid_from_s=end_s, valid_until_s=until_s)


def _newest_first(value: Intensity) -> tuple[float, float]:
    return (-_or_never(value.fetched_at_s), -value.valid_until_s)


def _firmest_first(value: Intensity) -> tuple[bool, float, float, float, float, str, float]:
    """Actual before estimated, then the newest word, then the finer slot; the rest only makes it definite."""
    return (
        value.quality is not Quality.ACTUAL,
        -_or_never(value.fetched_at_s),
        -_or_never(value.updated_at_s),
        value.valid_until_s - value.valid_from_s,
        value.valid_from_s,
        value.basis,
        value.grams_per_kilowatthour,
    )


def _latest_first(value: Intensity) -> tuple[float, tuple[bool, float, float, float, float, str, float]]:
    return (-value.valid_from_s, _firmest_first(value))


def _or_never(moment_s: float | None) -> float:
    return -math.inf if moment_s is None else moment_s

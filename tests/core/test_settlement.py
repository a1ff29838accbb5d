"""Energy by slot priced with what is known today: against closed forms written down here, moment by moment."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core import settlement
from monitor.core.model import Basis, Intensity, Quality, Signal
from monitor.core.settlement import Checks, Energy, Tally

T0_S = 1_795_219_200.0
HOUR_S = 3600.0
SLOT_S = 300.0
KWH_J = 3.6e6
ORDER = ("electricitymaps", "neso")


def value(from_s: float, until_s: float, grams: float, quality: Quality = Quality.ACTUAL, **words: Any) -> Intensity:
    """Between so many seconds after T0."""
    told: dict[str, Any] = {"basis": Basis.LIFECYCLE, "provider": "electricitymaps", "fetched_at_s": T0_S + until_s}
    return Intensity(
        zone="DE",
        grams_per_kilowatthour=grams,
        quality=quality,
        valid_from_s=T0_S + from_s,
        valid_until_s=T0_S + until_s,
        **(told | words),
    )


YEARLY = value(-math.inf, math.inf, 344.0, Quality.STATIC, provider="ember-owid", fetched_at_s=None)


def hourly(numbers: Sequence[float | None], **words: Any) -> list[Intensity]:
    """Hour by hour from T0 on; None = the provider did not tell."""
    return [
        value(hour * HOUR_S, (hour + 1) * HOUR_S, grams, **words)
        for hour, grams in enumerate(numbers)
        if grams is not None
    ]


def energy(hours: float, energy_j: float = KWH_J / 12, pue_ratio: float = 1.0, zone: str = "DE") -> list[Energy]:
    """One kWh an hour."""
    return [Energy(zone, T0_S + at * SLOT_S, energy_j, pue_ratio) for at in range(round(hours * 12))]


def priced(
    slots: Sequence[Energy],
    known: Sequence[Intensity],
    *,
    at_h: float = 1000.0,
    hours: float = 48.0,
    providers: Sequence[str] = ORDER,
    static: Intensity | None = YEARLY,
    settles_after_s: Mapping[str, float] | None = None,
    checks: Checks | None = None,
) -> Tally:
    """So many hours after T0."""
    course = settlement.course(
        known,
        providers,
        static,
        start_s=T0_S,
        end_s=T0_S + hours * HOUR_S,
        settles_after_s=settles_after_s or {},
        checks=checks or {},
    )
    return settlement.tally(slots, {"DE": course}, slot_s=SLOT_S, at_s=T0_S + at_h * HOUR_S)


def test_each_slot_by_its_own_value() -> None:
    """The closed form: hour by hour, kWh x g/kWh x PUE."""
    numbers = [355.0, 348.0, 0.0, 342.5]
    sums = priced(energy(4.0, pue_ratio=1.25), hourly(numbers))

    assert pytest.approx({Basis.LIFECYCLE: 1.25 * sum(numbers)}, rel=1e-12) == dict(sums.emissions_g)
    assert pytest.approx((4 * KWH_J, 4 * KWH_J, 0.0)) == (sums.energy_j, sums.final_j, sums.unpriced_j)


@settings(max_examples=60, deadline=None)
@given(
    edges=st.lists(st.integers(0, 6 * 3600), min_size=1, max_size=40, unique=True).map(sorted),
    numbers=st.lists(st.one_of(st.none(), st.floats(0.0, 2500.0)), min_size=41, max_size=41),
    joules=st.lists(st.floats(0.0, 1e7), min_size=72, max_size=72),
    pue_ratio=st.floats(1.0, 2.0),
)
def test_any_slots_are_weighted_by_overlap(
    edges: list[int], numbers: list[float | None], joules: list[float], pue_ratio: float
) -> None:
    """Slots of any length that lie anywhere; where nothing is told the yearly value stands in. To 1e-9."""
    bounds = list(zip(edges, [*edges[1:], 6 * 3600], strict=True))
    known = [
        value(float(start), float(end), grams, Quality.STATIC)  # as static it is not carried over a gap
        for (start, end), grams in zip(bounds, numbers, strict=False)
        if grams is not None and end > start
    ]
    slots = [Energy("DE", T0_S + at * SLOT_S, energy_j, pue_ratio) for at, energy_j in enumerate(joules)]
    expected = math.fsum(
        energy_j * (min(at * 300 + 300, end) - max(at * 300, start)) / 300 * grams * pue_ratio / KWH_J
        for at, energy_j in enumerate(joules)
        for start, end, grams in pieces(known)
        if min(at * 300 + 300, end) > max(at * 300, start)
    )
    sums = priced(slots, known, hours=6.0)

    assert pytest.approx(expected, rel=1e-9, abs=1e-12) == sums.emissions_g.get(Basis.LIFECYCLE, 0.0)
    assert pytest.approx(math.fsum(joules), rel=1e-12) == sums.energy_j
    assert 0.0 == sums.unpriced_j


def pieces(known: Sequence[Intensity]) -> list[tuple[float, float, float]]:
    """Start, end, grams of six hours, the gaps included."""
    found, at_s = [], 0.0
    for one in known:
        found += [
            (at_s, one.valid_from_s - T0_S, YEARLY.grams_per_kilowatthour),
            (one.valid_from_s - T0_S, one.valid_until_s - T0_S, one.grams_per_kilowatthour),
        ]
        at_s = one.valid_until_s - T0_S
    return [*found, (at_s, 6 * HOUR_S, YEARLY.grams_per_kilowatthour)]


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(st.one_of(st.none(), st.floats(0.0, 2500.0)), min_size=24, max_size=24),
    joules=st.lists(st.floats(0.0, 1e7), min_size=24, max_size=24),
)
def test_a_gap_is_carried_then_static(numbers: list[float | None], joules: list[float]) -> None:
    """Null is never 0: the last value for two slots, for a third within three hours, then the yearly one."""
    slots = [
        Energy("DE", T0_S + (hour * 12 + part) * SLOT_S, energy_j / 12, 1.0)
        for hour, energy_j in enumerate(joules)
        for part in range(12)
    ]
    grams = []
    for hour, energy_j in enumerate(joules):
        lately = [number for number in numbers[max(0, hour - 3) : hour + 1] if number is not None]
        grams.append(energy_j / KWH_J * (lately[-1] if lately else YEARLY.grams_per_kilowatthour))
    sums = priced(slots, hourly(numbers), hours=24.0)

    assert pytest.approx(math.fsum(grams), rel=1e-9, abs=1e-12) == sums.emissions_g.get(Basis.LIFECYCLE, 0.0)


def test_without_any_price_joules_are_counted_apart() -> None:
    """Before the first value, in a zone that nobody knows, and with nothing at all."""
    late = priced(energy(2.0), hourly([None, 100.0]), static=None)
    abroad = priced(energy(1.0, zone=""), hourly([100.0]))
    nothing = priced(energy(1.0), [], static=None, providers=())

    assert pytest.approx(KWH_J) == late.unpriced_j
    assert pytest.approx({Basis.LIFECYCLE: 100.0}) == dict(late.emissions_g)
    for sums in (abroad, nothing):
        assert pytest.approx((KWH_J, KWH_J, KWH_J)) == (sums.energy_j, sums.unpriced_j, sums.final_j)
        assert {} == sums.emissions_g


def test_bases_are_kept_apart() -> None:
    """Where the first provider tells nothing for hours, another one's grams are of their own basis; none is added."""
    static = value(-math.inf, math.inf, 500.0, Quality.STATIC, provider="epa-egrid", basis=Basis.DIRECT)
    known = [
        *hourly([100.0, None, None, None, None, 100.0]),
        *hourly([20.0] * 6, provider="neso", basis=Basis.DIRECT),
    ]
    sums = priced(energy(6.0), known, static=static)

    assert pytest.approx({Basis.LIFECYCLE: 500.0, Basis.DIRECT: 20.0}) == dict(sums.emissions_g)


def test_marginal_values_price_nothing() -> None:
    """They answer another question."""
    sums = priced(energy(1.0), hourly([900.0], signal=Signal.MARGINAL), static=None)

    assert pytest.approx(KWH_J) == sums.unpriced_j


def final_h(known: Sequence[Intensity], **words: Any) -> float:
    """When the first hour is final: so many hours after T0."""
    return next(
        (hour / 4 for hour in range(-400, 1200) if priced(energy(1.0), known, at_h=hour / 4, **words).final_j == KWH_J),
        math.inf,
    )


def test_when_a_value_is_final() -> None:
    """72 h after its slot, or as its provider has it; an actual one a day after a check that found it unchanged."""
    [actual], [estimated] = hourly([100.0]), hourly([100.0], quality=Quality.ESTIMATED)
    forecast = value(0.0, HOUR_S, 100.0, Quality.FORECAST)
    key = ("electricitymaps", Basis.LIFECYCLE, T0_S, T0_S + HOUR_S)
    checks = {key: T0_S + 26 * HOUR_S}
    one, quick = {"providers": ORDER[:1]}, {"electricitymaps": 24 * HOUR_S}

    assert 73.0 == final_h([actual], **one) == final_h([estimated], **one) == final_h([forecast], **one)
    assert 25.0 == final_h([actual], settles_after_s=quick, **one)
    assert 50.0 == final_h([actual], checks=checks, **one)
    assert 73.0 == final_h([estimated], checks=checks, **one)


def test_what_stands_in_is_final_when_nothing_better_can_come() -> None:
    """A yearly value at once where no feed is asked, else once no feed can tell any more; so is what has no price."""
    assert -100.0 == final_h([], providers=())
    assert -100.0 == final_h([], providers=(), static=None)
    assert 73.0 == final_h([]) == final_h([], static=None)
    assert 97.0 == final_h([], settles_after_s={"neso": 96 * HOUR_S})


def test_what_another_provider_tells_is_final_when_the_first_cannot_tell_any_more() -> None:
    """However soon its own values settle."""
    [other] = hourly([100.0], provider="neso")
    [first] = hourly([100.0])
    soon = {"neso": HOUR_S, "electricitymaps": 48 * HOUR_S}

    assert 49.0 == final_h([other], settles_after_s=soon)
    assert 49.0 == final_h([first], settles_after_s={"neso": 96 * HOUR_S, "electricitymaps": 48 * HOUR_S})


def test_what_stands_in_is_final_slot_by_slot() -> None:
    """A long gap is not open as a whole until its end is."""
    assert pytest.approx(12 * KWH_J) == priced(energy(24.0), [], at_h=72.0 + 12.0).final_j


@pytest.mark.parametrize(("from_s", "until_s"), [(0.0, 365 * 24 * HOUR_S), (-math.inf, math.inf)])
def test_a_value_of_a_year_settles_moment_by_moment(from_s: float, until_s: float) -> None:
    """A contract's number is final as soon as its file says, not when the year is over; one of a day is a whole."""
    year = [value(from_s, until_s, 20.0, provider="file")]
    words: dict[str, Any] = {"providers": ["file"], "settles_after_s": {"file": 6 * HOUR_S}}
    day = [value(0.0, 24 * HOUR_S, 20.0, provider="file")]

    assert pytest.approx({Basis.LIFECYCLE: 24 * 20.0}) == dict(priced(energy(24.0), year, **words).emissions_g)
    for at_h, final_h in ((6.0, 0.0), (12.0, 6.0), (30.0, 24.0)):
        assert pytest.approx(final_h * KWH_J) == priced(energy(24.0), year, at_h=at_h, **words).final_j
    assert 0.0 == priced(energy(24.0), day, at_h=29.9, **words).final_j
    assert pytest.approx(12 * KWH_J) == priced(energy(12.0), year, at_h=84.0, providers=["neso", "file"]).final_j


def test_the_basis_is_kept_to_where_its_provider_is_silent() -> None:
    """Looked at piece by piece, two days without the first provider are priced as they are within the whole."""
    others = [
        *hourly([20.0] * 48, provider="neso", basis=Basis.DIRECT),
        *hourly([30.0] * 48, provider="file", basis=Basis.LIFECYCLE),
    ]
    order = [*ORDER, "file"]
    words: dict[str, Any] = {"start_s": T0_S, "end_s": T0_S + 48 * HOUR_S, "settles_after_s": {}}
    newest = value(90 * HOUR_S, 91 * HOUR_S, 100.0)
    known = [newest, *others]
    alone = settlement.course(others, order, YEARLY, **words)
    kept = settlement.course(others, order, YEARLY, basis_of=settlement.newest_of_first(known, order), **words)

    assert {"neso"} == {one.intensity.provider for one in alone.stretches if one.intensity}
    assert {"file"} == {one.intensity.provider for one in kept.stretches if one.intensity}


@settings(max_examples=60, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(-5, 40), st.integers(1, 20)), max_size=20),
    start=st.integers(0, 10),
    length=st.integers(1, 30),
)
def test_the_first_of_each_moment(spans: list[tuple[int, int]], start: int, length: int) -> None:
    """The pieces follow each other without a gap, and each has the first of the list that covers its middle."""
    order = [value(float(begin), float(begin + span), float(number)) for number, (begin, span) in enumerate(spans)]
    pieces = settlement.first_of_each_moment(order, T0_S + start, T0_S + start + length)

    assert T0_S + start == pieces[0][0]
    assert T0_S + start + length == pieces[-1][1]
    assert [end for _start, end, _best in pieces[:-1]] == [begin for begin, _end, _best in pieces[1:]]
    for tick in range(length):
        moment = T0_S + start + tick + 0.5
        [got] = [best for begin, end, best in pieces if begin <= moment < end]
        assert got == next((one for one in order if one.valid_from_s <= moment < one.valid_until_s), None)


def test_sums_of_parts_are_those_of_the_whole() -> None:
    """A base and the younger slots together; the share that is final is between 0 and 1."""
    known = hourly([355.0, 348.0, 342.0, 300.0])
    slots = energy(4.0, energy_j=KWH_J / 7, pue_ratio=1.1)
    at_h = 74.5
    whole = priced(slots, known, at_h=at_h)
    both = settlement.added(priced(slots[:17], known, at_h=at_h), priced(slots[17:], known, at_h=at_h))
    shown = settlement.settled(both, T0_S)

    assert pytest.approx(dict(whole.emissions_g), rel=1e-12) == dict(both.emissions_g)
    assert pytest.approx((whole.energy_j, whole.final_j, whole.unpriced_j)) == (
        both.energy_j,
        both.final_j,
        both.unpriced_j,
    )
    assert pytest.approx(2 / 4) == shown.final_ratio
    assert 1.0 == settlement.settled(settlement.NOTHING, T0_S).final_ratio

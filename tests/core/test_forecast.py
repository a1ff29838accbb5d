from collections.abc import Sequence
from dataclasses import replace
from math import fsum
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.forecast import best_start, score
from monitor.core.model import Basis, Intensity, Quality, Rate, Signal

HALF_S = 1800.0
START_S = 1_795_262_400.0


def slot(number: int, grams: float, quality: Quality = Quality.ACTUAL, *, ahead_s: float = 7200.0) -> Intensity:
    """A half hour of the national feed; a forecast is fetched so long before it begins."""
    from_s = START_S + number * HALF_S
    return Intensity(
        zone="GB",
        grams_per_kilowatthour=grams,
        basis=Basis.DIRECT,
        quality=quality,
        provider="neso",
        valid_from_s=from_s,
        valid_until_s=from_s + HALF_S,
        fetched_at_s=from_s - ahead_s if quality is Quality.FORECAST else from_s + HALF_S,
    )


def expected(numbers: Sequence[float]) -> list[Intensity]:
    """Forecasts, one a half hour."""
    return [slot(number, grams, Quality.FORECAST) for number, grams in enumerate(numbers)]


CAME = [100.0 + 10.0 * number for number in range(12)]


def test_error_and_bias_are_those_of_the_pairs() -> None:
    """Half of the forecasts 20 too high, half 10 too low: 15 off, 5 too high, over a mean of 155 g/kWh."""
    said = [grams + (20.0 if number % 2 else -10.0) for number, grams in enumerate(CAME)]
    found = score(expected(said), [slot(number, grams) for number, grams in enumerate(CAME)])

    assert found is not None
    assert (15.0, 5.0) == pytest.approx((found.mean_error_g, found.bias_g))
    assert 15.0 / 155.0 == pytest.approx(found.error_ratio)


def test_eleven_pairs_are_too_few() -> None:
    """A score of a morning is none."""
    actuals = [slot(number, grams) for number, grams in enumerate(CAME)]

    assert score(expected(CAME[:11]), actuals) is None
    assert score(expected(CAME), actuals[:11]) is None
    assert score([], []) is None


def test_what_came_is_the_last_word_on_it() -> None:
    """A first estimate that was 33 too high is no error of a forecast that the meter confirmed."""
    first = [slot(number, grams + 33.0, Quality.ESTIMATED) for number, grams in enumerate(CAME)]
    last = [
        replace(slot(number, grams), fetched_at_s=START_S + (number + 48) * HALF_S) for number, grams in enumerate(CAME)
    ]
    found = score(expected(CAME), [*first, *last])

    assert found is not None
    assert (0.0, 0.0) == pytest.approx((found.mean_error_g, found.bias_g))


def test_what_was_said_within_the_hour_does_not_count() -> None:
    """The newest forecast that was there an hour before counts, not the better one of the last minute."""
    actuals = [slot(number, grams) for number, grams in enumerate(CAME)]
    old = [slot(number, grams + 50.0, Quality.FORECAST, ahead_s=86_400.0) for number, grams in enumerate(CAME)]
    newer = [slot(number, grams + 30.0, Quality.FORECAST, ahead_s=3600.0) for number, grams in enumerate(CAME)]
    last = [slot(number, grams, Quality.FORECAST, ahead_s=3599.0) for number, grams in enumerate(CAME)]
    found = score([*newer, *last, *old], actuals)

    assert found is not None
    assert (30.0, 30.0) == pytest.approx((found.mean_error_g, found.bias_g))
    assert score(last, actuals) is None


def test_only_like_is_compared_with_like() -> None:
    """Another provider, zone, basis or signal, and values that were carried on or forecast, are no measure."""
    actuals = [slot(number, grams) for number, grams in enumerate(CAME)]
    said = expected(CAME)
    others = (
        {"provider": "energy_charts"},
        {"zone": "FR"},
        {"basis": Basis.LIFECYCLE},
        {"signal": Signal.MARGINAL},
        {"quality": Quality.CARRIED},
        {"quality": Quality.FORECAST},
    )

    assert score(said, actuals) is not None
    for other in others:
        assert score(said, [replace(actual, **other) for actual in actuals]) is None


def test_slots_of_other_lengths_are_weighted() -> None:
    """Forecasts by the hour against actuals by the half hour: the mean of both halves is what came."""
    hourly = [
        replace(slot(2 * number, 100.0, Quality.FORECAST), valid_until_s=START_S + (2 * number + 2) * HALF_S)
        for number in range(12)
    ]
    halves = [slot(number, 90.0 if number % 2 else 100.0) for number in range(24)]
    found = score(hourly, halves)

    assert found is not None
    assert (5.0, 5.0) == pytest.approx((found.mean_error_g, found.bias_g))
    assert score(hourly, halves[:-1]) is None  # the last hour is only half covered


def test_a_grid_without_carbon_has_no_ratio() -> None:
    """0 g/kWh is legal, and nothing is a part of it."""
    found = score(expected([1.0] * 12), [slot(number, 0.0) for number in range(12)])

    assert found is not None
    assert (1.0, None) == (found.mean_error_g, found.error_ratio)


# -- the cleanest start ----------------------------------------------------------------------------------------------


def mean_by_hand(rates: Sequence[Rate], start_s: float, end_s: float) -> float | None:
    """Slot by slot; None where a second is not covered."""
    parts = [
        (min(end_s, rate.valid_until_s) - max(start_s, rate.valid_from_s), rate.amount)
        for rate in rates
        if rate.valid_from_s < end_s and rate.valid_until_s > start_s
    ]
    covered_s = fsum(seconds for seconds, _ in parts)
    return fsum(s * grams for s, grams in parts) / covered_s if abs(covered_s - (end_s - start_s)) < 1e-6 else None


@given(
    amounts=st.lists(st.integers(0, 500), min_size=1, max_size=20),
    lengths=st.lists(st.integers(1, 12), min_size=20, max_size=20),
    holes=st.sets(st.integers(0, 19), max_size=2),
    length=st.integers(1, 40),
    before=st.integers(0, 30),
    limit=st.one_of(st.none(), st.integers(1, 120)),
    shuffle=st.randoms(use_true_random=False),
)
def test_the_start_is_as_good_as_the_best_by_hand(
    *,
    amounts: list[int],
    lengths: list[int],
    holes: set[int],
    length: int,
    before: int,
    limit: int | None,
    shuffle: Random,
) -> None:
    """Slots of any length with holes: no start on a grid that has every edge is better, and it keeps the limits."""
    rates, at = [], 0
    for number, amount in enumerate(amounts):
        if number not in holes:
            rates.append(Rate(float(amount), float(at), float(at + lengths[number])))
        at += lengths[number]
    starts = [begin for begin in range(before, at + 1) if limit is None or begin + length <= limit]
    means = [(mean, start) for start in starts if (mean := mean_by_hand(rates, start, start + length)) is not None]
    shuffle.shuffle(rates)
    found = best_start(rates, float(length), float(before), None if limit is None else float(limit), float(before))

    assert (found is None) == (not means)
    if found is not None:
        assert found.mean_g == pytest.approx(min(means)[0], abs=1e-9)
        assert found.start_s >= before
        assert limit is None or found.start_s + length <= limit + 1e-9
        assert found.now_mean_g == pytest.approx(mean_by_hand(rates, before, before + length), abs=1e-9)


def test_edge_slots_are_weighted() -> None:
    """Ninety minutes in hours of 300, 100, 300: half of a dear one is inevitable, and sooner is better."""
    rates = [Rate(grams, 3600.0 * hour, 3600.0 * (hour + 1)) for hour, grams in enumerate((300.0, 100.0, 300.0))]
    found = best_start(rates, 5400.0, 0.0, None, 0.0)

    assert found is not None
    assert 1800.0 == found.start_s
    assert pytest.approx(500.0 / 3.0) == found.mean_g
    assert pytest.approx(700.0 / 3.0) == found.now_mean_g


def test_of_equal_starts_the_earliest_is_told() -> None:
    """On a flat forecast there is nothing to wait for."""
    rates = [Rate(0.1, 3600.0 * hour, 3600.0 * (hour + 1)) for hour in range(48)]
    found = best_start(rates, 10_000.0, 500.0, None, 500.0)

    assert found is not None
    assert 500.0 == found.start_s


def test_no_forecast_no_advice() -> None:
    """Nothing known, too little known, or no time left."""
    hour = [Rate(100.0, 0.0, 3600.0)]

    assert best_start([], 3600.0, 0.0, None, 0.0) is None
    assert best_start(hour, 3601.0, 0.0, None, 0.0) is None
    assert best_start(hour, 1800.0, 0.0, 1700.0, 0.0) is None
    assert best_start(hour, 0.0, 0.0, None, 0.0) is None
    assert (late := best_start(hour, 600.0, 0.0, None, 3300.0)) is not None
    assert late.now_mean_g is None

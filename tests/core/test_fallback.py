import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core import carbon
from monitor.core.fallback import in_order, that_price
from monitor.core.model import Basis, Intensity, Quality, Signal

HALF_HOUR_S = 1800.0
HOUR_S = 3600.0
NOON_S = 1_795_262_400.0

STATIC = Intensity(
    zone="GB",
    grams_per_kilowatthour=210.9,
    basis=Basis.LIFECYCLE,
    quality=Quality.STATIC,
    provider="ember-owid",
    valid_from_s=-math.inf,
    valid_until_s=math.inf,
)


def _slot(
    grams: float,
    *,
    start_s: float = 0.0,
    step_s: float = HALF_HOUR_S,
    quality: Quality = Quality.ACTUAL,
    provider: str = "neso",
    basis: Basis = Basis.DIRECT,
    signal: Signal = Signal.AVERAGE,
    fetched_s: float = NOON_S,
) -> Intensity:
    """A value that holds from `start_s` after noon on."""
    return Intensity(
        zone="GB",
        grams_per_kilowatthour=grams,
        basis=basis,
        quality=quality,
        provider=provider,
        signal=signal,
        valid_from_s=NOON_S + start_s,
        valid_until_s=NOON_S + start_s + step_s,
        fetched_at_s=fetched_s,
    )


def _at(slots: Sequence[Intensity], moment_s: float) -> Intensity | None:
    return next((slot for slot in slots if slot.valid_from_s <= moment_s < slot.valid_until_s), None)


def _label(slots: Sequence[Intensity], after_noon_s: float) -> tuple[float, Quality] | None:
    slot = _at(slots, NOON_S + after_noon_s)
    return None if slot is None else (slot.grams_per_kilowatthour, slot.quality)


# --- a slow reference: one moment at a time ---


def _reference(
    known: Sequence[Intensity], providers: Sequence[str], static: Intensity | None, moment_s: float
) -> tuple[float, Quality, str] | None:
    """What prices one moment, by the words of the design."""
    average = [value for value in known if value.signal is Signal.AVERAGE and value.provider in providers]
    first = next((name for name in providers if any(value.provider == name for value in average)), None)
    newest = max(
        (value for value in average if value.provider == first),
        key=lambda value: (value.fetched_at_s or 0.0, value.valid_until_s),
        default=None,
    )
    groups = [
        [value for value in average if newest is not None and value.basis is newest.basis],
        [value for value in average if newest is not None and value.basis is not newest.basis],
    ]
    for group in groups:
        found = _reference_of_group(group, providers, moment_s)
        if found is not None:
            return found
    return None if static is None else (static.grams_per_kilowatthour, Quality.STATIC, static.provider)


def _reference_of_group(
    group: Sequence[Intensity], providers: Sequence[str], moment_s: float
) -> tuple[float, Quality, str] | None:
    for name in providers:
        own = [value for value in group if value.provider == name]
        for qualities in ({Quality.ACTUAL}, {Quality.ESTIMATED}):
            covering = [v for v in own if v.quality in qualities and v.valid_from_s <= moment_s < v.valid_until_s]
            if covering:
                return min(covering, key=_tie).grams_per_kilowatthour, covering[0].quality, name
        carried = _last_before(own, moment_s)
        if carried is not None:
            step_s = carried.valid_until_s - carried.valid_from_s
            if moment_s < carried.valid_until_s + min(2 * step_s, 3 * HOUR_S):
                return carried.grams_per_kilowatthour, Quality.CARRIED, name
        covering = [v for v in own if v.quality is Quality.FORECAST and v.valid_from_s <= moment_s < v.valid_until_s]
        if covering:
            return min(covering, key=_tie).grams_per_kilowatthour, Quality.FORECAST, name
    for name in providers:
        carried = _last_before([value for value in group if value.provider == name], moment_s)
        if carried is not None and moment_s < carried.valid_until_s + 3 * HOUR_S:
            return carried.grams_per_kilowatthour, Quality.CARRIED, name
    return None


def _last_before(values: Sequence[Intensity], moment_s: float) -> Intensity | None:
    ended = [v for v in values if v.quality in {Quality.ACTUAL, Quality.ESTIMATED} and v.valid_until_s <= moment_s]
    if not ended:
        return None
    last_s = max(value.valid_until_s for value in ended)
    return min((v for v in ended if v.valid_until_s == last_s), key=lambda v: (v.quality != Quality.ACTUAL, *_tie(v)))


def _tie(value: Intensity) -> tuple[float, float, float, float]:
    return (
        -(value.fetched_at_s or 0.0),
        value.valid_until_s - value.valid_from_s,
        value.valid_from_s,
        value.grams_per_kilowatthour,
    )


_BASIS_OF = {"neso": Basis.DIRECT, "electricitymaps": Basis.LIFECYCLE, "energy_charts": Basis.LIFECYCLE}

_values = st.builds(
    lambda grams, start, step, quality, provider, signal, fetched: _slot(
        float(grams),
        start_s=start * 900.0,
        step_s=step * 900.0,
        quality=quality,
        provider=provider,
        basis=_BASIS_OF[provider],
        signal=signal,
        fetched_s=NOON_S + fetched,
    ),
    grams=st.integers(0, 900),
    start=st.integers(-24, 24),
    step=st.sampled_from([1, 2, 4, 8]),
    quality=st.sampled_from([Quality.ACTUAL, Quality.ESTIMATED, Quality.FORECAST]),
    provider=st.sampled_from(sorted(_BASIS_OF)),
    signal=st.sampled_from([Signal.AVERAGE, Signal.AVERAGE, Signal.MARGINAL]),
    fetched=st.integers(0, 3),
)
_knowns = st.lists(_values, max_size=8)
_orders = st.permutations(sorted(_BASIS_OF)).flatmap(
    lambda names: st.integers(0, len(names)).map(lambda count: names[:count])
)


@given(_knowns, _orders, st.sampled_from([STATIC, None]), st.lists(st.integers(-40, 60), min_size=6, max_size=6))
def test_each_moment_is_priced_as_the_order_says(
    known: list[Intensity], providers: list[str], static: Intensity | None, quarters: list[int]
) -> None:
    """The first slot that covers a moment is what a search of that one moment finds, moment by moment."""
    slots = in_order(known, providers, static, at_s=NOON_S, keep_s=12 * HOUR_S)

    for quarter in quarters:
        moment_s = NOON_S + quarter * 900.0 + 450.0
        slot = _at(slots, moment_s)
        told = None if slot is None else (slot.grams_per_kilowatthour, slot.quality, slot.provider)

        assert _reference(known, providers, static, moment_s) == told


@given(_knowns, _orders, st.sampled_from([STATIC, None]), st.randoms(use_true_random=False))
def test_the_order_in_which_values_came_does_not_matter(
    known: list[Intensity], providers: list[str], static: Intensity | None, random: object
) -> None:
    """Slots out of order or told twice give the same list."""
    mixed = [*known, *known[:3]]
    random.shuffle(mixed)  # type: ignore[attr-defined]
    slots = in_order(known, providers, static, at_s=NOON_S, keep_s=HOUR_S)
    again = in_order(mixed, providers, static, at_s=NOON_S, keep_s=HOUR_S)

    assert [_at(slots, NOON_S + 450.0 + 900.0 * n) for n in range(-4, 60)] == [
        _at(again, NOON_S + 450.0 + 900.0 * n) for n in range(-4, 60)
    ]


@given(_knowns, _orders, st.sampled_from([STATIC, None]))
def test_what_prices_nothing_can_be_left_out(
    known: list[Intensity], providers: list[str], static: Intensity | None
) -> None:
    """`that_price` changes the price of no moment of its span, and keeps nothing that is never first."""
    start_s, end_s = NOON_S - HOUR_S, NOON_S + 2 * HOUR_S
    slots = in_order(known, providers, static, at_s=NOON_S, keep_s=HOUR_S)
    used = that_price(slots, start_s, end_s)
    quarters = [start_s + 450.0 + 900.0 * n for n in range(12)]

    assert [_at(slots, moment_s) for moment_s in quarters] == [_at(used, moment_s) for moment_s in quarters]
    assert {slot for slot in used if not slot.is_for_ever} <= {_at(slots, moment_s) for moment_s in quarters}


# --- the words of the design, one by one ---


def test_a_dead_feed_goes_down_the_order_and_each_step_is_labelled() -> None:
    """Actual; carried for two slots; forecast for it; carried up to 3 h; static."""
    known = [
        _slot(138.0),
        _slot(150.0, start_s=3 * HALF_HOUR_S, quality=Quality.FORECAST),
    ]
    slots = in_order(known, ["neso"], replace(STATIC, basis=Basis.DIRECT), at_s=NOON_S, keep_s=HOUR_S)

    assert (138.0, Quality.ACTUAL) == _label(slots, 0.0)
    assert (138.0, Quality.CARRIED) == _label(slots, HALF_HOUR_S)
    assert (138.0, Quality.CARRIED) == _label(slots, 3 * HALF_HOUR_S - 1.0)
    assert (150.0, Quality.FORECAST) == _label(slots, 3 * HALF_HOUR_S)
    assert (138.0, Quality.CARRIED) == _label(slots, 4 * HALF_HOUR_S)
    assert (138.0, Quality.CARRIED) == _label(slots, HALF_HOUR_S + 3 * HOUR_S - 1.0)
    assert (210.9, Quality.STATIC) == _label(slots, HALF_HOUR_S + 3 * HOUR_S)


def test_a_value_is_carried_no_longer_than_three_hours_however_long_its_slot() -> None:
    """Two slots of a day would be two days."""
    slots = in_order([_slot(138.0, step_s=24 * HOUR_S)], ["neso"], None, at_s=NOON_S, keep_s=HOUR_S)

    assert (138.0, Quality.CARRIED) == _label(slots, 27 * HOUR_S - 1.0)
    assert _label(slots, 27 * HOUR_S) is None


def test_the_other_provider_comes_before_a_long_carry_if_it_counts_the_same() -> None:
    """Within one basis the second provider's slot prices what the first has no word of."""
    known = [_slot(138.0), _slot(99.0, start_s=4 * HALF_HOUR_S, provider="file")]
    slots = in_order(known, ["neso", "file"], STATIC, at_s=NOON_S, keep_s=HOUR_S)

    assert (138.0, Quality.CARRIED) == _label(slots, 2 * HALF_HOUR_S)
    assert (138.0, Quality.CARRIED) == _label(slots, 3 * HALF_HOUR_S + 1.0)
    assert (99.0, Quality.ACTUAL) == _label(slots, 4 * HALF_HOUR_S + 1.0)


def test_the_basis_of_the_first_provider_is_kept_while_it_told_anything_lately() -> None:
    """A lifecycle run stays one while a lifecycle value is carried; then come the other provider and the year."""
    known = [
        _slot(342.0, start_s=-8 * HOUR_S, step_s=HOUR_S, provider="electricitymaps", basis=Basis.LIFECYCLE),
        _slot(138.0),
    ]
    lately = [replace(known[0], valid_from_s=NOON_S - 2 * HOUR_S, valid_until_s=NOON_S - HOUR_S), known[1]]
    order = ["electricitymaps", "neso"]

    assert (342.0, Quality.CARRIED) == _label(in_order(lately, order, STATIC, at_s=NOON_S, keep_s=HOUR_S), 60.0)
    assert (138.0, Quality.ACTUAL) == _label(in_order(known, order, STATIC, at_s=NOON_S, keep_s=HOUR_S), 60.0)
    assert (210.9, Quality.STATIC) == _label(in_order(known[:1], order, STATIC, at_s=NOON_S, keep_s=HOUR_S), 60.0)


def test_a_first_provider_that_never_spoke_has_no_basis_to_keep() -> None:
    """Then the basis is the second one's, and its live value comes before a yearly one."""
    slots = in_order([_slot(138.0)], ["electricitymaps", "neso"], STATIC, at_s=NOON_S, keep_s=HOUR_S)

    assert (138.0, Quality.ACTUAL) == _label(slots, 60.0)
    assert (210.9, Quality.STATIC) == _label(slots, 12 * HOUR_S)


def test_marginal_values_are_a_list_of_their_own() -> None:
    """They never price the average series, nor does the average price the marginal one."""
    known = [_slot(870.0, provider="watttime", signal=Signal.MARGINAL), _slot(138.0)]
    average = in_order(known, ["watttime", "neso"], STATIC, at_s=NOON_S, keep_s=HOUR_S)
    marginal = in_order(known, ["watttime"], None, at_s=NOON_S, keep_s=HOUR_S, signal=Signal.MARGINAL)

    assert {Signal.AVERAGE} == {slot.signal for slot in average}
    assert (870.0, Quality.ACTUAL) == _label(marginal, 60.0)
    assert {Signal.MARGINAL} == {slot.signal for slot in marginal}


def test_another_trainwatts_own_fallback_stays_what_it_was() -> None:
    """What a relay carried is carried no further, and its yearly value is no better than ours."""
    known = [
        _slot(138.0, provider="relay", quality=Quality.CARRIED, basis=Basis.LIFECYCLE),
        _slot(205.0, provider="relay", quality=Quality.STATIC, basis=Basis.LIFECYCLE, step_s=2 * HOUR_S),
    ]
    slots = in_order(known, ["relay"], STATIC, at_s=NOON_S, keep_s=HOUR_S)

    assert (138.0, Quality.CARRIED) == _label(slots, 60.0)
    assert (205.0, Quality.STATIC) == _label(slots, HALF_HOUR_S + 60.0)
    assert (210.9, Quality.STATIC) == _label(slots, 2 * HOUR_S + 60.0)


def test_a_provider_that_is_no_longer_named_prices_nothing() -> None:
    """Values of an earlier configuration stay in the store."""
    assert (STATIC,) == in_order([_slot(138.0)], ["file"], STATIC, at_s=NOON_S, keep_s=HOUR_S)
    assert () == in_order([], [], None, at_s=NOON_S, keep_s=HOUR_S)


def test_a_legal_zero_is_a_value() -> None:
    """A direct feed may say 0, and then it is 0 that is carried."""
    slots = in_order([_slot(0.0)], ["neso"], STATIC, at_s=NOON_S, keep_s=HOUR_S)

    assert (0.0, Quality.ACTUAL) == _label(slots, 60.0)
    assert (0.0, Quality.CARRIED) == _label(slots, HALF_HOUR_S + 60.0)


def test_a_day_of_five_minutes_is_short_where_it_is_whole() -> None:
    """Nothing is carried within a series without gaps: the list is the slots, one carry of either kind, the static."""
    known = [_slot(100.0 + n, start_s=300.0 * n, step_s=300.0) for n in range(288)]
    slots = in_order(known, ["neso"], STATIC, at_s=NOON_S + 24 * HOUR_S, keep_s=25 * HOUR_S)

    assert 288 + 3 == len(slots)


def test_the_list_prices_a_whole_outage_without_a_hole() -> None:
    """Through the pricing code: half an hour live, an hour carried, the rest by the forecast."""
    forecasts = [_slot(200.0, start_s=n * HALF_HOUR_S, quality=Quality.FORECAST) for n in range(1, 9)]
    slots = in_order([_slot(100.0), *forecasts], ["neso"], STATIC, at_s=NOON_S, keep_s=HOUR_S)
    price = carbon.price(3.6e6, NOON_S, NOON_S + 2 * HOUR_S, slots, 1.0)

    assert 0.0 == price.unpriced_j
    assert 0.25 * 100.0 + 0.5 * 100.0 + 0.25 * 200.0 == pytest.approx(sum(part.emissions_g for part in price.grams))

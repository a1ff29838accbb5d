import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.errors import FeedError
from monitor.grid.breaker import Breaker, retry_s
from monitor.grid.feed import About
from monitor.grid.schedule import Checked, Slots, forecast_due_s, latest_due_s, past_due_s, past_start_s, quota_free_s

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
NOON_S = 1_795_262_400.0
"""A multiple of an hour."""
ABOUT = About(
    name="neso", title="NESO", credit="", cadence_s=1800.0, phase_s=120.0, past_s=14 * DAY_S, forecast_s=2 * DAY_S
)
chances = st.floats(0.0, 1.0, exclude_max=True)


@given(st.floats(0.0, 10 * DAY_S), chances)
def test_the_present_is_asked_for_once_a_slot(after_noon_s: float, chance: float) -> None:
    """At :02 and :32 and a little later, however late the last question was, and never twice for one slot."""
    asked_s = NOON_S + after_noon_s
    due_s = latest_due_s(ABOUT, asked_s, chance)
    after_slot_s = (due_s - NOON_S) % 1800.0

    assert 120.0 <= round(after_slot_s, 3) <= 180.0
    assert asked_s < due_s <= asked_s + 1800.0 + 60.0
    assert math.floor((due_s - 120.0) / 1800.0 + 1e-6) == math.floor((asked_s - 120.0) / 1800.0 + 1e-6) + 1


@given(chances)
def test_the_jitter_is_a_tenth_of_the_cadence_and_no_more_than_a_minute(chance: float) -> None:
    """Five minutes have half a minute of it, an hour has a minute."""
    five_minutes = replace(ABOUT, cadence_s=300.0, phase_s=0.0)
    hourly = replace(ABOUT, cadence_s=HOUR_S, phase_s=0.0)

    assert 300.0 <= latest_due_s(five_minutes, NOON_S, chance) - NOON_S <= 330.0
    assert HOUR_S <= latest_due_s(hourly, NOON_S, chance) - NOON_S <= HOUR_S + 60.0


def test_what_was_never_asked_is_asked_at_once() -> None:
    """The present, the future and the past; and never what the provider does not have."""
    without = replace(ABOUT, past_s=0.0, forecast_s=0.0)

    assert [-math.inf] * 3 == [
        latest_due_s(ABOUT, None, 0.5),
        forecast_due_s(ABOUT, None, 0.5),
        past_due_s(ABOUT, ()),
    ]
    assert [math.inf] * 2 == [forecast_due_s(without, None, 0.5), past_due_s(without, ())]
    assert -math.inf == quota_free_s(ABOUT, None)


def test_a_forecast_is_asked_for_every_three_hours() -> None:
    """And a little, so that not all ask at once."""
    assert 3 * HOUR_S <= forecast_due_s(ABOUT, NOON_S, 0.9) - NOON_S <= 3 * HOUR_S + 60.0


def _checks_of(about: About, end_s: float, hours: float, start: tuple[Checked, ...] = ()) -> list[float]:
    """At what age (s) the slot that ends at `end_s` was in a range, when the daemon runs from noon on for so long."""
    checked, ages, now_s = list(start), [], NOON_S
    while (now_s := max(now_s, past_due_s(about, checked))) < NOON_S + hours * HOUR_S:
        start_s = past_start_s(about, checked, now_s)
        checked.append(Checked(start_s, now_s))
        if start_s <= end_s - about.cadence_s and end_s <= now_s:
            ages.append(now_s - end_s)
    return ages


@pytest.mark.parametrize("cadence_s", [300.0, 900.0, 1800.0, 3600.0])
def test_each_slot_is_asked_for_again_at_each_of_its_ages(cadence_s: float) -> None:
    """+1, +3, +6, +24, +72 h, each late by no more than the cadence or a quarter of the age."""
    about = replace(ABOUT, cadence_s=cadence_s)
    ages = _checks_of(about, NOON_S + 2 * HOUR_S, 110.0)

    for hours in (1, 3, 6, 24, 72):
        late_s = max(cadence_s, hours * HOUR_S / 4, 900.0) + 60.0
        assert any(hours * HOUR_S <= age_s <= hours * HOUR_S + late_s for age_s in ages), hours


def test_checks_end_when_the_value_is_final_or_out_of_reach() -> None:
    """A provider whose values settle within a day is not asked for older ones, nor one that tells of a day only."""
    settled = replace(ABOUT, settles_after_s=DAY_S)
    shallow = replace(ABOUT, past_s=DAY_S)

    assert max(_checks_of(settled, NOON_S + 2 * HOUR_S, 100.0)) <= DAY_S + 6 * HOUR_S + 1800.0 + 60.0
    assert max(_checks_of(shallow, NOON_S + 2 * HOUR_S, 100.0)) <= DAY_S
    assert 20 * HOUR_S <= max(_checks_of(shallow, NOON_S + 2 * HOUR_S, 100.0))


def test_one_request_covers_many_slots() -> None:
    """A day of five minutes costs no more than one request each quarter of an hour."""
    about = replace(ABOUT, cadence_s=300.0)
    checked, now_s = [Checked(NOON_S - 4 * DAY_S, NOON_S)], NOON_S
    while now_s < NOON_S + DAY_S:
        now_s = past_due_s(about, checked)
        checked.append(Checked(past_start_s(about, checked, now_s), now_s))

    assert len(checked) <= 1 + 4 * 24 + 1


def test_a_check_that_was_missed_is_made_once() -> None:
    """After a day without the daemon: one request for all of it, then the usual pace."""
    before = Checked(NOON_S - 5 * DAY_S, NOON_S - DAY_S)
    start_s = past_start_s(ABOUT, [before], NOON_S)
    after = Checked(start_s, NOON_S)

    assert past_due_s(ABOUT, [before]) <= NOON_S
    assert NOON_S - 4 * DAY_S <= start_s <= NOON_S - 3.5 * DAY_S
    assert NOON_S + 1800.0 <= past_due_s(ABOUT, [before, after])


def test_after_a_restart_nothing_is_asked_twice() -> None:
    """What was asked ten minutes ago is due when it would have been."""
    before = [Checked(NOON_S - 5 * DAY_S, NOON_S - 600.0)]

    assert NOON_S - 600.0 + 1800.0 == past_due_s(ABOUT, before)


def test_a_range_never_reaches_further_than_the_provider() -> None:
    """Nor further than what is still open."""
    assert NOON_S - DAY_S == past_start_s(replace(ABOUT, past_s=DAY_S), (), NOON_S)
    assert NOON_S - 4 * DAY_S <= past_start_s(ABOUT, (), NOON_S) <= NOON_S - 3 * DAY_S


def test_a_stand_in_settles_what_it_stood_in_for_and_then_rests() -> None:
    """First an hour after, five times or so, and never again once the last slot is three days old."""
    slots = Slots(NOON_S - 1800.0, NOON_S + 1800.0)
    checked: list[Checked] = []
    moments = []
    while (due_s := past_due_s(ABOUT, checked, slots)) < math.inf:
        moments.append(due_s)
        checked.append(Checked(past_start_s(ABOUT, checked, due_s, slots), due_s))

    assert NOON_S + HOUR_S / 2 == moments[0]
    assert NOON_S + 3 * DAY_S <= moments[-1] <= NOON_S + 4 * DAY_S
    assert len(moments) <= 12
    assert math.inf == past_due_s(ABOUT, (), Slots(math.inf, -math.inf))


# --- back-off ---


@given(st.integers(1, 400), chances, st.sampled_from(sorted(FeedError.REASONS)), st.floats(0.0, 7200.0))
def test_back_off(tries: int, chance: float, reason: str, retry_after_s: float) -> None:
    """Up to twice as much as before and half an hour at most; what the provider asks for at least."""
    about = replace(ABOUT, apart_s=65.0)
    error = FeedError("no", reason=reason, retry_after_s=retry_after_s)
    wait_s = retry_s(about, tries, error, chance)

    assert retry_after_s <= wait_s
    if reason in {"plan", "zone"}:
        assert 6 * HOUR_S <= wait_s
    else:
        assert wait_s <= max(retry_after_s, 65.0, min(1800.0, 10.0 * 2.0 ** (tries - 1)))
    if reason == "quota":
        assert 65.0 <= wait_s


def test_a_provider_cannot_ask_to_be_left_alone_for_years() -> None:
    """A day is kept; nonsense is not."""
    error = FeedError("no", reason="server", retry_after_s=1e9)

    assert DAY_S == retry_s(ABOUT, 1, error, 0.5)


def test_the_breaker_opens_after_five_failures_in_a_row_and_closes_with_the_first_answer() -> None:
    """Up to then every zone goes by its own back-off."""
    breaker = Breaker()
    error = FeedError("no", reason="server")
    for _ in range(4):
        breaker.failed(ABOUT, error, NOON_S, 0.5)

    assert (False, NOON_S) == (breaker.is_open, breaker.not_before_s)

    breaker.failed(ABOUT, error, NOON_S, 0.5)

    assert (True, NOON_S + 80.0) == (breaker.is_open, breaker.not_before_s)

    breaker.well()

    assert (False, -math.inf) == (breaker.is_open, breaker.not_before_s)


def test_a_zone_that_is_unknown_says_nothing_of_the_provider() -> None:
    """Nor does a plan that is too small."""
    breaker = Breaker()
    for _ in range(9):
        breaker.failed(ABOUT, FeedError("no", reason="zone"), NOON_S, 0.5)

    assert not breaker.is_open


def test_a_quota_holds_for_all_zones() -> None:
    """One 429 leaves the provider alone for as long as it says."""
    breaker = Breaker()
    breaker.failed(ABOUT, FeedError("no", reason="quota", retry_after_s=90.0), NOON_S, 0.5)

    assert NOON_S + 90.0 == breaker.not_before_s


def test_a_key_that_is_refused_for_a_quarter_of_an_hour_is_asked_with_once_an_hour() -> None:
    """Before that it may be one of the refusals that valid keys get; another error in between starts anew."""
    breaker = Breaker()
    error = FeedError("no", reason="key")
    breaker.failed(ABOUT, error, NOON_S, 0.5)
    breaker.failed(ABOUT, error, NOON_S + 899.0, 0.5)

    assert not breaker.key_is_wrong(NOON_S + 899.0)

    breaker.failed(ABOUT, error, NOON_S + 901.0, 0.5)

    assert breaker.key_is_wrong(NOON_S + 901.0)
    assert NOON_S + 901.0 + HOUR_S == breaker.not_before_s

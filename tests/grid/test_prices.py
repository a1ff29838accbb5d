import json
import os
import time
from collections.abc import Sequence
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.core.carbon import cost_of
from monitor.core.model import Rate
from monitor.core.units import JOULES_PER_KILOWATTHOUR
from monitor.errors import UsageError
from monitor.grid.prices import PriceFile, listed, prices
from monitor.tables import PriceTable

BERLIN = ZoneInfo("Europe/Berlin")
DAY_S = 86_400.0
SPRING_S = datetime(2026, 3, 29, tzinfo=BERLIN).timestamp()
"""Midnight before the clocks go from 02:00 to 03:00."""
AUTUMN_S = datetime(2026, 10, 25, tzinfo=BERLIN).timestamp()
"""Midnight before they go from 03:00 to 02:00."""
NIGHT = {"from": "22:00", "until": "06:00", "amount": 0.19}
DAY = {"from": "06:00", "until": "22:00", "amount": 0.31}


def table(*times: dict[str, Any], timezone: str = "Europe/Berlin", **more: Any) -> PriceTable:
    """A price by time of use in euros."""
    return PriceTable.model_validate({"currency": "EUR", "timezone": timezone, "times": times, **more})


def at(rates: Sequence[Rate], moment_s: float) -> float | None:
    """The price of a moment; asserts that there is one at most."""
    found = [rate.amount for rate in rates if rate.valid_from_s <= moment_s < rate.valid_until_s]
    assert len(found) <= 1
    return found[0] if found else None


def test_one_price_holds_for_ever() -> None:
    """Also a negative one, and without a table there is none."""
    flat = prices(PriceTable(currency="EUR", flat=-0.01))

    assert (Rate(-0.01, -inf, inf),) == flat(0.0, 1.0)
    assert () == prices(None)(0.0, DAY_S)


def test_a_night_that_began_on_a_weekday_ends_on_saturday() -> None:
    """mon-fri is of the day on which a window begins: Saturday until 06:00 is Friday's night."""
    times = prices(table(NIGHT | {"days": "mon-fri"}, flat=0.31))
    friday_s = datetime(2026, 11, 20, 12, tzinfo=BERLIN).timestamp()
    found = times(friday_s, friday_s + 2 * DAY_S)

    assert [0.31, 0.19, 0.31] == [rate.amount for rate in found]
    assert datetime(2026, 11, 20, 22, tzinfo=BERLIN).timestamp() == found[1].valid_from_s
    assert datetime(2026, 11, 21, 6, tzinfo=BERLIN).timestamp() == found[1].valid_until_s


def test_sunday_night_reaches_into_monday() -> None:
    """The week is a ring."""
    times = prices(table(NIGHT | {"days": "sun"}, flat=0.31))
    monday_s = datetime(2026, 11, 23, tzinfo=BERLIN).timestamp()

    assert (Rate(0.19, monday_s, monday_s + 6 * 3600.0),) == times(monday_s, monday_s + 6 * 3600.0)


@pytest.mark.parametrize(("day_s", "night_hours"), [(SPRING_S, 7.0), (AUTUMN_S, 9.0)], ids=["spring", "autumn"])
def test_a_night_is_an_hour_shorter_or_longer_when_the_clocks_change(day_s: float, night_hours: float) -> None:
    """22:00 to 06:00 by the clock on the wall; what a kilowatt costs in it is the closed form."""
    times = prices(table(NIGHT, DAY))
    found = times(day_s - 6 * 3600.0, day_s + 12 * 3600.0)
    (night,) = (rate for rate in found if rate.amount == 0.19)
    joules = 1000.0 * (night.valid_until_s - night.valid_from_s)

    assert night_hours * 3600.0 == night.valid_until_s - night.valid_from_s
    assert night_hours * 0.19 == pytest.approx(
        cost_of(joules, night.valid_from_s, night.valid_until_s, found, 1.0), abs=1e-12
    )
    assert joules / JOULES_PER_KILOWATTHOUR == pytest.approx(night_hours)


@example(start_s=SPRING_S - 3600.5, span_s=30_000.0, zone="Europe/Berlin")
@example(start_s=AUTUMN_S + 1800.25, span_s=30_000.0, zone="Europe/Berlin")
@example(start_s=1_775_312_000.0, span_s=200_000.0, zone="Australia/Lord_Howe")  # half an hour of summer time
@given(
    start_s=st.floats(1_767_225_600.0, 1_798_761_600.0),
    span_s=st.floats(0.0, 9 * DAY_S),
    zone=st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
def test_at_any_moment_the_price_is_that_of_the_local_clock(start_s: float, span_s: float, zone: str) -> None:
    """Whatever the time zone and the span: slots are in order, disjoint, cover it, and agree with the clock."""
    windows = (
        {"from": "00:30", "until": "02:15", "amount": 1.0},
        {"from": "02:15", "until": "22:00", "days": "mon-thu", "amount": 2.0},
        {"from": "22:00", "until": "00:30", "days": "mon-thu", "amount": 3.0},
    )
    found = prices(table(*windows, timezone=zone, flat=9.0))(start_s, start_s + span_s)

    assert [rate.valid_until_s for rate in found[:-1]] == [rate.valid_from_s for rate in found[1:]]
    if found:
        assert (start_s, start_s + span_s) == (found[0].valid_from_s, found[-1].valid_until_s)
    moments = {start_s + span_s * part for part in (0.0, 0.21, 0.5, 0.77)}
    moments |= {edge + shift for rate in found for edge in rate[1:] for shift in (-1.0, 0.0, 1.0)}
    for moment_s in moments:
        if start_s <= moment_s < start_s + span_s:
            assert by_clock(moment_s, zone) == at(found, moment_s)


def by_clock(moment_s: float, zone: str) -> float:
    """The price as a person reads it off the clock on the wall and the calendar."""
    local = datetime.fromtimestamp(moment_s, ZoneInfo(zone))
    minute, is_week = 60 * local.hour + local.minute, local.weekday() < 4
    if minute < 30:  # of the night that began the day before
        return 3.0 if (local.weekday() - 1) % 7 < 4 else 9.0
    if minute < 135:
        return 1.0
    if not is_week:
        return 9.0
    return 2.0 if minute < 22 * 60 else 3.0


def test_what_is_left_out_is_named() -> None:
    """A gap is an error unless a flat price gives the rest; the first ones are named."""
    with pytest.raises(UsageError) as caught:
        prices(table(NIGHT))
    with pytest.raises(UsageError, match=r"leave out sat 22:00 to sun 06:00; give flat = AMOUNT"):
        prices(table(DAY, NIGHT | {"days": "sun-fri"}))

    assert "mon 06:00 to mon 22:00, tue 06:00 to tue 22:00, wed 06:00 to wed 22:00 and 4 more" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_priced_twice_is_refused() -> None:
    """Which of the two would be a guess."""
    with pytest.raises(UsageError, match=r"price.times: mon 05:00 is priced twice"):
        prices(table(NIGHT, {"from": "05:00", "until": "22:00", "amount": 0.3}))


def test_an_unknown_time_zone_is_one_line() -> None:
    """With an example."""
    for name in ("Europe/Berln", "../../etc/passwd", "\0"):
        with pytest.raises(UsageError, match="such as Europe/Berlin"):
            prices(table(NIGHT, DAY, timezone=name))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"currency": "euro", "flat": 0.3}, "three letters"),
        ({"currency": "EUR"}, "flat = AMOUNT"),
        ({"currency": "EUR", "flat": float("nan")}, "finite"),
        ({"currency": "EUR", "times": [NIGHT]}, "time zone"),
        ({"currency": "EUR", "times": [NIGHT], "file": "x", "timezone": "UTC"}, "not both"),
        ({"currency": "EUR", "timezone": "UTC", "times": [NIGHT | {"from": "22"}]}, "06:00"),
        ({"currency": "EUR", "timezone": "UTC", "times": [NIGHT | {"until": "22:00"}]}, "two different times"),
        ({"currency": "EUR", "timezone": "UTC", "times": [NIGHT | {"days": "weekdays"}]}, "mon-fri"),
    ],
)
def test_a_mistake_in_the_table_says_what_is_expected(wrong: dict[str, Any], says: str) -> None:
    """Each with an example of the right thing."""
    with pytest.raises(ValueError, match=says):
        PriceTable.model_validate(wrong)


def test_a_list_prices_its_slots() -> None:
    """In the order of time, without the time that nobody prices; the flat price gives the rest where there is one."""
    slots = [Rate(0.3, 7200.0, 10_800.0), Rate(-0.1, 0.0, 3600.0)]

    assert (Rate(-0.1, 0.0, 3600.0), Rate(0.3, 7200.0, 9000.0)) == listed(slots)(0.0, 9000.0)
    assert (0.2, 3600.0, 7200.0) == tuple(listed(slots, 0.2)(0.0, 9000.0)[1])


@given(
    spans=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), max_size=12),
    start=st.integers(-5, 40),
    length=st.integers(0, 40),
    flat=st.none() | st.just(9.0),
)
def test_where_slots_overlap_the_first_counts(
    spans: list[tuple[int, int]], start: int, length: int, flat: float | None
) -> None:
    """In whatever order, whatever their lengths: moment by moment."""
    slots = [Rate(float(number), float(begin), float(begin + span)) for number, (begin, span) in enumerate(spans)]
    found = listed(slots, flat)(float(start), float(start + length))

    for moment_s in (start + step + 0.5 for step in range(length)):
        first = next((rate.amount for rate in slots if rate.valid_from_s <= moment_s < rate.valid_until_s), flat)
        assert first == at(found, moment_s)
    for rate in found if slots else ():
        assert start <= rate.valid_from_s < rate.valid_until_s <= start + length


def test_a_year_of_quarters_holds_up_nobody() -> None:
    """The loop asks for some days of it: what lies outside them is not looked at."""
    quarters = listed([Rate(0.1 + number % 7 / 100, 900.0 * number, 900.0 * (number + 1)) for number in range(35_000)])
    took_s = []
    for _ in range(5):
        begun_s = time.perf_counter()
        found = quarters(34_600 * 900.0, 34_896 * 900.0)
        took_s.append(time.perf_counter() - begun_s)

    assert 296 == len(found)
    assert min(took_s) < 0.01


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was known stays while the file is damaged, and each problem is told once; moments may have any offset."""
    path = tmp_path / "prices.json"
    hour = {"from": "2026-11-21T12:00:00+01:00", "until": "2026-11-21T12:00Z", "amount": 0.25}
    path.write_text(json.dumps([hour]))
    found = prices(PriceTable(currency="EUR", file=path))
    noon_s = datetime(2026, 11, 21, 12, tzinfo=ZoneInfo("UTC")).timestamp()
    span = (noon_s - 7200.0, noon_s + 3600.0)
    assert isinstance(found, PriceFile)

    assert (Rate(0.25, noon_s - 3600.0, noon_s),) == found(*span)
    damages = ("[", '[{"from": 1}]', '{"a": 1}', json.dumps([hour | {"amount": None}]), "[1]")
    for number, damage in enumerate(damages):
        replaced(path, damage)
        found.look()
        found.look()

        assert (Rate(0.25, noon_s - 3600.0, noon_s),) == found(*span)
        assert str(path) in found.problem
        assert number + 1 == len(caplog.messages)
    replaced(path, json.dumps([hour | {"amount": 0.5}]))
    found.look()

    assert [0.5] == [rate.amount for rate in found(*span)]
    assert "" == found.problem
    path.unlink()
    found.look()

    assert [0.5] == [rate.amount for rate in found(*span)]
    assert "cannot read the prices" in found.problem


def replaced(path: Path, text: str) -> None:
    """As a good writer does: nobody sees half of it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_a_price_file_that_hangs_holds_up_nobody(tmp_path: Path) -> None:
    """A call answers with what is known, though whoever looks is caught in the file: here a pipe that nobody fills."""
    path = tmp_path / "prices.json"
    path.write_text(json.dumps([{"from": 0, "until": 3600, "amount": 0.25}]))
    found = prices(PriceTable(currency="EUR", file=path))
    path.unlink()
    os.mkfifo(path)
    for _ in range(100):
        assert (Rate(0.25, 0.0, 3600.0),) == found(0.0, 7200.0)
    for _ in range(2):  # lets go of whoever looks, however late it opened it
        writer = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        os.write(writer, b"[]")
        os.close(writer)

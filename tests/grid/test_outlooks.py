"""What providers expect, out of the forecasts that are known: one price for each moment ahead."""

from typing import Any

from monitor.core.model import Basis, Intensity, Quality, Rate
from monitor.core.projection import project
from monitor.grid.outlooks import outlooks

NOON_S = 1_795_262_400.0
HOUR_S = 3600.0


def slot(from_s: float, until_s: float, grams: float, *, fetched_s: float, **words: Any) -> Intensity:
    """Between so many seconds after noon."""
    told: dict[str, Any] = {"basis": Basis.LIFECYCLE, "quality": Quality.FORECAST, "provider": "electricitymaps"}
    return Intensity(
        zone="DE",
        grams_per_kilowatthour=grams,
        valid_from_s=NOON_S + from_s,
        valid_until_s=NOON_S + until_s,
        fetched_at_s=NOON_S + fetched_s,
        **(told | words),
    )


QUARTERS = [slot(900.0 * number, 900.0 * (number + 1), 100.0, fetched_s=-7200.0) for number in range(16)]
HOURS = [slot(HOUR_S * number, HOUR_S * (number + 1), 200.0 + number, fetched_s=-60.0) for number in range(3)]


def expected(*values: Intensity) -> list[tuple[float, float, float]]:
    """Grams, and the span in seconds after noon."""
    [outlook] = outlooks(["electricitymaps"], values, [], NOON_S)
    return [(rate.amount, rate.valid_from_s - NOON_S, rate.valid_until_s - NOON_S) for rate in outlook.slots]


def test_of_forecasts_that_overlap_the_newest_counts() -> None:
    """A provider went from quarters to hours: no moment is told twice, and what only the older one has stays."""
    hours = [(200.0 + number, HOUR_S * number, HOUR_S * (number + 1)) for number in range(3)]
    quarters = [(100.0, 900.0 * number, 900.0 * (number + 1)) for number in range(12, 16)]

    assert hours + quarters == expected(*QUARTERS, *HOURS) == expected(*HOURS, *QUARTERS)


def test_a_slot_that_is_partly_older_keeps_its_own_part() -> None:
    """A newer forecast begins within an older one; an observation comes before both."""
    older, newer = slot(0.0, HOUR_S, 100.0, fetched_s=-60.0), slot(1800.0, 5400.0, 50.0, fetched_s=-30.0)
    seen = slot(0.0, 900.0, 80.0, fetched_s=-90.0, quality=Quality.ACTUAL)

    assert [(80.0, 0.0, 900.0), (100.0, 900.0, 1800.0), (50.0, 1800.0, 5400.0)] == expected(older, newer, seen)


def test_what_a_run_will_use_is_priced_once() -> None:
    """Half done after an hour and a kilowatt-hour, at 100 g/kWh throughout: as much again is to come."""
    hours = [slot(HOUR_S * number, HOUR_S * (number + 1), 100.0, fetched_s=-60.0) for number in range(3)]
    [outlook] = outlooks(["electricitymaps"], [*QUARTERS, *hours], [], NOON_S)
    found = project(
        done_ratio=0.5,
        duration_s=HOUR_S,
        energy_j=3.6e6,
        emissions_g=100.0,
        now_wall_s=NOON_S,
        expected=outlook.slots,
        flat=None,
        pue_ratio=1.0,
    )

    assert Rate(100.0, NOON_S, NOON_S + HOUR_S) == outlook.slots[0]
    assert found is not None
    assert 200.0 == found.emissions_g

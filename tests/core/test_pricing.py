"""What energy is priced with: slots, zones of devices, marginal values, contracts, tariffs, water, embodied grams."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.fold import step
from monitor.core.model import (
    Basis,
    Component,
    Device,
    GridState,
    Instant,
    Intensity,
    Quality,
    Rate,
    Reading,
    Run,
    RunBook,
    Sample,
    Signal,
)
from monitor.core.pricing import embodied_g_per_s
from monitor.core.projection import project
from monitor.core.snapshot import Policy, Snapshot

UNIX_S = 1.79e9
KILOWATTHOUR_J = 3.6e6
YEAR_S = 365.25 * 86_400.0


def gpu(number: int) -> Device:
    """A GPU of 3,600 W, so that a second of it is a thousandth of a kilowatt-hour."""
    return Device(id=f"GPU-{number}", component=Component.GPU, source="nvml", max_power_w=5000.0, counter_epoch="1")


def slot(zone: str, from_s: float, until_s: float, grams: float, signal: Signal = Signal.AVERAGE) -> Intensity:
    """One value of a feed; moments are seconds since the count began."""
    return Intensity(
        zone=zone,
        grams_per_kilowatthour=grams,
        basis=Basis.DIRECT,
        quality=Quality.ACTUAL,
        provider="test",
        signal=signal,
        valid_from_s=UNIX_S + from_s,
        valid_until_s=UNIX_S + until_s,
    )


def metered(
    policy: Policy,
    *,
    seconds: int,
    slots: tuple[Intensity, ...] = (),
    rates: tuple[Rate, ...] = (),
    runs: tuple[Run, ...] | None = None,
) -> Snapshot:
    """Two GPUs of 3,600 W each, held by run r (or by the runs given), read once a second."""
    held = runs or (Run(id="r", name="r", start=Instant(0.0, UNIX_S), holds=frozenset({"GPU-0", "GPU-1"})),)
    snapshot = Snapshot(ledger_id="l", policy=policy)
    for second in range(seconds + 1):
        at = Instant(float(second), UNIX_S + second)
        readings = tuple(Reading(device=gpu(number), at=at, energy_j=3600.0 * second) for number in range(2))
        grid = GridState(rates=rates)
        snapshot = step(
            snapshot, Sample(at=at, readings=readings, runs=RunBook(runs=held), intensities=slots, grid=grid)
        )
    return snapshot


def test_devices_are_priced_in_their_own_zones() -> None:
    """One GPU of a node hangs on another grid: its joules, and only they, have that grid's price and name."""
    slots = (slot("DE", 0, 100, 300.0), slot("FR", 0, 100, 30.0))
    snapshot = metered(Policy(zone="DE", zones={"GPU-1": "FR"}), seconds=10, slots=slots)

    assert sum(snapshot.runs["r"].emissions_g.values()) == pytest.approx(0.01 * (300.0 + 30.0))
    assert {("GPU-0", "DE"), ("GPU-1", "FR")} == {(one.device_id, one.zone) for one in snapshot.booked}
    assert snapshot.node_unpriced_j == 0.0


def test_a_zone_without_a_value_is_unpriced_beside_one_that_has_one() -> None:
    """Joules without a price are counted apart, never priced with the value of another zone, never 0 g."""
    snapshot = metered(Policy(zone="DE", zones={"GPU-1": "PL"}), seconds=10, slots=(slot("DE", 0, 100, 300.0),))

    assert sum(snapshot.runs["r"].emissions_g.values()) == pytest.approx(3.0)
    assert snapshot.node_unpriced_j == snapshot.runs["r"].unpriced_j == pytest.approx(36_000.0)


def test_marginal_grams_never_enter_the_average() -> None:
    """They are a figure of their own, from slots of their own."""
    slots = (
        slot("DE", 0, 100, 300.0),
        slot("DE", 0, 5, 900.0, Signal.MARGINAL),
        slot("DE", 5, 100, 500.0, Signal.MARGINAL),
    )
    snapshot = metered(Policy(zone="DE", pue_ratio=1.5), seconds=10, slots=slots)
    totals = snapshot.runs["r"]

    assert sum(totals.emissions_g.values()) == pytest.approx(0.02 * 300.0 * 1.5)
    assert totals.extras.marginal_g == pytest.approx((0.01 * 900.0 + 0.01 * 500.0) * 1.5)


def test_electricity_costs_what_it_cost_then() -> None:
    """Cut at the edges of the tariff; the site's overhead is paid for, too."""
    rates = (Rate(0.20, UNIX_S - 100, UNIX_S + 4.5), Rate(0.40, UNIX_S + 4.5, UNIX_S + 1000))
    snapshot = metered(Policy(currency="EUR", pue_ratio=1.25), seconds=10, rates=rates)

    assert snapshot.runs["r"].extras.cost == pytest.approx(0.002 * (4.5 * 0.20 + 5.5 * 0.40) * 1.25)


def test_a_price_below_0_is_counted_as_0() -> None:
    """It happens on the market; a counter that falls would be read as one that began anew."""
    rates = (Rate(-0.50, UNIX_S - 100, UNIX_S + 4), Rate(0.40, UNIX_S + 4, UNIX_S + 1000))
    snapshot = metered(Policy(currency="EUR"), seconds=10, rates=rates)

    assert snapshot.runs["r"].extras.cost == pytest.approx(0.002 * 6 * 0.40)


def test_contracts_and_water_are_figures_of_their_own() -> None:
    """Given factors times energy; water goes by the energy of the machines, which is how it is defined (WUE)."""
    policy = Policy(zone="DE", pue_ratio=1.5, market_grams_per_kilowatthour=10.0, water_liters_per_kilowatthour=1.8)
    snapshot = metered(policy, seconds=10, slots=(slot("DE", 0, 100, 300.0),))
    totals = snapshot.runs["r"]

    assert totals.extras.market_g == pytest.approx(0.02 * 10.0 * 1.5)
    assert totals.extras.water_l == pytest.approx(0.02 * 1.8)
    assert sum(totals.emissions_g.values()) == pytest.approx(0.02 * 300.0 * 1.5)


def test_embodied_grams_go_by_reserved_time() -> None:
    """Kilograms over a lifetime, by the seconds held; a device id comes before its component, others have none."""
    policy = Policy(
        embodied_g_per_s={"GPU-0": embodied_g_per_s(150.0, 4.0), Component.GPU: embodied_g_per_s(50.0, 5.0)}
    )
    snapshot = metered(policy, seconds=10)

    expected_g = 10.0 * (150_000.0 / (4.0 * YEAR_S) + 50_000.0 / (5.0 * YEAR_S))
    assert snapshot.runs["r"].extras.embodied_g == pytest.approx(expected_g)


def test_who_shares_a_gpu_shares_its_making() -> None:
    """Two runs on both GPUs: each has half of the reserved time, so that together they have all of it, once."""
    both = frozenset({"GPU-0", "GPU-1"})
    runs = tuple(Run(id=name, name=name, start=Instant(0.0, UNIX_S), holds=both) for name in "ab")
    snapshot = metered(Policy(embodied_g_per_s={Component.GPU: 1.0}), seconds=10, runs=runs)

    assert {"a": pytest.approx(10.0), "b": pytest.approx(10.0)} == {
        name: totals.extras.embodied_g for name, totals in snapshot.runs.items()
    }


def test_time_that_nobody_measured_is_reserved_once() -> None:
    """A driver is silent for 100 s, and the GPU goes from one run to the next meanwhile: each has its own seconds."""
    held = frozenset({"GPU-0"})
    first = Run(id="a", name="a", start=Instant(0.0, UNIX_S), holds=held)
    ended = replace(first, end=Instant(60.0, UNIX_S + 60.0))
    then = Run(id="b", name="b", start=Instant(60.0, UNIX_S + 60.0), holds=held)
    snapshot = Snapshot(ledger_id="l", policy=Policy(embodied_g_per_s={Component.GPU: 1.0}))
    turns = [(float(second), 100.0 * second, (first,)) for second in range(11)]
    for second, energy_j, runs in (*turns, (110.0, 1.0, (ended, then))):  # its counter began anew meanwhile
        at = Instant(second, UNIX_S + second)
        reading = Reading(device=gpu(0), at=at, energy_j=energy_j)
        snapshot = step(snapshot, Sample(at=at, readings=(reading,), runs=RunBook(runs=runs)))

    assert {"a": pytest.approx(60.0), "b": pytest.approx(50.0)} == {
        name: totals.extras.embodied_g for name, totals in snapshot.runs.items()
    }


def test_slices_reserve_their_part_of_unmeasured_time() -> None:
    """Two of a GPU's four slices are half of its making, also while its driver is silent."""
    whole = replace(gpu(0), slices=("s0", "s1", "s2", "s3"), slice_ratios=(0.25,) * 4)
    run = Run(id="r", name="r", start=Instant(0.0, UNIX_S), holds=frozenset({"GPU-0"}), slices=frozenset({"s0", "s1"}))
    snapshot = Snapshot(ledger_id="l", policy=Policy(embodied_g_per_s={Component.GPU: 1.0}))
    for second, energy_j in ((0.0, 0.0), (1.0, 100.0), (101.0, 1.0)):
        at = Instant(second, UNIX_S + second)
        reading = Reading(device=whole, at=at, energy_j=energy_j)
        snapshot = step(snapshot, Sample(at=at, readings=(reading,), runs=RunBook(runs=(run,))))

    assert snapshot.runs["r"].extras.embodied_g == pytest.approx(0.5 * 101.0)


def test_nothing_beside_grams_unless_asked_for() -> None:
    """A daemon that was told nothing counts nothing."""
    snapshot = metered(Policy(zone="DE"), seconds=3, slots=(slot("DE", 0, 100, 300.0),))

    assert (0.0,) * 5 == tuple(snapshot.runs["r"].extras)


@given(
    edges=st.lists(st.floats(0.0, 60.0), min_size=1, max_size=8, unique=True),
    grams=st.lists(st.floats(0.0, 2500.0), min_size=9, max_size=9),
)
def test_live_grams_are_the_closed_form_slot_by_slot(edges: list[float], grams: list[float]) -> None:
    """Whatever the slots of a minute, what is priced is power x the integral of intensity over time."""
    moments = [-10.0, *sorted(edges), 70.0]
    slots = tuple(slot("DE", start, end, grams[number]) for number, (start, end) in enumerate(pairwise(moments)))
    snapshot = metered(Policy(zone="DE"), seconds=60, slots=slots)
    expected_g = math.fsum(
        2 * 0.001 * grams[number] * (min(60.0, end) - max(0.0, start))
        for number, (start, end) in enumerate(pairwise(moments))
        if min(60.0, end) > max(0.0, start)
    )

    # Unix time near 1.79e9 is a double to 2e-7 s, which is what cuts are exact to.
    assert sum(snapshot.runs["r"].emissions_g.values()) == pytest.approx(expected_g, rel=1e-6, abs=1e-5)


def test_a_projection_goes_on_as_the_run_does() -> None:
    """A quarter is done after an hour at 1 kW: three hours more, priced by what is expected, then by what holds."""
    expected = [Rate(100.0, UNIX_S - 600, UNIX_S + 3600), Rate(200.0, UNIX_S + 3600, UNIX_S + 7200)]
    told = project(
        done_ratio=0.25,
        duration_s=3600.0,
        energy_j=KILOWATTHOUR_J,
        emissions_g=300.0,
        now_wall_s=UNIX_S,
        expected=expected,
        flat=replace(slot("DE", 0, 100, 50.0)),
        pue_ratio=1.0,
    )

    assert told is not None
    assert told.end_wall_s == pytest.approx(UNIX_S + 3 * 3600.0)
    assert told.energy_j == pytest.approx(4 * KILOWATTHOUR_J)
    assert told.emissions_g == pytest.approx(300.0 + 100.0 + 200.0 + 50.0)


@pytest.mark.parametrize("done_ratio", [None, 0.0, 0.009, 1.5])
def test_nothing_is_projected_without_ground(done_ratio: float | None) -> None:
    """A run that tells nothing, or has hardly begun, has no end in sight: absent, not a guess."""
    told = project(
        done_ratio=done_ratio,
        duration_s=60.0,
        energy_j=1.0,
        emissions_g=1.0,
        now_wall_s=UNIX_S,
        expected=(),
        flat=None,
        pue_ratio=1.0,
    )

    assert told is None

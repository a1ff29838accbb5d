"""What the fold keeps of runs: stretches, phases, coverage, recovery after a restart, and what the ledger is told."""

from dataclasses import replace

import pytest

from monitor.core.fold import step
from monitor.core.meter import Meter
from monitor.core.model import Component, Device, Instant, Method, Origin, Phase, Reading, Run, RunBook, Sample
from monitor.core.snapshot import Interval, Policy, Snapshot

GPU = Device(id="GPU-a", component=Component.GPU, source="nvml", max_power_w=1000.0, counter_epoch="driver 1")
FIRST = Snapshot(ledger_id="l-1", policy=Policy(zone="DE"))


def instant(mono_s: float) -> Instant:
    """A moment; the wall clock stands a fixed offset beside the steady one."""
    return Instant(mono_s, 1.7e9 + mono_s)


def sample(
    mono_s: float,
    energy_j: float | None,
    *runs: Run,
    device: Device = GPU,
    power_w: float | None = None,
) -> Sample:
    """One turn with one reading of one GPU."""
    at = instant(mono_s)
    reading = Reading(device=device, at=at, energy_j=energy_j, power_w=power_w)
    return Sample(at=at, readings=(reading,), runs=RunBook(runs=runs))


def fold(first: Snapshot, *samples: Sample) -> Snapshot:
    """The last snapshot."""
    for one in samples:
        first = step(first, one)
    return first


def energy_j(snapshot: Snapshot) -> float:
    """All joules of the run."""
    return sum(snapshot.runs["r"].energy_j.values())


def run(start_s: float, end_s: float | None = None, **more: object) -> Run:
    """A run on the GPU."""
    end = None if end_s is None else instant(end_s)
    base = Run(id="r", name="r", start=instant(start_s), end=end, holds=frozenset({"GPU-a"}))
    return replace(base, **more)  # type: ignore[arg-type]


def test_a_requeued_run_goes_on_from_its_total() -> None:
    """Energy and active time of both stretches add up; what was used between them is nobody's."""
    first, second = run(1.0, 3.0), run(1.0, resumed=instant(5.0), before_s=2.0)

    snapshot = fold(
        FIRST,
        *(sample(t, 100.0 * t, first) for t in range(5)),
        *(sample(t, 100.0 * t, second) for t in range(5, 8)),
    )

    assert energy_j(snapshot) == pytest.approx(400.0)
    assert snapshot.runs["r"].duration_s == pytest.approx(4.0)
    assert snapshot.devices["GPU-a"].unattributed_j == pytest.approx(300.0)


def test_phases_divide_the_run_at_their_changes() -> None:
    """A change within an interval cuts it by time; what came before the first phase has none."""
    phases = (Phase("train", 1.5), Phase("eval", 3.25))

    snapshot = fold(FIRST, *(sample(t, 100.0 * t, run(1.0, phases=phases)) for t in range(6)))

    assert {"train": pytest.approx(175.0), "eval": pytest.approx(175.0)} == dict(snapshot.runs["r"].phase_j)
    assert energy_j(snapshot) == pytest.approx(400.0)


def test_coverage_counts_every_second_once() -> None:
    """A counter that was away and came back has measured all of it; an interval nobody can tell has not been."""
    told = fold(FIRST, *(sample(t, None if t == 2 else 100.0 * t, run(0.0), power_w=100.0) for t in range(6)))
    lost = fold(FIRST, *(sample(t, 100.0 * t if t < 3 else 10.0 * t, run(0.0)) for t in range(6)))

    assert (5.0, 5.0) == (told.runs["r"].held_s, told.runs["r"].measured_s)
    assert (5.0, 4.0) == (lost.runs["r"].held_s, lost.runs["r"].measured_s)
    assert lost.devices["GPU-a"].unmeasured_s == 1.0


def test_a_gap_that_the_counter_vouches_for_is_covered() -> None:
    """Seconds that integration could not tell are unmeasured only once the counter cannot tell them either."""
    gap = [sample(0.0, 0.0, run(0.0), power_w=100.0), sample(1.0, None, run(0.0), power_w=100.0)]
    gap.append(sample(11.0, None, run(0.0), power_w=100.0))

    vouched = fold(FIRST, *gap, sample(12.0, 1200.0, run(0.0), power_w=100.0))
    lost = fold(FIRST, *gap, sample(12.0, 5.0, run(0.0), power_w=100.0))

    assert (12.0, 12.0) == (vouched.runs["r"].held_s, vouched.runs["r"].measured_s)
    assert (12.0, 2.0) == (lost.runs["r"].held_s, lost.runs["r"].measured_s)
    assert lost.devices["GPU-a"].unmeasured_s == 10.0


def test_an_estimate_is_no_coverage() -> None:
    """Time that only a formula tells is held, not measured."""
    guess = replace(GPU, origin=Origin.ESTIMATED)
    snapshot = fold(FIRST, *(sample(t, None, run(0.0), device=guess, power_w=50.0) for t in range(4)))

    assert (3.0, 0.0) == (snapshot.runs["r"].held_s, snapshot.runs["r"].measured_s)
    assert {Method.ESTIMATED} == {method for _, method, _ in snapshot.runs["r"].energy_j}


def restarted(before: Snapshot, at_s: float, *, keep_meter: bool) -> Snapshot:
    """What a ledger gives back: totals, and the meter of a counter that goes on by itself."""
    entry = before.devices["GPU-a"]
    entry = entry._replace(power_w=None, meter=entry.meter if keep_meter else Meter())
    return replace(before, at=None, resumed_at=instant(at_s), devices={"GPU-a": entry}, booked=())


def test_the_counter_tells_what_was_used_while_no_daemon_ran() -> None:
    """Booked to the run that went on, flagged as recovered, and nothing of it is unmeasured."""
    before = fold(FIRST, *(sample(t, 100.0 * t, run(0.0)) for t in range(4)))

    after = fold(restarted(before, 9.5, keep_meter=True), *(sample(t, 100.0 * t, run(0.0)) for t in (10, 11)))

    assert energy_j(after) == pytest.approx(1100.0)
    assert after.runs["r"].recovered_j == pytest.approx(700.0)
    assert after.devices["GPU-a"].unmeasured_s == 0.0
    assert after.runs["r"].measured_s == pytest.approx(11.0)


def test_a_run_that_ended_meanwhile_gets_nothing_of_it() -> None:
    """What was used after the last commit is nobody's when the run is gone."""
    before = fold(FIRST, *(sample(t, 100.0 * t, run(0.0)) for t in range(4)))

    after = fold(restarted(before, 9.5, keep_meter=True), sample(10, 1000.0, run(0.0, 3.0)))

    assert energy_j(after) == pytest.approx(300.0)
    assert after.devices["GPU-a"].unattributed_j == pytest.approx(700.0)


def test_without_a_counter_the_downtime_is_stated_in_seconds() -> None:
    """Nothing is filled in: the seconds between the last reading and the first one are unmeasured."""
    power = [sample(t, None, run(0.0), power_w=100.0) for t in (0, 1, 2, 3)]
    before = fold(FIRST, *power)

    again = [sample(t, None, run(0.0), power_w=100.0) for t in (4.5, 5.5)]
    after = fold(restarted(before, 4.2, keep_meter=False), *again)

    assert energy_j(after) == pytest.approx(400.0)
    assert after.devices["GPU-a"].unmeasured_s == pytest.approx(1.5)
    assert (5.5, 4.0) == (after.runs["r"].held_s, after.runs["r"].measured_s)


def test_another_driver_is_another_count() -> None:
    """A counter of another epoch is not compared with the old one, though its value may lie above it."""
    before = fold(FIRST, *(sample(t, 100.0 * t) for t in range(4)))

    other = replace(GPU, counter_epoch="driver 2")
    after = fold(restarted(before, 9.5, keep_meter=True), sample(10, 900.0, device=other))

    assert sum(after.devices["GPU-a"].energy_j.values()) == pytest.approx(300.0)
    assert after.devices["GPU-a"].unmeasured_s == pytest.approx(7.0)


def test_a_device_that_was_removed_meanwhile_stays_as_it_was() -> None:
    """Its joules stay, its time does not run on, and it shows no watts."""
    before = fold(FIRST, *(sample(t, 100.0 * t) for t in range(4)))

    gone = restarted(before, 9.5, keep_meter=True)
    after = fold(gone, *(Sample(at=instant(t)) for t in range(10, 2000, 60)))

    assert sum(after.devices["GPU-a"].energy_j.values()) == pytest.approx(300.0)
    assert after.devices["GPU-a"].unmeasured_s == 0.0
    assert after.devices["GPU-a"].power_w is None


def test_what_a_turn_booked_is_what_it_counted() -> None:
    """Intervals by run, phase and share, with their wall times, add up to the device and to the run."""
    phases = (Phase("train", 2.5),)
    one, two = run(1.0, phases=phases), replace(run(3.0), id="s")
    booked: list[Interval] = []
    snapshot = FIRST
    for t in range(6):
        snapshot = step(snapshot, sample(t, 100.0 * t, one, two))
        booked += snapshot.booked

    assert sum(interval.energy_j for interval in booked) == pytest.approx(500.0)
    assert energy_j(snapshot) == pytest.approx(sum(i.energy_j for i in booked if i.run_id == "r"))
    assert {"", "r", "s"} == {interval.run_id for interval in booked}
    assert {("r", "whole"), ("r", "equal"), ("s", "equal"), ("", None)} == {(i.run_id, i.share) for i in booked}
    assert all(i.zone == "DE" and 0.0 < i.end_wall_s - i.start_wall_s <= 1.0 for i in booked)
    assert sum(i.energy_j for i in booked if i.run_id == "r" and not i.phase) == pytest.approx(150.0)


def test_nobodys_time_is_what_no_run_held() -> None:
    """Of an interval that a run in two phases held in part, only the rest is nobody's measured time."""
    phases = (Phase("train", 0.0), Phase("eval", 0.25))
    before = step(FIRST, sample(0, 0.0))

    after = step(before, sample(1, 100.0, run(0.0, 0.75, phases=phases)))

    seconds = {(i.run_id, i.phase): i.measured_s for i in after.booked}
    assert {("r", "train"): 0.25, ("r", "eval"): 0.5, ("", ""): 0.25} == pytest.approx(seconds)


def test_an_ended_run_costs_nothing() -> None:
    """While nothing of it changes, the very same totals are handed on from turn to turn."""
    ended = run(0.0, 2.0)
    snapshots = [FIRST]
    for t in range(6):
        snapshots.append(step(snapshots[-1], sample(t, 100.0 * t, ended)))

    assert snapshots[-1].runs["r"] is snapshots[-2].runs["r"]
    assert energy_j(snapshots[-1]) == pytest.approx(200.0)

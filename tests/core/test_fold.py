"""The fold's invariants, on random histories of devices, faults and runs."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.fold import step
from monitor.core.model import (
    Basis,
    Component,
    Device,
    Instant,
    Intensity,
    Quality,
    ReadFailure,
    Reading,
    Run,
    RunBook,
    Sample,
)
from monitor.core.snapshot import Policy, Snapshot

DEVICES = (
    Device(id="GPU-a", component=Component.GPU, source="nvml", max_power_w=1000.0),
    Device(id="GPU-b", component=Component.GPU, source="nvml", max_power_w=1000.0),
    Device(id="package-0", component=Component.CPU, source="rapl", max_power_w=500.0),
)
WRAPS_AT_J = 65_533.0
FIRST = Snapshot(ledger_id="test", policy=Policy(zone="DE", pue_ratio=1.25))
FLAT = Intensity(
    zone="DE",
    grams_per_kilowatthour=400.0,
    basis=Basis.LIFECYCLE,
    quality=Quality.STATIC,
    provider="test",
    valid_from_s=float("-inf"),
    valid_until_s=float("inf"),
)


def instant(mono_s: float) -> Instant:
    """A moment; the wall clock stands a fixed offset beside the steady one."""
    return Instant(mono_s, 1.7e9 + mono_s)


@st.composite
def histories(draw: st.DrawFn) -> list[Sample]:
    """Turns of one second each: devices that draw power, restart, go silent or fall away; runs that come and go."""
    turns = draw(st.integers(2, 25))
    rng = random.Random(draw(st.integers(0, 2**32)))
    runs = [
        Run(
            id=f"run-{number}",
            name="r",
            start=instant(rng.uniform(0, turns)),
            end=instant(rng.uniform(turns / 2, turns)) if rng.random() < 0.5 else None,
            holds=frozenset(device.id for device in DEVICES if rng.random() < 0.6),
        )
        for number in range(rng.randint(0, 3))
    ]
    raw_j = {device.id: rng.uniform(0, 1e5) for device in DEVICES}
    samples = []
    for turn in range(1, turns + 1):
        readings: list[Reading] = []
        failures: list[ReadFailure] = []
        for device in DEVICES:
            fate, at = rng.random(), instant(turn - rng.uniform(0.0, 0.2))
            raw_j[device.id] += rng.uniform(0, device.max_power_w)
            if fate < 0.08:
                raw_j[device.id] = 0.0  # the driver was reloaded
            elif fate < 0.16:
                failures.append(ReadFailure(device_id=device.id, at=at, reason="timeout", message="late"))
                continue
            elif fate < 0.22:
                failures.append(
                    ReadFailure(device_id=device.id, at=at, reason="gpu_lost", message="gone", baseline_lost=True)
                )
                continue
            elif fate < 0.26:
                readings.append(Reading(device=device, at=at, power_w=rng.uniform(0, 900)))
                continue
            wraps = device.component is Component.CPU
            energy_j = raw_j[device.id] % WRAPS_AT_J if wraps else raw_j[device.id]
            readings.append(Reading(device=device, at=at, energy_j=energy_j, wraps_at_j=WRAPS_AT_J if wraps else None))
        samples.append(
            Sample(
                at=instant(turn),
                readings=tuple(readings),
                failures=tuple(failures),
                runs=RunBook(runs=tuple(run for run in runs if run.start.mono_s <= turn)),
                intensities=(FLAT,),
            )
        )
    return samples


def fold(samples: list[Sample]) -> list[Snapshot]:
    """Every snapshot, in order."""
    snapshots = [FIRST]
    for sample in samples:
        snapshots.append(step(snapshots[-1], sample))
    return snapshots[1:]


@given(histories())
@settings(deadline=None)
def test_conservation(samples: list[Sample]) -> None:
    """The parts attributed, unattributed and pending make up the device after every turn, whatever went wrong."""
    for snapshot in fold(samples):
        for entry in snapshot.devices.values():
            parts_j = entry.attributed_j + entry.unattributed_j + entry.pending_j

            assert parts_j == pytest.approx(sum(entry.energy_j.values()), rel=1e-9, abs=1e-6)
        held_j = sum(sum(run.energy_j.values()) for run in snapshot.runs.values())

        assert held_j == pytest.approx(sum(e.attributed_j for e in snapshot.devices.values()), rel=1e-9, abs=1e-6)


@given(histories())
@settings(deadline=None)
def test_counters_never_fall(samples: list[Sample]) -> None:
    """No joule, gram, second or count is ever taken back."""
    before: dict[tuple[object, ...], float] = {}
    for snapshot in fold(samples):
        after: dict[tuple[object, ...], float] = {}
        for entry in snapshot.devices.values():
            after |= {(entry.device.id, method): energy_j for method, energy_j in entry.energy_j.items()}
            after[entry.device.id, "attributed"] = entry.attributed_j
            after[entry.device.id, "unattributed"] = entry.unattributed_j
            after[entry.device.id, "unmeasured"] = entry.unmeasured_s
            after[entry.device.id, "resets"] = entry.resets
        after |= {("node", *key): value for key, value in snapshot.node_energy_j.items()}
        after |= {("grams", *key): value for key, value in snapshot.node_emissions_g.items()}
        for run in snapshot.runs.values():
            after |= {(run.run.id, *key): value for key, value in run.energy_j.items()}

        assert all(after.get(key, -1.0) >= value for key, value in before.items())
        before = after


@given(histories(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_sources_does_not_matter(samples: list[Sample], rng: random.Random) -> None:
    """Readings of one turn in any order give the same snapshot, bit for bit."""
    shuffled = []
    for sample in samples:
        readings = list(sample.readings)
        rng.shuffle(readings)
        shuffled.append(replace(sample, readings=tuple(readings)))

    assert fold(samples) == fold(shuffled)


@given(histories(), st.lists(st.floats(-1e6, 1e6), min_size=25, max_size=25))
@settings(deadline=None)
def test_a_step_of_the_wall_clock_changes_no_joule(samples: list[Sample], steps_s: list[float]) -> None:
    """NTP may step the clock at every reading: joules, seconds and shares stay, and grams at a flat price too."""

    def stepped(at: Instant, step_s: float) -> Instant:
        return Instant(at.mono_s, at.wall_s + step_s)

    elsewhere = [
        replace(
            sample,
            at=stepped(sample.at, step_s),
            readings=tuple(reading._replace(at=stepped(reading.at, step_s)) for reading in sample.readings),
        )
        for sample, step_s in zip(samples, steps_s, strict=False)
    ]
    for mine, theirs in zip(fold(samples), fold(elsewhere), strict=True):
        for device_id, entry in mine.devices.items():
            other = theirs.devices[device_id]

            assert (entry.energy_j, entry.attributed_j, entry.unmeasured_s) == (
                other.energy_j,
                other.attributed_j,
                other.unmeasured_s,
            )
        assert mine.node_emissions_g == pytest.approx(theirs.node_emissions_g)


def reading(mono_s: float, energy_j: float | None, *, power_w: float | None = None) -> Sample:
    """A turn with one reading of the first GPU."""
    at = instant(mono_s)
    return Sample(at=at, readings=(Reading(device=DEVICES[0], at=at, energy_j=energy_j, power_w=power_w),))


def test_a_failed_read_adds_time_not_joules() -> None:
    """A GPU that fell away for 10 s has 10 unmeasured seconds, no watts meanwhile, and no joule of that time."""
    gone = ReadFailure(device_id="GPU-a", at=instant(5), reason="gpu_lost", message="gone", baseline_lost=True)
    snapshots = fold(
        [
            reading(3, 1000.0, power_w=500.0),
            reading(4, 1500.0, power_w=500.0),
            Sample(at=instant(5), failures=(gone,)),
            reading(14, 9000.0, power_w=500.0),
            reading(15, 9500.0, power_w=500.0),
        ]
    )

    assert snapshots[2].devices["GPU-a"].power_w is None
    assert snapshots[-1].devices["GPU-a"].unmeasured_s == pytest.approx(10.0)
    assert sum(snapshots[-1].devices["GPU-a"].energy_j.values()) == pytest.approx(1000.0)


def test_a_counter_bridges_silence() -> None:
    """A device that only could not be read for a while loses no joule: its counter went on."""
    snapshots = fold([reading(0, 0.0), *[Sample(at=instant(t)) for t in range(1, 60)], reading(60, 30_000.0)])

    assert snapshots[30].devices["GPU-a"].power_w is None
    assert sum(snapshots[-1].devices["GPU-a"].energy_j.values()) == 30_000.0
    assert snapshots[-1].devices["GPU-a"].unmeasured_s == 0.0


def test_a_silent_device_counts_its_time() -> None:
    """Without a counter, silence is unmeasured as it passes; with one, once the baseline is given up."""
    integrated = fold([reading(0, None, power_w=300.0), *[Sample(at=instant(t)) for t in range(1, 31)]])
    counted = fold([reading(0, 5.0), *[Sample(at=instant(t)) for t in range(1, 1000)]])

    assert integrated[-1].devices["GPU-a"].unmeasured_s == pytest.approx(30.0)
    assert counted[800].devices["GPU-a"].unmeasured_s == 0.0
    assert counted[-1].devices["GPU-a"].unmeasured_s == pytest.approx(999.0)


def test_a_slow_meter_is_neither_stale_nor_a_gap() -> None:
    """A whole-node meter that tells the mean of 20 s every 20 s has its joules, its watts and no unmeasured second."""
    node = Device(id="bmc-node", component=Component.PLATFORM, source="bmc", max_power_w=9000.0, within="node")
    turns = [
        Sample(
            at=instant(t),
            readings=(Reading(device=node, at=instant(t), power_w=800.0, window_s=20.0),) if t % 20 == 0 else (),
        )
        for t in range(121)
    ]
    snapshots = fold(turns)

    assert {800.0} == {snapshot.devices["bmc-node"].power_w for snapshot in snapshots[20:]}
    assert sum(snapshots[-1].devices["bmc-node"].energy_j.values()) == pytest.approx(120 * 800.0)
    assert snapshots[-1].devices["bmc-node"].unmeasured_s == 0.0
    assert snapshots[-1].node_energy_j == {}


def test_a_device_without_a_sensor_has_no_joules() -> None:
    """Unknown is absent: neither energy nor power is shown as 0, its time is unmeasured."""
    snapshots = fold([reading(0, None), reading(1, None), reading(2, None)])

    assert snapshots[-1].devices["GPU-a"].energy_j == {}
    assert snapshots[-1].node_energy_j == {}
    assert snapshots[-1].node_power_w is None
    assert snapshots[-1].devices["GPU-a"].unmeasured_s == pytest.approx(2.0)


def test_a_run_has_the_whole_device_between_its_edges() -> None:
    """Energy before the start and after the end belongs to nobody; in between, idle or not, to the run."""
    run = Run(id="r", name="r", start=instant(1.25), end=instant(3.5), holds=frozenset({"GPU-a"}))
    snapshots = fold([replace(reading(t, 100.0 * t), runs=RunBook(runs=(run,))) for t in range(6)])

    assert snapshots[-1].devices["GPU-a"].attributed_j == pytest.approx(225.0)
    assert snapshots[-1].devices["GPU-a"].unattributed_j == pytest.approx(275.0)

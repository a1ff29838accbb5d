"""Whose joules, where devices are gone, counters stop, runs hand over and daemons die: each has been wrong once."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest

from monitor.core.fold import step
from monitor.core.model import (
    Component,
    Device,
    DeviceProcess,
    Hold,
    Method,
    Processes,
    ReadFailure,
    Reading,
    Run,
    RunBook,
    RunUse,
    Sample,
    Telemetry,
    Usage,
)
from monitor.core.snapshot import Policy, Snapshot
from monitor.ledger.meters import resumable
from tests.core.test_attribution import (
    CPU,
    FIRST,
    GPU,
    SLICED,
    assert_closed,
    energy_j,
    fold,
    instant,
    run,
    turn,
    usage,
)

ON_GPU = frozenset({"GPU-a"})
GONE = Device(id="GPU-old", component=Component.GPU, source="nvml", max_power_w=1000.0, lists_processes=True)
MODULE = Device(id="module-0", component=Component.MODULE, source="nvml", max_power_w=1000.0)
POWER_W = MappingProxyType(
    {"GPU-a": 100.0, "GPU-old": 50.0, "module-0": 200.0, "package-0": 100.0, "package-0-dram": 10.0}
)


def after_restart(*devices: Device, at_s: float = 0.5) -> Snapshot:
    """What the ledger tells a daemon that starts: these devices were there at 0."""
    return replace(fold(turn(0, power_w=POWER_W, devices=devices)), resumed_at=instant(at_s))


def quiet(t: float, runs: Iterable[Run] = (), *, power_w: Mapping[str, float] = POWER_W, gpu: Device = GPU) -> Sample:
    """A turn of a node whose CPUs do nothing but draw 100 W; every five seconds that is told."""
    runs = tuple(runs)
    told: Usage | None = None
    if t > 0 and t % 5 == 0:
        uses = [RunUse(one.id, 0.0, 0) for one in runs if one.end is None or one.end.mono_s > t - 5]
        told = usage(t - 5, t, *uses)
    return turn(t, runs, power_w=power_w, devices=(gpu, CPU), usage=told)


FIRST_RUN = run("first", 0.5, holds=ON_GPU)
FIRST_ENDED = replace(FIRST_RUN, end=instant(10.0))
NEXT_RUN = run("next", 10.5, holds=ON_GPU)


def handover(t: float) -> list[Run]:
    """One run holds the GPU up to 10, the next one from 10.5 on; a run that has not changed is the same object."""
    if t < 1:
        return []
    return [FIRST_RUN] if t < 10 else [FIRST_ENDED, NEXT_RUN][: 1 + (t > 10)]


def cpu_j(snapshot: Snapshot, run_id: str) -> float:
    """Joules of a run from the CPUs."""
    joules = snapshot.runs[run_id].energy_j
    return sum(one for (component, _, _), one in joules.items() if component is Component.CPU)


def counter(
    t: float,
    energy: float | None,
    *,
    power_w: float | None = None,
    runs: Iterable[Run] = (),
    pids: Mapping[int, float] | None = None,
    utilization_ratio: float = 0.0,
) -> Sample:
    """A turn at which the GPU shows just this."""
    at = instant(t)
    telemetry = Telemetry(utilization_ratio=utilization_ratio)
    there = tuple(DeviceProcess(pid=pid, sm_utilization_ratio=ratio) for pid, ratio in (pids or {}).items())
    return Sample(
        at=at,
        readings=(Reading(device=GPU, at=at, energy_j=energy, power_w=power_w, telemetry=telemetry),),
        processes=() if pids is None else (Processes(device_id="GPU-a", at=at, processes=there),),
        runs=RunBook(runs=tuple(runs)),
    )


# -- who holds what part of a node -----------------------------------------------------------------------------------


def test_after_a_handover_the_next_run_has_all_of_the_idle_cpu() -> None:
    """The one before, which held the same GPU and has ended, takes no part of it."""
    snapshot = fold(*(quiet(t, handover(t)) for t in range(31)))

    assert cpu_j(snapshot, "next") == pytest.approx(1950.0)
    assert snapshot.runs["next"].idle_j[Component.CPU] == pytest.approx(1950.0)


def test_idle_cpu_goes_by_slices() -> None:
    """Who holds three of seven parts of the only GPU has three sevenths, from 5 s on, when it is known."""
    a = run("a", 0.0, holds=ON_GPU, slices=frozenset({"MIG-1"}))
    b = run("b", 0.0, holds=ON_GPU, slices=frozenset({"MIG-2"}))
    snapshot = fold(*(quiet(t, [a, b], gpu=SLICED) for t in range(11)))

    assert cpu_j(snapshot, "a") == pytest.approx(500.0 * 3 / 7)
    assert cpu_j(snapshot, "b") == pytest.approx(500.0 * 2 / 7)


def test_a_gpu_that_only_the_ledger_knows_is_no_part_of_the_node() -> None:
    """It was taken out: who holds all that are left has all of the idle CPU, from 5 s on, when it is known."""
    one = run("r", 0.5, holds=ON_GPU)
    snapshot = fold(*(quiet(t, [one]) for t in range(1, 21)), first=after_restart(GPU, CPU, GONE))

    assert cpu_j(snapshot, "r") == pytest.approx(1500.0)


def test_a_sole_holder_is_booked_at_once_though_another_device_is_gone() -> None:
    """What was never booked of that one keeps no claim on this one alive."""
    snapshot = fold(
        *(turn(t, handover(t), power_w=POWER_W) for t in range(1, 31)),
        first=after_restart(GPU, GONE),
    )

    assert snapshot.devices["GPU-a"].pending_j == 0.0
    assert energy_j(snapshot.runs["next"]) == pytest.approx(1950.0)


def test_two_runs_on_one_slice_share_that_slice() -> None:
    """And take nothing from their neighbours on the others."""
    held = {"a": "MIG-1", "b": "MIG-1", "c": "MIG-2", "d": "MIG-3"}
    runs = [run(name, 0.0, holds=ON_GPU, slices=frozenset({one})) for name, one in held.items()]
    snapshot = fold(*(turn(t, runs, power_w={"GPU-a": 700.0}, devices=[SLICED]) for t in range(11)))

    joules = {name: energy_j(snapshot.runs[name]) for name in held}
    assert joules == pytest.approx({"a": 1500.0, "b": 1500.0, "c": 2000.0, "d": 1000.0})
    assert snapshot.devices["GPU-a"].unattributed_j == pytest.approx(1000.0), "a seventh belongs to no slice"


def test_a_run_that_gave_its_gpu_back_draws_nothing() -> None:
    """Watts are of now: those of the last shared second are not shown for ever."""
    sharing = [run(name, 0.0, holds=ON_GPU) for name in ("a", "b")]
    gone = [run(name, 0.0, spells=(Hold("GPU-a", 0.0, 10.0),)) for name in ("a", "b")]
    before = fold(*(turn(t, sharing) for t in range(10)))
    after = fold(*(turn(t, gone) for t in range(10, 41)), first=before)

    assert before.runs["a"].power_w == pytest.approx(50.0)
    assert not after.runs["a"].power_w
    assert energy_j(after.runs["a"]) == pytest.approx(500.0)


# -- idle power ------------------------------------------------------------------------------------------------------


def test_a_counter_that_stood_still_teaches_no_idle_power() -> None:
    """For four seconds it showed one value, then it caught up: the GPU drew 50 W all the while."""
    shown = {t: 50.0 * (6 if 6 < t <= 10 else t) for t in range(31)}
    samples = [counter(t, joules, power_w=50.0, pids={} if t % 5 == 0 else None) for t, joules in shown.items()]

    assert fold(*samples).devices["GPU-a"].idle.power_w == pytest.approx(50.0)


def test_joules_that_are_withheld_teach_no_idle_power() -> None:
    """A counter returns with less than was integrated: what follows is held back, and is no idle GPU's."""

    def at(t: int) -> Sample:
        if t < 20:
            return counter(t, 300.0 * t if t < 10 else None, power_w=300.0, pids={1: 1.0}, utilization_ratio=1.0)
        told_j = 3000.0 + 2500.0 + 50.0 * (t - 20)
        return counter(t, told_j, power_w=50.0, pids={} if t % 5 == 0 else None)

    snapshot = fold(*(at(t) for t in range(41)))

    assert snapshot.devices["GPU-a"].idle.power_w == pytest.approx(50.0)


def test_a_gpu_that_fell_away_teaches_no_idle_power() -> None:
    """Its processes are listed all the while, and that there are none: nobody saw what it drew."""

    def at(t: int) -> Sample:
        sample = counter(t, 50.0 * t, power_w=50.0, pids={} if t % 5 == 0 else None)
        lost = ReadFailure(device_id="GPU-a", at=instant(t), reason="gone", message="gone", baseline_lost=True)
        return replace(sample, readings=(), failures=(lost,)) if 6 < t < 13 else sample

    assert fold(*(at(t) for t in range(31))).devices["GPU-a"].idle.power_w == pytest.approx(50.0)


# -- what is a part of the node --------------------------------------------------------------------------------------


def test_no_node_counter_falls_when_a_module_becomes_the_part() -> None:
    """A superchip's module answers late: from then on it counts, and what the CPUs counted before stays counted."""
    before = FIRST
    for t in range(11):
        after = step(before, turn(t, power_w=POWER_W, devices=[CPU] if t < 5 else [CPU, MODULE]))
        assert_closed(after)
        assert all(after.node_energy_j[key] >= joules for key, joules in before.node_energy_j.items())
        before = after

    assert before.node_energy_j[Component.CPU, Method.COUNTER] == pytest.approx(400.0)
    assert before.node_energy_j[Component.MODULE, Method.COUNTER] == pytest.approx(1000.0)


@pytest.mark.parametrize(("epoch", "by_s"), [(None, 6.0), ("driver", 35.0)])
def test_cpus_count_again_when_the_module_is_gone(epoch: str | None, by_s: float) -> None:
    """A daemon starts without it: at once, or after the time that a counter that goes on is waited for."""
    policy = Policy(owner_wait_s=15.0, usage_wait_s=15.0, lost_after_s=30.0)
    parts = [CPU, replace(MODULE, counter_epoch=epoch)]
    before = fold(*(turn(t, power_w=POWER_W, devices=parts) for t in range(6)), first=replace(FIRST, policy=policy))
    kept = {key: resumable(entry)._replace(power_w=None) for key, entry in before.devices.items()}
    after = replace(before, devices=MappingProxyType(kept), resumed_at=instant(5.5))
    after = fold(*(turn(t, power_w=POWER_W, devices=[CPU]) for t in range(6, 101)), first=after)

    key = (Component.CPU, Method.COUNTER)
    assert after.node_power_w == pytest.approx(100.0)
    counted_j = after.node_energy_j[key] - before.node_energy_j.get(key, 0.0)
    assert counted_j == pytest.approx((100.0 - by_s) * 100.0)


# -- over a restart --------------------------------------------------------------------------------------------------


def killed(*, at_s: float = 8.0, down_s: float = 60.0) -> Snapshot:
    """A daemon died with 3 s of CPU joules waiting; the next one begins, and has one turn before anybody has looked."""
    cpu = replace(CPU, counter_epoch="driver")
    one = [run("r", 0.0)]
    first = usage(0, 5, RunUse("r", 40.0, 0), cpu_s=40.0)
    samples = [turn(t, one, power_w=POWER_W, devices=[cpu], usage=first if t == 5 else None) for t in range(9)]
    before = fold(*samples)
    assert before.devices["package-0"].pending_j == pytest.approx(300.0)

    resumed = replace(before, resumed_at=instant(at_s + down_s))
    return fold(turn(at_s + down_s, one, power_w=POWER_W, devices=[cpu]), first=resumed)


def test_what_waited_at_a_kill_is_told_by_the_first_usage() -> None:
    """However long nobody ran: it goes on from where the daemon before stopped."""
    cpu = replace(CPU, counter_epoch="driver")
    told = usage(5, 68.5, RunUse("r", 8 * 63.5, 0), cpu_s=8 * 63.5)
    snapshot = fold(turn(69, [run("r", 0.0)], power_w=POWER_W, devices=[cpu], usage=told), first=killed())

    assert energy_j(snapshot.runs["r"]) == pytest.approx(6850.0)
    assert snapshot.devices["package-0"].unattributed_j == 0.0
    assert snapshot.devices["package-0"].pending_j == pytest.approx(50.0)


def test_what_waited_at_a_kill_does_not_wait_for_ever() -> None:
    """Nobody looks at the processes any more: it is nobody's after the usual time."""
    cpu = replace(CPU, counter_epoch="driver")
    snapshot = fold(*(turn(t, [run("r", 0.0)], power_w=POWER_W, devices=[cpu]) for t in range(69, 101)), first=killed())

    assert energy_j(snapshot.runs["r"]) == pytest.approx(500.0)
    assert snapshot.devices["package-0"].pending_j == pytest.approx(1500.0)


# -- what is written down --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["counter away", "counter frozen"])
def test_booked_seconds_never_exceed_the_time(fault: str) -> None:
    """Time that integration bridged is not booked again when the counter tells of it."""
    one = run("r", 0.0, holds=ON_GPU)
    snapshot, booked_s = FIRST, 0.0
    for t in range(31):
        away = fault == "counter away" and 10 <= t < 20
        shown_j = 100.0 * (min(t, 10) if fault == "counter frozen" else t)
        snapshot = step(snapshot, counter(t, None if away else shown_j, power_w=90.0, runs=[one]))
        assert_closed(snapshot)
        booked_s += sum(interval.measured_s for interval in snapshot.booked if interval.run_id == "r")
        assert booked_s <= t

    assert booked_s >= 25.0
    assert snapshot.runs["r"].measured_s == pytest.approx(30.0)


def test_looks_at_a_silent_gpu_stay_bounded() -> None:
    """Its processes are listed, its joules are not: nothing waits, and nothing heaps up."""
    snapshot = fold(turn(0))
    for number in range(1, 301):
        at = instant(number / 10)
        seen = Processes(device_id="GPU-a", at=at, processes=(DeviceProcess(pid=1, sm_utilization_ratio=0.5),))
        snapshot = step(snapshot, Sample(at=at, processes=(seen,)))

    assert len(snapshot.devices["GPU-a"].looks) < 100

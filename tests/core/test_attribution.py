"""Whose joules: shares of devices that runs hold or use, what waits, and the sum that always closes."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.attribution import ShareKind
from monitor.core.fold import step
from monitor.core.model import (
    Component,
    Device,
    DeviceProcess,
    Hold,
    Instant,
    Phase,
    Processes,
    Reading,
    Run,
    RunBook,
    RunUse,
    Sample,
    Telemetry,
    Usage,
)
from monitor.core.snapshot import NO_PROJECT, OTHER_PROJECTS, Policy, RunTotals, Snapshot

GPU = Device(id="GPU-a", component=Component.GPU, source="nvml", max_power_w=1000.0, lists_processes=True)
CPU = Device(id="package-0", component=Component.CPU, source="rapl", max_power_w=500.0)
DRAM = Device(id="package-0-dram", component=Component.DRAM, source="rapl", max_power_w=100.0)
SLICED = Device(
    id="GPU-a",
    component=Component.GPU,
    source="nvml",
    max_power_w=1000.0,
    slices=("MIG-1", "MIG-2", "MIG-3"),
    slice_ratios=(3 / 7, 2 / 7, 1 / 7),
)
FIRST = Snapshot(ledger_id="l-1", policy=Policy(owner_wait_s=15.0, usage_wait_s=15.0))


def instant(mono_s: float) -> Instant:
    """A moment; the wall clock stands a fixed offset beside the steady one."""
    return Instant(mono_s, 1.7e9 + mono_s)


def run(run_id: str, start_s: float, end_s: float | None = None, **more: object) -> Run:
    """A run; it holds nothing unless told."""
    end = None if end_s is None else instant(end_s)
    return Run(id=run_id, name=run_id, start=instant(start_s), end=end, **more)  # type: ignore[arg-type]


def turn(
    mono_s: float,
    runs: Iterable[Run] = (),
    *,
    power_w: Mapping[str, float] = MappingProxyType({"GPU-a": 100.0}),
    devices: Iterable[Device] = (GPU,),
    pids: Mapping[int, float | None] | None = None,
    usage: Usage | None = None,
    utilization_ratio: float | None = None,
) -> Sample:
    """A turn at which every device has drawn its power ever since 0."""
    at = instant(mono_s)
    telemetry = None if utilization_ratio is None else Telemetry(utilization_ratio=utilization_ratio)
    return Sample(
        at=at,
        readings=tuple(
            Reading(device=device, at=at, energy_j=power_w[device.id] * mono_s, telemetry=telemetry)
            for device in devices
        ),
        processes=()
        if pids is None
        else (
            Processes(
                device_id="GPU-a",
                at=at,
                processes=tuple(DeviceProcess(pid=pid, sm_utilization_ratio=ratio) for pid, ratio in pids.items()),
            ),
        ),
        usages=() if usage is None else (usage,),
        runs=RunBook(runs=tuple(runs)),
    )


def usage(
    start_s: float, end_s: float, *uses: RunUse, cpu_s: float = 0.0, owners: dict[int, str] | None = None
) -> Usage:
    """What was used over a while, of 8 cores and 64 GB that are in use."""
    return Usage(
        start=instant(start_s),
        end=instant(end_s),
        cpu_s=cpu_s,
        cpu_capacity_s=8 * (end_s - start_s),
        memory_bytes=64 * 10**9,
        runs=uses,
        owners=owners or {},
    )


def fold(*samples: Sample, first: Snapshot = FIRST) -> Snapshot:
    """The last snapshot; the sum of every one is checked."""
    for one in samples:
        first = step(first, one)
        assert_closed(first)
    return first


def assert_closed(snapshot: Snapshot) -> None:
    """Attributed + unattributed + pending = device, and the runs' joules are the attributed ones."""
    for entry in snapshot.devices.values():
        total_j = math.fsum(entry.energy_j.values())
        assert entry.attributed_j + entry.unattributed_j + entry.pending_j == pytest.approx(
            total_j, rel=1e-12, abs=1e-9
        )
        assert min(entry.attributed_j, entry.unattributed_j, entry.pending_j) >= 0.0
    attributed_j = math.fsum(entry.attributed_j for entry in snapshot.devices.values())
    runs_j = math.fsum(energy_j(totals) for totals in snapshot.runs.values())
    projects_j = math.fsum(joules for one in snapshot.projects.values() for joules in one.energy_j.values())
    assert runs_j == pytest.approx(attributed_j, rel=1e-12, abs=1e-9)
    assert projects_j == pytest.approx(attributed_j, rel=1e-12, abs=1e-9)


def energy_j(totals: RunTotals) -> float:
    """All joules of a run."""
    return math.fsum(totals.energy_j.values())


def kinds(snapshot: Snapshot, run_id: str) -> set[ShareKind]:
    """By what right the run has joules."""
    return {share for (_, _, share), joules in snapshot.runs[run_id].energy_j.items() if joules > 0.0}


def test_joules_of_a_free_gpu_wait_for_an_owner_then_are_nobodys() -> None:
    """15 s long, not a second longer."""
    waiting = fold(*(turn(t) for t in range(11)))
    assert waiting.devices["GPU-a"].pending_j == pytest.approx(1000.0)
    assert waiting.devices["GPU-a"].unattributed_j == 0.0

    later = fold(*(turn(t) for t in range(21)))
    assert later.devices["GPU-a"].pending_j == pytest.approx(1500.0)
    assert later.devices["GPU-a"].unattributed_j == pytest.approx(500.0)


def test_a_run_that_is_found_late_has_its_joules_from_its_processes_start() -> None:
    """Found at 10, it began at 5.5: its joules since then were waiting; no counter falls for it."""
    found = run("r", 5.5, holds=frozenset({"GPU-a"}), spells=(Hold("GPU-a", 5.5),))

    before = fold(*(turn(t) for t in range(11)))
    after = fold(turn(11, [found]), first=before)

    assert energy_j(after.runs["r"]) == pytest.approx(550.0)
    assert after.devices["GPU-a"].pending_j == pytest.approx(550.0), "what was before its start goes on waiting"
    assert after.runs["r"].held_s == pytest.approx(5.5)
    assert after.runs["r"].measured_s == pytest.approx(5.5)
    assert after.devices["GPU-a"].unattributed_j == before.devices["GPU-a"].unattributed_j


def test_a_run_found_in_the_middle_of_its_life_says_what_nobody_saw() -> None:
    """Its process is 100 s old, the daemon 5 s: joules since the daemon's start, and a coverage that tells."""
    found = run("r", 10.0, holds=frozenset({"GPU-a"}), spells=(Hold("GPU-a", 10.0),))

    snapshot = fold(*(turn(t) for t in range(110, 116)), turn(116, [found]), turn(117, [found]))

    assert energy_j(snapshot.runs["r"]) == pytest.approx(700.0)
    assert snapshot.runs["r"].held_s == pytest.approx(107.0)
    assert snapshot.runs["r"].measured_s == pytest.approx(7.0)


def test_what_a_late_run_gets_is_never_taken_from_another() -> None:
    """B is found 4 s late on the GPU that A held alone: A keeps what it was given, B shares from now on."""
    a = run("a", 0.0, holds=frozenset({"GPU-a"}))
    b = run("b", 6.0, holds=frozenset({"GPU-a"}), spells=(Hold("GPU-a", 6.0),))

    before = fold(*(turn(t, [a]) for t in range(11)))
    after = fold(turn(11, [a, b]), first=before)

    assert energy_j(before.runs["a"]) == pytest.approx(1000.0)
    assert energy_j(after.runs["a"]) == pytest.approx(1000.0)
    assert after.devices["GPU-a"].pending_j == pytest.approx(100.0), "the shared second waits for a look"


def test_a_shared_gpu_is_split_by_utilisation_once_somebody_has_looked() -> None:
    """3 to 1; processes of no run use a part that is nobody's."""
    both = [run(name, 0.0, holds=frozenset({"GPU-a"})) for name in ("a", "b")]
    samples = [turn(t, both, pids={1: 0.6, 2: 0.2, 3: 0.2} if t == 5 else None) for t in range(6)]

    waiting = fold(*samples)
    assert waiting.devices["GPU-a"].pending_j == pytest.approx(500.0)
    told = fold(turn(6, both, usage=usage(0, 5.5, owners={1: "a", 2: "b"})), first=waiting)

    assert energy_j(told.runs["a"]) == pytest.approx(300.0)
    assert energy_j(told.runs["b"]) == pytest.approx(100.0)
    assert told.devices["GPU-a"].unattributed_j == pytest.approx(100.0)
    assert told.devices["GPU-a"].pending_j == pytest.approx(100.0), "after the look nobody has looked yet"
    assert kinds(told, "a") == {ShareKind.USAGE}


def test_without_utilisation_a_shared_gpu_is_split_equally() -> None:
    """The driver lists processes and tells nothing of them; or nobody ever looks, and the wait is over."""
    both = [run(name, 0.0, holds=frozenset({"GPU-a"})) for name in ("a", "b")]

    listed = fold(
        *(turn(t, both, pids={1: None, 2: None} if t == 5 else None) for t in range(6)),
        turn(6, both, usage=usage(0, 5.5, owners={1: "a", 2: "b"})),
    )
    blind = fold(*(turn(t, both) for t in range(21)))

    assert energy_j(listed.runs["a"]) == pytest.approx(250.0)
    assert kinds(listed, "a") == {ShareKind.EQUAL}
    assert energy_j(blind.runs["a"]) == pytest.approx(250.0)
    assert blind.devices["GPU-a"].pending_j == pytest.approx(1500.0)


def test_the_idle_part_of_a_shared_gpu_is_split_by_residency() -> None:
    """It drew 100 W with nobody on it; then A works and B only sits there: B pays half of the 100 W."""
    both = [run(name, 10.0, holds=frozenset({"GPU-a"})) for name in ("a", "b")]

    def busy(t: float, pids: dict[int, float | None] | None = None, told: Usage | None = None) -> Sample:
        return turn(t, both, power_w={"GPU-a": 100.0 + 300.0 * (t - 10) / t}, pids=pids, usage=told)

    snapshot = fold(
        *(turn(t, pids={} if t % 5 == 0 else None, utilization_ratio=0.0) for t in range(11)),
        *(busy(t) for t in range(11, 15)),
        busy(15, {1: 0.9, 2: 0.0}),
        busy(16, told=usage(10, 15.5, owners={1: "a", 2: "b"})),
    )

    assert snapshot.devices["GPU-a"].idle.power_w == pytest.approx(100.0)
    assert energy_j(snapshot.runs["a"]) == pytest.approx(5 * (50.0 + 300.0))
    assert energy_j(snapshot.runs["b"]) == pytest.approx(5 * 50.0)
    assert snapshot.runs["b"].idle_j[Component.GPU] == pytest.approx(250.0)


def test_idle_power_is_only_what_was_seen() -> None:
    """A daemon that starts beside a running job knows none, and shows none; once it is known, it is told apart."""
    job = run("r", 0.0, 20.0, holds=frozenset({"GPU-a"}))
    during = fold(*(turn(t, [job], pids={7: 0.0} if t % 5 == 0 else None, utilization_ratio=0.0) for t in range(20)))

    assert during.devices["GPU-a"].idle.power_w is None
    assert not during.runs["r"].idle_j

    later = run("s", 40.0, holds=frozenset({"GPU-a"}))
    after = fold(
        *(turn(t, [job], pids={} if t % 5 == 0 else None, utilization_ratio=0.0) for t in range(20, 41)),
        *(turn(t, [job, later]) for t in range(41, 46)),
        first=during,
    )
    assert after.devices["GPU-a"].idle.power_w == pytest.approx(100.0)
    assert after.runs["s"].idle_j[Component.GPU] == pytest.approx(500.0)


def test_what_nobody_measured_teaches_no_idle_power() -> None:
    """A counter that began anew would make a device look as if it drew nothing."""
    at = [(0.0, 0.0), (1.0, 100.0), (2.0, 5.0), (3.0, 105.0), (4.0, 205.0), (5.0, 305.0)]
    samples = [
        Sample(
            at=instant(t),
            readings=(Reading(device=GPU, at=instant(t), energy_j=joules, telemetry=Telemetry(utilization_ratio=0.0)),),
            processes=(Processes(device_id="GPU-a", at=instant(t)),) if t in {0.0, 5.0} else (),
        )
        for t, joules in at
    ]
    assert fold(*samples).devices["GPU-a"].idle.power_w is None


def test_a_divided_gpu_is_split_by_its_slices() -> None:
    """Whatever goes on within; slices that nobody holds are nobody's, and the board's power is never repeated."""
    a = run("a", 0.0, holds=frozenset({"GPU-a"}), slices=frozenset({"MIG-1"}))
    b = run("b", 0.0, holds=frozenset({"GPU-a"}), slices=frozenset({"MIG-2"}))

    snapshot = fold(*(turn(t, [a, b], devices=[SLICED]) for t in range(8)))

    assert energy_j(snapshot.runs["a"]) == pytest.approx(300.0)
    assert energy_j(snapshot.runs["b"]) == pytest.approx(200.0)
    assert snapshot.devices["GPU-a"].unattributed_j == pytest.approx(200.0)
    assert kinds(snapshot, "a") == {ShareKind.SLICE}


def test_cpu_is_split_by_cpu_time_and_memory_by_memory() -> None:
    """A used half of the node's CPU time and an eighth of its memory; what was used by no run is nobody's."""
    a, b = run("a", 0.0), run("b", 0.0)
    power_w = {"package-0": 200.0, "package-0-dram": 20.0}

    def at(t: float, told: Usage | None = None) -> Sample:
        return turn(t, [a, b], power_w=power_w, devices=[CPU, DRAM], usage=told)

    told = usage(0, 5, RunUse("a", 10.0, 8 * 10**9), RunUse("b", 2.0, 0), cpu_s=20.0)
    snapshot = fold(*(at(t) for t in range(6)), at(6, told))

    joules = snapshot.runs["a"].energy_j
    assert {component: one for (component, _, _), one in joules.items()} == {
        Component.CPU: pytest.approx(500.0),
        Component.DRAM: pytest.approx(12.5),
    }
    assert energy_j(snapshot.runs["b"]) == pytest.approx(100.0)
    assert snapshot.devices["package-0"].unattributed_j == pytest.approx(400.0)
    assert snapshot.devices["package-0"].pending_j == pytest.approx(200.0)


def test_memory_that_nobody_counts_is_nobodys() -> None:
    """The kernel does not tell how much is in use: what a run has of it is no part of anything."""
    a = run("a", 0.0)

    def at(t: float, told: Usage | None = None) -> Sample:
        return turn(t, [a], power_w={"package-0-dram": 20.0}, devices=[DRAM], usage=told)

    told = replace(usage(0, 5, RunUse("a", 1.0, 10**9), cpu_s=1.0), memory_bytes=0)
    snapshot = fold(*(at(t) for t in range(6)), at(6, told))

    assert energy_j(snapshot.runs["a"]) == 0.0
    assert snapshot.devices["package-0-dram"].unattributed_j == pytest.approx(100.0)


def test_the_idle_part_of_a_cpu_goes_by_cores_held_else_by_gpus() -> None:
    """100 W idle: A holds a quarter of the cores, B tells no cores and holds the node's only GPU."""
    power_w = {"package-0": 100.0, "GPU-a": 50.0}
    quiet = [
        turn(t, power_w=power_w, devices=[CPU, GPU], usage=usage(t - 5, t, cpu_s=0.1) if t in {5, 10} else None)
        for t in range(11)
    ]
    idle = fold(*quiet)
    assert idle.devices["package-0"].idle.power_w == pytest.approx(100.0)

    a, b = run("a", 10.0), run("b", 10.0, holds=frozenset({"GPU-a"}))
    told = usage(10, 15, RunUse("a", 0.0, 0, core_ratio=0.25), RunUse("b", 4.0, 0), cpu_s=8.0)

    def busy(t: float, told: Usage | None = None) -> Sample:
        watts = {"package-0": 100.0 + 100.0 * (t - 10) / t, "GPU-a": 50.0}
        return turn(t, [a, b], power_w=watts, devices=[CPU, GPU], usage=told)

    snapshot = fold(*(busy(t) for t in range(11, 16)), busy(16, told), first=idle)

    cpu_j = {name: snapshot.runs[name].idle_j.get(Component.CPU, 0.0) for name in ("a", "b")}
    assert cpu_j["a"] == pytest.approx(100.0 * 5 * 0.25 / 1.25)
    assert cpu_j["b"] == pytest.approx(100.0 * 5 * 1.0 / 1.25)
    assert energy_j(snapshot.runs["a"]) == pytest.approx(100.0), "it used no CPU time"
    b_cpu_j = sum(joules for (component, _, _), joules in snapshot.runs["b"].energy_j.items() if component == "cpu")
    assert b_cpu_j == pytest.approx(400.0 + 250.0)


def test_a_run_that_lived_for_a_part_of_the_window_pays_for_that_part() -> None:
    """It used a core for the two seconds that it lived: of these it has its share, and of the others nothing."""
    a, b = run("a", 0.0), run("b", 1.0, 3.0)

    def at(t: float, told: Usage | None = None) -> Sample:
        return turn(t, [a, b], power_w={"package-0": 100.0}, devices=[CPU], usage=told)

    told = usage(0, 5, RunUse("a", 5.0, 0), RunUse("b", 2.0, 0), cpu_s=7.0)
    snapshot = fold(*(at(t) for t in range(6)), at(6, told))

    # From 1 to 3 both use a core, which is more than the node's even rate of 1.4: they are believed.
    assert energy_j(snapshot.runs["b"]) == pytest.approx(100.0)
    assert energy_j(snapshot.runs["a"]) == pytest.approx(100.0 + 300.0 / 1.4)


def test_cpu_that_nobody_tells_of_is_nobodys_after_the_wait() -> None:
    """The scan of processes has died: nothing is guessed, and the time counts as held, not as measured."""
    a = run("a", 0.0)
    snapshot = fold(*(turn(t, [a], power_w={"package-0": 100.0}, devices=[CPU]) for t in range(21)))

    assert snapshot.devices["package-0"].unattributed_j == pytest.approx(500.0)
    assert energy_j(snapshot.runs["a"]) == 0.0


def test_phases_of_what_is_split_late() -> None:
    """The CPU's joules of a phase are those of its time, though they are told after it has ended."""
    a = run("a", 0.0, phases=(Phase("train", 0.0), Phase("eval", 2.0)))

    def at(t: float, told: Usage | None = None) -> Sample:
        return turn(t, [a], power_w={"package-0": 100.0}, devices=[CPU], usage=told)

    snapshot = fold(*(at(t) for t in range(6)), at(6, usage(0, 5, RunUse("a", 5.0, 0), cpu_s=5.0)))
    assert dict(snapshot.runs["a"].phase_j) == {"train": pytest.approx(200.0), "eval": pytest.approx(300.0)}


def test_projects_go_on_when_their_runs_have_gone() -> None:
    """And those beyond the hundredth are one."""
    samples = []
    for number in range(103):
        one = run(f"r{number}", number, number + 1.0, holds=frozenset({"GPU-a"}), project=f"p{number}")
        samples.append(turn(number, [one]))
        samples.append(turn(number + 1.0, [one]))
    snapshot = FIRST
    for sample in (*samples, turn(110.0)):
        snapshot = step(snapshot, sample)

    assert not snapshot.runs
    of_projects_j = sum(joules for one in snapshot.projects.values() for joules in one.energy_j.values())
    assert of_projects_j == pytest.approx(snapshot.devices["GPU-a"].attributed_j)
    assert len(snapshot.projects) == 101
    assert sum(snapshot.projects["p0"].energy_j.values()) == pytest.approx(100.0)
    assert sum(snapshot.projects[OTHER_PROJECTS].energy_j.values()) == pytest.approx(300.0)
    assert NO_PROJECT not in snapshot.projects


class World:
    """Runs that come and go, hold, share and leave, and a daemon that hears of it late or never."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.runs: dict[str, Run] = {}

    def sample(self, t: float) -> Sample:
        """The next turn."""
        draw = self.draw
        action = draw(st.sampled_from(["none", "none", "begin", "late", "end", "leave", "phase"]))
        living = [one for one in self.runs.values() if one.end is None]
        if action in {"begin", "late"}:
            start_s = t if action == "begin" else t - draw(st.floats(0.0, 20.0))
            name = f"r{len(self.runs)}"
            held = frozenset({"GPU-a"}) if draw(st.booleans()) else frozenset()
            spells = (Hold("GPU-a", start_s),) if held and action == "late" else ()
            self.runs[name] = run(name, start_s, holds=held, spells=spells, project=draw(st.sampled_from(["", "p"])))
        elif living and action == "end":
            one = draw(st.sampled_from(living))
            self.runs[one.id] = _with(one, end=instant(max(one.start.mono_s, t - draw(st.floats(0.0, 3.0)))))
        elif living and action == "leave":
            one = draw(st.sampled_from(living))
            self.runs[one.id] = _with(one, holds=frozenset(), spells=(Hold("GPU-a", one.start.mono_s, t - 0.5),))
        elif living and action == "phase":
            one = draw(st.sampled_from(living))
            self.runs[one.id] = _with(one, phases=(*one.phases, Phase(f"f{t}", t - 0.25)))
        told = None
        names = list(self.runs)
        if draw(st.integers(0, 4)) == 0:
            owners = {number: draw(st.sampled_from(names)) for number in range(3)} if names else {}
            uses = [RunUse(name, draw(st.floats(0, 20)), draw(st.integers(0, 10**10))) for name in names]
            told = usage(t - draw(st.floats(0.0, 6.0)), t, *uses, cpu_s=draw(st.floats(0, 40)), owners=owners)
        pids = {number: draw(st.sampled_from([None, 0.0, 0.5])) for number in range(3)} if draw(st.booleans()) else None
        at = instant(t)
        readings = [
            Reading(device=device, at=at, energy_j=watts * t)
            for device, watts in ((GPU, 300.0), (CPU, 150.0), (DRAM, 20.0))
            if draw(st.integers(0, 9)) > 0
        ]
        return Sample(
            at=at,
            readings=tuple(readings),
            processes=turn(t, pids=pids).processes,
            usages=() if told is None else (told,),
            runs=RunBook(runs=tuple(self.runs.values())),
        )


def _with(one: Run, **changes: object) -> Run:
    fields = {name: getattr(one, name) for name in Run.__dataclass_fields__}
    return Run(**{**fields, **changes})


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_sum_closes_whatever_happens(data: st.DataObject) -> None:
    """In every turn; and no counter of a run or a device ever falls, and nothing waits for longer than 15 s."""
    world = World(data.draw)
    snapshot = FIRST
    for number in range(60):
        after = step(snapshot, world.sample(float(number)))
        assert_closed(after)
        for device_id, entry in snapshot.devices.items():
            assert after.devices[device_id].attributed_j >= entry.attributed_j
            assert after.devices[device_id].unattributed_j >= entry.unattributed_j
            assert all(span.end_mono_s > number - 16.0 for span in after.devices[device_id].waiting)
        for run_id, totals in snapshot.runs.items():
            for key, joules in totals.energy_j.items():
                assert after.runs[run_id].energy_j[key] >= joules
        snapshot = after

"""What is left out where nothing happened changes nothing: the short ways lead where the long ones do."""

from dataclasses import fields, replace
from types import MappingProxyType

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.attribution import ShareKind
from monitor.core.fold import step
from monitor.core.model import Component, Device, Instant, Method, Reading, Run, RunBook, Sample
from monitor.core.runcount import gone_on
from monitor.core.snapshot import Extras, Policy, RunTotals, Snapshot

WATTS = st.integers(1, 600).map(float)
GPU = Device(id="gpu-0", component=Component.GPU, source="s", max_power_w=1000.0)
MODULE = Device(id="module-0", component=Component.MODULE, source="s", max_power_w=6000.0)
CPU = Device(id="cpu-0", component=Component.CPU, source="s", max_power_w=1000.0)


def instant(mono_s: float) -> Instant:
    """A moment on both clocks."""
    return Instant(mono_s, 1.79e9 + mono_s)


def run(run_id: str, *holds: str, since_s: float = 1000.0, end_s: float | None = None) -> Run:
    """A run that holds these devices from its start."""
    end = None if end_s is None else instant(end_s)
    return Run(id=run_id, name=run_id, start=instant(since_s), end=end, holds=frozenset(holds))


def test_a_run_that_goes_on_keeps_everything_but_watts_and_time() -> None:
    """Every field of its totals, those too that are added to them later."""
    numbers = Extras(*(float(place) for place, _name in enumerate(Extras._fields, 1)))
    before = RunTotals(
        run=run("a"),
        energy_j=MappingProxyType({(Component.GPU, Method.COUNTER, ShareKind.WHOLE): 1.0}),
        emissions_g=MappingProxyType({}),
        phase_j=MappingProxyType({"train": 2.0}),
        idle_j=MappingProxyType({Component.GPU: 3.0}),
        unpriced_j=4.0,
        recovered_j=5.0,
        held_s=6.0,
        measured_s=7.0,
        extras=numbers,
        power_w=8.0,
        duration_s=9.0,
    )
    book = RunBook(runs=(before.run,))
    after = gone_on({"a": before}, book, {}, {"a": 10.0}, at_s=1011.0)["a"]

    assert after == before._replace(power_w=10.0, duration_s=11.0)
    for name in RunTotals._fields:
        assert name in {"power_w", "duration_s"} or getattr(after, name) is getattr(before, name)


def test_a_turn_makes_or_keeps_every_field() -> None:
    """A field of the snapshot that is in neither list is forgotten at each turn."""
    made = {
        *("at", "devices", "runs", "projections", "node_energy_j", "node_power_w", "node_emissions_g"),
        *("book", "stirred"),
        *("node_unpriced_j", "projects", "usages", "usage_mark", "sources", "intensities", "grid", "ledger"),
        *("runs_dropped", "names_altered", "late_ticks", "booked"),
    }
    first = Snapshot(ledger_id="l", policy=Policy(zone="DE"), resumed_at=instant(990.0))
    kept = {field.name for field in fields(Snapshot)} - made
    new = {name: object() for name in kept - {"ledger_id", "policy", "resumed_at"}}
    before = replace(first, **new)  # type: ignore[arg-type]  # whatever a field may be that is added later
    after = step(before, Sample(at=instant(1000.0)))

    assert {name: getattr(after, name) for name in kept} == {name: getattr(before, name) for name in kept}


@settings(max_examples=50)
@given(st.lists(st.tuples(WATTS, st.booleans()), min_size=1, max_size=30))
def test_a_steady_gpu_is_the_sum_of_its_watts(turns: list[tuple[float, bool]]) -> None:
    """Joules, seconds and counts in closed form, and the run beside it, of which nothing is booked, has its time."""
    book = RunBook(runs=(run("a", GPU.id), run("idle"), run("over", since_s=990.0, end_s=999.0)))
    snapshot, counter_j, mono_s = Snapshot(ledger_id="l", policy=Policy()), 100.0, 1000.0
    snapshot = step(snapshot, _sample(mono_s, book, Reading(device=GPU, at=instant(mono_s), energy_j=counter_j)))
    for watts, tells_power in turns:
        mono_s, counter_j = mono_s + 1.0, counter_j + watts
        power_w = watts if tells_power else None
        reading = Reading(device=GPU, at=instant(mono_s), energy_j=counter_j, power_w=power_w)
        snapshot = step(snapshot, _sample(mono_s, book, reading))

        assert snapshot.devices[GPU.id].power_w == watts
        assert snapshot.runs["a"].power_w == watts
        assert snapshot.runs["idle"].power_w is None
    total_j, entry, whole = sum(watts for watts, _ in turns), snapshot.devices[GPU.id], snapshot.runs["a"]

    assert dict(entry.energy_j) == {Method.COUNTER: total_j}
    assert (entry.attributed_j, entry.unattributed_j, entry.pending_j) == (total_j, 0.0, 0.0)
    assert dict(whole.energy_j) == {(Component.GPU, Method.COUNTER, ShareKind.WHOLE): total_j}
    assert (whole.held_s, whole.measured_s) == (len(turns), len(turns))
    assert [snapshot.runs[name].duration_s for name in ("a", "idle", "over")] == [len(turns), len(turns), 9.0]


@given(st.booleans(), st.booleans())
def test_a_cpu_lies_within_a_module_of_this_turn_or_an_earlier_one(first_alone: bool, module_is_part: bool) -> None:  # noqa: FBT001
    """Whichever is seen first: its joules are the module's from the turn on in which that is measured."""
    module = replace(MODULE, id="a-module", within="" if module_is_part else "node")
    snapshot = Snapshot(ledger_id="l", policy=Policy())
    for second in range(1, 4):
        mono_s = 1000.0 + second
        readings = [Reading(device=CPU, at=instant(mono_s), energy_j=50.0 * second)]
        if second > 1 or not first_alone:
            readings.append(Reading(device=module, at=instant(mono_s), energy_j=500.0 * second))
        snapshot = step(snapshot, _sample(mono_s, RunBook(), *readings))
    assert snapshot.devices[CPU.id].device.within == (module.id if module_is_part else "")


def _sample(mono_s: float, book: RunBook, *readings: Reading) -> Sample:
    return Sample(at=instant(mono_s), readings=readings, runs=book)

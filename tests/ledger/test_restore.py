"""What a daemon finds of the one before it."""

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.core.meter import Meter
from monitor.core.model import (
    Basis,
    Component,
    Hold,
    Instant,
    Method,
    Phase,
    Progress,
    Quality,
    RunUse,
    Usage,
)
from monitor.core.snapshot import DeviceTotals, Extras, ProjectTotals, Snapshot
from monitor.core.waiting import Idle, Look, Waiting
from monitor.ledger.ledger import Ledger
from tests.ledger.counting import BOOT, POLICY, Count, rows_j, total_j
from tests.ledger.test_upkeep import node_j

OF_THE_MOMENT = ("telemetry", "telemetry_at", "power_w", "processes", "ratios")


def restart(count: Count, directory: Path, *, boot_id: str = BOOT) -> Snapshot:
    """Open what was closed, close it again; the snapshot to go on from."""
    ledger = count.open(directory, boot_id=boot_id)
    ledger.close()
    return ledger.first


def waiting_at(count: Count, number: int, energy_j: float) -> Waiting:
    """What one device used in the last second."""
    return Waiting(
        start_mono_s=count.mono_s - 1.0,
        end_mono_s=count.mono_s,
        wall_offset_s=count.wall_offset_s + 0.1,
        energy_j=energy_j,
        method=list(Method)[number % 4],
        is_seen=number % 2 == 0,
        is_timed=number % 3 != 0,
        recovered=number % 5 == 0,
    )


def keep_waiting(count: Count, ledger: Ledger, turns: int) -> Snapshot:
    """So many turns, each committed; what GPU-a uses waits for up to four of them, as do its looks and the usages."""
    waiting: list[Waiting] = []
    looks: tuple[Look, ...] = ()
    usages: tuple[Usage, ...] = ()
    projects = {"none": ProjectTotals()}
    settled_j = 0.0
    shown = count.snapshot
    for number in range(turns):
        before = count.snapshot.devices["GPU-a"]
        entry = count.turn().devices["GPU-a"]
        new_j = sum(entry.energy_j.values()) - sum(before.energy_j.values())
        waiting.append(waiting_at(count, number, new_j))
        while len(waiting) > 4:
            settled_j += waiting.pop(0).energy_j
        at = count.now()
        if number % 3 == 0:
            users = None if number % 2 else (("r1", None), ("", 0.1 + 0.2))
            looks = (*looks, Look(at.mono_s - 5.0, at.mono_s, ((4711, 1 / 3), (4712, None)), users))[-2:]
            used = (RunUse("r1", 1 / 3, 2**40), RunUse("r2", 0.0, 0, 0.1))
            span = Usage(
                start=Instant(at.mono_s - 5.0, at.wall_s - 5.0), end=at, cpu_s=0.7, runs=used, mark=f"m{number}"
            )
            usages = (*usages, replace(span, cpu_capacity_s=10.1, memory_bytes=2**41))[-2:]
        runs = {run_id: one._replace(idle_j={Component.GPU: number / 3}) for run_id, one in count.snapshot.runs.items()}
        project = ProjectTotals(
            energy_j={(Component.GPU, Method.COUNTER): number / 7},
            emissions_g={(Method.COUNTER, Basis.DIRECT, Quality.STATIC): number / 9},
        )
        waits = entry._replace(
            attributed_j=0.0,
            unattributed_j=settled_j,
            pending_j=sum(one.energy_j for one in waiting),
            waiting=tuple(waiting),
            looks=looks,
            idle=Idle(61.0 / 3, at.mono_s - 0.3, 10.0 / 3),
        )
        projects = {**projects, f"p{number % 2}": project}
        shown = replace(
            count.snapshot,
            devices={**count.snapshot.devices, "GPU-a": waits},
            runs=runs,
            projects=projects,
            usages=usages,
            usage_mark=usages[-1].mark,
            booked=(),
        )
        ledger.offer(shown)
        ledger.commit()
    return shown


def test_a_new_ledger_begins_a_count(tmp_path: Path) -> None:
    """It has an id of its own, and nothing else."""
    first, second = (Count().open(tmp_path / name) for name in ("one", "two"))

    assert Snapshot(ledger_id=first.id, policy=POLICY) == first.first
    assert first.id.startswith("l-")
    assert first.id != second.id
    assert first.restored_at is None
    assert () == first.runs
    for ledger in (first, second):
        ledger.close()


def test_the_count_comes_back_bit_for_bit(tmp_path: Path) -> None:
    """Every accumulator of devices, runs and node is after a restart what it was at the last commit."""
    count = Count()
    ledger = count.open(tmp_path)
    count.begin("r1", tags=(("k", "v"),), user="ada", project="p", launcher="slurm", job_id="7", memory='{"uid": 1}')
    count.begin("r2", holds=("GPU-a",), phases=(Phase("train", count.mono_s),), progress=Progress(steps=3, tokens=9))
    before = count.keep(ledger, 37)
    ledger.close()
    after = restart(count, tmp_path)

    assert before.ledger_id == after.ledger_id
    assert before.node_energy_j == after.node_energy_j
    assert before.node_emissions_g == after.node_emissions_g
    assert before.node_unpriced_j == after.node_unpriced_j
    assert {run_id: totals._replace(power_w=None) for run_id, totals in before.runs.items()} == after.runs
    for device_id, entry in before.devices.items():
        restored = after.devices[device_id]
        momentary = DeviceTotals(device=entry.device, energy_j={}, last_at=entry.last_at)
        lasting = entry._replace(**{name: getattr(momentary, name) for name in OF_THE_MOMENT}, meter=restored.meter)

        assert lasting == restored
    assert () == after.booked
    assert after.at is None
    assert count.now() == after.resumed_at


@pytest.mark.parametrize("turns", [1, 4, 5, 13])
def test_what_waits_comes_back_bit_for_bit(tmp_path: Path, turns: int) -> None:
    """Joules that wait, looks, idle power, idle joules, spells, slices, projects and usages."""
    count = Count()
    ledger = count.open(tmp_path)
    spells = (Hold("GPU-a", 0.1 + 0.2, None), Hold("GPU-b", 1 / 3, 2 / 3))
    run = count.begin("r1", spells=spells, slices=frozenset({"MIG-2", "MIG-1"}))
    count.keep(ledger)
    before = keep_waiting(count, ledger, turns)
    ledger.close()
    after = restart(count, tmp_path)
    known, restored = before.devices["GPU-a"], after.devices["GPU-a"]

    assert (known.waiting, known.looks, known.idle) == (restored.waiting, restored.looks, restored.idle)
    assert known.pending_j == restored.pending_j
    assert ((), (), Idle()) == _waits(after.devices["GPU-b"])
    assert run == after.runs["r1"].run
    assert before.runs["r1"].idle_j == after.runs["r1"].idle_j
    assert before.projects == after.projects
    assert before.usages == after.usages
    assert before.usage_mark == after.usage_mark


def _waits(entry: DeviceTotals) -> tuple[object, ...]:
    return entry.waiting, entry.looks, entry.idle


def test_on_another_boot_nobody_can_tell_whose_it_was(tmp_path: Path) -> None:
    """What waited is nobody's, in the count and in the rows; how little a device draws idle is known on."""
    count = Count(mono_s=50_000.0)
    ledger = count.open(tmp_path)
    count.begin("r1", spells=(Hold("GPU-a", count.mono_s + 2.0, count.mono_s + 3.0), Hold("GPU-b", count.mono_s)))
    count.keep(ledger, 2)
    rows_before_j = node_j(tmp_path)
    before = keep_waiting(count, ledger, 13)
    ledger.close()
    wall_s = count.now().wall_s + 100.0
    count.mono_s, count.wall_offset_s = 30.0, wall_s - 30.0
    count.runs = []
    ledger = count.open(tmp_path, boot_id="boot-2")
    after, run = ledger.first, ledger.runs[0].run
    ledger.offer(after)
    ledger.commit()
    ledger.close()
    known, restored = before.devices["GPU-a"], after.devices["GPU-a"]

    assert (0.0, (), ()) == (restored.pending_j, restored.waiting, restored.looks)
    assert known.unattributed_j + known.pending_j == restored.unattributed_j
    assert pytest.approx(known.pending_j, rel=1e-12) == node_j(tmp_path) - rows_before_j
    assert Idle(power_w=known.idle.power_w) == restored.idle
    assert ((), "") == (after.usages, after.usage_mark)
    assert before.projects == after.projects
    assert (Hold("GPU-a", -83.0, -82.0), Hold("GPU-b", -85.0)) == run.spells


def test_a_counter_that_outlives_us_keeps_its_baseline(tmp_path: Path) -> None:
    """On the same boot, of a device whose count goes on whoever reads it; of others the time is unmeasured."""
    count = Count()
    ledger = count.open(tmp_path)
    before = count.keep(ledger, 20)
    ledger.close()
    after = restart(count, tmp_path)
    kept, lost = after.devices["GPU-a"].meter, after.devices["GPU-b"]
    known = before.devices["GPU-a"].meter

    assert known.last is not None
    assert kept.last is not None
    assert known._replace(last=None, counted=None, still_since=None) == kept._replace(
        last=None, counted=None, still_since=None
    )
    assert known.last._replace(telemetry=None) == kept.last
    assert kept.last is kept.counted
    assert Meter() == lost.meter
    assert before.devices["GPU-b"].last_at == lost.last_at


def test_what_was_used_while_nobody_ran_is_recovered(tmp_path: Path) -> None:
    """Ten minutes later on the same boot the counters tell it, for the run that went on; the rows have it, too."""
    count = Count()
    ledger = count.open(tmp_path)
    count.begin("r1")
    before = count.keep(ledger, 10)
    ledger.close()
    count.pass_time(700.0)
    ledger = count.open(tmp_path)
    after = count.keep(ledger, 2)
    rows = ledger.history.intervals("r1")
    ledger.close()

    assert ledger.same_boot
    assert after.runs["r1"].recovered_j > 0.0
    assert total_j(before, "r1") < total_j(after, "r1")
    assert pytest.approx(total_j(after, "r1"), rel=1e-12) == rows_j(rows)
    assert pytest.approx(after.runs["r1"].recovered_j) == rows_j([row for row in rows if row.recovered])
    assert after.devices["GPU-b"].unmeasured_s >= 700.0


def test_another_boot_drops_every_baseline(tmp_path: Path) -> None:
    """Counters began anew; moments move to the new clock by wall time, that of a device not before the boot."""
    count = Count(mono_s=50_000.0)
    ledger = count.open(tmp_path)
    count.begin("r1", phases=(Phase("train", count.mono_s + 3.0),))
    before = count.keep(ledger, 10)
    committed = count.now()
    ledger.close()
    wall_s = committed.wall_s + 100.0
    count.mono_s, count.wall_offset_s = 30.0, wall_s - 30.0
    ledger = count.open(tmp_path, boot_id="boot-2")
    first, run = ledger.first, ledger.runs[0].run
    ledger.close()

    assert not ledger.same_boot
    assert Instant(-70.0, committed.wall_s) == ledger.restored_at
    assert {Meter()} == {entry.meter for entry in first.devices.values()}
    assert {0.0} == {entry.last_at.mono_s for entry in first.devices.values()}
    assert Instant(-80.0, before.runs["r1"].run.start.wall_s) == run.start
    assert (Phase("train", -77.0),) == run.phases
    assert total_j(before, "r1") == total_j(first, "r1")


def test_a_run_of_another_boot_is_told_on_this_clock(tmp_path: Path) -> None:
    """Also one that ended long ago, which only the history knows."""
    count = Count(mono_s=50_000.0)
    ledger = count.open(tmp_path)
    start = count.begin("r1").start
    count.keep(ledger, 5)
    count.end("r1")
    count.keep(ledger)
    ledger.close()
    count.wall_offset_s += 60_000.0
    count.mono_s = 10.0
    ledger = count.open(tmp_path, boot_id="boot-2")
    found = ledger.history.find("r1")
    ledger.close()

    assert () == ledger.runs
    assert found is not None
    assert start.wall_s == found.run.start.wall_s
    assert count.mono_s - (count.now().wall_s - start.wall_s) == found.run.start.mono_s


def test_lately_ended_runs_come_back_the_newest_hundred(tmp_path: Path) -> None:
    """And every one that is alive, however long."""
    count = Count()
    ledger = count.open(tmp_path)
    count.begin("alive", holds=())
    count.begin("long gone", holds=())
    count.turn()
    count.end("long gone")
    count.keep(ledger)
    count.pass_time(1000.0)
    for number in range(110):
        count.begin(f"r{number}", holds=())
        count.pass_time(0.1)
        count.end(f"r{number}")
    count.keep(ledger)
    ledger.close()
    first = restart(count, tmp_path)

    assert {"alive"} | {f"r{number}" for number in range(10, 110)} == set(first.runs)


def test_a_device_without_any_energy_comes_back(tmp_path: Path) -> None:
    """Absent joules stay absent: they do not become 0."""
    count = Count()
    ledger = count.open(tmp_path)
    snapshot = count.turn()
    silent = snapshot.devices["GPU-b"]._replace(energy_j={}, meter=Meter())
    odd = snapshot.devices["GPU-a"]._replace(energy_j={Method.INTEGRATED: 0.1 + 0.2, Method.ESTIMATED: 5e-324})
    ledger.offer(replace(snapshot, devices={"GPU-a": odd, "GPU-b": silent}))
    ledger.commit()
    ledger.close()
    first = restart(count, tmp_path)

    assert {} == first.devices["GPU-b"].energy_j
    assert odd.energy_j == first.devices["GPU-a"].energy_j


@pytest.mark.parametrize(("currency", "cost"), [("EUR", 5.0), ("JPY", 0.0), ("", 0.0)])
def test_an_amount_in_another_currency_is_not_taken_over(tmp_path: Path, currency: str, cost: float) -> None:
    """Yen are not euros: the amount begins at 0 again, everything else goes on."""
    count = Count()
    ledger = count.open(tmp_path, policy=replace(POLICY, currency="EUR"))
    count.begin("r1")
    count.keep(ledger, 2)
    sums = Extras(marginal_g=1.0, embodied_g=2.0, market_g=3.0, cost=5.0, water_l=4.0)
    count.snapshot = replace(count.snapshot, runs={"r1": count.snapshot.runs["r1"]._replace(extras=sums)})
    count.keep(ledger)
    ledger.close()
    ledger = count.open(tmp_path, policy=replace(POLICY, currency=currency))
    count.keep(ledger)
    found = ledger.history.find("r1")
    ledger.close()

    assert sums._replace(cost=cost) == ledger.first.runs["r1"].extras
    assert [sums._replace(cost=cost)] == [one.extras for one in ledger.runs]
    assert found is not None
    assert cost == found.extras.cost


def test_a_checkpoint_that_names_no_currency_keeps_its_amounts(tmp_path: Path) -> None:
    """One of an older release."""
    count = Count()
    ledger = count.open(tmp_path, policy=replace(POLICY, currency="EUR"))
    count.begin("r1")
    count.keep(ledger, 2)
    run = count.snapshot.runs["r1"]
    count.snapshot = replace(count.snapshot, runs={"r1": run._replace(extras=Extras(cost=5.0))})
    count.keep(ledger)
    ledger.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db, db:
        db.execute("UPDATE checkpoint SET node = json_remove(node, '$.currency')")
    ledger = count.open(tmp_path, policy=replace(POLICY, currency="JPY"))
    ledger.close()

    assert 5.0 == ledger.first.runs["r1"].extras.cost

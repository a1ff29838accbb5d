"""What the ledger tells of runs afterwards."""

from dataclasses import replace
from pathlib import Path

import pytest

from monitor.core.attribution import ShareKind
from monitor.core.model import Intensity, Method, Phase, Quality
from monitor.errors import FailureError
from tests.ledger.counting import FLAT, UNIX_AT_BOOT_S, Count, rows_j, total_j


def test_runs_are_told_newest_first(tmp_path: Path) -> None:
    """Alive or ended, each as it was in the last committed snapshot."""
    count = Count()
    ledger = count.open(tmp_path)
    for number in range(5):
        count.begin(f"r{number}", holds=("GPU-a",))
        count.keep(ledger, 3)
        if number % 2:
            count.end(f"r{number}")
    snapshot = count.keep(ledger)
    recent = ledger.history.recent(3)
    found = ledger.history.find("r1")
    ledger.close()

    assert [snapshot.runs[run_id] for run_id in ("r4", "r3", "r2")] == list(recent)
    assert snapshot.runs["r1"] == found
    assert ledger.history.find("r9") is None


def test_intervals_add_up_to_the_run(tmp_path: Path) -> None:
    """By device, phase and share, in buckets of ten seconds of Unix time, oldest first."""
    count = Count()
    ledger = count.open(tmp_path)
    run = count.begin("r1", phases=(Phase("train", count.mono_s),))
    count.keep(ledger, 60)
    count.runs = [replace(run, phases=(*run.phases, Phase("eval", count.mono_s)))]
    count.begin("r2", holds=("package-0",))
    snapshot = count.keep(ledger, 60)
    rows = ledger.history.intervals("r1")
    ledger.close()

    assert pytest.approx(total_j(snapshot, "r1"), rel=1e-12) == rows_j(rows)
    assert pytest.approx(dict(snapshot.runs["r1"].phase_j), rel=1e-12) == {
        phase: rows_j([row for row in rows if row.phase == phase]) for phase in ("train", "eval")
    }
    assert sorted(row.start_wall_s for row in rows) == [row.start_wall_s for row in rows]
    assert {10.0} == {row.end_wall_s - row.start_wall_s for row in rows}
    assert {(Method.COUNTER, ShareKind.WHOLE), (Method.COUNTER, ShareKind.EQUAL)} == {
        (row.method, row.share) for row in rows
    }
    assert {("GPU-a", "DE"), ("package-0", "DE")} == {(row.device_id, row.zone) for row in rows}
    assert pytest.approx(snapshot.runs["r1"].measured_s) == sum(row.measured_s for row in rows)


def test_factors_are_those_that_were_in_use(tmp_path: Path) -> None:
    """An edition that replaced another prices only what came after it; a slot only its own time."""
    newer = replace(FLAT, grams_per_kilowatthour=300.0, detail="2025")
    slots = tuple(
        Intensity(
            zone="DE",
            grams_per_kilowatthour=100.0 + hour,
            basis=FLAT.basis,
            quality=Quality.ACTUAL,
            provider="feed",
            valid_from_s=UNIX_AT_BOOT_S + 3600.0 * hour,
            valid_until_s=UNIX_AT_BOOT_S + 3600.0 * (hour + 1),
        )
        for hour in range(3)
    )
    count = Count()
    ledger = count.open(tmp_path)
    count.keep(ledger, 5)
    changed_s = count.now().wall_s
    ledger.close()
    ledger = count.open(tmp_path)
    count.intensities = (newer, *slots)
    count.keep(ledger, 5)
    early = ledger.history.factors(changed_s - 3.0, changed_s - 2.0)
    late = ledger.history.factors(changed_s + 2.0, changed_s + 3.0)
    both = ledger.history.factors(changed_s - 3.0, changed_s + 3.0)
    ledger.close()

    assert [FLAT] == early
    assert {newer, slots[0]} == set(late)
    assert {FLAT, newer, slots[0]} == set(both)


def test_energy_by_slot_adds_up_to_the_run(tmp_path: Path) -> None:
    """In slots of five minutes of Unix time, oldest first; from a bound on only what is newer; by zone."""
    count = Count()
    ledger = count.open(tmp_path)
    count.begin("r1")
    count.begin("r2", holds=("GPU-b",))
    for _ in range(80):
        ledger.offer(count.turn(10.0))
    count.snapshot = replace(count.snapshot, policy=replace(count.snapshot.policy, zones={"GPU-a": "DK-DK1"}))
    for _ in range(80):
        ledger.offer(count.turn(10.0))
    ledger.commit()
    rows = ledger.history.intervals("r1")
    slots = ledger.history.energy_by_slot("r1", 0.0, 4e9, 300)
    bound_s = slots[2][1]
    newer = ledger.history.energy_by_slot("r1", bound_s, 4e9, 300)
    within = ledger.history.energy_by_slot("r1", bound_s, bound_s + 300.0, 300)
    none = ledger.history.energy_by_slot("r9", 0.0, 4e9, 300)
    ledger.close()

    assert pytest.approx(total_j(count.snapshot, "r1"), rel=1e-12) == sum(slot[2] for slot in slots)
    for zone in ("DE", "DK-DK1"):
        assert pytest.approx(rows_j([row for row in rows if row.zone == zone]), rel=1e-12) == sum(
            slot[2] for slot in slots if slot[0] == zone
        )
    assert sorted(slot[1] for slot in slots) == [slot[1] for slot in slots]
    assert {0.0} == {slot[1] % 300.0 for slot in slots}
    assert [slot for slot in slots if slot[1] >= bound_s] == list(newer)
    assert [slot for slot in slots if slot[1] == bound_s] == list(within)
    assert {1.25} == {slot[3] for slot in slots}
    assert [] == list(none)


def test_energy_by_slot_has_the_overhead_of_its_time(tmp_path: Path) -> None:
    """A daemon with another setting begins with its own; what was used between the two is priced by the later one."""
    count = Count()
    ledger = count.open(tmp_path)
    count.begin("r1")
    count.keep(ledger, 120)
    ended_s = count.now().wall_s
    before_j = total_j(count.snapshot, "r1")
    ledger.close()
    count.pass_time(300.0)
    ledger = count.open(tmp_path, policy=replace(count.snapshot.policy, pue_ratio=2.0))
    count.keep(ledger, 120)
    slots = ledger.history.energy_by_slot("r1", 0.0, 4e9, 10)
    changes = ledger.history.pue_changes(0.0, 4e9)
    after = ledger.history.pue_changes(ended_s + 100.0, 4e9)
    ledger.close()

    assert [(0.0, 1.25), (ended_s, 2.0)] == list(changes)
    assert [(ended_s + 100.0, 2.0)] == list(after)
    assert {1.25} == {ratio for _zone, start_s, _energy_j, ratio in slots if start_s + 10.0 <= ended_s}
    assert {2.0} == {ratio for _zone, start_s, _energy_j, ratio in slots if start_s >= ended_s}
    assert pytest.approx(before_j, rel=0.1) == sum(slot[2] for slot in slots if slot[3] == 1.25)
    assert pytest.approx(total_j(count.snapshot, "r1"), rel=1e-12) == sum(slot[2] for slot in slots)


def test_unsettled_runs_are_the_alive_and_the_lately_ended(tmp_path: Path) -> None:
    """In this order, each newest start first."""
    count = Count()
    ledger = count.open(tmp_path)
    for run_id, ends in (("old", True), ("alive", False), ("ended", True), ("new", False)):
        count.begin(run_id)
        count.keep(ledger, 3)
        if ends:
            count.end(run_id)
            count.keep(ledger, 2)
        if run_id == "old":
            since_s = count.now().wall_s
    found = ledger.history.unsettled(since_s)
    everything = ledger.history.unsettled(0.0)
    ledger.close()

    assert ["new", "alive", "ended"] == list(found)
    assert ["new", "alive", "ended", "old"] == list(everything)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """No traceback of a database reaches a user."""
    count = Count()
    ledger = count.open(tmp_path)
    ledger.close()
    (tmp_path / "ledger.sqlite").write_bytes(b"\x00" * 8192)

    with pytest.raises(FailureError, match=r"ledger\.sqlite"):
        ledger.history.recent(3)

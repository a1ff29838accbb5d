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


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """No traceback of a database reaches a user."""
    count = Count()
    ledger = count.open(tmp_path)
    ledger.close()
    (tmp_path / "ledger.sqlite").write_bytes(b"\x00" * 8192)

    with pytest.raises(FailureError, match=r"ledger\.sqlite"):
        ledger.history.recent(3)

"""Old rows are made fewer, and very old ones go."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.ledger.ledger import Ledger
from tests.ledger.counting import Count, rows_j, total_j

DAY_S = 86_400.0


def tend(ledger: Ledger) -> None:
    """All the upkeep that is due."""
    while ledger.tend():
        pass


def spans(directory: Path) -> dict[int, int]:
    """Number of rows by the span of their bucket."""
    with sqlite3.connect(directory / "ledger.sqlite") as db:
        found = dict(db.execute("SELECT span_s, count(*) FROM intervals GROUP BY span_s").fetchall())
    db.close()
    return found


def node_j(directory: Path) -> float:
    """All joules of all rows."""
    with sqlite3.connect(directory / "ledger.sqlite") as db:
        (joules,) = db.execute("SELECT sum(energy_j) FROM intervals").fetchone()
    db.close()
    return float(joules)


def keep_slowly(count: Count, ledger: Ledger, seconds: float, every_s: float = 30.0) -> None:
    """Turns far apart, to get over days soon."""
    for _ in range(round(seconds / every_s)):
        ledger.offer(count.turn(every_s))
    ledger.commit()


def test_rows_of_two_days_ago_are_merged_and_no_joule_is_lost(tmp_path: Path) -> None:
    """Thirty rows become one; run by run, phase by phase, the sums stay, and younger rows are left alone."""
    count = Count()
    ledger = count.open(tmp_path)
    count.begin("r1")
    count.begin("r2", holds=("GPU-b",))
    keep_slowly(count, ledger, 3600.0)
    count.end("r2")
    before_j = {run_id: total_j(count.snapshot, run_id) for run_id in ("r1", "r2")}
    all_j = node_j(tmp_path)
    fine = spans(tmp_path)[10]
    tend(ledger)
    untouched = spans(tmp_path)
    count.mono_s += 2 * DAY_S - 1800.0
    tend(ledger)
    half = spans(tmp_path)
    count.mono_s += 2000.0
    tend(ledger)
    rows = {run_id: ledger.history.intervals(run_id) for run_id in before_j}
    after_j = node_j(tmp_path)
    ledger.close()

    assert {10: fine} == untouched
    assert 0 < half[10] < fine * 0.6
    assert fine / 30 * 1.2 > spans(tmp_path)[300]
    assert 10 not in spans(tmp_path)
    assert pytest.approx(all_j, rel=1e-12) == after_j
    for run_id, joules in before_j.items():
        assert pytest.approx(joules, rel=1e-12) == rows_j(rows[run_id])
        assert {300.0} == {row.end_wall_s - row.start_wall_s for row in rows[run_id]}


def test_idle_joules_are_kept_with_their_rows(tmp_path: Path) -> None:
    """What of a run's joules is idle is in its rows, before and after they are merged."""
    count = Count()
    ledger = count.open(tmp_path)
    count.begin("r1")
    for _ in range(40):
        shown = count.turn(30.0)
        booked = tuple(row._replace(idle_j=row.energy_j / 4) for row in shown.booked)
        ledger.offer(replace(shown, booked=booked))
    ledger.commit()
    fine = ledger.history.intervals("r1")
    count.mono_s += 3 * DAY_S
    tend(ledger)
    merged = ledger.history.intervals("r1")
    ledger.close()

    assert len(merged) < len(fine)
    for rows in (fine, merged):
        assert pytest.approx(total_j(count.snapshot, "r1") / 4, rel=1e-12) == sum(row.idle_j for row in rows)


def test_a_merge_adds_to_what_is_there(tmp_path: Path) -> None:
    """Rows that come late, of a time that was merged already, are merged into the same buckets."""
    count = Count()
    ledger = count.open(tmp_path)
    count.begin("r1")
    keep_slowly(count, ledger, 600.0)
    count.mono_s += 3 * DAY_S
    tend(ledger)
    count.mono_s -= 3 * DAY_S + 600.0
    count.snapshot = ledger.first
    keep_slowly(count, ledger, 600.0)
    count.mono_s += 4 * DAY_S
    before_j = node_j(tmp_path)
    tend(ledger)
    ledger.close()

    assert {300} == set(spans(tmp_path))
    assert pytest.approx(before_j, rel=1e-12) == node_j(tmp_path)


def test_what_ended_before_the_retention_goes(tmp_path: Path) -> None:
    """Runs and rows that are older are deleted; of a run that is alive only the old rows; the count goes on."""
    count = Count()
    ledger = count.open(tmp_path, retention_days=7)
    count.begin("old", holds=("GPU-a",))
    count.begin("long", holds=("GPU-b",))
    keep_slowly(count, ledger, 600.0)
    count.end("old")
    keep_slowly(count, ledger, 600.0)
    total = sum(count.snapshot.node_energy_j.values())
    count.mono_s += 8 * DAY_S
    count.runs = [run for run in count.runs if run.id == "long"]
    keep_slowly(count, ledger, 600.0)
    long_j = total_j(count.snapshot, "long")
    tend(ledger)
    oldest = min(row.start_wall_s for row in ledger.history.intervals("long"))
    known = [totals.run.id for totals in ledger.history.recent(10)]
    found = ledger.history.find("long")
    count.keep(ledger)
    ledger.close()

    assert ["long"] == known
    assert found is not None
    assert long_j == sum(found.energy_j.values())
    assert oldest >= count.now().wall_s - 7 * DAY_S - 1200.0
    assert sum(count.snapshot.node_energy_j.values()) > total
    assert b"name of old" not in (tmp_path / "ledger.sqlite").read_bytes()


def test_for_ever_is_for_ever(tmp_path: Path) -> None:
    """Without a retention nothing is deleted."""
    count = Count()
    ledger = count.open(tmp_path, retention_days=None)
    count.begin("old")
    keep_slowly(count, ledger, 600.0)
    count.end("old")
    keep_slowly(count, ledger, 60.0)
    count.mono_s += 5000 * DAY_S
    tend(ledger)
    found = ledger.history.find("old")
    ledger.close()

    assert found is not None


def test_space_comes_back(tmp_path: Path) -> None:
    """When much has been deleted the file gets smaller."""
    count = Count()
    ledger = count.open(tmp_path, retention_days=30)
    for number in range(40):
        count.runs = []
        count.begin(f"r{number}", memory="x" * 200_000)
        keep_slowly(count, ledger, 60.0)
        count.end(f"r{number}")
        keep_slowly(count, ledger, 30.0)
    size = (tmp_path / "ledger.sqlite").stat().st_size
    count.runs = []
    count.mono_s += 40 * DAY_S
    tend(ledger)
    ledger.close()

    assert size > 6_000_000
    assert (tmp_path / "ledger.sqlite").stat().st_size < size / 2

"""Committed, then shown: the writer at work, and a disk that takes nothing for a while."""

import contextlib
import logging
import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.core.fold import step
from monitor.core.model import LedgerState, RunBook, Sample
from monitor.core.snapshot import Snapshot
from tests.harness import need, poll
from tests.ledger.counting import POLICY, Count, rows_j, total_j


def committed_j(directory: Path) -> float:
    """Joules of all rows, as another process sees them."""
    with contextlib.closing(sqlite3.connect(f"file:{directory / 'ledger.sqlite'}?mode=ro", uri=True)) as db:
        return float(db.execute("SELECT coalesce(sum(energy_j), 0.0) FROM intervals").fetchone()[0])


def test_what_is_published_is_in_the_file(tmp_path: Path) -> None:
    """At the moment of publishing, all that the snapshot's node has used can be read from the file."""
    shown: list[tuple[Snapshot, float]] = []
    count = Count()
    ledger = count.open(tmp_path)
    ledger.start(lambda snapshot: shown.append((snapshot, committed_j(tmp_path))))
    for _ in range(5):
        ledger.offer(count.turn(), at_once=True)
        poll.until(lambda: shown and shown[-1][0] is count.snapshot, what="the published snapshot")
    ledger.close()

    for snapshot, in_file_j in shown:
        assert pytest.approx(sum(snapshot.node_energy_j.values()), rel=1e-12) == in_file_j


def test_offers_between_two_commits_are_all_kept(tmp_path: Path) -> None:
    """Only the newest snapshot is published, but what every turn booked is in the rows."""
    shown: list[Snapshot] = []
    count = Count()
    ledger = count.open(tmp_path)
    ledger.start(shown.append)
    for _ in range(200):
        ledger.offer(count.turn(0.1))
    ledger.offer(count.turn(0.1), at_once=True)
    poll.until(lambda: shown and shown[-1] is count.snapshot, what="the newest snapshot")
    ledger.close()

    assert len(shown) < 10
    assert pytest.approx(sum(count.snapshot.node_energy_j.values()), rel=1e-12) == committed_j(tmp_path)


def test_closing_keeps_the_rest(tmp_path: Path) -> None:
    """What was offered and not committed is committed at the end; closing again does nothing."""
    count = Count()
    ledger = count.open(tmp_path)
    for _ in range(7):
        ledger.offer(count.turn())
    ledger.close()
    ledger.close()
    first = count.snapshot
    again = count.open(tmp_path)
    again.close()

    assert first.node_energy_j == again.first.node_energy_j
    assert not list(tmp_path.glob("*-wal"))


def test_a_run_that_leaves_between_two_commits_is_kept(tmp_path: Path) -> None:
    """Its last totals and its rows are in the file, although the newest snapshot no longer has it."""
    count = Count()
    ledger = count.open(tmp_path)
    count.begin("brief")
    ledger.offer(count.turn())
    ledger.offer(count.turn())
    count.end("brief")
    last = count.turn()
    ledger.offer(last)
    count.runs = []
    ledger.offer(count.turn())
    ledger.commit()
    found, rows = ledger.history.find("brief"), ledger.history.intervals("brief")
    ledger.close()

    assert last.runs["brief"] == found
    assert pytest.approx(total_j(last, "brief"), rel=1e-12) == rows_j(rows)


def test_lag_is_the_time_since_the_last_commit(tmp_path: Path) -> None:
    """In the clock of the snapshots; a ledger of the daemon's own time says that it goes with it."""
    count = Count()
    ledger = count.open(tmp_path, state=LedgerState.TEMPORARY)
    count.keep(ledger)
    count.pass_time(2.5)
    health = ledger.health(count.now())
    ledger.close()

    assert LedgerState.TEMPORARY is health.state
    assert pytest.approx(2.5) == health.lag_s
    assert (0, "") == (health.write_failures, health.problem)


@contextlib.contextmanager
def no_file_grows_beyond(size: int) -> Iterator[None]:
    """As if the disk were full: writes of this process beyond so many bytes into any file fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_nothing_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Commits fail, are counted and told once; when the disk takes them again all of it is written."""
    shown: list[Snapshot] = []
    count = Count()
    ledger = count.open(tmp_path)
    ledger._publish = shown.append  # noqa: SLF001  (as `start`, without the thread)
    count.begin("r1")
    kept = count.keep(ledger, 20)
    size = (tmp_path / "ledger.sqlite-wal").stat().st_size
    with caplog.at_level(logging.INFO, "trainwatt"):
        with no_file_grows_beyond(size):
            count.keep(ledger, 30)
            count.end("r1")
            ended = count.keep(ledger, 3)
            count.runs = []
            count.keep(ledger, 3)
            health = ledger.health(count.now())
            wish = ledger.forget(run_id="r1")
            ledger.commit()
        count.keep(ledger)
    after = ledger.health(count.now())
    found, rows = ledger.history.find("r1"), ledger.history.intervals("r1")
    ledger.close()

    assert 36 == health.write_failures
    assert pytest.approx(36.0) == health.lag_s
    assert "the disk" in health.problem
    assert wish.exception(0) is not None
    assert (0.0, "") == (after.lag_s, after.problem)
    assert 2 == len(caplog.messages)
    assert [kept, count.snapshot] == shown[-2:]
    assert ended.runs["r1"] == found
    assert pytest.approx(total_j(ended, "r1"), rel=1e-12) == rows_j(rows)
    assert pytest.approx(sum(count.snapshot.node_energy_j.values()), rel=1e-12) == committed_j(tmp_path)


def test_a_full_disk_is_used_again_once_there_is_space(tmp_path: Path) -> None:
    """A real one; what was counted meanwhile is in the file afterwards."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "t", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        need.missing("the right to mount a tmpfs")
    try:
        count = Count()
        ledger = count.open(tmp_path / "state")
        count.keep(ledger, 5)
        with contextlib.suppress(OSError), (tmp_path / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(b"x" * 4096):
                pass
        count.begin("r1")
        count.keep(ledger, 200)
        full = ledger.health(count.now())
        (tmp_path / "ballast").unlink()
        count.keep(ledger, 2)
        well = ledger.health(count.now())
        in_file_j = committed_j(tmp_path / "state")
        ledger.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)

    assert "full: free space" in full.problem
    assert (0.0, "") == (well.lag_s, well.problem)
    assert pytest.approx(sum(count.snapshot.node_energy_j.values()), rel=1e-12) == in_file_j


def test_the_thread_tries_again_by_itself(tmp_path: Path) -> None:
    """Nothing new has to be offered for it; what waited is published once it is committed."""
    shown: list[Snapshot] = []
    count = Count()
    ledger = count.open(tmp_path)
    count.keep(ledger, 5)
    ledger.start(shown.append)
    blocker = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    ledger.offer(count.turn(), at_once=True)
    poll.until(lambda: ledger.health(count.now()).write_failures, what="a commit that fails")
    problem = ledger.health(count.now()).problem
    blocker.execute("ROLLBACK")
    blocker.close()
    poll.until(lambda: shown and shown[-1] is count.snapshot, what="the commit after it")
    ledger.close()

    assert "another program holds it" in problem


def test_a_restart_before_the_first_turn_forgets_nothing(tmp_path: Path) -> None:
    """A daemon that ended before it had counted anything leaves the checkpoint as it was."""
    count = Count()
    ledger = count.open(tmp_path)
    count.begin("r1")
    before = count.keep(ledger, 5)
    ledger.close()
    count.open(tmp_path).close()
    again = count.open(tmp_path)
    again.close()

    assert {"r1": before.runs["r1"]._replace(power_w=None)} == again.first.runs


def test_a_first_commit_that_fails_keeps_the_overhead_of_the_downtime(tmp_path: Path) -> None:
    """What was used between two daemons has the PUE of the later one, also where its first commit has to wait."""
    count = Count()
    ledger = count.open(tmp_path)
    count.begin("r1")
    count.keep(ledger, 20)
    ended_s = count.now().wall_s
    ledger.close()
    count.pass_time(3600.0)
    ledger = count.open(tmp_path, policy=replace(POLICY, pue_ratio=2.0))
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as db:
        db.execute("ALTER TABLE checkpoint RENAME TO away")  # what a commit writes last
        at = Sample(at=count.now(), runs=RunBook(runs=tuple(count.runs)), intensities=count.intensities)
        count.snapshot = step(count.snapshot, at)
        ledger.offer(count.snapshot)
        is_kept = ledger.commit()
        db.execute("ALTER TABLE away RENAME TO checkpoint")
    count.keep(ledger, 5)
    slots = ledger.history.energy_by_slot("r1", 0.0, 4e9, 10)
    changes = ledger.history.pue_changes(0.0, 4e9)
    ledger.close()

    assert not is_kept
    assert [(0.0, 1.25), (ended_s, 2.0)] == list(changes)
    assert {2.0} == {ratio for _zone, start_s, _energy_j, ratio in slots if start_s >= ended_s}

"""Where a ledger may be, who holds it, and what becomes of a file that is not as it should be."""

import contextlib
import json
import logging
import os
import random
import sqlite3
import stat
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.core.model import LedgerState, Method
from monitor.core.snapshot import Extras
from monitor.core.waiting import Idle
from monitor.errors import FailureError
from monitor.ledger import schema, store
from monitor.ledger.intensities import Intensities
from tests.harness import need
from tests.ledger.counting import FLAT, Count, total_j

MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /home rw - nfs4 server:/home rw
31 30 0:26 / /home/local\\040disk rw - xfs /dev/sdb rw
32 22 0:27 / /mnt/ssh rw - fuse.sshfs host: rw
33 22 0:28 / /scratch rw - ext4 /dev/sdc rw
34 22 0:29 / /scratch rw - lustre mds:/scratch rw
"""


def mode(path: Path) -> int:
    """Its permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def kept(directory: Path, turns: int = 300) -> Count:
    """A closed ledger of some turns and a run."""
    count = Count()
    ledger = count.open(directory)
    count.begin("r1")
    count.keep(ledger, turns)
    ledger.close()
    return count


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """The directory and every file in it, whatever the umask."""
    before = os.umask(0)
    try:
        count = Count()
        ledger = count.open(tmp_path / "deep" / "state")
        count.keep(ledger)
        files = list((tmp_path / "deep" / "state").iterdir())
        ledger.close()
    finally:
        os.umask(before)

    assert {"ledger.lock", "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"} == {file.name for file in files}
    assert {0o600} == {mode(file) for file in (tmp_path / "deep" / "state").iterdir()}
    assert 0o700 == mode(tmp_path / "deep" / "state")


@pytest.mark.parametrize(
    ("place", "kind"), [("/home/ada/state", "nfs4"), ("/mnt/ssh/x", "fuse.sshfs"), ("/scratch", "lustre")]
)
def test_network_file_systems_are_refused(tmp_path: Path, place: str, kind: str) -> None:
    """One line that names the kind and the remedy; the mount that was laid over another counts."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)

    with pytest.raises(FailureError, match=rf"network file system \({kind}\).*--state-dir"):
        Count().open(Path(place), mounts=mounts)


def test_a_local_disk_below_a_network_one_is_taken(tmp_path: Path) -> None:
    """The longest mount point decides, with its name as the kernel writes it; no list of mounts refuses nothing."""
    mounts, spaced = tmp_path / "mountinfo", tmp_path / "local disk"
    mounts.write_text(f"22 1 0:1 / / rw - nfs server:/ rw\n23 22 0:2 / {spaced.parent}/local\\040disk rw - ext4 d rw\n")

    Count().open(spaced, mounts=mounts).close()
    Count().open(tmp_path / "two", mounts=tmp_path / "none").close()


def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    """It is told who holds the ledger; once that one has let go, it is welcome."""
    ledger = Count().open(tmp_path)

    with pytest.raises(FailureError, match=rf"pid {os.getpid()}\).*--state-dir"):
        Count().open(tmp_path)
    ledger.close()
    Count().open(tmp_path).close()


def test_a_file_in_place_of_the_directory_is_told(tmp_path: Path) -> None:
    """One line with the remedy."""
    (tmp_path / "state").write_text("")

    with pytest.raises(FailureError, match="Not a directory; give another directory with --state-dir"):
        Count().open(tmp_path / "state")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter every directory")
def test_a_directory_of_others_is_told(tmp_path: Path) -> None:
    """One line with the remedy."""
    (tmp_path / "state").mkdir(mode=0)

    with pytest.raises(FailureError, match="Permission denied; give another directory with --state-dir"):
        Count().open(tmp_path / "state")


def overwritten(file: Path) -> None:
    """Garbage over its middle."""
    text = bytearray(file.read_bytes())
    third = len(text) // 3
    text[third : 2 * third] = random.Random(7).randbytes(third)
    file.write_bytes(text)


def truncated(file: Path) -> None:
    """Half of it."""
    os.truncate(file, file.stat().st_size // 2)


def no_database(file: Path) -> None:
    """Something else."""
    file.write_text("this was never a database\n" * 100)


@pytest.mark.parametrize("damage", [overwritten, truncated, no_database])
def test_a_damaged_file_is_put_aside(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept under another name and told of in one line; the count begins anew under a new id and is kept."""
    count = kept(tmp_path)
    old = Count().open(tmp_path)
    old.close()
    damage(tmp_path / "ledger.sqlite")
    content = (tmp_path / "ledger.sqlite").read_bytes()
    with caplog.at_level(logging.WARNING, "trainwatt"):
        ledger = count.open(tmp_path)
    count.keep(ledger, 3)
    ledger.close()
    again = count.open(tmp_path)
    again.close()
    aside = list(tmp_path.glob("ledger.damaged-2026*Z.sqlite"))

    assert 1 == len(aside)
    assert content == aside[0].read_bytes()
    assert 1 == len(caplog.messages)
    assert str(aside[0]) in caplog.messages[0]
    assert ledger.id != old.id
    assert ledger.id == again.id
    assert set(again.first.devices) == {"GPU-a", "GPU-b", "package-0"}


def test_words_that_nobody_wrote_are_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A sound database whose rows make no sense is put aside as well: no traceback at the start."""
    count = kept(tmp_path, 3)
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db, db:
        db.execute("UPDATE runs SET shape = '{}'")
    with caplog.at_level(logging.WARNING, "trainwatt"):
        ledger = count.open(tmp_path)
    ledger.close()

    assert () == ledger.runs
    assert 1 == len(list(tmp_path.glob("ledger.damaged-*.sqlite")))
    assert "cannot be understood" in caplog.text


def test_damage_found_in_use_is_found_again_at_the_next_start(tmp_path: Path) -> None:
    """A large file is not read whole at every start, but is after it has failed."""
    count = kept(tmp_path)
    file = tmp_path / "ledger.sqlite"
    ledger = count.open(tmp_path)
    with sqlite3.connect(file) as db:
        root = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'intervals'").fetchone()[0]
    ledger.close()
    with file.open("r+b") as content:
        content.seek((root - 1) * 4096)
        content.write(b"\x77" * 4096)
    ledger = count.open(tmp_path, whole_check_bytes=0)
    old_id = ledger.id
    count.keep(ledger)
    problem = ledger.health(count.now()).problem
    ledger.close()
    ledger = count.open(tmp_path, whole_check_bytes=0)
    ledger.close()

    assert "it is damaged: restart trainwatt" in problem
    assert old_id != ledger.id
    assert 1 == len(list(tmp_path.glob("ledger.damaged-*.sqlite")))


def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    """One line; not a byte of it changes."""
    count = kept(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    content = (tmp_path / "ledger.sqlite").read_bytes()

    with pytest.raises(FailureError, match="written by a newer trainwatt"):
        count.open(tmp_path)
    assert content == (tmp_path / "ledger.sqlite").read_bytes()


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """It is neither used nor put aside."""
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("CREATE TABLE photos (name)")
    db.close()

    with pytest.raises(FailureError, match="a database of another program"):
        Count().open(tmp_path)


def test_an_older_file_is_migrated(tmp_path: Path) -> None:
    """Each missing step is done once, in order, and what was in the file is still there."""
    done = []

    def step(number: int) -> schema.Step:
        def add(db: sqlite3.Connection) -> None:
            done.append(number)
            db.execute(f"CREATE TABLE made_by_{number} (x)")

        return add

    kept(tmp_path)
    steps = (*schema.STEPS, step(1), step(2))
    for _ in range(2):
        migrated = store.open_store(tmp_path, wall_s=0.0, steps=steps)
        runs = migrated.db.execute("SELECT id FROM runs").fetchall()
        version = schema.version(migrated.db)
        migrated.db.close()

    assert [1, 2] == done
    assert [("r1",)] == runs
    assert len(steps) == version


def test_a_ledger_of_version_1_goes_on(tmp_path: Path) -> None:
    """Its count is as it was to the bit, what it did not know is absent, and it is kept on in the new tables."""
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db:
        db.executescript((Path(__file__).parent / "version1.sql").read_text())
        devices = dict(db.execute("SELECT id, counter_j FROM meters JOIN devices ON key = device").fetchall())
        totals = {name: json.loads(text)["energy_j"] for name, text in db.execute("SELECT id, totals FROM runs")}
    count = Count(mono_s=1016.0)
    ledger = count.open(tmp_path)
    first, ended = ledger.first, ledger.history.find("ended")
    count.runs = [first.runs["alive"].run]
    count.keep(ledger, 3)
    goes_on = total_j(count.snapshot, "alive")
    ledger.close()
    again = count.open(tmp_path)
    again.close()

    assert devices == {device_id: entry.energy_j[Method.COUNTER] for device_id, entry in first.devices.items()}
    assert {((), (), Idle())} == {(entry.waiting, entry.looks, entry.idle) for entry in first.devices.values()}
    assert totals == {
        name: [[*key, joules] for key, joules in one.energy_j.items()] for name, one in first.runs.items()
    }
    assert {((), frozenset())} == {(one.run.spells, one.run.slices) for one in first.runs.values()}
    assert {} == first.projects
    assert ((), "") == (first.usages, first.usage_mark)
    assert ended == first.runs["ended"]
    assert goes_on == total_j(again.first, "alive")


def test_a_ledger_of_version_2_goes_on(tmp_path: Path) -> None:
    """What waits, idle power and a counter that has stopped to show come over to the bit."""
    stopped = [1000.25, 1.7e9, 123.456789, None, None, "instant", 0.0]
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as db:
        db.executescript((Path(__file__).parent / "version1.sql").read_text())
        schema.migrate(db, schema.STEPS[:2])
        db.execute(
            "UPDATE meters SET counted = ?, idle_power_w = 61.7, idle_since_mono_s = 990.5, idle_j = 0.1, "
            "waiting = ?, pending_j = 7.3",
            (json.dumps(stopped), struct.pack("<ddddBBBB", 1001.0, 1002.0, 1.7e9, 7.3, 0, 1, 1, 0)),
        )
    ledger = Count(mono_s=1016.0).open(tmp_path)
    entries = [entry for entry in ledger.first.devices.values() if entry.meter.counted is not None]
    ledger.close()

    assert entries
    for entry in entries:
        counted = entry.meter.counted
        assert counted is not None
        assert (1000.25, 123.456789, None) == (counted.at.mono_s, counted.energy_j, counted.power_w)
        assert Idle(61.7, 990.5, 0.1) == entry.idle
        assert (7.3, [7.3]) == (entry.pending_j, [one.energy_j for one in entry.waiting])


def test_a_ledger_of_version_3_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its runs have no sums beside their grams yet: those begin at 0, the others are as they were to the bit."""
    plain = 6  # numbers of a run behind its sums: joules without grams, recovered ones, three times and watts
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as db:
        db.executescript((Path(__file__).parent / "version1.sql").read_text())
        told = {name: json.loads(text)["energy_j"] for name, text in db.execute("SELECT id, totals FROM runs")}
        schema.migrate(db, schema.STEPS[:3])
        for key, shape in db.execute("SELECT key, shape FROM runs").fetchall():
            length = 8 * (sum(map(len, json.loads(shape))) + plain)
            db.execute("UPDATE runs SET numbers = substr(numbers, 1, ?) WHERE key = ?", (length, key))
        ledger_id = db.execute("SELECT value FROM meta WHERE name = 'ledger_id'").fetchone()[0]
    count = Count(mono_s=1016.0)
    ledger = count.open(tmp_path)
    first = ledger.first
    count.runs = [first.runs["alive"].run]
    count.keep(ledger, 3)
    found = ledger.history.find("alive")
    ledger.close()

    assert ledger_id == ledger.id
    assert [] == caplog.messages
    assert told == {name: [[*key, joules] for key, joules in one.energy_j.items()] for name, one in first.runs.items()}
    assert {Extras()} == {one.extras for one in first.runs.values()}
    assert count.snapshot.runs["alive"] == found


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_older_ledger_takes_what_the_feeds_tell(tmp_path: Path, version: int) -> None:
    """The tables of intensities come with version 4, whatever came before."""
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as db:
        db.executescript((Path(__file__).parent / "version1.sql").read_text())
        schema.migrate(db, schema.STEPS[:version])
    value = replace(FLAT, valid_from_s=0.0, valid_until_s=3600.0, fetched_at_s=1.0)
    ledger = Count(mono_s=1016.0).open(tmp_path)
    for _ in range(2):
        store = Intensities(tmp_path / "ledger.sqlite")
        store.add([value])
        known = store.known("DE", 0.0, 10.0)
        store.close()
    runs = ledger.history.unsettled(0.0)
    ledger.close()

    assert [value] == list(known)
    assert {"alive", "ended"} <= set(runs)


def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    """Half a migration is none."""

    def fails(db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE half (x)")
        db.execute("no SQL")

    kept(tmp_path)
    with pytest.raises(sqlite3.OperationalError):
        store.open_store(tmp_path, wall_s=0.0, steps=(*schema.STEPS, fails))
    opened = store.open_store(tmp_path, wall_s=0.0)
    tables = opened.db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone()
    opened.db.close()

    assert (0,) == tables


def test_a_read_only_disk_gives_a_ledger_in_memory(tmp_path: Path) -> None:
    """It says so, meters on, remembers nothing, and publishes what it is offered."""
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "t", tmp_path], check=False).returncode:
        need.missing("the right to mount a tmpfs")
    try:
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        count = Count()
        ledger = count.open(tmp_path / "state")
        count.keep(ledger, 3)
        ledger.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    health = ledger.health(count.now())

    assert LedgerState.MEMORY is health.state
    assert health.lag_s is None
    assert "Read-only file system" in health.problem
    assert "restart trainwatt" in health.problem
    assert ledger.id.startswith("memory-")
    assert () == ledger.history.recent(5)

"""The tables of the ledger, and how those of an older version become those of this one."""

import sqlite3
from collections.abc import Callable, Sequence

from monitor.errors import FailureError
from monitor.ledger import meters, runs

APPLICATION_ID = 0x54574C47
"""Marks the file as a ledger: `TWLG`."""

Step = Callable[[sqlite3.Connection], None]


def _begin(db: sqlite3.Connection) -> None:
    """Version 1.

    Rows of intervals are many and small, so they name runs, devices and the rest by key. They lie by run and time: the
    report of a run is one range. Those of the last days are found by the index `fresh` for their compaction.
    `labels` belong to a run, so that the words of a run go with it. Run 0 is nobody.
    """
    for statement in (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE devices (key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, about TEXT NOT NULL)",
        """CREATE TABLE runs (
            key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, user TEXT NOT NULL, start_wall_s REAL NOT NULL,
            end_wall_s REAL, boot TEXT NOT NULL, run TEXT NOT NULL, totals TEXT NOT NULL
        )""",
        "CREATE INDEX runs_by_start ON runs (start_wall_s)",
        """CREATE TABLE labels (
            key INTEGER PRIMARY KEY, run INTEGER NOT NULL, zone TEXT NOT NULL, phase TEXT NOT NULL,
            method TEXT NOT NULL, share TEXT NOT NULL, recovered INTEGER NOT NULL,
            UNIQUE (run, zone, phase, method, share, recovered)
        )""",
        """CREATE TABLE intervals (
            run INTEGER NOT NULL, start_s INTEGER NOT NULL, span_s INTEGER NOT NULL, device INTEGER NOT NULL,
            label INTEGER NOT NULL, energy_j REAL NOT NULL, idle_j REAL NOT NULL, measured_s REAL NOT NULL,
            PRIMARY KEY (run, start_s, span_s, device, label)
        ) WITHOUT ROWID""",
        "CREATE INDEX fresh ON intervals (start_s) WHERE span_s = 10",
        """CREATE TABLE factors (
            used_from_s REAL NOT NULL, used_until_s REAL, zone TEXT NOT NULL, grams_per_kilowatthour REAL NOT NULL,
            basis TEXT NOT NULL, quality TEXT NOT NULL, provider TEXT NOT NULL, signal TEXT NOT NULL,
            valid_from_s REAL NOT NULL, valid_until_s REAL NOT NULL, detail TEXT NOT NULL
        )""",
        "CREATE TABLE pue (used_from_s REAL NOT NULL, used_until_s REAL, pue_ratio REAL NOT NULL)",
        """CREATE TABLE checkpoint (
            key INTEGER PRIMARY KEY CHECK (key = 1), boot TEXT NOT NULL, mono_s REAL NOT NULL, wall_s REAL NOT NULL,
            node TEXT NOT NULL
        )""",
        # Numbers of a device as they are: SQLite keeps the eight bytes of a float, and binding is cheaper than text.
        """CREATE TABLE meters (
            device INTEGER PRIMARY KEY, last_at_mono_s REAL NOT NULL, last_at_wall_s REAL NOT NULL,
            counter_j REAL, integrated_j REAL, estimated_j REAL, simulated_j REAL,
            attributed_j REAL NOT NULL, unattributed_j REAL NOT NULL, pending_j REAL NOT NULL,
            unmeasured_s REAL NOT NULL, resets INTEGER NOT NULL,
            check_span_s REAL NOT NULL, check_counter_j REAL NOT NULL, check_integrated_j REAL NOT NULL,
            check_ratio REAL,
            read_mono_s REAL, read_wall_s REAL, read_energy_j REAL, read_wraps_at_j REAL, read_power_w REAL,
            read_signal TEXT, read_window_s REAL,
            bridged_j REAL NOT NULL, unvouched_s REAL NOT NULL, withheld_j REAL NOT NULL, still_j REAL NOT NULL,
            counted TEXT, still_since TEXT
        )""",
    ):
        db.execute(statement)


def _attribute(db: sqlite3.Connection) -> None:
    """Version 2: joules that wait to be somebody's, who used what lately, and what projects used.

    `projects` and `usage` are tables of their own, for they are written when they change and not with every commit.
    """
    for column in ("waiting BLOB", "looks TEXT", "idle_power_w REAL", "idle_since_mono_s REAL"):
        db.execute(f"ALTER TABLE meters ADD COLUMN {column}")
    db.execute("ALTER TABLE meters ADD COLUMN idle_j REAL NOT NULL DEFAULT 0.0")
    db.execute("CREATE TABLE projects (name TEXT PRIMARY KEY, totals TEXT NOT NULL) WITHOUT ROWID")
    db.execute("CREATE TABLE usage (key INTEGER PRIMARY KEY CHECK (key = 1), mark TEXT NOT NULL, spans TEXT NOT NULL)")


def _pack(db: sqlite3.Connection) -> None:
    """Version 3: what is written with every commit is bytes, which cost a third of columns and of JSON."""
    columns = """last_at_mono_s, last_at_wall_s, counter_j, integrated_j, estimated_j, simulated_j, attributed_j,
        unattributed_j, pending_j, unmeasured_s, resets, check_span_s, check_counter_j, check_integrated_j, check_ratio,
        read_mono_s, read_wall_s, read_energy_j, read_wraps_at_j, read_power_w, read_signal, read_window_s, bridged_j,
        unvouched_s, withheld_j, still_j, counted, still_since, idle_power_w, idle_since_mono_s, idle_j"""
    devices = db.execute(f"SELECT device, waiting, looks, {columns} FROM meters").fetchall()  # noqa: S608
    db.execute("DROP TABLE meters")
    db.execute("CREATE TABLE meters (device INTEGER PRIMARY KEY, numbers BLOB NOT NULL, waiting BLOB, looks TEXT)")
    db.executemany(
        "INSERT INTO meters VALUES (?, ?, ?, ?)",
        [(device, meters.packed(tuple(row)), waiting, looks) for device, waiting, looks, *row in devices],
    )
    db.execute("ALTER TABLE runs RENAME COLUMN totals TO shape")
    db.execute("ALTER TABLE runs ADD COLUMN numbers BLOB NOT NULL DEFAULT x''")
    totals = db.execute("SELECT shape, key FROM runs").fetchall()
    db.executemany(
        "UPDATE runs SET shape = ?, numbers = ? WHERE key = ?", [(*runs.packed(text), key) for text, key in totals]
    )


def _tell(db: sqlite3.Connection) -> None:
    """Version 4: every value that a feed of the grid ever gave, and what the feeds were asked.

    Rows of values are many and small, so what they have in common stands in two small tables. They lie by series and
    time: the values of a zone over a span are a few ranges. Integral moments take four bytes in a column of reals.
    `longest_s` is the length of the longest slot of a series: what reaches into a span begins no earlier before it.
    """
    for statement in (
        """CREATE TABLE series (
            key INTEGER PRIMARY KEY, provider TEXT NOT NULL, zone TEXT NOT NULL, signal TEXT NOT NULL,
            basis TEXT NOT NULL, longest_s REAL NOT NULL, UNIQUE (zone, provider, signal, basis)
        )""",
        """CREATE TABLE tellings (
            key INTEGER PRIMARY KEY, quality TEXT NOT NULL, made_by TEXT NOT NULL, dataset TEXT NOT NULL,
            detail TEXT NOT NULL, UNIQUE (quality, made_by, dataset, detail)
        )""",
        """CREATE TABLE intensities (
            series INTEGER NOT NULL, valid_from_s REAL NOT NULL, valid_until_s REAL NOT NULL,
            version INTEGER NOT NULL, grams_per_kilowatthour REAL NOT NULL, telling INTEGER NOT NULL,
            fetched_at_s REAL, updated_at_s REAL, checked_at_s REAL,
            PRIMARY KEY (series, valid_from_s, valid_until_s, version)
        ) WITHOUT ROWID""",
        """CREATE TABLE asks (
            provider TEXT NOT NULL, zone TEXT NOT NULL, at_s REAL NOT NULL, what TEXT NOT NULL,
            start_s REAL NOT NULL, end_s REAL NOT NULL,
            PRIMARY KEY (provider, zone, at_s, what, start_s, end_s)
        ) WITHOUT ROWID""",
        "CREATE INDEX runs_by_end ON runs (end_wall_s)",
    ):
        db.execute(statement)
    # Behind the numbers of a run stand five more: what it comes to beside its grams.
    found = db.execute("SELECT numbers, key FROM runs").fetchall()
    db.executemany("UPDATE runs SET numbers = ? WHERE key = ?", [(numbers + bytes(40), key) for numbers, key in found])


STEPS: tuple[Step, ...] = (_begin, _attribute, _pack, _tell)
"""From version n to n + 1, in order. A step that a release has seen is never changed."""


def version(db: sqlite3.Connection) -> int:
    """Schema version of the file; 0 = a new one."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def refuse_foreign(db: sqlite3.Connection, name: str, steps: Sequence[Step] = STEPS) -> None:
    """Raise FailureError for a file of a newer trainwatt, or of another program. Reads only."""
    found = version(db)
    tables = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise FailureError(f"{name} is a database of another program: move it away, or give another --state-dir")
    if found > len(steps):
        raise FailureError(
            f"{name} was written by a newer trainwatt (version {found} of its tables, this one knows {len(steps)}): "
            f"install that one again, or give another --state-dir"
        )


def migrate(db: sqlite3.Connection, steps: Sequence[Step] = STEPS) -> None:
    """Bring the tables to the newest version, each step in a transaction of its own. Raises sqlite3.Error."""
    for number in range(version(db), len(steps)):
        db.execute("BEGIN IMMEDIATE")
        try:
            steps[number](db)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {number + 1}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

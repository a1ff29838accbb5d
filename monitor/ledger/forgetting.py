"""A run is forgotten: its words leave the file, its joules become nobody's, so that the node's totals stay true.

The sums of its project stay: they are an account of the node, not of the run.
"""

import sqlite3
from collections.abc import Sequence

from monitor.ledger.writer import ADD, NOBODY, label_key, transact


def meant_runs(db: sqlite3.Connection, *, run_id: str | None, users: Sequence[str]) -> list[tuple[int, str, bool]]:
    """Key, id and whether it is marked as ended, of the runs that are meant. Raises sqlite3.Error."""
    marks = ", ".join("?" * len(users))
    found = db.execute(
        f"SELECT key, id, end_wall_s IS NOT NULL FROM runs WHERE id = ? OR user IN ({marks})",  # noqa: S608
        (run_id, *users),
    )
    return [(key, name, bool(ended)) for key, name, ended in found]


def forget(db: sqlite3.Connection, keys: Sequence[int]) -> None:
    """Forget runs, in one transaction. Raises sqlite3.Error, after which nothing has changed."""

    def work() -> None:
        for key in keys:
            _disown(db, key)
            db.execute("DELETE FROM labels WHERE run = ?", (key,))
            db.execute("DELETE FROM runs WHERE key = ?", (key,))
        # They may name it; the next commit brings what of them is still of use.
        db.execute("DELETE FROM usage")
        db.execute("UPDATE meters SET looks = NULL")
        _rebuild(db)

    transact(db, work)


def _disown(db: sqlite3.Connection, run: int) -> None:
    labels = db.execute("SELECT key, zone, method, recovered FROM labels WHERE run = ?", (run,)).fetchall()
    for label, zone, method, recovered in labels:
        nobodys = label_key(db, NOBODY, zone, "", method, "", recovered)
        add = ADD.replace(
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            "SELECT ?, start_s, span_s, device, ?, energy_j, idle_j, measured_s FROM intervals "
            "WHERE run = ? AND label = ?",
        )
        db.execute(add, (NOBODY, nobodys, run, label))
    db.execute("DELETE FROM intervals WHERE run = ?", (run,))


def _rebuild(db: sqlite3.Connection) -> None:
    """Write the tables that have words anew.

    A page in use may keep old bytes between its rows; one that is freed is overwritten (secure_delete).
    """
    for table in ("runs", "labels"):
        made = db.execute(
            "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type = 'table' DESC",
            (table,),
        ).fetchall()
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
        db.execute(made[0][0])
        db.execute(f"INSERT INTO {table} SELECT * FROM old_{table}")  # noqa: S608  (our own names)
        db.execute(f"DROP TABLE old_{table}")
        for (index,) in made[1:]:
            db.execute(index)

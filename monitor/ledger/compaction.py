"""Old rows made fewer: by the writer's thread, a few milliseconds at a time, so that no commit waits for it."""

import sqlite3

from monitor.ledger.buckets import COARSE_S
from monitor.ledger.writer import NOBODY, transact

FINE_FOR_S = 48 * 3600
DAY_S = 86_400
EXPIRE_ROWS = 2_000
SPARE_PAGES = 512
VACUUM_PAGES = 128

# The span stands here as a literal, for the index `fresh` holds rows of this span only.
_OLDEST = "SELECT min(start_s) FROM intervals WHERE span_s = 10"
_MERGE = """INSERT INTO intervals
    SELECT run, :start, :span, device, label, sum(energy_j), sum(idle_j), sum(measured_s) FROM intervals
    WHERE span_s = 10 AND start_s >= :start AND start_s < :start + :span GROUP BY run, device, label
    ON CONFLICT DO UPDATE SET energy_j = energy_j + excluded.energy_j, idle_j = idle_j + excluded.idle_j,
    measured_s = measured_s + excluded.measured_s"""
_MERGED = "DELETE FROM intervals WHERE span_s = 10 AND start_s >= :start AND start_s < :start + :span"


def compact(db: sqlite3.Connection, wall_s: float) -> bool:
    """Merge the rows of one coarse bucket that is older than two days, the oldest; False when there is none.

    Raises sqlite3.Error, after which nothing has changed.
    """
    oldest = db.execute(_OLDEST).fetchone()[0]
    if oldest is None:
        return False
    start = oldest // COARSE_S * COARSE_S
    if start + COARSE_S > wall_s - FINE_FOR_S:
        return False
    bucket = {"start": start, "span": COARSE_S}

    def work() -> None:
        db.execute(_MERGE, bucket)
        db.execute(_MERGED, bucket)

    transact(db, work)
    return True


def expire(db: sqlite3.Connection, before_wall_s: float) -> tuple[bool, bool]:
    """Delete some of what ended before a moment: whether there is more of it, and whether runs went.

    Raises sqlite3.Error, after which nothing has changed.
    """
    more = gone = False

    def work() -> None:
        nonlocal more, gone
        ended = dict(db.execute("SELECT key, end_wall_s < ? FROM runs", (before_wall_s,)).fetchall())
        deleted = 0
        for run in (NOBODY, *ended):
            oldest = db.execute("SELECT min(start_s) FROM intervals WHERE run = ?", (run,)).fetchone()[0]
            if oldest is not None and oldest + COARSE_S <= before_wall_s:
                # A day of a run at a time, however much there is.
                until_s = min(before_wall_s, oldest + DAY_S)
                deleted += db.execute(
                    "DELETE FROM intervals WHERE run = ? AND start_s < ? AND start_s + span_s <= ?",
                    (run, until_s, until_s),
                ).rowcount
                more = True
            elif ended.get(run):
                _delete_run(db, run)
                gone = True
            if deleted > EXPIRE_ROWS:
                more = True
                return

    transact(db, work)
    return more, gone


def _delete_run(db: sqlite3.Connection, run: int) -> None:
    db.execute("DELETE FROM intervals WHERE run = ?", (run,))
    db.execute("DELETE FROM labels WHERE run = ?", (run,))
    db.execute("DELETE FROM runs WHERE key = ?", (run,))


def shrink(db: sqlite3.Connection) -> bool:
    """Give some free pages back to the file system, if many are free; whether there are more.

    A day's rows need the pages that its compaction frees, so a few are always kept.
    """
    free = db.execute("PRAGMA freelist_count").fetchone()[0]
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    if free <= max(SPARE_PAGES, pages // 4):
        return False
    db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    return True

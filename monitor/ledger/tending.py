"""When the file is tended: at the start and every ten minutes, a little at each commit until nothing is left to do."""

import sqlite3

from monitor.core.ports import Now
from monitor.ledger import compaction, store
from monitor.ledger.compaction import DAY_S
from monitor.ledger.values import WEAK
from monitor.ledger.writer import transact

EVERY_S = 600.0
PRUNE_EVERY_S = 3600.0
FEEDS_FOR_S = 8 * DAY_S
"""So long it is kept what was forecast before something better was known, and what the feeds were asked."""

_WORDS = ", ".join(f"'{quality}'" for quality in sorted(WEAK))
_WEAK = f"SELECT key FROM tellings WHERE quality IN ({_WORDS})"  # noqa: S608  (our own words)
_SUPERSEDED = f"""DELETE FROM intensities WHERE telling IN ({_WEAK}) AND fetched_at_s < ? AND EXISTS (
    SELECT 1 FROM intensities AS other WHERE other.series = intensities.series
    AND other.valid_from_s = intensities.valid_from_s AND other.valid_until_s = intensities.valid_until_s
    AND (other.version > intensities.version OR other.telling NOT IN ({_WEAK})))"""  # noqa: S608  (our own words)


class Tending:
    """The upkeep of one file, by the thread that writes it."""

    def __init__(self, db: sqlite3.Connection, *, now: Now, retention_days: int | None) -> None:
        self._db = db
        self._now = now
        self._retention_s = None if retention_days is None else retention_days * DAY_S
        self._due_s = float("-inf")
        self._prune_due_s = float("-inf")
        self._log_has_words = False

    def turn(self) -> tuple[bool, bool]:
        """A few milliseconds of work: whether more is due now, and whether runs went. Raises sqlite3.Error."""
        if self._log_has_words:
            self.wipe_log()
        at = self._now()
        if at.mono_s < self._due_s:
            return False, False
        if compaction.compact(self._db, at.wall_s):
            return True, False
        if at.mono_s >= self._prune_due_s:
            prune(self._db, at.wall_s, self._retention_s)
            self._prune_due_s = at.mono_s + PRUNE_EVERY_S
            return True, False
        more, runs_went = False, False
        if self._retention_s is not None:
            more, runs_went = compaction.expire(self._db, at.wall_s - self._retention_s)
        if not more and not compaction.shrink(self._db):
            self._due_s = at.mono_s + EVERY_S
            return False, runs_went
        return True, runs_went

    def wipe_log(self) -> None:
        """Have what was forgotten leave the log, too; tried again while a reader holds on to it."""
        self._log_has_words = not store.wipe_log(self._db)


def prune(db: sqlite3.Connection, wall_s: float, retention_s: float | None) -> None:
    """Delete what the feeds were asked or had forecast long ago, and every value of before the retention.

    The values that price what is kept of the runs stay: those that nothing took the place of, and all that were known
    firmly. Raises sqlite3.Error, after which nothing has changed.
    """
    before_s = wall_s - FEEDS_FOR_S

    def work() -> None:
        db.execute("DELETE FROM asks WHERE at_s < ?", (before_s,))
        db.execute(_SUPERSEDED, (before_s,))
        if retention_s is not None:
            # A day more, for a value can price what came after it.
            db.execute(
                "DELETE FROM intensities WHERE valid_until_s < ?", (min(before_s, wall_s - retention_s - DAY_S),)
            )

    transact(db, work)

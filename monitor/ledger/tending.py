"""When the file is tended: at the start and every ten minutes, a little at each commit until nothing is left to do."""

import sqlite3

from monitor.core.ports import Now
from monitor.ledger import compaction, store
from monitor.ledger.compaction import DAY_S

EVERY_S = 600.0


class Tending:
    """The upkeep of one file, by the thread that writes it."""

    def __init__(self, db: sqlite3.Connection, *, now: Now, retention_days: int | None) -> None:
        self._db = db
        self._now = now
        self._retention_s = None if retention_days is None else retention_days * DAY_S
        self._due_s = float("-inf")
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

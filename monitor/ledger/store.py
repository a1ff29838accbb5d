"""The file itself: opened, found sound or put aside, brought to this version's tables."""

import contextlib
import logging
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from monitor.ledger import location, schema, trouble

LOG = logging.getLogger("trainwatt")

BUSY_S = 1.0
"""Nobody else writes; a person with a shell on the file gets out of the way within so long, or the commit is late."""
READ_BUSY_S = 5.0
WHOLE_CHECK_BYTES = 96 * 2**20
"""Larger files are not checked whole at the start, so that it is not delayed.

So many bytes take SQLite 0.3 s once they are in memory.
"""
SMALL_TABLES = ("meta", "devices", "runs", "labels", "factors", "pue", "checkpoint", "meters", "projects", "usage")
COMPANIONS = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Store:
    """An open ledger file."""

    path: Path
    db: sqlite3.Connection
    ledger_id: str


def open_store(
    directory: Path,
    *,
    wall_s: float,
    steps: Sequence[schema.Step] = schema.STEPS,
    whole_check_bytes: int = WHOLE_CHECK_BYTES,
) -> Store:
    """Open the ledger of a directory that this process holds, or begin one. A damaged file is put aside, not deleted.

    Raises FailureError for a file that must not be touched, OSError and sqlite3.Error when it cannot be used now.
    """
    path = directory / location.DATABASE
    try:
        return _open(path, steps, whole_check_bytes)
    except sqlite3.DatabaseError as error:
        if not trouble.is_damage(error):
            raise
        put_aside(path, error, wall_s)
        return _open(path, steps, whole_check_bytes)


def distrust(path: Path) -> None:
    """Have the whole file checked at the next start, whatever its size: it was found damaged while in use."""
    with contextlib.suppress(OSError):
        _suspicion(path).touch(mode=location.FILE_MODE)


def _suspicion(path: Path) -> Path:
    return path.with_suffix(".suspect")


def _open(path: Path, steps: Sequence[schema.Step], whole_check_bytes: int) -> Store:
    location.private(path)
    with contextlib.closing(connect_to_read(path)) as db:
        schema.refuse_foreign(db, str(path), steps)
    db = connect(path)
    try:
        _check(db, path, whole_check_bytes)
        if not schema.version(db):
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only an empty file takes it
        db.execute("PRAGMA journal_mode = WAL")
        # With FULL a commit is on the disk when it returns, also through a power cut: what was shown is kept.
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA journal_size_limit = 8388608")
        schema.migrate(db, steps)
        return Store(path, db, _identity(db))
    except BaseException:
        db.close()
        raise


def connect(path: Path) -> sqlite3.Connection:
    """A connection that is used by one thread at a time, whichever it is, with transactions begun by hand."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_S)


def connect_beside(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection for whoever writes a little, now and then, beside the ledger's writer. The file must be there.

    A power cut may take its last commits, so that none of them waits for the disk: what they hold can be had again.
    Raises sqlite3.Error.
    """
    url = f"file:{quote(str(path))}?mode=rw"
    db = sqlite3.connect(url, uri=True, isolation_level=None, check_same_thread=False, timeout=busy_s)
    try:
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA wal_autocheckpoint = 0")  # the ledger's writer empties the log
    except BaseException:
        db.close()
        raise
    return db


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, timeout=READ_BUSY_S)


def _check(db: sqlite3.Connection, path: Path, whole_check_bytes: int) -> None:
    """Raise DatabaseError of damage.

    An end without farewell is no reason to look closer, for the write-ahead log is made for it. The tables that the
    count is restored from are small and always checked. The rows of intervals are checked with them while the file is
    small; in a large one they are checked after they have been found damaged in use, at the start that follows.
    """
    suspicion = _suspicion(path)
    if path.stat().st_size <= whole_check_bytes or suspicion.exists():
        _sound(db.execute("PRAGMA quick_check(1)"))
        suspicion.unlink(missing_ok=True)
        return
    present = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
    for table in SMALL_TABLES:
        if table in present:  # a file of an older version has not got all of them
            _sound(db.execute(f"PRAGMA quick_check({table})"))


def _sound(verdict: sqlite3.Cursor) -> None:
    text = str(verdict.fetchone()[0])
    if text != "ok":
        error = sqlite3.DatabaseError(" ".join(text.split()))
        error.sqlite_errorname = "SQLITE_CORRUPT"
        raise error


def put_aside(path: Path, reason: Exception, wall_s: float) -> None:
    """Rename a damaged file, with its companions, and say so. Raises OSError."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall_s))
    aside = path.with_name(f"ledger.damaged-{stamp}.sqlite")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"ledger.damaged-{stamp}-{number}.sqlite")
    for suffix in COMPANIONS:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    _suspicion(path).unlink(missing_ok=True)
    LOG.warning("the ledger %s is damaged (%s): it is kept as %s, and a new one is begun", path, reason, aside)


def wipe_log(db: sqlite3.Connection) -> bool:
    """Empty the write-ahead log, where earlier pages still have the words; False while a reader holds on to them."""
    busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return not busy


def _identity(db: sqlite3.Connection) -> str:
    known = db.execute("SELECT value FROM meta WHERE name = 'ledger_id'").fetchone()
    if known is not None:
        return str(known[0])
    ledger_id = f"l-{secrets.token_hex(6)}"
    db.execute("INSERT INTO meta VALUES ('ledger_id', ?)", (ledger_id,))
    return ledger_id

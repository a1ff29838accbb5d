"""What SQLite complains of, as one line for people that says what to do."""

import errno
from pathlib import Path

_REMEDIES = {
    "SQLITE_FULL": "the disk is full: free space on it",
    "SQLITE_READONLY": "it may not be written: make the directory and the file system writable",
    "SQLITE_CANTOPEN": "it cannot be opened: see that the directory is there and writable",
    "SQLITE_IOERR": "the disk does not answer as it should: see that it is well and has space",
    "SQLITE_BUSY": "another program holds it: close that program",
    "SQLITE_LOCKED": "another program holds it: close that program",
    "SQLITE_CORRUPT": "it is damaged: restart trainwatt, which puts it aside and begins a new one",
    "SQLITE_NOTADB": "it is damaged: restart trainwatt, which puts it aside and begins a new one",
}
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG})
"""Errors of a disk that cannot be written now and may be later."""


def line(path: Path, error: Exception) -> str:
    """What is wrong with the ledger, and the remedy."""
    name = _name(error)
    remedy = next((text for start, text in _REMEDIES.items() if name.startswith(start)), f"not written: {error}")
    return f"the ledger {path}: {remedy}"


def is_damage(error: Exception) -> bool:
    """Whether the file itself is broken, so that it can never be used again."""
    return _name(error).startswith(_DAMAGE)


def _name(error: Exception) -> str:
    return getattr(error, "sqlite_errorname", "") or ""

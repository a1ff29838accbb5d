r"""Every value that a feed of the grid ever gave, in the ledger's file, over a connection of its own.

    refresher, settler, relay (threads) --add, known--> lock --> file
                                                              \-> memory, while the file takes nothing

What cannot be written waits in memory, is answered from there, and is written with whatever comes next.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TypeVar

from monitor.core.model import Basis, Intensity, Signal
from monitor.ledger import schema, store, trouble, values
from monitor.ledger.values import Versions
from monitor.ledger.writer import transact

LOG = logging.getLogger("trainwatt")

BUSY_S = 5.0
_Ask = tuple[str, str, float, str, float, float]
"""Provider, zone, at, what, start, end: the columns of the table `asks`."""
_ADD_ASK = "INSERT OR IGNORE INTO asks VALUES (?, ?, ?, ?, ?, ?)"
_ASKS = """SELECT provider, zone, at_s, what, start_s, end_s FROM asks
    WHERE provider = ? AND zone = ? AND at_s >= ? ORDER BY at_s, what, start_s, end_s"""
_Found = TypeVar("_Found")


class Intensities:
    """The intensities in a ledger file, or in memory (`path` None), as `ports.IntensityStore`. From any thread."""

    def __init__(self, path: Path | None, *, busy_s: float = BUSY_S) -> None:
        """`path` is the file of an open ledger; another program that holds it is waited for so long."""
        self._path = path
        self._busy_s = busy_s
        self._lock = Lock()
        """Held over I/O, which is a few milliseconds, or `busy_s`."""
        self._db: sqlite3.Connection | None = None
        self._waiting: list[Intensity] = []
        self._waiting_asks: list[_Ask] = []
        self._problem = ""
        self._closed = False

    def add(self, seen: Sequence[Intensity]) -> Sequence[tuple[Intensity, Intensity]]:
        """Keep what is new; return (old, new) of every value that is no forecast and whose number has changed."""
        with self._lock:
            sound = [value for value in seen if values.is_sound(value)]
            keys = frozenset(map(values.key_of, sound))
            nothing: Versions = {}
            found = self._asked(lambda db: {key: values.of_value(db, key) for key in keys}, nothing)
            self._with_waiting(found, keys.__contains__)
            revised = []
            for value in sound:
                before, after = values.take(found.setdefault(values.key_of(value), []), value)
                if after is None:
                    continue
                self._waiting.append(value)
                if before is not None and not values.is_weak(value):
                    old = before.intensity
                    if old.grams_per_kilowatthour != value.grams_per_kilowatthour:
                        revised.append((old, value))
            self._write()
            return revised

    def known(self, zone: str, start_s: float, end_s: float, *, as_of_s: float | None = None) -> Sequence[Intensity]:
        """The newest version of each value that overlaps [start, end), of either signal, oldest slot first.

        What was known firmly is not replaced by a later forecast. As of a moment: what had been fetched by then. Of
        forecasts that were superseded more than eight days ago nothing is kept.
        """
        found = [values.best(versions, as_of_s) for versions in self._of_zone(zone, start_s, end_s).values()]
        return sorted((one.intensity for one in found if one is not None), key=_by_slot)

    def versions(self, zone: str, start_s: float, end_s: float) -> Sequence[Intensity]:
        """Every version of each value, oldest fetch first."""
        found = [one for versions in self._of_zone(zone, start_s, end_s).values() for one in versions]
        found.sort(key=lambda one: (one.intensity.fetched_at_s or float("-inf"), one.number))
        return [one.intensity for one in found]

    def checks(self, zone: str, start_s: float, end_s: float) -> Mapping[tuple[str, Basis, float, float], float]:
        """When a value was found unchanged, the first time a day or more after its slot had ended, in Unix time.

        By provider, basis, slot's start and end; of the newest versions of average values that overlap [start, end).
        """
        checked = {}
        for key, versions in self._of_zone(zone, start_s, end_s).items():
            newest = values.best(versions)
            if newest is not None and newest.checked_at_s is not None and newest.intensity.signal is Signal.AVERAGE:
                checked[key[0], key[3], key[4], key[5]] = newest.checked_at_s
        return checked

    def note_ask(  # noqa: PLR0917  (as the port has it)
        self, provider: str, zone: str, what: str, start_s: float, end_s: float, at_s: float
    ) -> None:
        """Remember that the provider was asked at `at_s` for [start, end); `what` is a word of the asker's."""
        with self._lock:
            self._waiting_asks.append(
                (values.word(provider), values.word(zone), at_s, values.word(what), start_s, end_s)
            )
            self._write()

    def asks(self, provider: str, zone: str, since_s: float) -> Sequence[tuple[str, float, float, float]]:
        """(what, start, end, at) of what the provider was asked since then, oldest first; eight days are kept."""
        whose = (values.word(provider), values.word(zone))
        with self._lock:
            found: list[_Ask] = self._asked(lambda db: db.execute(_ASKS, (*whose, since_s)).fetchall(), [])
            found += [one for one in self._waiting_asks if one[:2] == whose and one[2] >= since_s]
        return [(what, start_s, end_s, at_s) for _who, _zone, at_s, what, start_s, end_s in sorted(set(found))]

    def close(self) -> None:
        """Write what waits, and let the file go, before the ledger lets go of its directory. Never raises."""
        with self._lock:
            if self._closed:
                return
            self._write()
            if self._waiting:
                LOG.warning("%d values of the grid's feeds could not be written at the end", len(self._waiting))
            self._closed = self._path is not None
            if self._closed:
                self._disconnect()

    def _of_zone(self, zone: str, start_s: float, end_s: float) -> Versions:
        with self._lock:
            nothing: Versions = {}
            found = self._asked(lambda db: values.of_zone(db, zone, start_s, end_s), nothing)
            self._with_waiting(found, lambda key: key[1] == zone and key[4] < end_s and key[5] > start_s)
            return found

    def _with_waiting(self, found: Versions, is_meant: Callable[[values.Key], bool]) -> None:
        for value in self._waiting:
            key = values.key_of(value)
            if is_meant(key):
                values.take(found.setdefault(key, []), value)

    def _asked(self, read: Callable[[sqlite3.Connection], _Found], otherwise: _Found) -> _Found:
        """What the file answers; `otherwise` when it does not."""
        try:
            return read(self._connection())
        except sqlite3.Error as error:
            self._failed(error)
            return otherwise

    def _write(self) -> None:
        if not self._waiting and not self._waiting_asks:
            return
        try:
            db = self._connection()

            def work() -> None:
                values.Rows(db).write(self._waiting)
                db.executemany(_ADD_ASK, self._waiting_asks)

            transact(db, work)
        except sqlite3.Error as error:
            self._failed(error)
            return
        self._waiting.clear()
        self._waiting_asks.clear()
        if self._problem:
            self._problem = ""
            LOG.info("the ledger %s takes what the grid's feeds tell again; nothing was lost", self._path)

    def _connection(self) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("closed")
        if self._db is None:
            if self._path is None:
                self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
                schema.migrate(self._db)
            else:
                self._db = store.connect_beside(self._path, self._busy_s)
        return self._db

    def _failed(self, error: sqlite3.Error) -> None:
        if self._path is None or self._closed:
            return
        self._disconnect()  # one that was opened while the disk could only be read stays so
        if trouble.is_damage(error):
            store.distrust(self._path)
        line = f"{trouble.line(self._path, error)}; until then what the grid's feeds tell is kept in memory only"
        if line != self._problem:
            LOG.warning("%s", line)
        self._problem = line

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()


def _by_slot(value: Intensity) -> tuple[float, float, str, str, str]:
    return (value.valid_from_s, value.valid_until_s, value.provider, value.signal, value.basis)

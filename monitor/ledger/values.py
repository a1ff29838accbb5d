"""Rows of the tables of intensities: read, compared with what a feed tells, written. One connection, no lock.

A value is told in two ways that do not compete: firmly (actual, estimated, static), and by forecast. Each has versions
of its own, numbered together in the order in which they came.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, NamedTuple

from monitor.core.model import Basis, Intensity, Quality, Signal

WEAK = frozenset({Quality.FORECAST, Quality.CARRIED})
"""What stands in until somebody knows: whatever is known firmly takes its place, whenever it came."""
CHECKED_AFTER_S = 24 * 3600.0
"""A value that is found unchanged so long after its slot has ended has been checked."""
LONGEST_WORD = 500

_COLUMNS = """provider, zone, signal, basis, valid_from_s, valid_until_s, version, grams_per_kilowatthour, quality,
    made_by, dataset, detail, fetched_at_s, updated_at_s, checked_at_s"""
# CROSS JOIN: SQLite takes them in this order, so that the values are ranges of their table.
_OF_ZONE = f"""SELECT {_COLUMNS} FROM series
    CROSS JOIN intensities ON series = series.key CROSS JOIN tellings ON telling = tellings.key
    WHERE zone = :zone AND valid_from_s < :end AND valid_from_s >= :start - longest_s - 1.0 AND valid_until_s > :start
    ORDER BY series, valid_from_s, valid_until_s, version"""  # noqa: S608
_OF_VALUE = f"""SELECT {_COLUMNS} FROM series
    CROSS JOIN intensities ON series = series.key CROSS JOIN tellings ON telling = tellings.key
    WHERE provider = ? AND zone = ? AND signal = ? AND basis = ? AND valid_from_s = ? AND valid_until_s = ?
    ORDER BY version"""  # noqa: S608
_WRITE = "INSERT OR REPLACE INTO intensities VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

Key = tuple[str, str, Signal, Basis, float, float]
"""Provider, zone, signal, basis, slot's start and end: what makes a value the same value."""


class Version(NamedTuple):
    """What was told of a value, from one moment on."""

    intensity: Intensity
    number: int
    checked_at_s: float | None
    """Unix time at which it was found unchanged CHECKED_AFTER_S or more after its slot had ended, the first time."""


Versions = dict[Key, list[Version]]
"""Of each value, oldest first."""


def key_of(value: Intensity) -> Key:
    """What makes it the same value as another."""
    return (value.provider, value.zone, value.signal, value.basis, value.valid_from_s, value.valid_until_s)


def is_weak(value: Intensity) -> bool:
    """Whether anything that is known firmly takes its place."""
    return value.quality in WEAK


def is_sound(value: Intensity) -> bool:
    """Whether it is a number over a span at all; a legal 0 is."""
    grams = value.grams_per_kilowatthour
    return isfinite(grams) and grams >= 0.0 and value.valid_from_s < value.valid_until_s


def take(versions: list[Version], value: Intensity) -> tuple[Version | None, Version | None]:
    """Add to the versions of a value what is told now: (what it follows, what is new); None = there is no such.

    The same number and quality is no new version; but if it confirms a slot that ended long ago, that is noted in it.
    """
    told_at_s = value.fetched_at_s
    is_late = told_at_s is not None and told_at_s >= value.valid_until_s + CHECKED_AFTER_S
    place = next((at for at, one in _newest_first(versions) if is_weak(one.intensity) is is_weak(value)), None)
    last = None if place is None else versions[place]
    if place is None or last is None or _differs(last.intensity, value):
        number = versions[-1].number + 1 if versions else 1
        versions.append(Version(value, number, told_at_s if is_late else None))
        return last, versions[-1]
    if is_late and last.checked_at_s is None:
        versions[place] = last._replace(checked_at_s=told_at_s)
        return last, versions[place]
    return last, None


def _newest_first(versions: list[Version]) -> Iterable[tuple[int, Version]]:
    return reversed(list(enumerate(versions)))


def _differs(old: Intensity, new: Intensity) -> bool:
    return old.grams_per_kilowatthour != new.grams_per_kilowatthour or old.quality is not new.quality


def best(versions: Iterable[Version], as_of_s: float | None = None) -> Version | None:
    """The version that counts: the newest that is known firmly, else the newest. As of a moment, of those till then."""
    found: Version | None = None
    for one in versions:
        fetched_at_s = one.intensity.fetched_at_s
        if as_of_s is not None and fetched_at_s is not None and fetched_at_s > as_of_s:
            continue
        if found is None or not is_weak(one.intensity) or is_weak(found.intensity):
            found = one
    return found


def of_zone(db: sqlite3.Connection, zone: str, start_s: float, end_s: float) -> Versions:
    """Every version of the values that overlap [start, end). Raises sqlite3.Error."""
    found: Versions = {}
    for row in db.execute(_OF_ZONE, {"zone": word(zone), "start": start_s, "end": end_s}):
        version = _version(row)
        found.setdefault(key_of(version.intensity), []).append(version)
    return found


def of_value(db: sqlite3.Connection, key: Key) -> list[Version]:
    """Every version of one value, oldest first. Raises sqlite3.Error."""
    return [_version(row) for row in db.execute(_OF_VALUE, _bound(key))]


def _bound(key: Key) -> tuple[str | float, ...]:
    provider, zone, signal, basis, from_s, until_s = key
    return word(provider), word(zone), signal.value, basis.value, from_s, until_s


def _version(row: tuple[Any, ...]) -> Version:
    provider, zone, signal, basis, from_s, until_s, number, grams, quality, *words, fetched_s, updated_s, checked_s = (
        row
    )
    made_by, dataset, detail = words
    intensity = Intensity(
        zone=zone,
        grams_per_kilowatthour=grams,
        basis=_BASES[basis],
        quality=_QUALITIES[quality],
        provider=provider,
        signal=_SIGNALS[signal],
        valid_from_s=from_s,
        valid_until_s=until_s,
        detail=detail,
        fetched_at_s=fetched_s,
        updated_at_s=updated_s,
        made_by=made_by,
        dataset=dataset,
    )
    return Version(intensity, number, checked_s)


# A word of another version cannot be in the file; looked up rather than called, which takes a tenth of the time.
_BASES: Mapping[str, Basis] = {one.value: one for one in Basis}
_QUALITIES: Mapping[str, Quality] = {one.value: one for one in Quality}
_SIGNALS: Mapping[str, Signal] = {one.value: one for one in Signal}


class Rows:
    """Writes what feeds told into the tables, within a transaction of the caller's. Raises sqlite3.Error."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._series: dict[tuple[str, ...], tuple[int, float]] = {}
        self._tellings: dict[tuple[str, ...], int] = {}

    def write(self, seen: Iterable[Intensity]) -> None:
        """Add what is new of it, in its order."""
        held: Versions = {}
        changed: dict[tuple[Key, int], Version] = {}
        for value in seen:
            key = key_of(value)
            versions = held.get(key)
            if versions is None:
                versions = held[key] = of_value(self._db, key)
            _before, after = take(versions, value)
            if after is not None:
                changed[key, after.number] = after
        self._db.executemany(_WRITE, [self._row(version) for version in changed.values()])

    def _row(self, version: Version) -> tuple[float | None, ...]:
        value = version.intensity
        return (
            self._series_of(value),
            value.valid_from_s,
            value.valid_until_s,
            version.number,
            value.grams_per_kilowatthour,
            self._telling_of(value),
            value.fetched_at_s,
            value.updated_at_s,
            version.checked_at_s,
        )

    def _series_of(self, value: Intensity) -> int:
        span_s = value.valid_until_s - value.valid_from_s
        words = (word(value.provider), word(value.zone), value.signal.value, value.basis.value)
        known = self._series.get(words)
        if known is None or known[1] < span_s:
            known = self._db.execute(
                "INSERT INTO series (provider, zone, signal, basis, longest_s) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET longest_s = max(longest_s, excluded.longest_s) RETURNING key, longest_s",
                (*words, span_s),
            ).fetchone()
            self._series[words] = known
        return int(known[0])

    def _telling_of(self, value: Intensity) -> int:
        words = (value.quality.value, word(value.made_by), word(value.dataset), word(value.detail))
        key = self._tellings.get(words)
        if key is None:
            found = self._db.execute(
                "SELECT key FROM tellings WHERE quality = ? AND made_by = ? AND dataset = ? AND detail = ?", words
            ).fetchone()
            made = "INSERT INTO tellings (quality, made_by, dataset, detail) VALUES (?, ?, ?, ?) RETURNING key"
            key = self._tellings[words] = int((found or self._db.execute(made, words).fetchone())[0])
        return key


def word(text: str) -> str:
    """A word as the file can hold it: a lone surrogate, which JSON can bring, is no text."""
    return text[:LONGEST_WORD].encode("utf-8", "replace").decode("utf-8")

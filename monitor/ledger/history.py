"""What the ledger remembers, read over connections of its own: from any thread, and no commit waits for it."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from monitor.core.attribution import ShareKind
from monitor.core.model import Basis, Intensity, Method, Quality, Signal
from monitor.core.ports import Now
from monitor.core.snapshot import Interval, RunTotals
from monitor.errors import FailureError
from monitor.ledger import runs, store, trouble
from monitor.ledger.buckets import COARSE_S
from monitor.ledger.compaction import FINE_FOR_S
from monitor.ledger.writer import FACTOR

_AS_THEY_ARE = """SELECT CAST(start_s AS REAL), CAST(start_s + span_s AS REAL), device, label,
    energy_j, idle_j, measured_s FROM intervals WHERE run = :run {which} ORDER BY start_s, span_s, device, label"""
_ALL = _AS_THEY_ARE.format(which="")
_COARSE = _AS_THEY_ARE.format(which="AND span_s = :coarse")
_MERGED = """SELECT CAST(start_s / :coarse * :coarse AS REAL), CAST((start_s / :coarse + 1) * :coarse AS REAL), device,
    label, sum(energy_j), sum(idle_j), sum(measured_s) FROM intervals WHERE run = :run AND span_s < :coarse
    GROUP BY start_s / :coarse, device, label ORDER BY 1, device, label"""

# By the start of the bucket, as the rows lie, and added up to slots afterwards: SQLite would sort them for that.
_BY_START = """SELECT start_s, sum(energy_j) FROM intervals
    WHERE run = ? AND start_s >= ? AND start_s < ? {which} GROUP BY start_s"""


class FileHistory:
    """The history in a ledger file, as `ports.History`. Moments of earlier boots are told on this boot's clock."""

    def __init__(self, path: Path, *, now: Now, boot_id: str, shown: runs.Shown = runs.as_it_is) -> None:
        self._path = path
        self._now = now
        self._boot_id = boot_id
        self._shown = shown

    def recent(self, limit: int) -> Sequence[RunTotals]:
        """Runs, newest start first. Raises FailureError when the ledger cannot be read."""
        return self._runs("ORDER BY start_wall_s DESC, key DESC LIMIT ?", limit)

    def find(self, run_id: str) -> RunTotals | None:
        """One run as it was committed last. Raises FailureError."""
        return next(iter(self._runs("WHERE id = ?", run_id)), None)

    def intervals(self, run_id: str) -> Sequence[Interval]:
        """Its energy by bucket of time, oldest first. Raises FailureError.

        Buckets of 10 s, of 5 min where they are older than two days; of 5 min throughout for a run that is longer than
        that, so that a report of months is not made of its last two days.
        """
        with self._reading() as db:
            run = db.execute("SELECT key FROM runs WHERE id = ?", (run_id,)).fetchone()
            if run is None:
                return ()
            wanted = {"run": run[0], "coarse": COARSE_S}
            devices = dict(db.execute("SELECT key, id FROM devices").fetchall())
            labels = {key: _label(*words) for key, *words in db.execute(
                "SELECT key, zone, phase, method, share, recovered FROM labels WHERE run = ?", run
            )}  # fmt: skip
            first, last = db.execute("SELECT min(start_s), max(start_s) FROM intervals WHERE run = ?", run).fetchone()
            is_long = first is not None and last - first > FINE_FOR_S
            found = [
                # As Interval(...), which takes twice as long: a report of months is made of some 300,000.
                tuple.__new__(Interval, (run_id, devices[device], *labels[label], start_s, end_s, *sums))
                for query in ((_COARSE, _MERGED) if is_long else (_ALL,))
                for start_s, end_s, device, label, *sums in db.execute(query, wanted)
            ]
        found.sort(key=attrgetter("start_wall_s"))
        return found

    def energy_by_slot(
        self, run_id: str, start_wall_s: float, end_wall_s: float, slot_s: int
    ) -> Sequence[tuple[str, float, float, float]]:
        """(zone, slot's start in Unix time, joules, PUE then) of a run, in slots that are multiples of `slot_s`.

        Of the rows that begin in [start, end), oldest first. A slot within which the PUE was changed is told twice.
        Raises FailureError.
        """
        found: dict[tuple[float, str, float], float] = {}
        with self._reading() as db:
            run = db.execute("SELECT key FROM runs WHERE id = ?", (run_id,)).fetchone()
            if run is None:
                return ()
            labels: dict[str, list[int]] = {}
            for key, zone in db.execute("SELECT key, zone FROM labels WHERE run = ?", run):
                labels.setdefault(zone, []).append(key)
            for pue_ratio, from_s, until_s in _overheads(db, start_wall_s, end_wall_s):
                for zone, keys in labels.items():
                    which = f"AND label IN ({', '.join(map(str, keys))})" if len(labels) > 1 else ""
                    query = _BY_START.format(which=which)
                    for bucket_s, energy_j in db.execute(query, (*run, from_s, until_s)):
                        slot = (float(bucket_s // slot_s * slot_s), zone, pue_ratio)
                        found[slot] = found.get(slot, 0.0) + energy_j
        return [(zone, slot, energy_j, pue_ratio) for (slot, zone, pue_ratio), energy_j in sorted(found.items())]

    def pue_changes(self, start_wall_s: float, end_wall_s: float) -> Sequence[tuple[float, float]]:
        """(Unix time, PUE from then on) of [start, end): what held at its start, then each change. Raises FailureError.

        A bucket of energy has the PUE of the moment it begins at.
        """
        changes: list[tuple[float, float]] = []
        with self._reading() as db:
            for pue_ratio, from_s, _until_s in _overheads(db, start_wall_s, end_wall_s):
                if not changes or changes[-1][1] != pue_ratio:
                    changes.append((from_s, pue_ratio))
        return changes

    def unsettled(self, since_wall_s: float) -> Sequence[str]:
        """Ids of the alive runs, then of those that ended since then; newest start first. Raises FailureError."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT id FROM runs WHERE end_wall_s IS NULL OR end_wall_s >= ? "
                "ORDER BY end_wall_s IS NOT NULL, start_wall_s DESC, key DESC",
                (since_wall_s,),
            ).fetchall()
        return [run_id for (run_id,) in rows]

    def factors(self, start_wall_s: float, end_wall_s: float) -> Sequence[Intensity]:
        """Every intensity that priced energy of this time: in use then, and valid. Raises FailureError."""
        with self._reading() as db:
            rows = db.execute(
                f"SELECT {FACTOR} FROM factors WHERE used_from_s < :end AND coalesce(used_until_s, 9e999) > :start "  # noqa: S608
                "AND valid_from_s < :end AND valid_until_s > :start ORDER BY valid_from_s, used_from_s",
                {"start": start_wall_s, "end": end_wall_s},
            ).fetchall()
        return list(dict.fromkeys(_intensity(row) for row in rows))

    def _runs(self, clause: str, argument: str | int) -> list[RunTotals]:
        with self._reading() as db:
            rows = db.execute(f"SELECT boot, run, shape, numbers FROM runs {clause}", (argument,)).fetchall()  # noqa: S608
        now = self._now()
        try:
            found = [(boot, runs.totals_of(run, shape, numbers, self._shown)) for boot, run, shape, numbers in rows]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            store.distrust(self._path)
            raise FailureError(
                f"the ledger {self._path}: a run in it cannot be understood; restart trainwatt"
            ) from error
        return [one if boot == self._boot_id else runs.on_this_boot(one, now) for boot, one in found]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(store.connect_to_read(self._path)) as db:
                db.execute("BEGIN")  # one state of the file, however many questions
                yield db
        except sqlite3.Error as error:
            if trouble.is_damage(error):
                store.distrust(self._path)
            raise FailureError(trouble.line(self._path, error)) from error


class NoHistory:
    """The history of a ledger that keeps nothing."""

    def recent(self, limit: int) -> Sequence[RunTotals]:  # noqa: ARG002
        """None."""
        return ()

    def find(self, run_id: str) -> RunTotals | None:  # noqa: ARG002
        """None."""
        return None

    def intervals(self, run_id: str) -> Sequence[Interval]:  # noqa: ARG002
        """None."""
        return ()

    def energy_by_slot(
        self,
        run_id: str,  # noqa: ARG002
        start_wall_s: float,  # noqa: ARG002
        end_wall_s: float,  # noqa: ARG002
        slot_s: int,  # noqa: ARG002
    ) -> Sequence[tuple[str, float, float, float]]:
        """None."""
        return ()

    def pue_changes(self, start_wall_s: float, end_wall_s: float) -> Sequence[tuple[float, float]]:  # noqa: ARG002
        """None."""
        return ()

    def unsettled(self, since_wall_s: float) -> Sequence[str]:  # noqa: ARG002
        """None."""
        return ()

    def factors(self, start_wall_s: float, end_wall_s: float) -> Sequence[Intensity]:  # noqa: ARG002
        """None."""
        return ()


def _overheads(db: sqlite3.Connection, start_s: float, end_s: float) -> list[tuple[float, float, float]]:
    """Each PUE with its part of [start, end): the first that had not ended by a moment.

    Joules of the time between two daemons, told by the counters afterwards, are priced by the later one.
    """
    rows = db.execute("SELECT pue_ratio, used_until_s FROM pue ORDER BY used_from_s, rowid").fetchall()
    parts, from_s = [], start_s
    for pue_ratio, used_until_s in rows or [(1.0, None)]:
        until_s = end_s if used_until_s is None else min(used_until_s, end_s)
        if until_s > from_s:
            parts.append((pue_ratio, from_s, until_s))
            from_s = until_s
    return parts


def _label(
    zone: str, phase: str, method: str, share: str, recovered: int
) -> tuple[str, str, Method, ShareKind | None, bool]:
    return zone, phase, Method(method), ShareKind(share) if share else None, bool(recovered)


def _intensity(row: tuple[Any, ...]) -> Intensity:
    zone, grams, basis, quality, provider, signal, valid_from_s, valid_until_s, detail = row
    return Intensity(
        zone=zone,
        grams_per_kilowatthour=grams,
        basis=Basis(basis),
        quality=Quality(quality),
        provider=provider,
        signal=Signal(signal),
        valid_from_s=valid_from_s,
        valid_until_s=valid_until_s,
        detail=detail,
    )

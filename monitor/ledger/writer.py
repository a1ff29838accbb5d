"""One commit: the rows of intervals that wait, the runs that changed and the checkpoint, in one transaction."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

from monitor.core.model import Device, Instant, Intensity, Run
from monitor.core.snapshot import DeviceTotals, RunTotals, Snapshot
from monitor.ledger import meters, node, runs
from monitor.ledger.buckets import Account, Key, Sums
from monitor.ledger.node import NodeTables
from monitor.ledger.waits import Waits

NOBODY = 0
ADD = """INSERT INTO intervals VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    energy_j = energy_j + excluded.energy_j, idle_j = idle_j + excluded.idle_j,
    measured_s = measured_s + excluded.measured_s"""
_METERS = "INSERT OR REPLACE INTO meters VALUES (?, ?, ?, ?)"
_CHECKPOINT = "INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?, ?, ?)"


FiledUnder = Callable[[Run], str]
"""The word by which the runs of a user are found again."""


@dataclass(frozen=True, slots=True)
class FactorChange:
    """From this moment of use on, other factors turned joules into grams."""

    from_wall_s: float
    pue_ratio: float
    intensities: tuple[Intensity, ...]


@dataclass(slots=True, kw_only=True)
class Batch:
    """What one commit takes."""

    snapshot: Snapshot
    """The newest: everything in it is in the file once the commit is done."""
    rows: dict[Key, Sums]
    departed: dict[str, RunTotals] = field(default_factory=dict)
    """Runs that are no longer in the snapshot, as they were in their last one."""
    factors: list[FactorChange] = field(default_factory=list)
    forgotten: frozenset[str] = frozenset()
    """Runs that a snapshot may still show, but of which nothing is to be kept."""
    stirred: frozenset[str] | None = None
    """Runs of which something may be new since the commit before; None = perhaps all."""


class Writer:
    """Knows what is in the file already, so that only what changed is written."""

    def __init__(
        self, db: sqlite3.Connection, boot_id: str, factors_end_s: float | None, filed_under: FiledUnder
    ) -> None:
        self._db = db
        self._boot_id = boot_id
        self._filed_under = filed_under
        self._factors_end_s = factors_end_s
        """Until when the factors of the daemon before this one were in use."""
        self.forget_what_is_known()

    def forget_what_is_known(self) -> None:
        """After a rollback, or a change of the file by others of this package: look everything up again."""
        self._devices: dict[str, tuple[int, Device]] = {}
        self._waits: dict[str, Waits] = {}
        self._node = NodeTables(self._db)
        self._runs: dict[str, tuple[int, RunTotals, runs.Shape]] = {}
        self._labels: dict[Account, tuple[int, int, int]] = {}
        """Keys of the run, the device and the label."""

    def write(self, batch: Batch) -> None:
        """Write it all or nothing. Raises sqlite3.Error, after which nothing of it is in the file."""
        db = self._db
        transact(db, lambda: self._write(batch), undo=self.forget_what_is_known)
        if batch.factors:
            self._factors_end_s = None
        for run_id in batch.departed:
            self._runs.pop(run_id, None)
        if batch.departed:
            self._labels.clear()

    def _write(self, batch: Batch) -> None:
        db, snapshot = self._db, batch.snapshot
        at = snapshot.at or Instant(0.0, 0.0)
        states = [self._state(entry, batch.forgotten) for entry in snapshot.devices.values()]
        self._keep_runs(batch)
        db.executemany(ADD, [self._row(key, sums, batch.forgotten) for key, sums in batch.rows.items()])
        for number, change in enumerate(batch.factors):
            self._change_factors(change, None if number else self._factors_end_s)
        db.executemany(_METERS, states)
        self._node.write(snapshot, batch.forgotten)
        db.execute(_CHECKPOINT, (self._boot_id, at.mono_s, at.wall_s, node.sums_text(snapshot)))

    def _state(self, entry: DeviceTotals, forgotten: frozenset[str]) -> tuple[int, bytes, bytes | None, str | None]:
        waits = self._waits.get(entry.device.id)
        if waits is None:
            waits = self._waits[entry.device.id] = Waits()
        return self._device(entry.device), meters.numbers_of(entry), *waits.columns(entry, forgotten)

    def _device(self, device: Device) -> int:
        """Key of a device, whose description is brought up to date."""
        known = self._devices.get(device.id)
        if known is not None and (known[1] is device or known[1] == device):
            return known[0]
        key: int = self._db.execute(
            "INSERT INTO devices (id, about) VALUES (?, ?) ON CONFLICT DO UPDATE SET about = excluded.about "
            "RETURNING key",
            (device.id, meters.about(device)),
        ).fetchone()[0]
        self._devices[device.id] = (key, device)
        return key

    def _keep_runs(self, batch: Batch) -> None:
        numbers: dict[int, bytes] = {}
        shown = batch.snapshot.runs
        if batch.stirred is not None and self._runs:
            shown = {run_id: shown[run_id] for run_id in batch.stirred if run_id in shown}
        for run_id, totals in (*batch.departed.items(), *shown.items()):
            known = self._runs.get(run_id)
            is_same = known is not None and known[1].run is totals.run
            if known is not None and is_same and known[1].energy_j is totals.energy_j:
                continue  # nothing of it is new but watts, which are of the moment, and duration, which its start tells
            if run_id in batch.forgotten:
                continue
            shape = runs.shape_of(totals)
            if known is not None and is_same and known[2] == shape:
                numbers[known[0]] = runs.numbers_of(totals)
                self._runs[run_id] = (known[0], totals, shape)
            else:
                self._keep_run(totals, shape)
                numbers.pop(self._runs[run_id][0], None)  # one that has departed, and come back since
        self._db.executemany(
            "UPDATE runs SET numbers = ? WHERE key = ?", [(of_run, key) for key, of_run in numbers.items()]
        )

    def _keep_run(self, totals: RunTotals, shape: runs.Shape) -> None:
        run = totals.run
        key: int = self._db.execute(
            "INSERT INTO runs (id, user, start_wall_s, end_wall_s, boot, run, shape, numbers) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET user = excluded.user, start_wall_s = excluded.start_wall_s, "
            "end_wall_s = excluded.end_wall_s, boot = excluded.boot, run = excluded.run, shape = excluded.shape, "
            "numbers = excluded.numbers "
            "RETURNING key",
            (
                run.id,
                self._filed_under(run),
                run.start.wall_s,
                run.end.wall_s if run.end else None,
                self._boot_id,
                runs.run_text(run),
                runs.encode(shape),
                runs.numbers_of(totals),
            ),
        ).fetchone()[0]
        self._runs[run.id] = (key, totals, shape)

    def _row(self, key: Key, sums: Sums, forgotten: frozenset[str]) -> tuple[float, ...]:
        account, start_s, span_s = key
        known = self._labels.get(account)
        run, device, label = known if known is not None else self._label(account, forgotten)
        return run, start_s, span_s, device, label, *sums

    def _label(self, account: Account, forgotten: frozenset[str]) -> tuple[int, int, int]:
        """Keys of the run, the device and the label; for a run that was forgotten, those of nobody."""
        run_id, device_id, zone, phase, method, share, recovered = account
        run = NOBODY if not run_id or run_id in forgotten else self._run_key(run_id)
        if run == NOBODY:
            phase, share = "", None
        label = label_key(self._db, run, zone, phase, method, share or "", recovered)
        keys = run, self._devices[device_id][0], label
        self._labels[account] = keys
        return keys

    def _run_key(self, run_id: str) -> int:
        known = self._runs.get(run_id)
        if known is not None:
            return known[0]
        row = self._db.execute("SELECT key FROM runs WHERE id = ?", (run_id,)).fetchone()
        return int(row[0]) if row is not None else NOBODY

    def _change_factors(self, change: FactorChange, end_s: float | None) -> None:
        db = self._db
        from_s = change.from_wall_s
        ended_s = from_s if end_s is None else min(from_s, end_s)
        now_used = {factor_row(intensity) for intensity in change.intensities}
        used = db.execute(f"SELECT rowid, {FACTOR} FROM factors WHERE used_until_s IS NULL").fetchall()  # noqa: S608
        for key, *row in used:
            if tuple(row) in now_used:
                now_used.remove(tuple(row))
            else:
                db.execute("UPDATE factors SET used_until_s = ? WHERE rowid = ?", (ended_s, key))
        db.executemany(
            "INSERT INTO factors VALUES (?, NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [(from_s, *row) for row in now_used]
        )
        known = db.execute("SELECT pue_ratio FROM pue WHERE used_until_s IS NULL").fetchone()
        if known is None or known[0] != change.pue_ratio:
            db.execute("UPDATE pue SET used_until_s = ? WHERE used_until_s IS NULL", (ended_s,))
            db.execute("INSERT INTO pue VALUES (?, NULL, ?)", (from_s, change.pue_ratio))


FACTOR = "zone, grams_per_kilowatthour, basis, quality, provider, signal, valid_from_s, valid_until_s, detail"


def factor_row(intensity: Intensity) -> tuple[str | float, ...]:
    """An intensity in the order of the columns FACTOR. SQLite keeps infinities as they are."""
    return (
        intensity.zone,
        intensity.grams_per_kilowatthour,
        intensity.basis.value,
        intensity.quality.value,
        intensity.provider,
        intensity.signal.value,
        intensity.valid_from_s,
        intensity.valid_until_s,
        intensity.detail,
    )


def label_key(db: sqlite3.Connection, run: int, *words: object) -> int:
    """Key of a label of a run: zone, phase, method, share, recovered. Made if it is new."""
    found = db.execute(
        "SELECT key FROM labels WHERE run = ? AND zone = ? AND phase = ? AND method = ? AND share = ? "
        "AND recovered = ?",
        (run, *words),
    ).fetchone()
    if found is not None:
        return int(found[0])
    made = db.execute(
        "INSERT INTO labels (run, zone, phase, method, share, recovered) VALUES (?, ?, ?, ?, ?, ?)", (run, *words)
    )
    return int(made.lastrowid or 0)


def transact(db: sqlite3.Connection, work: Callable[[], None], *, undo: Callable[[], None] = lambda: None) -> None:
    """Do the work in one transaction. Whatever it raises, or the commit, comes after a rollback and `undo`."""
    try:
        db.execute("BEGIN IMMEDIATE")
        work()
        db.execute("COMMIT")
    except BaseException:
        undo()
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise

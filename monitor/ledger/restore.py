"""What a daemon takes over from the one before it: the checkpoint, read by the rules of boots and counters."""

import sqlite3
from dataclasses import dataclass, replace
from types import MappingProxyType

from monitor.core.model import Instant
from monitor.core.snapshot import DeviceTotals, Interval, Policy, RunTotals, Snapshot
from monitor.ledger import meters, node, runs, waits

SHOWN_AFTER_END_S = 900.0
MOST_ENDED = 100
"""Runs that ended so lately are restored, the newest so many of them; the others are history."""


@dataclass(frozen=True, slots=True)
class Restored:
    """The count to go on from."""

    first: Snapshot
    runs: tuple[RunTotals, ...]
    same_boot: bool = False
    restored_at: Instant | None = None
    """The moment of the checkpoint on this boot's clock; None = there was none."""
    settled: tuple[Interval, ...] = ()
    """What became nobody's with the boot; it is in the count, and not in the file's intervals yet."""


def restore(
    db: sqlite3.Connection,
    ledger_id: str,
    *,
    now: Instant,
    policy: Policy,
    boot_id: str,
    shown: runs.Shown = runs.as_it_is,
) -> Restored:
    """Read the checkpoint. Raises sqlite3.Error, and ValueError for a row that no version of ours can have written."""
    try:
        return _restore(db, Snapshot(ledger_id=ledger_id, policy=policy), now, boot_id, shown)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"a row of the checkpoint cannot be understood: {error!r}") from error


def _restore(db: sqlite3.Connection, fresh: Snapshot, now: Instant, boot_id: str, shown: runs.Shown) -> Restored:
    row = db.execute("SELECT boot, mono_s, wall_s, node FROM checkpoint").fetchone()
    if row is None:
        return Restored(fresh, ())
    boot, mono_s, wall_s, sums = row
    same_boot = boot == boot_id
    known = _devices(db)
    settled = [] if same_boot else [one for entry in known for one in waits.settled(entry, fresh.policy.zone or "")]
    entries = map(meters.resumable, known) if same_boot else (_on_this_boot(entry, now) for entry in known)
    devices = {entry.device.id: entry for entry in entries}
    totals = tuple(node.in_currency(_runs(db, now, boot_id, shown), sums, fresh.policy.currency))
    first = replace(
        fresh,
        resumed_at=now,
        devices=MappingProxyType(dict(sorted(devices.items()))),
        runs=MappingProxyType({one.run.id: one for one in totals}),
    )
    first = node.with_projects(node.with_sums(first, sums), db)
    if same_boot:
        first = node.with_usages(first, db)
    at = Instant(mono_s, wall_s)
    return Restored(first, totals, same_boot, at if same_boot else runs.rebased(at, now), tuple(settled))


def _devices(db: sqlite3.Connection) -> list[DeviceTotals]:
    rows = db.execute("SELECT about, numbers, waiting, looks FROM meters JOIN devices ON key = device")
    return [meters.totals_of(meters.device_of(about), *told) for about, *told in rows]


def _on_this_boot(entry: DeviceTotals, now: Instant) -> DeviceTotals:
    last_at = runs.rebased(entry.last_at, now)
    # The machine was off before it booted: that time is nobody's to measure.
    last_at = Instant(min(max(0.0, last_at.mono_s), now.mono_s), last_at.wall_s)
    return meters.on_another_boot(entry)._replace(last_at=last_at)


def _runs(db: sqlite3.Connection, now: Instant, boot_id: str, shown: runs.Shown) -> list[RunTotals]:
    live = db.execute("SELECT boot, run, shape, numbers FROM runs WHERE end_wall_s IS NULL").fetchall()
    ended = db.execute(
        "SELECT boot, run, shape, numbers FROM runs WHERE end_wall_s >= ? ORDER BY end_wall_s DESC LIMIT ?",
        (now.wall_s - SHOWN_AFTER_END_S, MOST_ENDED),
    ).fetchall()
    found = []
    for boot, run, shape, numbers in live + ended[::-1]:
        one = runs.totals_of(run, shape, numbers, shown)._replace(power_w=None)
        found.append(one if boot == boot_id else runs.on_this_boot(one, now))
    return sorted(found, key=lambda one: (one.run.start.wall_s, one.run.id))

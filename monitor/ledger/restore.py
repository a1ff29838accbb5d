"""What a daemon takes over from the one before it: the checkpoint, read by the rules of boots and counters."""

import json
import sqlite3
from dataclasses import dataclass, replace
from types import MappingProxyType

from monitor.core.model import Component, Instant, Method
from monitor.core.snapshot import DeviceTotals, Policy, RunTotals, Snapshot
from monitor.ledger import meters, runs

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


def restore(db: sqlite3.Connection, ledger_id: str, *, now: Instant, policy: Policy, boot_id: str) -> Restored:
    """Read the checkpoint. Raises sqlite3.Error, and ValueError for a row that no version of ours can have written."""
    try:
        return _restore(db, ledger_id, now, policy, boot_id)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"a row of the checkpoint cannot be understood: {error!r}") from error


def _restore(db: sqlite3.Connection, ledger_id: str, now: Instant, policy: Policy, boot_id: str) -> Restored:
    fresh = Snapshot(ledger_id=ledger_id, policy=policy)
    row = db.execute("SELECT boot, mono_s, wall_s, node FROM checkpoint").fetchone()
    if row is None:
        return Restored(fresh, ())
    boot, mono_s, wall_s, node = row
    same_boot = boot == boot_id
    told = json.loads(node)
    devices = {entry.device.id: entry for entry in _devices(db, now, same_boot=same_boot)}
    totals = tuple(_runs(db, now, boot_id))
    first = replace(
        fresh,
        resumed_at=now,
        devices=MappingProxyType(dict(sorted(devices.items()))),
        runs=MappingProxyType({one.run.id: one for one in totals}),
        node_energy_j=MappingProxyType({(Component(c), Method(m)): joules for c, m, joules in told["energy_j"]}),
        node_emissions_g=runs.emissions_of(told["emissions_g"]),
        node_unpriced_j=told["unpriced_j"],
    )
    at = Instant(mono_s, wall_s)
    return Restored(first, totals, same_boot, at if same_boot else runs.rebased(at, now))


def node_text(snapshot: Snapshot) -> str:
    """The accumulators of the node, as the checkpoint keeps them."""
    return runs.encode(
        {
            "energy_j": [(*key, joules) for key, joules in snapshot.node_energy_j.items()],
            "emissions_g": [(*key, grams) for key, grams in snapshot.node_emissions_g.items()],
            "unpriced_j": snapshot.node_unpriced_j,
        }
    )


def _devices(db: sqlite3.Connection, now: Instant, *, same_boot: bool) -> list[DeviceTotals]:
    found = []
    for about, _key, *row in db.execute("SELECT about, meters.* FROM meters JOIN devices ON key = device"):
        entry = meters.totals_of(meters.device_of(about), tuple(row))
        if same_boot:
            found.append(meters.resumable(entry))
            continue
        last_at = runs.rebased(entry.last_at, now)
        # The machine was off before it booted: that time is nobody's to measure.
        on_this_boot = Instant(min(max(0.0, last_at.mono_s), now.mono_s), last_at.wall_s)
        found.append(replace(meters.without_baseline(entry), last_at=on_this_boot))
    return found


def _runs(db: sqlite3.Connection, now: Instant, boot_id: str) -> list[RunTotals]:
    live = db.execute("SELECT boot, run, totals FROM runs WHERE end_wall_s IS NULL").fetchall()
    ended = db.execute(
        "SELECT boot, run, totals FROM runs WHERE end_wall_s >= ? ORDER BY end_wall_s DESC LIMIT ?",
        (now.wall_s - SHOWN_AFTER_END_S, MOST_ENDED),
    ).fetchall()
    found = []
    for boot, run, totals in live + ended[::-1]:
        one = replace(runs.totals_of(run, totals), power_w=None)
        found.append(one if boot == boot_id else runs.on_this_boot(one, now))
    return sorted(found, key=lambda one: (one.run.start.wall_s, one.run.id))

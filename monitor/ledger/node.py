"""What is kept of the node as a whole: its sums in the checkpoint, its projects and the last usages in tables."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from monitor.core.model import Component, Instant, Method, RunUse, Usage
from monitor.core.snapshot import NodeEnergyKey, ProjectTotals, RunTotals, Snapshot
from monitor.ledger.runs import emissions_of, encode

_PROJECT = "INSERT OR REPLACE INTO projects VALUES (?, ?)"
_USAGE = "INSERT OR REPLACE INTO usage VALUES (1, ?, ?)"


def sums_text(snapshot: Snapshot) -> str:
    """The accumulators of the node, as the checkpoint keeps them."""
    return encode(
        {
            "energy_j": _rows(snapshot.node_energy_j),
            "emissions_g": _rows(snapshot.node_emissions_g),
            "unpriced_j": snapshot.node_unpriced_j,
            "currency": snapshot.policy.currency,
        }
    )


def with_sums(snapshot: Snapshot, text: str) -> Snapshot:
    """The snapshot with what `sums_text` told."""
    told = json.loads(text)
    return replace(
        snapshot,
        node_energy_j=_energy_of(told["energy_j"]),
        node_emissions_g=emissions_of(told["emissions_g"]),
        node_unpriced_j=told["unpriced_j"],
    )


def in_currency(totals: Sequence[RunTotals], text: str, currency: str) -> list[RunTotals]:
    """The runs of a checkpoint, in the currency that is in use now: an amount of another one begins at 0 again.

    A checkpoint of an older release does not tell its currency; its amounts are kept.
    """
    if json.loads(text).get("currency", currency) == currency:
        return list(totals)
    return [one._replace(extras=one.extras._replace(cost=0.0)) for one in totals]


class NodeTables:
    """Writes the projects whose totals changed, and the usages when there is a new one."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._projects: dict[str, ProjectTotals] = {}
        self._usages: tuple[Usage, ...] | None = None
        self._mark = ""

    def write(self, snapshot: Snapshot, forgotten: frozenset[str]) -> None:
        """Bring the tables up to date, but for the words of runs that were forgotten. Raises sqlite3.Error."""
        known = self._projects
        changed = [(name, totals) for name, totals in snapshot.projects.items() if known.get(name) is not totals]
        if changed:
            self._db.executemany(_PROJECT, [(name, _project_text(totals)) for name, totals in changed])
            known.update(changed)
        if snapshot.usages != self._usages or snapshot.usage_mark != self._mark:
            spans = encode([_span(usage, forgotten) for usage in snapshot.usages])
            self._db.execute(_USAGE, (snapshot.usage_mark, spans))
            self._usages, self._mark = snapshot.usages, snapshot.usage_mark


def with_projects(snapshot: Snapshot, db: sqlite3.Connection) -> Snapshot:
    """The snapshot with every project. Raises sqlite3.Error."""
    rows = db.execute("SELECT name, totals FROM projects").fetchall()
    return replace(snapshot, projects=MappingProxyType({name: _project_of(text) for name, text in rows}))


def with_usages(snapshot: Snapshot, db: sqlite3.Connection) -> Snapshot:
    """The snapshot with the last usages, but for whose the processes were. Raises sqlite3.Error."""
    row = db.execute("SELECT mark, spans FROM usage").fetchone()
    if row is None:
        return snapshot
    return replace(snapshot, usage_mark=row[0], usages=tuple(_usage_of(*span) for span in json.loads(row[1])))


def _project_text(totals: ProjectTotals) -> str:
    return encode({"energy_j": _rows(totals.energy_j), "emissions_g": _rows(totals.emissions_g)})


def _project_of(text: str) -> ProjectTotals:
    told = json.loads(text)
    return ProjectTotals(energy_j=_energy_of(told["energy_j"]), emissions_g=emissions_of(told["emissions_g"]))


def _span(usage: Usage, forgotten: frozenset[str]) -> tuple[Any, ...]:
    return (
        (usage.start.mono_s, usage.start.wall_s),
        (usage.end.mono_s, usage.end.wall_s),
        usage.cpu_s,
        usage.cpu_capacity_s,
        usage.memory_bytes,
        [run for run in usage.runs if run.run_id not in forgotten],
        usage.mark,
    )


def _usage_of(  # noqa: PLR0917  (in the order of `_span`)
    start: list[float],
    end: list[float],
    cpu_s: float,
    cpu_capacity_s: float,
    memory_bytes: int,
    runs: list[list[Any]],
    mark: str,
) -> Usage:
    return Usage(
        start=Instant(*start),
        end=Instant(*end),
        cpu_s=cpu_s,
        cpu_capacity_s=cpu_capacity_s,
        memory_bytes=memory_bytes,
        runs=tuple(RunUse(*run) for run in runs),
        mark=mark,
    )


def _rows(totals: Mapping[Any, float]) -> list[tuple[Any, ...]]:
    return [(*key, amount) for key, amount in totals.items()]


def _energy_of(rows: list[list[Any]]) -> Mapping[NodeEnergyKey, float]:
    return MappingProxyType({(Component(c), Method(m)): joules for c, m, joules in rows})

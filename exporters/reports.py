"""Reports of the runs of this node: from the published snapshot, and from the ledger for what is no longer in it."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from exporters.quantities import plain
from exporters.report_document import report_document, run_summary
from exporters.report_pricing import as_known, course_of, in_use, settled
from exporters.report_sci import score
from monitor.core.model import Intensity, Quality
from monitor.core.ports import History, IntensityStore, SnapshotView
from monitor.core.settlement import REACH_S
from monitor.core.snapshot import RunTotals, Snapshot
from monitor.errors import FailureError

SHOWN_CHARACTERS = 60
SEARCHED = 1000
"""An unknown id is compared with so many of the newest."""


class _Priced(NamedTuple):
    """What a run was priced with."""

    factors: Sequence[Intensity]
    """In use, live or settled."""
    known: Sequence[Intensity] = ()
    """Every version of every value of its time."""
    pue_changes: Sequence[tuple[float, float]] = ()
    is_versioned: bool = False
    """Whether anybody keeps versions."""


class Reports:
    """Answers from any thread; with a history it reads a disk, so never from the loop or an event loop."""

    def __init__(
        self,
        view: SnapshotView,
        *,
        history: History | None = None,
        node: str,
        store: IntensityStore | None = None,
        providers: Mapping[str, Sequence[str]] = MappingProxyType({}),
        settles_after_s: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """`store` knows every version of every factor; `providers` of each zone stand in the order of preference.

        `settles_after_s` says of a provider how long after a slot its value may change.
        """
        self._view = view
        self._history = history
        self._node = node
        self._store = store
        self._providers = providers
        self._settles_after_s = settles_after_s

    def report(self, run_id: str) -> dict[str, Any] | None:
        """The report document of a run; None = nobody knows it. Raises FailureError when the ledger cannot be read.

        A run that is still in the snapshot has its report all the same, without intervals.
        """
        snapshot = self._view.snapshot
        entry = snapshot.runs.get(run_id)
        if entry is not None:
            return self._document(entry, snapshot)
        entry = self._history.find(run_id) if self._history is not None else None
        return None if entry is None else self._document(entry, snapshot)

    def require(self, run_id: str) -> dict[str, Any]:
        """The report document. Raises FailureError for an unknown run, with ids that are near."""
        document = self.report(run_id)
        if document is None:
            raise FailureError(self.unknown(run_id))
        return document

    def unknown(self, run_id: str) -> str:
        """One line for an id that is no run's."""
        ids = [summary["run"]["id"] for summary in self.recent(SEARCHED)["runs"]]
        near = difflib.get_close_matches(run_id, ids, n=3)
        hint = (
            f"did you mean {' or '.join(plain(one, SHOWN_CHARACTERS) for one in near)}?"
            if near
            else "see trainwatt runs"
        )
        return f"no run {plain(run_id, SHOWN_CHARACTERS)!r} is known here; {hint}"

    def recent(self, limit: int) -> dict[str, Any]:
        """`runs`: summaries, newest start first; `problem`: why the ended ones may be missing, or null."""
        snapshot = self._view.snapshot
        entries: dict[str, RunTotals] = {}
        problem = None
        if self._history is not None:
            try:
                entries = {entry.run.id: entry for entry in self._history.recent(limit)}
            except FailureError as error:
                problem = str(error)
        newest = sorted({**entries, **snapshot.runs}.values(), key=_newest_first)
        return {"runs": [run_summary(entry, snapshot) for entry in newest[:limit]], "problem": problem}

    def _document(self, entry: RunTotals, snapshot: Snapshot) -> dict[str, Any]:
        run = entry.run
        newest = snapshot.at or run.end or run.start
        intervals = None
        zones = {snapshot.policy.zone or ""}
        priced = _Priced(_now(snapshot, zones))
        missing: tuple[str, ...] = ()
        if self._history is not None:
            try:
                # What nobody keeps is not empty: joules without a row have no course that is known.
                intervals = self._history.intervals(run.id) or ([] if not any(entry.energy_j.values()) else None)
                zones = {interval.zone for interval in intervals or ()} or zones
                priced = self._priced(self._history, entry, snapshot, zones)
            except FailureError as error:
                missing = (f"its course over time: {error}",)
        document = report_document(
            entry,
            snapshot,
            intervals=intervals,
            factors=priced.factors,
            others=priced.known,
            pue_changes=priced.pue_changes,
            providers={zone: self._providers[zone] for zone in sorted(zones) if zone in self._providers},
            node=self._node,
            written_at_wall_s=newest.wall_s,
            also_missing=missing,
        )
        if document["settled"] is None and document["intervals"] is not None and priced.is_versioned and run.end:
            document |= self._settled(document, priced, newest.wall_s)
        return document

    def _settled(self, document: Mapping[str, Any], priced: _Priced, at_s: float) -> dict[str, Any]:
        """Of a run that ended too long ago for the settler, or only now: it is priced again here."""
        versions = list(dict.fromkeys([*priced.factors, *priced.known]))
        words, _used = settled(document, versions, at_s=at_s, as_of_s=None, settles_after_s=self._settles_after_s)
        words["repriced"] = False
        return {"settled": words, "sci": score({**document, "settled": words})}

    def _priced(self, history: History, entry: RunTotals, snapshot: Snapshot, zones: Iterable[str]) -> _Priced:
        """Raises FailureError."""
        start_s = entry.run.start.wall_s
        end_s = (entry.run.end or snapshot.at or entry.run.start).wall_s
        versions = [
            slot
            for zone in sorted(zones)
            if zone and self._store is not None
            for slot in self._store.versions(zone, start_s - REACH_S, end_s)
        ]
        # A live factor is a version that is known, unless the store is younger than the run.
        by_value = {_value(slot): slot for slot in versions}
        live = [by_value.get(_value(slot), slot) for slot in history.factors(start_s, end_s)]
        static = [slot for slot in _now(snapshot, zones) if slot.quality is Quality.STATIC]
        again: set[Intensity] = set()
        known = as_known([*versions, *static], None)
        for zone in zones if versions else ():
            course = course_of(known, zone, self._providers.get(zone, ()), start_s, end_s)
            again |= in_use(known, (one.intensity for one in course.stretches if one.intensity is not None))
        factors = [*live, *(slot for slot in [*versions, *static] if slot in again)]
        changes = history.pue_changes(start_s, end_s)
        return _Priced(factors or _now(snapshot, zones), [*versions, *static], changes, bool(versions))


def _now(snapshot: Snapshot, zones: Iterable[str]) -> list[Intensity]:
    return [slot for slot in snapshot.intensities if slot.zone in set(zones)]


def _value(slot: Intensity) -> tuple[Any, ...]:
    """What of a factor priced joules: the ledger of live factors keeps no more."""
    return (
        *(slot.zone, slot.signal, slot.provider, slot.basis, slot.quality, slot.grams_per_kilowatthour),
        *(slot.valid_from_s, slot.valid_until_s),
    )


def _newest_first(entry: RunTotals) -> tuple[float, str]:
    return -entry.run.start.wall_s, entry.run.id

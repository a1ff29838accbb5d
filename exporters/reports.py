"""Reports of the runs of this node: from the published snapshot, and from the ledger for what is no longer in it."""

import difflib
from typing import Any

from exporters.quantities import plain
from exporters.report_document import report_document, run_summary
from monitor.core.ports import History, SnapshotView
from monitor.core.snapshot import RunTotals, Snapshot
from monitor.errors import FailureError

SHOWN_CHARACTERS = 60
SEARCHED = 1000
"""An unknown id is compared with so many of the newest."""


class Reports:
    """Answers from any thread; with a history it reads a disk, so never from the loop or an event loop."""

    def __init__(self, view: SnapshotView, *, history: History | None = None, node: str) -> None:
        self._view = view
        self._history = history
        self._node = node

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
        factors = tuple(slot for slot in snapshot.intensities if slot.zone == snapshot.policy.zone)
        missing: tuple[str, ...] = ()
        if self._history is not None:
            try:
                # What nobody keeps is not empty: joules without a row have no course that is known.
                intervals = self._history.intervals(run.id) or ([] if not any(entry.energy_j.values()) else None)
                priced = self._history.factors(run.start.wall_s, (run.end or newest).wall_s)
                factors = tuple(priced) or factors
            except FailureError as error:
                missing = (f"its course over time: {error}",)
        return report_document(
            entry,
            snapshot,
            intervals=intervals,
            factors=factors,
            node=self._node,
            written_at_wall_s=newest.wall_s,
            also_missing=missing,
        )


def _newest_first(entry: RunTotals) -> tuple[float, str]:
    return -entry.run.start.wall_s, entry.run.id

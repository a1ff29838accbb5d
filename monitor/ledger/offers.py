"""Between the loop and the writer's thread: what was offered and is not committed yet."""

from collections.abc import Iterable
from threading import Lock

from monitor.core.model import Intensity
from monitor.core.snapshot import Interval, RunTotals, Snapshot
from monitor.ledger.buckets import Pending
from monitor.ledger.writer import Batch, FactorChange


class Offers:
    """The newest snapshot, and of all since the last commit what it does not have. Never holds its lock over I/O."""

    def __init__(self, settled: Iterable[Interval] = ()) -> None:
        """`settled` goes into the file with the first snapshot."""
        self.newest: Snapshot | None = None
        self._lock = Lock()
        self._has_more = False
        self._pending = Pending()
        self._pending.book(settled)
        self._departed: dict[str, RunTotals] = {}
        self._stirred: frozenset[str] | None = None
        """Runs of which something may be new since the last commit; None = perhaps all."""
        self._factors: list[FactorChange] = []
        self._known_factors: tuple[Intensity, ...] | None = None
        self._forgotten: frozenset[str] = frozenset()

    def add(self, snapshot: Snapshot) -> None:
        """Take a snapshot and what its turn booked."""
        with self._lock:
            before, self.newest, self._has_more = self.newest, snapshot, True
            self._pending.book(snapshot.booked)
            self._stirred = _both(self._stirred, snapshot.stirred)
            is_same_book = before is not None and before.book is not None and before.book is snapshot.book
            if before is not None and not is_same_book and (gone := before.runs.keys() - snapshot.runs.keys()):
                self._departed.update((run_id, before.runs[run_id]) for run_id in gone)
            if snapshot.intensities is not self._known_factors:
                self._note_factors(snapshot)

    def _note_factors(self, snapshot: Snapshot) -> None:
        changed = snapshot.intensities != self._known_factors
        self._known_factors = snapshot.intensities
        if changed:
            moments = [interval.start_wall_s for interval in snapshot.booked]
            from_s = min(moments, default=snapshot.at.wall_s if snapshot.at is not None else 0.0)
            self._factors.append(FactorChange(from_s, snapshot.policy.pue_ratio, snapshot.intensities))

    def take(self) -> Batch | None:
        """What a commit is to write; None when all that was offered is committed."""
        with self._lock:
            snapshot = self.newest
            if snapshot is None or not self._has_more:
                return None
            self._has_more = False
            if self._forgotten:
                # Until the snapshots no longer show it, or it has come back to life.
                ended = {run_id for run_id, totals in snapshot.runs.items() if not totals.active}
                self._forgotten &= ended
            batch = Batch(
                snapshot=snapshot,
                rows=self._pending.take(),
                departed=self._departed,
                factors=self._factors,
                forgotten=self._forgotten,
                stirred=self._stirred,
            )
            self._departed, self._factors, self._stirred = {}, [], frozenset()
            return batch

    def give_back(self, batch: Batch) -> None:
        """Take back what could not be written: it goes with the next commit."""
        with self._lock:
            self._has_more = True
            self._pending.give_back(batch.rows)
            self._departed = {**batch.departed, **self._departed}
            self._factors = [*batch.factors, *self._factors]
            self._stirred = _both(batch.stirred, self._stirred)

    def forget(self, run_ids: frozenset[str]) -> None:
        """Have nothing of these runs written again while snapshots still show them."""
        with self._lock:
            self._forgotten |= run_ids
            for run_id in run_ids:
                self._departed.pop(run_id, None)

    def is_alive(self, run_id: str) -> bool | None:
        """Whether the newest snapshot shows the run as alive; None when there is none."""
        snapshot = self.newest
        if snapshot is None:
            return None
        totals = snapshot.runs.get(run_id)
        return totals is not None and totals.active


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    return None if one is None or other is None else one | other

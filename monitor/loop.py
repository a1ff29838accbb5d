"""The one loop: wake at a fixed deadline, freeze what was observed, fold it, publish. It waits for nobody.

    sources -> Sample -> fold -> head -> keeper (commits once a second) -> published snapshot -> exporters

What a scrape has seen is committed, so that a restart still knows it. Without a keeper, or while its disk is slow, the
head is published as it is.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread
from types import MappingProxyType

from monitor import clock
from monitor.core import fold
from monitor.core.model import Instant, LedgerHealth, Processes, ReadFailure, Reading, Sample, SourceHealth, Usage
from monitor.core.ports import Grid, Keeper, Now, Runs
from monitor.core.snapshot import RunTotals, Snapshot
from monitor.sources.supervisor import Supervisor

LOG = logging.getLogger("trainwatt")

LAG_S = 0.1
"""The loop wakes so long after the sources' deadline (at most a fifth of the interval), to find them done."""
FIRST_TRY_S = 1.0
"""The first turn waits so long for a source; a driver may take longer to initialise."""
EDGES_APART_S = 0.1
"""Starts and ends of runs trigger at most ten readings a second."""
EDGE_WITHIN_S = 0.5
"""A source that has not read by then misses the edge: its interval is cut by time."""
LONGEST_LAG_S = 3.0
"""A commit that takes longer suspends the promise that what was shown is kept; `ledger_lag_seconds` says so."""


@dataclass(slots=True, eq=False)
class _Edge:
    """One reading out of turn, and who waits for it."""

    waiting: list[Future[Snapshot]]
    reads: list[Future[None]]
    began_s: float

    def is_over(self, at_s: float) -> bool:
        return at_s >= self.began_s + EDGE_WITHIN_S or all(read.done() for read in self.reads)


class Loop:
    """Turns what the sources' threads have read into the published snapshot."""

    def __init__(
        self,
        first: Snapshot,
        *,
        supervisors: Sequence[Supervisor],
        runs: Runs,
        grid: Grid,
        now: Now,
        interval_s: float,
        keeper: Keeper | None = None,
    ) -> None:
        self.snapshot = first
        """Published by one assignment: any number of readers, no lock."""
        self.head = first
        """The newest snapshot, which may not be committed yet."""
        self.supervisors = supervisors
        self._runs = runs
        self._grid = grid
        self._now = now
        self._interval_s = interval_s
        self._keeper = keeper
        self._wake = clock.Bell()
        self._orders = Lock()
        """Guards the four below: what other threads asked for."""
        self._asked: list[Future[Snapshot]] = []
        self._seeds: list[RunTotals] = []
        self._unpublished: list[tuple[Snapshot, list[Future[Snapshot]]]] = []
        self._kept_s: float | None = None
        """Moment of the newest committed turn; before there is one, of the first turn."""
        self._edge: _Edge | None = None
        self._edge_began_s = 0.0

    # -- for other threads -------------------------------------------------------------------------------------------

    def start(self, stop: Event) -> Thread:
        """Run in a thread of its own until `stop` is set, which `wake` makes it see at once."""
        thread = Thread(target=self.run, args=(stop,), name="loop", daemon=True)
        thread.start()
        return thread

    def wake(self) -> None:
        """Look at once whether `stop` has been set."""
        self._wake.ring()

    def edge(self) -> Future[Snapshot]:
        """Read every source at once, for the start or end of a run: the result is the snapshot after it, published."""
        done: Future[Snapshot] = Future()
        with self._orders:
            self._asked.append(done)
        self._wake.ring()
        return done

    def seed(self, totals: RunTotals) -> None:
        """Give a run that comes back what it had before, unless its count is still here."""
        with self._orders:
            self._seeds.append(totals)

    def publish(self, snapshot: Snapshot) -> None:
        """Show a snapshot that has been committed."""
        with self._orders:
            self._kept_s = snapshot.at.mono_s if snapshot.at is not None else self._kept_s
        self._show(snapshot)

    def _show(self, snapshot: Snapshot) -> None:
        """Show it, unless a newer one is shown, and answer who waits for it."""
        with self._orders:
            if _is_in(self.snapshot, snapshot):
                self.snapshot = snapshot
            if not self._unpublished:
                return
            answered = [waiting for after, waiting in self._unpublished if _is_in(after, snapshot)]
            self._unpublished = [entry for entry in self._unpublished if not _is_in(entry[0], snapshot)]
        for done in (one for waiting in answered for one in waiting):
            if done.set_running_or_notify_cancel():
                done.set_result(snapshot)

    # -- the loop's own thread ---------------------------------------------------------------------------------------

    def turn(self, late_ticks: int = 0, waiting: Sequence[Future[Snapshot]] = ()) -> Snapshot:
        """Take one sample, fold it, hand it on. Who waits gets the snapshot once it is published."""
        sample = self._observe(late_ticks)
        before = self._seeded(sample) if self._seeds else self.head
        head = self.head = fold.step(before, sample)
        _warn_of_disagreement(before, head)
        if waiting:
            with self._orders:
                self._unpublished.append((head, list(waiting)))
        if self._keeper is None:
            self._show(head)
            return head
        self._keeper.offer(head, at_once=bool(waiting))
        at_s = head.at.mono_s if head.at is not None else 0.0
        with self._orders:
            if self._kept_s is None:
                self._kept_s = at_s
            late = at_s - self._kept_s > LONGEST_LAG_S
        if late:
            self._show(head)
        return head

    def _seeded(self, sample: Sample) -> Snapshot:
        """The head, with the totals of runs that come back in this very turn: earlier ones the fold would drop."""
        shown = {run.id for run in sample.runs.runs}
        with self._orders:
            seeds = [totals for totals in self._seeds if totals.run.id in shown]
            self._seeds = [totals for totals in self._seeds if totals.run.id not in shown]
        fresh = {totals.run.id: totals for totals in seeds if totals.run.id not in self.head.runs}
        return replace(self.head, runs=MappingProxyType({**self.head.runs, **fresh})) if fresh else self.head

    def _observe(self, late_ticks: int) -> Sample:
        readings: list[Reading] = []
        failures: list[ReadFailure] = []
        processes: list[Processes] = []
        usages: list[Usage] = []
        sources: list[SourceHealth] = []
        for supervisor in self.supervisors:
            said, health = supervisor.drain()
            sources.append(health)
            for readout in said:
                readings += readout.readings
                failures += readout.failures
                processes += readout.processes
                usages += readout.usages
        at = self._now()
        return Sample(
            at=at,
            readings=tuple(readings),
            failures=tuple(failures),
            processes=tuple(processes),
            usages=tuple(usages),
            runs=self._runs.runs(at),
            intensities=self._grid.intensities(at),
            grid=self._grid.state(),
            sources=tuple(sources),
            ledger=self._keeper.health(at) if self._keeper is not None else LedgerHealth(),
            late_ticks=late_ticks,
        )

    def run(self, stop: Event) -> None:
        """Turn at every deadline, and at the edges of runs, until told to stop.

        A missed deadline is counted and skipped, not caught up.
        """
        for supervisor in self.supervisors:
            supervisor.tried.wait(FIRST_TRY_S)
        self.turn()
        due_s = self._deadline_after(self._now())
        skipped = 0
        while True:
            # Cleared before anything is looked at: whoever sets it afterwards is heard.
            self._wake.clear()
            if stop.is_set():
                return
            at_s = self._now().mono_s
            edge_s = self._attend_edge(at_s)
            if at_s >= due_s:
                self.turn(skipped)
                next_s = self._deadline_after(self._now())
                skipped = round((next_s - due_s) / self._interval_s) - 1
                due_s = next_s
            self._wake.wait_until(min(due_s, edge_s))

    def _attend_edge(self, at_s: float) -> float:
        """Begin, await or end a reading out of turn; return when to look again."""
        if self._edge is None:
            with self._orders:
                asked = bool(self._asked)
                begins_s = self._edge_began_s + EDGES_APART_S
                if not asked or at_s < begins_s:
                    return begins_s if asked else float("inf")
                waiting, self._asked = self._asked, []
            self._edge_began_s = at_s
            self._edge = _Edge(waiting, [supervisor.read_now() for supervisor in self.supervisors], at_s)
            for read in self._edge.reads:
                read.add_done_callback(lambda _read: self._wake.ring())
        if not self._edge.is_over(self._now().mono_s):
            return self._edge.began_s + EDGE_WITHIN_S
        waiting, self._edge = self._edge.waiting, None
        self.turn(waiting=waiting)
        return 0.0 if self._asked else float("inf")

    def _deadline_after(self, at: Instant) -> float:
        lag_s = min(LAG_S, self._interval_s / 5)
        return clock.next_deadline_s(at.mono_s - lag_s, self._interval_s) + lag_s


def _is_in(after: Snapshot, shown: Snapshot) -> bool:
    """Whether what is shown contains the turn of `after`."""
    return after.at is None or (shown.at is not None and shown.at.mono_s >= after.at.mono_s)


def _warn_of_disagreement(before: Snapshot, after: Snapshot) -> None:
    """Say so once when a device's counter and its power sensor begin to tell different stories."""
    for device_id, entry in after.devices.items():
        known = before.devices.get(device_id)
        if known is None or entry.crosscheck.ratio is known.crosscheck.ratio:
            continue  # but for one turn in a minute
        if entry.crosscheck.disagrees and not known.crosscheck.disagrees:
            LOG.warning(
                "%s: its energy counter says %.2f of what its power sensor says: one of them is at fault; "
                "compare with a meter before you believe either",
                device_id,
                entry.crosscheck.ratio,
            )

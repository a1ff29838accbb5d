"""The one loop: wake at a fixed deadline, freeze what was observed, fold it, publish. It waits for nobody."""

import logging
from collections.abc import Sequence
from threading import Event, Thread

from monitor import clock
from monitor.core import fold
from monitor.core.model import Instant, Sample
from monitor.core.ports import Grid, Now, Runs
from monitor.core.snapshot import Snapshot
from monitor.sources.supervisor import Supervisor

LOG = logging.getLogger("trainwatt")

LAG_S = 0.1
"""The loop wakes so long after the sources' deadline (at most a fifth of the interval), to find them done."""
FIRST_TRY_S = 1.0
"""The first turn waits so long for a source; a driver may take longer to initialise."""


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
    ) -> None:
        self.snapshot = first
        """Published by one assignment: any number of readers, no lock."""
        self.supervisors = supervisors
        self._runs = runs
        self._grid = grid
        self._now = now
        self._interval_s = interval_s

    def start(self, stop: Event) -> Thread:
        """Run in a thread of its own."""
        thread = Thread(target=self.run, args=(stop,), name="loop", daemon=True)
        thread.start()
        return thread

    def turn(self, late_ticks: int = 0) -> Snapshot:
        """Take one sample, fold it, publish the result."""
        before, self.snapshot = self.snapshot, fold.step(self.snapshot, self._observe(late_ticks))
        _warn_of_disagreement(before, self.snapshot)
        return self.snapshot

    def _observe(self, late_ticks: int) -> Sample:
        drained = [supervisor.drain() for supervisor in self.supervisors]
        readouts = [readout for said, _health in drained for readout in said]
        at = self._now()
        return Sample(
            at=at,
            readings=tuple(reading for readout in readouts for reading in readout.readings),
            failures=tuple(failure for readout in readouts for failure in readout.failures),
            processes=tuple(processes for readout in readouts for processes in readout.processes),
            runs=self._runs.runs(at),
            intensities=self._grid.intensities(at),
            sources=tuple(health for _said, health in drained),
            late_ticks=late_ticks,
        )

    def run(self, stop: Event) -> None:
        """Turn at every deadline until told to stop. A missed deadline is counted and skipped, not caught up."""
        for supervisor in self.supervisors:
            supervisor.tried.wait(FIRST_TRY_S)
        self.turn()
        due_s = self._deadline_after(self._now())
        skipped = 0
        while True:
            clock.wait_until(due_s, stop)
            if stop.is_set():
                return
            self.turn(skipped)
            next_s = self._deadline_after(self._now())
            skipped = round((next_s - due_s) / self._interval_s) - 1
            due_s = next_s

    def _deadline_after(self, at: Instant) -> float:
        lag_s = min(LAG_S, self._interval_s / 5)
        return clock.next_deadline_s(at.mono_s - lag_s, self._interval_s) + lag_s


def _warn_of_disagreement(before: Snapshot, after: Snapshot) -> None:
    """Say so once when a device's counter and its power sensor begin to tell different stories."""
    for device_id, entry in after.devices.items():
        known = before.devices.get(device_id)
        if known is not None and entry.crosscheck.disagrees and not known.crosscheck.disagrees:
            LOG.warning(
                "%s: its energy counter says %.2f of what its power sensor says: one of them is at fault; "
                "compare with a meter before you believe either",
                device_id,
                entry.crosscheck.ratio,
            )

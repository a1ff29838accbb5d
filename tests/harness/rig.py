"""The whole pipeline in virtual time: real sources on the stand-in driver and RAPL tree, supervisors, the loop.

Nothing sleeps: time is set to the next deadline, then whoever is due runs.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from monitor.core.model import GridState, Instant, Intensity, Run, RunBook
from monitor.core.ports import Keeper, Now, Source
from monitor.core.snapshot import DeviceTotals, Policy, Snapshot
from monitor.loop import LAG_S, Loop
from monitor.sources.nvml.source import Nvml
from monitor.sources.rapl import Rapl
from monitor.sources.supervisor import Supervisor
from tests.drivers.nvml import FakeDriver
from tests.drivers.rapl import RaplTree

UNIX_AT_BOOT_S = 1.79e9


class Rig:
    """One node in virtual time, at 1 Hz."""

    def __init__(
        self,
        *,
        driver: FakeDriver | None = None,
        tree: RaplTree | None = None,
        sources: Sequence[Source] = (),
        runs: Sequence[Run] = (),
        begin_s: float = 1000.0,
        interval_s: float = 1.0,
        calibration: dict[str, float] | None = None,
        first: Snapshot | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self.at_s = begin_s
        self._driver = driver
        self._tree = tree
        self.book = list(runs)
        every = list(sources)
        if driver is not None:
            every.append(Nvml(now=self.now, interval_s=interval_s, calibration=calibration))
        if tree is not None:
            every.append(Rapl(tree.root, now=self.now, interval_s=interval_s))
        self._set(begin_s)
        self.supervisors = [Supervisor(source, now=self.now) for source in every]
        self._due_s = dict.fromkeys(self.supervisors, begin_s)
        self._interval_s = interval_s
        self.loop = Loop(
            first or Snapshot(ledger_id="rig", policy=Policy()),
            supervisors=self.supervisors,
            runs=self,
            grid=self,
            now=self.now,
            interval_s=interval_s,
            keeper=keeper,
        )
        self._turn_s = self._until_s = begin_s + LAG_S

    def now(self) -> Instant:
        """The virtual present."""
        return Instant(self.at_s, UNIX_AT_BOOT_S + self.at_s)

    def runs(self, at: Instant) -> RunBook:
        """Those of the book that have begun."""
        return RunBook(runs=tuple(run for run in self.book if run.start.mono_s <= at.mono_s))

    def intensities(self, at: Instant) -> tuple[Intensity, ...]:  # noqa: ARG002
        """No price."""
        return ()

    def state(self) -> GridState:
        """No feeds."""
        return GridState()

    def go(self, seconds: float, *, each_turn: Callable[[Snapshot], None] | None = None) -> Snapshot:
        """Let so much time pass, and the turn of its end; return its snapshot."""
        self._until_s += seconds
        until_s = self._until_s
        while True:
            supervisor = min(self.supervisors, key=lambda one: self._due_s[one])
            next_s = min(self._due_s[supervisor], self._turn_s)
            if next_s > until_s:
                self._set(until_s)
                return self.loop.snapshot
            self._set(next_s)
            if self._due_s[supervisor] <= self._turn_s:
                self._due_s[supervisor] = supervisor.tick()
            else:
                snapshot = self.loop.turn()
                self._turn_s += self._interval_s
                if each_turn is not None:
                    each_turn(snapshot)

    def edge(self) -> Snapshot:
        """The start or end of a run: every source is read out of turn, and folded."""
        for supervisor in self.supervisors:
            supervisor.read_now()
            self._due_s[supervisor] = supervisor.tick()
        return self.loop.turn()

    def device(self, device_id: str) -> DeviceTotals:
        """One device as it is now."""
        return self.loop.snapshot.devices[device_id]

    def energy_j(self, device_id: str) -> float:
        """All joules of a device, whatever the method."""
        return sum(self.device(device_id).energy_j.values())

    def read_at_s(self, device_id: str) -> float:
        """Moment of the device's last reading."""
        last = self.device(device_id).meter.last

        assert last is not None
        return last.at.mono_s

    def _set(self, at_s: float) -> None:
        self.at_s = at_s
        if self._driver is not None:
            self._driver.set_virtual(at_s)
        if self._tree is not None:
            self._tree.update(at_s)


class FileRig(Rig):
    """A rig whose sources are made for its clock, and whose files are brought up to date with it."""

    def __init__(
        self, *make: Callable[[Now], Source], follow: Sequence[Callable[[float], None]] = (), runs: Sequence[Run] = ()
    ) -> None:
        self._follow = follow
        super().__init__(sources=[one(self.now) for one in make], runs=runs)

    def _set(self, at_s: float) -> None:
        for update in self._follow:
            update(at_s)
        super()._set(at_s)


def tree_root(directory: Path) -> Path:
    """Where a test's sysfs stands."""
    return directory / "sys"

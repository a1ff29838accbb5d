"""The source "processes": whose every process is, which runs nobody registered, and what each run used.

/proc, cgroups -> Forest -> runs that are found -> the book of runs
                         -> Usage: CPU time and memory by run, owners of processes -> the fold
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from monitor.core.model import Instant, Processes, Readout, RunUse, Usage
from monitor.core.ports import Now
from monitor.errors import SourceBroken
from monitor.runs.cgroupfs import CgroupFiles, Directories
from monitor.runs.evidence import Evidence
from monitor.runs.forest import Forest
from monitor.runs.found import Found, Occupied, Tracked
from monitor.runs.presence import Presence
from monitor.runs.procfs import ProcessFiles
from monitor.runs.resources import Resources
from monitor.runs.sharing import Sharing

PERIOD_S = 5.0
OFTEN = 256
"""Of more processes the CPU times are read at every second look: those of a thousand take a hundredth of a core."""
AT_LATEST_S = 2 * PERIOD_S
"""So long after the last time they are read again; joules wait 15 s for it."""
SLACK_S = 0.5
"""Looks are not on time to the millisecond."""
PHASE_S = 0.4
"""So long after the GPUs' drivers are asked for their processes: then the loop has what they said."""


class Registry(Protocol):
    """The book of runs, as far as the processes of the node are concerned."""

    def tracked(self) -> tuple[Tracked, ...]:
        """Every live run; the same object while nothing has changed."""
        ...

    def discover(self, found: list[Found]) -> Mapping[str, str]:
        """Begin or bring up to date what was found: key -> id of the run."""
        ...

    def occupy(self, at: Mapping[str, float], present: Mapping[str, Mapping[str, Occupied]]) -> None:
        """Which runs have processes on the devices that were looked at."""
        ...

    def note_owners(self, owners: Mapping[int, str]) -> None:
        """Run of each process number."""
        ...

    def confirm(self, keys: frozenset[str]) -> None:
        """After a restart: which keys still have processes."""
        ...


class Finder(Protocol):
    """Finds runs that nobody registered."""

    def find(
        self, forest: Forest, tracked: Sequence[Tracked], looks: Mapping[str, Processes], at: Instant
    ) -> list[Found]:
        """What is new: runs, and processes of runs that are known."""
        ...

    def directories(self, tracked: Sequence[Tracked]) -> dict[str, Directories]:
        """Of the runs that have a cgroup of their own."""
        ...


class Discovery:
    """Implements `ports.Source` and `ports.EnergyFirst`, though it tells of use, not of energy."""

    name = "processes"

    def __init__(
        self,
        *,
        now: Now,
        registry: Registry,
        files: ProcessFiles,
        cgroups: CgroupFiles,
        evidence: Evidence,
        scan: Finder | None,
        looks: Callable[[], Mapping[str, Processes]],
        mark: str = "",
        on_host: bool = True,
    ) -> None:
        """`scan` is None where only registered runs count. `looks` is the last look at each device's processes.

        `mark` is the one of the last `Usage` of the daemon before this one, on the same boot. `on_host`: drivers have
        the numbers of processes that we have.
        """
        self.period_s = PERIOD_S
        self._now = now
        self._registry = registry
        self._scan = scan
        self._looks = looks
        self._files = files
        self._forest = Forest(files)
        self._sharing = Sharing(evidence)
        self._presence = Presence(registry.occupy)
        self._resources = Resources(files, cgroups, evidence)
        self._mark = mark
        self._on_host = on_host
        self._last: tuple[Instant, float, float] | None = None
        """Moment of the last look, and the node's CPU time and capacity up to then."""
        self._known: dict[str, Tracked] = {}
        """Runs of the last look."""
        self._is_confirmed = False
        self._taken: dict[str, float] = {}
        """CPU time of the runs since the last `Usage` up to the present look, by who was in them before it."""
        self._words = ""
        """Mark of the last `Usage` that told of use."""
        self._tracked: tuple[Tracked, ...] | None = None
        """Live runs at the end of the last look."""
        self._alone: frozenset[str] = frozenset()
        """Runs whose CPU time their own cgroup tells."""

    def open(self) -> None:
        """Nothing is kept open beyond a read."""

    def close(self) -> None:
        """What was counted since the last look is told by the next."""

    def read(self) -> Readout:
        """Look round. Raises SourceBroken where there is no /proc.

        Of many processes every second look tells no more than whose they are, as long as no run begins or ends.
        """
        is_short = (
            self._forest.timed > OFTEN
            and self._last is not None
            and self._now().mono_s + PERIOD_S - self._last[0].mono_s < AT_LATEST_S + SLACK_S
        )
        return self._read(find=self._scan is not None, whole=not is_short)

    def read_energy(self) -> Readout:
        """At the edge of a run: what was used up to now, without looking for runs that nobody registered."""
        return self._read(find=self._scan is not None and not self._is_confirmed, whole=True)

    def _read(self, *, find: bool, whole: bool) -> Readout:
        tracked = self._registry.tracked()
        whole = whole or tracked is not self._tracked
        try:
            whole = self._forest.look(whole=whole)
            at = self._now()
            busy_s, capacity_s = self._files.node_cpu()
        except (OSError, ValueError) as error:
            raise SourceBroken(f"/proc cannot be read: {error}", reason="procfs") from error
        self._take()
        looks = self._looks()
        most_s = 0.0 if self._last is None else busy_s - self._last[1]
        self._assign(tracked, most_s)
        if find and self._scan is not None:
            found = self._scan.find(self._forest, tracked, looks, at)
            if found:
                if not whole:
                    self._forest.complete()
                    self._take()
                    whole = True
                self._registry.discover(found)
                tracked = self._registry.tracked()
                self._assign(tracked, most_s)
            self._confirm(tracked)
        owners = self._forest.owners()
        self._registry.note_owners(owners)
        if self._on_host:
            self._presence.tell(looks, owners, self._forest.start_s)
        self._tracked = tracked
        if not whole:
            shown = owners if self._on_host else None
            return Readout(usages=(Usage(start=at, end=at, owners=shown, mark=self._words),))
        usage = self._usage(at, busy_s, capacity_s, tracked, owners)
        over = self._known.keys() - {one.run_id for one in tracked}
        for run_id in over:
            self._forest.release(run_id)
            self._resources.release(run_id)
        self._known = {one.run_id: one for one in tracked}
        if over:
            self._assign(tracked, 0.0)  # who outlives a run is of the one around it from here, not from the next look
        return Readout(usages=(usage,))

    def _take(self) -> None:
        """Note what the runs took before any of them changes over to its cgroup, or from it."""
        for run_id, cpu_s in self._forest.take_cpu_s().items():
            self._taken[run_id] = self._taken.get(run_id, 0.0) + cpu_s

    def _assign(self, tracked: tuple[Tracked, ...], most_s: float) -> None:
        if self._mark:
            self._go_on({one.run_id for one in tracked})
        roots = {process: one.run_id for one in tracked for process in one.members}
        self._forest.assign(roots, self._alone)
        directories = {} if self._scan is None else self._scan.directories(tracked)
        nested = self._forest.containing().keys() | self._sharing.runs(directories, tracked)
        own = {run_id: paths for run_id, paths in directories.items() if run_id not in nested}
        born = {run_id: self._forest.raw_cpu_s(run_id) for run_id in own if self._is_born(run_id)}
        alone = self._resources.take_over(own, born, most_s)
        if alone != self._alone:
            self._alone = alone
            self._forest.assign(roots, alone)

    def _is_born(self, run_id: str) -> bool:
        """Whether all processes of a run began after the last look."""
        if self._last is None:
            return False
        ticks = self._last[0].mono_s * self._files.ticks_per_s
        return all(process.start_ticks >= ticks for process in self._forest.processes(run_id))

    def _go_on(self, live: set[str]) -> None:
        """Count on from where the daemon before this one stopped."""
        mark, self._mark = self._mark, ""
        try:
            told = json.loads(mark)
            mono_s, wall_s, busy_s, capacity_s = (float(one) for one in told["at"])
            self._last = (Instant(mono_s, wall_s), busy_s, capacity_s)
            for run_id, raw_s in told["trees"].items():
                if run_id in live:
                    self._forest.adopt_cpu_s(run_id, float(raw_s))
            self._resources.adopt({run_id: float(raw_s) for run_id, raw_s in told["cgroups"].items() if run_id in live})
        except (ValueError, TypeError, KeyError, AttributeError):
            self._last = None  # words of another version: the count of use begins anew

    def _usage(
        self, at: Instant, busy_s: float, capacity_s: float, tracked: tuple[Tracked, ...], owners: Mapping[int, str]
    ) -> Usage:
        taken = self._forest.take_cpu_s()
        runs = dict.fromkeys([*self._known, *(one.run_id for one in tracked)])
        uses = []
        new_s = sum(taken_s for run_id, taken_s in taken.items() if run_id not in self._known)
        inner = self._forest.containing()
        cores = {
            run_id: self._resources.core_ratio(run_id, self._forest.processes(run_id), at.mono_s) for run_id in runs
        }
        for run_id in runs:
            processes = self._forest.processes(run_id)
            cpu_s = self._resources.cpu_s(run_id)
            rest_s = max(0.0, self._resources.take_rest_s(run_id) - new_s)  # what has begun in it tells for itself
            uses.append(
                RunUse(
                    run_id,
                    rest_s + self._taken.get(run_id, 0.0) + (taken.get(run_id, 0.0) if cpu_s is None else cpu_s),
                    self._resources.memory_bytes(run_id, processes, at.mono_s),
                    _left(cores[run_id], [cores.get(one) for one in inner.get(run_id, ())]),
                )
            )
        start, before_busy_s, before_capacity_s = self._last or (at, busy_s, capacity_s)
        self._last = (at, busy_s, capacity_s)
        self._taken = {}
        self._words = self._mark_at(at, busy_s, capacity_s, tracked)
        return Usage(
            start=start,
            end=at,
            cpu_s=max(0.0, busy_s - before_busy_s),
            cpu_capacity_s=max(0.0, capacity_s - before_capacity_s),
            memory_bytes=self._resources.node_memory_bytes(at.mono_s),
            runs=tuple(uses),
            owners=owners if self._on_host else None,
            mark=self._words,
        )

    def _mark_at(self, at: Instant, busy_s: float, capacity_s: float, tracked: tuple[Tracked, ...]) -> str:
        cgroups = self._resources.raw_cpu_s()
        trees = {one.run_id: self._forest.raw_cpu_s(one.run_id) for one in tracked if one.run_id not in cgroups}
        told = {"at": (at.mono_s, at.wall_s, busy_s, capacity_s), "trees": trees, "cgroups": cgroups}
        return json.dumps(told, separators=(",", ":"))

    def _confirm(self, tracked: tuple[Tracked, ...]) -> None:
        """Once after the start: of jobs whose scheduler may have ended them meanwhile, those that have processes."""
        if not self._is_confirmed:
            self._is_confirmed = True
            self._resources.adopt({})  # of whom nobody is found the reading is stale from now on
            alive = [one for one in tracked if self._forest.processes(one.run_id)]
            self._registry.confirm(frozenset(key for one in alive for key in one.keys))


def _left(ratio: float | None, inner: Iterable[float | None]) -> float | None:
    """Cores of a run without those of the runs inside of it: these hold them while they live."""
    return None if ratio is None else max(0.0, ratio - sum(one for one in inner if one is not None))

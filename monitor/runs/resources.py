"""What each run uses of the node, where its cgroup tells; its memory; and the cores that it was given."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from monitor.runs.cgroupfs import CgroupFiles, Directories
from monitor.runs.evidence import Evidence
from monitor.runs.identity import Process
from monitor.runs.procfs import ProcessFiles

MEMORY_PERIOD_S = 15.0
"""Memory changes slowly, and reading it of every process costs as much as everything else together."""
CORES_PERIOD_S = 60.0
TOLERANCE_S = 0.1
"""Counts of cgroups and of the node differ by some ticks."""


@dataclass(slots=True, eq=False)
class _Known:
    """What was read of one run."""

    directories: Directories = ()
    """Of a cgroup that is the run's alone; () = none."""
    cpu_s: float | None = None
    """CPU time of the cgroup at the last look; None = its processes tell."""
    rest_s: float = 0.0
    """Of its cgroup up to the look in which that was no longer its alone."""
    memory_bytes: int = 0
    memory_due_s: float = 0.0
    core_ratio: float | None = None
    cores_due_s: float = 0.0


class Resources:
    """Cgroups and memory of the runs. One thread owns it."""

    def __init__(self, files: ProcessFiles, cgroups: CgroupFiles, evidence: Evidence) -> None:
        self._files = files
        self._cgroups = cgroups
        self._evidence = evidence
        self._runs: dict[str, _Known] = {}
        self._adopted: dict[str, float] = {}
        self._node_bytes = 0
        self._node_due_s = 0.0

    def take_over(
        self, directories: Mapping[str, Directories], born: Mapping[str, float], most_s: float
    ) -> frozenset[str]:
        """Count the CPU time of runs by their cgroups from now on; return those that have a readable one.

        `born` are runs all of whose processes began after the last look, with the CPU time of these: it counts, too.
        `most_s` is what the whole node has used since that look.
        """
        for run_id, own in directories.items():
            known = self._runs.setdefault(run_id, _Known())
            if known.directories == own:
                continue
            known.directories = own
            cpu_s = self._cgroups.cpu_s(own)
            before_s = self._adopted.pop(run_id, cpu_s)
            if cpu_s is not None and before_s == cpu_s and run_id in born:
                # Its processes are new, its cgroup perhaps not: what is beyond all that the node did is older.
                before_s = 0.0 if cpu_s <= most_s + TOLERANCE_S else max(0.0, cpu_s - born[run_id])
            known.cpu_s = None if cpu_s is None else before_s
        for run_id, known in self._runs.items():
            if known.directories and run_id not in directories:
                now_s = None if known.cpu_s is None else self._cgroups.cpu_s(known.directories)
                known.rest_s = 0.0 if now_s is None or known.cpu_s is None else max(0.0, now_s - known.cpu_s)
                known.directories, known.cpu_s = (), None
        return frozenset(run_id for run_id, known in self._runs.items() if known.cpu_s is not None)

    def adopt(self, raw_s: Mapping[str, float]) -> None:
        """Go on after a restart: CPU time of the cgroups as the daemon before this one saw it last."""
        self._adopted = dict(raw_s)

    def cpu_s(self, run_id: str) -> float | None:
        """CPU time of a run's cgroup since the last look; None = its processes tell. One that has gone took no more."""
        known = self._runs.get(run_id)
        if known is None or known.cpu_s is None:
            return None
        now_s = self._cgroups.cpu_s(known.directories)
        if now_s is None:
            return 0.0
        taken_s, known.cpu_s = max(0.0, now_s - known.cpu_s), now_s
        return taken_s

    def take_rest_s(self, run_id: str) -> float:
        """CPU time up to the look in which a run's cgroup was no longer its alone; once."""
        known = self._runs.get(run_id)
        if known is None:
            return 0.0
        rest_s, known.rest_s = known.rest_s, 0.0
        return rest_s

    def raw_cpu_s(self) -> dict[str, float]:
        """By run, for `adopt`."""
        return {run_id: known.cpu_s for run_id, known in self._runs.items() if known.cpu_s is not None}

    def memory_bytes(self, run_id: str, processes: Sequence[Process], at_s: float) -> int:
        """Memory that is the run's: of its cgroup, else of its processes.

        Pages that processes share since a fork count with each of them: only a walk through the page tables would
        tell, which holds up whoever allocates.
        """
        known = self._runs.setdefault(run_id, _Known())
        if at_s >= known.memory_due_s:
            known.memory_due_s = at_s + MEMORY_PERIOD_S
            own = self._cgroups.memory_bytes(known.directories) if known.directories else None
            known.memory_bytes = sum(self._files.anonymous_bytes(one.pid) for one in processes) if own is None else own
        return known.memory_bytes

    def node_memory_bytes(self, at_s: float) -> int:
        """Memory that is somebody's, of the whole node; 0 = the kernel does not tell."""
        if at_s >= self._node_due_s:
            self._node_due_s = at_s + MEMORY_PERIOD_S
            try:
                self._node_bytes = self._files.node_memory_bytes()
            except (OSError, ValueError):
                self._node_bytes = 0
        return self._node_bytes

    def core_ratio(self, run_id: str, processes: Iterable[Process], at_s: float) -> float | None:
        """Part of the node's cores that the run may use; None = all of them, so that nothing was given to it."""
        known = self._runs.setdefault(run_id, _Known())
        if at_s >= known.cores_due_s:
            known.cores_due_s = at_s + CORES_PERIOD_S
            cores = self._cgroups.cpus(known.directories) if known.directories else None
            if cores is None:
                first = next(iter(processes), None)
                cores = None if first is None else self._evidence.allowed_cpus(first.pid)
            try:
                count = self._files.cpu_count()
            except OSError:
                count = 0
            known.core_ratio = cores / count if cores and cores < count else None
        return known.core_ratio

    def release(self, run_id: str) -> None:
        """The run has ended."""
        self._runs.pop(run_id, None)

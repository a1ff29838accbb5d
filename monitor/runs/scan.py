"""Which runs nobody registered: processes on GPUs, and new ones that say what they are, put together by their keys."""

from collections.abc import Iterator, Mapping, Sequence

from monitor.core.model import Instant, Processes
from monitor.runs import slurm
from monitor.runs.cgroupfs import Directories
from monitor.runs.forest import Forest
from monitor.runs.found import MOST_FOUND_PROCESSES, Found, Tracked
from monitor.runs.identify import Identifier, Identity, Kind
from monitor.runs.identity import Process
from monitor.runs.procfs import Stat

TREE_AGE_S = 10.0
"""Whoever is on a GPU for less, and is known by its descent only, may be gone before it matters."""
BY_THEMSELVES = frozenset({Kind.GIVEN, Kind.SLURM, Kind.TORCHRUN})
"""These are runs wherever they compute; a container or a tree of processes is one only with work on a GPU."""

Mark = tuple[str, int]
"""Key and user: what another user's processes say they are is his."""


class Scan:
    """Remembers what it found, so that a process is asked once. One thread owns it."""

    def __init__(self, identifier: Identifier, *, ticks_per_s: int) -> None:
        self._identifier = identifier
        self._ticks_per_s = ticks_per_s
        self._known: dict[Mark, Identity] = {}
        """Of the live runs."""
        self._unstarted: frozenset[int] = frozenset()
        """Children of slurmstepd that had its name and environment when they were asked: they are asked again."""
        self._has_looked = False

    def find(
        self, forest: Forest, tracked: Sequence[Tracked], looks: Mapping[str, Processes], at: Instant
    ) -> list[Found]:
        """What is new: runs, and processes of runs that are known."""
        live = {(key, one.uid): one for one in tracked for key in one.keys}
        self._known = {mark: identity for mark, identity in self._known.items() if mark in live}
        found: dict[Mark, list[Process]] = {}
        on_gpus = {process.pid for look in looks.values() for process in look.processes} - forest.owners().keys()
        # What the daemon before this one found has its processes, but here nobody knows yet by what, nor its cgroup.
        kept = {} if self._has_looked else {process: one for one in tracked for process in one.members}
        self._has_looked = True
        again, self._unstarted = self._unstarted, frozenset()
        for line in self._candidates(forest, on_gpus | again | {process.pid for process in kept}):
            own = line[0]
            identity = self._identifier.identify(line)
            if identity is None:
                continue
            if own.comm.startswith(slurm.STEPD):
                self._unstarted |= {own.pid}
            if own.process in kept and live.get((identity.key, identity.uid)) is not kept[own.process]:
                continue
            if not self._is_run(identity, own, live, on_gpus, at):
                continue
            mark = (identity.key, identity.uid)
            if mark not in self._known or (self._known[mark].note and not identity.note):
                self._known[mark] = identity
            processes = found.setdefault(mark, [])
            begins = (identity.root, own.process) if identity.kind is Kind.TREE else (own.process,)
            processes += [process for process in begins if process not in processes]
        for mark in self._known:
            one = live.get(mark)
            if one is not None:
                living = [process for process in forest.processes(one.run_id) if process not in found.get(mark, ())]
                now = (found.get(mark, []) + living)[:MOST_FOUND_PROCESSES]
                if not one.members.issuperset(now) or not one.members & set(now):
                    found[mark] = now
        return [self._found(mark, processes) for mark, processes in found.items() if processes]

    def directories(self, tracked: Sequence[Tracked]) -> dict[str, Directories]:
        """Of the runs that have a cgroup of their own."""
        own: dict[str, Directories] = {}
        for one in tracked:
            for key in one.keys:
                identity = self._known.get((key, one.uid))
                if identity is not None and identity.directories:
                    own[one.run_id] = identity.directories
        return own

    @staticmethod
    def _candidates(forest: Forest, asked: set[int]) -> Iterator[tuple[Stat, ...]]:
        for pid in sorted(asked | {stat.pid for stat in forest.unassigned()}):
            line = forest.line(pid)
            if line and not line[0].has_ended:
                yield line

    def _is_run(
        self, identity: Identity, own: Stat, live: Mapping[Mark, Tracked], on_gpus: set[int], at: Instant
    ) -> bool:
        if identity.kind in BY_THEMSELVES or (identity.key, identity.uid) in live:
            return True
        if own.pid not in on_gpus:
            return False
        return identity.kind is not Kind.TREE or at.mono_s - own.start_ticks / self._ticks_per_s >= TREE_AGE_S

    def _found(self, mark: Mark, processes: Sequence[Process]) -> Found:
        identity = self._known[mark]
        start_ticks = min(process.start_ticks for process in processes)
        return Found(
            key=identity.key,
            wish=identity.wish,
            uid=identity.uid,
            start_mono_s=start_ticks / self._ticks_per_s,
            processes=tuple(processes[:MOST_FOUND_PROCESSES]),
        )

"""Which runs have processes of other runs in their cgroups, by a step, an exec, a neighbour."""

from collections.abc import Iterator, Mapping

from monitor.runs.cgroup import place_lines
from monitor.runs.cgroupfs import Directories
from monitor.runs.evidence import Evidence
from monitor.runs.found import Tracked
from monitor.runs.identity import Process


class Sharing:
    """Asks each member of a run once where it stands. One thread owns it."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._paths: dict[Process, Directories] = {}
        self._asked: tuple[Mapping[str, Directories], tuple[Tracked, ...]] = ({}, ())
        self._answer: frozenset[str] = frozenset()

    def runs(self, directories: Mapping[str, Directories], tracked: tuple[Tracked, ...]) -> frozenset[str]:
        """Of those that have a cgroup, the ones whose cgroup counts others, too."""
        if not directories or self._asked == (directories, tracked):
            return self._answer if directories else frozenset()
        owners: dict[tuple[str, str], set[str]] = {}
        for run_id, own in directories.items():
            for directory in own:
                owners.setdefault(directory, set()).add(run_id)
        members = {process for one in tracked for process in one.members}
        self._paths = {process: paths for process, paths in self._paths.items() if process in members}
        sharing: set[str] = set()
        for one in tracked:
            for process in one.members:
                if process not in self._paths:
                    self._paths[process] = place_lines(self._evidence.cgroup_text(process.pid))
                for above in _above(self._paths[process]):
                    sharing |= owners.get(above, set()) - {one.run_id}
        self._asked, self._answer = (directories, tracked), frozenset(sharing)
        return self._answer


def _above(paths: Directories) -> Iterator[tuple[str, str]]:
    """The directories of a process, and those that they are in."""
    for controller, path in paths:
        while path.count("/") > 1 or len(path) > 1:
            yield controller, path
            path = path.rpartition("/")[0]  # noqa: PLW2901

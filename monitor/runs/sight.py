"""What this process may see of others under a procfs root, and how to let it see what it does not."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from monitor.runs import slurm

HOST_PID_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO of the kernel's include/linux/proc_ns.h: the first namespace has the same inode everywhere."""
WITHOUT_ENVIRONMENTS = (
    "other users' runs are known by cgroup, by slurmstepd or by the prolog, without names and allocated GPUs"
)
OPT_IN = "AmbientCapabilities=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH"
MOST_BYTES = 2**20
_DAC_OVERRIDE, _DAC_READ_SEARCH, _SYS_PTRACE = 1, 2, 19
"""Bits of capabilities(7)."""
_ALL_USERS = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What may be seen. None = it could not be found out."""

    on_host: bool | None
    """In the host's PID namespace, whose numbers drivers tell."""
    others: bool
    """Processes of other users, all of them."""
    environments: bool
    """Of processes of other users."""
    cgroup_versions: tuple[int, ...]
    """Mounted here; both of a hybrid."""
    cpu_accounting: bool
    """A cgroup's CPU time can be read."""
    cluster: str
    """Name of this node's Slurm cluster; "" = none is known."""


class Line(NamedTuple):
    """One thing that is seen or not, in words, with the remedy."""

    what: str
    works: bool
    text: str


def look(
    root: Path,
    *,
    environment: Mapping[str, str],
    host_namespace: str = HOST_PID_NAMESPACE,
    configurations: Iterable[Path] = slurm.CONFIGURATIONS,
) -> Sight:
    """Find out. `environment` is this process's own, `configurations` where slurm.conf may be."""
    try:
        on_host = os.readlink(root / "self/ns/pid") == host_namespace  # noqa: PTH115  (no path: pid:[NUMBER])
    except OSError:
        on_host = None
    types = _cgroup_mounts(_text(root / "self/mountinfo"))
    versions = tuple(version for version, kind in ((1, "cgroup"), (2, "cgroup2")) if any(t == kind for t, _o in types))
    return Sight(
        on_host=on_host,
        others=bool(_text(root / "1/stat")),
        environments=_may_read_environments(_text(root / "self/status"), _text(root / "self/uid_map")),
        cgroup_versions=versions,
        # Version 2 counts CPU time in every group, whether a controller is enabled or not.
        cpu_accounting=2 in versions or any("cpuacct" in options for _type, options in types),  # noqa: PLR2004
        cluster=slurm.cluster_name(environment, configurations),
    )


def words(sight: Sight) -> tuple[Line, ...]:
    """What works and what does not, one line each."""
    return (
        Line("numbers", sight.on_host is not False, _numbers(sight.on_host)),
        Line(
            "processes",
            sight.others,
            "processes of all users are seen"
            if sight.others
            else "processes of other users are hidden (hidepid, ProtectProc=), so that runs of others are not found; "
            "give it ProtectProc=default and CAP_SYS_PTRACE, or the group of /proc's gid= option",
        ),
        Line(
            "environments",
            sight.environments,
            "environments of all users can be read: names, projects and allocated GPUs of their runs are known"
            if sight.environments
            else f"environments of other users may not be read: {WITHOUT_ENVIRONMENTS}; "
            f"to opt in: {OPT_IN} in the unit file",
        ),
        Line("cgroups", sight.cpu_accounting, _cgroups(sight)),
        Line(
            "slurm",
            bool(sight.cluster),
            f"Slurm's cluster is {sight.cluster}"
            if sight.cluster
            else "no slurm.conf tells a cluster's name; where Slurm runs, name the file by SLURM_CONF: till then a job "
            "whose environment may not be read is slurm-cluster-JOB",
        ),
    )


def _numbers(on_host: bool | None) -> str:  # noqa: FBT001  (three answers)
    if on_host is None:
        return "whether this is the host's PID namespace is unknown: /proc/self/ns/pid may not be read"
    if on_host:
        return "processes have the numbers that drivers tell: this is the host's PID namespace"
    return (
        "processes have other numbers than drivers tell, so that GPUs cannot be told apart by use; "
        "run it on the host, or the container with --pid=host (hostPID: true)"
    )


def _cgroups(sight: Sight) -> str:
    if not sight.cgroup_versions:
        return (
            "no cgroups are mounted: jobs and containers are known by their environments and trees of processes alone"
        )
    version = f"cgroup v{' and v'.join(str(version) for version in sight.cgroup_versions)}"
    if sight.cpu_accounting:
        return f"{version}: CPU time of jobs and containers is counted by the kernel"
    return f"{version} without cpuacct: CPU time is added up by process; mount it, or boot with version 2"


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _cgroup_mounts(text: str) -> list[tuple[str, frozenset[str]]]:
    """Types and options of the cgroup file systems of /proc/PID/mountinfo (proc_pid_mountinfo(5))."""
    mounts = []
    for line in text.splitlines():
        fields = line.partition(" - ")[2].split()
        if len(fields) > 2 and fields[0] in {"cgroup", "cgroup2"}:  # noqa: PLR2004  (type, source, options)
            mounts.append((fields[0], frozenset(fields[2].split(","))))
    return mounts


def _may_read_environments(status: str, uid_map: str) -> bool:
    """Whether ptrace_may_access and the mode of /proc/PID/environ, 0400, are overcome for any process of the host."""
    match = re.search(r"^CapEff:\s*([0-9a-fA-F]+)$", status, re.MULTILINE)
    effective = int(match[1], 16) if match else 0
    numbers = [int(number) for number in uid_map.split() if number.isdecimal()]
    is_first = not numbers or numbers == [0, 0, _ALL_USERS]  # of a user namespace below, capabilities end at its walls
    reads = bool(effective >> _DAC_READ_SEARCH & 1 or effective >> _DAC_OVERRIDE & 1)
    return is_first and reads and bool(effective >> _SYS_PTRACE & 1)

"""What Slurm tells of itself on a node: the name of its cluster, and the jobs of its daemons. No command is run."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

CONFIGURATIONS = (
    Path("/etc/slurm/slurm.conf"),
    Path("/etc/slurm-llnl/slurm.conf"),
    Path("/run/slurm/conf/slurm.conf"),
)
"""As packages put it, as older ones of Debian did, and where slurmd keeps it that has it from slurmctld."""
MOST_BYTES = 2**20
MOST_FILES = 16
NAME = "slurm"
"""As launcher of a run."""
STEPD = "slurmstepd"

_CLUSTER = re.compile(r"(?:^|\s)ClusterName\s*=\s*(?:\"([^\"]*)\"|(\S+))", re.IGNORECASE)
_INCLUDE = re.compile(r"\s*Include\s+(\S+)\s*", re.IGNORECASE)
_TITLE = re.compile(rb"(?:\S*/)?slurmstepd: \[(?:StepId=)?([1-9][0-9]{0,9})(?:\+[0-9]+)?(?:\.[^\]]*)?\]")


def cluster_name(environment: Mapping[str, str], paths: Iterable[Path] = CONFIGURATIONS) -> str:
    """ClusterName of slurm.conf, in small letters as Slurm has it; "" where nothing that we may read tells.

    `environment` is the daemon's own: SLURM_CONF names the file, and then no other is asked.
    """
    given = environment.get("SLURM_CONF", "").strip()
    for path in [Path(given)] if given else paths:
        for line in _lines(path, [MOST_FILES]):
            if match := _CLUSTER.search(line):
                return (match[1] or match[2] or "").strip().lower()
    return ""


def _lines(path: Path, left: list[int]) -> Iterator[str]:
    """The lines of a configuration with those that it includes (slurm.conf(5)), without comments."""
    left[0] -= 1
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError):
        return
    for line in text.replace("\\\n", " ").splitlines():
        told = line.partition("#")[0]
        include = _INCLUDE.fullmatch(told)
        if include is None:
            yield told
        elif left[0] > 0:
            yield from _lines(path.parent / include[1], left)


def is_script(environment: Mapping[str, str]) -> bool:
    """Whether Slurm runs a prolog or an epilog in this environment, which names the job as the job's own does.

    SLURM_SCRIPT_CONTEXT: `prolog_slurmd`, `epilog_slurmd` (Slurm's Prolog and Epilog Guide).
    """
    return environment.get("SLURM_SCRIPT_CONTEXT", "").startswith(("prolog", "epilog"))


def job_of_stepd(command_line: bytes) -> str:
    """The job's number from the title of a slurmstepd, `slurmstepd: [42.batch]`; "" where it tells none.

    Everybody may read it in /proc/PID/cmdline (`_set_job_log_prefix` of Slurm's slurmstepd.c).
    """
    match = _TITLE.match(command_line)
    return match[1].decode("ascii") if match else ""

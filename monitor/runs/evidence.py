"""What the kernel tells of one process under a procfs root. What is refused, or gone, is None or ""."""

from collections.abc import Mapping
from pathlib import Path

from monitor.runs.holdings import HINTS

MOST_CGROUP_BYTES = 2**16
MOST_ENVIRONMENT_BYTES = 2**18
MOST_COMMAND_BYTES = 2**12
MOST_STATUS_BYTES = 2**16
LONGEST_VALUE = 4096
_START = 19

VARIABLES = frozenset(
    {
        *HINTS,
        *("TRAINWATT_RUN", "TORCHELASTIC_RUN_ID", "LOCAL_RANK", "POD_NAMESPACE"),
        *("SLURM_JOB_ID", "SLURM_CLUSTER_NAME", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"),
        *("SLURM_JOB_NAME", "SLURM_JOB_ACCOUNT", "SLURM_JOB_USER", "SLURM_JOB_UID", "SLURM_JOB_NUM_NODES"),
        *("SLURM_RESTART_COUNT", "SLURM_JOB_CPUS_PER_NODE", "SLURM_SCRIPT_CONTEXT"),
    }
)
"""All that is kept of an environment: others may be secrets."""


class Evidence:
    """Reads /proc/PID (proc(5)), bounded; each read may fail by itself, at any moment."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def cgroup_text(self, pid: int) -> str:
        """The whole of /proc/PID/cgroup."""
        return (self._read(pid, "cgroup", MOST_CGROUP_BYTES) or b"").decode("utf-8", "surrogateescape")

    def environment(self, pid: int) -> Mapping[str, str] | None:
        """Those of VARIABLES that it was started with; None where its environment may not be read.

        Only its own user may, or who has CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.
        """
        data = self._read(pid, "environ", MOST_ENVIRONMENT_BYTES)
        if data is None:
            return None
        whole, _end, cut = data.rpartition(b"\0")
        entries = whole.split(b"\0")
        if cut and len(data) < MOST_ENVIRONMENT_BYTES:
            entries.append(cut)
        told: dict[str, str] = {}
        for entry in entries:
            name, equals, value = entry.partition(b"=")
            key = name.decode("ascii", "replace")
            if equals and key in VARIABLES:
                # Of two of one name getenv(3) takes the first.
                told.setdefault(key, value.decode("utf-8", "replace")[:LONGEST_VALUE])
        return told

    def command_line(self, pid: int) -> bytes:
        """Its arguments, each ended by a zero byte; b"" where there are none, or it has gone."""
        return self._read(pid, "cmdline", MOST_COMMAND_BYTES) or b""

    def real_uid(self, pid: int) -> int | None:
        """Who runs it: the first number of `Uid:` in /proc/PID/status."""
        value = self._status(pid, "Uid:").split()
        return int(value[0]) if value and value[0].isdecimal() else None

    def start_ticks(self, pid: int) -> int | None:
        """Clock ticks from boot to its start: with the number its identity."""
        # The command may hold blanks and parentheses, so it ends at the last one: proc_pid_stat(5), field 22.
        fields = (self._read(pid, "stat", MOST_STATUS_BYTES) or b"").rpartition(b")")[2].split()
        return int(fields[_START]) if len(fields) > _START and fields[_START].isdigit() else None

    def allowed_cpus(self, pid: int) -> int | None:
        """On how many CPUs it may run: the bits of `Cpus_allowed:` in /proc/PID/status."""
        try:
            return int(self._status(pid, "Cpus_allowed:").replace(",", ""), 16).bit_count()
        except ValueError:
            return None

    def _status(self, pid: int, name: str) -> str:
        text = (self._read(pid, "status", MOST_STATUS_BYTES) or b"").decode("utf-8", "replace")
        lines = (line for line in text.split("\n") if line.startswith(name))
        return next(lines, name).removeprefix(name).strip()

    def _read(self, pid: int, name: str, most: int) -> bytes | None:
        if pid <= 0:
            return None
        try:
            with (self._root / str(pid) / name).open("rb") as file:
                return file.read(most)
        except OSError:
            return None

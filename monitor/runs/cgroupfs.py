"""What cgroups tell of a run that has one of its own: CPU time, memory, CPUs. Nothing here raises; garbage is None."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

SYS_FS_CGROUP = Path("/sys/fs/cgroup")
UNIFIED = "unified"
"""Where cgroup v2 stands beside v1 (systemd's hybrid layout)."""
Directories = tuple[tuple[str, str], ...]
"""(controller, path), as /proc/PID/cgroup tells, cgroups(7): "" = v2, v1 controllers that share a mount by comma."""
_V2 = ""
_MOST_BYTES = 1 << 16
_MOST_CPUS = 1 << 16


class CgroupFiles:
    """Reads one tree of mounted cgroups. Safe to share among threads."""

    def __init__(self, root: Path = SYS_FS_CGROUP) -> None:
        self._root = root

    def cpu_s(self, directories: Directories) -> float | None:
        """CPU time of all that has ever run in it and below: v2 cpu.stat `usage_usec`, v1 cpuacct.usage (ns).

        cpu.stat is there on each v2 group but the root, whatever controllers are on; on the root it is the node's.
        """
        for path in self._paths(directories, "cpuacct"):
            nanoseconds = _number(_read(path / "cpuacct.usage"))
            if nanoseconds is not None:
                return nanoseconds / 1e9
        for path in self._paths(directories, _V2):
            microseconds = _table(_read(path / "cpu.stat")).get("usage_usec")
            if microseconds is not None:
                return microseconds / 1e6
        return None

    def memory_bytes(self, directories: Directories) -> int | None:
        """Anonymous and shared memory of it and all below, in bytes, from memory.stat.

        v2: `anon` + `shmem`, both with descendants. v1: `total_rss`, which is anonymous memory with its swap cache (no
        other resident memory, whatever its name), + `total_shmem` (Linux 4.12; before it counts as none).
        `total_mapped_file` is left out: it holds mapped files of the disk, and of shared memory what is mapped only.
        """
        for path in self._paths(directories, "memory"):
            table = _table(_read(path / "memory.stat"))
            if "total_rss" in table:
                return table["total_rss"] + table.get("total_shmem", 0)
        for path in self._paths(directories, _V2):
            table = _table(_read(path / "memory.stat"))
            if "anon" in table:
                return table["anon"] + table.get("shmem", 0)
        return None

    def cpus(self, directories: Directories) -> int | None:
        """How many CPUs it may use: cpuset.cpus.effective, in v1 cpuset.effective_cpus, of it or the nearest above.

        v2 groups have the file only where the controller is on; above, the list of the nearest one holds.
        """
        for controller, name in (("cpuset", "cpuset.effective_cpus"), (_V2, "cpuset.cpus.effective")):
            for mount, path in self._found(directories, controller):
                above = (path, *path.parents)
                for group in above[: above.index(mount) + 1]:
                    text = _read(group / name)
                    if text is not None:
                        return cpus_in(text)
        return None

    def exists(self, directories: Directories) -> bool:
        """Whether any of its directories is there."""
        return any(True for controller, _ in directories for _ in self._found(directories, controller))

    def is_populated(self, directories: Directories) -> bool | None:
        """Whether any process is in it or below; None where it is gone, or cannot be read.

        v2: cgroup.events `populated` (all but the root); else cgroup.procs, of it and of all below.
        """
        answers = []
        for controller in dict.fromkeys(controller for controller, _ in directories):
            for _, path in self._found(directories, controller):
                populated = _table(_read(path / "cgroup.events")).get("populated")
                answers.append(_has_processes(path) if populated is None else populated != 0)
        known = [answer for answer in answers if answer is not None]
        return any(known) if known else None

    def _paths(self, directories: Directories, controller: str) -> Iterator[Path]:
        return (path for _, path in self._found(directories, controller))

    def _found(self, directories: Directories, controller: str) -> Iterator[tuple[Path, Path]]:
        """Mount and directory of a group in a hierarchy, where both are there.

        A path that begins with /.. is seen from within a cgroup namespace: taken from the mount, and refused, as it
        leads out of it. A v1 controller is mounted under its own name, or that of all that share the hierarchy.
        """
        for names, path in directories:
            each = names.split(",")
            if controller != names and controller not in each:
                continue
            for mount in self._mounts(names):
                directory = _below(mount, path)
                if directory is not None and _holds(directory.is_dir):
                    yield mount, directory
                    break

    def _mounts(self, names: str) -> Iterator[Path]:
        if names == _V2:
            # Where v1 is mounted, too, the root itself is a plain directory.
            unified = self._root / UNIFIED
            yield unified if _holds(unified.is_dir) else self._root
        else:
            for name in dict.fromkeys((names, *names.split(","), names.removeprefix("name="))):
                if name not in ("", ".", "..") and "/" not in name:
                    yield self._root / name


def cpus_in(text: str) -> int | None:
    """How many CPUs a list names, cpuset(7): `0-3,8`; None for none, or for garbage."""
    cpus: set[int] = set()
    try:
        for part in text.strip().split(","):
            first, dash, last = part.partition("-")
            low, high = int(first), int(last if dash else first)
            if not 0 <= low <= high < _MOST_CPUS:
                return None
            cpus.update(range(low, high + 1))
    except ValueError:
        return None
    return len(cpus) or None


def _below(mount: Path, path: str) -> Path | None:
    """A directory of a hierarchy; None where the path leads out of it."""
    if not path.startswith("/") or "\0" in path:
        return None
    depth = 0
    parts: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            depth -= 1
            if depth < 0:
                return None
            parts.pop()
        else:
            depth += 1
            parts.append(part)
    return mount.joinpath(*parts)


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("ascii", "replace")
    except (OSError, ValueError):
        return None


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdecimal() else None


def _table(text: str | None) -> dict[str, int]:
    """`name value` in each line; lines that are no such thing are left out."""
    table = {}
    for line in (text or "").splitlines():
        name, _, value = line.partition(" ")
        number = _number(value)
        if number is not None:
            table[name] = number
    return table


def _has_processes(path: Path) -> bool | None:
    """Whether cgroup.procs of it, or of any group below, names one."""
    text = _read(path / "cgroup.procs")
    if text is None or text.strip():
        return None if text is None else True
    for directory, names, _ in os.walk(path):
        if any((_read(Path(directory, name, "cgroup.procs")) or "").strip() for name in names):
            return True
    return False


def _holds(ask: Callable[[], bool]) -> bool:
    """A question to the file system, to which no answer is no."""
    try:
        return ask()
    except (OSError, ValueError):
        return False

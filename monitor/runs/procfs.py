"""What /proc tells of processes and of the node, read cheaply: thousands of processes at a time. No arithmetic."""

import errno
import os
import weakref
from pathlib import Path
from typing import NamedTuple

from monitor.runs.identity import Process

PROC = Path("/proc")
_STAT_BYTES = 2048
"""More than the longest /proc/PID/stat: 52 numbers and a command of 64 bytes."""
_NODE_BYTES = 1 << 20
_KERNEL_THREAD = 0x00200000
"""PF_KTHREAD of linux/sched.h."""
_START = 19
"""Field 22 of /proc/PID/stat, counted from the end of the command."""
_IDLE, _STOLEN, _CPU_FIELDS = (3, 4), 7, 8
"""Idle and iowait, steal, and where guest time begins, which is within user and nice."""


class Stat(NamedTuple):
    """A process as /proc/PID/stat tells it, proc_pid_stat(5)."""

    pid: int
    start_ticks: int
    """Clock ticks from boot to its start (22). With the number it is the process's identity."""
    ppid: int
    """0 = the kernel began it, or its parent is out of our PID namespace."""
    pgrp: int
    session: int
    state: str
    """`Z` has ended and waits to be reaped; its times are final."""
    own_ticks: int
    """User and system time of all its threads, ended ones too, guests within (14 + 15)."""
    reaped_ticks: int
    """The same of the children that it has waited for, and of those that these had waited for (16 + 17)."""
    comm: str
    is_kernel: bool = False

    @property
    def process(self) -> Process:
        """Its identity."""
        return Process(self.pid, self.start_ticks)

    @property
    def has_ended(self) -> bool:
        """Whether it is a zombie."""
        return self.state in "ZXx"


class ProcessFiles:
    """Reads one /proc through a descriptor of its directory. Safe to share among threads.

    What has vanished between two reads is None, as what hidepid hides is: nothing of a single process ever raises.
    """

    def __init__(self, root: Path = PROC, *, ticks_per_s: int | None = None) -> None:
        """`ticks_per_s`: clock ticks of the kernel that wrote `root`; None = of this one."""
        self.ticks_per_s = os.sysconf("SC_CLK_TCK") if ticks_per_s is None else ticks_per_s
        self._root = root
        try:
            self._directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self._directory = -1  # every read fails, as in an empty tree
        else:
            weakref.finalize(self, os.close, self._directory)

    def pids(self) -> list[int]:
        """Processes that can be seen, in the order of the kernel: by number. Raises OSError without any /proc."""
        if self._directory < 0:  # which os.listdir takes for no argument
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._root))
        return [int(name) for name in os.listdir(self._directory) if name.isdecimal()]  # noqa: PTH208  (a descriptor)

    def stat(self, pid: int) -> Stat | None:
        """A process; None where it has ended or is out of our sight."""
        line = self.stat_line(pid)
        return None if line is None else parse_stat(line)

    def stat_line(self, pid: int) -> bytes | None:
        """The same for `parse_stat`: as long as a process sleeps, it is the same line."""
        try:
            descriptor = os.open(f"{pid}/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
        except OSError:
            return None
        try:
            return os.read(descriptor, _STAT_BYTES)
        except OSError:  # ESRCH: it ended after it was opened
            return None
        finally:
            os.close(descriptor)

    def anonymous_bytes(self, pid: int) -> int:
        """Resident memory that no file is behind, proc_pid_statm(5): resident less shared; 0 where it has ended."""
        try:
            fields = self._read(f"{pid}/statm", _STAT_BYTES).split()
            return max(0, int(fields[1]) - int(fields[2])) * _page_bytes()
        except (OSError, ValueError, IndexError):
            return 0

    def node_cpu(self) -> tuple[float, float]:
        """Busy CPU seconds of the node since boot, and all there were to be had, proc_stat(5): line `cpu`.

        Busy is user, nice, system, irq and softirq. Guest time is within user; steal was another machine's. Raises
        OSError, ValueError.
        """
        words = self._read("stat", _NODE_BYTES).split(b"\n", 1)[0].split()
        if len(words) <= _IDLE[-1] + 1 or words[0] != b"cpu":
            raise ValueError("/proc/stat does not begin with the times of all CPUs")
        ticks = [int(word) for word in words[1 : _CPU_FIELDS + 1]]
        busy = sum(value for field, value in enumerate(ticks) if field not in (*_IDLE, _STOLEN))
        return busy / self.ticks_per_s, sum(ticks) / self.ticks_per_s

    def node_memory_bytes(self) -> int:
        """Memory of the node that no file is behind, and shared memory, proc_meminfo(5): AnonPages and Shmem.

        Raises OSError, ValueError.
        """
        kib = {}
        for line in self._read("meminfo", _NODE_BYTES).splitlines():
            name, _, value = line.partition(b":")
            if name in (b"AnonPages", b"Shmem"):
                kib[name] = int(value.split()[0])
        if not kib:
            raise ValueError("/proc/meminfo tells neither AnonPages nor Shmem")
        return 1024 * sum(kib.values())

    def cpu_count(self) -> int:
        """CPUs that are online, proc_stat(5): lines `cpuN`. Raises OSError."""
        lines = self._read("stat", _NODE_BYTES).splitlines()
        return sum(line.startswith(b"cpu") and line[3:4].isdigit() for line in lines)

    def _read(self, name: str, most_bytes: int) -> bytes:
        """A small file: the kernel hands it out in pieces."""
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            parts = []
            while part := os.read(descriptor, most_bytes):
                parts.append(part)
            return b"".join(parts)
        finally:
            os.close(descriptor)


def parse_stat(line: bytes) -> Stat | None:
    """A line of /proc/PID/stat, proc_pid_stat(5); None for half a line or garbage.

    The command may hold blanks and parentheses, so it ends at the last one.
    """
    head, _, rest = line.rpartition(b")")
    fields = rest.split(None, _START + 1)
    if len(fields) <= _START:
        return None
    number, _, comm = head.partition(b"(")
    try:
        return Stat(
            int(number),
            int(fields[_START]),
            int(fields[1]),
            int(fields[2]),
            int(fields[3]),
            fields[0].decode(),
            int(fields[11]) + int(fields[12]),
            int(fields[13]) + int(fields[14]),
            comm.decode("utf-8", "replace"),
            int(fields[6]) & _KERNEL_THREAD != 0,
        )
    except ValueError:
        return None


def _page_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE")

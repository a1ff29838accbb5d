"""Processes as the kernel knows them, and the watch over their ends: pidfd_open(2), else a look now and then."""

import asyncio
import contextlib
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Protocol

from monitor.runs.identity import Origin, Process
from monitor.runs.procfs import PROC, ProcessFiles, Stat

POLL_S = 5.0
MOST_DESCRIPTORS = 512
"""Processes beyond are looked at now and then: descriptors are few, and others need some, too."""


class ProcessTable:
    """Reads /proc of the daemon's own PID namespace, which the numbers that the kernel tells of peers are of."""

    def __init__(self, root: Path = PROC) -> None:
        self._root = root
        self._files = ProcessFiles(root)

    def identify(self, pid: int) -> Process | None:
        """The process of this number; None where it has ended, or is out of our sight."""
        stat = self._stat(pid)
        return None if stat is None or stat.has_ended else stat.process

    def alive(self, process: Process) -> bool:
        """Whether this very process has not ended."""
        return self.identify(process.pid) == process

    def parent(self, pid: int) -> Process | None:
        """The process above it."""
        stat = self._stat(pid)
        return None if stat is None else self.identify(stat.ppid)

    def uid(self, pid: int) -> int | None:
        """The effective user of a process, as the kernel tells the peer's; None where it has ended."""
        try:
            status = (self._root / str(pid) / "status").read_text("utf-8", "replace")
        except OSError:
            return None
        return next((int(line.split()[2]) for line in status.splitlines() if line.startswith("Uid:")), None)

    def depth(self, pid: int | str) -> int:
        """How many PID namespaces below our own /proc it counts in, its own included; 0 = it has ended."""
        try:
            status = (self._root / str(pid) / "status").read_text("utf-8", "replace")
        except OSError:
            return 0
        return next((len(line.split()) - 1 for line in status.splitlines() if line.startswith("NSpid:")), 0)

    def boot_id(self) -> str:
        """Identity of this boot; "" where the kernel does not tell."""
        try:
            return (self._root / "sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""

    def origin(self, process: Process) -> Origin:
        """The process as an id is made of it."""
        return Origin(self.boot_id(), process.pid, process.start_ticks)

    def _stat(self, pid: int) -> Stat | None:
        return self._files.stat(pid) if pid > 0 else None


def user_name(uid: int) -> str:
    """Name of a user, else the number. May wait for a directory service."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return str(uid)


class Watched(Protocol):
    """Whose processes are watched."""

    def members(self) -> frozenset[Process]:
        """Every process whose end matters."""
        ...

    def process_ended(self, process: Process) -> bool:
        """A process is no more, which may be told twice. Whether a run ended with it."""
        ...


Open = Callable[[int], int]


class Watcher:
    """Tells a book of the ends of its processes: from the start of `run`, in the loop that runs it."""

    def __init__(
        self,
        book: Watched,
        processes: ProcessTable,
        *,
        on_end: Callable[[], object] = lambda: None,
        open_pidfd: Open = os.pidfd_open,
        poll_s: float = POLL_S,
        most_descriptors: int = MOST_DESCRIPTORS,
    ) -> None:
        """`on_end` is called when a run has ended with its last process."""
        self._book = book
        self._processes = processes
        self._on_end = on_end
        self._open = open_pidfd
        self._poll_s = poll_s
        self._most = most_descriptors
        self._lock = Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._descriptors: dict[Process, int] = {}
        self._polled: set[Process] = set()
        self._polls = asyncio.Event()
        """Set while there is anything to look at: else nothing wakes."""
        self._sweep_at = MOST_DESCRIPTORS

    def watch(self, process: Process) -> None:
        """Begin to watch; from any thread. Before `run` there is nothing to do: it begins with all members."""
        with self._lock:
            if self._loop is not None:
                with contextlib.suppress(RuntimeError):  # the loop has been closed
                    self._loop.call_soon_threadsafe(self._arm, process)

    async def run(self) -> None:
        """Watch until cancelled."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
        try:
            for process in self._book.members():
                self._arm(process)
            while True:
                await self._polls.wait()
                await asyncio.sleep(self._poll_s)
                self._look()
        finally:
            with self._lock:
                self._loop = None
            for process in list(self._descriptors):
                self._drop(process)

    def _arm(self, process: Process) -> None:
        if process in self._descriptors or process in self._polled:
            return
        self._sweep()
        descriptor = None
        if len(self._descriptors) < self._most:
            try:
                descriptor = self._open(process.pid)
            except ProcessLookupError:
                self._ended(process)
                return
            except OSError:  # not offered by the kernel (ENOSYS, EPERM by a filter), or too many are open
                descriptor = None
        if not self._processes.alive(process):
            # It ended before, and the descriptor, if any, is that of a later process of its number.
            if descriptor is not None:
                os.close(descriptor)
            self._ended(process)
        elif descriptor is None:
            self._polled.add(process)
            self._polls.set()
        else:
            self._descriptors[process] = descriptor
            asyncio.get_running_loop().add_reader(descriptor, self._readable, process)

    def _readable(self, process: Process) -> None:
        self._drop(process)
        self._ended(process)

    def _look(self) -> None:
        wanted = self._book.members()
        for process in list(self._polled):
            if process not in wanted:
                self._polled.discard(process)
            elif not self._processes.alive(process):
                self._polled.discard(process)
                self._ended(process)
        if not self._polled:
            self._polls.clear()

    def _sweep(self) -> None:
        """Now and then let go of those whose end does not matter any more."""
        if len(self._descriptors) >= min(self._sweep_at, self._most):
            wanted = self._book.members()
            for process in [one for one in self._descriptors if one not in wanted]:
                self._drop(process)
            self._sweep_at = 2 * len(self._descriptors) + 1

    def _drop(self, process: Process) -> None:
        descriptor = self._descriptors.pop(process)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    def _ended(self, process: Process) -> None:
        if self._book.process_ended(process):
            self._on_end()

"""A node that is made: a /proc, a cgroup tree and looks at GPUs as real files, on a clock of our own."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from monitor.core.model import Device, DeviceProcess, Instant, Processes, Run, Usage
from monitor.core.snapshot import RunTotals
from monitor.runs.book import Limits
from monitor.runs.cgroupfs import CgroupFiles
from monitor.runs.discovery import PERIOD_S, Discovery
from monitor.runs.evidence import Evidence
from monitor.runs.identify import Identifier
from monitor.runs.identity import Process
from monitor.runs.procfs import ProcessFiles
from monitor.runs.registry import Registry
from monitor.runs.scan import Scan

ANN, BOB = 1000, 1001
USERS = {ANN: "ann", BOB: "bob"}
CORES = 8
TICKS_PER_S = 100
BOOT_WALL_S = 1.79e9


@dataclass
class Made:
    """A process."""

    pid: int
    ppid: int
    comm: str
    start_ticks: int
    own_ticks: int = 0
    reaped_ticks: int = 0


@dataclass
class MadeNode:
    """The files, the clock, and a daemon's discovery over them."""

    root: Path
    devices: tuple[Device, ...] = ()
    limits: Limits = field(default_factory=Limits)
    at_s: float = 1000.0
    busy_s: float = 1000.0
    processes: dict[int, Made] = field(default_factory=dict)
    groups: dict[str, float] = field(default_factory=dict)
    looks: dict[str, Processes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.root / "proc").mkdir(parents=True)
        (self.root / "cgroup").mkdir()
        (self.root / "proc" / "meminfo").write_text("AnonPages: 1000 kB\nShmem: 0 kB\n")
        self.begin(1, 0, comm="systemd", uid=0, cgroup="/init.scope", start_s=0.0)
        self._write_node()
        self.daemon()

    # -- the machine -------------------------------------------------------------------------------------------------

    def begin(
        self,
        pid: int,
        ppid: int = 1,
        *,
        comm: str = "python",
        uid: int = ANN,
        cgroup: str = "/",
        env: Mapping[str, str] | None = None,
        start_s: float | None = None,
    ) -> Process:
        """A process begins, now unless told."""
        start_ticks = round((self.at_s if start_s is None else start_s) * TICKS_PER_S)
        self.processes[pid] = made = Made(pid, ppid, comm, start_ticks)
        files = self.root / "proc" / str(pid)
        files.mkdir()
        (files / "cgroup").write_text(f"0::{cgroup}\n")
        self._write_image(made, env or {})
        ids = "\t".join([str(uid)] * 4)
        (files / "status").write_text(f"Name:\t{comm}\nUid:\t{ids}\nNSpid:\t{pid}\nCpus_allowed:\tff\n")
        (files / "statm").write_text("100 10 5 0 0 0 0\n")
        self._write(made)
        return Process(pid, start_ticks)

    def execute(self, pid: int, *, comm: str = "python", env: Mapping[str, str] | None = None) -> None:
        """A process becomes another program, as execve(2) has it."""
        made = self.processes[pid]
        made.comm = comm
        self._write_image(made, env or {})
        self._write(made)

    def end(self, pid: int) -> None:
        """A process has gone, its parent has its times, and init its children; the daemon is told, as by a pidfd."""
        made = self.processes.pop(pid)
        above = self.processes[made.ppid]
        above.reaped_ticks += made.own_ticks + made.reaped_ticks
        self._write(above)
        shutil.rmtree(self.root / "proc" / str(pid))
        for child in self.processes.values():
            if child.ppid == pid:
                child.ppid = 1
                self._write(child)
        self.registry.process_ended(Process(pid, made.start_ticks))

    def work(self, used: Mapping[int, float], *, groups: Iterable[str] = (), idle_s: float = PERIOD_S) -> None:
        """Processes use CPU time, all of it in these cgroups, and nobody else uses any; time goes on."""
        for pid, cpu_s in used.items():
            self.processes[pid].own_ticks += round(cpu_s * TICKS_PER_S)
            self._write(self.processes[pid])
        for path in groups:
            self.group(path, self.groups.get(path, 0.0) + sum(used.values()))
        self.busy_s += sum(used.values())
        self.at_s += idle_s
        self._write_node()

    def group(self, path: str, cpu_s: float) -> None:
        """A cgroup has used so much since it was made."""
        self.groups[path] = cpu_s
        directory = self.root / "cgroup" / path.strip("/")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cpu.stat").write_text(f"usage_usec {round(cpu_s * 1e6)}\n")

    def on_gpu(self, *pids: int, device_id: str = "GPU-0") -> None:
        """The driver lists these."""
        there = tuple(DeviceProcess(pid=pid) for pid in pids)
        self.looks[device_id] = Processes(device_id=device_id, at=self.now(), processes=there)

    def _write_image(self, made: Made, env: Mapping[str, str]) -> None:
        files = self.root / "proc" / str(made.pid)
        (files / "environ").write_bytes(b"".join(f"{name}={text}\0".encode() for name, text in env.items()))
        (files / "cmdline").write_bytes(made.comm.encode() + b"\0")

    def _write(self, made: Made) -> None:
        after = [
            made.ppid,
            made.pid,
            made.pid,
            0,
            -1,
            0,
            0,
            0,
            0,
            0,
            made.own_ticks,
            0,
            made.reaped_ticks,
            0,
            20,
            0,
            1,
            0,
        ]
        fields = " ".join(map(str, [*after, made.start_ticks, 0, 0]))
        (self.root / "proc" / str(made.pid) / "stat").write_text(f"{made.pid} ({made.comm}) S {fields}\n")

    def _write_node(self) -> None:
        cores = "".join(f"cpu{number} 0 0 0 0\n" for number in range(CORES))
        idle_ticks = round(self.at_s * CORES * TICKS_PER_S)
        busy_ticks = round(self.busy_s * TICKS_PER_S)
        (self.root / "proc" / "stat").write_text(f"cpu {busy_ticks} 0 0 {idle_ticks} 0 0 0 0 0 0\n{cores}")

    # -- the daemon --------------------------------------------------------------------------------------------------

    def now(self) -> Instant:
        """The time."""
        return Instant(self.at_s, BOOT_WALL_S + self.at_s)

    def alive(self, process: Process) -> bool:
        """Whether the process lives."""
        made = self.processes.get(process.pid)
        return made is not None and made.start_ticks == process.start_ticks

    def daemon(self, kept: Iterable[RunTotals] = (), mark: str = "") -> None:
        """A daemon starts; `kept` and `mark` are what the one before it wrote down."""
        self.registry = Registry(
            now=self.now,
            devices=lambda: self.devices,
            processes=self,
            user_of=lambda uid: USERS.get(uid, str(uid)),
            limits=self.limits,
        )
        if kept:
            self.registry.restore(tuple(kept), at=self.now(), same_boot=True)
        files = ProcessFiles(self.root / "proc", ticks_per_s=TICKS_PER_S)
        identifier = Identifier(self.root / "proc", cluster="c", boot_id="bbbbbbbb")
        self.discovery = Discovery(
            now=self.now,
            registry=self.registry,
            files=files,
            cgroups=CgroupFiles(self.root / "cgroup"),
            evidence=Evidence(self.root / "proc"),
            scan=Scan(identifier, ticks_per_s=TICKS_PER_S),
            looks=lambda: self.looks,
            mark=mark,
        )
        self.registry.runs(self.now())

    def restart(self, usage: Usage) -> None:
        """Another daemon takes over from one whose last usage this was."""
        self.daemon([RunTotals(run=run, energy_j={}, emissions_g={}) for run in self.runs().values()], usage.mark)

    def look(self) -> Usage:
        """Discovery looks round."""
        return self.discovery.read().usages[0]

    def runs(self) -> dict[str, Run]:
        """What is shown."""
        return {run.id: run for run in self.registry.runs(self.now()).runs}

    def live(self) -> set[str]:
        """Ids of the live runs."""
        return set(self.registry.live())


def cpu_s(usage: Usage) -> dict[str, float]:
    """CPU time by run, to the tick."""
    return {use.run_id: round(use.cpu_s, 2) for use in usage.runs}


def listed(device: Device, count: int) -> tuple[Device, ...]:
    """So many GPUs like this one: GPU-0, GPU-1 and so on."""
    return tuple(replace(device, id=f"GPU-{number}", index=str(number)) for number in range(count))

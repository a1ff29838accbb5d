"""Eight GPUs and two sockets as a source without any driver, and the runs on them: cheap enough for a simulated day."""

from monitor.core.model import (
    Component,
    Device,
    DeviceProcess,
    Instant,
    Intensity,
    Processes,
    Reading,
    Readout,
    Run,
    RunUse,
    Telemetry,
    Usage,
)
from monitor.core.ports import Now
from monitor.core.snapshot import Policy, Snapshot
from monitor.grid.static import StaticGrid
from monitor.wiring import LONGEST_WAIT_S
from tests.bench.node import GPUS
from tests.harness.rig import Rig

TELEMETRY_EVERY = 5
ZONES = {
    f"package-{socket}{part}": component
    for socket in range(2)
    for part, component in (("", Component.CPU), ("-dram", Component.DRAM))
}
GPU_IDS = tuple(f"GPU-00000000-0000-4000-8000-{index:012d}" for index in range(GPUS))
GPU_W, ZONE_W = 400.0, 100.0
CORES, BUSY_RATIO, MEMORY_BYTES = 64, 0.5, 2**38
FIRST_PID = 1000


class Steady:
    """Every device draws a steady power, by its counter; each run has a process, which works as much as the others'."""

    name = "steady"
    period_s = 1.0

    def __init__(self, now: Now, runs: int) -> None:
        self._now = now
        self._owners = {FIRST_PID + number: run_id(number) for number in range(runs)}
        self._told_at: Instant | None = None
        self._reads = 0
        gpus = [self._device(gpu_id, Component.GPU, str(index)) for index, gpu_id in enumerate(GPU_IDS)]
        self._devices = [*gpus, *(self._device(zone, component) for zone, component in ZONES.items())]

    def open(self) -> None:
        """Nothing to open."""

    def read(self) -> Readout:
        """One reading a device; telemetry and processes of GPUs, and what the runs used, at each fifth."""
        self._reads += 1
        at, told = self._now(), self._reads % TELEMETRY_EVERY == 1
        return Readout(
            readings=tuple(self._reading(device, at, told=told) for device in self._devices),
            processes=tuple(self._look(index, at) for index in range(GPUS)) if told else (),
            usages=(self._usage(at),) if told else (),
        )

    def close(self) -> None:
        """Nothing to close."""

    def _reading(self, device: Device, at: Instant, *, told: bool) -> Reading:
        if device.component is not Component.GPU:
            return Reading(device=device, at=at, energy_j=ZONE_W * at.mono_s)
        telemetry = Telemetry(
            power_limit_w=700.0, utilization_ratio=0.9, memory_used_bytes=2**36, temperature_c=40.0 + self._reads % 30
        )
        energy_j = GPU_W * at.mono_s
        return Reading(device=device, at=at, energy_j=energy_j, power_w=GPU_W, telemetry=telemetry if told else None)

    def _look(self, gpu: int, at: Instant) -> Processes:
        pids = [pid for number, pid in enumerate(self._owners) if number % GPUS == gpu]
        there = (DeviceProcess(pid=pid, memory_bytes=2**36, sm_utilization_ratio=0.9 / len(pids)) for pid in pids)
        return Processes(device_id=GPU_IDS[gpu], at=at, processes=tuple(there))

    def _usage(self, at: Instant) -> Usage:
        start, self._told_at = self._told_at or at, at
        capacity_s = CORES * (at.mono_s - start.mono_s)
        each = 1 / (1 + len(self._owners))
        uses = (
            RunUse(run_id, each * BUSY_RATIO * capacity_s, int(each * MEMORY_BYTES), None)
            for run_id in self._owners.values()
        )
        return Usage(
            start=start,
            end=at,
            cpu_s=BUSY_RATIO * capacity_s,
            cpu_capacity_s=capacity_s,
            memory_bytes=MEMORY_BYTES,
            runs=tuple(uses),
            owners=dict(self._owners),
        )

    def _device(self, device_id: str, component: Component, index: str = "") -> Device:
        return Device(
            id=device_id,
            component=component,
            source=self.name,
            model="NVIDIA H100",
            index=index,
            max_power_w=1000.0,
            lists_processes=component is Component.GPU,
        )


def run_id(number: int) -> str:
    """Id of one of the runs."""
    return f"run-{number}"


class SteadyRig(Rig):
    """A node of such devices in virtual time, with a price in grams, and so many runs, which share GPUs if need be."""

    def __init__(self, runs: int) -> None:
        policy = Policy(zone="DE", owner_wait_s=LONGEST_WAIT_S, usage_wait_s=LONGEST_WAIT_S)
        first = Snapshot(ledger_id="rig", policy=policy)
        super().__init__(sources=[Steady(self.now, runs)], first=first)
        self._prices = StaticGrid("DE")
        start = self.now()
        self.book = [
            Run(
                id=run_id(number),
                name=f"experiment-{number}",
                start=start,
                holds=frozenset({GPU_IDS[number % GPUS]}),
                user="ada",
                project="language",
                launcher="slurm",
                job_id=str(4000 + number),
            )
            for number in range(runs)
        ]

    def intensities(self, at: Instant) -> tuple[Intensity, ...]:
        """The yearly value."""
        return self._prices.intensities(at)

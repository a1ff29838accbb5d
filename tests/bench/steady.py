"""Eight GPUs and two sockets as a source without any driver: cheap enough for a day of simulated time."""

from dataclasses import replace

from monitor.core.model import Component, Device, Instant, Intensity, Reading, Readout, Run, Telemetry
from monitor.core.ports import Now
from monitor.grid.static import StaticGrid
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


class Steady:
    """Every device draws a steady power, by its counter."""

    name = "steady"
    period_s = 1.0

    def __init__(self, now: Now) -> None:
        self._now = now
        self._reads = 0
        gpus = [self._device(gpu_id, Component.GPU, str(index)) for index, gpu_id in enumerate(GPU_IDS)]
        self._devices = [*gpus, *(self._device(zone, component) for zone, component in ZONES.items())]

    def open(self) -> None:
        """Nothing to open."""

    def read(self) -> Readout:
        """One reading a device; telemetry of GPUs at each fifth."""
        self._reads += 1
        at, told = self._now(), self._reads % TELEMETRY_EVERY == 1
        return Readout(readings=tuple(self._reading(device, at, told=told) for device in self._devices))

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

    def _device(self, device_id: str, component: Component, index: str = "") -> Device:
        return Device(
            id=device_id, component=component, source=self.name, model="NVIDIA H100", index=index, max_power_w=1000.0
        )


class SteadyRig(Rig):
    """A node of such devices in virtual time, with a price in grams, and so many runs that share it."""

    def __init__(self, runs: int) -> None:
        super().__init__(sources=[Steady(self.now)])
        self._prices = StaticGrid("DE")
        policy = replace(self.loop.snapshot.policy, zone="DE")
        self.loop.snapshot = replace(self.loop.snapshot, policy=policy)
        start = self.now()
        self.book = [
            Run(
                id=f"run-{number}",
                name=f"experiment-{number}",
                start=start,
                holds=frozenset({GPU_IDS[number % GPUS], *ZONES}),
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

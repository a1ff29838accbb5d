"""A kernel with a power PMU: its sysfs files, and events whose counts follow a clock."""

import contextlib
import errno
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from monitor.sources.perf import Perf

SCALE = 2.3283064365386962890625e-10
LEVEL_W = {2: 150.0, 3: 30.0}
"""By config: package, DRAM; a second place draws 10 W more than the first, and so on."""


def power_pmu(
    sysfs: Path, places: Sequence[tuple[int, int, int]] = ((0, 0, 0), (36, 1, 0)), *, dram: bool = True
) -> Path:
    """The PMU's files; a place is (cpu, package, die)."""
    pmu = sysfs / "bus" / "event_source" / "devices" / "power"
    (pmu / "events").mkdir(parents=True)
    (pmu / "type").write_text("23\n")
    (pmu / "cpumask").write_text(",".join(str(cpu) for cpu, _, _ in places) + "\n")
    for name, code in {"energy-pkg": 2, **({"energy-ram": 3} if dram else {}), "energy-cores": 1}.items():
        (pmu / "events" / name).write_text(f"event=0x{code:02x}\n")
        (pmu / "events" / f"{name}.scale").write_text("2.3283064365386962890625e-10\n")
        (pmu / "events" / f"{name}.unit").write_text("Joules\n")
    for cpu, package, die in places:
        topology = sysfs / "devices" / "system" / "cpu" / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{package}\n")
        (topology / "die_id").write_text(f"{die}\n")
    return sysfs


@dataclass
class Opened:
    """One event: a pipe, which has no position either. The count of the moment is ready in it several times."""

    pmu_type: int
    config: int
    cpu: int
    since_s: float
    tail: int
    head: int

    def show(self, at_s: float) -> None:
        """Let the next reads find the count of this moment."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.tail, 4096)
        joules = (at_s - self.since_s) * (LEVEL_W[self.config] + self.cpu)
        os.write(self.head, struct.pack("=Q", int(joules / SCALE)) * 8)

    def end(self) -> None:
        """Let the next reads be empty."""
        os.read(self.tail, 4096)
        os.close(self.head)
        self.head = -1


class Kernel:
    """Opens events whose counts begin at 0 and follow the virtual clock."""

    def __init__(self) -> None:
        self.opened: list[Opened] = []
        self.refuse: dict[int, int] = {}
        """cpu -> errno with which it is refused."""
        self.readers: list[Perf] = []
        self._at_s = 1000.0

    def open_event(self, pmu_type: int, config: int, cpu: int) -> int:
        """A descriptor."""
        if cpu in self.refuse:
            raise OSError(self.refuse[cpu], os.strerror(self.refuse[cpu]))
        tail, head = os.pipe()
        os.set_blocking(tail, False)
        event = Opened(pmu_type, config, cpu, self._at_s, os.dup(tail), head)
        event.show(self._at_s)
        self.opened.append(event)
        return tail

    def update(self, at_s: float) -> None:
        """Show the counts of this moment."""
        self._at_s = at_s
        for event in self.opened:
            if event.head >= 0:
                event.show(at_s)

    def offline(self, cpu: int) -> None:
        """Let the events of a CPU end."""
        for event in self.opened:
            if event.cpu == cpu and event.head >= 0:
                event.end()
        self.refuse[cpu] = errno.ENODEV

    def shut(self) -> None:
        """Give every descriptor back."""
        for reader in self.readers:
            reader.close()
        for event in self.opened:
            os.close(event.tail)
            if event.head >= 0:
                os.close(event.head)

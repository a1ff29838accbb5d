"""The same RAPL counters through the kernel's `power` PMU (perf_event_open(2)), for who may not read powercap.

The kernel accumulates them in 64 bits, so they never wrap; they start at 0 whenever they are opened.
"""

import ctypes
import os
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from monitor.core.model import Component, Device, Instant, ReadFailure, Reading, Readout
from monitor.core.ports import Now
from monitor.errors import SourceAbsent, SourceBroken, SourceDenied
from monitor.sources.rapl import DEFAULT_MAX_POWER_W, MIRRORING_VENDORS, cpu_vendor

EVENTS = {"energy-pkg": (Component.CPU, ""), "energy-ram": (Component.DRAM, "-dram")}
SYSTEM_CALL = {"x86_64": 298, "aarch64": 241}
"""Number of perf_event_open (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h)."""
ATTRIBUTES = struct.Struct("=IIQQQQQIIQ")
"""perf_event_attr as of PERF_ATTR_SIZE_VER0: type, size, config, then what only sampling needs, and flags."""
ALL_PROCESSES = -1
NO_GROUP = -1
PERF_FLAG_FD_CLOEXEC = 8
COUNT = struct.Struct("=Q")
HANDOVER_S = 0.05
"""A counter that was shut no longer than this goes on where it stood: what is missed is within its own refresh."""
RETRY_S = 10.0
"""How often a counter that has failed is opened anew."""

OpenEvent = Callable[[int, int, int], int]
"""(PMU type, config, cpu) -> file descriptor. Raises OSError."""

DENIED = (
    "the kernel does not open power/{event}/ for us; give the service AmbientCapabilities=CAP_PERFMON, or set "
    "kernel.perf_event_paranoid to 0 or below, or run as root (a container needs the capability and a seccomp "
    "profile that allows perf_event_open)"
)


def open_event(pmu_type: int, config: int, cpu: int) -> int:
    """Open one CPU-wide counter, of all processes, and return its descriptor. Raises OSError, or SourceAbsent."""
    number = SYSTEM_CALL.get(os.uname().machine)
    if number is None:
        raise SourceAbsent(f"perf_event_open is not known for {os.uname().machine}")
    attributes = ATTRIBUTES.pack(pmu_type, ATTRIBUTES.size, config, 0, 0, 0, 0, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ALL_PROCESSES, cpu, NO_GROUP, PERF_FLAG_FD_CLOEXEC)
    descriptor = libc.syscall(ctypes.c_long(number), attributes, *map(ctypes.c_long, arguments))
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(descriptor)


def read_count(descriptor: int) -> int:
    """The count of an event. Raises OSError; also for the empty read of an event whose CPU has gone."""
    data = os.read(descriptor, COUNT.size)
    if len(data) != COUNT.size:
        raise OSError(f"a count of {len(data)} bytes")
    return int(COUNT.unpack(data)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One counter to open: which, where, and what one count is worth."""

    device: Device
    name: str
    pmu_type: int
    config: int
    cpu: int
    joules_per_count: float


@dataclass(slots=True)
class _Counter:
    """An event at work. `base_j` stood on it when it was opened; without descriptor it is tried again at `retry_s`."""

    event: Event
    descriptor: int | None
    base_j: float = 0.0
    retry_s: float = 0.0


class Perf:
    """Packages and DRAM of the `power` PMU under one sysfs root."""

    name = "perf"

    def __init__(
        self,
        sysfs: Path,
        *,
        now: Now,
        interval_s: float,
        procfs: Path = Path("/proc"),
        open_event: OpenEvent = open_event,
    ) -> None:
        self.period_s = interval_s
        self._sysfs = sysfs
        self._procfs = procfs
        self._now = now
        self._open_event = open_event
        self._counters: list[_Counter] = []
        self._shut: dict[str, tuple[Instant, float | None]] = {}

    def open(self) -> None:
        """Open a counter for each event and package.

        Raises SourceAbsent where there is no such PMU, SourceDenied where none may be opened, SourceBroken else.
        """
        events = find_events(self._sysfs, mirrored=cpu_vendor(self._procfs) in MIRRORING_VENDORS)
        errors: list[OSError] = []
        for event in events:
            try:
                descriptor = self._open_event(event.pmu_type, event.config, event.cpu)
            except OSError as error:
                errors.append(error)
                self._counters.append(_Counter(event, None, retry_s=self._now().mono_s + RETRY_S))
            else:
                self._counters.append(_Counter(event, descriptor, self._carried_j(event)))
        if len(errors) == len(events):
            self.close()
            if any(isinstance(error, PermissionError) for error in errors):
                raise SourceDenied(DENIED.format(event=events[0].name))
            raise SourceBroken(f"power/{events[0].name}/ cannot be opened: {errors[0]}")

    def read(self) -> Readout:
        """Read every counter once. Raises SourceBroken when not one of them answers."""
        readings: list[Reading] = []
        failures: list[ReadFailure] = []
        for counter in self._counters:
            if counter.descriptor is None:
                self._try_again(counter)
            if counter.descriptor is None:
                failures.append(self._failure(counter.event, "cannot be opened"))
                continue
            try:
                count = read_count(counter.descriptor)
                at = self._now()
            except OSError as error:
                self._drop(counter, at := self._now())
                failures.append(self._failure(counter.event, str(error)))
                continue
            failures.extend(self._restarted(counter.event.device))
            energy_j = counter.base_j + count * counter.event.joules_per_count
            readings.append(Reading(device=counter.event.device, at=at, energy_j=energy_j))
        if not readings:
            raise SourceBroken(failures[0].message if failures else "no power event is open")
        return Readout(readings=tuple(readings), failures=tuple(failures))

    def close(self) -> None:
        """Give every descriptor back, and remember what stood on them."""
        for counter in self._counters:
            if counter.descriptor is not None:
                stood_j: float | None = None
                with suppress(OSError):
                    stood_j = counter.base_j + read_count(counter.descriptor) * counter.event.joules_per_count
                self._drop(counter, self._now(), stood_j)
        self._counters = []

    def _drop(self, counter: _Counter, at: Instant, stood_j: float | None = None) -> None:
        if counter.descriptor is not None:
            with suppress(OSError):
                os.close(counter.descriptor)
        counter.descriptor = None
        counter.retry_s = at.mono_s + RETRY_S
        self._shut[counter.event.device.id] = (at, stood_j)

    def _try_again(self, counter: _Counter) -> None:
        if self._now().mono_s < counter.retry_s:
            return
        event = counter.event
        try:
            counter.descriptor = self._open_event(event.pmu_type, event.config, event.cpu)
            counter.base_j = 0.0
        except OSError:
            counter.retry_s = self._now().mono_s + RETRY_S

    def _carried_j(self, event: Event) -> float:
        """Where a counter goes on that was shut for a moment only; 0 for any other."""
        shut = self._shut.get(event.device.id)
        if shut is None or shut[1] is None or self._now().mono_s - shut[0].mono_s > HANDOVER_S:
            return 0.0
        del self._shut[event.device.id]
        return shut[1]

    def _restarted(self, device: Device) -> list[ReadFailure]:
        """A counter that begins at 0 again tells nothing of the time since it was shut."""
        shut = self._shut.pop(device.id, None)
        if shut is None:
            return []
        message = f"{device.id}: its perf counter was opened anew and begins at 0; the time between is unmeasured"
        return [ReadFailure(device_id=device.id, at=shut[0], reason="restarted", message=message, baseline_lost=True)]

    def _failure(self, event: Event, what: str) -> ReadFailure:
        message = f"power/{event.name}/ on CPU {event.cpu}: {what}"
        return ReadFailure(
            device_id=event.device.id, at=self._now(), reason="read", message=message, baseline_lost=True
        )


def find_events(sysfs: Path, *, mirrored: bool) -> list[Event]:
    """The energy events of each package or die. `mirrored` takes one of each package.

    Raises SourceAbsent where there is no power PMU, SourceBroken where its files make no sense.
    """
    pmu = sysfs / "bus" / "event_source" / "devices" / "power"
    try:
        pmu_type = int((pmu / "type").read_text("ascii"))
        cpus = parse_cpus((pmu / "cpumask").read_text("ascii"))
    except FileNotFoundError:
        raise SourceAbsent(f"no power PMU under {pmu}: this kernel offers no perf counter of CPU energy") from None
    except (OSError, ValueError) as error:
        raise SourceBroken(f"{pmu}: {error}") from error
    packages = name_packages(sysfs, cpus, mirrored=mirrored)
    events = []
    for name, (component, suffix) in EVENTS.items():
        file = pmu / "events" / name
        if not file.exists():
            continue
        try:
            config = parse_config(file.read_text("ascii"))
            scale = float(file.with_name(f"{name}.scale").read_text("ascii"))
            unit = file.with_name(f"{name}.unit").read_text("ascii").strip()
        except (OSError, ValueError) as error:
            raise SourceBroken(f"{file}: {error}") from error
        if unit != "Joules" or not 0.0 < scale < 1.0:
            raise SourceBroken(f"{file}: one count is said to be {scale} {unit}")
        for package, cpu in packages.items():
            device = Device(
                id=package + suffix,
                component=component,
                source=Perf.name,
                index=f"cpu{cpu}",
                max_power_w=DEFAULT_MAX_POWER_W[component],
            )
            event = Event(device=device, name=name, pmu_type=pmu_type, config=config, cpu=cpu, joules_per_count=scale)
            events.append(event)
    if not any(event.device.component is Component.CPU for event in events):
        raise SourceAbsent(f"{pmu} has no energy-pkg event")
    return events


def name_packages(sysfs: Path, cpus: list[int], *, mirrored: bool) -> dict[str, int]:
    """Names as powercap gives them -> one CPU of each: package-0, or package-0-die-1 where packages have dies."""
    places = {cpu: (_topology(sysfs, cpu, "physical_package_id"), _topology(sysfs, cpu, "die_id")) for cpu in cpus}
    packages = [package for package, _die in places.values()]
    dies = not mirrored and any(packages.count(package) > 1 for package in packages if package is not None)
    names: dict[str, int] = {}
    for cpu, (package, die) in places.items():
        if package is None:
            name = f"package-of-cpu-{cpu}"
        else:
            name = f"package-{package}" + (f"-die-{die}" if dies and die is not None else "")
        names.setdefault(name, cpu)
    return names


def parse_cpus(text: str) -> list[int]:
    """CPU numbers of a list such as `0,36` or `0-3,8` (Documentation/admin-guide/cputopology.rst)."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _dash, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def parse_config(text: str) -> int:
    """The code of an event file such as `event=0x02`. Raises ValueError for anything else."""
    match = re.fullmatch(r"event=(0x[0-9a-fA-F]+|\d+)\n?", text)
    if match is None:
        raise ValueError(f"not an event: {text[:40]!r}")
    return int(match[1], 0)


def _topology(sysfs: Path, cpu: int, name: str) -> int | None:
    """A number of the CPU's topology; None where the kernel does not know it (it then says -1)."""
    try:
        number = int((sysfs / "devices" / "system" / "cpu" / f"cpu{cpu}" / "topology" / name).read_text("ascii"))
    except (OSError, ValueError):
        return None
    return number if number >= 0 else None

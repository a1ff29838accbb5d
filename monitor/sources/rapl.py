"""CPU and DRAM energy from the kernel's powercap tree (linux Documentation/power/powercap/powercap.rst).

Only top-level `package-*` zones of `intel-rapl:N` and their `dram` children are parts of a sum. `core` and `uncore`
lie within the package, `intel-rapl-mmio` is the same register a second time: neither is shown. `psys` lies around
the package: it is shown as an overlap.
"""

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from monitor.core.model import NODE, Component, Device, ReadFailure, Reading, Readout
from monitor.core.ports import Now
from monitor.core.units import JOULES_PER_MICROJOULE, WATTS_PER_MICROWATT
from monitor.errors import SourceAbsent, SourceBroken, SourceDenied, SourceError

TOP_ZONE = re.compile(r"intel-rapl:(\d+)")
PACKAGE = re.compile(r"package-(\d+)(-die-\d+)?")
PLATFORM = re.compile(r"psys(-\d+)?")
MIRRORING_VENDORS = frozenset({"AuthenticAMD", "HygonGenuine"})
"""Their dies all show the one counter of the package (kernels 6.9 to 6.11); on Intel each die has its own."""
REGISTER = "msr"
"""The counters are registers of the CPU: they go on until the next boot, whatever is loaded or unloaded."""
DEFAULT_MAX_POWER_W = {Component.CPU: 1000.0, Component.DRAM: 500.0, Component.PLATFORM: 20_000.0}
"""Where the kernel states no limit: above any socket, memory of one socket or node that is sold."""
HIGHEST_STATED_W = 5000.0
"""Some firmware states nonsense; a bound beyond this bounds nothing."""
LOWEST_BOUND_W = 100.0
"""Some states too little; a bound below the true draw would lose all of it."""
BURST_RATIO = 1.5
"""Short bursts exceed the stated limit."""
LONGEST_VALUE_BYTES = 64
"""A 64-bit number has 20 digits; more is no value, and is told as such."""
LOOK_AGAIN_S = 10.0
"""How often a zone that has vanished is looked for."""
LOOK_ROUND_S = 60.0
"""How often new zones, and limits that somebody has changed, are looked for."""
GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO})

DENIED = (
    "the counters under {root} may be read by root only; give the service "
    "AmbientCapabilities=CAP_DAC_READ_SEARCH, or let a udev rule make energy_uj readable for its group, or run as "
    "root (in a container: as root, or with a bind mount of group-readable files)"
)
MASKED = (
    "{root} names RAPL zones that lead nowhere, as in a container that hides them; bind-mount the host's /sys and "
    "name it with --sysfs"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """One counter of the tree."""

    path: Path
    counter: str
    """Its file, as text: a Path is put together anew at each use."""
    device: Device
    wraps_at_j: float | None
    """None where the kernel does not say: a fall is then a reset."""


class Rapl:
    """Packages, DRAM and platform under one sysfs root; `procfs` tells whose CPU it is."""

    name = "rapl"

    def __init__(self, sysfs: Path, *, now: Now, interval_s: float, procfs: Path = Path("/proc")) -> None:
        self.period_s = interval_s
        self._root = sysfs / "class" / "powercap"
        self._procfs = procfs
        self._now = now
        self._zones: list[Zone] = []
        self._ids: dict[tuple[str, str], str] = {}
        self._gone: dict[str, str] = {}
        self._looked_s = 0.0

    def open(self) -> None:
        """Find the zones and try them.

        Raises SourceAbsent where there is no powercap tree, SourceDenied where no counter may be read, SourceBroken
        where none gives a number.
        """
        self._gone = {}
        self._zones = self._find()
        self._looked_s = self._now().mono_s
        if not self._zones:
            raise self._nothing_found()
        # The platform alone is no reason to be content: another source may tell the parts.
        parts = [zone for zone in self._zones if zone.device.is_part] or self._zones
        errors = [error for zone in parts if (error := self._trouble(zone)) is not None]
        if len(errors) == len(parts):
            raise next((error for error in errors if isinstance(error, SourceDenied)), errors[0])

    def read(self) -> Readout:
        """Read every zone once. Raises SourceDenied or SourceBroken when not one of them answers any more."""
        self._look_around()
        readings: list[Reading] = []
        failures = [self._failure(device_id, "gone", text) for device_id, text in self._gone.items()]
        away = len(failures)
        for zone in tuple(self._zones):
            try:
                energy_j = read_microjoules(zone.counter)
                at = self._now()
            except PermissionError:
                failures.append(self._failure(zone.device.id, "denied", DENIED.format(root=self._root)))
            except OSError as error:
                if error.errno in GONE:
                    self._lose(zone)
                failures.append(self._failure(zone.device.id, "gone" if error.errno in GONE else "read", str(error)))
            except ValueError as error:
                failures.append(self._failure(zone.device.id, "read", str(error)))
            else:
                readings.append(Reading(device=zone.device, at=at, energy_j=energy_j, wraps_at_j=zone.wraps_at_j))
        # What has just vanished is told, so that its baseline goes, before the source as a whole is given up.
        told = any(failure.baseline_lost for failure in failures[away:])
        if not readings and not told:
            self._give_up(failures)
        return Readout(readings=tuple(readings), failures=tuple(failures))

    def close(self) -> None:
        """Nothing is held open."""

    def _find(self) -> list[Zone]:
        return find_zones(self._root, mirrored=cpu_vendor(self._procfs) in MIRRORING_VENDORS, known=self._ids)

    def _nothing_found(self) -> SourceError:
        if any(not top.is_dir() for top in _tops(self._root)):
            return SourceDenied(MASKED.format(root=self._root))
        return SourceAbsent(f"no RAPL package under {self._root}: no energy sensor of the CPU here")

    def _trouble(self, zone: Zone) -> SourceError | None:
        try:
            read_microjoules(zone.counter)
        except PermissionError:
            return SourceDenied(DENIED.format(root=self._root))
        except (OSError, ValueError) as error:
            return SourceBroken(str(error))
        return None

    def _look_around(self) -> None:
        """Find what has come, or come back, since the last look."""
        at_s = self._now().mono_s
        if at_s - self._looked_s < (LOOK_AGAIN_S if self._gone else LOOK_ROUND_S):
            return
        self._looked_s = at_s
        found = self._find()
        ids = {zone.device.id for zone in found}
        # A zone that this look has missed is left to its next read, which says what is wrong with it.
        self._zones = found + [zone for zone in self._zones if zone.device.id not in ids]
        self._gone = {device_id: text for device_id, text in self._gone.items() if device_id not in ids}

    def _lose(self, zone: Zone) -> None:
        self._zones.remove(zone)
        self._gone[zone.device.id] = f"{zone.path} has vanished; it is looked for every {LOOK_AGAIN_S:g} s"

    def _failure(self, device_id: str, reason: str, message: str) -> ReadFailure:
        message = self._gone.get(device_id, message)
        lost = reason == "gone"
        return ReadFailure(device_id=device_id, at=self._now(), reason=reason, message=message, baseline_lost=lost)

    def _give_up(self, failures: list[ReadFailure]) -> NoReturn:
        denied = next((failure for failure in failures if failure.reason == "denied"), None)
        if denied is not None:
            raise SourceDenied(denied.message)
        raise SourceBroken(failures[0].message if failures else f"{self._root} has lost its zones")


def find_zones(root: Path, *, mirrored: bool, known: dict[tuple[str, str], str]) -> list[Zone]:
    """Packages, their DRAM and the platform, by path and parent: names repeat from socket to socket.

    `mirrored` takes one zone per package id. `known` remembers (name, directory) -> device id from look to look, so
    that two zones of one name stay apart when one of them is away; it is added to.
    """
    zones: list[Zone] = []
    packages: set[str] = set()
    named = [(top, _name(top)) for top in _tops(root)]
    for top, name in named:
        match = PACKAGE.fullmatch(name)
        if match is None:
            continue
        package = name
        if mirrored:
            package = f"package-{match[1]}"
            if package in packages:
                continue
        packages.add(package)
        device_id = package if mirrored else _device_id(package, top, [path for path, n in named if n == name], known)
        zones.append(_zone(top, Component.CPU, device_id))
        drams = [child for child in sorted(top.glob(f"{top.name}:*")) if _name(child) == "dram"]
        zones.extend(
            _zone(child, Component.DRAM, _device_id(f"{device_id}-dram", child, drams, known)) for child in drams
        )
    for top, name in named:
        if PLATFORM.fullmatch(name):
            device_id = _device_id(name, top, [path for path, n in named if n == name], known)
            zones.append(_zone(top, Component.PLATFORM, device_id, within=NODE))
    return zones


def read_microjoules(path: Path | str) -> float:
    """Joules of one sysfs file. Raises OSError, or ValueError that names the file."""
    # A whole text layer for twelve digits costs more than the rest of the reading.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(descriptor, LONGEST_VALUE_BYTES)
    finally:
        os.close(descriptor)
    try:
        return parse_energy_uj(text.decode("ascii"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_energy_uj(text: str) -> float:
    """Joules of an `energy_uj` file. Raises ValueError for anything but one whole line with a whole number.

    The kernel ends every value with a newline (drivers/powercap/powercap_sys.c): without it, digits are missing.
    """
    digits = text.removesuffix("\n")
    if digits == text or not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"not a counter: {text[:40]!r}")
    return int(digits) * JOULES_PER_MICROJOULE


def cpu_vendor(procfs: Path) -> str:
    """`vendor_id` of /proc/cpuinfo, such as GenuineIntel; "" where it is not said."""
    try:
        with (procfs / "cpuinfo").open(encoding="ascii", errors="replace") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")
    except OSError:
        return ""


def _tops(root: Path) -> list[Path]:
    try:
        found = [(int(match[1]), path) for path in root.iterdir() if (match := TOP_ZONE.fullmatch(path.name))]
    except OSError:
        return []
    return [path for _number, path in sorted(found)]


def _device_id(name: str, path: Path, namesakes: list[Path], known: dict[tuple[str, str], str]) -> str:
    """The name, as long as it is the only one of it; else with the directory. What it once was, it stays."""
    key = (name, path.name)
    if key not in known:
        taken = {known.get((name, other.name)) for other in namesakes}
        known[key] = f"{name}@{path.name}" if name in taken else name
    return known[key]


def _zone(path: Path, component: Component, device_id: str, *, within: str = "") -> Zone:
    device = Device(
        id=device_id,
        component=component,
        source=Rapl.name,
        index=path.name.partition(":")[2],
        max_power_w=_max_power_w(path) or DEFAULT_MAX_POWER_W[component],
        counter_epoch=REGISTER,
        within=within,
    )
    return Zone(path=path, counter=os.fspath(path / "energy_uj"), device=device, wraps_at_j=_wraps_at_j(path))


def _name(path: Path) -> str:
    try:
        return (path / "name").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _wraps_at_j(path: Path) -> float | None:
    try:
        return read_microjoules(path / "max_energy_range_uj") or None
    except (OSError, ValueError):
        return None


def _max_power_w(path: Path) -> float | None:
    stated_w: list[float] = []
    for file in [*path.glob("constraint_*_max_power_uw"), *path.glob("constraint_*_power_limit_uw")]:
        try:
            stated_w.append(int(file.read_text("ascii")) * WATTS_PER_MICROWATT)
        except (OSError, ValueError):
            continue
    plausible_w = [watts for watts in stated_w if 1.0 < watts <= HIGHEST_STATED_W]
    return max(LOWEST_BOUND_W, BURST_RATIO * max(plausible_w)) if plausible_w else None

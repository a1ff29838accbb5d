"""CPU and DRAM energy from the kernel's powercap tree (linux Documentation/power/powercap/powercap.rst).

Only top-level `package-*` zones of `intel-rapl:N` and their `dram` children are parts of a sum. `core` and `uncore`
lie within the package, `psys` around it, `intel-rapl-mmio` is the same register a second time.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from monitor.core.model import Component, Device, ReadFailure, Reading, Readout
from monitor.core.ports import Now
from monitor.core.units import JOULES_PER_MICROJOULE, WATTS_PER_MICROWATT
from monitor.errors import SourceAbsent, SourceBroken, SourceDenied

TOP_ZONE = re.compile(r"intel-rapl:\d+")
DEFAULT_MAX_POWER_W = {Component.CPU: 1000.0, Component.DRAM: 500.0}
"""Where the kernel states no limit: above any socket or memory of one socket that is sold."""
HIGHEST_STATED_W = 5000.0
"""Some firmware states nonsense; a bound beyond this bounds nothing."""
BURST_RATIO = 1.5
"""Short bursts exceed the stated limit."""

DENIED = (
    "{path} may be read by root only; grant it with AmbientCapabilities=CAP_DAC_READ_SEARCH in the service unit, "
    "or with a udev rule that gives a group read access to energy_uj, or run as root"
)


@dataclass(frozen=True, slots=True)
class Zone:
    """One counter of the tree."""

    path: Path
    device: Device
    wraps_at_j: float | None


class Rapl:
    """Packages and DRAM under one sysfs root."""

    name = "rapl"

    def __init__(self, sysfs: Path, *, now: Now, interval_s: float) -> None:
        self.period_s = interval_s
        self._root = sysfs / "class" / "powercap"
        self._now = now
        self._zones: list[Zone] = []

    def open(self) -> None:
        """Find the zones.

        Raises SourceAbsent where there is no powercap tree, SourceDenied where no counter may be read.
        """
        zones = find_zones(self._root)
        if not zones:
            raise SourceAbsent(f"no RAPL package under {self._root}: no energy sensor of the CPU here")
        if not any(_readable(zone.path) for zone in zones):
            raise SourceDenied(DENIED.format(path=zones[0].path / "energy_uj"))
        self._zones = zones

    def read(self) -> Readout:
        """Read every zone once. Raises SourceBroken when not one of them answers."""
        readings: list[Reading] = []
        failures: list[ReadFailure] = []
        for zone in self._zones:
            try:
                energy_j = parse_energy_uj((zone.path / "energy_uj").read_text("ascii"))
                at = self._now()
            except PermissionError:
                message = DENIED.format(path=zone.path / "energy_uj")
                failures.append(self._failure(zone, "denied", message))
            except (OSError, ValueError) as error:
                failures.append(self._failure(zone, "read", f"{zone.path / 'energy_uj'}: {error}"))
            else:
                readings.append(Reading(device=zone.device, at=at, energy_j=energy_j, wraps_at_j=zone.wraps_at_j))
        if failures and not readings:
            error_class = SourceDenied if failures[0].reason == "denied" else SourceBroken
            raise error_class(failures[0].message)
        return Readout(readings=tuple(readings), failures=tuple(failures))

    def close(self) -> None:
        """Nothing is held open."""

    def _failure(self, zone: Zone, reason: str, message: str) -> ReadFailure:
        return ReadFailure(device_id=zone.device.id, at=self._now(), reason=reason, message=message)


def find_zones(root: Path) -> list[Zone]:
    """Top-level packages and their DRAM, by path and parent: names repeat from socket to socket."""
    zones: list[Zone] = []
    try:
        tops = sorted(path for path in root.iterdir() if TOP_ZONE.fullmatch(path.name))
    except OSError:
        return []
    for top in tops:
        package = _name(top)
        if not package.startswith("package-"):
            continue
        zones.append(_zone(top, Component.CPU, package))
        children = sorted(path for path in top.glob(f"{top.name}:*") if _name(path) == "dram")
        zones.extend(_zone(child, Component.DRAM, f"{package}-dram") for child in children)
    return zones


def _zone(path: Path, component: Component, device_id: str) -> Zone:
    device = Device(
        id=device_id,
        component=component,
        source=Rapl.name,
        index=path.name.partition(":")[2],
        max_power_w=_max_power_w(path) or DEFAULT_MAX_POWER_W[component],
    )
    return Zone(path=path, device=device, wraps_at_j=_wraps_at_j(path))


def parse_energy_uj(text: str) -> float:
    """Joules of an `energy_uj` file. Raises ValueError for anything but one non-negative whole number."""
    text = text.strip()
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"not a counter: {text[:40]!r}")
    return int(text) * JOULES_PER_MICROJOULE


def _name(path: Path) -> str:
    try:
        return (path / "name").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _wraps_at_j(path: Path) -> float | None:
    try:
        return parse_energy_uj((path / "max_energy_range_uj").read_text("ascii")) or None
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
    return BURST_RATIO * max(plausible_w) if plausible_w else None


def _readable(path: Path) -> bool:
    try:
        (path / "energy_uj").read_text("ascii")
    except PermissionError:
        return False
    except (OSError, ValueError):
        return True
    return True

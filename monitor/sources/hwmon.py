"""Power and energy sensors of /sys/class/hwmon whose scope is known (linux Documentation/hwmon/sysfs-interface.rst).

NVIDIA Grace and ACPI power meters (acpi_power_meter.rst) tell an average power, `amd_energy` a counter. A sensor
whose scope nobody knows is never used: `seen_not_used` lists it, for `trainwatt check`.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from monitor.core.model import NODE, Component, Device, PowerSignal, ReadFailure, Reading, Readout
from monitor.core.ports import Now
from monitor.core.units import JOULES_PER_MICROJOULE, WATTS_PER_MICROWATT
from monitor.errors import SourceAbsent, SourceBroken, SourceDenied
from monitor.sources.rapl import GONE, LOOK_AGAIN_S, LOOK_ROUND_S

INTEGRATION_PERIOD_S = 1.0
"""How often an average is read: as long as the window that these meters state by default."""
SHORTEST_PERIOD_S = 0.1
"""A shorter window is not followed any further: its mean is then taken as the draw at that moment."""
MAX_POWER_W = {Component.CPU: 1500.0, Component.MODULE: 5000.0, Component.PLATFORM: 50_000.0}
"""Above any CPU with its memory, superchip or node that is sold."""
SECONDS_PER_MILLISECOND = 1e-3
NAME = "hwmon"

POWER_METER = "power_meter"
"""The name that the acpi_power_meter driver gives to its chips."""
GRACE = re.compile(r"(Module|Grace|CPU|SysIO) Power Socket (\d+)")
"""`power1_oem_info` of the meters of NVIDIA Grace (NVIDIA Grace Performance Tuning Guide, "Power and Thermals")."""
AMD_SOCKET = re.compile(r"Esocket(\d+)")
SENSOR = re.compile(r"(power\d+_average|power\d+_input|energy\d+_input)")

DENIED = "{path} may not be read by this user; run as root, or let a udev rule make it readable for a group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unused:
    """A sensor that is there but no part of any sum, and why."""

    path: Path
    chip: str
    label: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """One file that is read: microjoules that only grow, or microwatts, the mean over a window."""

    path: Path
    device: Device
    is_counter: bool
    window_s: float = INTEGRATION_PERIOD_S


class Hwmon:
    """Every sensor of known scope under one sysfs root.

    A module (superchip) and a whole node are overlaps, `within="node"`. Where a module's meter is the only one that
    tells of its GPU, the caller makes it the part and the CPU the overlap.
    """

    def __init__(self, sysfs: Path, *, now: Now, interval_s: float, node: bool | None = None) -> None:
        """`node` picks the meters around the whole node or module (True), those of CPUs (False), or all of them."""
        self.name = f"{NAME}-node" if node else NAME
        self.period_s = interval_s
        self._node = node
        self._root = sysfs / "class" / "hwmon"
        self._now = now
        self._interval_s = interval_s
        self._sensors: list[Sensor] = []
        self._unused: tuple[Unused, ...] = ()
        self._within: dict[str, str] = {}
        self._gone: dict[str, str] = {}
        self._looked_s = 0.0

    def open(self) -> None:
        """Find the sensors and try them.

        Raises SourceAbsent where none is of known scope, SourceDenied where none may be read, SourceBroken where
        none gives a number.
        """
        self._gone = {}
        self._sensors = []
        self._look()
        if not self._sensors:
            seen = ", ".join(sorted({unused.chip for unused in self._unused}))
            raise SourceAbsent(
                f"no power sensor of known scope under {self._root}" + (f" (seen, not used: {seen})" if seen else "")
            )
        errors: list[Exception] = []
        for sensor in self._sensors:
            try:
                read_micro(sensor.path)
            except (OSError, ValueError) as error:
                errors.append(error)
        if len(errors) == len(self._sensors):
            if any(isinstance(error, PermissionError) for error in errors):
                raise SourceDenied(DENIED.format(path=self._sensors[0].path))
            raise SourceBroken(str(errors[0]))

    def read(self) -> Readout:
        """Read every sensor once. Raises SourceDenied or SourceBroken when not one of them answers any more."""
        if self._now().mono_s - self._looked_s >= (LOOK_AGAIN_S if self._gone else LOOK_ROUND_S):
            self._look()
        readings: list[Reading] = []
        failures = [self._failure(device_id, "gone", text) for device_id, text in self._gone.items()]
        away = len(failures)
        for sensor in tuple(self._sensors):
            try:
                value = read_micro(sensor.path)
                readings.append(self._reading(sensor, value))
            except PermissionError:
                failures.append(self._failure(sensor.device.id, "denied", DENIED.format(path=sensor.path)))
            except OSError as error:
                if error.errno in GONE:
                    self._sensors.remove(sensor)
                    self._gone[sensor.device.id] = f"{sensor.path} has vanished; it is looked for now and then"
                reason = "gone" if error.errno in GONE else "read"
                failures.append(self._failure(sensor.device.id, reason, str(error)))
            except ValueError as error:
                failures.append(self._failure(sensor.device.id, "read", str(error)))
        # What has just vanished is told, so that its baseline goes, before the source as a whole is given up.
        told = any(failure.baseline_lost for failure in failures[away:])
        if not readings and not told:
            denied = [failure.message for failure in failures if failure.reason == "denied"]
            if denied:
                raise SourceDenied(denied[0])
            raise SourceBroken(failures[0].message if failures else f"{self._root} has lost its sensors")
        return Readout(readings=tuple(readings), failures=tuple(failures))

    def close(self) -> None:
        """Nothing is held open."""

    def seen_not_used(self) -> tuple[Unused, ...]:
        """Sensors that are there but not read, as of the last look; looks by itself while the source is shut."""
        if not self._sensors:
            self._look()
        return self._unused

    def _look(self) -> None:
        self._looked_s = self._now().mono_s
        every, unused = find_sensors(self._root, known=self._within)
        found = [sensor for sensor in every if self._node in (None, sensor.device.within == NODE)]
        self._unused = tuple(unused)
        ids = {sensor.device.id for sensor in found}
        # A sensor that this look has missed is left to its next read, which says what is wrong with it.
        self._sensors = found + [sensor for sensor in self._sensors if sensor.device.id not in ids]
        self._gone = {device_id: text for device_id, text in self._gone.items() if device_id not in ids}
        windows_s = [sensor.window_s for sensor in self._sensors if not sensor.is_counter]
        fastest_s = max(SHORTEST_PERIOD_S, min([INTEGRATION_PERIOD_S, *windows_s]))
        self.period_s = min(self._interval_s, fastest_s) if windows_s else self._interval_s

    def _reading(self, sensor: Sensor, value: int) -> Reading:
        if sensor.is_counter:
            return Reading(device=sensor.device, at=self._now(), energy_j=value * JOULES_PER_MICROJOULE)
        covered = sensor.window_s >= self.period_s
        return Reading(
            device=sensor.device,
            at=self._now(),
            power_w=value * WATTS_PER_MICROWATT,
            power_signal=PowerSignal.AVERAGE if covered else PowerSignal.INSTANT,
        )

    def _failure(self, device_id: str, reason: str, message: str) -> ReadFailure:
        message = self._gone.get(device_id, message)
        lost = reason == "gone"
        return ReadFailure(device_id=device_id, at=self._now(), reason=reason, message=message, baseline_lost=lost)


def find_sensors(root: Path, *, known: dict[str, str]) -> tuple[list[Sensor], list[Unused]]:
    """Every power and energy sensor below the hwmon class: those of known scope, and the others.

    `known` remembers device id -> within, from look to look; it is added to.
    """
    used: dict[str, Sensor] = {}
    unused: list[Unused] = []
    for path in _sensor_files(root):
        chip, label = _text(path.parents[0] / "name"), _label(path)
        if not chip:  # its attributes stand beside those of the device below
            chip = _text(path.parents[1] / "name")
        sensor = _known(path, chip, label)
        if isinstance(sensor, Sensor) and sensor.device.id not in used:
            used[sensor.device.id] = sensor
        else:
            why = sensor if isinstance(sensor, str) else "a second sensor of the same thing"
            unused.append(Unused(path=path, chip=chip, label=label, why=why))
    places = {sensor.device.id: _nested(sensor.device, used.keys(), known) for sensor in used.values()}
    found = [replace(one, device=replace(one.device, within=places[one.device.id])) for one in used.values()]
    return found, unused


def read_micro(path: Path) -> int:
    """Microwatts or microjoules of one file. Raises OSError, or ValueError that names the file.

    The kernel ends every value with a newline: without it, digits are missing.
    """
    text = path.read_text("ascii", errors="replace")
    digits = text.removesuffix("\n")
    if digits == text or not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{path}: not a value: {text[:40]!r}")
    return int(digits)


def _sensor_files(root: Path) -> Iterator[Path]:
    """Sensor files of a chip, or of the device below it, where older drivers put them."""
    try:
        chips = sorted(path for path in root.iterdir() if re.fullmatch(r"hwmon\d+", path.name))
    except OSError:
        return
    for chip in chips:
        names: set[str] = set()
        for directory in (chip, chip / "device"):
            try:
                files = sorted(path for path in directory.iterdir() if SENSOR.fullmatch(path.name))
            except OSError:
                continue
            yield from (path for path in files if path.name not in names)
            names.update(path.name for path in files)


def _known(path: Path, chip: str, label: str) -> Sensor | str:
    """The sensor, or why it is not used."""
    if chip == "amd_energy":
        socket = AMD_SOCKET.fullmatch(label)
        if socket is None:
            return "lies within its socket"
        device = _device(f"package-{socket[1]}", Component.CPU, socket[1], "amd_energy")
        return Sensor(path=path, device=device, is_counter=True)
    if chip != POWER_METER or not path.name.endswith("_average"):
        return "nobody knows what it covers, or another source reads it"
    if _text(path.with_name(path.name.replace("_average", "_is_battery"))) == "1":
        return "a battery"
    grace = GRACE.fullmatch(label)
    if grace is not None:
        device = _grace(grace[1], grace[2])
    else:
        # hwmonN changes from boot to boot; the ACPI device keeps its name.
        place = (path.parent if path.parent.name == "device" else path.parent / "device").resolve().name
        device = _device(f"power-meter-{place}", Component.PLATFORM, place, label, within=NODE)
    return Sensor(path=path, device=device, is_counter=False, window_s=_window_s(path))


def _grace(what: str, socket: str) -> Device:
    cpu = f"package-{socket}"
    model = f"{what} Power Socket {socket}"
    if what == "Module":
        return _device(f"module-{socket}", Component.MODULE, socket, model, within=NODE)
    if what == "Grace":
        return _device(cpu, Component.CPU, socket, model)
    return _device(f"{cpu}-{what.lower()}", Component.CPU, socket, model, within=cpu)


def _nested(device: Device, ids: Collection[str], known: dict[str, str]) -> str:
    """Within what a device lies; once said, it stays so: a sum must not gain or lose a part while it is counted.

    Without the meter of its whole Grace side, the CPU rail is the part that is known; the rest overlaps the node.
    """
    if device.id not in known:
        rail = f"{device.id}-cpu"
        if device.within in {"", NODE} or device.within in ids:
            known[device.id] = NODE if known.get(rail) == "" else device.within
        else:
            known[device.id] = "" if device.id.endswith("-cpu") else NODE
    return known[device.id]


def _device(device_id: str, component: Component, index: str, model: str, *, within: str = "") -> Device:
    return Device(
        id=device_id,
        component=component,
        source=NAME,
        model=model,
        index=index,
        max_power_w=MAX_POWER_W[component],
        within=within,
    )


def _label(path: Path) -> str:
    stem = path.name.rpartition("_")[0]
    return _text(path.with_name(f"{stem}_oem_info")) or _text(path.with_name(f"{stem}_label"))


def _window_s(path: Path) -> float:
    text = _text(path.with_name(f"{path.name}_interval"))
    return int(text) * SECONDS_PER_MILLISECOND if text.isdigit() and int(text) > 0 else INTEGRATION_PERIOD_S


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", errors="replace").strip()
    except OSError:
        return ""

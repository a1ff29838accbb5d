"""A powercap tree as the kernel shows RAPL, with counters that follow waveforms.

A value replaces the old file by rename, so that whoever opens energy_uj finds one whole value, whatever its
length. The price: a reader that keeps the file open, which sysfs allows, reads the same value for ever.
"""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from .waveform import Const, Waveform

RANGE_61_UJ: Final = 262_143_328_850
"""max_energy_range_uj of a 32-bit counter of 61.035 microjoules, the usual unit of Intel."""
RANGE_15_UJ: Final = 65_532_610_987
"""The same for 15.26 microjoules: AMD, many servers."""
RANGE_DRAM_UJ: Final = 65_712_999_613
"""The same for the fixed 15.3 microjoules of server DRAM."""

# Sysfs refuses to open a write-only attribute for reading, even to root, whom chmod does not stop.
_CLOSED_TO_ROOT: Final = Path("/sys/bus/cpu/drivers_probe")


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """One zone. Its id is the name of its directory: `intel-rapl:0:1` is a child of `intel-rapl:0`."""

    id: str
    name: str
    waveform: Waveform
    range_uj: int = RANGE_61_UJ
    has_range_file: bool = True
    base_uj: int = 0
    """What its counter showed at time 0."""
    max_power_w: float | None = None
    """constraint_0_max_power_uw and _power_limit_uw; None = the zone has no constraint."""
    mode: int = 0o400
    """Permissions of energy_uj; 0400 is what kernels give since 5.10."""

    @property
    def control_type(self) -> str:
        """`intel-rapl` or `intel-rapl-mmio`."""
        return self.id.partition(":")[0]

    @property
    def path(self) -> Path:
        """Its directory below devices/virtual/powercap."""
        numbers = self.id.split(":")
        return Path(self.control_type, *(":".join(numbers[:end]) for end in range(2, len(numbers) + 1)))


def _steady(level_w: float) -> Waveform:
    return Waveform(level_w, ((0.0, Const(level_w)),))


def package(index: int, *, level_w: float = 150.0, name: str = "", with_dram: bool = True) -> list[Zone]:
    """Return a package with its core and dram zones; its parts draw steady shares of its power."""
    zone_id = f"intel-rapl:{index}"
    whole = Zone(id=zone_id, name=name or f"package-{index}", waveform=_steady(level_w), max_power_w=350.0)
    core = Zone(id=f"{zone_id}:0", name="core", waveform=_steady(0.6 * level_w))
    dram = Zone(
        id=f"{zone_id}:1",
        name="dram",
        waveform=_steady(0.2 * level_w),
        range_uj=RANGE_DRAM_UJ,
        max_power_w=60.0,
    )
    return [whole, core, dram] if with_dram else [whole, core]


def server() -> list[Zone]:
    """Two packages with core and dram, and the platform as one more zone at the top."""
    psys = Zone(id="intel-rapl:2", name="psys", waveform=_steady(500.0), max_power_w=1200.0)
    return [*package(0), *package(1), psys]


def amd_dies(dies: int = 2) -> list[Zone]:
    """One AMD package as kernels 6.9 to 6.11 show it: per die a zone, each with the counter of them all."""
    zones = [z for die in range(dies) for z in package(die, name=f"package-0-die-{die}", with_dram=False)]
    return [replace(zone, range_uj=RANGE_15_UJ, max_power_w=None) for zone in zones]


def intel_dies(dies: int = 2) -> list[Zone]:
    """One package of Cascade Lake-AP: each die has counters of its own, which differ."""
    return [z for die in range(dies) for z in package(die, level_w=100.0 + 50.0 * die, name=f"package-0-die-{die}")]


def cpu_of(vendor: str, directory: Path) -> Path:
    """Write a procfs whose cpuinfo names this vendor, and return its root."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: 6\n\n")
    return directory


def mmio_duplicate(original: Zone) -> Zone:
    """Return the second door to the counter of a package, which laptops have."""
    return replace(original, id=original.id.replace("intel-rapl", "intel-rapl-mmio", 1))


class RaplTree:
    """The tree below one directory, to be used in place of /sys. Times are seconds on one clock, from 0."""

    def __init__(self, root: Path, zones: Sequence[Zone] | None = None) -> None:
        """Write the tree (of `server()` unless told otherwise), with the counters of time 0."""
        self.root = root
        self.powercap = root / "class" / "powercap"
        self._devices = root / "devices" / "virtual" / "powercap"
        self._zones = {zone.id: zone for zone in (server() if zones is None else zones)}
        self._resets_s: dict[str, list[float]] = {}
        self._untouched: set[str] = set()
        self._at_s = 0.0
        # The thread of `running` writes beside the test.
        self._lock = threading.RLock()
        self.powercap.mkdir(parents=True, exist_ok=True)
        for zone in self._zones.values():
            self._create(zone)

    def zone(self, zone_id: str) -> Zone:
        """Return a zone as it is now."""
        return self._zones[zone_id]

    def energy_file(self, zone_id: str) -> Path:
        """Return the file with its counter, by way of the class directory."""
        return self.powercap / zone_id / "energy_uj"

    # -- time ------------------------------------------------------------------------------------------------

    def update(self, at_s: float) -> None:
        """Show the counters of this moment."""
        with self._lock:
            self._at_s = at_s
            for zone in self._zones.values():
                if zone.id not in self._untouched:
                    self._write_counter(zone)

    @contextlib.contextmanager
    def running(self, rate_hz: float = 200.0) -> Iterator["RaplTree"]:
        """Keep the counters up to date on CLOCK_BOOTTIME; what goes wrong meanwhile is raised at the end."""
        leave = threading.Event()

        def follow() -> None:
            while not leave.wait(1 / rate_hz):
                self.update(time.clock_gettime(time.CLOCK_BOOTTIME))

        self.update(time.clock_gettime(time.CLOCK_BOOTTIME))
        with ThreadPoolExecutor(1, thread_name_prefix="rapl-tree") as pool:
            following = pool.submit(follow)
            try:
                yield self
            finally:
                leave.set()
        following.result()

    # -- the truth -------------------------------------------------------------------------------------------

    def true_energy_j(self, zone_id: str, begin_s: float, end_s: float) -> float:
        """Joules a zone really drew, whatever its counter shows."""
        return self._zones[zone_id].waveform.energy_j(begin_s, end_s)

    def counter_uj(self, zone_id: str, at_s: float) -> int:
        """Microjoules its counter shows at a moment."""
        zone = self._zones[zone_id]
        resets_s = [reset_s for reset_s in self._resets_s.get(zone_id, []) if reset_s <= at_s]
        base_uj = 0 if resets_s else zone.base_uj
        energy_j = zone.waveform.energy_j(max(resets_s, default=0.0), at_s)
        # A nanojoule more, so that rounding does not take a microjoule off a round sum.
        return (base_uj + int(1e6 * energy_j + 1e-3)) % zone.range_uj

    def add(self, zone: Zone) -> None:
        """Let a zone appear."""
        with self._lock:
            self._zones[zone.id] = zone
            self._create(zone)

    def drive(self, zone_id: str, waveform: Waveform) -> None:
        """Let a zone draw this and nothing else, past included."""
        self._change(zone_id, replace(self._zones[zone_id], waveform=waveform))

    # -- what goes wrong -------------------------------------------------------------------------------------

    def reset(self, zone_id: str, at_s: float) -> None:
        """Let a counter begin again at 0."""
        with self._lock:
            self._resets_s.setdefault(zone_id, []).append(at_s)
            self._change(zone_id, self._zones[zone_id])

    def vanish(self, zone_id: str) -> None:
        """Take a zone away with its children, as a hot-unplug does."""
        with self._lock:
            for gone in [z for z in self._zones if z == zone_id or z.startswith(f"{zone_id}:")]:
                self._untouched.add(gone)
                (self.powercap / gone).unlink(missing_ok=True)
            shutil.rmtree(self._devices / self._zones[zone_id].path)

    def mask(self) -> None:
        """Hide what the links of the class lead to, as container runtimes do."""
        with self._lock:
            self._untouched.update(self._zones)
            shutil.rmtree(self._devices)

    def deny(self, zone_id: str) -> None:
        """Let energy_uj be refused with EACCES to whoever opens it, root too where /sys allows it.

        Raises PermissionError where root cannot be refused: such a test has to run as somebody else.
        """
        with self._lock:
            self._untouched.add(zone_id)
            path = self.energy_file(zone_id)
            if path.is_symlink():
                return  # denied already; chmod would follow it to the real /sys
            path.chmod(0)
            if not os.access(path, os.R_OK):
                return
            if not _CLOSED_TO_ROOT.exists():
                raise PermissionError(f"root reads everything: {_CLOSED_TO_ROOT} is needed to deny it a file")
            path.unlink()
            path.symlink_to(_CLOSED_TO_ROOT)

    def garble(self, zone_id: str, text: str) -> None:
        """Let energy_uj hold this text; "" is an empty read."""
        with self._lock:
            self._untouched.add(zone_id)
            self._replace(self.energy_file(zone_id), text, self._zones[zone_id].mode)

    def heal(self, zone_id: str) -> None:
        """Take back `deny`, `garble` and `vanish`, for a zone with its children."""
        with self._lock:
            for healed in [z for z in self._zones if z == zone_id or z.startswith(f"{zone_id}:")]:
                self._untouched.discard(healed)
                self._create(self._zones[healed])

    # -- files -----------------------------------------------------------------------------------------------

    def _change(self, zone_id: str, zone: Zone) -> None:
        with self._lock:
            self._zones[zone_id] = zone
            if zone_id not in self._untouched:
                self._write_counter(zone)

    def _create(self, zone: Zone) -> None:
        directory = self._devices / zone.path
        directory.mkdir(parents=True, exist_ok=True)
        control = self._devices / zone.control_type
        (control / "enabled").write_text("1\n")
        self._link(self.powercap / zone.control_type, control)
        self._link(self.powercap / zone.id, directory)
        # As real ones do, a zone links back up: whoever follows links while walking the tree goes in circles.
        self._link(directory / "subsystem", self.powercap)
        self._link(directory / "device", directory.parent)

        files = {"name": zone.name, "enabled": "1"}
        if zone.has_range_file:
            files["max_energy_range_uj"] = str(zone.range_uj)
        if zone.max_power_w is not None:
            files["constraint_0_name"] = "long_term"
            files["constraint_0_max_power_uw"] = str(int(1e6 * zone.max_power_w))
            files["constraint_0_power_limit_uw"] = str(int(1e6 * zone.max_power_w))
        for name, text in files.items():
            (directory / name).write_text(f"{text}\n")
        self._write_counter(zone)

    def _write_counter(self, zone: Zone) -> None:
        path = self._devices / zone.path / "energy_uj"
        self._replace(path, f"{self.counter_uj(zone.id, self._at_s)}\n", zone.mode)

    def _replace(self, path: Path, text: str, mode: int) -> None:
        # Beside the tree: nobody who lists a zone may see it.
        fresh = self.root / "energy_uj.new"
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
        fresh.replace(path)

    @staticmethod
    def _link(link: Path, target: Path) -> None:
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(target, link.parent))

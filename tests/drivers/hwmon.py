"""A tree of hwmon chips whose meters follow waveforms."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .waveform import Const, Waveform


def steady(level_w: float) -> Waveform:
    """A draw that never changes."""
    return Waveform(level_w, ((0.0, Const(level_w)),))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One hwmonN, and what its files say."""

    number: int
    name: str
    place: str
    """Name of the device it belongs to, which is the same at every boot."""
    values: Mapping[str, Waveform]
    """power1_average: mean over the window, in microwatts; energy1_input: a counter of microjoules."""
    texts: Mapping[str, str] = field(default_factory=dict)
    window_s: float = 1.0
    in_device: bool = False
    """Whether its files stand in hwmonN/device/, where older drivers put them."""


def power_meter(number: int, oem_info: str, level_w: float, *, window_s: float = 1.0, in_device: bool = True) -> Chip:
    """An ACPI power meter; those of Grace say in oem_info what they measure."""
    return Chip(
        number=number,
        name="power_meter",
        place=f"ACPI000D:{number:02d}",
        values={"power1_average": steady(level_w)},
        texts={
            "power1_oem_info": oem_info,
            "power1_average_interval": str(round(1000 * window_s)),
            "power1_is_battery": "0",
        },
        window_s=window_s,
        in_device=in_device,
    )


def grace_hopper(sockets: int = 1, *, window_s: float = 1.0) -> list[Chip]:
    """The four meters of each GH200: the module holds the Grace side, which holds CPU and SysIO."""
    meters = (("Module", 700.0), ("Grace", 300.0), ("CPU", 200.0), ("SysIO", 40.0))
    return [
        power_meter(4 * socket + place, f"{what} Power Socket {socket}", level_w + socket, window_s=window_s)
        for socket in range(sockets)
        for place, (what, level_w) in enumerate(meters)
    ]


class HwmonTree:
    """The tree below one directory, to be used in place of /sys. Times are seconds on one clock, from 0."""

    def __init__(self, root: Path, chips: Sequence[Chip]) -> None:
        self.root = root
        self._chips = {chip.number: chip for chip in chips}
        self._untouched: set[int] = set()
        self._at_s = 0.0
        (root / "class" / "hwmon").mkdir(parents=True)
        for chip in chips:
            self._create(chip)

    def file(self, number: int, name: str) -> Path:
        """One of a chip's files."""
        chip = self._chips[number]
        device = self.root / "devices" / chip.place
        return (device if chip.in_device else device / "hwmon" / f"hwmon{number}") / name

    def update(self, at_s: float) -> None:
        """Show the values of this moment."""
        self._at_s = at_s
        for chip in self._chips.values():
            if chip.number not in self._untouched:
                for name in chip.values:
                    self.file(chip.number, name).write_text(f"{self._value(chip, name)}\n")

    def garble(self, number: int, text: str) -> None:
        """Let every sensor file of a chip hold this text."""
        self._untouched.add(number)
        for name in self._chips[number].values:
            self.file(number, name).write_text(text)

    def vanish(self, number: int) -> None:
        """Take a chip away, as unloading its driver does."""
        self._untouched.add(number)
        (self.root / "class" / "hwmon" / f"hwmon{number}").unlink()
        shutil.rmtree(self.root / "devices" / self._chips[number].place)

    def heal(self, number: int) -> None:
        """Take back `garble` and `vanish`."""
        self._untouched.discard(number)
        self._create(self._chips[number])

    def _value(self, chip: Chip, name: str) -> int:
        waveform = chip.values[name]
        if name.startswith("energy"):
            return int(1e6 * waveform.energy_j(0.0, self._at_s) + 1e-3)
        return round(1e6 * waveform.energy_j(self._at_s - chip.window_s, self._at_s) / chip.window_s)

    def _create(self, chip: Chip) -> None:
        device = self.root / "devices" / chip.place
        home = device / "hwmon" / f"hwmon{chip.number}"
        home.mkdir(parents=True, exist_ok=True)
        link = self.root / "class" / "hwmon" / f"hwmon{chip.number}"
        for path, target in ((link, home), (home / "device", device)):
            if not path.is_symlink():
                path.symlink_to(os.path.relpath(target, path.parent.resolve()))
        for name, text in {"name": chip.name, **chip.texts}.items():
            self.file(chip.number, name).write_text(f"{text}\n")
        for name in chip.values:
            self.file(chip.number, name).write_text(f"{self._value(chip, name)}\n")

"""An accelerator card whose driver keeps a counter in a file, and a power meter of the whole node."""

import os
from pathlib import Path

from monitor.core.model import Component, Device, PowerSignal, ReadFailure, Reading, Readout
from monitor.errors import SourceAbsent
from monitor.sources.plugins import Context

CARD = Device(id="accel-0", component=Component.GPU, source="accel", model="Accel 9000", max_power_w=600.0)
NODE = Device(id="accel-node", component=Component.PLATFORM, source="accel", max_power_w=9000.0)


class Accel:
    """Reads the file that ACCEL_FILE names: millijoules of the card, then watts of the node."""

    name = "accel"

    def __init__(self, context: Context) -> None:
        self.period_s = context.interval_s
        self._context = context
        self._file = Path(os.environ.get("ACCEL_FILE", "/dev/accel0/energy"))

    def open(self) -> None:
        """Find the card."""
        if not self._file.exists():
            raise SourceAbsent(f"no accelerator card: {self._file} does not exist")

    def read(self) -> Readout:
        """Card and node. A file that does not hold two numbers is a failure of the card."""
        at = self._context.now()
        try:
            energy_mj, power_w = self._file.read_text("ascii").split()
            card = Reading(device=CARD, at=at, energy_j=int(energy_mj) * 1e-3)
            node = Reading(device=NODE, at=at, power_w=float(power_w), power_signal=PowerSignal.AVERAGE)
        except (OSError, ValueError) as error:
            failure = ReadFailure(device_id=CARD.id, at=at, reason="read", message=f"{self._file}: {error}")
            return Readout(failures=(failure,))
        return Readout(readings=(card, node))

    def close(self) -> None:
        """Nothing is held open."""

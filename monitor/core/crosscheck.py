"""Two sensors of one device against each other: the energy counter over integrated average power.

A counter that lies is not seen by itself (Zeus #181: 187 J counted, 327 J integrated; ROCm/amdsmi #38).
"""

from typing import NamedTuple

from monitor.core.energy import MAX_INTEGRATION_SPAN_S, EnergyDelta, How
from monitor.core.model import PowerSignal, Reading

WINDOW_S = 60.0
"""One ratio a window: the lag of a one-second mean at both ends is then below 2 % of it."""
LEAST_J = 100.0
AGREEMENT = (0.9, 1.1)
"""Integration of a one-second mean is within 1 % of a minute; a ratio outside is a sensor at fault."""


class CrossCheck(NamedTuple):
    """The window at work, and the ratio of the last whole one."""

    span_s: float = 0.0
    counter_j: float = 0.0
    integrated_j: float = 0.0
    ratio: float | None = None

    @property
    def disagrees(self) -> bool:
        """Whether the two sensors tell different stories."""
        return self.ratio is not None and not AGREEMENT[0] <= self.ratio <= AGREEMENT[1]


def check(before: CrossCheck, reading: Reading, delta: EnergyDelta) -> CrossCheck:
    """Add one interval that both sensors saw; others are left out."""
    power_w = reading.power_w
    if power_w is None or delta.how is not How.COUNTER or reading.power_signal is not PowerSignal.AVERAGE:
        return before
    span_s = delta.span_s
    if not 0.0 < span_s <= MAX_INTEGRATION_SPAN_S:
        return before
    window_s, counter_j, integrated_j, ratio = before
    window_s += span_s
    counter_j += delta.energy_j
    integrated_j += power_w * span_s * delta.device.calibration_ratio
    if window_s < WINDOW_S:
        return CrossCheck(window_s, counter_j, integrated_j, ratio)
    return CrossCheck(ratio=counter_j / integrated_j if integrated_j >= LEAST_J else None)

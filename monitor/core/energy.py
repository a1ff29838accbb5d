"""Two readings of one device become joules, and how they are known."""

from enum import StrEnum, auto
from typing import NamedTuple

from monitor.core.model import Device, Instant, Method, Origin, PowerSignal, Reading

HEADROOM_S = 0.2
"""Counters are refreshed every 10 to 100 ms, so one interval may show up to a period more than its own time."""

MAX_INTEGRATION_SPAN_S = 3.0
"""A watt value is not stretched further than this: beyond it nobody knows what the load did."""
WINDOW_RATIO = 1.5
"""A mean over a longer window (a BMC's: 1 s to minutes) covers that much, with some delay of the next reading."""
MAX_INSTANT_SPAN_S = 0.5
"""A sensor of the moment is integrated at 10 Hz or not at all: at 1 Hz a training step aliases by up to 70 %."""


class How(StrEnum):
    """How the joules of one interval are known. The first and the last three of the list carry no sensor's joules."""

    COUNTER = auto()
    WRAPPED = auto()
    INTEGRATED = auto()
    ESTIMATED = auto()
    SIMULATED = auto()
    FIRST = auto()
    RESET = auto()
    GAP = auto()


UNMEASURED = frozenset({How.RESET, How.GAP})


class EnergyDelta(NamedTuple):
    """Joules of one device over [start, end), with their provenance."""

    device: Device
    start: Instant
    end: Instant
    energy_j: float
    how: How

    @property
    def span_s(self) -> float:
        """Elapsed time on the steady clock, never the nominal interval."""
        return self.end.mono_s - self.start.mono_s

    @property
    def unmeasured_s(self) -> float:
        """Seconds of the interval in which nobody knows the joules."""
        return self.span_s if self.how in UNMEASURED else 0.0

    @property
    def mean_power_w(self) -> float | None:
        """Mean power over the interval; None where there is none to tell."""
        if self.span_s <= 0.0 or self.how in UNMEASURED or self.how is How.FIRST:
            return None
        return self.energy_j / self.span_s


def method_of(reading: Reading, how: How | None = None) -> Method:
    """The method under which the joules that end at this reading are booked, by how they are known."""
    origin = reading.device.origin
    if origin is not Origin.MEASURED:
        return Method.SIMULATED if origin is Origin.SIMULATED else Method.ESTIMATED
    return Method.INTEGRATED if how is How.INTEGRATED or reading.energy_j is None else Method.COUNTER


def between(prev: Reading | None, now: Reading) -> EnergyDelta:
    """Joules between two readings of one device, and how we know. The counter before the integral.

    Every rise is bounded by plausible power x (time + 0.2 s): beyond it the interval is unmeasured and `now`
    becomes the new baseline.
    """
    if prev is None:
        return _delta(now, now, 0.0, How.FIRST)
    if prev.energy_j is not None and now.energy_j is not None:
        return _by_counter(prev, now, now.energy_j - prev.energy_j)
    if prev.power_w is not None and now.power_w is not None:
        return _by_power(prev, now, prev.power_w, now.power_w)
    return _delta(prev, now, 0.0, How.GAP)


def bound_j(device: Device, span_s: float) -> float:
    """The most joules a device can plausibly have used in a span, reading jitter included."""
    return device.max_power_w * (span_s + HEADROOM_S)


def _by_counter(prev: Reading, now: Reading, rise_j: float) -> EnergyDelta:
    most_j, wraps_at_j = bound_j(now.device, now.at.mono_s - prev.at.mono_s), now.wraps_at_j
    if wraps_at_j is None:
        if rise_j < 0.0:
            return _delta(prev, now, 0.0, How.RESET)
        return _delta(prev, now, rise_j, How.COUNTER) if rise_j <= most_j else _delta(prev, now, 0.0, How.GAP)

    # A register that wraps shows the rise modulo its range. Exactly one number of wraps must fit the bound:
    # none means that the counter was set anew, several that nobody knows how often it went round.
    wraps = 0 if rise_j >= 0.0 else 1
    energy_j = rise_j + wraps * wraps_at_j
    if not 0.0 <= energy_j <= most_j:
        return _delta(prev, now, 0.0, How.RESET if rise_j < 0.0 else How.GAP)
    if energy_j + wraps_at_j <= most_j:
        return _delta(prev, now, 0.0, How.GAP)
    return _delta(prev, now, energy_j, How.WRAPPED if wraps else How.COUNTER)


def _by_power(prev: Reading, now: Reading, prev_w: float, now_w: float) -> EnergyDelta:
    span_s = now.at.mono_s - prev.at.mono_s
    average = now.power_signal is PowerSignal.AVERAGE
    longest_s = max(MAX_INTEGRATION_SPAN_S, WINDOW_RATIO * now.window_s) if average else MAX_INSTANT_SPAN_S
    if span_s > longest_s:
        return _delta(prev, now, 0.0, How.GAP)
    # A mean over the window that ends now covers the interval by itself; a point value is one end of a trapezoid.
    mean_w = now_w if average else (prev_w + now_w) / 2
    energy_j = mean_w * span_s
    if not 0.0 <= energy_j <= bound_j(now.device, span_s):
        return _delta(prev, now, 0.0, How.GAP)
    return _delta(prev, now, energy_j, How.INTEGRATED)


_RELABELLED = {Origin.ESTIMATED: How.ESTIMATED, Origin.SIMULATED: How.SIMULATED}
_CARRIES_JOULES = frozenset({How.COUNTER, How.WRAPPED, How.INTEGRATED})


def _delta(prev: Reading, now: Reading, energy_j: float, how: How) -> EnergyDelta:
    device = now.device
    if device.origin is not Origin.MEASURED and how in _CARRIES_JOULES:
        how = _RELABELLED[device.origin]
    return EnergyDelta(device, prev.at, now.at, energy_j * device.calibration_ratio, how)

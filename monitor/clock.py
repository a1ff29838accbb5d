"""The system's clocks. Everything that needs the time takes it as an argument; this is the real one."""

import math
import time
from threading import Event

from monitor.core.model import Instant

ROUNDING = 1e-6
"""Part of a period that counts as none."""


def now() -> Instant:
    """CLOCK_BOOTTIME beside Unix time."""
    return Instant(time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


def next_deadline_s(after_s: float, period_s: float) -> float:
    """The next multiple of the period. Deadlines stand on multiples, never on now + period: the rate cannot drift."""
    # A moment that rounding puts a hair before a multiple is that multiple, or it would be due twice.
    return (math.floor(after_s / period_s + ROUNDING) + 1) * period_s


def wait_until(mono_s: float, wake: Event) -> None:
    """Return at that moment of CLOCK_BOOTTIME, or as soon as `wake` is set."""
    left_s = mono_s - time.clock_gettime(time.CLOCK_BOOTTIME)
    if left_s > 0.0:
        wake.wait(left_s)

"""The system's clocks. Everything that needs the time takes it as an argument; this is the real one."""

import time
from threading import Event

from monitor.core.model import Instant


def now() -> Instant:
    """CLOCK_BOOTTIME beside Unix time."""
    return Instant(time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


def wait_until(mono_s: float, wake: Event) -> None:
    """Return at that moment of CLOCK_BOOTTIME, or as soon as `wake` is set."""
    left_s = mono_s - time.clock_gettime(time.CLOCK_BOOTTIME)
    if left_s > 0.0:
        wake.wait(left_s)

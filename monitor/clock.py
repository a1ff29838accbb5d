"""The system's clocks. Everything that needs the time takes it as an argument; this is the real one."""

import contextlib
import math
import time
from threading import Lock

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


class Bell:
    """Wakes the one thread that waits at it; rung beforehand, it does not wait at all.

    A bare lock: the condition variable of a `threading.Event` takes more CPU than many a read. No signal handler may be
    what rings it: see `monitor.ending`.
    """

    def __init__(self) -> None:
        self._silent = Lock()
        self._silent.acquire()

    def ring(self) -> None:
        """Wake the thread, now or when it is about to wait. From any thread."""
        with contextlib.suppress(RuntimeError):  # it has been rung already
            self._silent.release()

    def clear(self) -> None:
        """Forget that it was rung."""
        self._silent.acquire(blocking=False)

    def wait(self) -> None:
        """Return as soon as it is rung, which is forgotten then."""
        self._silent.acquire()

    def wait_until(self, mono_s: float) -> bool:
        """Return at that moment of CLOCK_BOOTTIME, or as soon as it is rung, which is forgotten then: True."""
        left_s = mono_s - time.clock_gettime(time.CLOCK_BOOTTIME)
        return left_s > 0.0 and self._silent.acquire(timeout=left_s)

"""Signals that end a command, heard at any moment."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable

LONGEST_SLEEP_S = 86_400.0
"""poll(2) counts milliseconds in an int."""


class Ending:
    """Where the main thread waits until a signal ends the process, or another thread does. Made in the main thread.

    A pipe that the interpreter writes to in the kernel's own signal handler (`signal.set_wakeup_fd`). Who waits at a
    lock instead misses the signal that comes after the interpreter has looked for one and before the kernel sleeps: the
    handler in Python runs only once that sleep is over.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._heard, self._rung = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._readable = select.poll()
        self._readable.register(self._heard, select.POLLIN)
        signal.set_wakeup_fd(self._rung, warn_on_full_buffer=False)
        heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # as nohup(1) has it
        for number in heard:
            signal.signal(number, lambda *_: None)
        # Whoever started us may have had them blocked, which is inherited.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)

    def ring(self) -> None:
        """End it, from any thread."""
        with contextlib.suppress(BlockingIOError):  # it has been rung often enough
            os.write(self._rung, b"\0")

    def wait(self) -> None:
        """Return once it is to end."""
        self._readable.poll()

    def wait_until(self, mono_s: float) -> bool:
        """Return at that moment of CLOCK_BOOTTIME, or once it is to end: True."""
        while True:
            left_s = max(0.0, mono_s - time.clock_gettime(time.CLOCK_BOOTTIME))
            if self._readable.poll(1e3 * min(left_s, LONGEST_SLEEP_S)):
                return True
            if not left_s:
                return False

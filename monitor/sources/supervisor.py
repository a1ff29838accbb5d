r"""One thread a source: timing, retry with back-off, health, failure records, logging on change of state.

    thread of the source                    loop
    open -> read -> read -> ...      drain() takes what has been read since
       \-> SourceError -> back-off -> open

The source itself only reads. Whatever it raises ends here as a count, a line for people and another try.
"""

import logging
from collections import Counter, deque
from threading import Event, Thread

from monitor import clock
from monitor.core.model import Readout, SourceHealth
from monitor.core.ports import Now, Source
from monitor.errors import SourceBroken, SourceError

LOG = logging.getLogger("trainwatt")

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
QUEUED_TICKS = 1024
"""A loop that stands still for long must not fill the memory; counters make up for what is dropped."""


class Supervisor:
    """Reads one source at its own pace and keeps what it said until the loop takes it."""

    def __init__(self, source: Source, *, now: Now) -> None:
        self._source = source
        self._now = now
        self._open = False
        self._retry_s = FIRST_RETRY_S
        self._said: deque[tuple[Readout, SourceHealth]] = deque(maxlen=QUEUED_TICKS)
        self._failures: Counter[str] = Counter()
        self._told = ""
        self._health = self._taken = SourceHealth(source=source.name)
        self.tried = Event()
        """Set once the source has been tried, whatever came of it."""

    def tick(self) -> float:
        """Open if need be, read once, and return the moment (steady clock, s) at which the next read is due."""
        started = self._now()
        try:
            if not self._open:
                self._source.open()
                self._open = True
            readout = self._source.read()
        except SourceError as error:
            return self._failed(error)
        except Exception as error:  # noqa: BLE001  (whatever a source or its library does, the other sources go on)
            return self._failed(SourceBroken(f"{type(error).__name__}: {error}", reason="exception"))
        ended = self._now()
        nominal_s = clock.next_deadline_s(started.mono_s, self._source.period_s)
        due_s = max(nominal_s, clock.next_deadline_s(ended.mono_s, self._source.period_s))
        skipped = round((due_s - nominal_s) / self._source.period_s)
        self._failures.update(failure.reason for failure in readout.failures)
        self._retry_s = FIRST_RETRY_S
        self._tell_up(readout)
        self._say(
            readout,
            SourceHealth(
                source=self._source.name,
                up=True,
                last_success=ended if readout.readings else self._health.last_success,
                read_duration_s=ended.mono_s - started.mono_s,
                failures=tuple(sorted(self._failures.items())),
                late_ticks=self._health.late_ticks + skipped,
                problem="; ".join(sorted({failure.message for failure in readout.failures})),
            ),
        )
        return due_s

    @property
    def health(self) -> SourceHealth:
        """How the source fares now."""
        return self._health

    def drain(self) -> tuple[list[Readout], SourceHealth]:
        """Take everything read since the last call, oldest first, and the health as it stood after that."""
        readouts: list[Readout] = []
        while self._said:
            readout, self._taken = self._said.popleft()
            readouts.append(readout)
        return readouts, self._taken

    def _say(self, readout: Readout, health: SourceHealth) -> None:
        self._health = health
        self._said.append((readout, health))

    def run(self, stop: Event) -> None:
        """Tick until told to stop, then close the source."""
        while not stop.is_set():
            due_s = self.tick()
            self.tried.set()
            clock.wait_until(due_s, stop)
        if self._open:
            self._source.close()

    def start(self, stop: Event) -> Thread:
        """Run in a thread of its own. It is a daemon thread: a driver that hangs must not hold up the exit."""
        thread = Thread(target=self.run, args=(stop,), name=f"source-{self._source.name}", daemon=True)
        thread.start()
        return thread

    def _failed(self, error: SourceError) -> float:
        if self._open:
            self._open = False
            self._source.close()
        self._failures[error.reason] += 1
        if str(error) != self._told:
            self._told = str(error)
            LOG.log(logging.INFO if error.reason == "absent" else logging.WARNING, "%s: %s", self._source.name, error)
        self._say(
            Readout(),
            SourceHealth(
                source=self._source.name,
                last_success=self._health.last_success,
                failures=tuple(sorted(self._failures.items())),
                late_ticks=self._health.late_ticks,
                problem=str(error),
            ),
        )
        wait_s = self._retry_s if isinstance(error, SourceBroken) else LONGEST_RETRY_S
        self._retry_s = min(self._retry_s * 2, LONGEST_RETRY_S)
        return self._now().mono_s + wait_s

    def _tell_up(self, readout: Readout) -> None:
        told = "; ".join(sorted({failure.message for failure in readout.failures}))
        if not self._health.up:
            LOG.info("%s: reading %d devices", self._source.name, len(readout.readings))
        if told and told != self._told:
            LOG.warning("%s: %s", self._source.name, told)
        elif not told and self._told and self._health.up:
            LOG.info("%s: well again", self._source.name)
        self._told = told

r"""One thread a source: timing, retry with back-off, health, failure records, logging on change of state.

    thread of the source                    loop
    open -> read -> read -> ...      drain() takes what has been read since
       \-> SourceError -> back-off -> open
       \-> release() -> closed until resume() or the limit -> open
       \-> read_now() -> read energy, out of turn

The source itself only reads. Whatever it raises ends here as a count, a line for people and another try.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from threading import Event, Lock, Thread

from monitor import clock
from monitor.core.model import Instant, Readout, SourceHealth
from monitor.core.ports import EnergyFirst, Now, Source
from monitor.errors import SourceBroken, SourceError

LOG = logging.getLogger("trainwatt")

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
TOLD_AT_ONCE = 2
"""A line of the log names so many problems; the page and the API show them all."""
HANGS_AFTER_S = 10.0
"""A call that lasts so long is no longer slow: the source is shown as down until it returns."""
QUEUED_TICKS = 1024
"""A loop that stands still for long must not fill the memory; counters make up for what is dropped."""


class Supervisor:
    """Reads one source at its own pace and keeps what it said until the loop takes it."""

    def __init__(self, source: Source, *, now: Now, phase_s: float = 0.0) -> None:
        """`phase_s`: so long after the others it is read, to find what they said."""
        self._source = source
        self._phase_s = phase_s
        self._now = now
        self._open = False
        self._retry_s = FIRST_RETRY_S
        self._said: deque[tuple[Readout, SourceHealth]] = deque(maxlen=QUEUED_TICKS)
        self._failures: Counter[str] = Counter()
        self._calling: Instant | None = None
        """Since when a call into the source has been going on."""
        self._told = ""
        self._answering = False
        """Whether the last read came back, be it with failures."""
        self._health = self._taken = SourceHealth(source=source.name)
        self.tried = Event()
        """Set once the source has been tried, whatever came of it."""
        self._wake = clock.Bell()
        self._orders = Lock()
        """Guards the three below: the orders of other threads, carried out by the thread of the source."""
        self._until: Instant | None = None
        self._waiting: list[Future[Instant | None]] = []
        self._edges: list[Future[None]] = []
        self._released = False
        self._due_s = 0.0

    @property
    def name(self) -> str:
        """The label `source`."""
        return self._source.name

    def tick(self) -> float:
        """Open if need be, read once, and return the moment (steady clock, s) at which the next read is due.

        A released source is closed instead, and due when its release ends.
        """
        until, waiting, edges = self._take_orders()
        if until is not None:
            self._due_s = self._stay_closed(until)
        elif not edges or waiting or self._now().mono_s >= self._due_s:
            self._due_s = self._read(self._source.read)
        elif self._open:
            read = self._source.read_energy if isinstance(self._source, EnergyFirst) else self._source.read
            self._due_s = self._read(read, in_turn=False)
        # Else it waits to be opened again: the edge of a run is no reason to hurry a driver that has trouble.
        for done in waiting:
            if done.set_running_or_notify_cancel():
                done.set_result(until)
        for read_once in edges:
            read_once.set_result(None)
        return self._due_s

    def read_now(self) -> Future[None]:
        """Read the energy of every device out of turn, for the edge of a run. From any thread.

        The result comes when that is done, or at once when the source is closed.
        """
        done: Future[None] = Future()
        with self._orders:
            self._edges.append(done)
        self._wake.ring()
        return done

    def release(self, limit_s: float) -> Future[Instant | None]:
        """Close the source for so long; of several releases the longest holds. From any thread, at any time.

        The result comes when it is closed, and is the moment at which it opens by itself; None = it is not closed,
        since the release was over before a call into the driver returned.
        """
        done: Future[Instant | None] = Future()
        with self._orders:
            at = self._now()
            until = Instant(at.mono_s + limit_s, at.wall_s + limit_s)
            if self._until is None or self._until.mono_s < until.mono_s:
                self._until = until
            self._waiting.append(done)
        self._wake.ring()
        return done

    def resume(self) -> Future[Instant | None] | None:
        """End a release. The result comes when the source has been tried; None at once = it was not released."""
        with self._orders:
            if self._until is None:
                return None
            self._until = None
            done: Future[Instant | None] = Future()
            self._waiting.append(done)
        self._wake.ring()
        return done

    def wake(self) -> None:
        """Tick now, or end if `stop` has been set: the thread sleeps until it is due."""
        self._wake.ring()

    def _take_orders(self) -> tuple[Instant | None, list[Future[Instant | None]], list[Future[None]]]:
        if self._until is None and not self._waiting and not self._edges:
            return None, [], []  # whoever orders something now rings afterwards
        with self._orders:
            if self._until is not None and self._until.mono_s <= self._now().mono_s:
                self._until = None
            waiting, self._waiting = self._waiting, []
            edges, self._edges = self._edges, []
            return self._until, waiting, edges

    def _stay_closed(self, until: Instant) -> float:
        self._close()
        self._retry_s = FIRST_RETRY_S
        if not self._released:
            self._released = True
            self._failures["released"] += 1
        ends = datetime.fromtimestamp(until.wall_s, UTC)
        problem = f"released until {ends:%H:%M:%S} UTC; trainwatt resume {self.name} opens it earlier"
        if problem != self._told:
            self._told = problem
            LOG.info("%s: %s", self.name, problem)
        self._say_down(problem)
        return until.mono_s

    def _read(self, read: Callable[[], Readout], *, in_turn: bool = True) -> float:
        self._released = False
        started = self._calling = self._now()
        try:
            if not self._open:
                self._source.open()
                self._open = True
            readout = read()
        except SourceError as error:
            return self._failed(error)
        except Exception as error:  # noqa: BLE001  (whatever a source or its library does, the other sources go on)
            return self._failed(SourceBroken(f"{type(error).__name__}: {error}", reason="exception"))
        finally:
            self._calling = None
        ended = self._now()
        nominal_s = self._deadline_after(started)
        due_s = max(nominal_s, self._deadline_after(ended)) if in_turn else nominal_s
        skipped = round((due_s - nominal_s) / self._source.period_s)
        self._retry_s = FIRST_RETRY_S
        problem = shown = ""
        if readout.failures or readout.notes:
            self._failures.update(failure.reason for failure in readout.failures)
            problems = sorted({*(failure.message for failure in readout.failures), *readout.notes})
            problem = "; ".join(problems)
            more = len(problems) - TOLD_AT_ONCE
            shown = problem if more <= 0 else f"{'; '.join(problems[:TOLD_AT_ONCE])}; and {more} more"
        self._tell_up(readout, shown)
        self._say(
            readout,
            SourceHealth(
                source=self._source.name,
                up=bool(readout.readings or readout.usages) or not problem,
                last_success=ended if readout.readings or readout.usages else self._health.last_success,
                read_duration_s=ended.mono_s - started.mono_s,
                failures=tuple(sorted(self._failures.items())),
                late_ticks=self._health.late_ticks + skipped,
                problem=problem,
            ),
        )
        return due_s

    def _deadline_after(self, at: Instant) -> float:
        return clock.next_deadline_s(at.mono_s - self._phase_s, self._source.period_s) + self._phase_s

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
        since = self._calling
        lasts_s = self._now().mono_s - since.mono_s if since is not None else 0.0
        if lasts_s <= HANGS_AFTER_S:
            return readouts, self._taken
        problem = f"a call into the driver has not returned for {lasts_s:.0f} s; if it never does, restart trainwatt"
        return readouts, self._taken._replace(up=False, problem=problem)

    def _say(self, readout: Readout, health: SourceHealth) -> None:
        self._health = health
        self._said.append((readout, health))

    def run(self, stop: Event) -> None:
        """Tick until told to stop, then close the source."""
        while True:
            # Cleared before anything is looked at: whoever sets it afterwards is heard.
            self._wake.clear()
            if stop.is_set():
                break
            due_s = self.tick()
            if not self.tried.is_set():
                self.tried.set()
            self._wake.wait_until(due_s)
        self._close()

    def start(self, stop: Event) -> Thread:
        """Run in a thread of its own until `stop` is set, which `wake` makes it see at once.

        It is a daemon thread: a driver that hangs must not hold up the exit.
        """
        thread = Thread(target=self.run, args=(stop,), name=f"source-{self._source.name}", daemon=True)
        thread.start()
        return thread

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._source.close()

    def _failed(self, error: SourceError) -> float:
        self._close()
        self._failures[error.reason] += 1
        if str(error) != self._told:
            self._told = str(error)
            LOG.log(logging.INFO if error.reason == "absent" else logging.WARNING, "%s: %s", self._source.name, error)
        self._say_down(str(error))
        # What has been there may come back soon; what never was is looked for now and then.
        soon = isinstance(error, SourceBroken) or self._health.last_success is not None
        wait_s = self._retry_s if soon else LONGEST_RETRY_S
        self._retry_s = min(self._retry_s * 2, LONGEST_RETRY_S)
        return self._now().mono_s + wait_s

    def _say_down(self, problem: str) -> None:
        self._answering = False
        self._say(
            Readout(),
            SourceHealth(
                source=self._source.name,
                last_success=self._health.last_success,
                failures=tuple(sorted(self._failures.items())),
                late_ticks=self._health.late_ticks,
                problem=problem,
            ),
        )

    def _tell_up(self, readout: Readout, problem: str) -> None:
        if not self._answering:
            devices = len({reading.device.id for reading in readout.readings})
            at_work = "at work" if readout.usages and not devices else f"reading {devices} devices"
            LOG.info("%s: %s", self._source.name, at_work)
        if problem and problem != self._told:
            LOG.warning("%s: %s", self._source.name, problem)
        elif not problem and self._told and self._answering:
            LOG.info("%s: well again", self._source.name)
        self._answering = True
        self._told = problem

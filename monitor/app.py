"""The composition root: everything that runs, wired by hand on one page. The only importer of exporters."""

import logging
import secrets
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from exporters import http
from monitor import clock
from monitor.config import Settings
from monitor.core.model import Instant, RunBook
from monitor.core.ports import Now, Runs, Source
from monitor.core.snapshot import Policy, Snapshot
from monitor.errors import UsageError
from monitor.grid import static
from monitor.loop import Loop
from monitor.runs import control, operations
from monitor.sources.supervisor import Supervisor

LOG = logging.getLogger("trainwatt")

STALE_AFTER_TURNS = 3
SHORTEST_STALE_S = 5.0
FIRST_TRY_S = 10.0
"""A driver may take seconds to initialise; after this the daemon says what it has without it."""
LAST_WORDS_S = 0.3
"""How long the threads may take to end; a driver that hangs is left behind."""


class NoRuns:
    """A node on which nothing is registered."""

    def runs(self, at: Instant) -> RunBook:  # noqa: ARG002  (the port passes the moment)
        """None."""
        return RunBook()


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the settings ask for, built but not started."""

    sources: Sequence[Source]
    runs: Runs
    grid: static.StaticGrid
    policy: Policy


def wire(settings: Settings, *, now: Now = clock.now) -> Wiring:
    """Build the parts. Nothing is opened yet. Raises UsageError for settings that cannot be meant."""
    zone = static.resolve_zone(settings.zone) if settings.zone is not None else None
    sources, runs = _sources(settings, now)
    policy = Policy(
        pue_ratio=settings.pue,
        zone=zone,
        stale_after_s=max(SHORTEST_STALE_S, STALE_AFTER_TURNS * settings.interval),
    )
    return Wiring(sources=sources, runs=runs, grid=static.StaticGrid(zone), policy=policy)


def _sources(settings: Settings, now: Now) -> tuple[Sequence[Source], Runs]:
    if settings.mock is None:
        return sensors(settings, now=now), NoRuns()
    from monitor.sources import mock, replay

    file = Path(settings.mock)
    if settings.mock not in mock.SCENARIOS and file.exists():
        return replay.replay(file, now=now), NoRuns()
    node = mock.Mock(settings.mock, now=now, interval_s=settings.interval)
    return [node], node


def sensors(settings: Settings, *, now: Now) -> list[Source]:
    """Every source of this machine, those of other distributions last. Raises UsageError."""
    if not settings.sysfs.is_dir():
        raise UsageError(f"--sysfs {settings.sysfs}: no such directory; it is /sys on every Linux")
    from monitor.sources import plugins
    from monitor.sources.alternatives import FirstThatWorks
    from monitor.sources.hwmon import Hwmon
    from monitor.sources.nvml.source import Nvml

    interval_s = settings.interval
    ways = cpu_sensors(settings, now=now)
    own: list[Source] = [
        Nvml(now=now, interval_s=interval_s, calibration=settings.calibration, sysfs=settings.sysfs),
        FirstThatWorks(ways, now=now),
        Hwmon(settings.sysfs, now=now, interval_s=interval_s, node=True),
    ]
    context = plugins.Context(now=now, interval_s=interval_s, sysfs=settings.sysfs, procfs=settings.procfs)
    return [*own, *plugins.load(context, taken=[source.name for source in (*own, *ways)])]


def cpu_sensors(settings: Settings, *, now: Now) -> list[Source]:
    """The ways to the energy of the CPUs, best first: never two at once, for they tell the same joules."""
    from monitor.sources.estimate import Estimate
    from monitor.sources.hwmon import Hwmon
    from monitor.sources.perf import Perf
    from monitor.sources.rapl import Rapl

    sysfs, procfs, interval_s = settings.sysfs, settings.procfs, settings.interval
    ways: list[Source] = [
        Rapl(sysfs, now=now, interval_s=interval_s, procfs=procfs),
        Perf(sysfs, now=now, interval_s=interval_s, procfs=procfs),
        Hwmon(sysfs, now=now, interval_s=interval_s, node=False),
    ]
    if settings.estimate_cpu_tdp is not None:
        ways.append(Estimate(procfs, tdp_w=settings.estimate_cpu_tdp, now=now, interval_s=interval_s))
    return ways


@contextmanager
def running(settings: Settings) -> Iterator[Loop]:
    """A daemon at work: sources, loop and HTTP server in threads, stopped in reverse order on leaving.

    Raises UsageError or FailureError before anything has started.
    """
    wiring = wire(settings)
    listener = http.bind(settings.listen_host, settings.listen_port)
    stop = Event()
    supervisors = [Supervisor(source, now=clock.now) for source in wiring.sources]
    loop = Loop(
        # Until a ledger keeps the count, each daemon's count is one of its own.
        Snapshot(ledger_id=f"memory-{secrets.token_hex(4)}", policy=wiring.policy),
        supervisors=supervisors,
        runs=wiring.runs,
        grid=wiring.grid,
        now=clock.now,
        interval_s=settings.interval,
    )
    with ExitStack() as stack:
        stack.callback(listener.close)
        stack.enter_context(control.serving(settings.socket, operations.source_operations(supervisors)))
        threads = [supervisor.start(stop) for supervisor in supervisors]
        threads.append(loop.start(stop))
        stack.callback(_join, threads)
        for supervisor in supervisors:
            stack.callback(supervisor.wake)
        stack.callback(stop.set)
        stack.enter_context(http.serving(loop, listener, everything=settings.serves_everything))
        yield loop


def _join(threads: Sequence[Thread]) -> None:
    gone_at = time.monotonic() + LAST_WORDS_S
    for thread in threads:
        thread.join(max(0.0, gone_at - time.monotonic()))


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    ended = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with running(settings) as loop:
        base = f"http://{settings.listen}"
        if settings.serves_everything:
            LOG.info("serving on %s (page), %s/metrics, %s/api/v1/snapshot", base, base, base)
        else:
            LOG.info("serving %s/metrics; the page and the API only with --expose, or on loopback", base)
        for supervisor in loop.supervisors:
            supervisor.tried.wait(FIRST_TRY_S)
        _say_what_is_missing(settings, loop)
        ended.wait()
        LOG.info("stopped")


def _say_what_is_missing(settings: Settings, loop: Loop) -> None:
    if settings.mock is not None:
        LOG.warning("these devices are SIMULATED (--mock): no number here was measured")
    elif not any(supervisor.health.up for supervisor in loop.supervisors):
        LOG.warning("no sensor can be read on this machine: nothing is measured; try --mock for a simulated one")
    if loop.snapshot.policy.zone is None:
        LOG.info("no grid zone is set: grams are absent; set one with --zone, such as --zone DE")

"""The composition root: everything that runs, wired by hand on one page. The only importer of exporters."""

import gc
import logging
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from exporters.api import grid_document
from exporters.report_document import unmetered
from exporters.report_file import check_report, read_report, report_json, write_report
from exporters.report_merge import merge
from exporters.report_pricing import reprice
from exporters.report_text import report_text
from exporters.report_text import summary_line as summary
from exporters.reports import Reports
from exporters.runs_table import runs_table
from monitor import clock
from monitor.config import Settings
from monitor.core.model import Device, LedgerState, Processes
from monitor.core.snapshot import Policy
from monitor.ending import Ending
from monitor.ledger.ledger import Ledger, open_ledger
from monitor.loop import Loop
from monitor.runs import control, grid_question, operations, processes
from monitor.runs.membership import ProcessTable, Watcher
from monitor.runs.privacy import filed_names, filed_under, shown_now, user_scope, user_shown
from monitor.runs.registry import Registry
from monitor.runs.run_operations import run_operations
from monitor.sources.supervisor import Supervisor
from monitor.wiring import Together, Wiring, node_name, state_directory, wire

if TYPE_CHECKING:
    from monitor.feeding import Feeding

__all__ = [
    "check_report",
    "grid_document",
    "merge",
    "read_report",
    "report_json",
    "report_text",
    "reprice",
    "runs_table",
    "summary",
    "write_report",
]
"""What verbs need of the exporters, which they do not know."""

LOG = logging.getLogger("trainwatt")

FIRST_TRY_S = 10.0
"""A driver may take seconds to initialise; after this the daemon says what it has without it."""
LAST_WORDS_S = 0.3
"""How long the threads may take to end; a driver that hangs is left behind."""
COLLECT_AFTER = (5_000, 10, 10)
"""A turn makes a few hundred objects, nearly all of which go without the garbage collector."""
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What ends a daemon: the service manager, ^C, a terminal that is closed."""


# -- a daemon at work ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Metering:
    """Sources, loop, book of runs and ledger at work, and what they know."""

    loop: Loop
    registry: Registry
    reports: Reports
    ledger: Ledger
    feeding: "Feeding | None" = None
    """None where nothing is priced."""


@contextmanager
def metering(
    settings: Settings,
    directory: Path,
    state: LedgerState,
    *,
    patience_s: float = 0.0,
    stop_when_told: Callable[[], bool] | None = None,
    finds: bool = True,
) -> Iterator[Metering]:
    """Everything but the HTTP server, in threads, stopped in reverse order on leaving.

    With `finds`, runs are found that nobody registered.

    With patience the control socket answers only after every source has been tried, or so long. Without it, everything
    that can be refused raises UsageError or FailureError before anything has started.
    """
    wiring = wire(settings)
    table = ProcessTable(settings.procfs)
    on_host = not wiring.has_processes or processes.is_on_host(settings.procfs)
    mode, salt = settings.privacy_user, settings.privacy_salt.get_secret_value()
    stop = Event()
    supervisors = [Supervisor(source, now=clock.now) for source in wiring.sources]
    with ExitStack() as stack:
        ledger = open_ledger(
            directory,
            now=clock.now,
            policy=wiring.policy,
            boot_id=table.boot_id(),
            state=state,
            retention_days=settings.retention_days,
            filed_under=filed_under(mode, salt),
            names_of=filed_names(salt),
            shown=shown_now(mode, salt),
        )
        stack.callback(ledger.close)
        registry = Registry(
            now=clock.now,
            devices=lambda: _devices(loop, lists_processes=on_host),
            processes=table,
            remembered=ledger.history.find,
            on_return=lambda totals: loop.seed(totals),  # noqa: PLW0108  (there is no loop yet)
            on_members=lambda process: watcher.watch(process),  # noqa: PLW0108  (there is no watcher yet)
            user_of=user_shown(mode, salt),
            scope_of=user_scope(mode, salt),
        )
        feeding = _feeding(wiring, ledger)
        if feeding is not None:
            stack.callback(feeding.close)
        registry.restore(ledger.runs, at=ledger.restored_at, same_boot=ledger.same_boot)
        if wiring.has_processes:
            source = processes.source(
                settings,
                registry=registry,
                looks=lambda: _looks(loop),
                mark=ledger.first.usage_mark,
                boot_id=table.boot_id(),
                finds=finds,
            )
            supervisors.append(Supervisor(source, now=clock.now, phase_s=processes.PHASE_S))
        loop = Loop(
            ledger.first,
            supervisors=supervisors,
            runs=registry if wiring.simulated is None else Together(wiring.simulated, registry),
            grid=feeding.grid if feeding is not None else wiring.grid,
            now=clock.now,
            interval_s=settings.interval,
            keeper=ledger,
        )
        store = feeding.store if feeding is not None else None
        reports = Reports(
            loop,
            history=ledger.history,
            node=node_name(),
            store=store,
            providers=feeding.order if feeding else {},
            settles_after_s=feeding.settles_after_s if feeding else {},
        )
        watcher = Watcher(registry, table, on_end=loop.edge)
        handlers = operations.source_operations(supervisors) | run_operations(
            registry,
            edge=loop.edge,
            report=reports.require,
            summaries=reports.recent,
            ledger_id=lambda: ledger.id,
            node=node_name(),
            devices=lambda: _devices(loop),
            missing=lambda: unmetered(loop.snapshot),
            watch=watcher.watch,
            processes=table,
            forget=ledger.forget,
            stop=stop_when_told,
        )
        handlers |= grid_question.grid_operation(lambda: grid_document(loop.snapshot))
        answering = control.serving(settings.socket, handlers, background=(watcher.run,))
        if not patience_s:
            stack.enter_context(answering)
        threads = [supervisor.start(stop) for supervisor in supervisors]
        threads.append(loop.start(stop))
        if feeding is not None:
            threads += feeding.start(stop)
            stack.callback(feeding.wake)
        stack.callback(_join, threads)
        stack.callback(loop.wake)
        for supervisor in supervisors:
            stack.callback(supervisor.wake)
        stack.callback(stop.set)
        ledger.start(loop.publish)
        if patience_s:
            gone_at_s = time.monotonic() + patience_s
            for supervisor in supervisors:
                supervisor.tried.wait(max(0.0, gone_at_s - time.monotonic()))
            stack.enter_context(answering)
        yield Metering(loop, registry, reports, ledger, feeding)


def _feeding(wiring: Wiring, ledger: Ledger) -> "Feeding | None":
    """The grid's side, filled with what was known before; None where there is nothing to price, nor to tell others."""
    if not wiring.needs_feeding:
        return None
    from monitor.feeding import Feeding

    feeding = Feeding(wiring, ledger.history, ledger.path)
    feeding.fill()
    return feeding


def _devices(loop: Loop, *, lists_processes: bool = True) -> list[Device]:
    """As the sources tell them; outside of the host's PID namespace the processes that drivers list are no help."""
    devices = [entry.device for entry in loop.head.devices.values()]
    return devices if lists_processes else [replace(device, lists_processes=False) for device in devices]


def _looks(loop: Loop) -> dict[str, Processes]:
    return {entry.device.id: entry.processes for entry in loop.head.devices.values() if entry.processes is not None}


def _join(threads: Sequence[Thread]) -> None:
    gone_at = time.monotonic() + LAST_WORDS_S
    for thread in threads:
        thread.join(max(0.0, gone_at - time.monotonic()))


# -- the daemon of a node --------------------------------------------------------------------------------------------


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    ended = Ending(ENDING)
    with running(settings) as loop:
        for supervisor in loop.supervisors:
            supervisor.tried.wait(FIRST_TRY_S)
        if settings.mock is None and not any(one.health.up for one in loop.supervisors if one.name != processes.NAME):
            LOG.warning("no sensor can be read on this machine: nothing is measured; try --mock for a simulated one")
        _spare_the_collector()
        ended.wait()
        LOG.info("stopped")


@contextmanager
def running(settings: Settings) -> Iterator[Loop]:
    """A daemon with its HTTP server. Raises UsageError or FailureError before anything has started."""
    from exporters import http  # takes longer than everything else, and a private daemon serves none

    with ExitStack() as stack:
        listener = http.bind(settings.listen_host, settings.listen_port)
        stack.callback(listener.close)
        directory, state = state_directory(settings), LedgerState.FILE
        if settings.mock is not None:  # what is simulated never mixes with what was measured
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainwatt-mock-")))
            state = LedgerState.TEMPORARY
        parts = stack.enter_context(metering(settings, directory, state))
        _say_what_is_served(settings, parts.loop.snapshot.policy)
        stack.enter_context(
            http.serving(
                parts.loop,
                listener,
                everything=settings.serves_everything,
                reports=parts.reports,
                store=parts.feeding.store if parts.feeding is not None else None,
                wanted=parts.feeding.watch if parts.feeding is not None and settings.relay else None,
                relay=settings.relay,
            )
        )
        yield parts.loop


def _spare_the_collector() -> None:
    """What is there after the start stays: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _say_what_is_served(settings: Settings, policy: Policy) -> None:
    """Before a page or a scrape shows a number, so that nobody takes a simulated one for a measured one."""
    if settings.mock is not None:
        LOG.warning("these devices are SIMULATED (--mock): no number here was measured")
    base = f"http://{settings.listen}"
    if settings.serves_everything:
        LOG.info("serving on %s (page), %s/metrics, %s/api/v1/snapshot", base, base, base)
    else:
        LOG.info("serving %s/metrics; the page and the API only with --expose, or on loopback", base)
    if policy.zone is None and not policy.zones:
        LOG.info("no grid zone is set: grams are absent; set one with --zone, such as --zone DE")
    elif policy.zone is not None:
        LOG.info("grid zone %s: %s", policy.zone, policy.zone_found)


# -- the daemon of one run -------------------------------------------------------------------------------------------

NOBODY_CAME_S = 15.0
LINGER_S = 2.0
"""Ranks of a run may start one after the other."""
LOOK_EVERY_S = 0.5


def private(directory: Path, settings: Settings) -> bool:
    """Meter on a socket in the directory while a run is alive; whether its ledger is of no more use.

    It is when no run was left alive: told to stop, or nobody came for a while. SIGTERM ends it earlier.
    """
    ended, finished = Ending(ENDING), Event()

    def stop() -> bool:
        finished.set()
        ended.ring()
        return True

    settings = settings.model_copy(update={"socket": directory / "socket"})
    with metering(
        settings,
        directory,
        LedgerState.TEMPORARY,
        patience_s=FIRST_TRY_S,
        stop_when_told=stop,
        finds=False,
    ) as parts:
        LOG.info("metering for runs of this user on %s", settings.socket)
        alone_s, patience_s = 0.0, NOBODY_CAME_S
        while not ended.wait_until(clock.now().mono_s + LOOK_EVERY_S):
            live = parts.registry.live()
            alone_s = 0.0 if live else alone_s + LOOK_EVERY_S
            patience_s = LINGER_S if parts.registry.runs(clock.now()).runs else patience_s
            if alone_s >= patience_s:
                break
        return finished.is_set() or not parts.registry.live()

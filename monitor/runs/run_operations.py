"""What may be asked of runs over the control socket: start, join, progress, phase, end, runs, report, stop."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from monitor.core import budget
from monitor.core.model import Device, Run
from monitor.core.snapshot import Snapshot
from monitor.errors import FailureError
from monitor.runs import holdings, identity, requests
from monitor.runs.book import short
from monitor.runs.control import Answer, Handler
from monitor.runs.errands import Edge, in_thread, read_devices
from monitor.runs.forgetting import Forgetter, forget_operation
from monitor.runs.identity import Process
from monitor.runs.jobs import job_operations
from monitor.runs.membership import ProcessTable
from monitor.runs.protocol import Peer
from monitor.runs.registry import Registry
from monitor.runs.tally import told
from monitor.runs.wish import Wish

EDGE_WITHIN_S = 2.0
"""How long a start or an end waits for the devices to be read; the run counts from its moment all the same."""
LOOK_AGAIN_S = 0.1
MOST_COMPLAINTS = 3
"""Of one run so many are told."""
REMEMBERED_COMPLAINTS = 100
LATE_END = "the last joules of a device that did not tell them in time"
OUT_OF_SIGHT = (
    "your process is outside the daemon's PID namespace, so its end could not be seen; "
    "run the daemon with the host's PID namespace (--pid=host, hostPID: true)"
)

LOG = logging.getLogger("trainwatt")

T = TypeVar("T")


def run_operations(
    registry: Registry,
    *,
    edge: Edge,
    report: Callable[[str], Mapping[str, Any]],
    summaries: Callable[[int], Mapping[str, Any]],
    ledger_id: Callable[[], str],
    node: str,
    devices: Callable[[], Iterable[Device]],
    missing: Callable[[], Sequence[str]] = tuple,
    watch: Callable[[Process], None],
    processes: ProcessTable | None = None,
    forget: Forgetter | None = None,
    stop: Callable[[], bool] | None = None,
    edge_within_s: float = EDGE_WITHIN_S,
) -> dict[str, Handler]:
    """The operations by name. `report` and `summaries` may read a disk: they are called in threads of their own.

    `summaries` is the answer to `runs`: the newest ones, and the problem if the ended ones could not be read.

    `watch` is that of the Watcher; `stop` ends a private daemon, False = it will not; without it there is no `stop`.
    """
    desk = _Desk(
        registry=registry,
        edge=edge,
        edge_within_s=edge_within_s,
        report_of=report,
        summaries=summaries,
        ledger_id=ledger_id,
        node=node,
        devices=devices,
        missing=missing,
        watch=watch,
        processes=processes or ProcessTable(),
    )
    handlers: dict[str, Handler] = {
        "start": desk.start,
        "join": desk.join,
        "progress": desk.progress,
        "phase": desk.phase,
        "end": desk.end,
        "runs": desk.runs,
        "report": desk.report,
    } | job_operations(registry, edge=edge)
    if forget is not None:
        handlers["forget"] = forget_operation(registry, forget)
    if stop is not None:
        handlers["stop"] = _stop(registry, stop)
    return handlers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """Where the requests of runs are answered."""

    registry: Registry
    edge: Edge
    edge_within_s: float
    report_of: Callable[[str], Mapping[str, Any]]
    summaries: Callable[[int], Mapping[str, Any]]
    ledger_id: Callable[[], str]
    node: str
    devices: Callable[[], Iterable[Device]]
    missing: Callable[[], Sequence[str]]
    watch: Callable[[Process], None]
    processes: ProcessTable
    turns: WeakValueDictionary[int, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """One to a user who waits for a disk."""
    complained: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED_COMPLAINTS))
    """What was told: each rank of a run says the same."""

    async def start(self, peer: Peer, request: Mapping[str, Any]) -> Answer:
        wanted = requests.parse(requests.Start, request)
        process = self._asker(peer)
        wish = self._wish(wanted, peer, process)
        before = self.registry.get(wish.id)
        if before is not None and before.end is not None:
            # It is queued again: what its last stretch used is told before its next one begins.
            await self._last_edge(before.id)
        # Asks the ledger, and whoever knows the names of users.
        started = await in_thread(lambda: self.registry.start(wish, peer.uid, process))
        if process is not None:
            self.watch(process)
        self._complain(started.run)
        late = await self._edge() is None
        return self._told(started.run, joined=started.joined, altered=started.altered, late=late)

    def _complain(self, run: Run) -> None:
        """Tell once of budgets that are none. They are no reason to refuse a run: it is metered without them."""
        complaints = budget.complaints(run.tags)
        words = f"run {short(run.id)}: {'; '.join(complaints[:MOST_COMPLAINTS])}; of no effect"
        if complaints and words not in self.complained:
            self.complained.append(words)
            LOG.warning("%s", words)

    def _wish(self, wanted: requests.Start, peer: Peer, process: Process | None) -> Wish:
        environment = wanted.environment
        own = environment if wanted.id is None else {**environment, "TRAINWATT_RUN": wanted.id}
        origin = self.processes.origin(process or Process(peer.pid, 0))
        parent = self.processes.parent(peer.pid) if "LOCAL_RANK" in environment else None
        above = None if parent is None else self.processes.origin(parent)
        return Wish(
            id=identity.run_id(environment, origin, above) if wanted.id is None else wanted.id,
            name=wanted.name or "",
            project=wanted.project or "",
            launcher=wanted.launcher or identity.launcher(environment),
            job_id=wanted.job_id or identity.job_id(environment),
            tags=tuple(wanted.tags.items()),
            hints=holdings.hints(environment),
            key=identity.key(own, peer.uid),
            raw_job_id=identity.raw_job_id(environment),
            is_named=bool(identity.given_id(own)),
        )

    async def join(self, peer: Peer, request: Mapping[str, Any]) -> Answer:
        wanted = requests.parse(requests.Join, request)
        process = self._asker(peer) if wanted.pid is None else self._other(peer, wanted.pid)
        run = self.registry.join(wanted.run, peer.uid, process)
        if process is not None:
            self.watch(process)
        return self._told(run, joined=True, altered=False, late=False)

    async def progress(self, peer: Peer, request: Mapping[str, Any]) -> Answer:
        wanted = requests.parse(requests.Progress, request)
        said = told(
            steps=wanted.steps, tokens=wanted.tokens, samples=wanted.samples, done=wanted.done, total=wanted.total
        )
        process = self._asker(peer)
        if process is None:  # its last words
            known = self.registry.known_process(wanted.run, peer.uid, peer.pid)
            process = known or Process(peer.pid, 0)
        if self.registry.progress(wanted.run, peer.uid, process, said):
            self.watch(process)
        return {}

    async def phase(self, peer: Peer, request: Mapping[str, Any]) -> Answer:
        wanted = requests.parse(requests.Phase, request)
        self.registry.phase(wanted.run, peer.uid, wanted.phase)
        return {}

    async def end(self, peer: Peer, request: Mapping[str, Any]) -> Answer:
        wanted = requests.parse(requests.End, request)
        self._asker(peer)
        pid = peer.pid if wanted.pid is None else wanted.pid
        if pid != peer.pid:
            self._refuse_foreign_numbers(peer)
        ended = self.registry.end(wanted.run, peer.uid, pid)
        answer: dict[str, Any] = {"run": ended.run.id, "ended": ended.ended}
        if not ended.ended and not ended.deserted:
            return answer
        late = await self._last_edge(ended.run.id)
        report = await self._one_at_a_time(peer, lambda: self.report_of(ended.run.id))
        if not late:
            return answer | {"report": report}
        report = {**report, "missing": [LATE_END, *report.get("missing", ())]}
        return answer | {"late": True, "report": report}

    async def runs(self, peer: Peer, request: Mapping[str, Any]) -> Answer:
        wanted = requests.parse(requests.Runs, request)
        return await self._one_at_a_time(peer, lambda: self.summaries(wanted.limit))

    async def report(self, peer: Peer, request: Mapping[str, Any]) -> Answer:
        wanted = requests.parse(requests.Report, request)
        run_id = self.registry.resolve_id(wanted.run, peer.uid)
        return {"report": await self._one_at_a_time(peer, lambda: self.report_of(run_id))}

    # -- who asks ----------------------------------------------------------------------------------------------------

    def _asker(self, peer: Peer) -> Process | None:
        """The asking process; None = it has gone. Raises FailureError for one whose end we could not see."""
        if peer.pid <= 0:
            raise FailureError(OUT_OF_SIGHT)
        return self.processes.identify(peer.pid)

    def _other(self, peer: Peer, pid: int) -> Process:
        """Another process, named by its number. Raises FailureError unless it is the asker's own."""
        self._refuse_foreign_numbers(peer)
        process = self.processes.identify(pid)
        if process is None:
            raise FailureError(f"pid = {pid}: no such process")
        if self.processes.uid(pid) != peer.uid:
            raise FailureError(f"pid = {pid}: the process of another user; a run takes only its owner's")
        return process

    def _refuse_foreign_numbers(self, peer: Peer) -> None:
        if self.processes.depth(peer.pid) != self.processes.depth("self"):
            raise FailureError("pid: processes of a container have other numbers here; let each one ask for itself")

    # -- what is told ------------------------------------------------------------------------------------------------

    async def _last_edge(self, run_id: str) -> bool:
        """Have the devices read until all have told of the run's end; whether that took too long to wait for."""
        gone_s = asyncio.get_running_loop().time() + self.edge_within_s
        while (snapshot := await self._edge()) is not None and not snapshot.tells_all_of(run_id):
            if asyncio.get_running_loop().time() > gone_s:
                return True
            await asyncio.sleep(LOOK_AGAIN_S)
        return snapshot is None

    async def _edge(self) -> Snapshot | None:
        return await read_devices(self.edge, self.edge_within_s)

    async def _one_at_a_time(self, peer: Peer, work: Callable[[], T]) -> T:
        """In a thread, one of a user at a time: however many somebody asks, the others' turn comes."""
        turn = self.turns.get(peer.uid)
        if turn is None:
            turn = self.turns[peer.uid] = asyncio.Lock()
        async with turn:
            return await in_thread(work)

    def _told(self, run: Run, *, joined: bool, altered: bool, late: bool) -> Answer:
        now = self.registry.get(run.id) or run
        seen = list(self.devices())
        answer: dict[str, Any] = {
            "run": run.id,
            "name": now.name,
            "ledger": self.ledger_id(),
            "node": self.node,
            "joined": joined,
            "altered": altered,
            "devices": [
                {"id": one.id, "component": one.component, "index": one.index, "model": one.model}
                for one in seen
                if one.id in now.holds
            ],
            "missing": [*self.missing(), *self.registry.doubts(run.id)],
        }
        return answer | {"late": True} if late else answer


def _stop(registry: Registry, stop: Callable[[], bool]) -> Handler:
    async def handle(peer: Peer, request: Mapping[str, Any]) -> Answer:
        requests.parse(requests.Stop, request)
        if peer.uid != os.geteuid():
            raise FailureError("only the daemon's own user may stop it")
        if registry.live() or not stop():
            raise FailureError("a run is still alive; the daemon ends with the last one")
        return {}

    return handle

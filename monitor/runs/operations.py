"""What administrators may ask of the sources over the control socket: release one, resume it."""

import asyncio
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from monitor.core.model import Instant, SourceHealth
from monitor.errors import FailureError
from monitor.runs.control import Answer, Handler, shown
from monitor.runs.membership import ProcessTable
from monitor.runs.protocol import DEFAULT_RELEASE_S, LONGEST_RELEASE_S, Peer

CLOSE_WITHIN_S = 10.0
"""How long a client waits for a driver; the order stands even if it takes longer."""


class Releasable(Protocol):
    """A source that lets go of its hardware when told to."""

    @property
    def name(self) -> str:
        """The label `source`."""
        ...

    @property
    def health(self) -> SourceHealth:
        """How it fares now."""
        ...

    def release(self, limit_s: float) -> Future[Instant | None]:
        """Close for so long. The result comes when it is closed: when it opens by itself; None = it did not close."""
        ...

    def resume(self) -> Future[Instant | None] | None:
        """End a release. The result comes when it has been tried; None at once = it was not released."""
        ...


def source_operations(sources: Iterable[Releasable]) -> dict[str, Handler]:
    """`release` and `resume`, for administrators."""
    by_name = {source.name: source for source in sources}

    def chosen(peer: Peer, request: Mapping[str, Any]) -> Releasable:
        if not is_administrator(peer):
            own = os.geteuid()
            who = "root" if own == 0 else f"root and the daemon's own user (uid {own})"
            raise FailureError(f"only {who}, outside containers, may {request['op']} a source")
        name = request.get("source")
        source = by_name.get(name) if isinstance(name, str) else None
        if source is None:
            raise FailureError(f"unknown source {shown(name)}; there is: {', '.join(by_name)}")
        return source

    async def release(peer: Peer, request: Mapping[str, Any]) -> Answer:
        source = chosen(peer, request)
        until = await _result(source.release(_limit_s(request)), source.name)
        if until is None:
            raise FailureError(f"{source.name} was to be open again before it was closed; release it for longer")
        return {"source": source.name, "released_until_s": until.wall_s}

    async def resume(peer: Peer, request: Mapping[str, Any]) -> Answer:
        source = chosen(peer, request)
        tried = source.resume()
        if tried is None:
            return {"source": source.name, "was_released": False, "up": source.health.up}
        if await _result(tried, source.name) is not None:
            raise FailureError(f"{source.name} was released again before it was opened")
        health = source.health
        return {"source": source.name, "was_released": True, "up": health.up, "problem": health.problem}

    return {"release": release, "resume": resume}


def is_administrator(peer: Peer) -> bool:
    """Root, or the daemon's own user, in our PID namespace: root of a container is nobody here."""
    return peer.uid in {0, os.geteuid()} and _shares_our_processes(peer.pid)


def _shares_our_processes(pid: int) -> bool:
    """Whether a process lives in our PID namespace: one that we see is in ours or in one below (proc_pid_status(5))."""
    processes = ProcessTable()
    return processes.depth(pid) == processes.depth("self")


async def _result(future: Future[Instant | None], name: str) -> Instant | None:
    try:
        async with asyncio.timeout(CLOSE_WITHIN_S):
            return await asyncio.wrap_future(future)
    except TimeoutError as error:
        raise FailureError(
            f"{name}: a call into the driver has not returned for {CLOSE_WITHIN_S:g} s; the order stands and is "
            "carried out when it does; if it never does, stop the daemon"
        ) from error


def _limit_s(request: Mapping[str, Any]) -> float:
    limit_s = request.get("limit_s", DEFAULT_RELEASE_S)
    if isinstance(limit_s, bool) or not isinstance(limit_s, int | float) or not 0.0 < limit_s <= LONGEST_RELEASE_S:
        raise FailureError(f"limit_s = {shown(limit_s)}: expected seconds above 0, at most {LONGEST_RELEASE_S:g}")
    return float(limit_s)

"""What may be asked of the ledger over the control socket: to forget ended runs."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from monitor.errors import FailureError
from monitor.runs import requests
from monitor.runs.control import Answer, Handler
from monitor.runs.errands import in_thread
from monitor.runs.membership import user_name
from monitor.runs.operations import is_administrator
from monitor.runs.protocol import Peer
from monitor.runs.registry import Registry


class Forgetter(Protocol):
    """Removes ended runs from the ledger: one by its id, or all of a user by name, but for those in `keep`."""

    def __call__(self, *, run_id: str | None, user: str | None, keep: frozenset[str]) -> "Future[tuple[str, ...]]":
        """The ids of those that were removed."""
        ...


def forget_operation(registry: Registry, forget: Forgetter) -> Handler:
    """`forget`."""

    async def handle(peer: Peer, request: Mapping[str, Any]) -> Answer:
        wanted = requests.parse(requests.Forget, request)
        if (wanted.run is None) == (wanted.user is None):
            raise FailureError("forget takes a run or a user: send one of them")
        keep = frozenset(registry.live())
        run_id = None if wanted.run is None else registry.resolve_id(wanted.run, peer.uid)
        await in_thread(lambda: _refuse_strangers(registry, peer, run_id, wanted.user))
        if run_id in keep:
            raise FailureError(f"run {run_id!r} is still alive; end it first")
        future = await in_thread(lambda: forget(run_id=run_id, user=wanted.user, keep=keep))
        gone = await asyncio.shield(asyncio.wrap_future(future))
        registry.forget(gone)
        return {"forgotten": len(gone)}

    return handle


def _refuse_strangers(registry: Registry, peer: Peer, run_id: str | None, user: str | None) -> None:
    if is_administrator(peer):
        return
    if user is not None and user != user_name(peer.uid):
        raise FailureError("only an administrator may forget another user's runs")
    if run_id is not None:
        owner = registry.owner(run_id)
        if owner is None:
            raise FailureError(f"no run {run_id!r}; see trainwatt runs for those there are")
        if owner != peer.uid:
            raise FailureError(
                f"run {run_id!r} belongs to another user; only its owner or an administrator may do that"
            )

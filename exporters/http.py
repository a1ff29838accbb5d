"""The page, the read-only API, `/metrics` and the health probes, by starlette on uvicorn in a thread of its own."""

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib import resources
from threading import Event, Thread
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporters.api import devices_document, grid_document, snapshot_document
from exporters.prometheus import Exposition
from exporters.relay import QuestionError, Relay
from exporters.reports import Reports
from monitor.core.ports import History, IntensityStore, SnapshotView
from monitor.errors import FailureError

SMALLEST_GZIP_BYTES = 500
SHOWN_RUNS = 100
MOST_RUNS = 1000
"""Of one answer: so many runs unless asked otherwise, and so many at most."""
KEEP_ALIVE_S = 75
"""Longer than the interval of any usual scraper, which then needs no new connection each time."""
START_WITHIN_S = 10.0
GRACE_S = 0.3
"""How long an open request may take at the end: the whole daemon must be gone within a second."""


RELAY_PATH = "grid/intensity"


def create_app(
    view: SnapshotView,
    *,
    everything: bool,
    history: History | None = None,
    node: str = "",
    reports: Reports | None = None,
    store: IntensityStore | None = None,
    wanted: Callable[[str], None] | None = None,
    relay: bool = False,
) -> Starlette:
    """The ASGI application over one published snapshot; without `everything` only metrics and probes.

    `reports` answers for runs; without it they are made of the snapshot and of `history`, which knows those that are no
    longer in it, under the host's name `node`. `store` answers
    other trainwatts, with `relay` also where the rest is withheld; `wanted` is told each zone that they ask for first.
    """
    exposition = Exposition(view)
    page = resources.files("exporters").joinpath("page.html").read_text("utf-8")

    async def metrics(request: Request) -> Response:
        body, content_type = exposition.render(request.headers.get("accept", ""))
        return _compressed(body, content_type, request.headers)

    async def healthy(_request: Request) -> Response:
        return PlainTextResponse("trainwatt is running\n")

    async def ready(_request: Request) -> Response:
        if is_ready(view):
            return PlainTextResponse("trainwatt is ready\n")
        return PlainTextResponse("trainwatt has no sample yet\n", status_code=503)

    async def home(_request: Request) -> Response:
        return HTMLResponse(page)

    async def withheld(_request: Request) -> Response:
        text = "the page and the API are served on loopback only; start trainwatt with --expose to serve them here\n"
        return PlainTextResponse(text, status_code=403)

    api = _api(view, reports or Reports(view, history=history, node=node))
    if store is not None:
        api[RELAY_PATH] = _relay(Relay(store, wanted))
    open_paths = set(api) if everything else {RELAY_PATH} if relay else set()
    return Starlette(
        routes=[
            Route("/", home if everything else withheld),
            Route("/metrics", metrics),
            Route("/-/healthy", healthy),
            Route("/-/ready", ready),
            *(Route(f"/api/v1/{path}", answer if path in open_paths else withheld) for path, answer in api.items()),
        ]
    )


def _api(view: SnapshotView, reports: Reports) -> dict[str, Callable[[Request], Awaitable[Response]]]:
    """What answers under `/api/v1/`. Reports may come from a disk, so they are made in starlette's own threads."""

    async def snapshot(request: Request) -> Response:
        return _json(snapshot_document(view.snapshot), request.headers)

    async def devices(request: Request) -> Response:
        return _json({"devices": devices_document(view.snapshot)}, request.headers)

    async def grid(request: Request) -> Response:
        return _json(grid_document(view.snapshot), request.headers)

    async def runs(request: Request) -> Response:
        text = request.query_params.get("limit", str(SHOWN_RUNS))
        limit = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MOST_RUNS)) else 0
        if not 1 <= limit <= MOST_RUNS:
            return _refusal(f"limit: expected a number from 1 to {MOST_RUNS}", 400)
        return await run_in_threadpool(lambda: _json(reports.recent(limit), request.headers))

    async def report(request: Request) -> Response:
        return await run_in_threadpool(_report, reports, request.path_params["run"], request.headers)

    return {"snapshot": snapshot, "devices": devices, "grid": grid, "runs": runs, "runs/{run:path}": report}


def _relay(relay: Relay) -> Callable[[Request], Awaitable[Response]]:
    """The store reads a disk, so it is asked in starlette's own threads."""

    def answered(query: Mapping[str, str], headers: Headers) -> Response:
        try:
            return _json(relay.answer(query), headers)
        except QuestionError as error:
            return _refusal(str(error), error.status)

    async def intensity(request: Request) -> Response:
        return await run_in_threadpool(answered, request.query_params, request.headers)

    return intensity


def _report(reports: Reports, run_id: str, headers: Headers) -> Response:
    try:
        document = reports.report(run_id)
        return _refusal(reports.unknown(run_id), 404) if document is None else _json(document, headers)
    except FailureError as error:
        return _refusal(str(error), 503)


def _json(document: dict[str, Any], headers: Headers) -> Response:
    # In ASCII: a name that is no valid Unicode is escaped instead of failing the whole answer.
    body = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    return _compressed(body, "application/json", headers)


def _refusal(error: str, status: int) -> Response:
    return Response(json.dumps({"error": error}).encode(), status, media_type="application/json")


def is_ready(view: SnapshotView) -> bool:
    """True once every source has been tried and a sample has been taken."""
    snapshot = view.snapshot
    return snapshot.at is not None and all(health.up or health.problem for health in snapshot.sources)


def _compressed(body: bytes, content_type: str, headers: Headers) -> Response:
    answer = {"content-type": content_type, "vary": "accept, accept-encoding"}
    if "gzip" in headers.get("accept-encoding", "") and len(body) >= SMALLEST_GZIP_BYTES:
        # Level 1: the text shrinks eightfold at any level, and the job next door pays for the rest.
        return Response(gzip.compress(body, 1), headers=answer | {"content-encoding": "gzip"})
    return Response(body, headers=answer)


def bind(host: str, port: int) -> socket.socket:
    """Take the address. Raises FailureError with the remedy when it is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio switches Nagle's algorithm off only where it is: else every answer waits
    # 40 ms for the scraper's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise FailureError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another address with --listen HOST:PORT"
        ) from error
    return listener


class _QuietServer(uvicorn.Server):
    """uvicorn without its ten ticks a second: it sleeps until a request comes or `stop` is called."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopped: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.serving = Event()

    async def main_loop(self) -> None:
        self._stopped = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.serving.set()
        await self._stopped.wait()

    def stop(self) -> None:
        """End the server from another thread."""
        self.should_exit = True
        if self._loop is not None and self._stopped is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)


@contextlib.contextmanager
def serving(
    view: SnapshotView,
    listener: socket.socket,
    *,
    everything: bool = True,
    history: History | None = None,
    node: str = "",
    reports: Reports | None = None,
    store: IntensityStore | None = None,
    wanted: Callable[[str], None] | None = None,
    relay: bool = False,
) -> Iterator[None]:
    """Answer requests on a bound socket, in a thread, until left. Raises FailureError when the server cannot start."""
    config = uvicorn.Config(
        create_app(
            view,
            everything=everything,
            history=history,
            node=node,
            reports=reports,
            store=store,
            wanted=wanted,
            relay=relay,
        ),
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        date_header=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
    server = _QuietServer(config)
    thread = Thread(target=server.run, kwargs={"sockets": [listener]}, name="http", daemon=True)
    thread.start()
    if not server.serving.wait(START_WITHIN_S):
        raise FailureError("the HTTP server did not start; see the lines above")
    try:
        yield
    finally:
        server.force_exit = True
        server.stop()
        thread.join(GRACE_S)

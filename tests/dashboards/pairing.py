"""A scrape target before a daemon, which keeps the API's JSON of every exposition that it passes on.

Each exposition has one series more, `pairing_number`: under it Prometheus tells what it saw, and when.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

from prometheus_client.parser import text_string_to_metric_families

from tests.dashboards.oracle import Scrape, Vector
from tests.harness import poll
from tests.harness.daemon import Daemon

NUMBER = "pairing_number"
EVERY_S = 0.3
"""Often enough that no scrape sees the same snapshot as the one before, which the daemon makes once a second."""


@dataclass(frozen=True)
class Pair:
    """An exposition and the documents of the same snapshot."""

    exposition: str
    snapshot: dict[str, Any]
    grid: dict[str, Any]
    runs: list[dict[str, Any]]
    reports: dict[str, dict[str, Any]]

    @property
    def series(self) -> Vector:
        """The exposition, parsed; names as label `__name__`."""
        return {
            frozenset({"__name__": sample.name, **sample.labels}.items()): sample.value
            for family in text_string_to_metric_families(self.exposition)
            for sample in family.samples
        }


@dataclass
class Pairing:
    """What a daemon said, by number."""

    daemon: Daemon
    pairs: list[Pair] = field(default_factory=list)
    port: int = 0
    is_gone: bool = False
    """Whether it is answered no more."""

    @property
    def instance(self) -> str:
        """As the label of its series has it."""
        return f"127.0.0.1:{self.port}"

    def take(self) -> None:
        """Ask for everything until all of it is of one snapshot, and keep it."""
        self.pairs.append(poll.until(self._ask, what="answers of one snapshot", every_s=0.01))

    def exposition(self) -> str:
        """The newest one, with its number."""
        number = len(self.pairs) - 1
        return f"{self.pairs[number].exposition}{NUMBER} {number}\n"

    def scrape(self, number: int, *, at_s: float, job: str) -> Scrape:
        """What Prometheus stored at a moment."""
        pair = self.pairs[number]
        return Scrape(at_s, job, self.instance, pair.snapshot, pair.grid, pair.runs, pair.reports, pair.series)

    def _ask(self) -> Pair | None:
        before = self._get("snapshot")
        snapshot = json.loads(before)
        pair = Pair(
            self.daemon.metrics(),
            snapshot,
            json.loads(self._get("grid")),
            json.loads(self._get("runs"))["runs"],
            {run["id"]: json.loads(self._get(f"runs/{quote(run['id'])}")) for run in snapshot["runs"]},
        )
        return pair if before == self._get("snapshot") else None

    def _get(self, path: str) -> bytes:
        return self.daemon.get(f"/api/v1/{path}")[2]


@contextmanager
def pairing(daemon: Daemon) -> Iterator[Pairing]:
    """Serve a daemon's expositions on a port of its own until left."""
    pairs = Pairing(daemon)
    pairs.take()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pairs.exposition().encode()
            self.send_response(503 if pairs.is_gone else 200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name of the base class)
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pairs.port = server.server_port
    stop = threading.Event()

    def keep_up() -> None:
        while not stop.wait(EVERY_S):
            pairs.take()

    threads = [threading.Thread(target=server.serve_forever, args=(0.05,)), threading.Thread(target=keep_up)]
    for thread in threads:
        thread.start()
    try:
        yield pairs
    finally:
        stop.set()
        server.shutdown()
        for thread in threads:
            thread.join()
        server.server_close()

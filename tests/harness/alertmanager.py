"""A real Alertmanager, and the webhook that it tells."""

import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.harness import need, poll
from tests.harness.daemon import free_port


class Webhook:
    """What a receiver of alerts has been told."""

    def __init__(self, url: str, told: list[dict[str, Any]]) -> None:
        self.url = url
        self._told = told
        """Every alert of every message, as it came, oldest first."""

    def alerts(self, name: str) -> list[dict[str, Any]]:
        """The alerts of this name so far: `status`, `labels`, `annotations` and times, as Alertmanager sends them."""
        return [alert for alert in tuple(self._told) if alert["labels"]["alertname"] == name]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Listen on a free port until left."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Webhook(f"http://127.0.0.1:{server.server_port}/", told)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextmanager
def alertmanager(receiver: Webhook, directory: Path) -> Iterator[str]:
    """Run until left; HOST:PORT. Each alert is passed on at once, in a message of its own."""
    program = need.program("prometheus-alertmanager")
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "alertmanager.yml"
    settings = {
        "route": {"receiver": "hook", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"},
        "receivers": [{"name": "hook", "webhook_configs": [{"url": receiver.url, "send_resolved": True}]}],
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    address = f"127.0.0.1:{free_port()}"
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.path={directory / 'data'}",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        poll.until(
            lambda: urllib.request.urlopen(f"http://{address}/-/ready", timeout=2).close() or True, what="Alertmanager"
        )
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)

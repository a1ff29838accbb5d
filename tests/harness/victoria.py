"""A real VictoriaMetrics that stores what several Prometheus replicas write to it, and answers like one of them."""

import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness import need, poll
from tests.harness.daemon import free_port
from tests.harness.prometheus import Prometheus


@contextmanager
def victoria(directory: Path) -> Iterator[Prometheus]:
    """Run until left; replicas write to `url` + /api/v1/write, and queries see everything at once."""
    server = need.program("victoria-metrics")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [
                server,
                f"-httpListenAddr=127.0.0.1:{port}",
                f"-storageDataPath={directory / 'data'}",
                "-search.latencyOffset=0s",
                "-retentionPeriod=100y",  # days in virtual time may lie long ago
                "-memory.allowedBytes=128MB",
            ],
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        poll.until(lambda: urllib.request.urlopen(f"{url}/health", timeout=2).close() or True, what="VictoriaMetrics")
        yield Prometheus(url)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)

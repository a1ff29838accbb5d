"""A real Prometheus that scrapes what a test names."""

import json
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness import need, poll
from tests.harness.daemon import free_port


class Prometheus:
    """A running server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str | float) -> Any:
        """The `data` of an API answer."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str, **parameters: str | float) -> list[dict[str, Any]]:
        """Result of an instant query."""
        result: list[dict[str, Any]] = self.get("query", query=expression, **parameters)["result"]
        return result

    def samples(self, selector: str, range_s: int) -> dict[tuple[tuple[str, str], ...], list[tuple[float, float]]]:
        """Raw samples (Unix time, value) of each series of a selector, oldest first."""
        return {
            tuple(sorted(series["metric"].items())): [(float(t), float(v)) for t, v in series["values"]]
            for series in self.query(f"{selector}[{range_s}s]")
        }

    def scrapes(self) -> int:
        """How often the slowest target has been scraped well."""
        counts = [float(series["value"][1]) for series in self.query("sum_over_time(up[1h])")]
        return int(min(counts, default=0))

    def wait_for_scrapes(self, count: int, *, within_s: float = 60.0) -> None:
        """Return once every target has been scraped so often."""
        poll.until(lambda: self.scrapes() >= count, what=f"{count} scrapes", within_s=within_s, every_s=0.2)


@contextmanager
def prometheus(
    targets: Sequence[str],
    directory: Path,
    *,
    interval_s: float = 1.0,
    replica: str = "",
    write_to: str = "",
    rules: Sequence[Path] = (),
    alertmanager: str = "",
) -> Iterator[Prometheus]:
    """Scrape `targets` (HOST:PORT) as job `trainwatt` until left.

    As one of several replicas it carries its name as an external label and writes to a common store, too.
    The files of `rules` are evaluated as often as is scraped, and `alertmanager` (HOST:PORT) is told.
    """
    server = need.program("prometheus")
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "prometheus.yml"
    jobs = [{"job_name": "trainwatt", "static_configs": [{"targets": list(targets)}]}]
    interval = f"{interval_s * 1000:.0f}ms"
    common = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
    settings: dict[str, Any] = {"global": common, "scrape_configs": jobs}
    if rules:
        settings["rule_files"] = [str(file.absolute()) for file in rules]
    if alertmanager:
        settings["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    if replica:
        settings["global"] |= {"external_labels": {"replica": replica}}
    if write_to:
        settings["remote_write"] = [{"url": write_to, "queue_config": {"batch_send_deadline": "200ms"}}]
    config.write_text(json.dumps(settings))  # JSON is YAML
    port = free_port()
    with (directory / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                server,
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    running = Prometheus(f"http://127.0.0.1:{port}")
    try:
        poll.until(
            lambda: urllib.request.urlopen(f"{running.url}/-/ready", timeout=2).close() or True, what="Prometheus"
        )
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)

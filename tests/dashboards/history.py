"""What Prometheus would have scraped of nodes in virtual time, and a real Prometheus that holds it."""

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness import need
from tests.harness.prometheus import Prometheus, prometheus

JOB = "trainwatt"
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", flags=re.MULTILINE)


class Tape:
    """Scrapes of one Prometheus, in any order of nodes; of each node in the order of time."""

    def __init__(self, *, replica: str = "") -> None:
        self._lines: list[str] = []
        self._external = f',replica="{replica}"' if replica else ""

    def scrape(self, exposition: str, instance: str, wall_s: float) -> None:
        """Note what a node said at a moment (text format 0.0.4)."""
        target = f'instance="{instance}",job="{JOB}"{self._external}'
        self._lines.append(f"up{{{target}}} 1 {wall_s:.3f}")
        for name, labels, value in _SAMPLE.findall(exposition):
            inner = f"{labels},{target}" if labels else target
            self._lines.append(f"{name}{{{inner}}} {value} {wall_s:.3f}")

    def text(self) -> str:
        """OpenMetrics with timestamps, as promtool reads it."""
        return "\n".join([*self._lines, "# EOF", ""])


@contextmanager
def played(tape: Tape, directory: Path) -> Iterator[Prometheus]:
    """A Prometheus whose store was made of the tape, by promtool."""
    directory.mkdir(parents=True)
    (directory / "tape").write_text(tape.text())
    program = [need.program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
    subprocess.run(
        [*program, str(directory / "tape"), str(directory / "data")], check=True, capture_output=True, timeout=120
    )
    with prometheus([], directory) as running:
        yield running


def kept_by_victoria(tape: Tape, store: Prometheus) -> None:
    """Hand the tape to a VictoriaMetrics as well."""
    body = re.sub(r" (\d+)\.(\d{3})$", r" \1\2", tape.text(), flags=re.MULTILINE)  # it reckons in milliseconds
    request = urllib.request.Request(f"{store.url}/api/v1/import/prometheus", body.encode(), method="POST")
    with urllib.request.urlopen(request, timeout=30):
        pass

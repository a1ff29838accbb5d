"""How long a scrape takes a client, and how large it is: eight GPUs and ten runs over loopback.

Snapshots are folded in a child process that serves them by the real
exporter, another one to each scrape; nothing is metered meanwhile.
"""

import gzip
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from exporters import http
from monitor.core.snapshot import Snapshot
from tests.bench.processes import child, hear
from tests.bench.report import Line
from tests.bench.scraper import Scraper, samples
from tests.bench.steady import SteadyRig

RUNS = 10
SCRAPES = 500
WARM_UP = 20
SCRAPES_APART_S = 15.0
DIFFERENT = 16
"""Snapshots that are served in turn: what does not change is not rendered anew, so one alone would flatter."""
P99_MOST_MS = 15.0
MOST_SAMPLES = 999
TITLE = (
    f"scrape: {SCRAPES} over loopback (keep-alive, OpenMetrics, gzip), 8 GPUs, 2 packages with dram, {RUNS} runs; "
    "bare = /-/healthy.\nEach scrape has a snapshot 15 s later than the one before, served by the "
    "real exporter in a process of its own"
)


def measure(scratch: Path) -> list[Line]:
    """Milliseconds from request to last byte, beside the same connection's health probe."""
    log = scratch / "scrape.log"
    with child([sys.executable, "-m", __spec__.name], log=log, talks=True) as process:
        scraper = Scraper(int(hear(process, log)))
        try:
            body = scraper.get()
            ours = _times_ms(scraper, "/metrics")
            probe = _times_ms(scraper, "/-/healthy")
        finally:
            scraper.close()
    return [
        Line(what="scrape, p50", value=_percentile(ours, 50), unit="ms", bare=_percentile(probe, 50)),
        Line(
            what="scrape, p99",
            value=_percentile(ours, 99),
            unit="ms",
            bare=_percentile(probe, 99),
            most=P99_MOST_MS,
            budget=f"{P99_MOST_MS:g} ms",
        ),
        Line(what="samples", value=samples(body), unit="", most=MOST_SAMPLES, budget=f"< {MOST_SAMPLES + 1}", digits=0),
        Line(what="body, gzip", value=len(body), unit="B", digits=0),
        Line(what="body, plain", value=len(gzip.decompress(body)), unit="B", digits=0),
    ]


def _times_ms(scraper: Scraper, path: str) -> list[float]:
    times_ms: list[float] = []
    for _ in range(WARM_UP + SCRAPES):
        began_s = time.perf_counter()
        scraper.get(path)
        times_ms.append(1e3 * (time.perf_counter() - began_s))
    return times_ms[WARM_UP:]


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


class Moving:
    """What a daemon has published each time that somebody looks: the next one, over and over."""

    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._next = cycle(snapshots)

    @property
    def snapshot(self) -> Snapshot:
        """The next."""
        return next(self._next)


def _serve() -> None:
    rig = SteadyRig(RUNS)
    rig.go(60.0)
    moving = Moving([rig.go(SCRAPES_APART_S) for _ in range(DIFFERENT)])
    listener = http.bind("127.0.0.1", 0)
    with http.serving(moving, listener):
        print(listener.getsockname()[1], flush=True)  # noqa: T201  (said to the parent)
        sys.stdin.read()


if __name__ == "__main__":
    _serve()

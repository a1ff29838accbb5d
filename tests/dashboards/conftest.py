"""Four daemons on simulated devices, a Prometheus that scrapes them once a second, and a VictoriaMetrics: real ones.

All have the same simulated runs; the first has two real jobs beside them, one of which ends.
"""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from tests.dashboards.boards import RANGES, ROOT
from tests.dashboards.oracle import Seen
from tests.dashboards.pairing import NUMBER, Pairing, pairing
from tests.drivers.feedserver import Answer, Asked, FeedServer
from tests.harness import poll
from tests.harness.daemon import daemon
from tests.harness.prometheus import Prometheus, prometheus
from tests.harness.victoria import victoria

SCRAPES = 14
"""Some before the range, so that what began before it is seen to be left out, and all of those in it."""
SCRAPE_JOB = "trainwatt"
EIGHTH_S = 0.125
"""The moment of the queries is a multiple of it: exact in milliseconds and as a binary fraction."""
EDGE_S = 0.002
"""No scrape is nearer to it, or to a whole number of seconds before it, where windows begin."""
SLOT_S = 1800.0
FEEDS = """
[feed.neso]
base_url = "{url}"

[feed.energy_charts]
base_url = "{url}/broken"
"""
SETTINGS = (
    """
pue = 1.2
zone = "GB"
feeds = ["neso"]
device_zones = {mock-gpu-0 = "DE", mock-package-1 = "DE"}
market_intensity = 47.0
water_liters_per_kilowatthour = 1.8
price = {currency = "EUR", flat = 0.31}
budget = {cost = 40}
embodied = {gpu = {kilograms = 150, years = 4}}
""",
    """
pue = 1.5
zone = "DE"
water_liters_per_kilowatthour = 0.4
price = {currency = "CHF", flat = 0.27}
""",
    "",
    """
zone = "DE"
market_intensity = 310.0
water_liters_per_kilowatthour = 1.1
price = {currency = "EUR", flat = 0.22}
budget = {cost = 30}
embodied = {gpu = {kilograms = 90, years = 5}}
""",
)
"""Of each node. The first knows everything; of the zone of the second only the yearly value is known; the third has
neither a zone nor a price, and turns of it are late; the fourth goes away."""
JOB = """
import select, sys
import trainwatt
with trainwatt.run(sys.argv[2], id=sys.argv[1], project=sys.argv[3]):
    done = 500
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        done += 1
        trainwatt.step(tokens=1000, samples=8)
        trainwatt.progress(done, 1000)
"""
"""Trains until its standard input ends, and says from the start that the half of it is done."""
ENDS_AFTER = 4
"""Scrapes, until the short job ends: early enough for its grams to be priced again in time."""
GONE_AFTER = 7
"""Scrapes, until the last node goes, well within the range; the turns of the third node from `ENDS_AFTER` are late."""


class Neso:
    """Half-hours of Great Britain: what is over is actual, and each answer tells the last of them anew."""

    def __init__(self) -> None:
        self._asked = 0

    def __call__(self, asked: Asked) -> Answer:
        """The slots that are asked for; of other providers, nothing."""
        if "/intensity/" not in asked.path:
            return Answer(status=500)
        self._asked += 1
        start, span = asked.path.split("/")[2:4]
        from_s = datetime.fromisoformat(start).timestamp()
        until_s = (
            from_s + float(span[2:4]) * 3600.0 if span.startswith("fw") else datetime.fromisoformat(span).timestamp()
        )
        now_s = datetime.now(UTC).timestamp()
        rows = []
        for number in range(int((until_s - from_s) // SLOT_S)):
            at_s = from_s + number * SLOT_S
            actual = 120 + self._asked if at_s + SLOT_S <= now_s else None
            hour = int(at_s // 3600.0)
            told = {"forecast": 90 + 37 * hour % 101, "actual": actual}  # no two hours of four days alike
            rows.append({"from": _stamp(at_s), "to": _stamp(at_s + SLOT_S), "intensity": told})
        return Answer(body=json.dumps({"data": rows}).encode())


def _stamp(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%MZ}"


@dataclass(frozen=True)
class Recorded:
    """Everything that was scraped up to one moment, as it was and in two stores."""

    scraped: Prometheus
    stored: Prometheus
    """VictoriaMetrics, which Prometheus wrote to."""
    seen: Seen


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Pairing]]:
    """The daemons, each behind a pairing."""
    folder = tmp_path_factory.mktemp("nodes")
    with ExitStack() as stack:
        provider = stack.enter_context(FeedServer())
        provider.answer_with(Neso())
        pairs = []
        for number, settings in enumerate(SETTINGS):
            config = folder / f"{number}.toml"
            config.write_text(settings + FEEDS.format(url=provider.base_url), "utf-8")
            # Empty, the environment leaves the choice of feeds to the file.
            served = stack.enter_context(
                daemon(*("--mock", "--config", str(config)), log=folder / f"{number}.log", env={"TRAINWATT_FEEDS": ""})
            )
            pairs.append(stack.enter_context(pairing(served)))
        # Without it, every panel of the future would be rightly empty.
        poll.until(lambda: pairs[0].pairs[-1].grid["outlooks"], what="what the provider expects")
        yield pairs


@contextmanager
def job(at: Pairing, run_id: str, name: str, project: str, *, gpu: int) -> Iterator[Callable[[], None]]:
    """A real job on one of the simulated GPUs, until left or until it is told to end."""
    environment = os.environ | {
        "TRAINWATT_SOCKET": str(at.daemon.socket),
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": str(gpu),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", JOB, run_id, name, project], env=environment, stdin=subprocess.PIPE, text=True
    )

    def end() -> None:
        process.communicate(timeout=20)

    try:
        yield end
    finally:
        if process.poll() is None:
            end()


@contextmanager
def stopped(node: Pairing) -> Iterator[None]:
    """Nothing is done by the daemon until left."""
    node.daemon.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.daemon.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def recorded(nodes: Sequence[Pairing], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Both stores, and what the API said beside each scrape that is in them."""
    folder = tmp_path_factory.mktemp("stores")
    with (
        victoria(folder / "victoria") as stored,
        prometheus(
            [node.instance for node in nodes], folder / "prometheus", write_to=f"{stored.url}/api/v1/write"
        ) as scraped,
        job(nodes[0], "short", "short", "vision", gpu=7) as end_short,
    ):
        first, _second, third, last = nodes
        _wait(scraped, first, ENDS_AFTER)
        end_short()
        with ExitStack() as stack:
            with stopped(third):
                _wait(scraped, first, ENDS_AFTER + 1)
                # Its name is altered, and that within the range.
                stack.enter_context(job(first, "sweep", "learning\trate", "language", gpu=6))
                _wait(scraped, first, GONE_AFTER)
            last.is_gone = True
            _wait(scraped, first, SCRAPES)
            yield _recorded(nodes, scraped, stored)


def _recorded(nodes: Sequence[Pairing], scraped: Prometheus, stored: Prometheus) -> Recorded:
    """What both stores have by now."""
    up = [node.instance for node in nodes if not node.is_gone]
    newest_s = [samples[-1][0] for instance, samples in _numbers(scraped).items() if instance in up]
    at_s = _moment(newest_s)
    poll.until(
        lambda: all(_numbers(scraped)[instance][-1][0] > at_s for instance in up),
        what="scrapes after the moment of the queries",
    )
    numbers = _numbers(scraped, time=at_s)
    poll.until(lambda: _numbers(stored, time=at_s) == numbers, what="the scrapes in VictoriaMetrics")
    seen = Seen(
        at_s,
        [
            [node.scrape(int(number), at_s=when_s, job=SCRAPE_JOB) for when_s, number in numbers[node.instance]]
            for node in nodes
        ],
        up,
        range_s=_seconds(RANGES["$__range"]),
        rate_interval_s=_seconds(RANGES["$__rate_interval"]),
    )
    return Recorded(scraped, stored, seen)


@pytest.fixture(scope="module")
def scraped(recorded: Recorded) -> Prometheus:
    """The Prometheus."""
    return recorded.scraped


@pytest.fixture(params=["Prometheus", "VictoriaMetrics"])
def store(request: pytest.FixtureRequest, recorded: Recorded) -> tuple[Prometheus, Seen]:
    """Each store in turn, and what it has to answer from."""
    if request.param == "Prometheus":
        return recorded.scraped, recorded.seen
    return recorded.stored, replace(recorded.seen, is_victoria=True)


def _numbers(server: Prometheus, **parameters: float) -> dict[str, list[tuple[float, float]]]:
    """(Unix time, number of the pair) of the scrapes of each instance."""
    return {
        series["metric"]["instance"]: [
            # VictoriaMetrics shows that a series ended as a last value.
            (float(at_s), float(number))
            for at_s, number in series["values"]
            if number != "NaN"
        ]
        for series in server.query(f"{NUMBER}[1h]", **parameters)
    }


def _moment(newest_s: Sequence[float]) -> float:
    """Soon after the newest scrape of all, with none on the edge of a window of whole seconds that ends there."""
    eighths = (math.floor(max(newest_s) / EIGHTH_S + number) * EIGHTH_S for number in itertools.count(1))
    return next(
        at_s for at_s in eighths if all(EDGE_S < (at_s - scrape_s) % 1.0 < 1.0 - EDGE_S for scrape_s in newest_s)
    )


def _wait(server: Prometheus, node: Pairing, scrapes: int) -> None:
    """Until a node has been scraped so often."""
    poll.until(lambda: len(_numbers(server).get(node.instance, ())) >= scrapes, what=f"{scrapes} scrapes", every_s=0.2)


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))

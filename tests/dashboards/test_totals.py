"""Totals in panels are the ledgers', to the joule: long, short, restarted, renamed and many-node runs, and months."""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from monitor.core.model import Component, Device, Instant, Reading, Readout, Run
from monitor.core.ports import Now
from monitor.grid import static
from tests.dashboards.boards import EVERY, TARGETS, filled_in
from tests.dashboards.history import Tape, kept_by_victoria, played
from tests.grid.day import TURN_S, Days, unix
from tests.harness.prometheus import Prometheus
from tests.harness.victoria import victoria

BEGIN_S = unix("2026-10-31T12:00:00+00:00")
MONTH_S = unix("2026-11-01T00:00:00+00:00")
END_S = unix("2026-11-01T16:00:00+00:00")
HOUR_S = 3600.0
KEPT_S = 900.0
"""An ended run stays exported for so long."""
WATTS = {"one": (700.0, 430.0, 250.0), "two": (510.0, 330.0, 90.0), "three": (640.0, 120.0, 77.7)}
"""Of each GPU of each node, whatever runs on it."""
MOVED = "two"
"""The node that is restarted in the middle of a run and then has another address."""
PROJECTS = {"long": "ages", "renamed": "words", "blink": "words", "wide": "wide", "before": "split", "after": "split"}
BEGAN_THIS_MONTH = ("words", "wide")
QUIET_AT_MIDNIGHT = "split"
RANGES = {"$__range": f"{END_S - BEGIN_S:.0f}s"}
THIS_MONTH = {"$__range": f"{END_S - MONTH_S:.0f}s"}
KILOWATTHOUR_J = 3.6e6


class Gpus:
    """Counters that rise steadily."""

    name = "steady"
    period_s = TURN_S

    def __init__(self, watts: Sequence[float], now: Now) -> None:
        self._watts = watts
        self._now = now

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    def read(self) -> Readout:
        """Every counter."""
        at = self._now()
        return Readout(readings=tuple(self._reading(gpu, power_w, at) for gpu, power_w in enumerate(self._watts)))

    def _reading(self, gpu: int, power_w: float, at: Instant) -> Reading:
        device = Device(
            id=f"GPU-{gpu}", component=Component.GPU, source=self.name, max_power_w=5000.0, counter_epoch="1"
        )
        return Reading(device=device, at=at, energy_j=power_w * at.mono_s)


@dataclass
class Node:
    """One machine over all of its daemons."""

    name: str
    directory: Path
    tapes: Sequence[Tape]
    instance: str = ""
    days: Days = field(init=False)
    book: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.instance = self.instance or f"{self.name}:9595"
        self.begin(BEGIN_S)

    def begin(self, wall_s: float) -> None:
        """Start a daemon."""
        self.days = Days(
            self.directory,
            zone="GB",
            feeds=[],
            begin_wall_s=wall_s,
            runs=self.book,
            source=partial(Gpus, WATTS[self.name]),
        )

    def until(self, wall_s: float) -> None:
        """Let time pass; one replica scrapes every turn, the other every third."""
        for turn in range(round((wall_s - self.days.wall_s()) // TURN_S)):
            self.days.until(min(wall_s, self.days.wall_s() + TURN_S))
            self._forget_what_ended_long_ago()
            self.scraped(self.tapes[: 1 if turn % 3 else 2])
        self.days.until(wall_s)

    def scraped(self, tapes: Sequence[Tape]) -> None:
        """Let replicas look, each at its own moment."""
        for number, tape in enumerate(tapes):
            tape.scrape(self.days.exposition(), self.instance, self.days.wall_s() + 1.0 + 37.0 * number)

    def start(self, run: str, gpu: int) -> None:
        """Begin a run on one GPU, at once."""
        now = self.days.now()
        holds = frozenset({f"GPU-{gpu}"})
        self._put(Run(id=run, name=run, start=now, holds=holds, user="ada", project=PROJECTS[run]))
        self.days.edge()

    def change(self, run: str, **how: object) -> None:
        """Rename it, or end it."""
        (known,) = [one for one in self.book if one.id == run]
        self._put(replace(known, **how))  # type: ignore[arg-type]
        self.days.edge()

    def end(self, run: str) -> None:
        """End it now."""
        self.change(run, end=self.days.now())

    def _put(self, run: Run) -> None:
        self.book = [*(one for one in self.book if one.id != run.id), run]
        self._forget_what_ended_long_ago()

    def _forget_what_ended_long_ago(self) -> None:
        now_s = self.days.now().mono_s
        self.book = [one for one in self.book if one.end is None or now_s - one.end.mono_s < KEPT_S]
        self.days.book = list(self.book)

    def joules(self, run: str, since_s: float = 0.0) -> float:
        """Of a run, by its ledger's file, read with nothing of ours."""
        with contextlib.closing(sqlite3.connect(self.directory / "ledger.sqlite")) as db:
            (energy_j,) = db.execute(
                "SELECT total(energy_j) FROM intervals JOIN runs ON intervals.run = runs.key "
                "WHERE runs.id = ? AND intervals.start_s >= ?",
                (run, since_s),
            ).fetchone()
        return float(energy_j)


@dataclass(frozen=True)
class Site:
    """Three nodes after a day and a half, and those who watched them."""

    nodes: Sequence[Node]
    servers: Mapping[str, Prometheus]

    def joules(self, *runs: str, since_s: float = 0.0) -> float:
        """Of runs, by all ledgers."""
        return sum(node.joules(run, since_s) for node in self.nodes for run in runs)


def clock(text: str) -> float:
    """A moment of the second day."""
    return unix(f"2026-11-01T{text}+00:00")


def live(nodes: Sequence[Node]) -> None:
    """What happened on the three nodes."""
    one, two, three = nodes
    for node in nodes:
        node.until(BEGIN_S + HOUR_S / 2)
    one.start("long", 0)
    three.until(BEGIN_S + HOUR_S)
    three.start("before", 2)
    three.until(BEGIN_S + 3 * HOUR_S)
    three.end("before")
    one.until(clock("02:00:00"))
    one.start("renamed", 1)
    one.until(clock("03:03:20"))
    one.change("renamed", name="a better name", project=PROJECTS["renamed"])
    one.start("blink", 2)
    one.days.until(one.days.wall_s() + 0.7)
    one.end("blink")
    one.until(clock("06:01:40"))
    one.end("renamed")
    for node, gpu in ((one, 2), (two, 0), (three, 1)):
        node.until(clock("08:00:00"))
        node.start("wide", gpu)
    two.until(clock("10:00:00"))
    two.days.end()
    two.instance = f"{MOVED}-new-address:9595"
    two.begin(clock("10:10:00"))
    for node in nodes:
        node.until(clock("12:00:00"))
        node.end("wide")
    three.until(clock("13:00:00"))
    three.start("after", 2)
    three.until(clock("14:00:00"))
    three.end("after")
    one.until(clock("15:00:00"))
    one.end("long")
    for node in nodes:
        node.until(END_S)
        node.scraped(node.tapes)
        node.days.end()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two Prometheus replicas, and a store that has what both of them saw."""
    place = tmp_path_factory.mktemp("totals")
    tapes = [Tape(replica="a"), Tape(replica="b")]
    nodes = [Node(name, place / name, tapes) for name in WATTS]
    live(nodes)
    with contextlib.ExitStack() as stack:
        both = stack.enter_context(victoria(place / "both"))
        for tape in tapes:
            kept_by_victoria(tape, both)
        servers = {
            name: stack.enter_context(played(tape, place / name)) for name, tape in zip("ab", tapes, strict=True)
        }
        yield Site(nodes, servers | {"both": both})


def answers(server: Prometheus, panel: str, label: str, values: dict[str, str]) -> dict[str, float]:
    """What the first query of a panel shows at the end, by one label, with the range in the variables' place."""
    (expr,) = [target.expr for target in TARGETS if str(target) == f"trainwatt-{panel}/A"]
    told: dict[str, float] = {}
    for series in server.query(filled_in(expr, EVERY | values), time=END_S):
        name = series["metric"][label]

        assert name not in told, f"{name} is shown twice"
        told[name] = float(series["value"][1])
    return told


each_server = pytest.mark.parametrize("name", ["a", "b", "both"])


@each_server
@pytest.mark.parametrize("panel", ["run/Energy", "run/Runs", "fleet/Top runs", "node/Runs"])
def test_energy_of_runs(site: Site, name: str, panel: str) -> None:
    """Every run's joules are those of all ledgers, whichever replica is asked, or both."""
    told = answers(site.servers[name], panel, "run", RANGES)

    assert {run: site.joules(run) / KILOWATTHOUR_J for run in PROJECTS} == pytest.approx(told, rel=1e-9)


@each_server
def test_grams_of_runs(site: Site, name: str) -> None:
    """At one yearly value, grams are the ledgers' joules at it."""
    factor = static.intensity("GB")
    told = answers(site.servers[name], "run/CO2e", "run", RANGES)

    assert factor is not None
    grams_per_j = factor.grams_per_kilowatthour / KILOWATTHOUR_J
    assert {run: site.joules(run) * grams_per_j for run in PROJECTS} == pytest.approx(told, rel=1e-9)


@each_server
def test_a_renamed_run_is_one_row(site: Site, name: str) -> None:
    """With the name that it has now."""
    (expr,) = [t.expr for t in TARGETS if str(t) == "trainwatt-run/Runs/A"]
    rows = site.servers[name].query(filled_in(expr, EVERY | RANGES), time=clock("05:00:00"))

    assert ["a better name"] == [row["metric"]["name"] for row in rows if row["metric"]["run"] == "renamed"]


@each_server
def test_projects_of_this_month(site: Site, name: str) -> None:
    """What began in this month, or rested at its beginning, is the ledgers' sum to the joule.

    Of what went on over midnight the joules between the last scrape before it and midnight are in this month, too.
    """
    told = answers(site.servers[name], "fleet/Energy by project this month", "project", THIS_MONTH)
    runs = {project: [run for run in PROJECTS if PROJECTS[run] == project] for project in PROJECTS.values()}
    month_j = {project: site.joules(*runs[project], since_s=MONTH_S) for project in runs}
    between_scrapes_j = WATTS["one"][0] * TURN_S * (3 if name == "b" else 1)

    for project in (*BEGAN_THIS_MONTH, QUIET_AT_MIDNIGHT):
        assert told[project] == pytest.approx(month_j[project] / KILOWATTHOUR_J, rel=1e-9)
    over_j = told["ages"] * KILOWATTHOUR_J - month_j["ages"]
    assert 0.0 <= over_j <= (between_scrapes_j + WATTS["one"][0] * TURN_S) * (1.0 + 1e-9)


@each_server
def test_energy_by_user(site: Site, name: str) -> None:
    """The one user has it all."""
    told = answers(site.servers[name], "fleet/Energy of runs by user", "user", RANGES)

    assert {"ada": site.joules(*PROJECTS) / KILOWATTHOUR_J} == pytest.approx(told, rel=1e-9)


def test_the_moved_node_was_scraped_at_two_addresses(site: Site) -> None:
    """What the rest of this file leans on."""
    series = site.servers["a"].query('last_over_time(trainwatt_run_energy_joules_total{run="wide"}[1d])', time=END_S)

    assert 4 == len({one["metric"]["instance"] for one in series})
    assert 3 == len({one["metric"]["ledger"] for one in series})

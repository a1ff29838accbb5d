"""The settled figures of runs, in virtual time over a real ledger's file: what is published, and what the log tells."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from monitor.core.model import Basis, Intensity, Quality, Settled
from monitor.grid.settler import Settler
from monitor.ledger.intensities import Intensities
from monitor.ledger.ledger import Ledger
from tests.harness import poll
from tests.ledger.counting import FLAT, POLICY, Count, total_j

HOUR_S = 3600.0
T0_S = 1_795_219_200.0
"""2026-11-21T00:00Z."""
KWH_J = 3.6e6
PROVIDERS: Mapping[str, Sequence[str]] = {"DE": ("electricitymaps",)}


def hour_value(hour: int, grams: float, quality: Quality = Quality.ACTUAL, **words: Any) -> Intensity:
    """Of the hour that begins so many hours after T0."""
    told: dict[str, Any] = {"zone": "DE", "basis": Basis.LIFECYCLE, "provider": "electricitymaps"}
    return Intensity(
        grams_per_kilowatthour=grams,
        quality=quality,
        valid_from_s=T0_S + hour * HOUR_S,
        valid_until_s=T0_S + (hour + 1) * HOUR_S,
        **(told | words),
    )


class Node:
    """A count, its ledger, its store and its settler, which can be started anew."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.settings = {"statics": {"DE": FLAT}, "providers": PROVIDERS, "settles_after_s": {}} | settings
        self.count = Count()
        self.count.wall_offset_s = T0_S - self.count.mono_s
        self.published: list[Mapping[str, Settled]] = []
        self.ledger: Ledger
        self.begin()

    def begin(self) -> None:
        """Open the file; go on with the runs that are alive."""
        alive = [run for run in self.count.runs if run.end is None]
        self.ledger = self.count.open(self.directory)
        self.count.runs = alive
        self.store = Intensities(self.directory / "ledger.sqlite")
        self.settler = Settler(
            self.ledger.history, self.store, wall_s=self.wall_s, publish=self.published.append, **self.settings
        )

    def end(self) -> None:
        """Close everything."""
        self.store.close()
        self.ledger.close()

    def wall_s(self) -> float:
        """The virtual present."""
        return self.count.now().wall_s

    def use(self, hours: float, every_s: float = 60.0) -> None:
        """The devices draw power, the count is kept."""
        for _ in range(round(hours * HOUR_S / every_s)):
            self.ledger.offer(self.count.turn(every_s))
        self.ledger.commit()

    def wait(self, hours: float) -> None:
        """Nothing draws power: the clock goes on."""
        self.count.mono_s += hours * HOUR_S

    def tell(self, *values: Intensity) -> None:
        """A feed tells something now."""
        self.store.add([replace(value, fetched_at_s=self.wall_s()) for value in values])
        for zone in {value.zone for value in values}:
            self.settler.news(zone)

    def settled(self, run_id: str = "r1") -> Settled:
        """What is published of a run after a tick."""
        self.settler.tick()
        return self.published[-1][run_id]

    def used_j(self, hour: int, run_id: str = "r1") -> float:
        """Joules of a run in one hour after T0."""
        slots = self.ledger.history.energy_by_slot(run_id, T0_S + hour * HOUR_S, T0_S + (hour + 1) * HOUR_S, 300)
        return sum(slot[2] for slot in slots)

    def grams(self, numbers: Mapping[int, float], run_id: str = "r1") -> dict[Basis, float]:
        """Closed form of its lifecycle grams: hour by hour."""
        ratio = POLICY.pue_ratio / KWH_J
        return {Basis.LIFECYCLE: sum(self.used_j(hour, run_id) * each * ratio for hour, each in numbers.items())}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """One whose zone is DE."""
    made = Node(tmp_path)
    yield made
    made.end()


def test_live_75_settled_42(node: Node) -> None:
    """The captured revision: the figure follows it, while the run goes on, and says what part is final."""
    node.count.begin("r1")
    node.tell(hour_value(0, 75.0, Quality.ESTIMATED))
    node.use(1.0)
    live = node.settled()
    node.wait(0.1)
    node.tell(hour_value(0, 42.0))
    settled = node.settled()
    energy_j = total_j(node.count.snapshot, "r1")

    assert pytest.approx(node.grams({0: 75.0}), rel=1e-9) == dict(live.emissions_g)
    assert pytest.approx(node.grams({0: 42.0}), rel=1e-9) == dict(settled.emissions_g)
    assert pytest.approx((energy_j, 0.0, 0.0)) == (settled.energy_j, settled.final_j, settled.unpriced_j)
    assert node.wall_s() == settled.priced_at_s


def test_a_run_that_goes_on_has_all_of_its_joules(node: Node) -> None:
    """Priced again at most every five minutes; only what is newer is read, and nothing is lost or counted twice."""
    node.count.begin("r1")
    numbers = {hour: 100.0 + hour for hour in range(6)}
    for hour, grams in numbers.items():
        node.tell(hour_value(hour, grams))
        for _ in range(30):
            node.use(1 / 30)
            node.settler.tick()
    figures = [published["r1"] for published in node.published]
    node.wait(0.1)
    last = node.settled()

    assert 60 <= len(figures) <= 73
    assert sorted(one.energy_j for one in figures) == [one.energy_j for one in figures]
    assert pytest.approx(node.grams(numbers), rel=1e-9) == dict(last.emissions_g)
    assert pytest.approx(total_j(node.count.snapshot, "r1"), rel=1e-12) == last.energy_j


def test_it_goes_on_after_the_end_until_all_is_final(node: Node) -> None:
    """A revision two days later still moves it; 72 h after the last slot nothing can; then it is left alone."""
    node.count.begin("r1")
    node.tell(hour_value(0, 75.0), hour_value(1, 80.0))
    node.use(2.0)
    node.count.end("r1")
    node.use(0.1)
    node.settler.tick()
    node.wait(48.0)
    node.tell(hour_value(1, 60.0))
    revised = node.settled()
    node.wait(23.5)
    half = node.settled()
    node.wait(1.0)
    final = node.settled()
    count = len(node.published)
    node.wait(26.0)
    node.settler.tick()

    assert pytest.approx(node.grams({0: 75.0, 1: 60.0}), rel=1e-9) == dict(revised.emissions_g)
    assert 0.0 == revised.final_ratio
    assert pytest.approx(node.used_j(0)) == half.final_j
    assert 1.0 == final.final_ratio
    assert revised.emissions_g == final.emissions_g
    assert (count + 1, {}) == (len(node.published), dict(node.published[-1]))


def test_a_restart_changes_nothing(node: Node) -> None:
    """Everything is in the ledger: the figure is the same, the revision that came meanwhile moves it."""
    node.count.begin("r1")
    node.tell(hour_value(0, 75.0, Quality.ESTIMATED), hour_value(1, 80.0))
    node.use(2.0)
    before = node.settled()
    node.end()
    node.begin()
    after = node.settled()
    node.tell(hour_value(0, 42.0))
    node.wait(0.1)
    revised = node.settled()

    assert replace(before, priced_at_s=0.0) == replace(after, priced_at_s=0.0)
    assert pytest.approx(node.grams({0: 42.0, 1: 80.0}), rel=1e-9) == dict(revised.emissions_g)


@pytest.mark.parametrize("providers", [("energy_charts",), ()])
def test_what_a_provider_told_holds_when_it_is_asked_no_more(node: Node, providers: Sequence[str]) -> None:
    """Other feeds since the restart, or none: what was used before is priced with what was told of it then."""
    node.count.begin("r1")
    node.tell(hour_value(0, 75.0))
    node.use(1.0)
    node.end()
    node.settings |= {"providers": {"DE": providers}}
    node.begin()
    settled = node.settled()

    assert pytest.approx(node.grams({0: 75.0}), rel=1e-9) == dict(settled.emissions_g)


def test_a_long_run_keeps_its_figure_among_many_younger_ones(node: Node) -> None:
    """More runs are open than are looked at: those that are alive come first."""
    node.tell(hour_value(0, 75.0), hour_value(1, 75.0))
    node.count.begin("long")
    node.use(0.1)
    for number in range(100):
        node.count.begin(f"short-{number}", holds=("GPU-b",))
        node.use(1 / 240, every_s=15.0)
        node.count.end(f"short-{number}")
    node.use(0.1)
    settled = node.settled("long")

    assert pytest.approx(total_j(node.count.snapshot, "long"), rel=1e-12) == settled.energy_j


def test_the_words_of_a_run_are_the_newest(node: Node) -> None:
    """A run that was renamed, and has ended: its figure is shown under the name that it had last."""
    node.tell(hour_value(0, 75.0))
    node.count.begin("r1")
    node.use(0.2)
    before = node.settled().run
    node.count.runs = [replace(run, name="another", project="vision") for run in node.count.runs]
    node.use(0.2)
    node.count.end("r1")
    node.use(0.1)
    run = node.settled().run

    assert before is not None
    assert run is not None
    assert ("name of r1", "") == (before.name, before.project)
    assert ("another", "vision") == (run.name, run.project)
    assert run.end is not None


def test_a_revision_is_told_once(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """Old, new and the run that it moves most; not again at the next news, nor after a restart; forecasts never."""
    node.count.begin("small", holds=("GPU-b",))
    node.count.begin("r1")
    node.tell(hour_value(0, 348.0, Quality.ESTIMATED), hour_value(1, 300.0), hour_value(2, 90.0, Quality.FORECAST))
    node.use(2.0)
    node.settler.tick()
    with caplog.at_level(logging.INFO, "trainwatt"):
        node.wait(0.1)
        node.tell(hour_value(0, 301.0), hour_value(2, 80.0, Quality.FORECAST))
        node.settler.tick()
        node.wait(0.1)
        node.tell(hour_value(0, 301.0), hour_value(1, 300.0))
        node.settler.tick()
        node.end()
        node.begin()
        node.settler.tick()
        node.tell(hour_value(2, 70.0))
        node.wait(0.1)
        node.settler.tick()
        node.tell(hour_value(1, 310.0))
        node.wait(0.1)
        node.settler.tick()
    moved = [node.used_j(0) * POLICY.pue_ratio / KWH_J * (301.0 - 348.0)]
    it, more = "; it moves the settled figure of run r1 by ", " g (and 1 more run)"
    moved += [node.used_j(1) * POLICY.pue_ratio / KWH_J * 10.0]

    assert [
        f"zone DE, 2026-11-21 00:00Z: 348 -> 301 g/kWh (electricitymaps, estimated -> actual){it}{moved[0]:+.1f}{more}",
        f"zone DE, 2026-11-21 01:00Z: 300 -> 310 g/kWh (electricitymaps, actual){it}{moved[1]:+.1f}{more}",
    ] == caplog.messages


def test_a_node_without_feeds_is_final_at_once(tmp_path: Path) -> None:
    """The yearly value is all there will ever be; without a zone nothing has a price, and nothing will."""
    for number, (zone, statics) in enumerate((("DE", {"DE": FLAT}), ("", {}))):
        node = Node(tmp_path / str(number), providers=dict.fromkeys(statics, ()), statics=statics)
        node.count.snapshot = replace(node.count.snapshot, policy=replace(POLICY, zone=zone or None))
        node.count.begin("r1")
        node.use(1.0)
        settled = node.settled()
        expected = node.grams({0: FLAT.grams_per_kilowatthour}) if zone else {}
        node.end()

        assert pytest.approx(expected) == dict(settled.emissions_g)
        assert 1.0 == settled.final_ratio
        assert pytest.approx(0.0 if zone else settled.energy_j) == settled.unpriced_j


def test_a_feed_that_is_silent_leaves_it_open(node: Node) -> None:
    """The yearly value stands in, the basis is kept, and the figure moves when the feed comes back."""
    node.count.begin("r1")
    node.use(1.0)
    silent = node.settled()
    node.wait(0.1)
    node.tell(hour_value(0, 100.0))
    told = node.settled()

    assert pytest.approx(node.grams({0: FLAT.grams_per_kilowatthour})) == dict(silent.emissions_g)
    assert 0.0 == silent.final_ratio
    assert pytest.approx(node.grams({0: 100.0})) == dict(told.emissions_g)


def test_joules_of_a_zone_that_was_left_keep_their_price(node: Node) -> None:
    """The node moved: what it used before is priced by the values of that time, and the yearly value then in use."""
    node.count.begin("r1")
    node.tell(hour_value(0, 75.0, zone="DK"))
    node.count.snapshot = replace(node.count.snapshot, policy=replace(POLICY, zone="DK"))
    node.count.intensities = (replace(FLAT, zone="DK", grams_per_kilowatthour=143.3),)
    node.use(1.0)
    node.wait(5.0)
    node.use(1.0)
    node.count.snapshot = replace(node.count.snapshot, policy=POLICY)
    node.tell(hour_value(7, 300.0))
    node.use(1.0)
    settled = node.settled()
    numbers = dict.fromkeys(range(4), 75.0) | dict.fromkeys(range(4, 7), 143.3) | {7: 300.0}

    assert pytest.approx(node.grams(numbers), rel=1e-9) == dict(settled.emissions_g)
    assert 0.0 == settled.unpriced_j


def test_a_long_run_keeps_its_basis_as_far_as_possible(node: Node) -> None:
    """Ten days, five of them without the first provider: what is carried, then the other one, in a sum of its own.

    What was final long ago is kept as a sum: the figure is that of the whole.
    """
    node.settler = Settler(
        node.ledger.history,
        node.store,
        wall_s=node.wall_s,
        publish=node.published.append,
        **(node.settings | {"providers": {"DE": ("electricitymaps", "energy_charts")}}),
    )
    node.count.begin("r1")
    words: dict[str, Any] = {"provider": "energy_charts", "basis": Basis.UNKNOWN}
    known = {hour: 100.0 + hour for hour in range(240) if not 72 <= hour < 192}
    node.tell(*(hour_value(hour, grams) for hour, grams in known.items()))
    node.tell(*(hour_value(hour, 20.0, **words) for hour in range(240)))
    for _day in range(10):
        node.use(24.0, every_s=800.0)
        node.settler.tick()
    settled = node.settled()
    carried = {72: known[71], 73: known[71], 74: known[71]}
    (other_g,) = node.grams(dict.fromkeys(set(range(240)) - known.keys() - carried.keys(), 20.0)).values()
    expected = node.grams(known | carried) | {Basis.UNKNOWN: other_g}

    assert pytest.approx(expected, rel=1e-9) == dict(settled.emissions_g)
    assert pytest.approx(total_j(node.count.snapshot, "r1"), rel=1e-9) == settled.energy_j
    assert pytest.approx(168 / 240, abs=0.02) == settled.final_ratio


def test_a_run_that_is_forgotten_is_dropped(node: Node) -> None:
    """Its figure goes with it."""
    node.count.begin("r1")
    node.count.begin("r2", holds=("GPU-b",))
    node.use(0.5)
    node.count.end("r1")
    node.use(0.1)
    node.settler.tick()
    done = node.ledger.forget(run_id="r1")
    node.ledger.commit()
    node.wait(0.1)
    node.settler.tick()

    assert ("r1",) == done.result(0)
    assert {"r2"} == set(node.published[-1])


def test_a_ledger_that_cannot_be_read_keeps_the_figures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line, no exception; nothing is published that is not known."""
    node = Node(tmp_path)
    node.count.begin("r1")
    node.use(0.5)
    node.settler.tick()
    count = len(node.published)
    node.end()
    (tmp_path / "ledger.sqlite").rename(tmp_path / "gone")
    with caplog.at_level(logging.INFO, "trainwatt"):
        for _ in range(3):
            node.wait(1.0)
            node.settler.tick()
        (tmp_path / "gone").rename(tmp_path / "ledger.sqlite")
        node.begin()
        node.settler.tick()
    node.end()

    assert count < len(node.published)
    assert 1 == sum("settled figures stay as they are" in line for line in caplog.messages)
    assert not any("Traceback" in line for line in caplog.messages)


def test_the_thread_prices_on_news_and_ends_at_once(node: Node) -> None:
    """It is woken by news, and by the stop."""
    node.count.begin("r1")
    node.use(0.5)
    stop = Event()
    thread = node.settler.start(stop)
    poll.until(lambda: node.published, what="a figure")
    node.wait(0.1)
    node.tell(hour_value(0, 42.0))
    poll.until(lambda: len(node.published) > 1, what="the figure after the news")
    stop.set()
    node.settler.wake()
    thread.join(5.0)

    assert not thread.is_alive()
    assert pytest.approx(node.grams({0: 42.0})) == dict(node.published[-1]["r1"].emissions_g)

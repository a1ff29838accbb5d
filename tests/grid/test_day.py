"""Days of a node in virtual time, priced by real clients over HTTP: live as known then, settled as known at last."""

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from monitor.core.model import Instant, Run
from monitor.core.snapshot import Snapshot
from monitor.grid import static
from monitor.grid.energinet import Energinet
from monitor.grid.feed import Account
from monitor.grid.neso import Neso
from tests.drivers.feedserver import Answer, Asked, FeedServer
from tests.grid.day import GPU, POWER_W, TURN_S, Days, unix
from tests.harness.rig import UNIX_AT_BOOT_S

SLOT_S = 1800.0
KILOWATTHOUR_J = 3.6e6
BEGIN_S = unix("2026-11-20T22:00:00+00:00")
DOWN_FROM_S, DOWN_UNTIL_S = BEGIN_S + 9 * 3600.0, BEGIN_S + 13 * 3600.0
REVISED_FROM_S = DOWN_FROM_S - 3 * 3600.0
GRAMS_EACH_SECOND = POWER_W / KILOWATTHOUR_J


def run_of(begin_wall_s: float) -> Run:
    """A run that holds the GPU from a moment on."""
    start = Instant(begin_wall_s - UNIX_AT_BOOT_S, begin_wall_s)
    return Run(id="r", name="r", start=start, holds=frozenset({GPU.id}))


class Neighbour:
    """NESO as it would have answered at each moment; and what whoever asked knows since."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = lambda: 0.0
        self.actual: dict[float, float] = {}
        self.forecast: dict[float, float] = {}
        self.asked: list[str] = []

    def answer(self, asked: Asked) -> Answer:
        """One request."""
        now_s = self.now()
        self.asked.append(asked.path)
        if DOWN_FROM_S <= now_s < DOWN_UNTIL_S:
            return Answer(status=500, body=b'{"error":{"code":"500 Internal Server Error","message":"outage"}}')
        first, last = asked.path.split("/")[2:4]
        from_s = unix(first.replace("Z", "+00:00"))
        hours = {"fw24h": 24, "fw48h": 48, "pt24h": -24}.get(last)
        until_s = unix(last.replace("Z", "+00:00")) if hours is None else from_s + hours * 3600.0
        rows, at_s = [], min(from_s, until_s) - SLOT_S
        while at_s < max(from_s, until_s):
            told = actual_g(at_s, now_s) if at_s + SLOT_S <= now_s else None
            rows.append(
                {
                    "from": f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%MZ}",
                    "to": f"{datetime.fromtimestamp(at_s + SLOT_S, UTC):%Y-%m-%dT%H:%MZ}",
                    "intensity": {"forecast": forecast_g(at_s), "actual": told, "index": "moderate"},
                }
            )
            if told is None:
                self.forecast[at_s] = forecast_g(at_s)
            else:
                self.actual[at_s] = told
            at_s += SLOT_S
        return Answer(body=json.dumps({"data": rows}).encode())

    def price(self, wall_s: float) -> tuple[float, str, float]:
        """g/kWh, quality and end of the value's interval that price this moment, by the order of DESIGN.md."""
        slot_s = wall_s // SLOT_S * SLOT_S
        if slot_s in self.actual:
            return self.actual[slot_s], "actual", slot_s + SLOT_S
        last_s = max((known_s for known_s in self.actual if known_s < slot_s), default=-math.inf)
        behind = (slot_s - last_s) / SLOT_S
        if behind <= 2:
            return self.actual[last_s], "carried", last_s + SLOT_S
        if slot_s in self.forecast:
            return self.forecast[slot_s], "forecast", slot_s + SLOT_S
        raise AssertionError("the forecast reaches over the whole outage")


def actual_g(slot_s: float, now_s: float) -> int:
    """What was metered, as it is told at a moment: hours around the outage were revised by then."""
    revision = 23 if REVISED_FROM_S <= slot_s < DOWN_UNTIL_S and now_s >= DOWN_UNTIL_S else 0
    return 100 + int(slot_s / SLOT_S * 37) % 200 + revision


def forecast_g(slot_s: float) -> int:
    """What was expected."""
    return 90 + int(slot_s / SLOT_S * 29) % 150


def series(exposition: str, name: str) -> dict[str, float]:
    """Samples of one name by their labels."""
    return {
        labels: float(value)
        for labels, value in re.findall(rf"^trainwatt_{name}{{(.*)}} (\S+)$", exposition, flags=re.MULTILINE)
    }


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """24 hours of a run, a feed that is away for four of them, and four days in which it settles."""
    grid = Neighbour()
    told: dict[str, object] = {}
    falls: list[str] = []
    wrong: list[str] = []
    seen: set[str] = set()
    with FeedServer() as server:
        server.answer_with(grid.answer)
        feeds = [Neso(Account(base_url=server.base_url))]
        directory = tmp_path_factory.mktemp("day")
        days = Days(directory, zone="GB", feeds=feeds, begin_wall_s=BEGIN_S, runs=[run_of(BEGIN_S)])
        grid.now = days.wall_s
        expected: dict[str, list[float]] = {}
        last: dict[str, float] = {}

        def look(snapshot: Snapshot) -> None:
            read_s = snapshot.devices[GPU.id].last_at.wall_s
            if read_s > BEGIN_S:
                grams, quality, _end_s = grid.price(read_s - TURN_S / 2)
                expected.setdefault(quality, []).append(TURN_S * GRAMS_EACH_SECOND * grams)
            text = days.exposition()
            now = grid.price(snapshot.at.wall_s if snapshot.at else 0.0)
            shown = (
                next(iter(series(text, "grid_intensity_grams_per_kilowatthour").values())),
                re.search(r'grid_intensity_info{[^}]*quality="(\w+)"', text)[1],  # type: ignore[index]
                next(iter(series(text, "grid_intensity_valid_until_timestamp_seconds").values())),
            )
            seen.add(shown[1])
            if shown != now:
                wrong.append(f"{read_s - BEGIN_S:.0f}: {shown} instead of {now}")
            for labels, value in series(text, "run_emissions_grams_total").items():
                if value < last.get(labels, 0.0):
                    falls.append(f"{labels}: {last[labels]} -> {value}")
                last[labels] = value

        snapshot = days.until(BEGIN_S + 86_400.0, each_turn=look)
        days.wait_until(BEGIN_S + 5 * 86_400.0)
        state = days.state()
        days.until(BEGIN_S + 5 * 86_400.0 + 3 * TURN_S)
        shown = days.exposition()
        days.end()
    told["shown"] = shown
    told |= {"expected": expected, "snapshot": snapshot, "state": state, "falls": falls, "wrong": wrong, "seen": seen}
    told["end_s"] = snapshot.devices[GPU.id].last_at.wall_s
    return told


def test_live_grams_are_as_known_then(day: dict) -> None:  # type: ignore[type-arg]
    """By quality, each joule at what was known of its slot when it was used, to 1e-9."""
    live = {key[2].value: grams for key, grams in day["snapshot"].runs["r"].emissions_g.items() if grams}

    assert {quality: pytest.approx(math.fsum(parts), rel=1e-9) for quality, parts in day["expected"].items()} == live
    assert {"carried", "forecast"} <= set(live)


def test_settled_grams_are_the_closed_form(day: dict) -> None:  # type: ignore[type-arg]
    """Priced again with what was revised, to 1e-9, and final."""
    settled = day["state"].settled["r"]
    slots = int((day["end_s"] - BEGIN_S) // SLOT_S) + 1
    parts = [
        GRAMS_EACH_SECOND
        * (min(BEGIN_S + (number + 1) * SLOT_S, day["end_s"]) - (BEGIN_S + number * SLOT_S))
        * actual_g(BEGIN_S + number * SLOT_S, math.inf)
        for number in range(slots)
        if BEGIN_S + number * SLOT_S < day["end_s"]
    ]

    assert [pytest.approx(math.fsum(parts), rel=1e-9)] == list(settled.emissions_g.values())
    assert settled.final_ratio == 1.0
    assert settled.unpriced_j == 0.0


def test_the_settled_figure_is_shown(day: dict) -> None:  # type: ignore[type-arg]
    """Beside the live one, with its basis and the share that is final; revisions and the provider's health, too."""
    text, settled = day["shown"], day["state"].settled["r"]
    ledger = day["snapshot"].ledger_id

    assert {f'basis="direct",ledger="{ledger}",run="r"': pytest.approx(settled.emissions_g["direct"])} == series(
        text, "run_settled_emissions_grams"
    )
    assert {f'ledger="{ledger}",run="r"': 1.0} == series(text, "run_settled_ratio")
    assert {'grid_zone="GB"': day["state"].revisions["GB"]} == series(text, "grid_revisions_total")
    assert {'provider="neso",reason="server"'} <= series(text, "grid_fetch_failures_total").keys()
    assert {'provider="neso"'} == series(text, "grid_fetch_last_success_timestamp_seconds").keys()


def test_quality_and_age_are_shown_at_every_moment(day: dict) -> None:  # type: ignore[type-arg]
    """Value, quality and the end of the value's interval, in every scrape of the day."""
    assert [] == day["wrong"][:5]
    assert {"carried", "forecast"} <= day["seen"]


def test_no_live_counter_falls(day: dict) -> None:  # type: ignore[type-arg]
    """Over all scrapes of the day."""
    assert [] == day["falls"]


def test_revisions_are_counted(day: dict) -> None:  # type: ignore[type-arg]
    """The hours before the outage that were known and came back changed."""
    assert day["state"].revisions["GB"] >= (DOWN_FROM_S - REVISED_FROM_S) / SLOT_S - 1


def danish_g(slot_s: float) -> float:
    """A value of Energinet's."""
    return 50.0 + int(slot_s / 300.0 * 7) % 90


def danish_answer(asked: Asked, now_s: float) -> Answer:
    """CO2Emis and CO2EmisProg: all of the last and the next hours, of which a moment is only taken as UTC."""
    query = parse_qs(asked.query)
    # What is no offset from now is read as Danish time, unless told otherwise.
    assert query.get("timezone") == ["UTC"] or query.get("start", ["now"])[0].startswith("now")
    ahead = asked.path.endswith("CO2EmisProg")
    first_s = (now_s if ahead else now_s - 6 * 3600.0) // 300.0 * 300.0
    count = 12 * 12 if ahead else 6 * 12 + 1
    rows = [
        {
            "Minutes5UTC": f"{datetime.fromtimestamp(first_s + 300.0 * number, UTC):%Y-%m-%dT%H:%M:%S}",
            # What the clock on the wall shows; around the change of the clock it repeats itself, so nobody may use it.
            "Minutes5DK": "2026-10-25T02:30:00",
            "PriceArea": "DK1",
            "CO2Emission": danish_g(first_s + 300.0 * number),
        }
        for number in range(count)
    ]
    return Answer(body=json.dumps({"total": len(rows), "dataset": "CO2Emis", "records": rows[::-1]}).encode())


def test_over_midnight_the_clock_change_and_into_another_zone(tmp_path: Path) -> None:
    """Slot by slot the closed form, over 01:00Z on the last Sunday of October and a daemon that goes on elsewhere."""
    begin_s, moves_s = unix("2026-10-24T21:50:00+00:00"), unix("2026-10-25T02:10:00+00:00")
    end_s = unix("2026-10-25T04:00:00+00:00")
    grid = Neighbour()
    with FeedServer() as server:
        server.answer_with(lambda asked: danish_answer(asked, days.wall_s()))
        feed = Energinet(Account(base_url=server.base_url))
        run = run_of(begin_s)
        days = Days(tmp_path, zone="DK-DK1", feeds=[feed], begin_wall_s=begin_s, runs=[run])
        days.until(moves_s)
        days.end()
        server.answer_with(grid.answer)
        neso = Neso(Account(base_url=server.base_url))
        moved = Days(tmp_path, zone="GB", feeds=[neso], begin_wall_s=moves_s + TURN_S, runs=[run])
        grid.now = moved.wall_s
        snapshot = moved.until(end_s)
        history = moved.ledger.history
        by_slot = {
            (zone, slot_s): joules
            for zone, slot_s, joules, _pue in history.energy_by_slot("r", begin_s - 3600.0, end_s + 3600.0, 300)
        }
        moved.wait_until(end_s + 4 * 86_400.0)
        settled = moved.state().settled["r"]
        moved.end()
    last_s = snapshot.devices[GPU.id].last_at.wall_s
    expected = {}
    slot_s = begin_s
    while slot_s < last_s:
        zone = "DK-DK1" if slot_s < moves_s else "GB"
        expected[zone, slot_s] = pytest.approx(POWER_W * (min(slot_s + 300.0, last_s) - slot_s), rel=1e-9)
        slot_s += 300.0
    grams = [
        GRAMS_EACH_SECOND
        * (min(slot_s + 300.0, last_s) - slot_s)
        * (danish_g(slot_s) if zone == "DK-DK1" else actual_g(slot_s // SLOT_S * SLOT_S, math.inf))
        for zone, slot_s in expected
    ]

    assert expected == by_slot
    assert [pytest.approx(math.fsum(grams), rel=1e-9)] == list(settled.emissions_g.values())


def test_a_feed_that_never_answers_leaves_the_labelled_static_value(tmp_path: Path) -> None:
    """Dead from the start, for hours: energy flows, grams are of the yearly value and say so, one line tells it."""
    with FeedServer() as server:
        dead = server.base_url
    days = Days(tmp_path, zone="GB", feeds=[Neso(Account(base_url=dead))], begin_wall_s=BEGIN_S, runs=[run_of(BEGIN_S)])
    snapshot = days.until(BEGIN_S + 4 * 3600.0)
    failures = {failure for feed in days.state().feeds for failure, _count in feed.failures}
    problems = [feed.problem for feed in days.state().feeds]
    days.end()
    totals = snapshot.runs["r"]
    energy_j = sum(totals.energy_j.values())
    value = static.intensity("GB")

    assert {("counter", "lifecycle", "static")} == {tuple(map(str, key)) for key in totals.emissions_g}
    assert sum(totals.emissions_g.values()) == pytest.approx(energy_j / KILOWATTHOUR_J * value.grams_per_kilowatthour)
    assert totals.unpriced_j == 0.0
    assert {"network"} == failures
    assert all("NESO" in problem for problem in problems)

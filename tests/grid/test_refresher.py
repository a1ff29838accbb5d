import json
import logging
import math
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from email.utils import formatdate
from itertools import pairwise
from random import Random

import pytest
import requests

from monitor.clock import now as real_now
from monitor.core.model import Instant, Quality, Rate, Settled, Signal
from monitor.errors import FeedError
from monitor.grid.client import Client
from monitor.grid.feed import About, Ask, Reply, Request
from monitor.grid.refresher import Refresher
from monitor.ledger.intensities import Intensities
from tests.drivers.feedserver import Answer, FeedServer
from tests.grid.world import (
    ABOUT,
    DAY_S,
    HALF_HOUR_S,
    HOUR_S,
    NOON_S,
    SECRET,
    STATIC,
    MadeUp,
    WithLogin,
    World,
)

TWO = replace(ABOUT, name="two", title="The Two")
BESIDE = replace(ABOUT, name="beside", title="The Margin", cadence_s=300.0, phase_s=30.0, signal=Signal.MARGINAL)


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def _failures(refresher: Refresher, place: int = 0) -> dict[str, int]:
    return dict(refresher.state().feeds[place].failures)


# --- what prices the present ---


def test_no_feed_at_all_is_the_yearly_value_at_once() -> None:
    """Nothing is asked, nothing is waited for."""
    world = World()
    refresher = world.refresher({})

    assert (STATIC,) == refresher.intensities(Instant(0.0, NOON_S))
    assert () == refresher.state().feeds
    assert [] == refresher.start(threading.Event())


def test_before_the_first_answer_the_yearly_value_prices() -> None:
    """Also when nobody has called start."""
    world = World()
    refresher = world.refresher({"GB": [MadeUp()]})

    assert (STATIC,) == refresher.intensities(Instant(0.0, NOON_S))


def test_the_list_is_the_same_object_until_a_slot_ends_or_something_comes() -> None:
    """And then it is another one, also without any news: a value holds to its end and is carried from there."""
    world = World(NOON_S + 125.0)
    world.plays["one"] = world.every_half_hour(lambda _slot_s: 100.0, ahead_s=HALF_HOUR_S)
    refresher = world.refresher({"GB": [MadeUp()]})
    refresher.tick("one")
    first = refresher.intensities(Instant(0.0, world.now_s))
    world.now_s += 600.0

    assert first is refresher.intensities(Instant(0.0, world.now_s))
    assert Quality.CARRIED is world.price(refresher).quality

    world.plays["one"] = world.dead
    world.now_s = NOON_S + 3 * HOUR_S

    assert first is not refresher.intensities(Instant(0.0, world.now_s))
    assert Quality.STATIC is world.price(refresher).quality


def test_an_answer_with_nothing_new_changes_nothing() -> None:
    """Same tuple, no news."""
    world, news = World(), list[str]()
    world.plays["one"] = lambda _ask: world.reply([(NOON_S, NOON_S + HOUR_S, 100.0, "actual")])
    refresher = world.refresher({"GB": [MadeUp(replace(ABOUT, past_s=0.0))]}, news=news)
    world.run(refresher, ["one"], 10.0)
    first = refresher.intensities(Instant(0.0, world.now_s))
    world.run(refresher, ["one"], 2000.0)

    assert 2 == world.count("one")
    assert ["GB"] == news
    assert first is refresher.intensities(Instant(0.0, NOON_S + 700.0)) or first == refresher.intensities(
        Instant(0.0, NOON_S + 700.0)
    )


def test_a_frozen_feed_is_shown_as_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """It answers 200 with the same old value: that holds to its end, is carried, and then it is no value of now."""
    world = World()
    world.plays["one"] = lambda _ask: world.reply([(NOON_S, NOON_S + HALF_HOUR_S, 100.0, "actual")])
    refresher = world.refresher({"GB": [MadeUp(replace(ABOUT, past_s=0.0))]})
    labels = []
    world.run(refresher, ["one"], 8 * HOUR_S, lambda: labels.append(world.price(refresher).quality))

    assert [Quality.ACTUAL, Quality.CARRIED, Quality.STATIC] == list(dict.fromkeys(labels))
    assert "newest value of GB ended" in refresher.state().feeds[0].problem
    assert 1 == len(_warnings(caplog))
    assert world.count("one") <= 17


def test_after_the_start_prices_reach_back_a_day() -> None:
    """Joules of a downtime are told when the daemon is back; a quarter of an hour later the list is short again."""
    world = World()
    world.plays["one"] = world.every_half_hour(lambda slot_s: 100.0 + (slot_s - NOON_S) / HALF_HOUR_S)
    refresher = world.refresher({"GB": [MadeUp()]})
    world.run(refresher, ["one"], 60.0)
    at_start = refresher.intensities(Instant(0.0, world.now_s))

    assert 100.0 - 50 == world.price(refresher, ago_s=600.0 + 60.0 + 50 * HALF_HOUR_S - 1.0).grams_per_kilowatthour

    world.run(refresher, ["one"], 900.0)

    assert len(refresher.intensities(Instant(0.0, world.now_s))) < 10 < len(at_start)


# --- when it is asked ---


def test_the_present_is_asked_for_at_the_pace_of_the_provider() -> None:
    """A day of half hours: one question a slot, and what settles costs no more than that again."""
    world = World()
    world.plays["one"] = world.every_half_hour(lambda _slot_s: 100.0)
    refresher = world.refresher({"GB": [MadeUp()]})
    world.run(refresher, ["one"], DAY_S)
    asked = [at_s for at_s, _name, path, _zone in world.asked if path == "latest"]

    assert 49 == len(asked)
    assert all(120.0 <= (at_s - NOON_S) % HALF_HOUR_S <= 180.0 for at_s in asked[1:])
    assert world.count("one", "past") <= 50


def test_a_restart_burns_no_quota_and_forgets_nothing() -> None:
    """The new one knows all values before it has asked, and asks when the old one would have."""
    world = World()
    store = Intensities(None)
    world.plays["one"] = world.every_half_hour(lambda slot_s: 100.0 + (slot_s % 7), ahead_s=HOUR_S)
    about = replace(ABOUT, forecast_s=DAY_S, apart_s=61.0)
    old = world.refresher({"GB": [MadeUp(about)]}, store=store)
    world.run(old, ["one"], 2 * HOUR_S)
    known, asked = world.price(old), len(world.asked)
    new = world.refresher({"GB": [MadeUp(about)]}, store=store)
    new.fill()

    assert known == world.price(new)

    due_s = new.tick("one")

    assert asked == len(world.asked)
    assert old.tick("one") == pytest.approx(due_s, abs=61.0)

    world.run(new, ["one"], DAY_S)
    times = Counter(
        int((at_s - NOON_S - 120.0) // HALF_HOUR_S) for at_s, _n, path, _z in world.asked if path == "latest"
    )

    assert {1} == set(times.values())


def test_a_restart_right_after_a_question_waits_for_the_quota() -> None:
    """Killed while it was asking: the question counts, whatever came of it."""
    world = World()
    store = Intensities(None)
    world.plays["one"] = world.dead
    about = replace(ABOUT, apart_s=65.0, cadence_s=300.0, phase_s=0.0)
    world.refresher({"GB": [MadeUp(about)]}, store=store).tick("one")
    again = world.refresher({"GB": [MadeUp(about)]}, store=store)
    world.now_s += 1.0

    assert NOON_S + 600.0 + 65.0 <= again.tick("one")
    assert 1 == world.count("one")


def test_what_was_missed_while_the_daemon_was_down_is_asked_for_once() -> None:
    """A night without it: one range has all of the night."""
    world = World()
    store = Intensities(None)
    world.plays["one"] = world.every_half_hour(lambda _slot_s: 100.0)
    world.run(world.refresher({"GB": [MadeUp()]}, store=store), ["one"], HOUR_S)
    world.now_s += 8 * HOUR_S
    woken_s = world.now_s
    refresher = world.refresher({"GB": [MadeUp()]}, store=store)
    world.run(refresher, ["one"], 600.0)

    assert 1 == world.count("one", "past", since_s=woken_s)
    assert Quality.ACTUAL is world.price(refresher, ago_s=5 * HOUR_S).quality


def test_a_revision_is_seen_and_counted() -> None:
    """75 read live, 42 settled: the new value prices what comes after, and the change is counted and told on."""
    world, news = World(), list[str]()
    store = Intensities(None)
    world.plays["one"] = world.every_half_hour(lambda _slot_s: 75.0)
    refresher = world.refresher({"GB": [MadeUp()]}, store=store, news=news)
    world.run(refresher, ["one"], HOUR_S)
    before, told = dict(refresher.state().revisions), len(news)
    world.plays["one"] = world.every_half_hour(lambda _slot_s: 42.0)
    world.run(refresher, ["one"], 2 * HOUR_S)

    assert {"GB": 0} == before
    assert {42.0} == {value.grams_per_kilowatthour for value in store.known("GB", NOON_S, NOON_S + 1.0)}
    assert refresher.state().revisions["GB"] >= 3
    assert told < len(news)


def test_a_question_that_the_provider_does_not_have_is_not_asked() -> None:
    """`request` gives None: the rest goes on."""

    class OnlyNow(MadeUp):
        def request(self, ask: Ask) -> Request | None:
            return super().request(ask) if ask.want == "latest" else None

    world = World()
    world.plays["one"] = world.every_half_hour(lambda _slot_s: 100.0)
    refresher = world.refresher({"GB": [OnlyNow(replace(ABOUT, forecast_s=DAY_S))]})
    world.run(refresher, ["one"], 3 * HOUR_S)

    assert {"latest"} == {path for _at, _name, path, _zone in world.asked}
    assert 7 == world.count("one")


def test_a_clock_that_is_set_back_an_hour_stops_nothing() -> None:
    """What was due by the old time is due by the new one."""
    world = World()
    world.plays["one"] = world.every_half_hour(lambda _slot_s: 100.0)
    about = replace(ABOUT, past_s=0.0, apart_s=0.0)
    refresher = world.refresher({"GB": [MadeUp(about)]})
    world.run(refresher, ["one"], HOUR_S)
    world.now_s -= 3 * HOUR_S
    world.asked.clear()
    world.run(refresher, ["one"], HOUR_S)

    assert 2 == world.count("one")


# --- when it fails ---


def test_a_feed_that_is_dead_for_three_days(caplog: pytest.LogCaptureFixture) -> None:
    """One warning that says what is used, labelled values all along, few questions; and well again with one line."""
    caplog.set_level(logging.INFO)
    world = World()
    alive = world.every_half_hour(lambda _slot_s: 100.0, ahead_s=2 * HOUR_S)
    world.plays["one"] = alive
    refresher = world.refresher({"GB": [MadeUp()]})
    world.run(refresher, ["one"], HOUR_S)
    world.plays["one"] = world.dead
    died_s, labels = world.now_s, []
    world.run(refresher, ["one"], 3 * DAY_S, lambda: labels.append(world.price(refresher).quality))
    warnings, asked = _warnings(caplog), world.count("one", since_s=died_s)
    problem, failures = refresher.state().feeds[0].problem, _failures(refresher)
    world.plays["one"] = alive
    world.run(refresher, ["one"], HOUR_S)

    # Carried by two slots from the last actual one, forecast, carried again up to 3 h, then the yearly value.
    assert [Quality.CARRIED, Quality.FORECAST, Quality.STATIC] == list(dict.fromkeys(labels))
    assert 1 == len(warnings)
    assert "check base_url; meanwhile the last value of one is used until" in warnings[0]
    assert asked < 3 * 24 * 6
    assert "nobody answers" in problem
    assert {"network": asked} == failures
    assert 1 == [record.getMessage() for record in caplog.records].count("one GB: well again")
    assert "" == refresher.state().feeds[0].problem
    assert Quality.STATIC is not world.price(refresher).quality


def test_dead_from_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """The yearly value prices, and says so."""
    world = World()
    world.plays["one"] = world.dead
    refresher = world.refresher({"GB": [MadeUp()]})
    refresher.tick("one")

    assert STATIC == world.price(refresher)
    assert [
        "one GB: nobody answers for GB; check base_url; meanwhile the yearly value of ember-owid is used"
    ] == _warnings(caplog)
    assert refresher.state().feeds[0].last_success_s is None


def test_no_yearly_value_and_no_feed_is_an_absence(caplog: pytest.LogCaptureFixture) -> None:
    """Not a number, and the line says it."""
    world = World()
    world.plays["one"] = world.dead
    refresher = world.refresher({"GB": [MadeUp()]}, statics={})
    refresher.tick("one")

    assert () == refresher.intensities(Instant(0.0, world.now_s))
    assert _warnings(caplog)[0].endswith("meanwhile energy has no price")


def test_the_second_provider_is_asked_only_while_the_first_fails() -> None:
    """So that its quota is kept; and it settles what it stood in for."""
    world = World()
    alive = world.every_half_hour(lambda _slot_s: 100.0)
    world.plays.update(one=alive, two=world.every_half_hour(lambda _slot_s: 200.0, ahead_s=HOUR_S))
    refresher = world.refresher({"GB": [MadeUp(), MadeUp(TWO)]})
    both = ["one", "two"]
    world.run(refresher, both, 6 * HOUR_S)

    assert 0 == world.count("two")

    world.plays["one"] = world.dead
    died_s = world.now_s
    world.run(refresher, both, 6 * HOUR_S)

    assert 9 <= world.count("two", "latest", since_s=died_s) <= 13
    assert ("two", 200.0) == (world.price(refresher).provider, world.price(refresher).grams_per_kilowatthour)

    world.plays["one"] = alive
    world.run(refresher, both, HOUR_S)
    back_s = world.now_s
    world.run(refresher, both, 4 * DAY_S)

    assert 0 == world.count("two", "latest", since_s=back_s)
    assert 1 <= world.count("two", "past", since_s=back_s) <= 40
    assert 0 == world.count("two", "past", since_s=back_s + 3.9 * DAY_S)
    assert "one" == world.price(refresher).provider


def test_the_second_provider_waits_for_the_first_answer_of_the_first() -> None:
    """At the start nobody has failed yet."""
    world = World()
    world.plays.update(one=world.every_half_hour(lambda _slot_s: 100.0), two=world.dead)
    refresher = world.refresher({"GB": [MadeUp(), MadeUp(TWO)]})
    refresher.tick("two")
    world.run(refresher, ["two", "one"], HOUR_S)

    assert 0 == world.count("two")


def test_a_restart_in_an_outage_leaves_no_gap() -> None:
    """The first provider is not due for a while, so it has not failed again yet: the second goes on all the same."""
    world = World()
    store = Intensities(None)
    world.plays.update(one=world.dead, two=world.every_half_hour(lambda _slot_s: 200.0, ahead_s=HOUR_S))
    hourly = replace(ABOUT, cadence_s=6 * HOUR_S)
    world.run(world.refresher({"GB": [MadeUp(hourly), MadeUp(TWO)]}, store=store), ["one", "two"], 2 * HOUR_S)
    restarted_s = world.now_s
    world.run(world.refresher({"GB": [MadeUp(hourly), MadeUp(TWO)]}, store=store), ["one", "two"], 2 * HOUR_S)

    assert 4 <= world.count("two", "latest", since_s=restarted_s) <= 5


def test_the_marginal_signal_is_asked_beside_at_its_own_pace() -> None:
    """And prices its own list only."""
    world = World()
    world.plays["one"] = world.every_half_hour(lambda _slot_s: 100.0)
    world.plays["beside"] = lambda ask: world.reply([(ask.at_s - 60.0, ask.at_s + 240.0, 870.0, "estimated")])
    refresher = world.refresher({"GB": [MadeUp(), MadeUp(replace(BESIDE, past_s=0.0))]})
    world.run(refresher, ["one", "beside"], HOUR_S)

    assert 12 <= world.count("beside") <= 13
    assert 100.0 == world.price(refresher).grams_per_kilowatthour
    assert 870.0 == world.price(refresher, signal=Signal.MARGINAL).grams_per_kilowatthour


def test_the_breaker_is_one_for_all_zones(caplog: pytest.LogCaptureFixture) -> None:
    """Twenty zones of a dead provider: one probe per back-off; all are back with the first answer."""
    world = World()
    zones = [f"GB-{n}" for n in range(1, 18)] + ["GB", "X", "Y"]
    world.plays["one"] = world.dead
    about = replace(ABOUT, past_s=0.0, apart_s=1.0)
    refresher = world.refresher({zone: [MadeUp(about)] for zone in zones}, statics={})
    world.run(refresher, ["one"], DAY_S)

    assert world.count("one", since_s=NOON_S + 2 * HOUR_S) < 22 * 6
    assert len(_warnings(caplog)) <= len(zones)
    assert all(feed.problem for feed in refresher.state().feeds)

    world.plays["one"] = world.every_half_hour(lambda _slot_s: 100.0)
    world.run(refresher, ["one"], HOUR_S)

    assert not any(feed.problem for feed in refresher.state().feeds)


def test_too_many_requests(caplog: pytest.LogCaptureFixture) -> None:
    """Retry-After is kept for all zones together."""
    world = World()
    world.plays["one"] = lambda _ask: world.answer(429, headers={"retry-after": "300"})
    about = replace(ABOUT, past_s=0.0, apart_s=1.0)
    refresher = world.refresher({zone: [MadeUp(about)] for zone in ("GB", "GB-1", "GB-2")})
    world.run(refresher, ["one"], HOUR_S)
    gaps = [later[0] - sooner[0] for sooner, later in zip(world.asked, world.asked[1:], strict=False)]

    assert min(gaps) >= 300.0
    assert {"quota"} == set(_failures(refresher))
    assert len(_warnings(caplog)) <= 3


def test_a_key_that_is_refused_for_a_moment_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    """Valid keys are refused at times."""
    world = World()
    world.plays["one"] = lambda _ask: world.answer(401)
    refresher = world.refresher({"GB": [MadeUp(replace(ABOUT, past_s=0.0))]})
    world.run(refresher, ["one"], 600.0)
    world.plays["one"] = world.every_half_hour(lambda _slot_s: 100.0)
    world.run(refresher, ["one"], HOUR_S)

    assert [] == _warnings(caplog)
    assert _failures(refresher)["key"] >= 2


def test_a_wrong_key_is_told_once_and_tried_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    """After a quarter of an hour it is the key."""
    world = World()
    world.plays["one"] = lambda _ask: world.answer(401, b'{"error":"Invalid auth-token"}')
    refresher = world.refresher({"GB": [MadeUp()]})
    world.run(refresher, ["one"], DAY_S)

    assert 1 == len(_warnings(caplog))
    assert "Invalid auth-token" in _warnings(caplog)[0]
    assert world.count("one", since_s=NOON_S + 3 * HOUR_S) <= 23


def test_a_plan_without_the_past_costs_a_question_in_six_hours(caplog: pytest.LogCaptureFixture) -> None:
    """And does not disturb the present."""
    world = World()

    def no_plan(ask: Ask) -> Reply:
        raise FeedError(f"the plan does not include the past of {ask.zone}", reason="plan")

    world.plays["one"] = world.every_half_hour(lambda _slot_s: 100.0)
    world.plays["one/past"] = no_plan
    refresher = world.refresher({"GB": [MadeUp()]})
    world.run(refresher, ["one"], DAY_S)

    assert 4 == world.count("one", "past")
    assert 49 == world.count("one", "latest")
    assert 1 == len(_warnings(caplog))
    assert "" == refresher.state().feeds[0].problem


def test_a_zone_that_it_does_not_know_is_asked_for_every_six_hours() -> None:
    """The other zones go on."""
    world = World()
    alive = world.every_half_hour(lambda _slot_s: 100.0)
    world.plays["one"] = lambda ask: alive(ask) if ask.zone == "GB" else world.answer(404)
    refresher = world.refresher({zone: [MadeUp(replace(ABOUT, past_s=0.0))] for zone in ("GB", "X")})
    world.run(refresher, ["one"], DAY_S)
    by_zone = Counter(zone for _at, _name, _path, zone in world.asked)

    assert {"GB": 49, "X": 4} == by_zone


def test_numbers_that_can_be_no_intensity_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """The sound ones are kept, a 0 among them; the rest is counted each time and told once."""
    world = World()
    ends = [NOON_S + n * HALF_HOUR_S for n in range(-6, 2)]
    odd = [
        (start, start + HALF_HOUR_S, grams, "actual")
        for start, grams in zip(ends, [-1.0, 2501.0, math.nan], strict=False)
    ]
    odd += [(NOON_S, NOON_S, 5.0, "actual"), (NOON_S, NOON_S - 1.0, 5.0, "actual"), (0.0, 401 * DAY_S, 5.0, "actual")]
    good = (NOON_S, NOON_S + HALF_HOUR_S, 0.0, "actual")
    world.plays["one"] = lambda _ask: world.reply([*odd, good])
    refresher = world.refresher({"GB": [MadeUp(replace(ABOUT, past_s=0.0))]})
    world.run(refresher, ["one"], HOUR_S)

    assert (0.0, Quality.CARRIED) == (world.price(refresher).grams_per_kilowatthour, world.price(refresher).quality)
    assert {"value": 3} == _failures(refresher)
    assert 1 == len(_warnings(caplog))
    assert all(slot.grams_per_kilowatthour in {0.0, 210.9} for slot in refresher.intensities(Instant(0.0, world.now_s)))


def test_an_answer_for_another_zone_is_refused() -> None:
    """Some place the caller by its address and answer for that, with 200."""
    world = World()
    world.plays["one"] = lambda _ask: world.reply([(NOON_S, NOON_S + HOUR_S, 30.0, "actual")], zone="CA-QC")
    refresher = world.refresher({"GB": [MadeUp(replace(ABOUT, past_s=0.0))]})
    refresher.tick("one")

    assert STATIC == world.price(refresher)
    assert "CA-QC" in refresher.state().feeds[0].problem


def test_a_clock_that_is_wrong_by_an_hour_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Once, with the direction; the values are kept, and it ends when the clock is right."""
    world = World()

    def play(ask: Ask, off_s: float) -> Reply:
        slots = json.loads(world.every_half_hour(lambda _slot_s: 100.0)(ask).body)["slots"]
        return world.reply(slots, headers={"date": formatdate(world.now_s + off_s, usegmt=True)})

    world.plays["one"] = lambda ask: play(ask, -HOUR_S)
    refresher = world.refresher({"GB": [MadeUp(replace(ABOUT, past_s=0.0))]})
    world.run(refresher, ["one"], HOUR_S)
    problem = refresher.state().feeds[0].problem

    assert problem.startswith("this machine's clock is 60 min ahead of that of The One")
    assert [f"one GB: {problem}"] == _warnings(caplog)
    assert 3 == _failures(refresher)["clock"]
    assert 100.0 == world.price(refresher).grams_per_kilowatthour

    world.plays["one"] = lambda ask: play(ask, 20.0)
    world.run(refresher, ["one"], HOUR_S)

    assert "" == refresher.state().feeds[0].problem


def test_an_answer_out_of_a_cache_does_not_accuse_the_clock() -> None:
    """Its Date is old, and its Age says so."""
    world = World()
    headers = {"date": formatdate(world.now_s - HOUR_S, usegmt=True), "age": "3600"}
    world.plays["one"] = lambda _ask: world.reply([(NOON_S, NOON_S + HOUR_S, 1.0, "actual")], headers=headers)
    refresher = world.refresher({"GB": [MadeUp()]})
    refresher.tick("one")

    assert {} == _failures(refresher)


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"<html>Just a moment</html>", "text/html", "content"),
        (b"end must be >= start", "text/plain", "content"),
        (b'{"slots":[]}', "application/json", "empty"),
        (b'{"slots":[[1,2,null,"actual"]]}', "application/json", "empty"),
        (b"not json", "application/json", "content"),
        (b'{"no slots": 1}', "application/json", "content"),
    ],
)
def test_nonsense_with_status_200(body: bytes, kind: str, reason: str) -> None:
    """Each ends in a labelled absence and one line; null is never 0."""
    world = World()
    world.plays["one"] = lambda _ask: world.answer(200, body, headers={"content-type": kind})
    refresher = world.refresher({"GB": [MadeUp()]})
    refresher.tick("one")
    feed = refresher.state().feeds[0]

    assert ((reason, 1),) == feed.failures
    assert feed.problem
    assert "\n" not in feed.problem
    assert STATIC == world.price(refresher)


def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Not even when somebody else's parser fails with the key in its words."""
    caplog.set_level(logging.DEBUG)

    class Careless(MadeUp):
        def parse(self, ask: Ask, answer: Reply) -> list[object]:  # type: ignore[override]
            raise RuntimeError(f"cannot parse {self.request(ask)} {answer.status}")

    world = World()
    world.plays["one"] = lambda _ask: world.reply([])
    refresher = world.refresher({"GB": [Careless()]})  # type: ignore[list-item]
    world.run(refresher, ["one"], HOUR_S)

    assert SECRET not in caplog.text
    assert SECRET not in repr(refresher.state())
    assert "failed inside with RuntimeError" in caplog.text


# --- logins ---

LOGIN = replace(ABOUT, cadence_s=300.0, phase_s=0.0, past_s=0.0)


def test_one_login_serves_until_its_token_ends() -> None:
    """Half an hour, six questions."""
    world = World()
    world.plays["one"] = world.every_half_hour(lambda _slot_s: 100.0)
    world.plays["one/login"] = lambda _ask: world.answer(200, b"t1")
    refresher = world.refresher({zone: [WithLogin(LOGIN)] for zone in ("GB", "X")})
    world.run(refresher, ["one"], 1500.0)

    assert 1 == world.count("one", "login")
    assert world.count("one", "latest") >= 10
    assert {"", "t1"} == set(world.tokens)

    world.run(refresher, ["one"], 1500.0)

    assert 2 == world.count("one", "login")


def test_a_token_that_is_refused_costs_one_login_more() -> None:
    """And the question is asked again at once, as soon as the quota allows."""
    world = World()
    tokens = iter([b"old", b"new"])
    alive = world.every_half_hour(lambda _slot_s: 100.0)
    world.plays["one/login"] = lambda _ask: world.answer(200, next(tokens))
    world.plays["one"] = lambda ask: alive(ask) if world.tokens[-1] == "new" else world.answer(401)
    refresher = world.refresher({"GB": [WithLogin(LOGIN)]})
    world.run(refresher, ["one"], 40.0)

    assert ["login", "latest", "login", "latest"] == [path for _at, _name, path, _zone in world.asked]
    assert 100.0 == world.price(refresher).grams_per_kilowatthour
    assert () == refresher.state().feeds[0].failures


def test_a_token_that_is_refused_again_and_again_costs_no_login_each_time() -> None:
    """One more, then it is not the token."""
    world = World()
    world.plays["one/login"] = lambda _ask: world.answer(200, b"t")
    world.plays["one"] = lambda _ask: world.answer(401)
    refresher = world.refresher({"GB": [WithLogin(LOGIN)]})
    world.run(refresher, ["one"], 1200.0)

    assert 2 == world.count("one", "login")


def test_a_wrong_password_is_not_sent_again_for_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    """Or the account is locked. It is told at once."""
    world = World()
    world.plays["one/login"] = lambda _ask: world.answer(403, b"<html>", headers={"content-type": "text/html"})
    refresher = world.refresher({zone: [WithLogin(LOGIN)] for zone in ("GB", "X")})
    world.run(refresher, ["one"], 3 * HOUR_S - 60.0)

    assert 3 == world.count("one")
    assert 2 >= len(_warnings(caplog)) >= 1


# --- zones that others on the site want ---


def test_a_zone_that_another_trainwatt_wants_is_asked_for_too() -> None:
    """By the same provider within its quota, and by one that was not asked before; it prices nothing here."""
    world = World()
    store = Intensities(None)
    world.plays.update(one=world.every_half_hour(lambda _slot_s: 100.0), two=world.every_half_hour(lambda _slot_s: 7.0))
    refresher = world.refresher({"GB": [MadeUp()]}, store=store)
    refresher.tick("one")
    before = refresher.intensities(Instant(0.0, world.now_s))
    for _ in range(2):
        refresher.watch("X", [MadeUp()])
        refresher.watch("Y", [MadeUp(TWO)])
    world.run(refresher, ["one", "two"], HOUR_S)

    assert {100.0} == {value.grams_per_kilowatthour for value in store.known("X", NOON_S, NOON_S + HOUR_S)}
    assert {7.0} == {value.grams_per_kilowatthour for value in store.known("Y", NOON_S, NOON_S + HOUR_S)}
    assert {"GB"} == {slot.zone for slot in (*before, *refresher.intensities(Instant(0.0, world.now_s)))}
    assert {("one", "GB"), ("one", "X"), ("two", "Y")} == {
        (feed.provider, feed.zone) for feed in refresher.state().feeds
    }


# --- the loop notices nothing ---


def test_a_question_that_hangs_holds_up_nobody_but_its_provider() -> None:
    """Single flight: nobody asks the same a second time; the loop and the other provider go on."""
    world = World()
    arrived, go_on = threading.Event(), threading.Event()

    def hang(_ask: Ask) -> Reply:
        arrived.set()
        assert go_on.wait(10.0)
        return world.reply([(NOON_S, NOON_S + HOUR_S, 7.0, "actual")])

    world.plays["one"] = hang
    world.plays["beside"] = lambda _ask: world.reply([(NOON_S, NOON_S + HOUR_S, 870.0, "actual")])
    refresher = world.refresher({"GB": [MadeUp(), MadeUp(BESIDE)]})
    hanging = threading.Thread(target=refresher.tick, args=("one",))
    hanging.start()

    assert arrived.wait(10.0)

    refresher.tick("one")
    refresher.tick("beside")

    assert STATIC == world.price(refresher)
    assert 870.0 == world.price(refresher, signal=Signal.MARGINAL).grams_per_kilowatthour
    assert 2 == len(refresher.state().feeds)
    assert 1 == world.count("one")

    go_on.set()
    hanging.join(10.0)

    assert 7.0 == world.price(refresher).grams_per_kilowatthour


def test_a_store_whose_disk_hangs_holds_up_no_loop() -> None:
    """The list that was there prices on."""
    world = World()
    arrived, go_on = threading.Event(), threading.Event()

    class Slow(Intensities):
        def add(self, seen):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            arrived.set()
            assert go_on.wait(10.0)
            return super().add(seen)

    world.plays["one"] = world.every_half_hour(lambda _slot_s: 100.0)
    refresher = world.refresher({"GB": [MadeUp()]}, store=Slow(None))
    adding = threading.Thread(target=refresher.tick, args=("one",))
    adding.start()

    assert arrived.wait(10.0)
    assert STATIC == world.price(refresher)
    assert refresher.state() is refresher.state()

    go_on.set()
    adding.join(10.0)

    assert 100.0 == world.price(refresher).grams_per_kilowatthour


def test_the_state_is_the_same_object_while_nothing_changes() -> None:
    """Settled figures, prices and health each make a new one."""
    world = World()
    world.plays["one"] = world.dead
    rates = (Rate(0.31, NOON_S, NOON_S + HOUR_S),)
    refresher = world.refresher({"GB": [MadeUp()]}, rates=lambda _start_s, _end_s: rates)
    first = refresher.state()

    assert rates == first.rates
    assert first is refresher.state()

    figures = {"run": Settled(emissions_g={}, energy_j=1.0, final_j=1.0, priced_at_s=NOON_S)}
    refresher.settled(figures)
    second = refresher.state()

    assert figures == second.settled
    assert first is not second is refresher.state()

    refresher.tick("one")

    assert second is not refresher.state()
    assert ((("network", 1),),) == tuple(feed.failures for feed in refresher.state().feeds)


def test_forecasts_become_an_outlook_with_its_score() -> None:
    """From the present slot on; scored once enough of them have come true."""
    world = World()
    world.plays["one"] = world.every_half_hour(lambda slot_s: 100.0 + (slot_s - NOON_S) / HALF_HOUR_S, ahead_s=DAY_S)
    refresher = world.refresher({"GB": [MadeUp(replace(ABOUT, forecast_s=DAY_S))]})
    refresher.tick("one")
    outlook = refresher.state().outlooks[0]

    assert ("GB", "one", Signal.AVERAGE, world.now_s) == (
        outlook.zone,
        outlook.provider,
        outlook.signal,
        outlook.issued_at_s,
    )
    assert outlook.slots[0].valid_from_s <= world.now_s < outlook.slots[0].valid_until_s
    assert sorted(outlook.slots, key=lambda slot: slot.valid_from_s) == list(outlook.slots)
    assert 48 <= len(outlook.slots)
    assert outlook.mean_error_g is None

    world.run(refresher, ["one"], 12 * HOUR_S)

    assert 0.0 == refresher.state().outlooks[0].mean_error_g


def test_what_a_relay_tells_keeps_the_name_of_its_provider() -> None:
    """And has the relay's place in the order, also after a restart."""
    world = World()
    store = Intensities(None)
    relay = MadeUp(replace(ABOUT, name="relay", title="the relay", past_s=0.0))
    slots = [(NOON_S, NOON_S + HALF_HOUR_S, 138.0, "actual")]
    world.plays["relay"] = lambda _ask: world.reply(slots, provider="neso")
    world.plays["two"] = world.dead
    refresher = world.refresher({"GB": [relay, MadeUp(TWO)]}, store=store)
    world.run(refresher, ["relay", "two"], 600.0)
    again = world.refresher({"GB": [relay, MadeUp(TWO)]}, store=store)
    again.fill()

    assert ("neso", 138.0) == (world.price(refresher).provider, world.price(refresher).grams_per_kilowatthour)
    assert "neso" == world.price(again).provider
    assert 0 == world.count("two")
    assert "relay" == refresher.state().feeds[0].provider


def test_the_library_for_http_is_not_loaded_without_need() -> None:
    """It costs memory in every process that imports this one."""
    code = "import monitor.grid.refresher, sys; sys.exit('requests' in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_real_threads_ask_a_real_server_and_end_when_told() -> None:
    """The whole way, over loopback."""
    stop, news = threading.Event(), threading.Event()
    at_s = real_now().wall_s
    body = json.dumps({"slots": [(at_s - 60.0, at_s + 600.0, 123.0, "actual")]}).encode()

    class Local(MadeUp):
        def request(self, ask: Ask) -> Request | None:
            return Request(url=f"{server.base_url}/{ask.want}")

    about = About(name="one", title="The One", credit="", cadence_s=600.0)
    with FeedServer() as server, requests.Session() as session:
        session.trust_env = False
        server.play(Answer(body=body))
        world = World()
        refresher = Refresher(
            {"GB": [Local(about)]},
            statics={"GB": STATIC},
            store=Intensities(None),
            client=Client(session, lambda: real_now().wall_s),
            wall_s=lambda: real_now().wall_s,
            random=Random(1),
            on_news=lambda _zone: news.set(),
        )
        threads = refresher.start(stop)

        assert news.wait(10.0)

        stop.set()
        refresher.wake()
        for thread in threads:
            thread.join(10.0)
        world.now_s = at_s

        assert not any(thread.is_alive() for thread in threads)
        assert 123.0 == world.price(refresher).grams_per_kilowatthour
        assert 1 == len(server.asked)


def test_zones_that_fail_do_not_starve_the_one_that_works() -> None:
    """A provider that has nothing for ten zones is asked for the eleventh at its cadence all the same."""
    world = World()
    good = world.every_half_hour(lambda _slot_s: 100.0)
    world.plays["one"] = lambda ask: good(ask) if ask.zone == "GB" else world.reply([])
    refresher = world.refresher({"GB": [MadeUp()]} | {f"Z{number}": [MadeUp()] for number in range(10)})
    world.run(refresher, ["one"], DAY_S)
    asked_s = [at_s for at_s, _name, path, zone in world.asked if (path, zone) == ("latest", "GB")]

    assert max(after - before for before, after in pairwise(asked_s)) < 1.5 * HALF_HOUR_S


@pytest.mark.parametrize(
    "slots",
    [
        pytest.param([(NOON_S + n, NOON_S + n + 1.0, 100.0, "actual") for n in range(2000)], id="a second each"),
        pytest.param([(NOON_S - n, NOON_S + 9000.0, 100.0, "actual") for n in range(2000)], id="all of one moment"),
    ],
)
def test_an_answer_that_would_hold_up_the_loop_is_refused(slots: list[tuple[float, float, float, str]]) -> None:
    """Thousands of values for one hour are no intensities of a grid: the yearly value stays, and a line says why."""
    world = World(NOON_S + 700.0)
    world.plays["one"] = lambda _ask: world.reply(slots)
    refresher = world.refresher({"GB": [MadeUp()]})
    refresher.tick("one")

    assert (STATIC,) == refresher.intensities(Instant(0.0, world.now_s))
    assert refresher.state().feeds[0].problem

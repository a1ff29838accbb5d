"""`trainwatt grid` and what `check` says of the grid: from the daemon, else from feeds that are asked once."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from monitor.cli.check import check
from monitor.cli.grid import advice, grid, moment
from monitor.core.forecast import Start
from monitor.errors import FailureError, UsageError
from tests.drivers.feedserver import Answer, Asked, FeedServer
from tests.harness.daemon import clean_environment, daemon

HALF_S = 1800.0
NOBODY = ("--socket", "/no/such/socket")


def rows(asked: Asked) -> Answer:
    """NESO's half hours around now: 200 g/kWh now, and 100 from two hours ahead on; no actual value of now."""
    now_s = time.time() // HALF_S * HALF_S
    edges = [now_s + HALF_S * number for number in range(-2, 96)]
    data = [
        {
            "from": f"{datetime.fromtimestamp(edge, UTC):%Y-%m-%dT%H:%MZ}",
            "to": f"{datetime.fromtimestamp(edge + HALF_S, UTC):%Y-%m-%dT%H:%MZ}",
            "intensity": {
                "forecast": 100 if edge >= now_s + 7200.0 else 200,
                "actual": 210 if edge < now_s else None,
                "index": "moderate",
            },
        }
        for edge in edges
    ]
    assert asked.path.startswith("/intensity/")
    return Answer(body=json.dumps({"data": data}).encode())


@pytest.fixture
def neso() -> Iterator[FeedServer]:
    """The feed of Great Britain."""
    with FeedServer() as server:
        server.answer_with(rows)
        yield server


def at(server: FeedServer) -> Mapping[str, str]:
    """The environment of a user whose feed is there."""
    return {"TRAINWATT_FEED_NESO_BASE_URL": server.base_url, "TRAINWATT_ZONE": "GB"}


def asked(*args: str, env: Mapping[str, str] | None = None, ends: int = 0) -> Result:
    """What the verb says, without a daemon."""
    mine = {name: None for name in os.environ if name.startswith("TRAINWATT_")}
    done = CliRunner().invoke(grid, [*args, *NOBODY], env=mine | dict(env or {}))
    if ends == 0 and done.exception is not None:
        raise done.exception
    return done


def test_now_names_value_basis_quality_age_next_and_credit(neso: FeedServer) -> None:
    """Asked once; the forecast of this half hour is what is known of it, then the last actual, then the year."""
    text = asked("now", env=at(neso)).output
    document = json.loads(asked("now", "--json", env=at(neso)).output)
    (value,) = document["now"]

    assert 2 == len(neso.asked)
    assert "zone GB: as set" in text
    assert "no daemon answers on /no/such/socket" in text
    assert "by neso" in text
    assert "credit: " in text
    assert "CC BY 4.0" in text
    assert ("feeds", "GB") == (document["source"], document["zone"])
    assert "neso" == value["provider"]
    assert ("average", "direct") == (value["signal"], value["basis"])
    assert value["grams_per_kilowatthour"] in {200.0, 210.0}
    assert value["age_s"] >= 0.0
    assert value["next"] is not None
    assert [("neso", "")] == [(feed["provider"], feed["problem"]) for feed in document["feeds"]]


def test_now_is_the_yearly_value_where_the_feed_is_dead() -> None:
    """Labelled so, with the reason; and exit 0."""
    with FeedServer() as server:
        server.play(Answer(status=500, body=b"{}"))
        env = at(server)
        text = asked("now", env=env).output
    gone = asked("now", env=env).output

    assert "210.89 g/kWh, average, lifecycle basis, static, by ember-owid" in text
    assert "feed neso: has given no value; " in text
    assert "500" in text
    assert "static, by ember-owid" in gone


def test_a_zone_without_a_feed_has_the_yearly_value() -> None:
    """No feed is asked, and no zone at all is a mistake of usage."""
    text = asked("now", env={"TRAINWATT_ZONE": "DE"}).output

    assert "344.14 g/kWh" in text
    assert "next:" not in text
    assert "no feed is asked for DE" in text
    with pytest.raises(UsageError, match="--zone DE"):
        asked("now")


def test_the_forecast_is_listed(neso: FeedServer) -> None:
    """By slot, with its name, signal, basis, and that nobody knows yet how good it is."""
    document = json.loads(asked("forecast", "--hours", "4", "--json", env=at(neso)).output)
    text = asked("forecast", "--hours", "4", env=at(neso)).output
    (outlook,) = document["outlooks"]

    assert {100.0, 200.0} == {slot["grams_per_kilowatthour"] for slot in outlook["slots"]}
    assert 8 <= len(outlook["slots"]) <= 9
    assert (
        "neso's forecast of the average intensity (direct basis); how far off it usually is, is not known yet" in text
    )
    assert " 100 g/kWh" in text


def test_without_a_forecast_there_is_none() -> None:
    """One line and exit 1: of a zone without a feed, and of a feed that is dead."""
    with pytest.raises(FailureError, match="no forecast of DE is known: no feed of the zone has one"):
        asked("forecast", env={"TRAINWATT_ZONE": "DE"})
    with FeedServer() as server:
        server.play(Answer(status=500, body=b"{}"))
        with pytest.raises(FailureError, match=r"no forecast of GB is known: .*500"):
            asked("best", "--hours", "1", env=at(server))


def test_best_does_not_advise_on_a_forecast_that_nobody_has_scored(neso: FeedServer) -> None:
    """The cleanest start and what it would be are told; without a known error it is no advice."""
    document = json.loads(asked("best", "--hours", "1", "--json", env=at(neso)).output)
    text = asked("best", "--hours", "1", "--deadline", "+12h", env=at(neso)).output

    assert (False, 100.0, 200.0) == (document["advised"], document["mean_g"], document["now_mean_g"])
    assert 3600.0 < document["start_s"] - time.time() <= 7200.0
    assert "slots" not in document["outlook"]
    assert "start when you like: " in text
    assert "is not known yet" in text
    assert "average intensity" in text


def test_a_deadline_that_cannot_be_kept_is_refused(neso: FeedServer) -> None:
    """Before anybody is asked."""
    for deadline in ("+1h", "2020-01-01T00:00", "soon"):
        with pytest.raises(UsageError, match="--deadline"):
            asked("best", "--hours", "2", "--deadline", deadline, env=at(neso))
    assert [] == neso.asked


@pytest.mark.parametrize(
    ("start", "error_g", "advised", "says"),
    [
        (Start(9e8, 100.0, 200.0), 23.5, True, "100 g/kWh on average instead of 200 now, 50% less"),
        (Start(9e8, 100.0, 120.0), 23.5, False, "the last forecasts were off by 24 g/kWh, more than that saves"),
        (Start(9e8, 100.0, 120.0), 20.0, False, "off by 20 g/kWh"),
        (Start(9e8, 100.0, 120.0), None, False, "is not known yet"),
        (Start(9e8, 100.0, 100.0), 1.0, False, "now is as good as later"),
        (Start(9e8, 0.0, 0.0), 1.0, False, "now is as good as later"),
        (Start(9e8, 100.0, None), 1.0, False, "not covered by the forecast"),
    ],
)
def test_advice_needs_a_saving_beyond_the_error(start: Start, error_g: float | None, advised: bool, says: str) -> None:  # noqa: FBT001
    """Else it says why there is none."""
    given, reason = advice(start, error_g)

    assert given is advised
    assert says in reason


def test_a_moment_may_be_written_in_three_ways() -> None:
    """The next such time of day, a date, or hours from now."""
    now_s = datetime(2026, 11, 21, 12, 30).timestamp()  # noqa: DTZ001  (local time is meant)

    assert now_s + 5400.0 == moment("+1.5h", now_s)
    assert now_s + 1800.0 == moment("13:00", now_s)
    assert now_s + 23.5 * 3600.0 == moment("12:00", now_s)
    assert 1_795_305_600.0 == moment("2026-11-22T00:00Z", now_s)


def test_the_daemon_is_asked_first(neso: FeedServer, tmp_path: Path) -> None:
    """What it knows is told without a request; another zone than its own is asked of the feeds."""
    with daemon("--mock", "--zone", "DE", log=tmp_path / "log") as served:
        own = ["--socket", str(served.socket)]
        document = json.loads(CliRunner().invoke(grid, ["now", "--json", *own], env=clean()).output)
        other = json.loads(CliRunner().invoke(grid, ["now", "--json", *own], env=clean() | dict(at(neso))).output)
        answer = json.loads(served.get("/api/v1/grid")[2])

    assert ("daemon", "DE", 344.14) == (
        document["source"],
        document["zone"],
        document["now"][0]["grams_per_kilowatthour"],
    )
    assert (answer["zone"], answer["found"]) == ("DE", "as set")
    assert ("feeds", "GB", "the daemon does not watch GB") == (other["source"], other["zone"], other["why"])
    assert 1 == len(neso.asked)


def clean() -> dict[str, str | None]:
    """No setting of trainwatt."""
    return {name: None for name in os.environ if name not in clean_environment()}


# -- check -----------------------------------------------------------------------------------------------------------


def checked(*args: str, env: Mapping[str, str]) -> dict[str, Any]:
    """What `check` says of the grid."""
    done = CliRunner().invoke(check, ["--mock", "--json", *args], env=clean() | dict(env))
    document: dict[str, Any] = json.loads(done.output)["grid"]
    return document


def test_check_asks_each_feed_once(neso: FeedServer) -> None:
    """Reachable, value, age; price, PUE and how the zone was found stand beside it."""
    price = {"TRAINWATT_PRICE": '{"currency": "EUR", "flat": 0.31}', "TRAINWATT_PUE": "1.2"}
    found = checked(env={**at(neso), **price, "TRAINWATT_DEVICE_ZONES": '{"GPU-1": "GB"}'})
    (feed,) = found["feeds"]

    assert 1 == len(neso.asked)
    assert ("neso", "GB", "answers", True, None) == tuple(
        feed[key] for key in ("provider", "zone", "state", "reachable", "key_ok")
    )
    assert feed["grams_per_kilowatthour"] in {200.0, 210.0}
    assert ("neso", "as set", {"GPU-1": "GB"}) == (found["provider"], found["found"], found["device_zones"])
    assert (0.31, "EUR", 1.2) == (found["price_per_kilowatthour"], found["currency"], found["pue_ratio"])


def test_check_names_the_remedy_of_a_wrong_key() -> None:
    """The key is not part of anything that is said."""
    with FeedServer() as server:
        server.play(Answer(status=401, body=b'{"error":"Invalid auth-token"}'))
        env = {
            "TRAINWATT_ZONE": "DE",
            "TRAINWATT_FEED_ELECTRICITYMAPS_KEY": "q7-the-key",
            "TRAINWATT_FEED_ELECTRICITYMAPS_BASE_URL": server.base_url,
        }
        done = CliRunner().invoke(check, ["--mock"], env=clean() | env)
        (feed,) = checked(env=env)["feeds"]

    assert "feed electricitymaps for DE: key" in done.output
    assert "Invalid auth-token" in done.output
    assert "static" in done.output
    assert (True, False) == (feed["reachable"], feed["key_ok"])
    assert "q7-the-key" not in done.output + json.dumps(feed)


def test_check_offline_asks_nobody(neso: FeedServer) -> None:
    """The feeds are named all the same; and a zone that was found by a region says so."""
    found = checked("--offline", env=at(neso))
    region = checked("--offline", "--cloud-region", "azure:uksouth", env={})

    assert ([], ["not asked"]) == (neso.asked, [feed["state"] for feed in found["feeds"]])
    assert ("GB", "by the cloud region azure:uksouth") == (region["zone"], region["found"])


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"TRAINWATT_FEED_NESSO_KEY": "q7-the-key"}, "feed.nesso: there is no such provider; did you mean 'neso'?"),
        ({"TRAINWATT_FEEDS": "nesso"}, "did you mean"),
    ],
)
def test_a_provider_that_does_not_exist_is_named(env: dict[str, str], says: str) -> None:
    """With the nearest name, before anything starts."""
    done = CliRunner().invoke(check, ["--mock", "--zone", "GB"], env=clean() | env)

    assert isinstance(done.exception, UsageError)
    assert says in str(done.exception)
    assert "q7-the-key" not in str(done.exception)

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from exporters.http import bind, serving
from monitor.core.model import (
    Basis,
    FeedHealth,
    GridState,
    Intensity,
    Outlook,
    Quality,
    Rate,
    Settled,
    Signal,
)
from monitor.core.snapshot import Policy, Snapshot
from monitor.core.wire import intensities_of
from monitor.errors import UsageError
from tests.exporters.test_report_document import GERMANY, START_S, moment
from tests.exporters.test_report_document import snapshot as of_runs

HOUR_S = 3600.0
PATH = "/api/v1/grid/intensity"


class Published:
    """A published snapshot."""

    def __init__(self, published: Snapshot) -> None:
        self.snapshot = published


class Store:
    """Values of some zones, and a count of the questions."""

    def __init__(self, *slots: Intensity) -> None:
        self.slots = slots
        self.questions: list[tuple[str, float, float]] = []

    def known(self, zone: str, start_s: float, end_s: float, *, as_of_s: float | None = None) -> Sequence[Intensity]:
        """Those that overlap."""
        assert as_of_s is None
        self.questions.append((zone, start_s, end_s))
        return [
            slot
            for slot in self.slots
            if slot.zone == zone and slot.valid_from_s < end_s and slot.valid_until_s > start_s
        ]

    def add(self, seen: Sequence[Intensity]) -> Sequence[tuple[Intensity, Intensity]]:
        """A question changes nothing."""
        raise AssertionError(seen)

    def versions(self, zone: str, start_s: float, end_s: float) -> Sequence[Intensity]:
        """Not asked here."""
        raise AssertionError(zone, start_s, end_s)

    def note_ask(self, *asked: Any) -> None:
        """Nobody is asked."""
        raise AssertionError(asked)

    def asks(self, provider: str, zone: str, since_s: float) -> Sequence[tuple[str, float, float, float]]:
        """Not asked here."""
        raise AssertionError(provider, zone, since_s)


def live(hour: int, grams: float, quality: Quality = Quality.ACTUAL, **more: Any) -> Intensity:
    """An hour of Electricity Maps, counted from the snapshot's run."""
    values: dict[str, Any] = {
        "zone": "DE",
        "grams_per_kilowatthour": grams,
        "basis": Basis.LIFECYCLE,
        "quality": quality,
        "provider": "electricitymaps",
        "valid_from_s": START_S + hour * HOUR_S,
        "valid_until_s": START_S + (hour + 1) * HOUR_S,
        "detail": "Source: ElectricityMaps.com",
        "fetched_at_s": START_S + hour * HOUR_S + 60.0,
    }
    return Intensity(**values | more)


@contextmanager
def served(
    store: Store | None = None,
    *,
    published: Snapshot | None = None,
    everything: bool = True,
    relay: bool = False,
    wanted: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """The URL of a server."""
    listener = bind("127.0.0.1", 0)
    view = Published(published or of_runs())
    with serving(view, listener, everything=everything, store=store, wanted=wanted, relay=relay):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def get(url: str) -> tuple[int, Any]:
    """Status and document."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            body = error.read()
            return error.code, json.loads(body) if body.startswith(b"{") else body.decode()


def question(**parameters: Any) -> str:
    """Path and query of a good question, with changes; None = left out."""
    good: dict[str, Any] = {"zone": "DE", "start": START_S, "end": START_S + 3 * HOUR_S}
    kept = {name: value for name, value in (good | parameters).items() if value is not None}
    return f"{PATH}?{urllib.parse.urlencode(kept)}"


KNOWN = (live(0, 300.0), live(1, 0.0), live(2, 200.0, Quality.FORECAST), live(0, 50.0, zone="FR"))


def test_a_relay_answers_from_its_store() -> None:
    """Values of the zone and the span as the feed `relay` reads them, 0 included; forecasts only when asked for."""
    with served(Store(*KNOWN)) as url:
        status, without = get(url + question())
        everything = get(url + question(forecast=1))[1]
        narrow = get(url + question(zone="de", start=START_S + HOUR_S, end=START_S + HOUR_S + 1.0))[1]

    assert 200 == status
    assert [KNOWN[0], KNOWN[1]] == intensities_of(without)
    assert [*KNOWN[:3]] == intensities_of(everything)
    assert [KNOWN[1]] == intensities_of(narrow)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"zone": None}, "zone: expected a grid zone such as DE"),
        ({"zone": "../etc"}, "zone: expected a grid zone such as DE"),
        ({"zone": "D" * 5000}, "zone: expected a grid zone such as DE"),
        ({"start": "yesterday"}, "start: expected Unix time in seconds"),
        ({"start": "nan"}, "start: expected Unix time in seconds"),
        ({"end": "inf"}, "end: expected Unix time in seconds"),
        ({"end": None}, "end: expected Unix time in seconds"),
        ({"end": START_S}, "end: expected a moment after start, at most 8 days later"),
        ({"end": START_S + 8 * 86_400.0 + 1.0}, "end: expected a moment after start, at most 8 days later"),
        ({"forecast": "maybe"}, "forecast: expected 1 or 0"),
    ],
)
def test_a_bad_question_is_one_line(wrong: dict[str, Any], says: str) -> None:
    """Status 400, and neither the store nor the refresher hears of it."""
    store, told = Store(*KNOWN), list[str]()
    with served(store, wanted=told.append) as url:
        status, answer = get(url + question(**wrong))

    assert (400, {"error": says}) == (status, answer)
    assert ([], []) == (store.questions, told)


def test_a_zone_is_told_to_the_refresher_once() -> None:
    """However often it is asked for; one that nobody knows yet is answered with no values."""
    told: list[str] = []
    with served(Store(*KNOWN), wanted=told.append) as url:
        for _ in range(20):
            get(url + question())
        empty = get(url + question(zone="PL"))

    assert ["DE", "PL"] == told
    assert (200, {"zone": "PL", "values": []}) == empty


def test_a_zone_that_does_not_exist_takes_no_place() -> None:
    """It is refused with the reason each time, and the fifty places are for those that exist."""
    told: list[str] = []

    def wanted(zone: str) -> None:
        if zone.startswith("XX"):
            raise UsageError(f"unknown grid zone {zone!r}")
        told.append(zone)

    with served(Store(*KNOWN), wanted=wanted) as url:
        unknown = [get(url + question(zone=f"XX-{number}")) for number in range(60)]
        known = [get(url + question(zone=f"DE-{number}"))[0] for number in range(51)]
        again = get(url + question(zone="DE-0"))[0]

    assert {(404, "unknown grid zone 'XX-7'")} == {(s, a["error"]) for s, a in unknown[7:8]}
    assert [200] * 50 + [503] == known
    assert (50, 200) == (len(told), again)


def test_beyond_loopback_a_relay_answers_only_where_it_is_one() -> None:
    """`relay` opens this path and no other."""
    with served(Store(*KNOWN), everything=False) as url:
        assert 403 == get(url + question())[0]
    with served(Store(*KNOWN), everything=False, relay=True) as url:
        assert 200 == get(url + question())[0]
        assert 403 == get(f"{url}/api/v1/grid")[0] == get(f"{url}/api/v1/snapshot")[0] == get(url)[0]
    with served(None, relay=True) as url:
        assert 404 == get(url + question())[0]


def test_the_grid_tells_everything_it_knows() -> None:
    """Zone and how it was found, values with age and use, feeds, outlooks, prices, settled grams."""
    carried = live(-1, 310.0, Quality.CARRIED, valid_from_s=START_S + 40.0, valid_until_s=START_S + HOUR_S)
    state = GridState(
        feeds=(
            FeedHealth(
                provider="electricitymaps", zone="DE", last_success_s=START_S, failures=(("key", 2),), problem="p"
            ),
        ),
        rates=(Rate(0.31, -inf, inf), Rate(-0.1, START_S, START_S + HOUR_S)),
        outlooks=(
            Outlook(
                zone="DE",
                provider="electricitymaps",
                basis=Basis.LIFECYCLE,
                signal=Signal.AVERAGE,
                issued_at_s=START_S,
                slots=(Rate(280.0, START_S, START_S + HOUR_S),),
                mean_error_g=23.5,
                bias_g=-3.0,
            ),
        ),
        settled={
            "demo-1": Settled(
                emissions_g={Basis.LIFECYCLE: 1.25}, energy_j=10.0, final_j=5.0, unpriced_j=2.0, priced_at_s=START_S
            )
        },
        revisions={"DE": 3},
    )
    published = replace(
        of_runs(),
        policy=Policy(zone="DE", zone_found="as set", zones={"GPU-1": "FR"}, currency="EUR", pue_ratio=1.2),
        at=moment(100.0),
        intensities=(live(-1, 310.0), carried, replace(GERMANY, zone="DE")),
        grid=state,
    )
    with served(published=published) as url:
        document = get(f"{url}/api/v1/grid")[1]
        whole = get(f"{url}/api/v1/snapshot")[1]

    assert ("DE", "as set", {"GPU-1": "FR"}) == tuple(document[key] for key in ("zone", "found", "device_zones"))
    assert [False, True, False] == [slot["in_use"] for slot in document["grid"]]
    # Of the time that it was made for, not of the time that it was carried to or fetched.
    assert [100.0, 60.0, None] == [slot["age_s"] for slot in document["grid"]]
    assert {"key": 2} == document["feeds"][0]["failures"]
    assert 23.5 == document["outlooks"][0]["mean_error_g"]
    assert [{"from_s": START_S, "until_s": START_S + HOUR_S, "grams_per_kilowatthour": 280.0}] == document["outlooks"][
        0
    ]["slots"]
    assert {"amount": 0.31, "from_s": None, "until_s": None} == document["prices"][0]
    assert ("EUR", 1.2) == (document["currency"], document["pue_ratio"])
    assert {"lifecycle": 1.25} == document["settled"]["demo-1"]["emissions_g"]
    assert 0.5 == document["settled"]["demo-1"]["final_ratio"]
    assert {"DE": 3} == document["revisions"]
    assert document["grid"] == whole["grid"]

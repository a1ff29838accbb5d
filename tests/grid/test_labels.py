"""What comes with a number of Electricity Maps and of a relay: how it was made, when, by whom, and how firm it is."""

import json
from pathlib import Path

import pytest

from monitor.core.model import Basis, Intensity, Quality, Signal
from monitor.core.wire import intensity_document
from monitor.grid.electricitymaps import ElectricityMaps
from monitor.grid.feed import Account, Ask, Feed, Reply, Want
from monitor.grid.relay import Relay
from tests.grid.case import NOW_S

FIXTURES = Path(__file__).parent / "fixtures" / "electricitymaps"
NOON_S = 1_795_262_400.0
"""2026-11-21T12:00Z."""
HOUR_S = 3600.0


def _ask(want: Want = Want.LATEST, back_s: float = 86_400.0) -> Ask:
    return Ask(want=want, zone="DE", at_s=NOW_S, start_s=NOW_S - back_s, end_s=NOW_S)


def _parsed(feed: Feed, body: bytes) -> dict[float, Intensity]:
    values = feed.parse(_ask(), Reply(status=200, body=body, headers={}, received_at_s=NOW_S))
    return {value.valid_from_s: value for value in values}


def test_how_and_when_a_value_was_made() -> None:
    """The provider's word for the method, its time of the last change, ours of the receipt: none is the value's."""
    values = _parsed(ElectricityMaps(Account()), (FIXTURES / "v4_carbon_intensity_history.json").read_bytes())
    estimate = values[NOON_S]

    assert "FORECASTS_HIERARCHY" == estimate.made_by
    assert NOON_S + 1448.708 == pytest.approx(estimate.updated_at_s or 0.0, abs=1e-3)
    assert NOW_S == estimate.fetched_at_s
    assert 24 == len(values)


def test_a_revised_pair() -> None:
    """Three hours later: one hour moved that was never flagged, two that were; the rest is the same."""
    feed = ElectricityMaps(Account())
    then = _parsed(feed, (FIXTURES / "v4_carbon_intensity_history.json").read_bytes())
    later = _parsed(feed, (FIXTURES / "v4_carbon_intensity_history_3h_later_revised.json").read_bytes())
    moved = {
        (start_s - NOON_S) / HOUR_S: (value.grams_per_kilowatthour, later[start_s].grams_per_kilowatthour)
        for start_s, value in then.items()
        if start_s in later and value.grams_per_kilowatthour != later[start_s].grams_per_kilowatthour
    }

    assert {-2.0: (355.0, 339.0), -1.0: (348.0, 301.0), 0.0: (342.0, 262.0)} == moved
    assert Quality.ACTUAL is then[NOON_S - 2 * HOUR_S].quality


@pytest.mark.parametrize(
    ("options", "past_h", "settles_h", "cadence_s"),
    [
        ({}, 24, 24, 1800.0),
        ({"past_range": "yes"}, 240, 72, 1800.0),
        ({"granularity": "5_minutes"}, 24, 24, 300.0),
    ],
)
def test_what_a_plan_allows(options: dict[str, str], past_h: int, settles_h: int, cadence_s: float) -> None:
    """Without access to the past there are 24 h of it, after which nothing can be settled better."""
    about = ElectricityMaps(Account(options=options)).about

    assert (past_h * HOUR_S, settles_h * HOUR_S, cadence_s) == (about.past_s, about.settles_after_s, about.cadence_s)


def test_a_past_beyond_the_plan_is_not_asked() -> None:
    """It would be refused, and count."""
    free, paid = ElectricityMaps(Account()), ElectricityMaps(Account(options={"past_range": "true"}))
    long_ago = Ask(want=Want.PAST, zone="DE", at_s=NOW_S, start_s=NOW_S - 4 * 86_400, end_s=NOW_S - 3 * 86_400)

    assert free.request(long_ago) is None
    assert paid.request(long_ago) is not None


@pytest.mark.parametrize(
    ("zone", "expected"),
    [("DE", True), ("US-MIDA-PJM", True), ("DK-DK1", True), ("JP-TK", True), ("GB-13", False), ("EGRID-CAMX", False),
     ("WORLD", False), ("EU27", False), ("", False), ("de", False)],
)  # fmt: skip
def test_zones_by_their_form(zone: str, expected: bool) -> None:  # noqa: FBT001
    """Its ids are trainwatt's; ids of others are not sent to it."""
    assert expected is ElectricityMaps(Account()).knows(zone)


def test_a_relay_passes_everything_on() -> None:
    """The value stays its provider's in every field; only a fetch in the future, by the other's clock, becomes ours."""
    value = Intensity(
        zone="DE",
        grams_per_kilowatthour=41.5,
        basis=Basis.DIRECT,
        quality=Quality.ESTIMATED,
        provider="watttime",
        signal=Signal.MARGINAL,
        valid_from_s=NOON_S,
        valid_until_s=NOON_S + 300.0,
        detail="WattTime co2_moer",
        fetched_at_s=NOW_S - 30.0,
        updated_at_s=NOW_S - 90.0,
        made_by="imputed",
        dataset="2023-03-01",
    )
    feed = Relay(Account(base_url="http://node0:9595"))
    body = json.dumps(intensity_document([value])).encode()
    ahead = body.replace(str(NOW_S - 30.0).encode(), str(NOW_S + 3600.0).encode())

    assert {NOON_S: value} == _parsed(feed, body)
    assert NOW_S == _parsed(feed, ahead)[NOON_S].fetched_at_s

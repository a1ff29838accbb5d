"""The user's own feeds: paths into a document, a file on the disk, and settings that cannot be meant."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.model import Intensity, Quality
from monitor.errors import FeedError, UsageError
from monitor.grid.client import Client
from monitor.grid.feed import Account, Ask, Want
from monitor.grid.own import OwnFile, OwnHttp
from monitor.grid.paths import Missing, path_of
from tests.grid.case import NOW_S

NOON_S = 1_795_262_400.0
"""2026-11-21T12:00Z."""
TABLE = """\
from,until,grams_per_kilowatthour
2026-11-21T11:30Z,2026-11-21T12:00Z,210
1795262400,1795264200,0
2026-11-21T12:30:00,2026-11-21T13:00:00,150
2026-11-21T13:00Z,2026-11-21T13:30Z,
"""
DOCUMENT = {"data": [{"value": 5, "a.b": {"c": None}}, {"value": 7}], "list": {"0": "zero"}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("data.0.value", 5),
        ("data[0].value", 5),
        ("$.data[-1].value", 7),
        ("data[ 1 ]['value']", 7),
        ('data[0]["a.b"].c', None),
        ("list.0", "zero"),
        ("list[0]", "zero"),
        ("$", DOCUMENT),
    ],
)
def test_a_path_leads_to_a_value(path: str, value: object) -> None:
    """In dots or brackets, in a list or an object; null is found like any other value."""
    assert value == path_of(path).one(DOCUMENT)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("data.2.value", "nothing at data.2"),
        ("data.x", "nothing at data.x"),
        ("data[0].value.deeper", "nothing at data.0.value.deeper"),
        ("date.0.value", "nothing at date"),
    ],
)
def test_a_path_that_leads_nowhere_says_how_far(path: str, says: str) -> None:
    """Nothing is made up for what is not there."""
    with pytest.raises(Missing) as missing:
        path_of(path).one(DOCUMENT)

    assert f"{path!r}: {says}" == str(missing.value)


@pytest.mark.parametrize("path", ["data..value", "data[", "data[x]", "data.", "a b", "data]", "a[*].b[*]", '"data"'])
def test_what_is_no_path(path: str) -> None:
    """It is refused before anything is asked."""
    with pytest.raises(UsageError, match=r"feed\.http: value = .* expected a path such as"):
        OwnHttp(Account(base_url="http://meter", options={"value": path, "from": "data[*].from"}))


@given(
    steps=st.lists(
        st.one_of(st.integers(-3, 5), st.text(st.characters(exclude_characters='"', codec="utf-8"), max_size=4)),
        max_size=6,
    )
)
def test_any_name_can_be_written(steps: list[int | str]) -> None:
    """Names in quotes may hold anything but the quote itself."""
    written = "".join(f"[{step}]" if isinstance(step, int) else f'["{step}"]' for step in steps)

    assert tuple(steps) == path_of(written).steps


def _ask(want: Want, start_s: float = NOW_S - 86_400.0, end_s: float = NOW_S) -> Ask:
    return Ask(want=want, zone="DE", at_s=NOW_S, start_s=start_s, end_s=end_s)


def _read(path: Path, want: Want = Want.LATEST, *, start_s: float | None = None, **options: str) -> Sequence[Intensity]:
    """As the refresher reads a file: by the client."""
    feed = OwnFile(Account(options={"path": str(path), **options}))
    ask = _ask(want, end_s=NOW_S + 86_400.0) if start_s is None else _ask(want, start_s)
    request = feed.request(ask)
    assert request is not None
    with requests.Session() as session:
        return feed.parse(ask, Client(session, lambda: NOW_S).get(request, feed.about))


def _told(values: Sequence[Intensity]) -> dict[float, tuple[float, str]]:
    return {value.valid_from_s - NOON_S: (value.grams_per_kilowatthour, value.quality) for value in values}


@pytest.mark.parametrize("start", ["", "\N{BYTE ORDER MARK}"])
def test_a_table(tmp_path: Path, start: str) -> None:
    """Columns from, until and grams_per_kilowatthour; a legal 0 is a value, an empty field none."""
    path = tmp_path / "site #1 %20 intensity.csv"
    path.write_text(start + TABLE, "utf-8")

    assert {-1800.0: (210.0, "actual"), 0.0: (0.0, "actual")} == _told(_read(path))
    assert {1800.0: (150.0, "forecast")} == _told(_read(path, Want.FORECAST, forecast="yes"))
    assert {0.0: (0.0, "actual")} == _told(_read(path, Want.PAST, start_s=NOON_S))


def test_a_table_of_another_shape(tmp_path: Path) -> None:
    """Its columns are named by paths, the unit by a factor, the step by a number: a stamp may be the slot's end."""
    path = tmp_path / "export.CSV"
    path.write_text("ende;x\n2026-11-21T12:00Z,0.21\n".replace(";", ","))
    (value,) = _read(path, value="[*].x", until="[*].ende", step_s="1800", factor="1000", quality="estimated")

    assert {-1800.0: (210.0, "estimated")} == _told([value])
    assert NOON_S == value.valid_until_s


def test_a_json_file(tmp_path: Path) -> None:
    """The same rows as a list of objects; credit and basis are the user's."""
    path = tmp_path / "contract.json"
    rows = [{"from": "2026-01-01", "until": "2027-01-01", "grams_per_kilowatthour": 24.5}]
    path.write_text(json.dumps(rows))
    (value,) = _read(path, basis="lifecycle", credit="contract 4711")

    assert (24.5, "lifecycle", "contract 4711", "file", NOW_S) == (
        value.grams_per_kilowatthour,
        value.basis,
        value.detail,
        value.provider,
        value.fetched_at_s,
    )


def test_a_number_without_a_time_is_as_old_as_its_file(tmp_path: Path) -> None:
    """A file that nobody writes any more shows as old, and in the end prices nothing."""
    path = tmp_path / "now.json"
    path.write_text('{"now": 80}')
    os.utime(path, (NOON_S + 10.0, NOON_S + 10.0))
    (value,) = _read(path, value="now", step_s="600")

    assert (NOON_S, NOON_S + 600.0) == (value.valid_from_s, value.valid_until_s)

    os.utime(path, (NOON_S - 86_400.0, NOON_S - 86_400.0))
    with pytest.raises(FeedError, match="your own file has no value of DE"):
        _read(path, start_s=NOW_S, value="now")


@pytest.mark.parametrize(
    ("name", "text", "reason", "says"),
    [
        ("a.csv", "from,until,grams\n1795262400,1795264200,5\n", "content", "nothing at grams_per_kilowatthour"),
        ("a.csv", "from,until,grams_per_kilowatthour\nyesterday,1795264200,5\n", "content", "'yesterday' is no moment"),
        ("a.csv", TABLE.replace(",210", ",-1").replace(",0\n", ",9e9\n"), "value", "'-1'"),
        ("a.csv", "", "empty", "no value of DE"),
        ("a.json", "{", "content", "no JSON"),
        ("a.json", '{"data": []}', "content", "no list at its root"),
        ("a.json", "[5]", "content", "nothing at"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, name: str, text: str, reason: str, says: str) -> None:
    """One line that says what is wrong with it; never a number."""
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(FeedError, match="your own file") as refused:
        _read(path)

    assert reason == refused.value.reason
    assert says in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The path is named: it is no secret."""
    with pytest.raises(FeedError, match=r"missing\.json cannot be read: No such file"):
        _read(tmp_path / "missing.json")


def test_one_bad_row_costs_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is left out, and told."""
    path = tmp_path / "a.csv"
    path.write_text(TABLE.replace(",210", ",-31"))

    assert {0.0: (0.0, "actual")} == _told(_read(path))
    assert "gave '-31', which is no intensity" in caplog.text


def test_an_address_with_credentials() -> None:
    """They leave the address, which may be shown, for Basic; so does the query, which may hold a key."""
    feed = OwnHttp(Account(base_url="http://carla:p%40ss@meter:8080/now?token=t1", options={"value": "v"}))
    request = feed.request(_ask(Want.LATEST))
    assert request is not None

    assert ("http://meter:8080/now", ("carla", "p@ss"), (("token", "t1"),)) == (
        request.url,
        request.auth,
        request.params,
    )


def test_what_it_cannot_be_asked() -> None:
    """A document takes no times, so nothing of the past is asked, and forecasts only where the settings say so."""
    plain = OwnHttp(Account(base_url="http://meter", options={"value": "v"}))
    with_forecasts = OwnHttp(Account(base_url="http://meter", options={"forecast": "true"}))

    assert plain.request(_ask(Want.PAST)) is None
    assert plain.request(_ask(Want.FORECAST)) is None
    assert (0.0, 0.0) == (plain.about.past_s, plain.about.forecast_s)
    assert with_forecasts.request(_ask(Want.FORECAST)) is not None


def test_the_zones_that_it_speaks_for() -> None:
    """Any, unless the settings name some."""
    anywhere = OwnHttp(Account(base_url="http://meter", options={"value": "v"}))
    here = OwnHttp(Account(base_url="http://meter", options={"value": "v", "zones": "DE, FR"}))

    assert [True, True] == [anywhere.knows("DE"), anywhere.knows("PL")]
    assert [True, True, False] == [here.knows("DE"), here.knows("FR"), here.knows("PL")]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"valeu": "v"}, "unknown option 'valeu'; did you mean 'value'?"),
        ({"from": "t"}, "value = '': expected where the number stands"),
        ({"value": "[*].v"}, "from = '': expected where the time of each value stands"),
        ({"value": "v", "from": "t"}, "step_s = '': expected seconds of a slot"),
        ({"value": "v", "from": "[*].t", "step_s": "60"}, "value = 'v': expected a path with the same list"),
        ({"value": "a[*].v", "from": "b[*].t", "step_s": "60"}, "expected a path with the same list"),
        ({"value": "v", "step_s": "-60"}, "step_s = '-60': expected a number above 0"),
        ({"value": "v", "factor": "much"}, "factor = 'much': expected a number above 0"),
        ({"value": "v", "factor": "nan"}, "factor = 'nan': expected a number above 0"),
        ({"value": "v", "basis": "both"}, "basis = 'both': expected one of lifecycle, direct, unknown"),
        ({"value": "v", "quality": "static"}, "quality = 'static': expected one of actual, estimated, forecast"),
        ({"value": "v", "forecast": "maybe"}, "forecast = 'maybe': expected true or false"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, str], says: str) -> None:
    """They are refused at the start, in one line that names the option and what it expects."""
    with pytest.raises(UsageError) as refused:
        OwnHttp(Account(base_url="http://meter", options=options))

    assert str(refused.value).startswith("feed.http: ")
    assert says in str(refused.value)


@pytest.mark.parametrize("address", [None, "", "meter/now", "ftp://meter", "http://[::1", "http:///now"])
def test_an_address_that_is_none(address: str | None) -> None:
    """Likewise."""
    with pytest.raises(UsageError, match=r"feed\.http: (set )?base_url"):
        OwnHttp(Account(base_url=address, options={"value": "v"}))


@pytest.mark.parametrize("path", ["", "site.csv", "~/site.csv"])
def test_a_file_needs_an_absolute_path(path: str) -> None:
    """A daemon has no directory that anybody would expect."""
    with pytest.raises(UsageError, match=r"feed\.file: set path to the absolute path"):
        OwnFile(Account(options={"path": path}))


def test_a_file_may_be_named_by_its_address() -> None:
    """As `base_url`, quoted as addresses are."""
    request = OwnFile(Account(base_url="file:///etc/a%20b.json")).request(_ask(Want.LATEST))

    assert request is not None
    assert "file:///etc/a%20b.json" == request.url


def test_labels_never_better_than_the_time_allows(tmp_path: Path) -> None:
    """A row to come is a forecast, whatever the file is said to hold."""
    path = tmp_path / "a.csv"
    path.write_text(TABLE)
    values = [*_read(path, Want.PAST, start_s=NOON_S), *_read(path, Want.FORECAST, forecast="1")]

    assert {Quality.FORECAST} == {value.quality for value in values if value.valid_from_s > NOW_S}

"""One contract for all providers: each is asked over HTTP, and each reply becomes labelled values or one clear line."""

import json
import math
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.core.model import Intensity
from monitor.errors import FeedError
from monitor.grid import providers
from monitor.grid.feed import Account, Ask, Feed, LogsIn, Reply, Request, Want
from tests.drivers.feedserver import Answer, Asked, FeedServer
from tests.grid import cases
from tests.grid.case import Case

FIXTURES = Path(__file__).parent / "fixtures"
KEY = "k3y0fTheTest9Zq8Wv7Xu6"
ACCOUNT = Account(key=KEY, user="user-of-the-test-31", password="p4ssw0rd-of-the-test-77")  # noqa: S106  (of nobody)
SECRETS = (KEY, ACCOUNT.user, ACCOUNT.password, "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9")
LONGEST_LINE = 700
# A file is read from the disk, not asked for over HTTP.
WITHOUT_HTTP = {"file"}
PASSES_ON = {"relay"}
"""Its values keep their provider's name and credit."""


def _cases() -> list[Case]:
    modules = [import_module(f"{cases.__name__}.{found.name}") for found in pkgutil.iter_modules(cases.__path__)]
    return [case for module in modules for case in module.CASES]


KNOWN = providers.known()
CASES = _cases()
NAMES = [name for name in KNOWN if name not in WITHOUT_HTTP]
NORMAL = {case.provider: case for case in reversed(CASES) if case.values and not case.reason}
"""The first case of each provider that gives values."""


@pytest.fixture(scope="module")
def server() -> Iterator[FeedServer]:
    """One for all: each test sets its script."""
    with FeedServer() as feed_server:
        yield feed_server


def _feed(case: Case, base_url: str) -> Feed:
    """With the credentials of the case, or those of the suite where it has none."""
    account = replace(case.account, base_url=base_url)
    if not (account.key or account.user or account.password):
        account = replace(account, key=KEY, user=ACCOUNT.user, password=ACCOUNT.password)
    return KNOWN[case.provider](account)


def _ask(case: Case) -> Ask:
    return Ask(want=case.want, zone=case.zone, at_s=case.at_s, start_s=case.start_s, end_s=case.end_s)


def _body(case: Case) -> bytes:
    return case.body if case.fixture is None else (FIXTURES / case.fixture).read_bytes()


def _answer(case: Case) -> Answer:
    return Answer(status=case.status, body=_body(case), content_type=case.content_type, headers=case.reply_headers)


def _get(request: Request, at_s: float) -> Reply:
    """As any client would: nothing of ours is between request and server."""
    response = requests.get(
        request.url,
        params=list(request.params),
        headers=dict(request.headers),
        auth=request.auth,
        allow_redirects=False,
        timeout=10,
    )
    return Reply(
        status=response.status_code,
        body=response.content,
        headers={name.lower(): value for name, value in response.headers.items()},
        received_at_s=at_s,
    )


def _converse(feed: Feed, case: Case) -> Sequence[Intensity]:
    """Log in where that is needed, ask, parse."""
    ask = _ask(case)
    request = feed.request(ask)
    assert request is not None
    if isinstance(feed, LogsIn):
        token = feed.token(_get(feed.login(), case.at_s))
        assert token.until_s > case.at_s
        request = feed.authorized(request, token)
    return feed.parse(ask, _get(request, case.at_s))


def _play(server: FeedServer, case: Case, answer: Answer) -> None:
    server.forget()
    server.play(answer)
    login = (FIXTURES / case.login_fixture).read_bytes()
    server.on("/login", Answer(status=case.login_status, body=login, content_type=case.login_content_type))


def _check_line(error: FeedError, case: Case) -> None:
    line = str(error)
    head = line[: 2 * LONGEST_LINE]
    secrets = [*SECRETS, *(secret for secret in (case.account.key, case.account.password) if secret)]

    assert error.reason in FeedError.REASONS
    assert head.isprintable()
    assert 0 < len(head) <= LONGEST_LINE
    assert [] == [secret for secret in secrets if secret in head]
    assert error.retry_after_s is None or 0.0 <= error.retry_after_s < math.inf


def _check_values(feed: Feed, case: Case, values: Sequence[Intensity]) -> None:
    assert values
    for value in values:
        assert 0.0 <= value.grams_per_kilowatthour <= 2500.0
        assert -math.inf < value.valid_from_s < value.valid_until_s < math.inf
        assert case.zone == value.zone
        assert value.fetched_at_s is not None
        assert value.fetched_at_s <= case.at_s
        assert value.updated_at_s is None or math.isfinite(value.updated_at_s)
        if case.provider not in PASSES_ON:
            assert feed.about.name == value.provider
            assert value.detail.startswith(feed.about.credit)
    slots = Counter(
        (value.valid_from_s, value.valid_until_s, value.basis, value.signal, value.provider) for value in values
    )
    assert [] == [slot for slot, times in slots.items() if times > 1]


def _by_start(values: Sequence[Intensity]) -> dict[float, Intensity]:
    return {value.valid_from_s: value for value in values}


@pytest.mark.parametrize("case", CASES, ids=[f"{case.provider}: {case.name}" for case in CASES])
def test_a_conversation(server: FeedServer, case: Case) -> None:
    """What goes over the wire is what the provider documents; what comes back becomes values or is refused."""
    _play(server, case, _answer(case))
    feed = _feed(case, server.base_url)
    assert feed.knows(case.zone)

    if case.values is None:
        with pytest.raises(FeedError) as refused:
            _converse(feed, case)
        assert case.reason == refused.value.reason
        assert case.says in str(refused.value)
        assert case.retry_after_s == pytest.approx(refused.value.retry_after_s)
        _check_line(refused.value, case)
    else:
        values = _converse(feed, case)
        _check_values(feed, case, values)
        found = _by_start(values)
        assert dict(case.values) == pytest.approx(
            {start_s: found[start_s].grams_per_kilowatthour for start_s in case.values if start_s in found}
        )
        for start_s in case.values:
            assert (case.quality, case.basis, case.signal) == (
                found[start_s].quality,
                found[start_s].basis,
                found[start_s].signal,
            )
            assert case.step_s == found[start_s].valid_until_s - start_s
        assert set() == case.absent & found.keys()
    _check_wire(server.asked, feed, case)


def _check_wire(asked: Sequence[Asked], feed: Feed, case: Case) -> None:
    """Request line, query and headers, as the server saw them."""
    if isinstance(feed, LogsIn):
        login, *asked = asked
        assert ("GET", "/login", "") == (login.method, login.path, login.query)
        assert login.headers["authorization"].startswith("Basic ")
    if case.path == "/login":
        assert [] == asked
        return
    (request,) = asked
    assert ("GET", case.path) == (request.method, request.path)
    assert Counter(case.query.items()) == Counter(request.parameters)
    expected = {name.lower(): value for name, value in case.headers.items()}
    assert expected == {name: request.headers.get(name) for name in expected}


@pytest.mark.parametrize("name", NAMES)
def test_every_provider_has_its_cases(name: str) -> None:
    """Values, null, a revised value, and each error that there is a fixture of."""
    own = [case for case in CASES if case.provider == name]
    given = [case for case in own if case.values]
    refused = [case for case in own if case.values is None]

    assert given
    assert [case for case in own if "null" in case.name]
    assert [case for case in given if "revised" in case.name]
    assert {"quota", "server"} <= {case.reason for case in refused}
    used = {case.fixture for case in CASES} | {case.login_fixture for case in CASES}
    folders = {case.fixture.partition("/")[0] for case in own if case.fixture}
    errors = {f"{folder}/{path.name}" for folder in folders for path in (FIXTURES / folder).glob("*error*")}
    assert set() == errors - used


@pytest.mark.parametrize("name", NAMES)
def test_about_is_complete(name: str, server: FeedServer) -> None:
    """What the refresher and people rely on."""
    feed = _feed(NORMAL[name], server.base_url)
    about = feed.about

    assert name == about.name
    assert about.title
    assert about.credit or name in PASSES_ON
    assert about.cadence_s >= 60.0
    assert about.apart_s > 0.0
    assert about.notice or not about.opt_in
    assert not feed.knows("no such zone, surely") or name in {"relay", "http"}


@pytest.mark.parametrize("name", NAMES)
def test_the_request_shows_no_secret_in_its_url(name: str, server: FeedServer) -> None:
    """The URL may be shown; the rest may not."""
    request = _feed(NORMAL[name], server.base_url).request(_ask(NORMAL[name]))

    assert request is not None
    assert request.url.startswith(server.base_url)
    assert [] == [secret for secret in SECRETS if secret in request.url]


ZONES = {
    "neso": (["GB", *(f"GB-{region}" for region in range(1, 18))], ["GB-0", "GB-18", "GB-NIR", "IE"]),
    "rte": (["FR"], ["FR-COR", "GB"]),
    "energinet": (["DK-DK1", "DK-DK2"], ["DK", "DK-BHM", "DK1"]),
    "energy_charts": (["DE", "FR", "CH", "PL"], ["SE-SE3", "DK-DK1", "US", "de"]),
}


@pytest.mark.parametrize("name", ZONES)
def test_zones_are_known_by_a_table(name: str) -> None:
    """A zone that it does not have is never asked for; no two zones are asked for alike."""
    feed = KNOWN[name](Account())
    its_own, others = ZONES[name]
    requests_of = [feed.request(replace(_ask(NORMAL[name]), zone=zone)) for zone in its_own]

    assert all(feed.knows(zone) for zone in its_own)
    assert len(its_own) == len({(request.url, request.params) for request in requests_of if request is not None})
    for zone in others:
        assert not feed.knows(zone)
        assert feed.request(replace(_ask(NORMAL[name]), zone=zone)) is None


@pytest.mark.parametrize("name", NAMES)
def test_what_it_says_it_cannot_tell_is_not_asked(name: str, server: FeedServer) -> None:
    """No past or no forecast in `about` is no request for it, and the other way round."""
    case = NORMAL[name]
    feed = _feed(case, server.base_url)
    past = replace(_ask(case), want=Want.PAST, start_s=case.at_s - 7200, end_s=case.at_s - 3600)
    forecast = replace(_ask(case), want=Want.FORECAST, start_s=case.at_s, end_s=case.at_s + 3600)

    assert (feed.about.past_s > 0) == (feed.request(past) is not None)
    assert (feed.about.forecast_s > 0) == (feed.request(forecast) is not None)


def _nested(levels: int, kind: str) -> bytes:
    opening, closing = ('{"data":', "}") if kind == "objects" else ("[", "]")
    return (opening * levels + "1" + closing * levels).encode()


HTML = b"<!DOCTYPE html><html><body><h1>Sorry</h1>\n<p>Come back later</p></body></html>"
BAD: Mapping[str, tuple[bytes, str | None]] = {
    "HTML that says it is HTML": (HTML, "text/html; charset=utf-8"),
    "HTML that says it is JSON": (HTML, "application/json"),
    "an error text": (b"end must be >= start", "text/plain"),
    "an error text that says nothing": (b"quota exceeded", None),
    "an empty body": (b"", "application/json"),
    "null": (b"null", "application/json"),
    "an empty list": (b"[]", "application/json"),
    "a list of null": (b"[null]", "application/json"),
    "an empty object": (b"{}", "application/json"),
    "a number": (b"42", "application/json"),
    "a text": (b'"42"', "application/json"),
    "an error in an object": (b'{"error":"no"}', "application/json"),
    "not UTF-8": (b'{"data":"\xff\xfe\x00"}', "application/json"),
    "100 levels of lists": (_nested(100, "lists"), "application/json"),
    "100 levels of objects": (_nested(100, "objects"), "application/json"),
    "a million levels": (_nested(1_000_000, "lists"), "application/json"),
    "a number of 5,000 digits": (b'{"data":[' + b"9" * 5000 + b"]}", "application/json"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", NAMES)
def test_a_reply_that_is_none(server: FeedServer, name: str, bad: str) -> None:
    """Status 200 and nothing in it that could be used is one clear line."""
    case = NORMAL[name]
    body, kind = BAD[bad]
    _play(server, case, Answer(body=body, content_type=kind))

    with pytest.raises(FeedError) as refused:
        _converse(_feed(case, server.base_url), case)

    assert refused.value.reason in {"content", "empty", "zone", "server", "quota"}
    _check_line(refused.value, case)


@pytest.mark.parametrize("status", [204, 301, 400, 401, 402, 403, 404, 410, 422, 429, 500, 502, 503, 599])
@pytest.mark.parametrize("name", NAMES)
def test_a_status_that_is_not_ok(server: FeedServer, name: str, status: int) -> None:
    """Status first: whatever the body is, good values included, it is a refusal with a reason; keys stay unseen."""
    case = NORMAL[name]
    feed = _feed(replace(case, account=replace(ACCOUNT, options=case.account.options)), server.base_url)
    echo = f'{{"error":"not for {KEY}","password":"{ACCOUNT.password}"}}'.encode()
    reset = {"Retry-After": "1800"} if status in (429, 503) else {}
    for body, kind in ((_body(case), "application/json"), (HTML, "text/html"), (b"", None), (echo, "application/json")):
        _play(
            server, case, Answer(status=status, body=b"" if status == 204 else body, content_type=kind, headers=reset)
        )

        with pytest.raises(FeedError) as refused:
            _converse(feed, case)

        _check_line(refused.value, case)
        assert (status == 429) == (refused.value.reason == "quota")
        if reset:
            assert refused.value.retry_after_s == 1800.0


def _leaves(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each leaf of a JSON document."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from _leaves(value, (*path, index))
    else:
        yield path


def _mapped(document: Any, change: Callable[[Any], Any]) -> Any:
    """The document with every leaf changed."""
    if isinstance(document, dict):
        return {key: _mapped(value, change) for key, value in document.items()}
    if isinstance(document, list):
        return [_mapped(value, change) for value in document]
    return change(document)


def _relisted(document: Any, change: Callable[[list[Any]], list[Any]]) -> Any:
    """The document with every list changed."""
    if isinstance(document, dict):
        return {key: _relisted(value, change) for key, value in document.items()}
    if isinstance(document, list):
        return change([_relisted(value, change) for value in document])
    return document


def _parsed(case: Case, body: bytes) -> Sequence[Intensity] | FeedError:
    """What becomes of a body of status 200; checked for all that must hold of anything."""
    feed = _feed(case, "http://127.0.0.1:9")
    headers = {"content-type": "application/json"}
    try:
        values = feed.parse(_ask(case), Reply(status=200, body=body, headers=headers, received_at_s=case.at_s))
    except FeedError as error:
        _check_line(error, case)
        return error
    _check_values(feed, case, values)
    return values


NUMBERS: tuple[Any, ...] = (
    -1,
    -1e-9,
    6000.5,
    1e9,
    1e308,
    math.nan,
    math.inf,
    -math.inf,
    True,
    "NaN",
    "abc",
    "",
    [],
    {},
    [[]],
    10**400,
)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{number!r:.12}")
@pytest.mark.parametrize("name", NAMES)
def test_a_number_that_is_no_intensity(name: str, number: Any) -> None:
    """In place of every number of a good reply: it is refused, and never clamped to something."""
    case = NORMAL[name]
    document = json.loads(_body(case))
    spoiled = _mapped(document, lambda leaf: number if type(leaf) in (int, float) else leaf)

    assert isinstance(_parsed(case, json.dumps(spoiled).encode()), FeedError)


@pytest.mark.parametrize("name", NAMES)
def test_rows_out_of_order_and_twice(name: str) -> None:
    """Slots are told apart by their times: order and repetition change nothing."""
    case = NORMAL[name]
    document = json.loads(_body(case))
    straight = _parsed(case, _body(case))
    turned = _parsed(case, json.dumps(_relisted(document, lambda rows: rows[::-1])).encode())
    twice = _parsed(case, json.dumps(_relisted(document, lambda rows: [*rows, *rows])).encode())

    assert not isinstance(straight, FeedError)
    assert not isinstance(turned, FeedError)
    assert not isinstance(twice, FeedError)
    assert set(straight) == set(turned) == set(twice)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_body_that_is_cut(name: str, data: st.DataObject) -> None:
    """A document without its end is no document."""
    case = NORMAL[name]
    body = _body(case).strip()
    length = data.draw(st.integers(0, len(body) - 1))

    assert isinstance(_parsed(case, body[:length]), FeedError)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["2026-11-21T12:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "ND", "\ud800", "x" * 999, 10**30]
    ),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def _spoiled(document: Any, column: tuple[Any, ...], junk: Any) -> Any:
    """The document with junk in place of every leaf of a column: a path on which any index of a list is None."""
    if not column:
        return junk
    first, *rest = column
    if isinstance(document, list):
        return [_spoiled(value, tuple(rest), junk) for value in document]
    if not isinstance(document, dict):
        return document
    return {key: _spoiled(value, tuple(rest), junk) if key == first else value for key, value in document.items()}


@pytest.mark.parametrize("name", NAMES)
def test_junk_in_a_whole_column(name: str) -> None:
    """Every field in turn is something else in all rows: labelled values within bounds, or one line."""
    case = NORMAL[name]
    document = json.loads(_body(case))
    columns = {tuple(None if isinstance(key, int) else key for key in path) for path in _leaves(document)}
    for column in columns:
        for junk in (None, *NUMBERS, [0], {"a": 1}, "x" * 999, "9999-12-31T23:59:59Z", 1e17):
            _parsed(case, json.dumps(_spoiled(document, column, junk)).encode())


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_junk_in_a_good_document(name: str, data: st.DataObject) -> None:
    """Whatever stands in some places of it: labelled values within bounds, or one line; never another error."""
    case = NORMAL[name]
    document = json.loads(_body(case))
    leaves = list(_leaves(document))
    for index in data.draw(st.lists(st.integers(0, len(leaves) - 1), min_size=1, max_size=4)):
        *above, last = leaves[index]
        place = document
        for key in above:
            place = place[key]
        place[last] = data.draw(JUNK)

    _parsed(case, json.dumps(document).encode())


def test_one_bad_row_is_told_once_and_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is left out of the values, and its line is told the first time that it is seen."""
    body = b"""{"data":[
        {"from":"2026-11-21T12:00Z","to":"2026-11-21T12:30Z","intensity":{"forecast":-17.25,"actual":null}},
        {"from":"2026-11-21T12:30Z","to":"2026-11-21T13:00Z","intensity":{"forecast":150,"actual":null}}]}"""
    for _ in range(3):
        values = _parsed(NORMAL["neso"], body)
        assert not isinstance(values, FeedError)
        assert [150.0] == [value.grams_per_kilowatthour for value in values]

    assert 1 == caplog.text.count("gave -17.25, which is no intensity between 0 and 2500 g/kWh: it is left out")

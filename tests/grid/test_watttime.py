"""WattTime's login: what a token is good for, and what a refusal means."""

import base64
import json

import pytest

from monitor.errors import FeedError
from monitor.grid.feed import Account, Ask, LogsIn, Reply, Request, Token, Want
from monitor.grid.watttime import WattTime
from tests.grid.case import NOW_S

ACCOUNT = Account(base_url="http://proxy", user="carla", password="wt-secret-1")  # noqa: S106  (of nobody)
FEED = WattTime(ACCOUNT)
HTML = b"<html><center><h1>403 Forbidden</h1></center></html>"
SCOPE = b'{"error":"Invalid query parameters","message":"Invalid scope. You do not have sufficient access"}'


def _reply(body: bytes, status: int = 200) -> Reply:
    return Reply(status=status, body=body, headers={}, received_at_s=NOW_S)


def _token(claims: bytes, *, dots: int = 2) -> Token:
    part = base64.urlsafe_b64encode(claims).rstrip(b"=").decode()
    word = ".".join(["head", part, "c2ln"][: dots + 1])
    return FEED.token(_reply(json.dumps({"token": word}).encode()))


def test_it_logs_in() -> None:
    """User and password go over Basic, the token as a bearer's; neither is in an address."""
    assert isinstance(FEED, LogsIn)
    assert Request(url="http://proxy/login", auth=("carla", "wt-secret-1")) == FEED.login()

    asked = FEED.authorized(Request(url="http://proxy/v3/forecast", headers={"Accept": "x"}), Token("t", NOW_S))
    assert {"Accept": "x", "Authorization": "Bearer t"} == asked.headers


@pytest.mark.parametrize("lifetime_s", [120.0, 1800.0, 7200.0])
def test_a_token_is_used_until_a_minute_before_its_end(lifetime_s: float) -> None:
    """As its `exp` says."""
    assert NOW_S + lifetime_s - 60.0 == _token(json.dumps({"exp": NOW_S + lifetime_s}).encode()).until_s


@pytest.mark.parametrize(
    "claims",
    [b"{}", b'{"exp":null}', b'{"exp":"soon"}', b'{"exp":true}', b'{"exp":NaN}', b'{"exp":1e999}', b"[1]", b"\xff", b"",
     b'{"exp":%d}' % (NOW_S - 3600), b'{"exp":%d}' % 10**400],
)  # fmt: skip
def test_a_token_without_an_end_that_makes_sense(claims: bytes) -> None:
    """Half an hour is what is documented; an end in the past means that one of the clocks is wrong."""
    assert NOW_S + 1740.0 == _token(claims).until_s


@pytest.mark.parametrize("dots", [0, 1])
def test_a_token_of_another_kind(dots: int) -> None:
    """It need not be a JSON web token."""
    assert NOW_S + 1740.0 == _token(b"{}", dots=dots).until_s


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (403, HTML, "key"),
        (401, b'{"detail":"Not authenticated"}', "key"),
        (429, b"Too Many Requests", "quota"),
        (500, HTML, "server"),
        (200, b"{}", "content"),
        (200, b'{"token":""}', "content"),
        (200, b'{"token":5}', "content"),
        (200, b'{"token":"a\\nb"}', "content"),
        (200, HTML, "content"),
    ],
)
def test_a_login_that_gives_no_token(status: int, body: bytes, reason: str) -> None:
    """One line and a reason; wrong credentials are `key`, after which nobody logs in again."""
    with pytest.raises(FeedError) as refused:
        FEED.token(_reply(body, status))

    assert reason == refused.value.reason
    assert "wt-secret-1" not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, b'{"detail":"Not authenticated"}', True),
        (403, HTML, True),
        (403, b"{}", True),
        (403, SCOPE, False),
        (404, b"{}", False),
        (429, b"", False),
        (200, b"{}", False),
    ],
)
def test_when_one_more_login_is_worth_it(status: int, body: bytes, expected: bool) -> None:  # noqa: FBT001
    """A token that has ended, but not a plan that is too small."""
    assert expected is FEED.has_expired(_reply(body, status))


@pytest.mark.parametrize(
    ("region", "zone", "expected"),
    [
        ("", "GB", "UK"),
        ("", "US-NW-BPAT", "BPA"),
        ("", "US-MIDA-PJM", None),
        ("", "EGRID-CAMX", None),
        ("PJM_DC", "US-MIDA-PJM", "PJM_DC"),
        ("US-MIDA-PJM=PJM_DC, US-CAL-CISO=CAISO_SANDIEGO", "US-CAL-CISO", "CAISO_SANDIEGO"),
        ("US-MIDA-PJM=PJM_DC", "DE", "DE"),
        ("US-MIDA-PJM=PJM_DC", "US-TEX-ERCO", None),
    ],
)
def test_the_region_of_a_zone(region: str, zone: str, expected: str | None) -> None:
    """By its table where a zone is one region, else by the settings: none is guessed."""
    feed = WattTime(Account(options={"region": region}))
    request = feed.request(Ask(want=Want.LATEST, zone=zone, at_s=NOW_S, start_s=NOW_S, end_s=NOW_S))

    assert feed.knows(zone) == (expected is not None)
    assert expected == (None if request is None else dict(request.params)["region"])


def test_a_past_that_is_longer_than_one_request_may_have() -> None:
    """The newest 30 days of it, the ends on slots and both of them included."""
    ask = Ask(want=Want.PAST, zone="DE", at_s=NOW_S, start_s=NOW_S - 90 * 86_400.0, end_s=NOW_S)
    request = FEED.request(ask)
    assert request is not None

    assert {"start": "2026-10-22T12:25+00:00", "end": "2026-11-21T12:25+00:00"}.items() <= dict(request.params).items()

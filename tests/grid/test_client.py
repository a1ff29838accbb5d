import gzip
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from monitor.errors import FeedError
from monitor.grid import reply
from monitor.grid.client import Client, Limits
from monitor.grid.feed import About, Reply, Request
from tests.drivers.feedserver import Answer, FeedServer, huge, redirect
from tests.grid.world import MadeUp

NOW_S = 1_795_264_020.0
ABOUT = About(name="neso", title="NESO", credit="", cadence_s=1800.0)
OTHER = About(name="rte", title="RTE", credit="", cadence_s=1800.0)
SECRET = "s3cr3t-k3y"  # noqa: S105  (no real one)
SHORT = Limits(total_s=0.3)


@pytest.fixture
def server() -> Iterator[FeedServer]:
    """Plays the provider."""
    with FeedServer() as server:
        yield server


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """Without the proxies of whoever runs the tests."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


def _request(server: FeedServer, path: str = "/intensity") -> Request:
    """With a secret wherever a provider may put one."""
    return Request(
        url=f"{server.base_url}{path}",
        params=(("zone", "GB"), ("api_key", SECRET)),
        headers={"auth-token": SECRET},
        auth=("somebody", SECRET),
    )


def _refused(client: Client, request: Request) -> FeedError:
    """The error, which never holds the secret, nor has the library's own in tow."""
    with pytest.raises(FeedError) as caught:
        client.get(request, ABOUT)
    error = caught.value

    assert SECRET not in str(error)
    assert "\n" not in str(error)
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__
    assert error.reason in FeedError.REASONS
    return error


def test_it_asks_as_told_and_gives_back_what_came(server: FeedServer, session: requests.Session) -> None:
    """Query, headers and password go over the wire; status, body and headers come back, names in lower case."""
    server.play(Answer(status=429, body=b'{"a":1}', headers={"Retry-After": "65", "X-Odd": "Yes"}))
    reply = Client(session, lambda: NOW_S).get(_request(server), ABOUT)
    asked = server.asked[0]

    assert [("zone", "GB"), ("api_key", SECRET)] == asked.parameters
    assert SECRET == asked.headers["auth-token"]
    assert asked.headers["authorization"].startswith("Basic ")
    assert asked.headers["user-agent"].startswith("trainwatt/")
    assert "application/json" == asked.headers["accept"]
    assert (429, b'{"a":1}', NOW_S) == (reply.status, reply.body, reply.received_at_s)
    assert ("65", "Yes") == (reply.headers["retry-after"], reply.headers["x-odd"])
    assert "date" in reply.headers


def test_a_packed_answer_is_unpacked(server: FeedServer, session: requests.Session) -> None:
    """Only gzip is offered, and what comes in it is read."""
    server.play(Answer(body=gzip.compress(b'{"data":[]}'), headers={"Content-Encoding": "gzip"}))
    reply = Client(session, lambda: NOW_S).get(_request(server), ABOUT)

    assert b'{"data":[]}' == reply.body
    assert "gzip" == server.asked[0].headers["accept-encoding"]


def test_an_answer_packed_otherwise_is_refused(server: FeedServer, session: requests.Session) -> None:
    """Nobody knows how much would come out of it."""
    server.play(Answer(body=b"x", headers={"Content-Encoding": "br"}))

    assert "content" == _refused(Client(session, lambda: NOW_S), _request(server)).reason


def test_a_feed_that_never_answers_is_left_alone_after_the_deadline(
    server: FeedServer, session: requests.Session
) -> None:
    """One that would answer after a minute: a time-out. Until it ends it is not asked again; others are."""
    hold = threading.Event()
    server.on("/intensity", Answer(hold=hold))
    server.play(Answer(body=b"{}"))
    client = Client(session, lambda: NOW_S, Limits(total_s=0.2))

    assert "timeout" == _refused(client, _request(server)).reason
    assert 200 == client.get(_request(server, "/other"), OTHER).status
    hold.set()


def test_a_body_that_drips_ends_at_the_deadline(server: FeedServer, session: requests.Session) -> None:
    """Each byte comes in time, all of them would take minutes."""
    server.play(Answer(body=b" " * 10_000, drip_s=0.02))
    error = _refused(Client(session, lambda: NOW_S, SHORT), _request(server))

    assert "timeout" == error.reason
    assert "0.3 s" in str(error)


def test_one_that_hangs_again_and_again_is_let_alone(server: FeedServer, session: requests.Session) -> None:
    """Threads that hang never become many: three a provider; and one that hung once is asked again."""
    with_headers_that_never_end = threading.Event()
    server.play(Answer(hold=with_headers_that_never_end))
    client = Client(session, lambda: NOW_S, Limits(connect_s=3.0, total_s=0.2))
    outcomes: list[FeedError] = []
    asking = [threading.Thread(target=lambda: outcomes.append(_refused(client, _request(server)))) for _ in range(6)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    with_headers_that_never_end.set()

    assert 3 == len(server.asked)
    assert ["timeout"] * 6 == [error.reason for error in outcomes]


@pytest.mark.parametrize("key", ["abc-123", "correcthorsebatterystaple", "aB3/xY9.zz/kk.1Q/2W", 'with "quotes"'])
def test_a_key_that_the_service_repeats_is_masked(server: FeedServer, session: requests.Session, key: str) -> None:
    """Whatever it looks like, in the header or in the query, as it is or as JSON and addresses write it."""
    about = MadeUp().about
    for request in (
        Request(url=server.base_url, headers={"auth-token": key}),
        Request(url=server.base_url, params=(("api_key", key),)),
        Request(url=server.base_url, auth=("somebody", key)),
    ):
        echo = json.dumps({"error": f"Invalid auth-token {key} or {quote(key, safe='')}"}).encode()
        server.play(Answer(status=401, body=echo))
        answer = Client(session, lambda: NOW_S).get(request, about)
        line = str(reply.refusal(about, answer))

        assert "Invalid auth-token *** or ***" in line


def test_a_body_that_is_no_gzip_is_told_so(server: FeedServer, session: requests.Session) -> None:
    """It is the answer that is bad, not the address."""
    server.play(Answer(body=b"no gzip at all", headers={"Content-Encoding": "gzip"}))
    error = _refused(Client(session, lambda: NOW_S), _request(server))

    assert "content" == error.reason


@pytest.mark.parametrize("announced", [True, False])
def test_a_hundred_megabytes_are_not_read(server: FeedServer, session: requests.Session, *, announced: bool) -> None:
    """Reading ends with the first piece that is too much."""
    server.play(huge(100 * 1024 * 1024, announced=announced))

    assert "size" == _refused(Client(session, lambda: NOW_S), _request(server)).reason


def test_a_small_body_that_unpacks_into_a_large_one_is_refused(server: FeedServer, session: requests.Session) -> None:
    """100 MB of blanks are 100 kB packed."""
    bomb = gzip.compress(b" " * (100 * 1024 * 1024), compresslevel=1)
    server.play(Answer(body=bomb, headers={"Content-Encoding": "gzip"}))

    assert "size" == _refused(Client(session, lambda: NOW_S), _request(server)).reason


@pytest.mark.parametrize("packed", [True, False])
def test_a_connection_that_is_cut_is_no_answer(server: FeedServer, session: requests.Session, *, packed: bool) -> None:
    """Half a document is never handed on."""
    body, headers = b'{"data":[1,2,3]}' * 9, {}
    if packed:
        body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
    server.play(Answer(body=body, headers=headers, cut_after=12))

    assert "network" == _refused(Client(session, lambda: NOW_S), _request(server)).reason


def test_a_connection_that_ends_without_a_word(server: FeedServer, session: requests.Session) -> None:
    """As if the provider had crashed."""
    server.play(Answer(silent=True))
    error = _refused(Client(session, lambda: NOW_S), _request(server))

    assert "network" == error.reason
    assert "NESO (127.0.0.1:" in str(error)


def test_a_server_that_is_not_there(session: requests.Session) -> None:
    """Refused connections and names that do not resolve are two lines, each with its remedy."""
    client = Client(session, lambda: NOW_S)
    with FeedServer() as gone:
        request = _request(gone)
    refused = _refused(client, request)
    unknown = _refused(client, Request(url="http://nowhere.invalid/x", params=(("key", SECRET),)))

    assert ("network", "network") == (refused.reason, unknown.reason)
    assert "refuses connections" in str(refused)
    assert "nowhere.invalid" in str(unknown)
    assert "does not resolve" in str(unknown)


def test_a_redirect_on_the_same_server_is_followed(server: FeedServer, session: requests.Session) -> None:
    """With the headers, and with the query that the server gave."""
    server.on("/intensity", redirect("/v2/intensity?zone=GB"))
    server.play(Answer(body=b'{"ok":1}'))
    reply = Client(session, lambda: NOW_S).get(_request(server), ABOUT)

    assert b'{"ok":1}' == reply.body
    assert "/v2/intensity?zone=GB" == server.asked[1].target
    assert SECRET == server.asked[1].headers["auth-token"]


@pytest.mark.parametrize("where", ["other port", "other name", "https", "file", "broken"])
def test_a_redirect_elsewhere_gets_nothing(server: FeedServer, session: requests.Session, where: str) -> None:
    """Not even a request: it would carry the key."""
    port = server.base_url.rpartition(":")[2]
    with FeedServer() as other:
        target = {
            "other port": f"{other.base_url}/x?key={SECRET}",
            "other name": f"http://localhost:{port}/x",
            "https": f"https://127.0.0.1:{port}/x",
            "file": "file:///etc/passwd",
            "broken": "http://[::1/x",
        }[where]
        server.play(redirect(target))
        error = _refused(Client(session, lambda: NOW_S), _request(server))

        assert [] == other.asked
    assert "redirect" == error.reason
    assert "base_url" in str(error)
    assert 1 == len(server.asked)


def test_a_redirect_with_a_large_body_is_not_read(server: FeedServer, session: requests.Session) -> None:
    """The library would read all of it before it is asked."""
    server.on("/intensity", replace(huge(100 * 1024 * 1024), status=302, headers={"Location": "/next"}))
    server.play(Answer(body=b"{}"))

    assert 200 == Client(session, lambda: NOW_S).get(_request(server), ABOUT).status


def test_a_redirect_in_a_circle_ends(server: FeedServer, session: requests.Session) -> None:
    """Three are followed."""
    server.play(redirect("/intensity"))

    assert "redirect" == _refused(Client(session, lambda: NOW_S), _request(server)).reason
    assert 4 == len(server.asked)


def test_nothing_secret_is_logged(
    server: FeedServer, session: requests.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """Also with every logger at its most talkative: the library would log the whole query."""
    caplog.set_level(logging.DEBUG)
    server.play(Answer(body=b"{}"), Answer(silent=True), redirect(f"http://localhost:1/?key={SECRET}"))
    client = Client(session, lambda: NOW_S)
    client.get(_request(server), ABOUT)
    _refused(client, _request(server))
    _refused(client, _request(server))

    assert SECRET not in caplog.text


def test_no_cookie_and_no_password_of_a_file_is_sent(
    server: FeedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server wants kept is not, and ~/.netrc is for others."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {SECRET}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.play(Answer(body=b"{}", headers={"Set-Cookie": "who=you"}))
    with requests.Session() as session:
        client = Client(session, lambda: NOW_S)
        for _ in range(2):
            client.get(Request(url=f"{server.base_url}/x"), ABOUT)

    assert not [asked for asked in server.asked if {"cookie", "authorization"} & set(asked.headers)]


def test_a_file_is_read_like_an_answer(session: requests.Session, tmp_path: Path) -> None:
    """For the user's own meter."""
    path = tmp_path / "my meter.json"
    path.write_text('{"grams": 12}')
    reply: Reply = Client(session, lambda: NOW_S).get(Request(url=path.as_uri()), ABOUT)

    assert (200, b'{"grams": 12}', NOW_S) == (reply.status, reply.body, reply.received_at_s)
    assert "last-modified" in reply.headers


def test_a_file_that_is_none(session: requests.Session, tmp_path: Path) -> None:
    """Missing, a folder, or endless: one line each that names it."""
    client = Client(session, lambda: NOW_S, Limits(most_bytes=1000))
    large = tmp_path / "large.json"
    large.write_bytes(b" " * 1001)
    missing = _refused(client, Request(url=(tmp_path / "none.json").as_uri()))

    assert "network" == missing.reason
    assert str(tmp_path / "none.json") in str(missing)
    assert "network" == _refused(client, Request(url=tmp_path.as_uri())).reason
    assert "network" == _refused(client, Request(url="file:///dev/zero")).reason
    assert "size" == _refused(client, Request(url=large.as_uri())).reason


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "nonsense", "http://", "http://127.0.0.1:99999/x", ""])
def test_an_address_that_is_none(session: requests.Session, url: str) -> None:
    """A wrong base_url ends in one line that names the setting."""
    error = _refused(Client(session, lambda: NOW_S), Request(url=url))

    assert "network" == error.reason
    assert "base_url" in str(error)

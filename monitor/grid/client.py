"""How a provider is asked over the network, as `requests` does it, with limits that it does not have by itself.

A request is carried out by a thread of its own: names, handshakes and headers that come byte by byte know no deadline
of all together, so after it the thread is left to end by itself, and until it has, that provider is not asked again.
No message holds more of the address than the host: query and headers may carry a key.
"""

import logging
import re
import socket
import ssl
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from threading import Event, Lock, Thread
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import requests
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth

from monitor import __version__
from monitor.errors import FeedError
from monitor.grid.feed import About, Reply, Request

CONNECT_S = 3.0
TOTAL_S = 10.0
MOST_BYTES = 4 * 1024 * 1024
MOST_REDIRECTS = 3
PIECE_BYTES = 16 * 1024
MOST_HANGING = 3
"""Threads of a provider that hang in a handshake or in headers, which nothing can cut short; then it is let alone."""
NO_SECRETS = frozenset({"accept", "user-agent"})
SECRET_NAME = re.compile("key|token|auth|secret|pass|sig", re.IGNORECASE)
SHORTEST_SECRET = 3
REDIRECTS = frozenset({301, 302, 303, 307, 308})
DEFAULT_PORTS = {"http": 80, "https": 443}


class _NoAuth(AuthBase):
    """Keeps `requests` from sending a password out of ~/.netrc that nobody has named."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class Limits(NamedTuple):
    """What a request may cost."""

    connect_s: float = CONNECT_S
    total_s: float = TOTAL_S
    most_bytes: int = MOST_BYTES
    """Of the unpacked body."""


USUAL = Limits()


class Client:
    """Asks providers. From any thread; one request of a provider at a time."""

    def __init__(self, session: requests.Session, now: Callable[[], float], limits: Limits = USUAL) -> None:
        """`now` gives Unix time, for `Reply.received_at_s`."""
        self._session = session
        self._now = now
        self._limits = limits
        self._guard = Lock()
        self._busy: Counter[str] = Counter()
        """Providers that are being asked, or left hanging."""
        # It logs whole addresses, with the key in the query, at DEBUG and in some warnings.
        logging.getLogger("urllib3").setLevel(logging.CRITICAL)

    def get(self, request: Request, about: About) -> Reply:
        """The reply, whatever its status. Raises FeedError: network, timeout, redirect, size, content."""
        with self._guard:
            if self._busy[about.name] >= MOST_HANGING:
                raise FeedError(
                    f"{about.title} ({_host(request.url)}) still hangs in the request before; nothing is asked until "
                    "that one ends",
                    reason="timeout",
                )
            self._busy[about.name] += 1
        call = _Call(self._session, request, about, self._limits)
        done: Future[tuple[int, bytes, dict[str, str]]] = Future()
        Thread(target=self._carry_out, args=(call, done), name=f"ask-{about.name}", daemon=True).start()
        try:
            status, body, headers = done.result(self._limits.total_s)
        except TimeoutError:
            call.give_up()
            raise FeedError(
                f"{about.title} ({_host(request.url)}) did not answer within {self._limits.total_s:g} s; it is "
                "asked again later",
                reason="timeout",
            ) from None
        return Reply(status=status, body=body, headers=headers, received_at_s=self._now(), secrets=_secrets(request))

    def _carry_out(self, call: "_Call", done: "Future[tuple[int, bytes, dict[str, str]]]") -> None:
        try:
            result = call.carry_out()
        except Exception as error:  # noqa: BLE001  (a library's error may hold the address: it is told in our words)
            self._free(call)
            done.set_exception(error if isinstance(error, FeedError) else call.in_our_words(error))
        else:
            self._free(call)
            done.set_result(result)

    def _free(self, call: "_Call") -> None:
        with self._guard:
            self._busy[call.about.name] -= 1


class _Call:
    """One question, redirects included."""

    def __init__(self, session: requests.Session, request: Request, about: About, limits: Limits) -> None:
        self.about = about
        self._session = session
        self._request = request
        self._timeouts_s = (limits.connect_s, limits.total_s)
        self._most_bytes = limits.most_bytes
        self._given_up = Event()
        self._response: requests.Response | None = None

    def give_up(self) -> None:
        """End it as soon as that can be done from outside."""
        self._given_up.set()
        response = self._response
        if response is not None:
            with suppress(Exception):  # it may end at this moment, and older versions cannot be interrupted
                response.raw.shutdown()

    def carry_out(self) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers (names in lower case)."""
        url = urlsplit(self._request.url)
        if url.scheme == "file":
            return self._file(url)
        if url.scheme not in DEFAULT_PORTS or not url.hostname:
            raise self._error("its address is no http:// or https:// URL; correct base_url", "network")
        target, params = self._request.url, self._request.params
        for _ in range(MOST_REDIRECTS + 1):
            response = self._send(target, params)
            try:
                if response.status_code not in REDIRECTS or "location" not in response.headers:
                    body = b"".join(self._pieces(response))
                    return response.status_code, body, {name.lower(): v for name, v in response.headers.items()}
                target, params = self._redirected(target, response.headers["location"]), ()
            finally:
                response.close()
        raise self._error(f"redirects more than {MOST_REDIRECTS} times", "redirect")

    def _send(self, url: str, params: tuple[tuple[str, str], ...]) -> requests.Response:
        headers = {
            "User-Agent": f"trainwatt/{__version__}",
            "Accept": "application/json",
            **self._request.headers,
            "Accept-Encoding": "gzip",
        }
        auth = HTTPBasicAuth(*self._request.auth) if self._request.auth is not None else _NoAuth()
        session = self._session
        prepared = session.prepare_request(requests.Request("GET", url, headers=headers, params=params, auth=auth))
        target = prepared.url or url
        settings = session.merge_environment_settings(target, {}, True, session.verify, None)  # noqa: FBT003
        # Session.send would read the whole body of a redirect, however large, and keep cookies.
        response = session.get_adapter(target).send(
            prepared,
            stream=True,
            timeout=self._timeouts_s,
            verify=True if settings["verify"] is None else settings["verify"],
            cert=settings["cert"],
            proxies=settings["proxies"],
        )
        self._response = response
        if self._given_up.is_set():
            response.close()
            raise self._given_up_error()
        return response

    def _redirected(self, url: str, location: str) -> str:
        target = ""
        try:
            target = urljoin(url, location)
            stays = _origin(urlsplit(url)) == _origin(urlsplit(target))
        except ValueError:
            stays = False
        if not stays:
            raise self._error(
                f"redirects to another server ({_host(target)}), which gets no key of ours; if that is where it is "
                "now, set its base_url",
                "redirect",
            )
        return target

    def _pieces(self, response: requests.Response) -> Iterator[bytes]:
        """The body in pieces, unpacked here: what counts is its size when unpacked, and one piece can hide a lot."""
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in {"", "identity", "gzip", "x-gzip"}:
            raise self._error(f"sends its answer packed as {encoding[:20]!r}, which was not asked for", "content")
        unpack = zlib.decompressobj(wbits=31) if encoding.endswith("gzip") else None
        size = 0
        for piece in response.raw.stream(PIECE_BYTES, decode_content=False):
            if self._given_up.is_set():
                raise self._given_up_error()
            whole = unpack.decompress(piece, self._most_bytes + 1 - size) if unpack is not None else piece
            size += len(whole)
            if size > self._most_bytes:
                raise self._too_much()
            yield whole
        if unpack is not None and size and not unpack.eof:
            raise self._error("broke off in the middle of its answer", "network")

    def _file(self, url: SplitResult) -> tuple[int, bytes, dict[str, str]]:
        """A file of this machine, for the provider `file`."""
        path = Path(unquote(url.path))
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise self._error(f"cannot be read: {path} is no regular file", "network")
        with path.open("rb") as file:
            body = file.read(self._most_bytes + 1)
        if len(body) > self._most_bytes:
            raise self._too_much()
        return 200, body, {"last-modified": formatdate(about.st_mtime, usegmt=True)}

    def _given_up_error(self) -> FeedError:
        return self._error("was given up", "timeout")

    def _too_much(self) -> FeedError:
        return self._error(
            f"sends more than {self._most_bytes / 1024 / 1024:g} MiB, which is no answer to what was asked", "size"
        )

    def _error(self, what: str, reason: str) -> FeedError:
        return FeedError(f"{self.about.title} ({_host(self._request.url)}) {what}", reason=reason)

    def in_our_words(self, error: Exception) -> FeedError:
        """A library's error without its text."""
        chain = list(_chain(error))
        for kinds, what, reason in _WORDS:
            if any(isinstance(one, kinds) for one in chain):
                return self._error(what, reason)
        if isinstance(error, OSError) and urlsplit(self._request.url).scheme == "file":
            what = f"{unquote(urlsplit(self._request.url).path)} cannot be read: {error.strerror or 'no such file'}"
            return FeedError(f"{self.about.title}: {what}", reason="network")
        if isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError | OSError):
            return self._error("broke the connection; it is asked again later", "network")
        return self._error(f"could not be asked ({type(error).__name__}); check its base_url", "network")


_WORDS: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    ((socket.gaierror,), "was not found: its name does not resolve; check the network and base_url", "network"),
    (
        (ssl.SSLError, requests.exceptions.SSLError),
        "has no certificate that this machine trusts; check the clock, the certificates (ca-certificates) and base_url",
        "network",
    ),
    (
        (requests.exceptions.InvalidHeader, UnicodeError),
        "cannot be asked with this key or password: it holds letters that no header takes; copy it anew",
        "key",
    ),
    ((ValueError,), "has an address that is none; correct its base_url", "network"),
    ((zlib.error,), "sends an answer that cannot be unpacked; it is asked again later", "content"),
    ((ConnectionRefusedError,), "refuses connections; check base_url and the firewall", "network"),
    ((requests.exceptions.ProxyError,), "is not reached through the proxy of the environment", "network"),
    (
        (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError),
        "did not answer in time; it is asked again later",
        "timeout",
    ),
)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and whatever lies beneath it, as the libraries nest them."""
    seen: set[int] = set()
    rest: list[BaseException] = [error]
    while rest:
        one = rest.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        below = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        rest += [each for each in below if isinstance(each, BaseException)]


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or DEFAULT_PORTS.get(url.scheme)


def _secrets(request: Request) -> tuple[str, ...]:
    """Whatever of a question may be one: some services repeat in an error what they were sent."""
    headers = [v.removeprefix("Bearer ") for name, v in request.headers.items() if name.lower() not in NO_SECRETS]
    params = [value for name, value in request.params if SECRET_NAME.search(name)]
    return tuple(one for one in (*headers, *params, *(request.auth or ())) if len(one) >= SHORTEST_SECRET)


def _host(url: str) -> str:
    """Host and port of an address, without the user, the path and the query."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "no host"
    return f"{parts.hostname or 'no host'}{port}"

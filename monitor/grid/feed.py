"""What a provider is to the rest: a description, a request for each question, and a parse. It opens no connection.

A provider is one file in this folder, or a package of somebody else under the entry point `trainwatt.feeds`: an object
that satisfies `Feed`, made by a callable that takes `Account`. The refresher owns time, cache, fallback and back-off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Protocol, runtime_checkable

from monitor.core.model import Intensity, Signal


class Want(StrEnum):
    """What a provider can be asked."""

    LATEST = auto()
    """The value that holds now, and the newest ones before it."""
    PAST = auto()
    """Values of a span of the past, as they are known today."""
    FORECAST = auto()
    """Values to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question. A provider may answer with more than was asked: slots are chosen by their time."""

    want: Want
    zone: str
    """The zone as trainwatt names it (Electricity Maps' ids); each provider keeps a table of its own names."""
    at_s: float
    """Unix time of the question."""
    start_s: float
    """Unix time; of LATEST and FORECAST a hint."""
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A GET request. Whatever may carry a secret (headers, params, auth) is never shown; `url` carries none."""

    url: str
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    auth: tuple[str, str] | None = None
    """User and password, for HTTP Basic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back, whatever its status."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    """Names in lower case."""
    received_at_s: float
    """Unix time."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What the question carried and no line may show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the refresher and people must know of a provider."""

    name: str
    """The label `provider`, also the name of its settings."""
    title: str
    """For people."""
    credit: str
    """Attribution and licence; goes wherever its values go (`Intensity.detail`)."""
    cadence_s: float
    """How often it publishes."""
    phase_s: float = 60.0
    """So long after a multiple of the cadence (Unix time) the new value can be expected."""
    apart_s: float = 10.0
    """The least time between two requests of this machine, whatever the zone: the provider's quota."""
    past_s: float = 0.0
    """How far back PAST reaches; 0 = it tells nothing of the past."""
    forecast_s: float = 0.0
    """How far FORECAST reaches; 0 = it has none."""
    settles_after_s: float = 72 * 3600.0
    """So long after a slot has ended its value is taken as final."""
    signal: Signal = Signal.AVERAGE
    """Of what it tells: a marginal one is asked beside the others, not in their place."""
    needs_key: bool = False
    opt_in: bool = False
    """Used only where it is named in the settings: `notice` says why."""
    notice: str = ""
    """One line to be told once when it is used: conditions that somebody must know of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the settings say of one provider."""

    base_url: str | None = None
    """In place of the provider's own, for proxies and tests; without a slash at its end."""
    key: str = ""
    user: str = ""
    password: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    """Words of the provider's own."""


class Feed(Protocol):
    """One provider."""

    about: About

    def knows(self, zone: str) -> bool:
        """Whether it may have values of the zone: by its own table, no question is asked."""
        ...

    def request(self, ask: Ask) -> Request | None:
        """How to ask; None = it cannot be asked that."""
        ...

    def parse(self, ask: Ask, reply: Reply) -> Sequence[Intensity]:
        """Every value of the reply, of the zone as it was asked for, in any order, null left out.

        Raises FeedError with one line for people. Numbers are checked by the refresher, too (`bounds`).
        """
        ...


@dataclass(frozen=True, slots=True)
class Token:
    """What a login gave."""

    value: str
    until_s: float
    """Unix time at which it is of no more use."""


@runtime_checkable
class LogsIn(Protocol):
    """A provider that gives a token for credentials. One login at a time, and none again after FeedError `key`."""

    def login(self) -> Request:
        """How to ask for a token."""
        ...

    def token(self, reply: Reply) -> Token:
        """The token of the reply. Raises FeedError."""
        ...

    def authorized(self, request: Request, token: Token) -> Request:
        """The request with the token in it."""
        ...

    def has_expired(self, reply: Reply) -> bool:
        """Whether the reply says that the token is no good any more, so that one more login is worth it."""
        ...

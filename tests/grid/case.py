"""One conversation with a provider: what is asked, what must go over the wire, what comes back, what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from monitor.grid.feed import Account, Want

NOW_S = 1_795_264_020.0
"""2026-11-21T12:27:00Z, about when the fixtures are set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Played by the local HTTP server of tests/drivers/feedserver.py, judged by tests/grid/test_providers.py."""

    name: str
    provider: str
    zone: str
    want: Want
    start_s: float = NOW_S - 86_400.0
    end_s: float = NOW_S
    at_s: float = NOW_S
    account: Account = field(default_factory=Account)
    """`base_url` is set by the suite."""
    path: str
    """What must be requested."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Exactly these parameters."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """At least these."""
    fixture: str | None = None
    """File under tests/grid/fixtures, as the provider would send it; None = `body`."""
    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    reply_headers: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[float, float] | None = None
    """Slot's start in Unix time -> g/kWh: these must be among what comes; None = it must be refused."""
    reason: str = ""
    """Of the FeedError, where it must be refused."""
    says: str = ""
    """Part of the refusal's line."""
    retry_after_s: float | None = None
    quality: str = ""
    """Of the values that are named."""
    basis: str = ""
    signal: str = "average"
    step_s: float = 0.0
    """Length of their slots."""
    absent: frozenset[float] = frozenset()
    """Starts of slots that must not be among what comes: null, of another zone, or over."""
    login_fixture: str = "watttime/login_ok.json"
    """What a provider that has to log in gets for it, at `/login`; refused with anything but status 200, where then
    the login is what must be refused and nothing more is asked."""
    login_status: int = 200
    login_content_type: str = "application/json"

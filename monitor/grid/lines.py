"""What people are told of a feed: one line when it fails, one when it is well again; the rest is counted."""

import logging
from collections import Counter
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from monitor.core.model import FeedHealth
from monitor.errors import FeedError
from monitor.grid.feed import About, Reply

LOG = logging.getLogger("trainwatt")

CLOCKS_DIFFER_S = 300.0
CLOCK = "our clock"


class Lines:
    """The health of one provider for one zone. Used by the thread of the provider only, but for `health`."""

    def __init__(self, about: About, zone: str) -> None:
        self._about = about
        self._zone = zone
        self._failures: Counter[str] = Counter()
        self._last_success_s: float | None = None
        self._problem = ""
        self._clock = ""
        self._told: set[str] = set()
        """What was told since it was well: reasons, and what went wrong beside the present."""
        self.is_tried = False
        """Whether it has been asked for the present since the start."""
        self.health = FeedHealth(provider=about.name, zone=zone)
        """Replaced as a whole when anything changes."""

    @property
    def is_well(self) -> bool:
        """Whether it told the present when it was asked last."""
        return self.is_tried and not self._problem

    def failed(self, error: FeedError, meanwhile: Callable[[], str], *, tell: bool = True) -> None:
        """It did not tell the present. `meanwhile` says what prices it now."""
        self.is_tried = True
        self._problem = str(error)
        self._failures[error.reason] += 1
        if tell and error.reason not in self._told:
            self._told.add(error.reason)
            LOG.warning("%s %s: %s; meanwhile %s", self._about.name, self._zone, error, meanwhile())
        self._publish()

    def aside(self, what: str, error: FeedError, *, tell: bool = True) -> None:
        """Something beside the present went wrong (`what`: past, forecast, a value): told once until it goes right."""
        self._failures[error.reason] += 1
        if tell:
            self._tell_once(f"{what} {error.reason}", str(error))
        self._publish()

    def aside_well(self, what: str) -> None:
        """It goes right again."""
        self._told = {word for word in self._told if not word.startswith(f"{what} ")}

    def waits(self, problem: str) -> None:
        """It is not asked, since the provider fails for other zones."""
        if not self._problem:
            self._problem = problem
            self._publish()

    def well(self, at_s: float) -> None:
        """It told the present."""
        if self._told & FeedError.REASONS:
            LOG.info("%s %s: well again", self._about.name, self._zone)
        self._told -= FeedError.REASONS
        self.is_tried = True
        self._problem = ""
        self._last_success_s = at_s
        self._publish()

    def compare_clocks(self, reply: Reply) -> None:
        """Tell it when the provider's clock and ours differ (header Date, RFC 9110, section 6.6.1)."""
        ahead_s = _ahead_s(reply)
        if ahead_s is None or abs(ahead_s) <= CLOCKS_DIFFER_S:
            if self._clock:
                self._clock = ""
                self._publish()
            self._told.discard(CLOCK)
            return
        self._failures["clock"] += 1
        which = "ahead of" if ahead_s > 0.0 else "behind"
        self._clock = (
            f"this machine's clock is {abs(ahead_s) / 60.0:.0f} min {which} that of {self._about.title}: set it "
            "(timedatectl), or energy is priced by the wrong slots"
        )
        self._tell_once(CLOCK, self._clock)
        self._publish()

    def _tell_once(self, what: str, line: str) -> None:
        if what not in self._told:
            self._told.add(what)
            LOG.warning("%s %s: %s", self._about.name, self._zone, line)

    def _publish(self) -> None:
        self.health = FeedHealth(
            provider=self._about.name,
            zone=self._zone,
            last_success_s=self._last_success_s,
            failures=tuple(sorted(self._failures.items())),
            problem=self._problem or self._clock,
        )


def _ahead_s(reply: Reply) -> float | None:
    """How far our clock is ahead of the provider's; a cache on the way tells how old its answer is (header Age)."""
    text = reply.headers.get("date", "")
    age = reply.headers.get("age", "0").strip()
    try:
        sent_s = parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, TypeError, OverflowError):
        return None
    if sent_s is None or not (age.isascii() and age.isdigit() and len(age) < 10):  # noqa: PLR2004
        return None
    return reply.received_at_s - sent_s - float(age)

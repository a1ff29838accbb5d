r"""One provider: what is asked of it next, for which zone, and what becomes of the answer. One request a turn.

due (schedule) -> quota, breaker -> note it in the store -> login or question -> check -> Known
                                                                    \-> FeedError -> back-off, one line
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from threading import Lock

from monitor.core.model import FeedHealth, Intensity
from monitor.core.ports import IntensityStore
from monitor.errors import FeedError
from monitor.grid import schedule
from monitor.grid.bounds import checked
from monitor.grid.breaker import BREAKS_AFTER, OF_ONE_ZONE, Breaker, retry_s
from monitor.grid.feed import Ask, Feed, LogsIn, Reply, Request, Token, Want
from monitor.grid.job import Client, Job, Place
from monitor.grid.known import Known
from monitor.grid.lines import Lines
from monitor.grid.schedule import ALL, Checked, Slots

LOG = logging.getLogger("trainwatt")

HINT_S = 3 * 3600.0
REMEMBERED_S = 4 * 24 * 3600.0
"""Older questions have no bearing on when the next is due."""
FROZEN_S = 3 * 3600.0
"""A feed whose newest value ended so long ago, or four of its cadences, tells nothing of the present."""
FROZEN_CADENCES = 4
LOOK_AGAIN_S = 60.0
"""So often a stand-in sees whether it is needed."""
OF_ONE_QUESTION = frozenset({"server", "content", "empty", "value"})
"""While another zone is answered well these are a matter of the zone: the breaker would starve the others."""
OF_ALL_QUESTIONS = frozenset({"network", "timeout", "quota"})
"""Failures of a question for the past or the future that are no matter of that question."""
ANSWERED = "past answered"
LOGIN = "login"


_ORDER = tuple(Want)


class Asker:
    """Asks one provider for all of its zones."""

    def __init__(
        self,
        feeds: Mapping[str, Feed],
        *,
        known: Known,
        store: IntensityStore,
        client: Client,
        wall_s: Callable[[], float],
        random: Random,
        place: Place,
    ) -> None:
        """`feeds` by zone; all of them of one provider."""
        self.about = next(iter(feeds.values())).about
        self._known = known
        self._store = store
        self._client = client
        self._wall_s = wall_s
        self._random = random
        self._place = place
        self.lines = {zone: Lines(self.about, zone) for zone in feeds}
        """Replaced as a whole when a zone is added."""
        self._new = deque(feeds.items())
        """Zones that are to be asked for from the next turn on."""
        self._jobs: list[Job] = []
        self._checked: dict[str, list[Checked]] = {}
        self._presents: dict[str, list[float]] = {}
        """When each zone was asked for the present, lately."""
        self._well_s: dict[str, float] = {}
        """When each zone's present was told last."""
        self._asked_s: float | None = None
        self._breaker = Breaker()
        self._token: Token | None = None
        self._has_renewed = False
        self._started_s = self._seen_s = -math.inf
        self._turn = Lock()

    @property
    def health(self) -> tuple[FeedHealth, ...]:
        """Of each zone."""
        return tuple(lines.health for lines in self.lines.values())

    def expect(self, zone: str) -> None:
        """Have lines for one zone more, so that others can see how it fares. From any thread."""
        self.lines = {**self.lines, zone: Lines(self.about, zone)}

    def add(self, zone: str, feed: Feed) -> None:
        """Ask for an expected zone, from the next turn on. From any thread."""
        self._new.append((zone, feed))

    def fill(self, at_s: float) -> None:
        """Remember what was asked before the start. Reads the store."""
        if self._started_s == -math.inf:
            self._started_s = at_s
            if self.about.notice:
                LOG.info("%s: %s", self.about.name, self.about.notice)
        while self._new:
            zone, feed = self._new.popleft()
            self._known.fill_zone(zone, at_s)
            self._checked[zone], self._presents[zone] = [], []
            self._jobs += [Job(zone, want, feed, chance=self._random.random()) for want in Want]
            for what, start_s, _end_s, asked_s in self._store.asks(self.about.name, zone, at_s - REMEMBERED_S):
                self._remember(zone, what, start_s, min(asked_s, at_s))

    def tick(self) -> float:
        """Do what is due, at most one request, and return when the next thing is due, in Unix time."""
        if not self._turn.acquire(blocking=False):
            return self._wall_s() + 1.0  # somebody else is at it
        try:
            at_s = self._wall_s()
            self.fill(at_s)
            self._see_the_clock(at_s)
            due_s, job = self._next(at_s)
            if job is None or due_s > at_s:
                return due_s
            self._carry_out(job, at_s)
            return self._next(self._wall_s())[0]
        finally:
            self._turn.release()

    def _next(self, at_s: float) -> tuple[float, Job | None]:
        """The job that is due first, and when it may be done."""
        possible = [job for job in self._jobs if job.is_possible]
        if not possible:
            return math.inf, None
        # What has been due since before the start is due in the order of importance.
        due = [
            (max(self._due_s(job, at_s), self._started_s), _ORDER.index(job.want), n) for n, job in enumerate(possible)
        ]
        due_s, _order, number = min(due)
        free_s = max(schedule.quota_free_s(self.about, self._asked_s), self._breaker.not_before_s)
        return max(due_s, free_s), possible[number]

    def _due_s(self, job: Job, at_s: float) -> float:
        if job.want is Want.PAST:
            due_s = schedule.past_due_s(self.about, self._checked[job.zone], self._slots(job.zone))
        elif job.want is Want.FORECAST:
            due_s = schedule.forecast_due_s(self.about, job.asked_s, job.chance)
        else:
            due_s = schedule.latest_due_s(self.about, job.asked_s, job.chance)
        if job.is_pending:
            return -math.inf
        if job.tries:
            due_s = job.not_before_s
        if job.want is Want.PAST or not self._place.stands_in(job.zone, self.about.name):
            return due_s
        needed_s = self._place.needed_from_s(job.zone, self.about.name, at_s)
        if needed_s > at_s:
            return max(due_s, min(needed_s, at_s + LOOK_AGAIN_S))
        return due_s

    def _slots(self, zone: str) -> Slots:
        """What it has to settle: a stand-in only what it stood in for."""
        if not self._place.stands_in(zone, self.about.name):
            return ALL
        asked = self._presents[zone]
        if not asked:
            return Slots(math.inf, -math.inf)
        return Slots(asked[0] - self.about.cadence_s, asked[-1] + 2.0 * self.about.cadence_s)

    def _carry_out(self, job: Job, at_s: float) -> None:
        start_s, end_s = self._span(job, at_s)
        ask = Ask(want=job.want, zone=job.zone, at_s=at_s, start_s=start_s, end_s=end_s)
        try:
            values = self._values(job, ask)
        except FeedError as error:
            self._failed(job, ask, error)
        except Exception as error:  # noqa: BLE001  (somebody else's package may raise anything, with a key in its words)
            line = f"{self.about.title} failed inside with {type(error).__name__}; tell its author"
            self._failed(job, ask, FeedError(line, reason="content"))
        else:
            if values is None:
                return
            self._succeeded(job, ask, values)
        if job.want is Want.LATEST:
            self._place.tried(job.zone, self.about.name)

    def _values(self, job: Job, ask: Ask) -> Sequence[Intensity] | None:
        """What it told, kept already; None = it was not asked yet."""
        request = job.feed.request(ask)
        if request is None:
            job.is_possible = False
            return None
        reply = self._reply(job, ask, request)
        if reply is None:
            return None
        self.lines[job.zone].compare_clocks(reply)
        values, left_out = checked(self.about, ask, reply, job.feed.parse(ask, reply))
        if left_out is not None:
            self.lines[job.zone].aside("a value", left_out)
        self._known.take(job.zone, values, self._wall_s())
        return values

    def _span(self, job: Job, at_s: float) -> tuple[float, float]:
        if job.want is Want.PAST:
            return schedule.past_start_s(self.about, self._checked[job.zone], at_s, self._slots(job.zone)), at_s
        if job.want is Want.FORECAST:
            return at_s, at_s + self.about.forecast_s
        return at_s - HINT_S, at_s

    def _reply(self, job: Job, ask: Ask, request: Request) -> Reply | None:
        """The reply; None = there was a login to be done, and the question comes next."""
        feed = job.feed
        if not isinstance(feed, LogsIn):
            return self._send(job.zone, job.want, ask, request)
        if self._token is None or self._token.until_s <= ask.at_s:
            self._log_in(job, feed, ask)
            return None
        reply = self._send(job.zone, job.want, ask, feed.authorized(request, self._token))
        if feed.has_expired(reply) and not self._has_renewed:
            self._token, self._has_renewed, job.is_pending = None, True, True
            return None
        job.is_pending = False
        return reply

    def _log_in(self, job: Job, feed: LogsIn, ask: Ask) -> None:
        try:
            self._token = feed.token(self._send(job.zone, LOGIN, ask, feed.login()))
        except FeedError as error:
            if error.reason == "key":
                self._breaker.refused_login(ask.at_s)
            raise

    def _send(self, zone: str, what: str, ask: Ask, request: Request) -> Reply:
        # Noted before it is sent: a daemon that is killed meanwhile has asked, too.
        self._store.note_ask(self.about.name, zone, what, ask.start_s, ask.end_s, ask.at_s)
        self._remember(zone, what, ask.start_s, ask.at_s)
        return self._client.get(request, self.about)

    def _remember(self, zone: str, what: str, start_s: float, at_s: float) -> None:
        self._asked_s = at_s if self._asked_s is None else max(self._asked_s, at_s)
        if what == ANSWERED:
            self._checked[zone] = [one for one in self._checked[zone] if one.at_s > at_s - REMEMBERED_S]
            self._checked[zone].append(Checked(start_s, at_s))
        elif what == Want.LATEST:
            self._presents[zone] = [one for one in self._presents[zone] if one > at_s - REMEMBERED_S]
            self._presents[zone].append(at_s)
        for job in self._jobs:
            if job.zone == zone and job.want == what:
                job.asked_s, job.chance = at_s, self._random.random()

    def _succeeded(self, job: Job, ask: Ask, values: Sequence[Intensity]) -> None:
        lines, at_s = self.lines[job.zone], self._wall_s()
        was_open = self._breaker.is_open
        self._breaker.well()
        self._has_renewed = False
        if was_open:
            for other in self._jobs:
                if not other.is_hopeless:
                    other.not_before_s = at_s
        self._answered(job, ask)
        if job.want is not Want.LATEST:
            lines.aside_well(job.want)
            return
        newest_s = max(value.valid_until_s for value in values)
        if newest_s < at_s - max(FROZEN_S, FROZEN_CADENCES * self.about.cadence_s):
            hours = (at_s - newest_s) / 3600.0
            line = f"{self.about.title} answers, but its newest value of {job.zone} ended {hours:.0f} h ago"
            lines.failed(FeedError(line, reason="empty"), lambda: self._known.meanwhile(job.zone, at_s))
            return
        lines.well(at_s)
        self._well_s[job.zone] = at_s

    def _answered(self, job: Job, ask: Ask) -> None:
        job.tries, job.is_hopeless = 0, False
        if job.want is Want.PAST:
            self._store.note_ask(self.about.name, job.zone, ANSWERED, ask.start_s, ask.end_s, ask.at_s)
            self._remember(job.zone, ANSWERED, ask.start_s, ask.at_s)

    def _failed(self, job: Job, ask: Ask, error: FeedError) -> None:
        at_s, lines = self._wall_s(), self.lines[job.zone]
        is_present = job.want is Want.LATEST
        if error.reason == "empty" and not is_present:
            # There is nothing to be had: that is an answer.
            self._answered(job, ask)
            lines.aside(job.want, error)
            return
        job.tries += 1
        job.is_pending = False
        job.is_hopeless = error.reason in OF_ONE_ZONE
        job.not_before_s = at_s + retry_s(self.about, job.tries, error, self._random.random())
        logs_in = isinstance(job.feed, LogsIn) and self._token is None
        is_key = error.reason == "key" and (logs_in or self._breaker.key_since_s is not None)
        if (
            (is_present and not self._is_of_the_zone(job.zone, error, at_s))
            or is_key
            or error.reason in OF_ALL_QUESTIONS
        ):
            self._breaker.failed(self.about, error, at_s, self._random.random())
        if not is_present:
            # What concerns the provider as a whole is told by the question for the present.
            is_its_own = job.tries >= BREAKS_AFTER and lines.is_well if error.reason == "key" else True
            lines.aside(job.want, error, tell=is_its_own and error.reason not in OF_ALL_QUESTIONS)
            return
        # A valid key is refused at times: that is no news before it has been for a while.
        is_news = error.reason != "key"
        if self._breaker.key_is_wrong(at_s):
            is_news = True
            error = FeedError(f"{error}; it is asked once an hour now", reason=error.reason)
        lines.failed(error, lambda: self._known.meanwhile(job.zone, at_s), tell=is_news)
        if self._breaker.is_open:
            for zone, others in self.lines.items():
                if zone != job.zone:
                    others.waits(f"{self.about.title} fails for {job.zone}: {error}")

    def _is_of_the_zone(self, zone: str, error: FeedError, at_s: float) -> bool:
        """Whether a failure says nothing of the provider, since it answered for another zone just now."""
        lately_s = at_s - 2.0 * self.about.cadence_s
        return (
            error.reason in OF_ONE_QUESTION
            and error.retry_after_s is None
            and any(well_s > lately_s for other, well_s in self._well_s.items() if other != zone)
        )

    def _see_the_clock(self, at_s: float) -> None:
        """One that was set back must not make anything wait for the time that it had told."""
        back_s, self._seen_s = self._seen_s - at_s, at_s
        if back_s <= 0.0 or not math.isfinite(back_s):
            return
        self._started_s = min(self._started_s, at_s)
        self._asked_s = None if self._asked_s is None else min(self._asked_s, at_s)
        self._breaker.not_before_s -= back_s
        for job in self._jobs:
            job.asked_s = None if job.asked_s is None else min(job.asked_s, at_s)
            job.not_before_s -= back_s

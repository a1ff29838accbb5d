r"""Keeps what is known of the carbon intensity fresh: a thread for each provider, nothing in the loop.

    thread of a provider: Asker.tick -> client -> Known.take -> store      loop: intensities(), state()
                                                       \-> on_news(zone)

What is shown is replaced as a whole, so that the loop reads it without a lock.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from random import Random
from threading import Event, Lock, Thread
from types import MappingProxyType

from monitor.core.model import GridState, Instant, Intensity, Outlook, Rate, Settled, Signal
from monitor.core.ports import IntensityStore
from monitor.grid.asker import Asker
from monitor.grid.feed import Feed
from monitor.grid.job import Client
from monitor.grid.known import DOWNTIME_S, Known
from monitor.grid.outlooks import SCORED_S, outlooks

LOG = logging.getLogger("trainwatt")

OUTLOOK_EVERY_S = 600.0
RATES_EVERY_S = 900.0
RATES_AHEAD_S = 48 * 3600.0
LONGEST_WAIT_S = 60.0
"""A thread looks at the clock so often: Unix time may be set."""
FIRST_ANSWER_S = 60.0
"""So long, and the turns of all its zones, a stand-in waits for the first answer of the provider before it."""
LEAD_S = 60.0
"""A stand-in is asked so long before the last value of the provider before it has been carried far enough."""


def no_rates(_start_s: float, _end_s: float) -> Sequence[Rate]:
    """Nobody set a price."""
    return ()


def nobody(_zone: str) -> None:
    """Nobody wants to know."""


class Refresher:
    """`ports.Grid` for zones with live feeds and static values."""

    def __init__(
        self,
        plans: Mapping[str, Sequence[Feed]],
        *,
        statics: Mapping[str, Intensity],
        store: IntensityStore,
        client: Client,
        wall_s: Callable[[], float],
        random: Random,
        rates: Callable[[float, float], Sequence[Rate]] = no_rates,
        on_news: Callable[[str], None] = nobody,
        keep_s: float = 3600.0,
    ) -> None:
        """`plans` are the feeds of each zone in order, `rates` the prices of electricity over a span of Unix time."""
        self._plans = dict(plans)
        self._store = store
        self._client = client
        self._wall_s = wall_s
        self._random = random
        self._rates = rates
        orders = {zone: [feed.about.name for feed in feeds] for zone, feeds in plans.items()}
        self._known = Known(orders, statics, store, keep_s, on_news)
        self._askers: dict[str, Asker] = {}
        """By provider; replaced as a whole, like `_plans` and `_wakes`."""
        self._wakes: dict[str, Event] = {}
        for name in dict.fromkeys(name for order in orders.values() for name in order):
            self._add(name, {zone: feed for zone, feeds in plans.items() for feed in feeds if feed.about.name == name})
        self._changing = Lock()
        """Guards what is replaced; never held over I/O."""
        self._stop: Event | None = None
        self._filling = Lock()
        self._is_filled = False
        self._started_s = float("-inf")
        self._settled: Mapping[str, Settled] = MappingProxyType({})
        self._outlooks: tuple[Outlook, ...] = ()
        self._looked_at: tuple[float, int] = (float("-inf"), -1)
        self._priced: tuple[float, tuple[Rate, ...]] = (float("-inf"), ())
        self._state = GridState()

    # --- for the loop ---

    def intensities(self, at: Instant) -> tuple[Intensity, ...]:
        """What prices energy used up to this moment; the same tuple while nothing has changed. Never blocks."""
        return self._known.slots(at.wall_s)

    def state(self) -> GridState:
        """Feeds, prices, outlooks and settled figures; the same object while nothing has changed. Never blocks."""
        feeds = tuple(health for asker in self._askers.values() for health in asker.health)
        now = (feeds, self._prices(), self._outlooks, self._settled, self._known.revisions)
        old = self._state
        if now[0] != old.feeds or any(
            mine is not shown
            for mine, shown in zip(now[1:], (old.rates, old.outlooks, old.settled, old.revisions), strict=True)
        ):
            rates, ahead, settled, revisions = now[1:]
            self._state = GridState(feeds=feeds, rates=rates, outlooks=ahead, settled=settled, revisions=revisions)
        return self._state

    # --- for others ---

    def settled(self, figures: Mapping[str, Settled]) -> None:
        """Show these figures of runs from now on; of the settler's thread."""
        self._settled = MappingProxyType(dict(figures))

    def start(self, stop: Event) -> list[Thread]:
        """Ask until `stop` is set, which `wake` makes every thread see at once."""
        self.fill()
        with self._changing:
            self._stop = stop
            return [self._thread(name, stop) for name in self._askers]

    def watch(self, zone: str, feeds: Sequence[Feed]) -> None:
        """Keep one zone more in the store, which is none of the node's. From any thread, also after the start."""
        with self._changing:
            if zone in self._plans:
                return
            self._known.watch(zone, [feed.about.name for feed in feeds])
            asked_already = [feed for feed in feeds if feed.about.name in self._askers]
            for feed in feeds:
                if feed in asked_already:
                    self._askers[feed.about.name].expect(zone)
                else:
                    self._add(feed.about.name, {zone: feed})
            self._plans = {**self._plans, zone: list(feeds)}
            # From here on each of them finds the others.
            for feed in feeds:
                if feed in asked_already:
                    self._askers[feed.about.name].add(zone, feed)
                elif self._stop is not None:
                    self._thread(feed.about.name, self._stop)
        self.wake()

    def wake(self) -> None:
        """Every thread looks at once whether something is due, or whether it is to end."""
        for wake in self._wakes.values():
            wake.set()

    def fill(self) -> None:
        """Take over what was known before the start, once. Reads the store."""
        with self._filling:
            if self._is_filled:
                return
            at_s = self._started_s = self._wall_s()
            self._known.fill(at_s)
            for asker in self._askers.values():
                asker.fill(at_s)
            self._is_filled = True

    def tick(self, provider: str) -> float:
        """Do what is due of one provider, one request at most, and return when the next is due, in Unix time."""
        self.fill()
        due_s = self._askers[provider].tick()
        self._look_ahead()
        return due_s

    # --- for the askers ---

    def stands_in(self, zone: str, provider: str) -> bool:
        """Whether others come before it; the marginal signal is a series of its own, so nobody does."""
        return bool(self._before(zone, provider))

    def needed_from_s(self, zone: str, provider: str, at_s: float) -> float:
        """When those before it leave the present without a value: -inf = they do now."""
        lines = {feed.about.name: self._askers[feed.about.name].lines[zone] for feed in self._before(zone, provider)}
        # What was not asked yet may well be well.
        well = [name for name, line in lines.items() if line.is_well or not line.is_tried]
        needed_s = self._known.covered_until_s(zone, lines, well, at_s) - LEAD_S
        if all(line.is_tried for line in lines.values()):
            return needed_s
        turns_s = (self._askers[name].about.apart_s * len(self._askers[name].lines) for name in lines)
        return max(needed_s, self._started_s + FIRST_ANSWER_S + max(turns_s))

    def tried(self, zone: str, provider: str) -> None:
        """The ones behind it look whether they are needed."""
        behind = False
        for feed in self._plans[zone]:
            if behind:
                self._wakes[feed.about.name].set()
            behind = behind or feed.about.name == provider

    def _add(self, name: str, feeds: Mapping[str, Feed]) -> None:
        asker = Asker(
            feeds,
            known=self._known,
            store=self._store,
            client=self._client,
            wall_s=self._wall_s,
            random=self._random,
            place=self,
        )
        self._wakes = {**self._wakes, name: Event()}
        self._askers = {**self._askers, name: asker}

    def _thread(self, name: str, stop: Event) -> Thread:
        thread = Thread(target=self._run, args=(name, stop), name=f"feed-{name}", daemon=True)
        thread.start()
        return thread

    def _before(self, zone: str, provider: str) -> list[Feed]:
        feeds = list(self._plans[zone])
        place = next(n for n, feed in enumerate(feeds) if feed.about.name == provider)
        if feeds[place].about.signal is not Signal.AVERAGE:
            return []
        return [feed for feed in feeds[:place] if feed.about.signal is Signal.AVERAGE]

    def _run(self, name: str, stop: Event) -> None:
        wake = self._wakes[name]
        while True:
            # Cleared before anything is looked at: whoever sets it afterwards is heard.
            wake.clear()
            if stop.is_set():
                return
            try:
                wait_s = self.tick(name) - self._wall_s()
            except Exception as error:  # noqa: BLE001  (its words may hold a key, and no traceback reaches a user)
                LOG.error(  # noqa: TRY400
                    "%s: the refresher failed with %s and goes on in a minute; report it to the makers of trainwatt",
                    name,
                    type(error).__name__,
                )
                wait_s = LONGEST_WAIT_S
            wake.wait(min(max(wait_s, 0.0), LONGEST_WAIT_S))

    def _look_ahead(self) -> None:
        """Make the outlooks anew, seldom: scoring reads a week of the store."""
        at_s, version = self._wall_s(), self._known.version
        made_at_s, made_of = self._looked_at
        # Forecasts come after the present: until there are some, each answer may bring them.
        if version == made_of or (self._outlooks and 0.0 <= at_s - made_at_s < OUTLOOK_EVERY_S):
            return
        self._looked_at = (at_s, version)
        found: list[Outlook] = []
        for zone in list(self._plans):
            versions = self._store.versions(zone, at_s - SCORED_S, at_s)
            found += outlooks(self._known.names(zone), self._known.values(zone), versions, at_s)
        if tuple(found) != self._outlooks:
            self._outlooks = tuple(found)

    def _prices(self) -> tuple[Rate, ...]:
        at_s = self._wall_s()
        made_at_s, rates = self._priced
        if 0.0 <= at_s - made_at_s < RATES_EVERY_S:
            return rates
        new = tuple(self._rates(at_s - DOWNTIME_S, at_s + RATES_AHEAD_S))
        self._priced = (at_s, rates if new == rates else new)
        return self._priced[1]

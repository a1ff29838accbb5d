"""Runs priced again with what is known today: while they go on, and until their last values are final.

    refresher --news(zone)--> settler (a thread of little cost): History.energy_by_slot x store.known -> publish

Of each run the sums of the slots that are final are kept, and the younger slots; only the newest are read again.
Nothing of it is on a disk: after a restart all of it is read from the ledger once more.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import fsum, inf
from operator import attrgetter
from threading import Event, Thread
from types import MappingProxyType
from typing import Protocol

from monitor.core import settlement
from monitor.core.carbon import grams_of
from monitor.core.fallback import with_relayed
from monitor.core.model import Intensity, Settled, Signal
from monitor.core.ports import History, IntensityStore
from monitor.core.settlement import Course, Energy, Tally
from monitor.errors import FailureError
from monitor.grid.revisions import Revised, is_same, line, revisions

LOG = logging.getLogger("trainwatt")

SLOT_S = 300
EVERY_S = 300.0
"""A run is priced again after so long at the earliest, and if there is news of a zone of it, or of its joules."""
AT_LEAST_EVERY_S = 3600.0
"""Without any news time itself makes values final."""
OPEN_FOR_S = 4 * 24 * 3600.0
"""So long after its end a run is looked at: 72 h in which its values settle, and a day."""
MOST_RUNS = 100
LATE_S = 2 * 3600.0
"""Joules of so long ago may still come (told after an outage, or by a disk that took nothing): they are read again."""
WHOLE_EVERY_S = 24 * 3600.0
"""So often a run is read from its beginning, for joules that came later than that."""
SPAN_S = 2 * 24 * 3600.0
"""The course of a zone is made for spans of Unix time that are multiples of this: runs share it, and it is small."""
MOST_COURSES = 16
CLOCK_WRONG_BY_S = 24 * 3600.0
"""A run may have begun when the clock was ahead: so much before its start is read, too, which costs nothing."""
LOOK_BACK_S = 8 * 24 * 3600.0
"""The basis to keep to is that of the first provider that told anything within so long."""
SHORTEST_WAIT_S, LONGEST_WAIT_S = 5.0, 60.0


class Store(IntensityStore, Protocol):
    """Every value that a provider ever gave, and which of them were found unchanged long afterwards."""

    def checks(self, zone: str, start_s: float, end_s: float) -> settlement.Checks:
        """When a value was found unchanged, the first time a day or more after its slot had ended, in Unix time."""
        ...


@dataclass(slots=True)
class _Account:
    """What is known of one run."""

    start_s: float
    """Nothing of it is older."""
    base: Tally = settlement.NOTHING
    """Of the slots before `base_until_s`, all of them final."""
    base_until_s: float = -inf
    young: list[Energy] = field(default_factory=list)
    """The slots since then, oldest first."""
    zones: set[str] = field(default_factory=set)
    has_news: bool = True
    looked_at_s: float = -inf
    priced_at_s: float = -inf
    whole_at_s: float = -inf
    """When it was looked at, priced, and read from its beginning."""


class Settler:
    """The settled figures of a node's runs."""

    def __init__(
        self,
        history: History,
        store: Store,
        *,
        statics: Mapping[str, Intensity],
        providers: Mapping[str, Sequence[str]],
        settles_after_s: Mapping[str, float],
        wall_s: Callable[[], float],
        publish: Callable[[Mapping[str, Settled]], None],
    ) -> None:
        """`statics` and `providers` are of the zones of the node; `settles_after_s` of the providers."""
        self._history = history
        self._store = store
        self._statics = statics
        self._providers = providers
        self._settles_after_s = settles_after_s
        self._wall_s = wall_s
        self._publish = publish
        self._runs: dict[str, _Account] = {}
        self._settled: dict[str, Settled] = {}
        self._is_published = True
        self._news: set[str] = set()
        """Added to by other threads."""
        self._courses: dict[tuple[str, int], Course] = {}
        self._favourites: dict[str, Intensity | None] = {}
        """Both of one tick."""
        self._since_s = wall_s()
        self._untold: set[str] = set()
        """Zones whose news have not been looked at for revisions."""
        self._told: set[Revised] = set()
        """Revisions of what was fetched since then, as far as they were told."""
        self._problem = ""
        self._wake = Event()
        self._stop = Event()

    # -- for everybody else ------------------------------------------------------------------------------------------

    def news(self, zone: str) -> None:
        """There are new values of a zone. From any thread; returns at once."""
        self._news.add(zone)
        self._wake.set()

    def wake(self) -> None:
        """Tick now, or end if the event given to `start` has been set."""
        self._wake.set()

    def start(self, stop: Event) -> Thread:
        """Tick in a thread of its own until `stop` is set, which `wake` makes it see at once."""
        self._stop = stop
        thread = Thread(target=self._run, name="settler", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                due_s = self.tick()
            except Exception as error:  # noqa: BLE001  (a thread that ends would leave its last figures for ever)
                LOG.error(  # noqa: TRY400
                    "settled figures could not be made (%s: %s): those of before stay, and it is tried again in a "
                    "minute; report it to the makers of trainwatt",
                    type(error).__name__,
                    error,
                )
                due_s = self._wall_s() + LONGEST_WAIT_S
            wait_s = min(max(due_s - self._wall_s(), SHORTEST_WAIT_S), LONGEST_WAIT_S)
            if not self._stop.is_set():
                self._wake.wait(wait_s)

    # -- the settler's thread ----------------------------------------------------------------------------------------

    def tick(self) -> float:
        """Price what is due, publish; the Unix time at which something is due again. Never raises."""
        try:
            self._tick(self._wall_s())
            self._tell("")
        except FailureError as error:
            self._tell(f"settled figures stay as they are: {error}")
        except Exception as error:  # noqa: BLE001  (whatever it is, the thread goes on, and so does the daemon)
            self._tell(f"settled figures stay as they are, please report why: {type(error).__name__}: {error}")
        finally:
            self._courses.clear()
            self._favourites.clear()
        return min((account.looked_at_s for account in self._runs.values()), default=self._wall_s()) + EVERY_S

    def _tick(self, now_s: float) -> None:
        open_runs = self._history.unsettled(now_s - OPEN_FOR_S)[:MOST_RUNS]
        for run_id in self._runs.keys() - set(open_runs):
            del self._runs[run_id]
            self._is_published = self._settled.pop(run_id, None) is None and self._is_published
        news = {self._news.pop() for _ in range(len(self._news))}
        for account in self._runs.values():
            account.has_news = account.has_news or not account.zones.isdisjoint(news)
        self._untold |= news
        for run_id in open_runs:
            if self._stop.is_set():
                return
            self._look_at(run_id, now_s)
        if not self._is_published:
            self._publish(MappingProxyType(dict(self._settled)))
            self._is_published = True
        while self._untold:
            self._tell_revisions(self._untold.pop(), now_s)

    def _look_at(self, run_id: str, now_s: float) -> None:
        """Read what is new of a run, and price it again if anything is."""
        account = self._runs.get(run_id)
        if account is None:
            found = self._history.find(run_id)
            if found is None:
                return
            begun_s = _slot_at(found.run.start.wall_s - CLOCK_WRONG_BY_S)
            account = self._runs[run_id] = _Account(begun_s)
        if not _is_over(account.looked_at_s, EVERY_S, now_s):
            return
        has_grown = self._read(run_id, account, now_s)
        account.looked_at_s = now_s
        if not (has_grown or account.has_news or _is_over(account.priced_at_s, AT_LEAST_EVERY_S, now_s)):
            return
        self._fold(account, now_s)
        sums = settlement.added(account.base, self._tally(account.young, now_s))
        found = self._history.find(run_id)
        if found is None:
            return  # forgotten this moment: the next tick drops it
        # Its words are for those who show it when it is no longer among the runs; they may have changed.
        self._settled[run_id] = replace(settlement.settled(sums, now_s), run=found.run)
        self._is_published = False
        account.priced_at_s, account.has_news = now_s, False

    def _read(self, run_id: str, account: _Account, now_s: float) -> bool:
        """Bring the joules of a run up to date; whether they are others than before."""
        if _is_over(account.whole_at_s, WHOLE_EVERY_S, now_s):
            account.base, account.base_until_s, account.young = settlement.NOTHING, account.start_s, []
            from_s = account.start_s
            account.whole_at_s = now_s
        else:
            from_s = max(account.base_until_s, _slot_at(account.looked_at_s - LATE_S))
        rows = self._history.energy_by_slot(run_id, from_s, _slot_at(now_s) + SLOT_S, SLOT_S)
        kept = bisect_left(account.young, from_s, key=_start_s)
        newest = [Energy(*row) for row in rows]
        has_grown = newest != account.young[kept:]
        account.young[kept:] = newest
        account.zones.update(slot.zone for slot in newest)
        return has_grown

    def _fold(self, account: _Account, now_s: float) -> None:
        """Move the oldest slots that are final into the base."""
        young = account.young
        may_end_s = now_s - LATE_S - SLOT_S
        while young:
            span = _span_of(young[0])
            of_span = young[: bisect_left(young, (span + 1) * SPAN_S, key=_start_s)]
            courses = self._courses_of({slot.zone for slot in of_span}, span)
            count = 0
            for slot in of_span:
                if slot.start_s >= may_end_s or not settlement.is_final(slot, courses, slot_s=SLOT_S, at_s=now_s):
                    break
                count += 1
            # A slot of several zones, or of two values of PUE, goes as a whole.
            while 0 < count < len(of_span) and of_span[count - 1].start_s == of_span[count].start_s:
                count -= 1
            if count:
                account.base = settlement.added(account.base, self._tally(of_span[:count], now_s))
                account.base_until_s = of_span[count - 1].start_s + SLOT_S
                del young[:count]
            if count < len(of_span):
                return

    def _tally(self, slots: Sequence[Energy], now_s: float) -> Tally:
        sums = settlement.NOTHING
        for span, of_span in groupby(slots, key=_span_of):
            part = list(of_span)
            courses = self._courses_of({slot.zone for slot in part}, span)
            sums = settlement.added(sums, settlement.tally(part, courses, slot_s=SLOT_S, at_s=now_s))
        return sums

    def _courses_of(self, zones: Iterable[str], span: int) -> Mapping[str, Course]:
        """Of each zone over one span; "" has none."""
        return {zone: self._course(zone, span) for zone in zones if zone}

    def _course(self, zone: str, span: int) -> Course:
        found = self._courses.pop((zone, span), None) or self._new_course(zone, span * SPAN_S, (span + 1) * SPAN_S)
        self._courses[zone, span] = found  # the last used is the last to go
        if len(self._courses) > MOST_COURSES:
            del self._courses[next(iter(self._courses))]
        return found

    def _new_course(self, zone: str, start_s: float, end_s: float) -> Course:
        known = self._store.known(zone, start_s - settlement.REACH_S, end_s)
        providers = self._providers_of(zone, known)
        first = providers[0] if providers else None
        has_first = any(value.provider == first and value.signal is Signal.AVERAGE for value in known)
        return settlement.course(
            known,
            providers,
            self._static(zone, start_s, end_s),
            start_s=start_s,
            end_s=end_s,
            settles_after_s=self._settles_after_s,
            checks=self._store.checks(zone, start_s - settlement.REACH_S, end_s),
            basis_of=None if has_first else self._favourite(zone),
        )

    def _providers_of(self, zone: str, known: Iterable[Intensity]) -> Sequence[str]:
        """In order; of a zone that is no longer the node's, those that told something of it."""
        found = self._providers.get(zone)
        order = () if found is None else with_relayed(found, known)
        # Those that are asked no more come last: what they told then still holds.
        return tuple(dict.fromkeys([*order, *(value.provider for value in known)]))

    def _static(self, zone: str, start_s: float, end_s: float) -> Intensity | None:
        """Yearly value; of a zone that is no longer the node's, the one that was in use then."""
        if zone in self._statics:
            return self._statics[zone]
        used = self._history.factors(start_s, end_s)
        return next((one for one in reversed(used) if one.zone == zone and one.is_for_ever), None)

    def _favourite(self, zone: str) -> Intensity | None:
        """The value whose basis is kept to, also where only others tell something."""
        if zone not in self._favourites:
            now_s = self._wall_s()
            known = self._store.known(zone, now_s - LOOK_BACK_S, now_s)
            self._favourites[zone] = settlement.newest_of_first(known, self._providers_of(zone, known))
        return self._favourites[zone]

    def _tell_revisions(self, zone: str, now_s: float) -> None:
        """A line for each value that was changed after the fact and moves a run, once."""
        runs = {run_id: one for run_id, one in self._runs.items() if run_id in self._settled and zone in one.zones}
        oldest_s = min((one.young[0].start_s for one in runs.values() if one.young), default=now_s)
        found = revisions(self._store.versions(zone, oldest_s, now_s), since_s=self._since_s)
        self._told = {one for one in self._told if one.new.zone != zone or one in found}
        for revised in found:
            if revised in self._told:
                continue
            self._told.add(revised)
            moved_g = {run_id: self._moved_g(one, revised) for run_id, one in runs.items()}
            moved_g = {run_id: grams for run_id, grams in moved_g.items() if grams}
            if moved_g:
                LOG.info("%s", line(revised, moved_g))

    def _moved_g(self, account: _Account, revised: Revised) -> float:
        """Grams by which a revision moves the figure of a run: of the joules that this value prices."""
        new = revised.new
        first = bisect_left(account.young, new.valid_from_s - SLOT_S, key=_start_s)
        last = bisect_left(account.young, new.valid_until_s, key=_start_s)
        grams = []
        for slot in account.young[first:last]:
            if slot.zone != new.zone:
                continue
            for part in settlement.parts(slot, self._course(slot.zone, _span_of(slot)), SLOT_S):
                if part.intensity is not None and is_same(part.intensity, new):
                    grams += [
                        grams_of(part.energy_j, new, slot.pue_ratio),
                        -grams_of(part.energy_j, revised.old, slot.pue_ratio),
                    ]
        return fsum(grams)

    def _tell(self, problem: str) -> None:
        """A line when something is wrong, and when it is well again."""
        if problem and problem != self._problem:
            LOG.warning("%s", problem)
        elif self._problem and not problem:
            LOG.info("runs are priced again")
        self._problem = problem


def _is_over(since_s: float, period_s: float, now_s: float) -> bool:
    """Whether so long has passed; also when the clock was put back meanwhile."""
    return not since_s <= now_s < since_s + period_s


def _slot_at(wall_s: float) -> float:
    return wall_s // SLOT_S * SLOT_S


def _span_of(slot: Energy) -> int:
    return int(slot.start_s // SPAN_S)


_start_s = attrgetter("start_s")

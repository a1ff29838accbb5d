"""What is known of each zone, and the list of it that prices the present.

    threads of the providers --take--> store, then the zone's values here (one assignment)
    loop                     --slots-> the same tuple until something was added or a slot's edge is passed

The loop takes no lock: the one here is held while the store's disk is at work.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from threading import Lock
from types import MappingProxyType
from typing import NamedTuple

from monitor.core.fallback import CARRIED_SLOTS, LONGEST_CARRY_S, OBSERVED, RELAY, in_order, that_price, with_relayed
from monitor.core.model import Intensity, Quality, Signal
from monitor.core.ports import IntensityStore

DOWNTIME_S = 26 * 3600.0
"""Joules of a downtime are told when the daemon is back: for a while, prices reach back a day and more."""
AFTER_START_S = 900.0
LOOK_BACK_S = 8 * 24 * 3600.0
"""The basis to keep is that of the first provider that told anything within so long."""
AHEAD_S = 100 * 3600.0
"""Forecasts reach 96 h at most."""
VALID_FOR_S = 3600.0
"""A list is made anew after so long at the latest, without what has fallen out of it."""


_MEANWHILE = {
    Quality.ACTUAL: "the value",
    Quality.ESTIMATED: "the estimate",
    Quality.FORECAST: "the forecast",
    Quality.CARRIED: "the last value",
}


class _Listed(NamedTuple):
    version: int
    from_s: float
    until_s: float
    slots: tuple[Intensity, ...]


class Known:
    """Of every zone that has feeds or a static value."""

    def __init__(
        self,
        orders: Mapping[str, Sequence[str]],
        statics: Mapping[str, Intensity],
        store: IntensityStore,
        keep_s: float,
        on_news: Callable[[str], None],
    ) -> None:
        """`orders` are the providers of each zone, by name, in order."""
        self._orders = dict(orders)
        self._statics = statics
        self._store = store
        self._keep_s = keep_s
        self._on_news = on_news
        self._zones = tuple(dict.fromkeys([*orders, *statics]))
        self._values: dict[str, tuple[Intensity, ...]] = {}
        self._last: dict[str, tuple[Intensity, ...]] = {}
        """The newest observation of each provider, however old."""
        self._versions = count(1)
        self._version = 0
        self._listed = _Listed(-1, math.inf, -math.inf, ())
        self._reaches_back_until_s = -math.inf
        self._adding = Lock()
        self._revisions: Counter[str] = Counter(dict.fromkeys(orders, 0))
        self.revisions: Mapping[str, int] = MappingProxyType(dict(self._revisions))
        """Values that were changed after the fact, by zone; replaced as a whole."""

    def fill(self, at_s: float) -> None:
        """Take over what the store has."""
        self._reaches_back_until_s = at_s + AFTER_START_S
        for zone in list(self._orders):
            self.fill_zone(zone, at_s)

    def watch(self, zone: str, order: Sequence[str]) -> None:
        """Know one zone more, which is none of the node's: nothing is priced by it here."""
        self._orders[zone] = order

    def fill_zone(self, zone: str, at_s: float) -> None:
        """Take over what the store has of one zone, once."""
        with self._adding:
            if zone not in self._values:
                self._last[zone] = _newest(self._store.known(zone, at_s - LOOK_BACK_S, at_s + AHEAD_S))
                self._reload(zone, at_s)

    def take(self, zone: str, values: Sequence[Intensity], at_s: float) -> None:
        """Keep what a provider told, in its thread; tell whoever wants to know if anything of it is news."""
        start_s = min(value.valid_from_s for value in values)
        end_s = max(value.valid_until_s for value in values)
        with self._adding:
            before = frozenset(self._store.known(zone, start_s, end_s))
            revised = self._store.add(values)
            is_news = bool(revised) or not before.issuperset(self._store.known(zone, start_s, end_s))
            if is_news:
                self._last[zone] = _newest([*self._last.get(zone, ()), *values])
                self._reload(zone, at_s)
            if revised:
                self._revisions[zone] += len(revised)
                self.revisions = MappingProxyType(dict(self._revisions))
        if is_news:
            self._on_news(zone)

    def slots(self, at_s: float) -> tuple[Intensity, ...]:
        """What prices energy used up to this moment: zone by zone, the average and then the marginal list."""
        listed = self._listed
        if listed.version == self._version and listed.from_s <= at_s < listed.until_s:
            return listed.slots
        version = self._version
        reaches_back = at_s < self._reaches_back_until_s
        keep_s = max(self._keep_s, DOWNTIME_S) if reaches_back else self._keep_s
        until_s = at_s + VALID_FOR_S
        if reaches_back:
            until_s = min(until_s, self._reaches_back_until_s)
        lists = [
            self._list(zone, signal, at_s, keep_s)
            for zone in self._zones
            for signal in (Signal.AVERAGE, Signal.MARGINAL)
        ]
        edges = (edge for slots in lists for slot in slots for edge in (slot.valid_from_s, slot.valid_until_s))
        until_s = min([until_s, *(edge for edge in edges if edge > at_s)])
        used = tuple(slot for slots in lists for slot in that_price(slots, at_s - keep_s, until_s))
        self._listed = _Listed(version, at_s, until_s, listed.slots if used == listed.slots else used)
        return self._listed.slots

    @property
    def version(self) -> int:
        """Another number whenever something was added."""
        return self._version

    def values(self, zone: str) -> tuple[Intensity, ...]:
        """The newest version of each value of the last day, and of all to come."""
        return self._values.get(zone, ())

    def names(self, zone: str) -> tuple[str, ...]:
        """The providers of a zone in order, those included that a relay tells of."""
        return with_relayed(self._orders.get(zone, ()), [*self.values(zone), *self._last.get(zone, ())])

    def meanwhile(self, zone: str, at_s: float) -> str:
        """What prices a zone now, for people."""
        for slot in self._list(zone, Signal.AVERAGE, at_s, 0.0):
            if slot.valid_from_s <= at_s < slot.valid_until_s:
                if slot.quality not in _MEANWHILE:
                    return f"the yearly value of {slot.provider} is used"
                until = datetime.fromtimestamp(slot.valid_until_s, UTC)
                return f"{_MEANWHILE[slot.quality]} of {slot.provider} is used until {until:%H:%M} UTC"
        return "energy has no price"

    def covered_until_s(self, zone: str, providers: Iterable[str], well: Iterable[str], at_s: float) -> float:
        """Up to when these providers tell the present without a gap, carried by two slots for those that are well."""
        names, healthy = set(providers), set(well)
        told_of = set(self.names(zone)) - set(self._orders.get(zone, ()))
        if RELAY in names:
            names |= told_of
        if RELAY in healthy:
            healthy |= told_of
        spans = []
        for value in self.values(zone):
            if (
                value.provider not in names
                or value.signal is not Signal.AVERAGE
                or value.valid_until_s <= at_s - DOWNTIME_S
            ):
                continue
            until_s = value.valid_until_s
            if value.quality in OBSERVED and value.provider in healthy:
                until_s += min(CARRIED_SLOTS * (until_s - value.valid_from_s), LONGEST_CARRY_S)
            if value.quality in OBSERVED or value.quality is Quality.FORECAST:
                spans.append((value.valid_from_s, until_s))
        covered_s = at_s
        for from_s, until_s in sorted(spans):
            if from_s <= covered_s:
                covered_s = max(covered_s, until_s)
        return covered_s if covered_s > at_s else -math.inf

    def _list(self, zone: str, signal: Signal, at_s: float, keep_s: float) -> tuple[Intensity, ...]:
        since_s, until_s = at_s - keep_s - LONGEST_CARRY_S, at_s + VALID_FOR_S
        near = [value for value in self.values(zone) if value.valid_until_s > since_s and value.valid_from_s < until_s]
        static = self._statics.get(zone) if signal is Signal.AVERAGE else None
        return in_order(
            [*near, *self._last.get(zone, ())], self.names(zone), static, at_s=at_s, keep_s=keep_s, signal=signal
        )

    def _reload(self, zone: str, at_s: float) -> None:
        start_s = at_s - DOWNTIME_S - LONGEST_CARRY_S
        self._values[zone] = tuple(self._store.known(zone, start_s, at_s + AHEAD_S))
        self._version = next(self._versions)


def _newest(values: Iterable[Intensity]) -> tuple[Intensity, ...]:
    """Of each provider and signal the observation that was fetched last."""
    newest: dict[tuple[str, Signal], Intensity] = {}
    for value in values:
        if value.quality not in OBSERVED:
            continue
        key = (value.provider, value.signal)
        if key not in newest or _age(newest[key]) < _age(value):
            newest[key] = value
    return tuple(newest.values())


def _age(value: Intensity) -> tuple[float, float]:
    return value.fetched_at_s or 0.0, value.valid_until_s

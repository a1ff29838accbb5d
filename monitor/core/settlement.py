"""A run's grams priced again with what is known today: energy by slot x the course of the intensity. Pure arithmetic.

The live counter is priced with what was known then and never falls; this figure follows the feed's revisions, and says
what part of it can change no more.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import pairwise
from math import fsum, inf
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeVar

from monitor.core.carbon import grams_of
from monitor.core.fallback import LONGEST_CARRY_S, in_order
from monitor.core.model import Basis, Intensity, Quality, Settled, Signal

REACH_S = LONGEST_CARRY_S
"""A value can price what comes so long after its slot has ended, and nothing later."""
SETTLES_AFTER_S = 72 * 3600.0
"""Of a provider of which nothing else is known."""
UNCHANGED_FOR_S = 24 * 3600.0
"""An actual value is final when so long after a check, itself a day after its slot, nothing else has come."""
LONGEST_WHOLE_S = 24 * 3600.0
"""A longer slot, such as the year of a contract, settles moment by moment: its end may be far away, or never come."""


class Energy(NamedTuple):
    """Joules of a run over a slot of time, as `ports.History.energy_by_slot` tells them."""

    zone: str
    start_s: float
    """Unix time."""
    energy_j: float
    pue_ratio: float


class Stretch(NamedTuple):
    """A span [start, end) of Unix time within which one intensity prices a zone."""

    start_s: float
    end_s: float
    intensity: Intensity | None
    """None = nothing is known: the joules are unpriced."""
    final_at_s: float
    """Unix time from which on nothing better can come for the slot that the intensity is of."""
    open_for_s: float
    """So long after any moment of it something better can come for that moment; of what stands in, or is long."""


class Part(NamedTuple):
    """Joules of a slot of energy that one intensity prices."""

    energy_j: float
    intensity: Intensity | None
    final_at_s: float
    """Unix time from which on their price can change no more."""


class Course(NamedTuple):
    """The stretches of one zone over a span, without a gap; and where each begins, to find them."""

    stretches: Sequence[Stretch]
    starts_s: Sequence[float]


Checks = Mapping[tuple[str, Basis, float, float], float]
"""When a value was found unchanged a day or more after its slot, by provider, basis, slot's start and end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums over some slots of energy."""

    emissions_g: Mapping[Basis, float] = field(default_factory=lambda: MappingProxyType({}))
    energy_j: float = 0.0
    final_j: float = 0.0
    unpriced_j: float = 0.0


NOTHING = Tally()


def course(
    known: Sequence[Intensity],
    providers: Sequence[str],
    static: Intensity | None,
    *,
    start_s: float,
    end_s: float,
    settles_after_s: Mapping[str, float],
    checks: Checks = MappingProxyType({}),
    basis_of: Intensity | None = None,
) -> Course:
    """What prices a zone over [start, end) by today's knowledge, in the order of `fallback.in_order`.

    `known` must reach back to REACH_S before the start. `basis_of` is a value of the basis to prefer where none of its
    provider is known within the span: a year is priced in one basis, although it is looked at piece by piece.
    """
    average = [value for value in known if value.signal is Signal.AVERAGE]
    if basis_of is not None:
        average.append(basis_of)
    order = in_order(average, providers, static, at_s=end_s, keep_s=end_s - start_s)
    waits_s = _waits(providers, settles_after_s)
    stretches = [
        Stretch(from_s, until_s, intensity, *_settles(intensity, waits_s, checks))
        for from_s, until_s, intensity in first_of_each_moment(order, start_s, end_s)
    ]
    return Course(stretches, [stretch.start_s for stretch in stretches])


def newest_of_first(known: Iterable[Intensity], providers: Sequence[str]) -> Intensity | None:
    """The newest average value of the first provider that has any: its basis is the one to keep to."""
    ranks = {name: rank for rank, name in reversed(list(enumerate(providers)))}
    usable = [value for value in known if value.signal is Signal.AVERAGE and value.provider in ranks]
    return min(
        usable, key=lambda value: (ranks[value.provider], -_fetched_s(value), -value.valid_until_s), default=None
    )


class Slot(Protocol):
    """Anything that holds over a span [from, until) of Unix time."""

    @property
    def valid_from_s(self) -> float:
        """Its beginning."""
        ...

    @property
    def valid_until_s(self) -> float:
        """Its end."""
        ...


AnySlot = TypeVar("AnySlot", bound=Slot)


def first_of_each_moment(
    order: Sequence[AnySlot], start_s: float, end_s: float
) -> list[tuple[float, float, AnySlot | None]]:
    """[start, end) cut where the first of the slots in order of preference changes; None where there is none."""
    moments = {moment for slot in order for moment in (slot.valid_from_s, slot.valid_until_s)}
    edges = sorted({start_s, end_s} | {moment for moment in moments if start_s < moment < end_s})
    by_start = sorted(range(len(order)), key=lambda rank: order[rank].valid_from_s)
    come = 0
    present: list[int] = []
    found: list[tuple[float, float, AnySlot | None]] = []
    for from_s, until_s in pairwise(edges):
        while come < len(by_start) and order[by_start[come]].valid_from_s <= from_s:
            heappush(present, by_start[come])
            come += 1
        while present and order[present[0]].valid_until_s <= from_s:
            heappop(present)
        best = order[present[0]] if present else None
        if found and found[-1][2] is best:
            found[-1] = (found[-1][0], until_s, best)
        else:
            found.append((from_s, until_s, best))
    return found


def tally(slots: Iterable[Energy], courses: Mapping[str, Course], *, slot_s: float, at_s: float) -> Tally:
    """Price energy slot by slot. A slot that several stretches share is weighted by overlap.

    Energy of a zone without a course is unpriced, for good.
    """
    grams: dict[Basis, list[float]] = {}
    energy_j: list[float] = []
    final_j: list[float] = []
    unpriced_j: list[float] = []
    for slot in slots:
        energy_j.append(slot.energy_j)
        for part_j, intensity, final_at_s in parts(slot, courses.get(slot.zone), slot_s):
            if intensity is None:
                unpriced_j.append(part_j)
            else:
                grams.setdefault(intensity.basis, []).append(grams_of(part_j, intensity, slot.pue_ratio))
            if final_at_s <= at_s:
                final_j.append(part_j)
    return Tally(
        emissions_g=MappingProxyType({basis: fsum(values) for basis, values in grams.items()}),
        energy_j=fsum(energy_j),
        final_j=fsum(final_j),
        unpriced_j=fsum(unpriced_j),
    )


def parts(slot: Energy, of_zone: Course | None, slot_s: float) -> list[Part]:
    """Joules of a slot by what prices them; those outside the course have no price yet."""
    start_s, end_s = slot.start_s, slot.start_s + slot_s
    if of_zone is None:
        return [Part(slot.energy_j, None, -inf)]
    place = max(0, bisect_right(of_zone.starts_s, start_s) - 1)
    found = []
    for stretch in of_zone.stretches[place:]:
        if stretch.start_s >= end_s:
            break
        from_s, until_s = max(start_s, stretch.start_s), min(end_s, stretch.end_s)
        if until_s > from_s:
            part_j = slot.energy_j * ((until_s - from_s) / slot_s)
            found.append(Part(part_j, stretch.intensity, max(stretch.final_at_s, until_s + stretch.open_for_s)))
    outside_s = max(0.0, of_zone.starts_s[0] - start_s) + max(0.0, end_s - of_zone.stretches[-1].end_s)
    if outside_s > 0.0:
        found.append(Part(slot.energy_j * min(1.0, outside_s / slot_s), None, inf))
    return found


def is_final(slot: Energy, courses: Mapping[str, Course], *, slot_s: float, at_s: float) -> bool:
    """Whether the price of every part of the slot can change no more."""
    return all(part.final_at_s <= at_s for part in parts(slot, courses.get(slot.zone), slot_s))


def added(one: Tally, other: Tally) -> Tally:
    """Both together."""
    bases = [*one.emissions_g, *(basis for basis in other.emissions_g if basis not in one.emissions_g)]
    grams = {basis: one.emissions_g.get(basis, 0.0) + other.emissions_g.get(basis, 0.0) for basis in bases}
    return Tally(
        emissions_g=MappingProxyType(grams),
        energy_j=one.energy_j + other.energy_j,
        final_j=one.final_j + other.final_j,
        unpriced_j=one.unpriced_j + other.unpriced_j,
    )


def settled(sums: Tally, at_s: float) -> Settled:
    """What is shown of it."""
    return Settled(
        emissions_g=sums.emissions_g,
        energy_j=sums.energy_j,
        final_j=min(sums.final_j, sums.energy_j),
        unpriced_j=sums.unpriced_j,
        priced_at_s=at_s,
    )


def _waits(providers: Sequence[str], settles_after_s: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """How long after a slot its provider may still tell another number, and one that comes before it may; "" = any."""
    waits = {}
    longest_s = -inf
    for name in providers:
        own_s = settles_after_s.get(name, SETTLES_AFTER_S)
        waits[name] = (own_s, longest_s)
        longest_s = max(longest_s, own_s)
    return waits | {"": (longest_s, longest_s)}


def _settles(
    value: Intensity | None, waits_s: Mapping[str, tuple[float, float]], checks: Checks
) -> tuple[float, float]:
    """When a stretch settles, as `final_at_s` and `open_for_s` of it.

    What stands in for a missing value is final when no provider can bring it any more; at once where there is none.
    """
    any_s = waits_s[""][0]
    if value is None or value.quality in (Quality.CARRIED, Quality.STATIC):
        return -inf, any_s
    own_s, better_s = waits_s.get(value.provider, (any_s, any_s))
    if value.valid_until_s - value.valid_from_s > LONGEST_WHOLE_S:
        return -inf, max(own_s, better_s)
    ended_s = value.valid_until_s
    own_final_s = ended_s + own_s
    if value.quality is Quality.ACTUAL:
        checked_s = checks.get((value.provider, value.basis, value.valid_from_s, value.valid_until_s), inf)
        own_final_s = min(own_final_s, checked_s + UNCHANGED_FOR_S)
    return max(own_final_s, ended_s + better_s), -inf


def _fetched_s(value: Intensity) -> float:
    return -inf if value.fetched_at_s is None else value.fetched_at_s

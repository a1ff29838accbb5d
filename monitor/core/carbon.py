"""Joules become grams: energy x intensity at the time of use x PUE, split at the feed's slot edges."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from monitor.core.model import Basis, Intensity, Quality, Rate, Signal
from monitor.core.units import JOULES_PER_KILOWATTHOUR


class Grams(NamedTuple):
    """Emissions priced at one basis and quality."""

    emissions_g: float
    basis: Basis
    quality: Quality


class Price(NamedTuple):
    """What some energy emitted, and how much of it has no price."""

    grams: tuple[Grams, ...]
    unpriced_j: float


def price(
    energy_j: float, start_wall_s: float, end_wall_s: float, slots: Sequence[Intensity], pue_ratio: float
) -> Price:
    """Price energy used evenly over [start, end) of Unix time.

    `slots` stand in order of preference; marginal ones are left out: they answer another question. Time that no
    slot covers is unpriced, never priced at 0.
    """
    usable = [slot for slot in slots if slot.signal is Signal.AVERAGE]
    if len(usable) == 1 and usable[0].valid_from_s <= start_wall_s and end_wall_s <= usable[0].valid_until_s:
        return Price(grams=(_grams(energy_j, usable[0], pue_ratio),), unpriced_j=0.0)
    if not usable:
        return Price(grams=(), unpriced_j=energy_j)
    parts = _parts(energy_j, start_wall_s, end_wall_s, usable)
    return Price(
        grams=tuple(_grams(part_j, slot, pue_ratio) for part_j, slot in parts if slot is not None),
        unpriced_j=sum(part_j for part_j, slot in parts if slot is None),
    )


def marginal_grams(
    energy_j: float, start_wall_s: float, end_wall_s: float, slots: Sequence[Intensity], pue_ratio: float
) -> float:
    """Grams of energy used over [start, end) of Unix time by the marginal slots among those in order of preference.

    Time without a marginal value has none: it is no part of any sum, so that nothing is counted apart for it.
    """
    usable = [slot for slot in slots if slot.signal is Signal.MARGINAL]
    parts = _parts(energy_j, start_wall_s, end_wall_s, usable)
    return sum(grams_of(part_j, slot, pue_ratio) for part_j, slot in parts if slot is not None)


def cost_of(energy_j: float, start_wall_s: float, end_wall_s: float, rates: Sequence[Rate], pue_ratio: float) -> float:
    """What energy used over [start, end) of Unix time costs, that of the site's overhead included.

    `rates` stand in the order of time and do not overlap. Time without a price costs nothing that is known, and
    at prices below 0 nothing either: what is counted cannot fall, and nobody is paid for training.
    """
    span_s = end_wall_s - start_wall_s
    total = 0.0
    for rate in rates:
        from_s, until_s = max(start_wall_s, rate.valid_from_s), min(end_wall_s, rate.valid_until_s)
        if until_s > from_s:
            total += energy_j * ((until_s - from_s) / span_s) * max(0.0, rate.amount)
        elif span_s <= 0.0 and rate.valid_from_s <= start_wall_s < rate.valid_until_s:
            total += energy_j * max(0.0, rate.amount)
    return total / JOULES_PER_KILOWATTHOUR * pue_ratio


def in_use(slots: Sequence[Intensity], wall_s: float) -> list[Intensity]:
    """Of slots in order of preference, the one of each zone and signal that prices energy at this moment."""
    found: dict[tuple[str, Signal], Intensity] = {}
    for slot in slots:
        if slot.valid_from_s <= wall_s < slot.valid_until_s:
            found.setdefault((slot.zone, slot.signal), slot)
    return list(found.values())


def told_until_s(slot: Intensity) -> float:
    """Unix time of the end of the interval that the value was made for: a carried one is of the time before it."""
    return slot.valid_from_s if slot.quality is Quality.CARRIED else slot.valid_until_s


def grams_of(energy_j: float, slot: Intensity, pue_ratio: float) -> float:
    """Grams of CO2e of some energy at one intensity."""
    return energy_j / JOULES_PER_KILOWATTHOUR * slot.grams_per_kilowatthour * pue_ratio


def _grams(energy_j: float, slot: Intensity, pue_ratio: float) -> Grams:
    return Grams(emissions_g=grams_of(energy_j, slot, pue_ratio), basis=slot.basis, quality=slot.quality)


def _parts(
    energy_j: float, start_wall_s: float, end_wall_s: float, slots: Sequence[Intensity]
) -> list[tuple[float, Intensity | None]]:
    """Energy cut at the slots' edges, each part with the slot that prices it."""
    span_s = end_wall_s - start_wall_s
    return [
        (energy_j * ((end - start) / span_s if span_s > 0.0 else 1.0), _slot_at((start + end) / 2, slots))
        for start, end in _pieces(start_wall_s, end_wall_s, slots)
    ]


def _slot_at(wall_s: float, slots: Sequence[Intensity]) -> Intensity | None:
    return next((slot for slot in slots if slot.valid_from_s <= wall_s < slot.valid_until_s), None)


def _pieces(start: float, end: float, slots: Sequence[Intensity]) -> list[tuple[float, float]]:
    if end <= start:
        return [(start, start)]
    moments = {moment for slot in slots for moment in (slot.valid_from_s, slot.valid_until_s)}
    edges = sorted({start, end} | {moment for moment in moments if start < moment < end})
    return list(pairwise(edges))

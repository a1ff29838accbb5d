"""Joules become grams: energy x intensity at the time of use x PUE, split at the feed's slot edges."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from monitor.core.model import Basis, Intensity, Quality, Signal
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
    grams: list[Grams] = []
    unpriced_j = 0.0
    for start, end in _pieces(start_wall_s, end_wall_s, usable):
        span_s = end_wall_s - start_wall_s
        part_j = energy_j * ((end - start) / span_s if span_s > 0.0 else 1.0)
        slot = _slot_at((start + end) / 2, usable)
        if slot is None:
            unpriced_j += part_j
        else:
            grams.append(_grams(part_j, slot, pue_ratio))
    return Price(grams=tuple(grams), unpriced_j=unpriced_j)


def grams_of(energy_j: float, slot: Intensity, pue_ratio: float) -> float:
    """Grams of CO2e of some energy at one intensity."""
    return energy_j / JOULES_PER_KILOWATTHOUR * slot.grams_per_kilowatthour * pue_ratio


def _grams(energy_j: float, slot: Intensity, pue_ratio: float) -> Grams:
    return Grams(emissions_g=grams_of(energy_j, slot, pue_ratio), basis=slot.basis, quality=slot.quality)


def _slot_at(wall_s: float, slots: Sequence[Intensity]) -> Intensity | None:
    return next((slot for slot in slots if slot.valid_from_s <= wall_s < slot.valid_until_s), None)


def _pieces(start: float, end: float, slots: Sequence[Intensity]) -> list[tuple[float, float]]:
    if end <= start:
        return [(start, start)]
    moments = {moment for slot in slots for moment in (slot.valid_from_s, slot.valid_until_s)}
    edges = sorted({start, end} | {moment for moment in moments if start < moment < end})
    return list(pairwise(edges))

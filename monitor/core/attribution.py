"""Whose joules: the energy of one interval split over the runs that held the device, and the remainder."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, auto
from itertools import pairwise

from monitor.core.energy import EnergyDelta
from monitor.core.model import Run


class ShareKind(StrEnum):
    """By what right a run is charged (label `share`)."""

    WHOLE = auto()
    """It held the device alone."""
    EQUAL = auto()
    """Several held it, and nothing tells them apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Joules of one run from one device over [start, end) of the steady clock."""

    run_id: str
    energy_j: float
    kind: ShareKind
    start_mono_s: float
    end_mono_s: float


def attribute(delta: EnergyDelta, runs: Iterable[Run]) -> tuple[tuple[Share, ...], float]:
    """Split one interval's joules: the shares, and what nobody held.

    The interval is cut where a run started or ended within it, the joules by time. The remainder is what is left
    after the shares, so that shares + remainder = delta whatever the rounding.
    """
    holders = [run for run in runs if delta.device.id in run.holds and _overlaps(run, delta)]
    if not holders or not delta.energy_j:
        return (), delta.energy_j
    shares: list[Share] = []
    left_j = delta.energy_j
    edges = _edges(holders, delta)
    for start, end in pairwise(edges):
        present = [run for run in holders if run.start.mono_s <= start and (run.end is None or run.end.mono_s >= end)]
        if not present:
            continue
        part_j = delta.energy_j * ((end - start) / delta.span_s if delta.span_s else 1.0) / len(present)
        kind = ShareKind.WHOLE if len(present) == 1 else ShareKind.EQUAL
        for run in present:
            part_j = min(part_j, left_j)
            left_j -= part_j
            shares.append(
                Share(run_id=run.id, energy_j=part_j, kind=kind, start_mono_s=start, end_mono_s=end),
            )
    return tuple(shares), left_j


def _overlaps(run: Run, delta: EnergyDelta) -> bool:
    return run.start.mono_s <= delta.end.mono_s and (run.end is None or run.end.mono_s > delta.start.mono_s)


def _edges(holders: list[Run], delta: EnergyDelta) -> list[float]:
    first, last = delta.start.mono_s, delta.end.mono_s
    if last <= first:
        return [first, last]
    moments = {run.start.mono_s for run in holders} | {run.end.mono_s for run in holders if run.end is not None}
    return sorted({first, last} | {moment for moment in moments if first < moment < last})

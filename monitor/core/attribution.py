"""Whose joules: the energy of one interval split over the runs that held the device, and the remainder."""

from collections.abc import Iterable
from enum import StrEnum, auto
from itertools import pairwise
from typing import NamedTuple

from monitor.core.energy import EnergyDelta
from monitor.core.model import Run


class ShareKind(StrEnum):
    """By what right a run is charged (label `share`)."""

    WHOLE = auto()
    """It held the device alone."""
    USAGE = auto()
    """Several held it, or it is everybody's: by what each used of it."""
    EQUAL = auto()
    """Several held it, and nothing tells them apart."""
    SLICE = auto()
    """It held a part of a divided device (MIG), whose activity nobody tells."""


class Share(NamedTuple):
    """Joules of one run from one device over [start, end) of the steady clock."""

    energy_j: float
    start_mono_s: float
    end_mono_s: float
    run_id: str = ""
    """"" = nobody's."""
    phase: str = ""
    kind: ShareKind | None = None
    """None = nobody's."""

    @property
    def span_s(self) -> float:
        """How long it held the device."""
        return self.end_mono_s - self.start_mono_s


def attribute(delta: EnergyDelta, holders: Iterable[Run]) -> tuple[tuple[Share, ...], float]:
    """Split one interval's joules over the runs that hold the device: the shares, and what nobody held.

    The interval is cut where a run or one of its phases began or ended within it, the joules by time. The remainder
    is what is left after the shares, so that shares + remainder = delta whatever the rounding.
    """
    present = [run for run in holders if _overlaps(run, delta)]
    if not present:
        return (), delta.energy_j
    if len(present) == 1 and (phase := _throughout(present[0], delta)) is not None:
        start_s, end_s = delta.start.mono_s, delta.end.mono_s
        share = Share(
            run_id=present[0].id,
            phase=phase,
            energy_j=delta.energy_j,
            kind=ShareKind.WHOLE,
            start_mono_s=start_s,
            end_mono_s=end_s,
        )
        return (share,), 0.0
    shares: list[Share] = []
    left_j = delta.energy_j
    for start, end in pairwise(_edges(present, delta)):
        here = [run for run in present if run.since.mono_s <= start and (run.end is None or run.end.mono_s >= end)]
        if not here:
            continue
        part_j = delta.energy_j * ((end - start) / delta.span_s if delta.span_s else 1.0) / len(here)
        kind = ShareKind.WHOLE if len(here) == 1 else ShareKind.EQUAL
        for run in here:
            part_j = min(part_j, left_j)
            left_j -= part_j
            phase = _phase_at(run, start)
            share = Share(run_id=run.id, phase=phase, energy_j=part_j, kind=kind, start_mono_s=start, end_mono_s=end)
            shares.append(share)
    return tuple(shares), left_j


def held_s(run: Run, start_mono_s: float, end_mono_s: float) -> float:
    """Seconds of [start, end) in which the run held what it holds."""
    end_s = end_mono_s if run.end is None else min(end_mono_s, run.end.mono_s)
    return max(0.0, end_s - max(start_mono_s, run.since.mono_s))


def _overlaps(run: Run, delta: EnergyDelta) -> bool:
    return run.since.mono_s <= delta.end.mono_s and (run.end is None or run.end.mono_s > delta.start.mono_s)


def _throughout(run: Run, delta: EnergyDelta) -> str | None:
    """The phase of a run that held the device over the whole interval in one phase; None = it has to be cut."""
    start_s = delta.start.mono_s
    if run.since.mono_s > start_s or (run.end is not None and run.end.mono_s < delta.end.mono_s):
        return None
    if not run.phases:
        return ""
    newest = run.phases[-1]
    return newest.name if newest.since_mono_s <= start_s else None


def _phase_at(run: Run, mono_s: float) -> str:
    return next((phase.name for phase in reversed(run.phases) if phase.since_mono_s <= mono_s), "")


def _edges(runs: list[Run], delta: EnergyDelta) -> list[float]:
    first, last = delta.start.mono_s, delta.end.mono_s
    if last <= first:
        return [first, last]
    moments = {run.since.mono_s for run in runs} | {run.end.mono_s for run in runs if run.end is not None}
    moments |= {phase.since_mono_s for run in runs for phase in run.phases}
    return sorted({first, last} | {moment for moment in moments if first < moment < last})

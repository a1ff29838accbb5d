"""What a run will have come to at its end, if it goes on as it does: for runs that tell how far they are."""

import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from monitor.core.carbon import grams_of, in_use
from monitor.core.model import Basis, Intensity, Rate, Sample, Signal
from monitor.core.snapshot import Policy, Projection, RunTotals
from monitor.core.units import JOULES_PER_KILOWATTHOUR

LEAST_DONE_RATIO = 0.01
"""Less is no ground for a projection: warm-up and the first compilation are not the pace of the rest."""


_NONE: Mapping[str, Projection] = MappingProxyType({})


def of_runs(runs: Iterable[RunTotals], sample: Sample, policy: Policy) -> Mapping[str, Projection]:
    """Those of the runs that go on and tell how far they are. Grams are of the zone of the node."""
    telling = [one for one in runs if one.run.progress.done_ratio is not None and one.active]
    if not telling:
        return _NONE
    now_s = sample.at.wall_s
    slots = in_use([slot for slot in sample.intensities if slot.zone == policy.zone], now_s)
    flat = next((slot for slot in slots if slot.signal is Signal.AVERAGE), None)
    expected = next(
        (
            one.slots
            for one in sample.grid.outlooks
            if flat is not None and (one.zone, one.signal, one.basis) == (flat.zone, Signal.AVERAGE, flat.basis)
        ),
        (),
    )
    found = {}
    for one in telling:
        projection = project(
            done_ratio=one.run.progress.done_ratio,
            duration_s=one.duration_s,
            energy_j=math.fsum(one.energy_j.values()),
            emissions_g=_of_basis(one, flat.basis if flat is not None else None),
            now_wall_s=now_s,
            expected=expected,
            flat=flat,
            pue_ratio=policy.pue_ratio,
        )
        if projection is not None:
            found[one.run.id] = projection
    return MappingProxyType(found)


def _of_basis(totals: RunTotals, basis: Basis | None) -> float | None:
    """Live grams so far; None where they are of another basis than what is to come, for bases are never added."""
    if basis is None or any(key[1] is not basis and grams > 0.0 for key, grams in totals.emissions_g.items()):
        return None
    return math.fsum(totals.emissions_g.values())


def project(
    *,
    done_ratio: float | None,
    duration_s: float,
    energy_j: float,
    emissions_g: float | None,
    now_wall_s: float,
    expected: Sequence[Rate],
    flat: Intensity | None,
    pue_ratio: float,
) -> Projection | None:
    """Go on at the mean pace and the mean power so far; None before a hundredth is done.

    `expected` are grams per kWh in the order of time; what they do not cover is priced with `flat`, the value in use.
    `emissions_g` is what it has emitted so far; None = grams are not projected.
    """
    if done_ratio is None or not LEAST_DONE_RATIO <= done_ratio <= 1.0 or duration_s <= 0.0:
        return None
    left_s = duration_s * (1.0 - done_ratio) / done_ratio
    power_w = energy_j / duration_s
    end_s = now_wall_s + left_s
    grams: list[float] = []
    covered_s = 0.0
    for slot in expected:
        from_s, until_s = max(now_wall_s, slot.valid_from_s), min(end_s, slot.valid_until_s)
        if until_s > from_s:
            covered_s += until_s - from_s
            grams.append(power_w * (until_s - from_s) / JOULES_PER_KILOWATTHOUR * slot.amount * pue_ratio)
    uncovered_s = max(0.0, left_s - covered_s)
    if flat is not None:
        grams.append(grams_of(power_w * uncovered_s, flat, pue_ratio))
    is_known = flat is not None or uncovered_s <= 0.0
    return Projection(
        end_wall_s=end_s,
        energy_j=energy_j + power_w * left_s,
        emissions_g=emissions_g + math.fsum(grams) if is_known and emissions_g is not None else None,
    )

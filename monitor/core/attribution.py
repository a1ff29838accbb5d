"""Whose joules: what one device used, split over the runs that held or used it, and the remainder.

held by one run     whole, at once
held by several     by SM utilisation once a look at the device covers the time, its idle part equally; else equally
divided (MIG)       by slices
held by nobody      waits for a run that is found late, then nobody's
CPU, memory         by CPU time and memory once a `Usage` covers the time; the idle part by cores or GPUs held
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import NamedTuple

from monitor.core.model import Component, Device, Run
from monitor.core.usage import Window
from monitor.core.waiting import Look, Waiting

COMMON = frozenset({Component.CPU, Component.DRAM, Component.PLATFORM})
"""What everybody on a node uses and nobody holds."""
METHOD_AND_LATER = slice(4, None)
"""Fields of Waiting that tell how its joules are known."""
SAME_CLOCK_S = 1e-3
"""The wall clock is slewed by less within a second; more is a step of it."""


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
    """Joules of one run from one device over a while."""

    span: Waiting
    """The while, and how its joules are known."""
    energy_j: float
    run_id: str = ""
    """"" = nobody's."""
    phase: str = ""
    kind: ShareKind | None = None
    """None = nobody's."""
    idle_j: float | None = None
    """Part of it that the device would have used idle; None = unknown."""


class Claim(NamedTuple):
    """A run's hold on a device for a while."""

    run: Run
    since_s: float
    until_s: float
    slice_ratio: float | None = None
    """What part of a divided device it holds; None = all of it."""


@dataclass(slots=True, kw_only=True)
class Facts:
    """What is known of the use of one device when its joules are split."""

    device: Device
    idle_w: float | None = None
    looks: Sequence[Look] = ()
    windows: Sequence[Window] = ()
    owner_by_s: float
    """Joules used up to here wait for no owner any more."""
    usage_by_s: float
    """And up to here for nobody who tells the use."""


def settle(spans: Sequence[Waiting], claims: Sequence[Claim], facts: Facts) -> tuple[list[Share], list[Waiting]]:
    """Split what can be split now: shares, nobody's among them, and what goes on waiting.

    Shares of a span add up to its joules to float rounding, for nobody's is what is left of them.
    """
    shares: list[Share] = []
    rest: list[Waiting] = []
    common = facts.device.component in COMMON and not claims
    moments = _moments(spans, claims, facts, common=common)
    for span, parts in _cells(spans, moments):
        decided = _common(span, facts) if common else _held(span, claims, facts)
        if decided is None:
            rest += parts
        else:
            shares += decided
    return shares, rest


def whole(span: Waiting, run: Run, phase: str, idle_w: float | None) -> Share:
    """All of it to the one run that held the device."""
    return Share(span, span.energy_j, run.id, phase, ShareKind.WHOLE, _idle_j(span, idle_w))


def nobodys(span: Waiting) -> Share:
    """All of it to nobody."""
    return Share(span, span.energy_j)


def phase_at(run: Run, mono_s: float) -> str:
    """What the run was doing at that moment; "" = it does not tell."""
    return next((phase.name for phase in reversed(run.phases) if phase.since_mono_s <= mono_s), "")


# -- the devices that runs hold ----------------------------------------------------------------------------------------


def _held(span: Waiting, claims: Sequence[Claim], facts: Facts) -> list[Share] | None:
    start_s, end_s = span.start_mono_s, span.end_mono_s
    present = [claim for claim in claims if claim.since_s <= start_s and claim.until_s >= end_s]
    if not present:
        return [nobodys(span)] if end_s <= facts.owner_by_s else None
    if any(claim.slice_ratio is not None for claim in present):
        return _by_slice(span, present, facts)
    if len(present) == 1:
        run = present[0].run
        return [whole(span, run, phase_at(run, start_s), facts.idle_w)]
    look = next((look for look in facts.looks if look.start_mono_s <= start_s and look.end_mono_s >= end_s), None)
    if look is None or look.users is None:
        return _divide(span, present, facts, {}) if end_s <= facts.usage_by_s else None
    return _divide(span, present, facts, dict(look.users))


def _divide(span: Waiting, present: Sequence[Claim], facts: Facts, used: Mapping[str, float | None]) -> list[Share]:
    """By utilisation, the idle part equally; all of it equally where the driver tells of nobody's utilisation."""
    idle_j = _idle_j(span, facts.idle_w)
    equally = 1.0 / len(present)
    seen = any(claim.run.id in used for claim in present)  # else it is a server's work (MPS), or numbers out of sight
    known = [ratio for ratio in used.values() if ratio is not None and seen]
    total = sum(known)
    # What processes of no run used, or of runs that do not hold it, is nobody's: no neighbour pays for it.
    parts = []
    for claim in present:
        ratio = (used.get(claim.run.id) or 0.0) / total if total > 0.0 else equally
        parts.append((claim.run, ratio, equally))
    kind = ShareKind.USAGE if known else ShareKind.EQUAL
    return _shares(span, parts, idle_j, kind)


def _by_slice(span: Waiting, present: Sequence[Claim], facts: Facts) -> list[Share]:
    """By the parts that they hold, whatever goes on within; who holds no part in particular has what is left."""
    idle_j = _idle_j(span, facts.idle_w)
    device = facts.device
    ratios = device.slice_ratios if len(device.slice_ratios) == len(device.slices) else ()
    part_of = dict(zip(device.slices, ratios or [1.0 / len(device.slices)] * len(device.slices), strict=True))
    takers = Counter(one for claim in present for one in claim.run.slices if one in part_of)
    own = [sum(part_of[one] / takers[one] for one in sorted(claim.run.slices) if one in part_of) for claim in present]
    held = sum(own)
    whole_count = sum(claim.slice_ratio is None for claim in present)
    scale = 1.0 / max(1.0, held)
    left = max(0.0, 1.0 - held) / max(1, whole_count)
    parts = []
    for claim, mine in zip(present, own, strict=True):
        ratio = left if claim.slice_ratio is None else mine * scale
        parts.append((claim.run, ratio, ratio))
    return _shares(span, parts, idle_j, ShareKind.SLICE)


# -- what everybody uses -----------------------------------------------------------------------------------------------


def _common(span: Waiting, facts: Facts) -> list[Share] | None:
    start_s, end_s = span.start_mono_s, span.end_mono_s
    window = next((one for one in facts.windows if one.start_s <= start_s and one.end_s >= end_s), None)
    if window is None:
        return [nobodys(span)] if end_s <= facts.usage_by_s else None
    idle_j = _idle_j(span, facts.idle_w)
    uses = window.memory(start_s, end_s) if facts.device.component is Component.DRAM else window.cpu(start_s, end_s)
    return _shares(span, uses, idle_j, ShareKind.USAGE)


# -- arithmetic --------------------------------------------------------------------------------------------------------


def _idle_j(span: Waiting, idle_w: float | None) -> float | None:
    if idle_w is None:
        return None
    return min(span.energy_j, idle_w * (span.end_mono_s - span.start_mono_s))


def _shares(
    span: Waiting, parts: Iterable[tuple[Run, float, float]], idle_j: float | None, kind: ShareKind
) -> list[Share]:
    """Each run its part of what is beyond idle and of the idle part; the rest is nobody's."""
    left_j = span.energy_j
    dynamic_j = span.energy_j - (idle_j or 0.0)
    shares = []
    for run, ratio, idle_ratio in parts:
        own_idle_j = None if idle_j is None else idle_j * idle_ratio
        energy_j = min(left_j, dynamic_j * ratio + (own_idle_j or 0.0))
        left_j -= energy_j
        phase = phase_at(run, span.start_mono_s) if run.phases else ""
        shares.append(Share(span, energy_j, run.id, phase, kind, own_idle_j))
    if left_j > 0.0 or not shares:
        shares.append(Share(span, left_j))
    return shares


def _moments(spans: Sequence[Waiting], claims: Sequence[Claim], facts: Facts, *, common: bool) -> list[float]:
    """Where anything changed within the spans, sorted."""
    first_s, last_s = spans[0].start_mono_s, spans[-1].end_mono_s
    moments: set[float] = set()
    if common:
        for window in facts.windows:
            moments |= {window.start_s, window.end_s, *window.moments}
        expiry_s = facts.usage_by_s
    else:
        for claim in claims:
            moments |= {claim.since_s, claim.until_s}
            moments.update(phase.since_mono_s for phase in claim.run.phases)
        if len(claims) > 1:
            moments.update(moment for look in facts.looks for moment in (look.start_mono_s, look.end_mono_s))
        expiry_s = min(facts.owner_by_s, facts.usage_by_s) if len(claims) > 1 else facts.owner_by_s
        moments.update(_last_end(spans, by_s) for by_s in (facts.owner_by_s, facts.usage_by_s))
    moments.add(_last_end(spans, expiry_s))
    return sorted(moment for moment in moments if first_s < moment < last_s)


def _last_end(spans: Sequence[Waiting], by_s: float) -> float:
    """End of the last span that is over by then: what waits too long is told span by span, never cut for it."""
    return max((span.end_mono_s for span in spans if span.end_mono_s <= by_s), default=float("-inf"))


def _cells(spans: Sequence[Waiting], moments: Sequence[float]) -> Iterator[tuple[Waiting, list[Waiting]]]:
    """Spans cut at the moments, and put together between them where they are alike; with what they consist of."""
    edges = frozenset(moments)
    parts: list[Waiting] = []
    for span in spans:
        for part in _cut(span, moments) if moments else (span,):
            if parts and (part.start_mono_s in edges or not _goes_on(parts[-1], part)):
                yield _together(parts), parts
                parts = []
            parts.append(part)
    if parts:
        yield _together(parts), parts


def _together(parts: Sequence[Waiting]) -> Waiting:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return _piece(first, first.start_mono_s, parts[-1].end_mono_s, sum(part.energy_j for part in parts))


def _cut(span: Waiting, moments: Sequence[float]) -> Iterator[Waiting]:
    inner = [moment for moment in moments if span.start_mono_s < moment < span.end_mono_s]
    if not inner:
        yield span
        return
    length_s = span.end_mono_s - span.start_mono_s
    left_j, start_s = span.energy_j, span.start_mono_s
    for moment in inner:
        part_j = min(left_j, span.energy_j * ((moment - start_s) / length_s))
        left_j -= part_j
        yield _piece(span, start_s, moment, part_j)
        start_s = moment
    yield _piece(span, start_s, span.end_mono_s, left_j)


def _piece(span: Waiting, start_s: float, end_s: float, energy_j: float) -> Waiting:
    """Joules that are known as those of the span."""
    _start_s, _end_s, wall_offset_s, _energy_j, method, is_seen, is_timed, recovered = span
    return Waiting(start_s, end_s, wall_offset_s, energy_j, method, is_seen, is_timed, recovered)


def _goes_on(before: Waiting, part: Waiting) -> bool:
    return (
        before.end_mono_s == part.start_mono_s
        and abs(before.wall_offset_s - part.wall_offset_s) < SAME_CLOCK_S
        and before[METHOD_AND_LATER] == part[METHOD_AND_LATER]
    )

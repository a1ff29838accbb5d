"""Which runs hold which devices, and when: made of the book of runs once a turn."""

import math
from collections.abc import Iterator, Mapping

from monitor.core.attribution import COMMON, Claim
from monitor.core.model import Component, Device, Run, Sample
from monitor.core.snapshot import DeviceTotals, Snapshot

NEVER_S = math.inf


def claims_of(before: Snapshot, sample: Sample) -> Mapping[str, list[Claim]]:
    """By device, without those that ended before anything can have begun that is still to be split."""
    claims: dict[str, list[Claim]] = {}
    for run in sample.runs.runs:
        if not run.holds and not run.spells:
            continue
        for device_id, since_s, until_s in _spells(run):
            if until_s == NEVER_S or until_s >= _oldest_s(before.devices.get(device_id)):
                ratio = _slice_ratio(run, before.devices.get(device_id)) if run.slices else None
                claims.setdefault(device_id, []).append(Claim(run, since_s, until_s, ratio))
    return claims


def _oldest_s(entry: DeviceTotals | None) -> float:
    """Nothing of the device that is still to be split began before this."""
    if entry is None:
        return 0.0
    last_s = entry.last_at.mono_s
    return min(last_s, entry.waiting[0].start_mono_s) if entry.waiting else last_s


def of_run(run: Run) -> Claim:
    """As if it held something for the whole of its present stretch."""
    return Claim(run, run.since.mono_s, run.end.mono_s if run.end else NEVER_S)


def has(run: Run, device_id: str) -> bool:
    """Whether it holds the device, or has held it lately."""
    return device_id in run.holds or any(spell.device_id == device_id for spell in run.spells)


def throughout(claim: Claim, start_s: float, end_s: float) -> str | None:
    """The phase of a run that held all of the device over the whole interval in one phase; None = it has to be cut."""
    if claim.since_s > start_s or claim.until_s < end_s or claim.slice_ratio is not None:
        return None
    phases = claim.run.phases
    if not phases:
        return ""
    newest = phases[-1]
    return newest.name if newest.since_mono_s <= start_s else None


def overlap_s(claim: Claim, start_s: float, end_s: float) -> float:
    """Seconds of [start, end) in which the run held the device."""
    return max(0.0, min(end_s, claim.until_s) - max(start_s, claim.since_s))


def gpu_ratios(
    claims: Mapping[str, list[Claim]], devices: Mapping[str, DeviceTotals], since_s: float = -math.inf
) -> dict[str, float]:
    """What part of the node's GPUs each run holds, or held at its end; of those seen since then, or held."""
    gpus = [
        device_id
        for device_id, entry in devices.items()
        if _is_gpu(entry.device) and (entry.last_at.mono_s >= since_s or device_id in claims)
    ]
    ratios: dict[str, float] = {}
    for device_id in gpus:
        held = claims.get(device_id, ())
        parts: dict[str, float] = {}
        for claim in held:
            beside = sum(one.since_s < claim.until_s and one.until_s > claim.since_s for one in held)
            part = 1.0 / max(1, beside) if claim.slice_ratio is None else claim.slice_ratio
            parts[claim.run.id] = max(part, parts.get(claim.run.id, 0.0))
        for run_id, part in parts.items():
            ratios[run_id] = ratios.get(run_id, 0.0) + part / len(gpus)
    return ratios


def watts(claims: Mapping[str, list[Claim]], devices: Mapping[str, DeviceTotals]) -> dict[str, float]:
    """Power of each run: of what it holds alone all of it, of the rest the part that it had of the last joules."""
    drawn: dict[str, float] = {}
    for device_id, entry in devices.items():
        power_w, device = entry.power_w, entry.device
        if power_w is None or not device.is_part:
            continue
        held = [one for one in claims.get(device_id, ()) if one.until_s == NEVER_S and one.run.end is None]
        if not held and device.component not in COMMON:
            continue
        parts = {held[0].run.id: held[0].slice_ratio or 1.0} if len(held) == 1 else entry.ratios
        if len(held) > 1 and not parts:
            parts = {claim.run.id: 1.0 / len(held) for claim in held}
        for run_id, ratio in parts.items():
            drawn[run_id] = drawn.get(run_id, 0.0) + ratio * power_w
    return drawn


def _spells(run: Run) -> Iterator[tuple[str, float, float]]:
    since_s = run.since.mono_s
    end_s = run.end.mono_s if run.end is not None else NEVER_S
    told = {spell.device_id for spell in run.spells} if run.spells else ()
    for device_id in run.holds:
        if device_id not in told:
            yield device_id, since_s, end_s
    for spell in run.spells:
        until_s = end_s if spell.until_mono_s is None else min(end_s, spell.until_mono_s)
        yield spell.device_id, max(since_s, spell.since_mono_s), until_s


def _slice_ratio(run: Run, entry: DeviceTotals | None) -> float | None:
    if entry is None:
        return None
    device = entry.device
    own = [number for number, slice_id in enumerate(device.slices) if slice_id in run.slices]
    if not own:
        return None
    if len(device.slice_ratios) != len(device.slices):
        return len(own) / len(device.slices)
    return math.fsum(device.slice_ratios[number] for number in own)


def _is_gpu(device: Device) -> bool:
    return device.is_part and device.component in (Component.GPU, Component.MODULE)

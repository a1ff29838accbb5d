"""The report of one run on one node, and its short form for lists: made of a published snapshot. No disk, no clock."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from exporters.quantities import joules
from exporters.report_budget import budget_words
from exporters.report_model import COLUMNS, FORMAT, VERSION
from exporters.report_sci import score
from monitor import __version__
from monitor.core.model import Component, Intensity, Method, Origin, Quality, Run, Settled, Signal
from monitor.core.snapshot import EmissionsKey, Interval, RunTotals, Snapshot

ALWAYS_MISSING = "fans, network, storage and power supplies"
MOST_ROWS = 20_000
"""A report stays within about 2 MB: of longer histories the rows are added up to coarser buckets."""
BUCKETS_S = (60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0)
MOST_FACTORS = 10_000
"""Some 4 MB: more than the versions of a month of half hours."""
ROUNDING = 6
"""Decimals of the seconds and joules of a row."""
NO_SENSOR = "no sensor on this node"
NOT_THE_RUNS = "metered on this node, but none of it is the run's"
SMALLEST_GAP_S = 0.05
"""Less unmeasured time than this is the rounding of clocks."""

Row = list[Any]


def report_document(
    entry: RunTotals,
    snapshot: Snapshot,
    *,
    intervals: Sequence[Interval] | None,
    factors: Sequence[Intensity],
    node: str,
    written_at_wall_s: float,
    also_missing: Sequence[str] = (),
    others: Sequence[Intensity] = (),
    providers: Mapping[str, Sequence[str]] | None = None,
    pue_changes: Sequence[tuple[float, float]] = (),
) -> dict[str, Any]:
    """The document of `schemas/report.json`. `intervals` is None where nobody keeps them.

    `written_at_wall_s` is the moment that the totals are of, in Unix time: of two reports the later one counts.
    `factors` price its joules, `others` were known, too; `providers` of each zone in the order of preference;
    `pue_changes` are (Unix time, PUE from then on), empty where nobody remembers.
    """
    ratios = sorted({ratio for _since_s, ratio in pue_changes}) or [snapshot.policy.pue_ratio]
    versions, left_out = _versions(factors, others)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "trainwatt": __version__,
        "node": node,
        "ledger": snapshot.ledger_id,
        "written_at_unix_s": written_at_wall_s,
        **_totals(entry),
        "settled": settled_words(snapshot.grid.settled.get(entry.run.id)),
        "extras": _extras(entry, snapshot, (*factors, *others)),
        "budget": budget_words(entry.run, snapshot.policy),
        "pue_ratio": ratios[0] if len(ratios) == 1 else None,
        "pue_changes": [
            {"valid_from_unix_s": since_s, "pue_ratio": ratio} for since_s, ratio in pue_changes if len(ratios) > 1
        ],
        "zone": _zone(snapshot, intervals),
        "devices": _devices(entry, snapshot, intervals or (), node),
        "factors": [{"node": node, **intensity_words(slot), "in_use": in_use} for slot, in_use in versions],
        "factors_left_out": left_out,
        "providers": {zone: list(names) for zone, names in (providers or {}).items()},
        "intervals": None if intervals is None else _intervals(intervals),
        "missing": [*_missing(entry, snapshot), *also_missing],
        "parts": [],
        "left_out": [],
        "warnings": [],
    }
    return {**document, "sci": score(document)}


def run_summary(entry: RunTotals, snapshot: Snapshot) -> dict[str, Any]:
    """The report without devices, factors and intervals, and with the power of now in W."""
    settled = settled_words(snapshot.grid.settled.get(entry.run.id))
    return {
        "ledger": snapshot.ledger_id,
        **_totals(entry),
        "settled": settled,
        "budget": budget_words(entry.run, snapshot.policy),
        "power_w": entry.power_w,
    }


def _totals(entry: RunTotals) -> dict[str, Any]:
    run = entry.run
    return {
        "run": run_words(run),
        "active": entry.active,
        "start_unix_s": run.start.wall_s,
        "end_unix_s": run.end.wall_s if run.end else None,
        "duration_s": entry.duration_s,
        "progress": progress_words(entry),
        "energy_j": energy_parts(entry),
        "idle_energy_j": dict(entry.idle_j),
        "phase_energy_j": dict(entry.phase_j),
        "emissions_g": emissions_parts(entry.emissions_g),
        "unpriced_energy_j": max(0.0, entry.unpriced_j),
        "recovered_energy_j": entry.recovered_j,
        "held_device_s": max(0.0, entry.held_s),
        "measured_device_s": max(0.0, entry.measured_s),
        "measured_time_ratio": measured_ratio(entry.held_s, entry.measured_s),
    }


def run_words(run: Run) -> dict[str, Any]:
    """What it is."""
    return {
        "id": run.id,
        "name": run.name,
        "user": run.user,
        "project": run.project,
        "launcher": run.launcher,
        "job_id": run.job_id,
        "tags": dict(run.tags),
    }


def progress_words(entry: RunTotals) -> dict[str, Any]:
    """How far it has come."""
    told = entry.run.progress
    return {"steps": told.steps, "tokens": told.tokens, "samples": told.samples, "done_ratio": told.done_ratio}


def energy_parts(entry: RunTotals) -> list[dict[str, Any]]:
    """Its joules by component, method and share."""
    return [
        {"component": component, "method": method, "share": share, "energy_j": energy_j}
        for (component, method, share), energy_j in entry.energy_j.items()
    ]


def emissions_parts(emissions_g: Mapping[EmissionsKey, float]) -> list[dict[str, Any]]:
    """Grams by method, basis and quality."""
    return [
        {"method": method, "basis": basis, "quality": quality, "emissions_g": grams}
        for (method, basis, quality), grams in emissions_g.items()
    ]


def settled_words(settled: Settled | None) -> dict[str, Any] | None:
    """Its grams priced again; None where nobody has."""
    if settled is None:
        return None
    return {
        "emissions_g": [
            {"basis": basis, "emissions_g": settled.emissions_g[basis]} for basis in sorted(settled.emissions_g)
        ],
        "settled_ratio": settled.final_ratio,
        "energy_j": settled.energy_j,
        "unpriced_energy_j": max(0.0, settled.unpriced_j),
        "priced_at_unix_s": settled.priced_at_s,
        "repriced": False,
    }


def _extras(entry: RunTotals, snapshot: Snapshot, factors: Sequence[Intensity]) -> dict[str, Any]:
    """What else it comes to. A 0 is told only where the setting makes it one: settings may be younger than the run."""
    extras, policy = entry.extras, snapshot.policy
    used_nothing = not any(entry.energy_j.values())
    marginal = [slot.grams_per_kilowatthour for slot in factors if slot.signal is Signal.MARGINAL]
    rates = [rate.amount for rate in snapshot.grid.rates]

    def told(value: float, *configured: float | None) -> float | None:
        given = [factor for factor in configured if factor is not None]
        is_none = given and (used_nothing or not any(given))
        return value or (0.0 if is_none else None)

    cost = told(extras.cost, *rates) if policy.currency else None
    return {
        "marginal_emissions_g": told(extras.marginal_g, *marginal),
        "embodied_emissions_g": extras.embodied_g or None,
        "market_based_emissions_g": told(extras.market_g, policy.market_grams_per_kilowatthour),
        "cost": None if cost is None else {"amount": cost, "currency": policy.currency},
        "water_l": told(extras.water_l, policy.water_liters_per_kilowatthour),
    }


def _versions(factors: Sequence[Intensity], more: Sequence[Intensity]) -> tuple[list[tuple[Intensity, bool]], int]:
    """Every version with whether it is in use, and how many others were left out: forecasts first, oldest first.

    A forecast of days is another version of each of its slots with every fetch.
    """
    in_use = dict.fromkeys(factors)
    others = [slot for slot in dict.fromkeys(more) if slot not in in_use]
    excess = max(0, len(in_use) + len(others) - MOST_FACTORS)
    if excess:
        others.sort(key=lambda slot: (slot.quality is not Quality.FORECAST, slot.fetched_at_s or 0.0))
    kept = others[excess:]
    versions = [*((slot, True) for slot in in_use), *((slot, False) for slot in kept)]
    versions.sort(key=lambda version: (version[0].zone, version[0].valid_from_s, version[0].fetched_at_s or 0.0))
    return versions, len(others) - len(kept)


def measured_ratio(held_s: float, measured_s: float) -> float | None:
    """Part of the held device-seconds that a sensor saw; None where nothing was held."""
    return min(1.0, max(0.0, measured_s / held_s)) if held_s > 0.0 else None


def intensity_words(slot: Intensity) -> dict[str, Any]:
    """One factor. JSON has no infinity: an unbounded slot has no end."""
    return {
        "zone": slot.zone,
        "signal": slot.signal,
        "grams_per_kilowatthour": slot.grams_per_kilowatthour,
        "provider": slot.provider,
        "basis": slot.basis,
        "quality": slot.quality,
        "valid_from_s": slot.valid_from_s if math.isfinite(slot.valid_from_s) else None,
        "valid_until_s": slot.valid_until_s if math.isfinite(slot.valid_until_s) else None,
        "detail": slot.detail,
        "fetched_at_s": slot.fetched_at_s,
        "updated_at_s": slot.updated_at_s,
        "made_by": slot.made_by,
        "dataset": slot.dataset,
    }


def _zone(snapshot: Snapshot, intervals: Sequence[Interval] | None) -> str | None:
    """What its energy was priced in; of a run without intervals, the zone of today."""
    if not intervals:
        return snapshot.policy.zone
    zones = {interval.zone for interval in intervals}
    return (zones.pop() or None) if len(zones) == 1 else None


def _devices(entry: RunTotals, snapshot: Snapshot, intervals: Iterable[Interval], node: str) -> list[dict[str, Any]]:
    methods: dict[str, set[Method]] = {device_id: set() for device_id in entry.run.holds}
    for interval in intervals:
        methods.setdefault(interval.device_id, set()).add(interval.method)
    return [_device(device_id, methods[device_id], snapshot, node) for device_id in sorted(methods)]


def _device(device_id: str, methods: set[Method], snapshot: Snapshot, node: str) -> dict[str, Any]:
    known = snapshot.devices.get(device_id)
    device = known.device if known else None
    return {
        "node": node,
        "id": device_id,
        "component": device.component if device else None,
        "source": device.source if device else None,
        "model": device.model if device else None,
        "index": device.index if device else None,
        "methods": sorted(methods or (known.energy_j if known else ())),
        "calibration_ratio": device.calibration_ratio if device else None,
        "error_ratio": device.error_ratio if device else None,
    }


def _intervals(intervals: Sequence[Interval]) -> dict[str, Any]:
    bucket_s = None
    if len(intervals) <= MOST_ROWS:
        rows = [_row(interval[1:7], interval[7:]) for interval in intervals]
    else:
        least_s = sum(interval.end_wall_s - interval.start_wall_s for interval in intervals) / MOST_ROWS
        for bucket_s in (*(bucket for bucket in BUCKETS_S[:-1] if bucket >= least_s), BUCKETS_S[-1]):
            rows = _added_up(intervals, bucket_s)
            if len(rows) <= MOST_ROWS:
                break
    return {"columns": list(COLUMNS), "bucket_s": bucket_s, "rows": rows}


def _row(words: Iterable[Any], figures: Iterable[float]) -> Row:
    """A row of device to recovered, and of start, end, energy, idle energy and measured seconds."""
    start_s, end_s, energy_j, idle_j, measured_s = (round(figure, ROUNDING) for figure in figures)
    # No device draws nothing when idle: 0 is what an idle power that is not known yet leaves.
    known_idle_j = idle_j if idle_j > 0.0 else None
    return [start_s, end_s, *words, energy_j, known_idle_j, measured_s]


def _added_up(intervals: Iterable[Interval], bucket_s: float) -> list[Row]:
    """Intervals of one bucket and of the same kind as one row, which spans from the first of them to the last.

    Its idle joules are known only where those of all of them are.
    """
    buckets: dict[tuple[Any, ...], list[float]] = {}
    for interval in intervals:
        start_s, end_s, energy_j, idle_j, measured_s = interval[7:]
        key = (start_s // bucket_s, interval[1:7])
        into = buckets.get(key)
        if into is None:
            buckets[key] = [start_s, end_s, energy_j, idle_j or math.nan, measured_s]
        else:
            into[0] = min(into[0], start_s)
            into[1] = max(into[1], end_s)
            into[2] += energy_j
            into[3] += idle_j or math.nan
            into[4] += measured_s
    return [_row(words, figures) for (_bucket, words), figures in buckets.items()]


def _missing(entry: RunTotals, snapshot: Snapshot) -> list[str]:
    words = [] if entry.energy_j else ["energy: it holds no device whose joules anything tells"]
    words += [
        line for part in (Component.GPU, Component.CPU, Component.DRAM) if (line := _lacks(part, entry, snapshot))
    ]
    unmeasured_s = entry.held_s - entry.measured_s
    if unmeasured_s > SMALLEST_GAP_S:
        words.append(f"{unmeasured_s:.1f} of the {entry.held_s:.1f} device-seconds that it held: no sensor saw them")
    if entry.unpriced_j > 0.0:
        why = "no carbon intensity was known" if snapshot.policy.zone else "no grid zone is set"
        words.append(f"grams of {joules(entry.unpriced_j)}: {why}")
    return [*words, ALWAYS_MISSING]


def unmetered(snapshot: Snapshot) -> list[str]:
    """What no sensor tells on this node, in words: known before a run has used anything."""
    parts = (Component.GPU, Component.CPU, Component.DRAM)
    return [*(f"{part.upper()}: {NO_SENSOR}" for part in parts if not _is_metered(part, snapshot)), ALWAYS_MISSING]


def _lacks(part: Component, entry: RunTotals, snapshot: Snapshot) -> str:
    """Why a part of the machine is not in the run's joules, or is only estimated; "" where it is in them."""
    name = part.upper()
    methods = {method for component, method, _share in entry.energy_j if component is part}
    if methods:
        return f"{name}: no sensor here; its joules are estimated" if methods == {Method.ESTIMATED} else ""
    if part is not Component.DRAM and any(component is Component.MODULE for component, _, _ in entry.energy_j):
        return ""  # a module is its GPU and its CPU
    return f"{name}: {NOT_THE_RUNS if _is_metered(part, snapshot) else NO_SENSOR}"


def _is_metered(part: Component, snapshot: Snapshot) -> bool:
    """Whether a sensor tells joules of it, its own or that of the module it is in."""
    inside = {part, Component.MODULE} - ({Component.MODULE} if part is Component.DRAM else set())
    return any(
        known.device.component in inside and known.energy_j and known.device.origin is not Origin.ESTIMATED
        for known in snapshot.devices.values()
    )

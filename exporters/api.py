"""The published snapshot as JSON: what `/api/v1/*` answers and the page draws. SI units in every field name."""

import math
from collections.abc import Mapping
from typing import Any

from exporters.report_budget import budget_words
from exporters.report_document import (
    emissions_parts,
    energy_parts,
    intensity_words,
    measured_ratio,
    progress_words,
    run_words,
)
from monitor import __version__
from monitor.core.carbon import in_use, told_until_s
from monitor.core.model import FeedHealth, Instant, Intensity, LedgerHealth, Outlook, Rate, Settled, SourceHealth
from monitor.core.snapshot import DeviceTotals, NodeEnergyKey, Policy, RunTotals, Snapshot


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """Everything that is known after the last turn."""
    return {
        "version": __version__,
        "ledger": snapshot.ledger_id,
        "ledger_health": _ledger(snapshot.ledger),
        "at": _instant(snapshot.at),
        "resumed_at": _instant(snapshot.resumed_at),
        "simulated": any(entry.device.origin == "simulated" for entry in snapshot.devices.values()),
        "node": {
            "measured_power_w": snapshot.node_power_w,
            "measured_energy_j": _energy(snapshot.node_energy_j),
            "emissions_g": emissions_parts(snapshot.node_emissions_g),
            "unpriced_energy_j": snapshot.node_unpriced_j,
            "pue_ratio": snapshot.policy.pue_ratio,
            "zone": snapshot.policy.zone,
        },
        "devices": devices_document(snapshot),
        "runs": [_run(entry, snapshot.policy) for entry in snapshot.runs.values()],
        "projects": [
            {"project": name, "energy_j": _energy(totals.energy_j), "emissions_g": emissions_parts(totals.emissions_g)}
            for name, totals in snapshot.projects.items()
        ],
        "grid": _intensities(snapshot),
        "grid_state": _grid_state(snapshot),
        "sources": [_source(health) for health in snapshot.sources],
        "late_ticks": snapshot.late_ticks,
        "runs_dropped": snapshot.runs_dropped,
        "names_altered": snapshot.names_altered,
    }


def devices_document(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Every device, the overlapping ones too."""
    return [_device(entry) for entry in snapshot.devices.values()]


def grid_document(snapshot: Snapshot) -> dict[str, Any]:
    """Zones, intensities in order of preference, feeds, what is expected, prices, and settled grams of the runs."""
    return {"at": _instant(snapshot.at), "grid": _intensities(snapshot), **_grid_state(snapshot)}


def _grid_state(snapshot: Snapshot) -> dict[str, Any]:
    """All but the intensities: what is known of the grid beside what prices the present."""
    policy, state = snapshot.policy, snapshot.grid
    return {
        "zone": policy.zone,
        "found": policy.zone_found,
        "device_zones": dict(policy.zones),
        "pue_ratio": policy.pue_ratio,
        "market_grams_per_kilowatthour": policy.market_grams_per_kilowatthour,
        "water_liters_per_kilowatthour": policy.water_liters_per_kilowatthour,
        "feeds": [_feed(feed) for feed in state.feeds],
        "revisions": dict(state.revisions),
        "outlooks": [_outlook(outlook) for outlook in state.outlooks],
        "currency": policy.currency or None,
        "prices": [_rate(rate) for rate in state.rates],
        "settled": {run_id: _settled(settled) for run_id, settled in state.settled.items()},
    }


def _intensities(snapshot: Snapshot) -> list[dict[str, Any]]:
    """In order of preference; `in_use` marks what prices the present of its zone, `age_s` runs from a value's end."""
    now_s = snapshot.at.wall_s if snapshot.at is not None else None
    used = {id(slot) for slot in in_use(snapshot.intensities, now_s)} if now_s is not None else set()
    return [
        {
            **intensity_words(slot),
            "fetched_at_s": slot.fetched_at_s,
            "updated_at_s": slot.updated_at_s,
            "made_by": slot.made_by,
            "dataset": slot.dataset,
            "age_s": _age_s(slot, now_s),
            "in_use": id(slot) in used,
        }
        for slot in snapshot.intensities
    ]


def _age_s(slot: Intensity, now_s: float | None) -> float | None:
    """Since the end of the interval that the value was made for; 0 within it. None for what holds for ever."""
    if now_s is None or slot.is_for_ever:
        return None
    return max(0.0, now_s - told_until_s(slot))


def _feed(feed: FeedHealth) -> dict[str, Any]:
    return {
        "provider": feed.provider,
        "zone": feed.zone,
        "last_success_s": feed.last_success_s,
        "failures": dict(feed.failures),
        "problem": feed.problem,
    }


def _outlook(outlook: Outlook) -> dict[str, Any]:
    return {
        "zone": outlook.zone,
        "provider": outlook.provider,
        "basis": outlook.basis,
        "signal": outlook.signal,
        "issued_at_s": outlook.issued_at_s,
        "slots": [
            {"from_s": slot.valid_from_s, "until_s": slot.valid_until_s, "grams_per_kilowatthour": slot.amount}
            for slot in outlook.slots
        ],
        "mean_error_g": outlook.mean_error_g,
        "bias_g": outlook.bias_g,
        "error_ratio": outlook.error_ratio,
    }


def _rate(rate: Rate) -> dict[str, Any]:
    """JSON has no infinity: what holds at any time has neither a beginning nor an end."""
    from_s, until_s = (edge if math.isfinite(edge) else None for edge in rate[1:])
    return {"amount": rate.amount, "from_s": from_s, "until_s": until_s}


def _settled(settled: Settled) -> dict[str, Any]:
    return {
        "emissions_g": dict(settled.emissions_g),
        "energy_j": settled.energy_j,
        "final_ratio": settled.final_ratio,
        "unpriced_energy_j": settled.unpriced_j,
        "priced_at_s": settled.priced_at_s,
    }


def _energy(energy_j: Mapping[NodeEnergyKey, float]) -> list[dict[str, Any]]:
    return [
        {"component": component, "method": method, "energy_j": joules}
        for (component, method), joules in energy_j.items()
    ]


def _device(entry: DeviceTotals) -> dict[str, Any]:
    device, telemetry = entry.device, entry.telemetry
    return {
        "id": device.id,
        "component": device.component,
        "source": device.source,
        "model": device.model,
        "index": device.index,
        "origin": device.origin,
        "within": device.within,
        "calibration_ratio": device.calibration_ratio,
        "error_ratio": device.error_ratio,
        "read_at": _instant(entry.meter.last.at if entry.meter.last else None),
        "energy_j": dict(entry.energy_j),
        "attributed_energy_j": entry.attributed_j,
        "unattributed_energy_j": entry.unattributed_j,
        "pending_energy_j": entry.pending_j,
        "unmeasured_s": entry.unmeasured_s,
        "energy_resets": entry.resets,
        "energy_crosscheck_ratio": entry.crosscheck.ratio,
        "power_w": entry.power_w,
        "idle_power_w": entry.idle.power_w,
        "power_limit_w": telemetry.power_limit_w,
        "utilization_ratio": telemetry.utilization_ratio,
        "memory_used_bytes": telemetry.memory_used_bytes,
        "temperature_c": telemetry.temperature_c,
        "throttled_s": dict(telemetry.throttled_s),
        "slices": list(device.slices),
        "slice_ratios": list(device.slice_ratios),
        "processes": _processes(entry),
        "users": _users(entry),
    }


def _users(entry: DeviceTotals) -> list[dict[str, Any]] | None:
    """Which runs the newest look found on it, "" for processes of none; None where no look has been resolved."""
    users = next((look.users for look in reversed(entry.looks) if look.users is not None), None)
    return None if users is None else [{"run": run_id, "sm_utilization_ratio": ratio} for run_id, ratio in users]


def _processes(entry: DeviceTotals) -> list[dict[str, Any]] | None:
    if entry.processes is None:
        return None
    return [
        {
            "pid": process.pid,
            "memory_bytes": process.memory_bytes,
            "sm_utilization_ratio": process.sm_utilization_ratio,
            "slice": process.slice_id,
        }
        for process in entry.processes.processes
    ]


def _run(entry: RunTotals, policy: Policy) -> dict[str, Any]:
    run = entry.run
    return {
        **run_words(run),
        "active": entry.active,
        "start": _instant(run.start),
        "resumed": _instant(run.resumed),
        "end": _instant(run.end),
        "duration_s": entry.duration_s,
        "holds": sorted(run.holds),
        "slices": sorted(run.slices),
        "progress": progress_words(entry),
        "power_w": entry.power_w,
        "energy_j": energy_parts(entry),
        "idle_energy_j": dict(entry.idle_j),
        "phase_energy_j": dict(entry.phase_j),
        "recovered_energy_j": entry.recovered_j,
        "held_device_s": entry.held_s,
        "measured_device_s": entry.measured_s,
        "measured_time_ratio": measured_ratio(entry.held_s, entry.measured_s),
        "emissions_g": emissions_parts(entry.emissions_g),
        "unpriced_energy_j": entry.unpriced_j,
        "budget": budget_words(run, policy),
    }


def _ledger(health: LedgerHealth) -> dict[str, Any]:
    return {
        "state": health.state,
        "lag_s": health.lag_s,
        "write_failures": health.write_failures,
        "problem": health.problem,
    }


def _source(health: SourceHealth) -> dict[str, Any]:
    return {
        "source": health.source,
        "up": health.up,
        "last_success": _instant(health.last_success),
        "read_duration_s": health.read_duration_s,
        "failures": dict(health.failures),
        "late_reads": health.late_ticks,
        "problem": health.problem,
    }


def _instant(at: Instant | None) -> dict[str, float] | None:
    return None if at is None else {"boottime_s": at.mono_s, "unix_s": at.wall_s}

"""The published snapshot as JSON: what `/api/v1/*` answers and the page draws. SI units in every field name."""

from collections.abc import Mapping
from typing import Any

from exporters.report_document import (
    emissions_parts,
    energy_parts,
    intensity_words,
    measured_ratio,
    progress_words,
    run_words,
)
from monitor import __version__
from monitor.core.model import Instant, LedgerHealth, SourceHealth
from monitor.core.snapshot import DeviceTotals, NodeEnergyKey, RunTotals, Snapshot


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
        "runs": [_run(entry) for entry in snapshot.runs.values()],
        "projects": [
            {"project": name, "energy_j": _energy(totals.energy_j), "emissions_g": emissions_parts(totals.emissions_g)}
            for name, totals in snapshot.projects.items()
        ],
        "grid": grid_document(snapshot),
        "sources": [_source(health) for health in snapshot.sources],
        "late_ticks": snapshot.late_ticks,
        "runs_dropped": snapshot.runs_dropped,
        "names_altered": snapshot.names_altered,
    }


def devices_document(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Every device, the overlapping ones too."""
    return [_device(entry) for entry in snapshot.devices.values()]


def grid_document(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The carbon intensities of now, in order of preference."""
    return [intensity_words(slot) for slot in snapshot.intensities]


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


def _run(entry: RunTotals) -> dict[str, Any]:
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

"""The published snapshot as JSON: what `/api/v1/*` answers and the page draws. SI units in every field name."""

import math
from collections.abc import Mapping
from typing import Any

from monitor import __version__
from monitor.core.model import Instant, Intensity, SourceHealth
from monitor.core.snapshot import DeviceTotals, EmissionsKey, RunTotals, Snapshot


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """Everything that is known after the last turn."""
    return {
        "version": __version__,
        "ledger": snapshot.ledger_id,
        "at": _instant(snapshot.at),
        "simulated": any(entry.device.origin == "simulated" for entry in snapshot.devices.values()),
        "node": {
            "measured_power_w": snapshot.node_power_w,
            "measured_energy_j": [
                {"component": component, "method": method, "energy_j": energy_j}
                for (component, method), energy_j in snapshot.node_energy_j.items()
            ],
            "emissions_g": _emissions(snapshot.node_emissions_g),
            "unpriced_energy_j": snapshot.node_unpriced_j,
            "pue_ratio": snapshot.policy.pue_ratio,
            "zone": snapshot.policy.zone,
        },
        "devices": [_device(entry) for entry in snapshot.devices.values()],
        "runs": [_run(entry) for entry in snapshot.runs.values()],
        "grid": [_intensity(slot) for slot in snapshot.intensities],
        "sources": [_source(health) for health in snapshot.sources],
        "late_ticks": snapshot.late_ticks,
    }


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
        "power_limit_w": telemetry.power_limit_w,
        "utilization_ratio": telemetry.utilization_ratio,
        "memory_used_bytes": telemetry.memory_used_bytes,
        "temperature_c": telemetry.temperature_c,
        "slices": list(device.slices),
        "processes": _processes(entry),
    }


def _processes(entry: DeviceTotals) -> list[dict[str, Any]] | None:
    if entry.processes is None:
        return None
    return [
        {
            "pid": process.pid,
            "memory_bytes": process.memory_bytes,
            "sm_utilization_ratio": process.sm_utilization_ratio,
        }
        for process in entry.processes.processes
    ]


def _run(entry: RunTotals) -> dict[str, Any]:
    run = entry.run
    return {
        "id": run.id,
        "name": run.name,
        "user": run.user,
        "project": run.project,
        "launcher": run.launcher,
        "job_id": run.job_id,
        "active": entry.active,
        "start": _instant(run.start),
        "end": _instant(run.end),
        "duration_s": entry.duration_s,
        "holds": sorted(run.holds),
        "power_w": entry.power_w,
        "energy_j": [
            {"component": component, "method": method, "share": share, "energy_j": energy_j}
            for (component, method, share), energy_j in entry.energy_j.items()
        ],
        "emissions_g": _emissions(entry.emissions_g),
        "unpriced_energy_j": entry.unpriced_j,
    }


def _emissions(emissions_g: Mapping[EmissionsKey, float]) -> list[dict[str, Any]]:
    return [
        {"method": method, "basis": basis, "quality": quality, "emissions_g": grams}
        for (method, basis, quality), grams in emissions_g.items()
    ]


def _intensity(slot: Intensity) -> dict[str, Any]:
    return {
        "zone": slot.zone,
        "signal": slot.signal,
        "grams_per_kilowatthour": slot.grams_per_kilowatthour,
        "provider": slot.provider,
        "basis": slot.basis,
        "quality": slot.quality,
        "valid_from_s": _finite(slot.valid_from_s),
        "valid_until_s": _finite(slot.valid_until_s),
        "detail": slot.detail,
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


def _finite(value: float) -> float | None:
    """JSON has no infinity: an unbounded slot has no end."""
    return value if math.isfinite(value) else None

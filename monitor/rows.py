"""How the metrics read their rows off a snapshot: label values and a number each. Reading only, no arithmetic."""

import math
from collections.abc import Callable, Iterator

from monitor.core.model import SourceHealth
from monitor.core.snapshot import DeviceTotals, RunTotals, Snapshot

Rows = Iterator[tuple[tuple[str, ...], float]]
"""Label values, in the order of the metric's labels, and the value."""


def per_device(value: Callable[[DeviceTotals], float | None]) -> Callable[[Snapshot], Rows]:
    """One row a summed device that has a value. None = absent, never 0."""

    def rows(snapshot: Snapshot) -> Rows:
        for entry in _parts(snapshot):
            shown = value(entry)
            if shown is not None:
                yield (entry.device.id, entry.device.component), shown

    return rows


def _parts(snapshot: Snapshot) -> Iterator[DeviceTotals]:
    return (entry for entry in snapshot.devices.values() if entry.device.is_part)


def _overlaps(snapshot: Snapshot) -> Iterator[DeviceTotals]:
    return (entry for entry in snapshot.devices.values() if not entry.device.is_part)


def device_energy(snapshot: Snapshot) -> Rows:
    """One row a summed device and method."""
    for entry in _parts(snapshot):
        for method, energy_j in entry.energy_j.items():
            yield (entry.device.id, entry.device.component, method), energy_j


def crosscheck(snapshot: Snapshot) -> Rows:
    """One row a summed device whose counter and power sensor have been compared."""
    for entry in _parts(snapshot):
        if entry.crosscheck.ratio is not None:
            yield (entry.device.id,), entry.crosscheck.ratio


def device_info(snapshot: Snapshot) -> Rows:
    """One row a device."""
    for entry in snapshot.devices.values():
        device = entry.device
        labels = (device.id, device.component, device.source, device.model, device.index)
        yield (*labels, f"{device.calibration_ratio:g}"), 1.0


def per_run(value: Callable[[RunTotals], float | None]) -> Callable[[Snapshot], Rows]:
    """One row a run that has a value."""

    def rows(snapshot: Snapshot) -> Rows:
        for entry in snapshot.runs.values():
            shown = value(entry)
            if shown is not None:
                yield (entry.run.id, snapshot.ledger_id), shown

    return rows


def overlap_energy(snapshot: Snapshot) -> Rows:
    """One row an overlapping device and method."""
    for entry in _overlaps(snapshot):
        device = entry.device
        for method, energy_j in entry.energy_j.items():
            yield (device.id, device.component, device.within, method), energy_j


def overlap_power(snapshot: Snapshot) -> Rows:
    """One row an overlapping device that tells its watts."""
    for entry in _overlaps(snapshot):
        if entry.power_w is not None:
            yield (entry.device.id, entry.device.component, entry.device.within), entry.power_w


def run_energy(snapshot: Snapshot) -> Rows:
    """One row a run, component, method and share."""
    for entry in snapshot.runs.values():
        for (component, method, share), energy_j in entry.energy_j.items():
            yield (entry.run.id, snapshot.ledger_id, component, method, share), energy_j


def run_idle_energy(snapshot: Snapshot) -> Rows:
    """One row a run and component whose idle power is known."""
    for entry in snapshot.runs.values():
        for component, energy_j in entry.idle_j.items():
            yield (entry.run.id, snapshot.ledger_id, component), energy_j


def project_energy(snapshot: Snapshot) -> Rows:
    """One row a project, component and method."""
    for name, totals in snapshot.projects.items():
        for (component, method), energy_j in totals.energy_j.items():
            yield (name, component, method), energy_j


def project_emissions(snapshot: Snapshot) -> Rows:
    """One row a project, method, basis and quality."""
    for name, totals in snapshot.projects.items():
        for (method, basis, quality), emissions_g in totals.emissions_g.items():
            yield (name, method, basis, quality), emissions_g


def run_phase_energy(snapshot: Snapshot) -> Rows:
    """One row a run and phase."""
    for entry in snapshot.runs.values():
        for phase, energy_j in entry.phase_j.items():
            yield (entry.run.id, snapshot.ledger_id, phase), energy_j


def run_measured_time(entry: RunTotals) -> float | None:
    """Share of the run's device time that a sensor saw."""
    return entry.measured_s / entry.held_s if entry.held_s > 0.0 else None


def ledger_info(snapshot: Snapshot) -> Rows:
    """The ledger, and where it is kept."""
    yield (snapshot.ledger_id, snapshot.ledger.state), 1.0


def run_emissions(snapshot: Snapshot) -> Rows:
    """One row a run, method, basis and quality."""
    for entry in snapshot.runs.values():
        for (method, basis, quality), emissions_g in entry.emissions_g.items():
            yield (entry.run.id, snapshot.ledger_id, method, basis, quality), emissions_g


def run_info(snapshot: Snapshot) -> Rows:
    """One row a run."""
    for entry in snapshot.runs.values():
        run = entry.run
        yield (run.id, snapshot.ledger_id, run.name, run.user, run.project, run.launcher, run.job_id), 1.0


def run_devices(snapshot: Snapshot) -> Rows:
    """One row an active run and device that it holds."""
    for entry in snapshot.runs.values():
        if entry.active:
            for device_id in sorted(entry.run.holds):
                yield (entry.run.id, snapshot.ledger_id, device_id), 1.0


def grid_intensity(snapshot: Snapshot) -> Rows:
    """One row a zone and signal."""
    for slot in snapshot.intensities:
        yield (slot.zone, slot.signal), slot.grams_per_kilowatthour


def grid_info(snapshot: Snapshot) -> Rows:
    """One row a zone, signal and provenance."""
    for slot in snapshot.intensities:
        yield (slot.zone, slot.signal, slot.provider, slot.basis, slot.quality), 1.0


def grid_valid_until(snapshot: Snapshot) -> Rows:
    """One row a slot that ends."""
    for slot in snapshot.intensities:
        if math.isfinite(slot.valid_until_s):
            yield (slot.zone, slot.signal), slot.valid_until_s


def per_source(value: Callable[[SourceHealth], float | None]) -> Callable[[Snapshot], Rows]:
    """One row a source that has a value."""

    def rows(snapshot: Snapshot) -> Rows:
        for health in snapshot.sources:
            shown = value(health)
            if shown is not None:
                yield (health.source,), shown

    return rows


def source_failures(snapshot: Snapshot) -> Rows:
    """One row a source and reason."""
    for health in snapshot.sources:
        for reason, count in health.failures:
            yield (health.source, reason), float(count)


def single(value: Callable[[Snapshot], float | None]) -> Callable[[Snapshot], Rows]:
    """A single row without labels, or none."""

    def rows(snapshot: Snapshot) -> Rows:
        shown = value(snapshot)
        if shown is not None:
            yield (), shown

    return rows


def node_energy(snapshot: Snapshot) -> Rows:
    """One row a component and method."""
    yield from snapshot.node_energy_j.items()


def node_emissions(snapshot: Snapshot) -> Rows:
    """One row a method, basis and quality."""
    yield from snapshot.node_emissions_g.items()

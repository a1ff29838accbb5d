"""How the metrics read their rows off a snapshot: label values and a number each. Reading only, no arithmetic."""

import math
from collections.abc import Callable, Iterator

from monitor.core import budget
from monitor.core.carbon import in_use, told_until_s
from monitor.core.model import Intensity, Signal, SourceHealth
from monitor.core.snapshot import Budget, DeviceTotals, Projection, RunTotals, Snapshot

FORECAST_HOURS = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 36, 48)
"""So far ahead the expected intensity is exported."""

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


def device_throttled(snapshot: Snapshot) -> Rows:
    """One row a device and reason that its driver counts."""
    for entry in _parts(snapshot):
        for reason, throttled_s in entry.telemetry.throttled_s:
            yield (entry.device.id, reason), throttled_s


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
    runs = [entry.run for entry in snapshot.runs.values()]
    # Those that ended a while ago keep their words as long as their figures may still change.
    runs += [one.run for key, one in snapshot.grid.settled.items() if one.run is not None and key not in snapshot.runs]
    for run in runs:
        yield (run.id, snapshot.ledger_id, run.name, run.user, run.project, run.launcher, run.job_id), 1.0


def run_devices(snapshot: Snapshot) -> Rows:
    """One row an active run and device that it holds."""
    for entry in snapshot.runs.values():
        if entry.active:
            for device_id in sorted(entry.run.holds):
                yield (entry.run.id, snapshot.ledger_id, device_id), 1.0


def run_settled(snapshot: Snapshot) -> Rows:
    """One row a run and basis."""
    for run_id, settled in snapshot.grid.settled.items():
        for basis, emissions_g in settled.emissions_g.items():
            yield (run_id, snapshot.ledger_id, basis), emissions_g


def run_settled_ratio(snapshot: Snapshot) -> Rows:
    """One row a run that has been priced again; of one without joules there is no share."""
    for run_id, settled in snapshot.grid.settled.items():
        if settled.energy_j > 0.0:
            yield (run_id, snapshot.ledger_id), settled.final_ratio


def run_cost(snapshot: Snapshot) -> Rows:
    """One row a run, where electricity has a price."""
    currency = snapshot.policy.currency
    if currency:
        for entry in snapshot.runs.values():
            yield (entry.run.id, snapshot.ledger_id, currency), entry.extras.cost


def run_extra(
    value: Callable[[RunTotals], float], is_counted: Callable[[Snapshot], object]
) -> Callable[[Snapshot], Rows]:
    """One row a run, where the daemon was told what to count it with: absent, not 0, where it was not."""

    def rows(snapshot: Snapshot) -> Rows:
        if is_counted(snapshot):
            for entry in snapshot.runs.values():
                yield (entry.run.id, snapshot.ledger_id), value(entry)

    return rows


def projected(value: Callable[[Projection], float | None]) -> Callable[[Snapshot], Rows]:
    """One row a run of which it is known how far it is."""

    def rows(snapshot: Snapshot) -> Rows:
        for run_id, projection in snapshot.projections.items():
            shown = value(projection)
            if shown is not None:
                yield (run_id, snapshot.ledger_id), shown

    return rows


def run_budget(value: Callable[[Budget], float | None]) -> Callable[[Snapshot], Rows]:
    """One row a run that has a budget of this kind."""

    def rows(snapshot: Snapshot) -> Rows:
        for entry in snapshot.runs.values():
            shown = value(budget.of_run(entry.run, snapshot.policy))
            if shown is not None:
                yield (entry.run.id, snapshot.ledger_id), shown

    return rows


def price(snapshot: Snapshot) -> Rows:
    """What a kilowatt-hour costs now."""
    if snapshot.at is None:
        return
    now_s = snapshot.at.wall_s
    for rate in snapshot.grid.rates:
        if rate.valid_from_s <= now_s < rate.valid_until_s:
            yield (snapshot.policy.currency,), rate.amount


def grid_intensity(snapshot: Snapshot) -> Rows:
    """One row a zone and signal."""
    for slot in _in_use(snapshot):
        yield (slot.zone, slot.signal), slot.grams_per_kilowatthour


def grid_info(snapshot: Snapshot) -> Rows:
    """One row a zone, signal and provenance."""
    for slot in _in_use(snapshot):
        yield (slot.zone, slot.signal, slot.provider, slot.basis, slot.quality), 1.0


def grid_valid_until(snapshot: Snapshot) -> Rows:
    """One row a zone and signal whose value is of an interval that ends."""
    for slot in _in_use(snapshot):
        until_s = told_until_s(slot)
        if math.isfinite(until_s):
            yield (slot.zone, slot.signal), until_s


def _in_use(snapshot: Snapshot) -> list[Intensity]:
    return in_use(snapshot.intensities, snapshot.at.wall_s) if snapshot.at is not None else []


def grid_forecast(snapshot: Snapshot) -> Rows:
    """One row a zone and number of hours from now for which something is expected."""
    if snapshot.at is None:
        return
    for outlook in snapshot.grid.outlooks:
        if outlook.signal is not Signal.AVERAGE:
            continue
        for hours in FORECAST_HOURS:
            then_s = snapshot.at.wall_s + hours * 3600.0
            for slot in outlook.slots:
                if slot.valid_from_s <= then_s < slot.valid_until_s:
                    yield (outlook.zone, str(hours)), slot.amount


def grid_forecast_error(snapshot: Snapshot) -> Rows:
    """One row a zone whose forecasts have been compared with what came."""
    for outlook in snapshot.grid.outlooks:
        if outlook.signal is Signal.AVERAGE and outlook.error_ratio is not None:
            yield (outlook.zone,), outlook.error_ratio


def grid_revisions(snapshot: Snapshot) -> Rows:
    """One row a zone."""
    for zone, count in snapshot.grid.revisions.items():
        yield (zone,), float(count)


def grid_failures(snapshot: Snapshot) -> Rows:
    """One row a provider and reason, all its zones together."""
    counts: dict[tuple[str, ...], float] = {}
    for feed in snapshot.grid.feeds:
        for reason, count in feed.failures:
            counts[feed.provider, reason] = counts.get((feed.provider, reason), 0.0) + count
    yield from counts.items()


def grid_last_success(snapshot: Snapshot) -> Rows:
    """One row a provider that has answered."""
    newest: dict[tuple[str, ...], float] = {}
    for feed in snapshot.grid.feeds:
        if feed.last_success_s is not None:
            newest[feed.provider,] = max(newest.get((feed.provider,), 0.0), feed.last_success_s)
    yield from newest.items()


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

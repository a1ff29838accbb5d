"""One run's sums while a turn is folded: mutable here, frozen by `totals`."""

from types import MappingProxyType

from monitor.core.attribution import Share, ShareKind
from monitor.core.model import Component, Run
from monitor.core.snapshot import EmissionsKey, Extras, RunEnergyKey, RunTotals


class RunCount:
    """Starts from what the run had before the turn."""

    def __init__(self, before: RunTotals | None) -> None:
        self.energy_j: dict[RunEnergyKey, float] = dict(before.energy_j) if before else {}
        self.emissions_g: dict[EmissionsKey, float] = dict(before.emissions_g) if before else {}
        self.phase_j: dict[str, float] = dict(before.phase_j) if before else {}
        self.idle_j: dict[Component, float] = dict(before.idle_j) if before else {}
        self.unpriced_j = before.unpriced_j if before else 0.0
        self.recovered_j = before.recovered_j if before else 0.0
        self.held_s = before.held_s if before else 0.0
        self.measured_s = before.measured_s if before else 0.0
        self.extras = before.extras if before else Extras()

    def add(self, share: Share, component: Component) -> None:
        """Book one share, and its time. Its price is booked apart, for it may be cut at the slots' edges."""
        span = share.span
        key = (component, span.method, share.kind or ShareKind.WHOLE)
        self.energy_j[key] = self.energy_j.get(key, 0.0) + share.energy_j
        if share.idle_j is not None:
            self.idle_j[component] = self.idle_j.get(component, 0.0) + share.idle_j
        if share.phase:
            self.phase_j[share.phase] = self.phase_j.get(share.phase, 0.0) + share.energy_j
        if span.recovered:
            self.recovered_j += share.energy_j
        if span.is_timed:
            span_s = span.end_mono_s - span.start_mono_s
            self.held_s += span_s
            self.measured_s += span_s if span.is_seen else 0.0

    def totals(self, run: Run, *, power_w: float | None, duration_s: float) -> RunTotals:
        """Freeze."""
        return RunTotals(
            run=run,
            energy_j=MappingProxyType(self.energy_j),
            emissions_g=MappingProxyType(self.emissions_g),
            phase_j=MappingProxyType(self.phase_j),
            idle_j=MappingProxyType(self.idle_j),
            unpriced_j=self.unpriced_j,
            recovered_j=self.recovered_j,
            held_s=self.held_s,
            measured_s=max(0.0, self.measured_s),
            extras=self.extras,
            power_w=power_w,
            duration_s=duration_s,
        )


def going_on(before: RunTotals, *, power_w: float | None, duration_s: float) -> RunTotals:
    """The totals of a run of which nothing was booked: `dataclasses.replace`, for which fifty runs are too many."""
    return RunTotals(
        run=before.run,
        energy_j=before.energy_j,
        emissions_g=before.emissions_g,
        phase_j=before.phase_j,
        idle_j=before.idle_j,
        unpriced_j=before.unpriced_j,
        recovered_j=before.recovered_j,
        held_s=before.held_s,
        measured_s=before.measured_s,
        extras=before.extras,
        power_w=power_w,
        duration_s=duration_s,
    )

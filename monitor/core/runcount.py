"""One run's sums while a turn is folded: mutable here, frozen by `totals`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from monitor.core.attribution import Share, ShareKind
from monitor.core.model import Component, Run
from monitor.core.snapshot import EmissionsKey, Extras, RunEnergyKey, RunTotals

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def thawed(totals: Mapping[_Key, _Value]) -> dict[_Key, _Value]:
    """What a snapshot has, to be added to: a proxy copies its dict in an eighth of the time that `dict()` takes."""
    return totals.copy() if isinstance(totals, MappingProxyType) else dict(totals)


class RunCount:
    """Starts from what the run had before the turn."""

    def __init__(self, before: RunTotals | None) -> None:
        self.energy_j: dict[RunEnergyKey, float] = thawed(before.energy_j) if before else {}
        self.emissions_g: dict[EmissionsKey, float] = thawed(before.emissions_g) if before else {}
        self.phase_j: dict[str, float] = thawed(before.phase_j) if before else {}
        self.idle_j: dict[Component, float] = thawed(before.idle_j) if before else {}
        self.unpriced_j = before.unpriced_j if before else 0.0
        self.recovered_j = before.recovered_j if before else 0.0
        self.held_s = before.held_s if before else 0.0
        self.measured_s = before.measured_s if before else 0.0
        self.extras = before.extras if before else Extras()

    def add(self, share: Share, component: Component) -> None:
        """Book one share, and its time. Its price is booked apart, for it may be cut at the slots' edges."""
        span = share.span
        key = (component, span.method, share.kind or ShareKind.WHOLE)
        energy_j, idle_j, phase = share.energy_j, share.idle_j, share.phase
        self.energy_j[key] = self.energy_j.get(key, 0.0) + energy_j
        if idle_j is not None:
            self.idle_j[component] = self.idle_j.get(component, 0.0) + idle_j
        if phase:
            self.phase_j[phase] = self.phase_j.get(phase, 0.0) + energy_j
        if span.recovered:
            self.recovered_j += energy_j
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


_SLOTS = vars(RunTotals)
_put_run = _SLOTS["run"].__set__
_put_energy_j = _SLOTS["energy_j"].__set__
_put_emissions_g = _SLOTS["emissions_g"].__set__
_put_phase_j = _SLOTS["phase_j"].__set__
_put_idle_j = _SLOTS["idle_j"].__set__
_put_unpriced_j = _SLOTS["unpriced_j"].__set__
_put_recovered_j = _SLOTS["recovered_j"].__set__
_put_held_s = _SLOTS["held_s"].__set__
_put_measured_s = _SLOTS["measured_s"].__set__
_put_extras = _SLOTS["extras"].__set__
_put_power_w = _SLOTS["power_w"].__set__
_put_duration_s = _SLOTS["duration_s"].__set__


def going_on(before: RunTotals, *, power_w: float | None, duration_s: float) -> RunTotals:
    """The totals of a run of which nothing was booked: `dataclasses.replace`, for which fifty runs are too many.

    Slot by slot, for a frozen dataclass takes twice as long to set its fields by itself.
    """
    after = object.__new__(RunTotals)
    _put_run(after, before.run)
    _put_energy_j(after, before.energy_j)
    _put_emissions_g(after, before.emissions_g)
    _put_phase_j(after, before.phase_j)
    _put_idle_j(after, before.idle_j)
    _put_unpriced_j(after, before.unpriced_j)
    _put_recovered_j(after, before.recovered_j)
    _put_held_s(after, before.held_s)
    _put_measured_s(after, before.measured_s)
    _put_extras(after, before.extras)
    _put_power_w(after, power_w)
    _put_duration_s(after, duration_s)
    return after

"""What one turn books: joules and grams of runs, of projects and of the node, and every share for the ledger."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import add
from types import MappingProxyType

from monitor.core.attribution import COMMON, Share, ShareKind
from monitor.core.model import Component, Device, Method, Run, Sample
from monitor.core.pricing import Prices
from monitor.core.runcount import RunCount, thawed
from monitor.core.snapshot import (
    MOST_PROJECTS,
    NO_PROJECT,
    OTHER_PROJECTS,
    EmissionsKey,
    Extras,
    Interval,
    NodeEnergyKey,
    ProjectTotals,
    Snapshot,
)

_Project = tuple[dict[NodeEnergyKey, float], dict[EmissionsKey, float]]
"""Joules and grams of one."""
_NO_TOTALS = ProjectTotals()


class Account:
    """Mutable inside one turn."""

    def __init__(self, before: Snapshot, sample: Sample, runs: Mapping[str, Run]) -> None:
        self.node_emissions_g: dict[EmissionsKey, float] = thawed(before.node_emissions_g)
        self.node_unpriced_j = before.node_unpriced_j
        self.counts: dict[str, RunCount] = {}
        self.booked: list[Interval] = []
        self._before = before
        self._runs = runs
        self._projects: dict[str, _Project] = {}
        self._project_of_run: dict[str, _Project] = {}
        self._prices = Prices(before.policy, sample)
        self._is_priced = bool(sample.intensities)
        """Whether anybody tells an intensity: else all joules are unpriced."""

    def count(self, run_id: str) -> RunCount:
        """The sums of one run."""
        count = self.counts.get(run_id)
        if count is None:
            count = self.counts[run_id] = RunCount(self._before.runs.get(run_id))
        return count

    def charge_node(
        self, device: Device, energy_j: float, method: Method, start_wall_s: float, end_wall_s: float
    ) -> None:
        """Price what the node used, whoever it was."""
        self.node_unpriced_j += self.price(device, energy_j, start_wall_s, end_wall_s, method, self.node_emissions_g)

    def reserve(self, run_id: str, device: Device, span_s: float) -> None:
        """A run had a device, or its part of it, for so long without joules to book for that time."""
        if self._prices.has_extras:
            self._count_beside(self.count(run_id), device, 0.0, 0.0, 0.0, span_s)

    def book(self, device: Device, shares: Iterable[Share]) -> float:
        """Give runs and nobody their joules, which the node was charged for before; return those of the runs."""
        attributed_j = 0.0
        if self._prices.has_extras:
            shares = list(shares)
            self._count_shares_beside(device, shares)
        zone = self._prices.zone_of(device)
        price = self._prices.tariff(zone).price
        for share in shares:
            if share.kind is not None:
                span, energy_j = share.span, share.energy_j
                attributed_j += energy_j
                count, project_g = self._give(device.component, share)
                if self._is_priced:
                    start_s, end_s = span.start_mono_s + span.wall_offset_s, span.end_mono_s + span.wall_offset_s
                    count.unpriced_j += price(energy_j, start_s, end_s, span.method, (count.emissions_g, project_g))
                else:
                    count.unpriced_j += energy_j
            self._note(device.id, zone, share)
        return attributed_j

    def book_at_once(self, device: Device, share: Share) -> None:
        """Give a run all that the device used, and charge the node for it: one price for both."""
        span = share.span
        count, project_g = self._give(device.component, share)
        zone = self._prices.zone_of(device)
        unpriced_j = share.energy_j
        if self._is_priced:
            unpriced_j = self._prices.tariff(zone).price(
                share.energy_j,
                span.start_mono_s + span.wall_offset_s,
                span.end_mono_s + span.wall_offset_s,
                span.method,
                (self.node_emissions_g, count.emissions_g, project_g),
            )
        if unpriced_j:
            self.node_unpriced_j += unpriced_j
            count.unpriced_j += unpriced_j
        if self._prices.has_extras:
            self._count_shares_beside(device, (share,))
        self._note(device.id, zone, share)

    def _count_shares_beside(self, device: Device, shares: Sequence[Share]) -> None:
        """Count what else the shares of one device come to. Who shares a GPU has an equal part of its time.

        CPUs and memory are held by nobody: their time goes as their joules do.
        """
        holders = Counter(share.span for share in shares if share.kind is not None)
        for share in shares:
            if share.kind is None:
                continue
            span = share.span
            start_s, end_s = span.start_mono_s + span.wall_offset_s, span.end_mono_s + span.wall_offset_s
            by_joules = device.component in COMMON or share.kind is ShareKind.SLICE
            ratio = share.energy_j / span.energy_j if by_joules and span.energy_j > 0.0 else 1.0 / holders[span]
            reserved_s = (end_s - start_s) * ratio if span.is_timed else 0.0
            self._count_beside(self.count(share.run_id), device, share.energy_j, start_s, end_s, reserved_s)

    def _count_beside(  # noqa: PLR0917  (as Prices.extras)
        self, count: RunCount, device: Device, energy_j: float, start_s: float, end_s: float, reserved_s: float
    ) -> None:
        more = self._prices.extras(device, energy_j, start_s, end_s, reserved_s)
        count.extras = Extras(*map(add, count.extras, more))

    def _give(self, component: Component, share: Share) -> tuple[RunCount, dict[EmissionsKey, float]]:
        """Book its joules to the run and to the project of the run; return the sums of the run, the project's grams."""
        run_id = share.run_id
        count = self.count(run_id)
        count.add(share, component)
        project = self._project_of_run.get(run_id)
        if project is None:
            name = self._runs[run_id].project or NO_PROJECT
            project = self._project_of_run[run_id] = self._open_project(name)
        energy_j, emissions_g = project
        key = (component, share.span.method)
        energy_j[key] = energy_j.get(key, 0.0) + share.energy_j
        return count, emissions_g

    def _note(self, device_id: str, zone: str, share: Share) -> None:
        span, energy_j, run_id, phase, kind, idle_j = share
        start_s, end_s, wall_offset_s, used_j, method, is_seen, is_timed, recovered = span
        # Nobody's time is what no run had: beside shares of runs, what is left is joules without time.
        is_measured = is_seen and is_timed and (kind is not None or energy_j >= used_j)
        # Without the class's own constructor, which takes twice as long: with many runs there are hundreds in a turn.
        interval = (
            run_id,
            device_id,
            zone,
            phase,
            method,
            kind,
            recovered,
            start_s + wall_offset_s,
            end_s + wall_offset_s,
            energy_j,
            idle_j or 0.0,
            end_s - start_s if is_measured else 0.0,
        )
        self.booked.append(tuple.__new__(Interval, interval))

    def _open_project(self, name: str) -> _Project:
        entry = self._projects.get(name)
        if entry is None:
            known = self._before.projects.keys() | self._projects.keys()
            if name not in known and len(known) >= MOST_PROJECTS:
                name = OTHER_PROJECTS
            entry = self._projects.get(name)
        if entry is None:
            before = self._before.projects.get(name, _NO_TOTALS)
            entry = self._projects[name] = (thawed(before.energy_j), thawed(before.emissions_g))
        return entry

    def projects(self) -> Mapping[str, ProjectTotals]:
        """Every project, those too of which the turn booked nothing."""
        if not self._projects:
            return self._before.projects
        changed = {
            name: ProjectTotals(energy_j=MappingProxyType(energy_j), emissions_g=MappingProxyType(emissions_g))
            for name, (energy_j, emissions_g) in self._projects.items()
        }
        return MappingProxyType(thawed(self._before.projects) | changed)

    def price(
        self,
        device: Device,
        energy_j: float,
        start_s: float,
        end_s: float,
        method: Method,
        *into: dict[EmissionsKey, float],
    ) -> float:
        """Add the grams of a device's energy over [start, end) of Unix time; return the joules that have no price."""
        if not self._is_priced:
            return energy_j
        prices = self._prices
        return prices.tariff(prices.zone_of(device)).price(energy_j, start_s, end_s, method, into)

"""What is known after a turn: the immutable result of the fold, the one thing that exporters see."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from monitor.core.attribution import COMMON, ShareKind
from monitor.core.crosscheck import CrossCheck
from monitor.core.meter import Meter
from monitor.core.model import (
    Basis,
    Component,
    Device,
    GridState,
    Instant,
    Intensity,
    LedgerHealth,
    Method,
    Processes,
    Quality,
    Run,
    RunBook,
    SourceHealth,
    Telemetry,
    Usage,
)
from monitor.core.waiting import Idle, Look, Waiting

SILENT_S = 2.0
"""Longer than any device of an interval of a second lags behind."""

OTHER_PROJECTS = "other"
"""Joules of all projects that came when there were MOST_PROJECTS."""
NO_PROJECT = "none"
"""Joules of runs that belong to no project."""
MOST_PROJECTS = 100

RunEnergyKey = tuple[Component, Method, ShareKind]
NodeEnergyKey = tuple[Component, Method]
EmissionsKey = tuple[Method, Basis, Quality]


class Interval(NamedTuple):
    """Joules of one device over [start, end) of Unix time: whose, and how they are known. The ledger keeps them."""

    run_id: str
    """"" = nobody's."""
    device_id: str
    zone: str
    """Grid zone they are priced in; "" = none is set."""
    phase: str
    method: Method
    share: ShareKind | None
    """None = nobody's."""
    recovered: bool
    """Used while no daemon ran, and told afterwards by the hardware counter."""
    start_wall_s: float
    end_wall_s: float
    energy_j: float
    idle_j: float
    measured_s: float
    """Seconds of the interval that a sensor saw."""


_EMPTY: Mapping[Any, Any] = MappingProxyType({})


def _empty() -> Mapping[Any, Any]:
    return _EMPTY


_NONE: Mapping[Any, Any] = MappingProxyType({})
_UNTOLD = Telemetry()


class Budget(NamedTuple):
    """What a whole run may use, all its nodes together. None = nobody set a bound."""

    energy_j: float | None = None
    emissions_g: float | None = None
    cost: float | None = None
    """In the currency of the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings that the arithmetic depends on; they change only with a restart."""

    pue_ratio: float = 1.0
    zone: str | None = None
    """Grid zone of the node; None = none is known, and grams are absent."""
    zone_found: str = ""
    """How it was found, for people."""
    zones: Mapping[str, str] = field(default_factory=_empty)
    """Zones of devices that are fed from another grid, by device id."""
    embodied_g_per_s: Mapping[str, float] = field(default_factory=_empty)
    """Of devices, by device id or component: what making one emitted over its expected life in use."""
    market_grams_per_kilowatthour: float | None = None
    """Factor of the site's contracts; None = none was given."""
    water_liters_per_kilowatthour: float | None = None
    currency: str = ""
    """Of the price, as ISO 4217 has it; "" = no price was given."""
    budget: Budget = field(default_factory=Budget)
    """Of a run that names none itself, and whose project has none."""
    project_budgets: Mapping[str, Budget] = field(default_factory=_empty)
    """Of each run of a project."""
    stale_after_s: float = 5.0
    """Without a reading for so long, a device loses its watts."""
    lost_after_s: float = 900.0
    """Without a reading for so long, a counter's baseline is given up and the outage counts as unmeasured."""
    owner_wait_s: float = 0.0
    """So long the joules of a device that nobody holds wait for a run that is found late; 0 = runs are not found."""
    usage_wait_s: float = 0.0
    """So long the joules of what several use wait to be told who used how much; 0 = nobody tells."""


class DeviceTotals(NamedTuple):
    """One device: its joules since the start of the count, who had them, and how it is now."""

    device: Device
    energy_j: Mapping[Method, float]
    last_at: Instant
    """Up to here its time is accounted for, as joules or as unmeasured seconds."""
    attributed_j: float = 0.0
    unattributed_j: float = 0.0
    pending_j: float = 0.0
    unmeasured_s: float = 0.0
    resets: int = 0
    power_w: float | None = None
    telemetry: Telemetry = _UNTOLD
    telemetry_at: Instant | None = None
    waiting: tuple[Waiting, ...] = ()
    """The joules of `pending_j`, oldest first."""
    processes: Processes | None = None
    """What ran on it at the last look; None where nobody can tell."""
    looks: tuple[Look, ...] = ()
    """The last looks at who used it, oldest first."""
    idle: Idle = Idle()
    ratios: Mapping[str, float] = _NONE
    """What part each run had of the last joules that were split; of the moment, so it is not kept over a restart."""
    meter: Meter = Meter()
    crosscheck: CrossCheck = CrossCheck()


class Extras(NamedTuple):
    """What else a run's joules and reserved time come to, each a series of its own and never part of its grams."""

    marginal_g: float = 0.0
    """By the plant that one more kWh turns up: for shifting load, never for accounting."""
    embodied_g: float = 0.0
    """Its part, by reserved time, of what making the devices has emitted."""
    market_g: float = 0.0
    """By the factor of the site's contracts (GHG Protocol Scope 2, market-based)."""
    cost: float = 0.0
    """In the currency of the price."""
    water_l: float = 0.0


class RunTotals(NamedTuple):
    """One run on this node: joules and live grams since its start."""

    run: Run
    energy_j: Mapping[RunEnergyKey, float]
    emissions_g: Mapping[EmissionsKey, float]
    phase_j: Mapping[str, float] = _EMPTY
    """By phase, for a run that tells its phases."""
    idle_j: Mapping[Component, float] = _EMPTY
    """Part of its joules that its devices would have used idle; a component whose idle power is unknown is absent."""
    unpriced_j: float = 0.0
    recovered_j: float = 0.0
    """Part of its joules that was used while no daemon ran, told afterwards by the hardware counters."""
    held_s: float = 0.0
    """Device-seconds that it held, as far as they are accounted for."""
    measured_s: float = 0.0
    """Part of them that a sensor saw."""
    extras: Extras = Extras()
    power_w: float | None = None
    duration_s: float = 0.0
    """Active time, all stretches together."""

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.run.end is None


class Projection(NamedTuple):
    """Figures of the whole run, from its start to its end."""

    end_wall_s: float
    energy_j: float
    emissions_g: float | None
    """Live grams so far and those of the rest by what is expected of the grid; None = nothing is known of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectTotals:
    """Everything that the runs of one project used on this node since the start of the count."""

    energy_j: Mapping[NodeEnergyKey, float] = field(default_factory=_empty)
    emissions_g: Mapping[EmissionsKey, float] = field(default_factory=_empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of the whole monitor after one turn. Nothing in it ever changes."""

    ledger_id: str
    """Identity of the count: counters that share it go on from each other."""
    policy: Policy
    at: Instant | None = None
    """None before the first turn."""
    resumed_at: Instant | None = None
    """When this daemon took over the count of another; None = it began the count."""
    devices: Mapping[str, DeviceTotals] = field(default_factory=_empty)
    """By device id, in that order."""
    runs: Mapping[str, RunTotals] = field(default_factory=_empty)
    book: RunBook | None = None
    """What the runs are of; the same object as in the snapshot before while none of them has changed."""
    stirred: frozenset[str] | None = None
    """Runs of which the turn changed more than power and duration; None = perhaps all."""
    projections: Mapping[str, Projection] = field(default_factory=_empty)
    """What runs that tell how far they are will have come to at their end."""
    node_energy_j: Mapping[NodeEnergyKey, float] = field(default_factory=_empty)
    """Of the disjoint parts that have a sensor."""
    node_power_w: float | None = None
    """Of the disjoint parts that tell theirs now; None when none does."""
    node_emissions_g: Mapping[EmissionsKey, float] = field(default_factory=_empty)
    node_unpriced_j: float = 0.0
    """Joules of the node for which no intensity was known when they were used."""
    projects: Mapping[str, ProjectTotals] = field(default_factory=_empty)
    """By name; those beyond the first hundred are one, OTHER_PROJECTS."""
    usages: tuple[Usage, ...] = ()
    """The last spans that somebody told who used what, oldest first."""
    usage_mark: str = ""
    """`Usage.mark` of the newest."""
    sources: tuple[SourceHealth, ...] = ()
    intensities: tuple[Intensity, ...] = ()
    grid: GridState = field(default_factory=GridState)
    ledger: LedgerHealth = field(default_factory=LedgerHealth)
    runs_dropped: int = 0
    names_altered: int = 0
    late_ticks: int = 0
    booked: tuple[Interval, ...] = ()
    """What the last turn booked, device by device."""

    def tells_all_of(self, run_id: str) -> bool:
        """Whether every device that an ended run held has told of its time up to the end.

        A mean of a second speaks of half a second ago, so that the last joules come after the edge. A device that has
        been silent for longer is not waited for.
        """
        totals = self.runs.get(run_id)
        if totals is None or totals.run.end is None or self.at is None:
            return True
        start_s, end_s, now_s = totals.run.since.mono_s, totals.run.end.mono_s, self.at.mono_s
        held = totals.run.holds | {spell.device_id for spell in totals.run.spells}
        for device_id, entry in self.devices.items():
            is_common = self.policy.usage_wait_s > 0.0 and entry.device.component in COMMON
            if not entry.device.is_part or not (device_id in held or is_common):
                continue
            if now_s - SILENT_S < entry.last_at.mono_s < end_s:
                return False
            if any(span.start_mono_s < end_s and span.end_mono_s > start_s for span in entry.waiting):
                return False
        return True

"""What is observed: frozen nouns with SI units in their field names. No arithmetic, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from math import inf
from types import MappingProxyType
from typing import Any, NamedTuple


def _nothing() -> Mapping[Any, Any]:
    return MappingProxyType({})


class Instant(NamedTuple):
    """One moment on both clocks: intervals are timed by the first, slots and reports by the second."""

    mono_s: float
    """CLOCK_BOOTTIME: counts through suspend, never steps."""
    wall_s: float
    """Unix time: may step at any moment, so it is never subtracted to time an interval."""


class Component(StrEnum):
    """Which part of a machine a device is. The first three are disjoint and may be summed."""

    GPU = auto()
    CPU = auto()
    DRAM = auto()
    PLATFORM = auto()
    MODULE = auto()


class Method(StrEnum):
    """How joules became known, as shown to people (label `method`)."""

    COUNTER = auto()
    INTEGRATED = auto()
    ESTIMATED = auto()
    SIMULATED = auto()


class Origin(StrEnum):
    """Where the values of a device come from: a sensor, a formula, or a simulation."""

    MEASURED = auto()
    ESTIMATED = auto()
    SIMULATED = auto()


class PowerSignal(StrEnum):
    """What a watt value of a sensor means."""

    AVERAGE = auto()
    """Mean over a window that ends at the reading (NVML_FI_DEV_POWER_AVERAGE: 1 s)."""
    INSTANT = auto()
    """Draw at the reading, or over a window much shorter than the sampling interval."""


NODE = "node"
"""What a reading of the whole machine, or of a superchip, lies within: its parts have their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One metered part. `id` is stable over restarts and unique on its node."""

    id: str
    component: Component
    source: str
    max_power_w: float
    """Plausible upper bound of its mean power: a larger rise of its counter is not energy."""
    model: str = ""
    index: str = ""
    """Position the driver shows it at; may change over reboots, so it is never an identity."""
    origin: Origin = Origin.MEASURED
    calibration_ratio: float = 1.0
    error_ratio: float | None = None
    """Half width of the band around an estimate; None for a sensor, whose own gain error nobody knows."""
    slices: tuple[str, ...] = ()
    """Ids of the parts that it is divided into (MIG); they share its one power reading."""
    slice_ratios: tuple[float, ...] = ()
    """What part of it each of them is, in their order; () = nobody tells."""
    lists_processes: bool = False
    """Whether its driver tells which processes have work on it."""
    counter_epoch: str | None = None
    """Which count its counter belongs to (a loading of the driver): within one epoch and one boot the counter goes on,
    whoever reads it and whether anybody does. None = it begins with whoever opens it."""
    within: str = ""
    """What already counts its joules, or shares them: an overlapping device is shown, never summed. "" = a part."""

    @property
    def is_part(self) -> bool:
        """Whether it is one of the disjoint parts that are added up."""
        return not self.within


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What a device tells beside energy, now and then. None = the device does not offer it."""

    power_limit_w: float | None = None
    utilization_ratio: float | None = None
    memory_used_bytes: int | None = None
    temperature_c: float | None = None
    throttled_s: tuple[tuple[str, float], ...] = ()
    """(reason, seconds in which it was slowed down since its driver was loaded), sorted by reason."""


class Reading(NamedTuple):
    """What one device said at one moment. None = the device does not offer it; a failed read raises."""

    device: Device
    at: Instant
    """Taken beside the driver call."""
    energy_j: float | None = None
    """The raw hardware counter."""
    wraps_at_j: float | None = None
    """Modulus of the counter; None for one that never wraps."""
    power_w: float | None = None
    power_signal: PowerSignal = PowerSignal.AVERAGE
    window_s: float = 1.0
    """How long it speaks for: what its mean is taken over, or the period of a source that is read more seldom."""
    telemetry: Telemetry | None = None


class ReadFailure(NamedTuple):
    """One device could not be read at one moment. A record, so that it can never become a number."""

    device_id: str
    at: Instant
    reason: str
    """A short word of a closed set, fit for a label."""
    message: str
    """For people: what happened and what to do."""
    baseline_lost: bool = False
    """True when the device fell away: its counter may restart, so the open interval is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProcess:
    """A process that has work on a device."""

    pid: int
    """As the host counts it, also from inside a container."""
    memory_bytes: int | None = None
    sm_utilization_ratio: float | None = None
    """Mean since the last look; None where the driver does not tell, or not for this process."""
    slice_id: str = ""
    """Which of the device's slices (MIG) it runs on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Everything that runs on one device at one moment."""

    device_id: str
    at: Instant
    processes: tuple[DeviceProcess, ...] = ()


class RunUse(NamedTuple):
    """What one run used of the node's CPUs and memory over a span."""

    run_id: str
    cpu_s: float
    """CPU time of all its processes, those too that came and went meanwhile."""
    memory_bytes: int
    """Anonymous and shared memory at the end of the span."""
    core_ratio: float | None = None
    """Part of the node's cores that it was allocated; None = nothing tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the runs used of the node's CPUs and memory over [start, end), and whose the processes are at its end."""

    start: Instant
    """As `end` where nothing was known before: then there is no span to tell of."""
    end: Instant
    cpu_s: float = 0.0
    """CPU time of the whole node: all that was neither idle nor waiting."""
    cpu_capacity_s: float = 0.0
    """CPU time that there was to be had: cores x span."""
    memory_bytes: int = 0
    """Anonymous and shared memory of the whole node; 0 = the kernel did not tell."""
    runs: tuple[RunUse, ...] = ()
    """Of every run that was alive within the span, one that used nothing included."""
    owners: Mapping[int, str] | None = field(default_factory=_nothing)
    """Run of each process number; those that ended lately are in it, too. None = drivers have other numbers."""
    mark: str = ""
    """What whoever looks must know to go on from here after a restart: its own words, read by nobody else."""


class Readout(NamedTuple):
    """Everything one source said in one turn."""

    readings: tuple[Reading, ...] = ()
    failures: tuple[ReadFailure, ...] = ()
    processes: tuple[Processes, ...] = ()
    """Of the devices that were asked this time."""
    usages: tuple[Usage, ...] = ()
    """In the order of time."""
    notes: tuple[str, ...] = ()
    """What is not as it should be and lasts: shown and told like failures, but counted with none."""


class SourceHealth(NamedTuple):
    """How one source fares; made by its supervisor, shown as `source_*`."""

    source: str
    up: bool = False
    last_success: Instant | None = None
    read_duration_s: float | None = None
    failures: tuple[tuple[str, int], ...] = ()
    """(reason, count) since the daemon started, sorted by reason."""
    late_ticks: int = 0
    problem: str = ""
    """One line for people while it is not up: what is wrong and what cures it."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What a run has been doing since a moment, in the words of the job: train, eval, checkpoint."""

    name: str
    since_mono_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run has come on this node. None = the job does not tell."""

    steps: int | None = None
    """Of its ranks the furthest."""
    tokens: int | None = None
    """Of its ranks together."""
    samples: int | None = None
    """Of its ranks together."""
    done_ratio: float | None = None


class Hold(NamedTuple):
    """A device that a run held for a while."""

    device_id: str
    since_mono_s: float
    until_mono_s: float | None = None
    """None = it still does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A named piece of training work and the devices it holds."""

    id: str
    name: str
    start: Instant
    """Of its first stretch on this node."""
    resumed: Instant | None = None
    """Start of the present stretch, when it was queued again; None = `start`."""
    before_s: float = 0.0
    """Active time of the stretches before the present one."""
    end: Instant | None = None
    holds: frozenset[str] = frozenset()
    """Ids of the devices it holds now; of an ended run, those it held at its end."""
    spells: tuple[Hold, ...] = ()
    """Of devices that it did not hold for the whole of its present stretch: when it did, oldest first. A device of
    `holds` that is not in here was held from the start of the stretch."""
    slices: frozenset[str] = frozenset()
    """Of devices that are divided (MIG), the parts it holds; none of a device = all of it."""
    user: str = ""
    project: str = ""
    launcher: str = ""
    job_id: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    """Sorted by name."""
    phases: tuple[Phase, ...] = ()
    """The newest ones, oldest first: those before the last turn but one are of no use any more."""
    progress: Progress = Progress()
    memory: str = ""
    """What the book of runs must know of it after a restart: its own words, kept by the ledger, read by nobody else."""

    @property
    def since(self) -> Instant:
        """Start of the present stretch: before it, it held nothing."""
        return self.resumed or self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBook:
    """Every run to show at a moment: the alive ones, and the ended ones that are still shown."""

    runs: tuple[Run, ...] = ()
    dropped: int = 0
    """Runs that were given up because there were too many, since the daemon started."""
    altered: int = 0
    """Names, ids and tags that were cut or cleaned, since the daemon started."""
    by_id: Mapping[str, Run] = field(init=False, repr=False, compare=False)
    living: tuple[tuple[str, float, float], ...] = field(init=False, repr=False, compare=False)
    """Of those that have not ended: id, start of the present stretch (steady clock), and seconds before it."""

    def __post_init__(self) -> None:
        """Once a book, which lasts for many turns."""
        object.__setattr__(self, "by_id", MappingProxyType({run.id: run for run in self.runs}))
        living = tuple((run.id, run.since.mono_s, run.before_s) for run in self.runs if run.end is None)
        object.__setattr__(self, "living", living)


class LedgerState(StrEnum):
    """Where the count is kept."""

    FILE = auto()
    TEMPORARY = auto()
    """In a file that goes with the daemon."""
    MEMORY = auto()
    """Nowhere: it ends with the daemon."""


class LedgerHealth(NamedTuple):
    """How the ledger fares; shown as `ledger_*`."""

    state: LedgerState = LedgerState.MEMORY
    lag_s: float | None = None
    """Time since the last commit; None where nothing is kept."""
    write_failures: int = 0
    problem: str = ""
    """One line for people while it cannot write: what is wrong and what cures it."""


class Basis(StrEnum):
    """What an intensity counts: the whole life cycle of the power plants, or their stacks."""

    LIFECYCLE = auto()
    DIRECT = auto()
    UNKNOWN = auto()


class Signal(StrEnum):
    """What question an intensity answers: the mix as it is, or the plant that one more kWh turns up."""

    AVERAGE = auto()
    MARGINAL = auto()


class Quality(StrEnum):
    """How firmly an intensity is known, best first."""

    ACTUAL = auto()
    ESTIMATED = auto()
    FORECAST = auto()
    CARRIED = auto()
    STATIC = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """Carbon intensity of a grid zone over a slot [from, until) of Unix time."""

    zone: str
    grams_per_kilowatthour: float
    basis: Basis
    quality: Quality
    provider: str
    signal: Signal = Signal.AVERAGE
    valid_from_s: float
    valid_until_s: float
    detail: str = ""
    """Whom to credit, under which licence, and the edition, for reports."""
    fetched_at_s: float | None = None
    """Unix time at which it was received; None for a bundled table."""
    updated_at_s: float | None = None
    """Unix time of its last change, as the provider tells it; not the time that the value is of."""
    made_by: str = ""
    """How it was estimated, in the provider's word."""
    dataset: str = ""
    """Edition of the table or dataset; "" = the provider names none."""

    @property
    def is_for_ever(self) -> bool:
        """Whether it holds at any time, as a yearly value does."""
        return self.valid_from_s == -inf and self.valid_until_s == inf


class Rate(NamedTuple):
    """Price of a kilowatt-hour over a slot [from, until) of Unix time."""

    amount: float
    """In the policy's currency; negative prices happen."""
    valid_from_s: float
    valid_until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedHealth:
    """How one provider fares for one zone; made by the refresher, shown as `grid_fetch_*`."""

    provider: str
    zone: str
    last_success_s: float | None = None
    """Unix time."""
    failures: tuple[tuple[str, int], ...] = ()
    """(reason, count) since the daemon started, sorted by reason."""
    problem: str = ""
    """One line for people while it does not answer: what is wrong and what cures it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A run's grams on this node, priced again with what is known by now."""

    emissions_g: Mapping[Basis, float]
    """Bases are never added."""
    energy_j: float
    """All of its joules up to `priced_at_s`, those without a price included."""
    final_j: float
    """Part of them whose price can change no more."""
    unpriced_j: float = 0.0
    priced_at_s: float
    """Unix time."""
    run: Run | None = None
    """What the run is, for those that are no longer among the others; None = nobody looked it up."""

    @property
    def final_ratio(self) -> float:
        """Settled share, 0 to 1: a run without joules has nothing left to settle."""
        return min(1.0, self.final_j / self.energy_j) if self.energy_j > 0.0 else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a provider expects of a zone, and how far off it was lately."""

    zone: str
    provider: str
    basis: Basis
    signal: Signal
    issued_at_s: float
    slots: tuple[Rate, ...]
    """Grams per kWh; in the order of time, from the slot that holds at the time of asking on."""
    mean_error_g: float | None = None
    """Mean absolute error in g/kWh of its last forecasts against what came; None = not enough of them yet."""
    bias_g: float | None = None
    """Mean of forecast less actual."""
    error_ratio: float | None = None
    """`mean_error_g` over the mean of what came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridState:
    """What the refresher and the settler know beside the intensities that price the present."""

    feeds: tuple[FeedHealth, ...] = ()
    rates: tuple[Rate, ...] = ()
    """What electricity costs; in the order of time."""
    outlooks: tuple[Outlook, ...] = ()
    settled: Mapping[str, Settled] = field(default_factory=_nothing)
    """By run."""
    revisions: Mapping[str, int] = field(default_factory=_nothing)
    """Values that a provider changed after the fact, by zone, since the daemon started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """All that was observed in one turn of the loop. Observed only: nothing in it was computed."""

    at: Instant
    readings: tuple[Reading, ...] = ()
    """In the order each device gave them."""
    failures: tuple[ReadFailure, ...] = ()
    processes: tuple[Processes, ...] = ()
    usages: tuple[Usage, ...] = ()
    runs: RunBook = RunBook()
    intensities: tuple[Intensity, ...] = ()
    """Of every zone of the node and both signals, each in order of preference."""
    grid: GridState = GridState()
    sources: tuple[SourceHealth, ...] = ()
    ledger: LedgerHealth = field(default_factory=LedgerHealth)
    late_ticks: int = 0

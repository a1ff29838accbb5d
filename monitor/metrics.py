"""The one list of metrics. Exposition, METRICS.md, dashboards, rules and tests are derived from it.

A metric's rows are read off a published snapshot: no arithmetic, no lock, nothing that can raise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto

from monitor import __version__, rows
from monitor.core.model import Signal
from monitor.core.snapshot import Snapshot

PREFIX = "trainwatt_"


class Type(StrEnum):
    """Prometheus type of a family."""

    COUNTER = auto()
    GAUGE = auto()
    INFO = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One family: its name is prefix + stem + unit (+ `_total` or `_info`)."""

    stem: str
    unit: str = ""
    type: Type
    labels: tuple[str, ...] = ()
    help: str
    rows: Callable[[Snapshot], rows.Rows]

    @property
    def family(self) -> str:
        """Name of the family, as OpenMetrics has it."""
        return f"{PREFIX}{self.stem}_{self.unit}" if self.unit else f"{PREFIX}{self.stem}"

    @property
    def series(self) -> str:
        """Name of its samples, as queries have it."""
        return self.family + {Type.COUNTER: "_total", Type.GAUGE: "", Type.INFO: "_info"}[self.type]


_DEVICE = ("device", "component")
_RUN = ("run", "ledger")

DEVICE_ENERGY = Metric(
    stem="device_energy",
    unit="joules",
    type=Type.COUNTER,
    labels=(*_DEVICE, "method"),
    rows=rows.device_energy,
    help="Energy used by the device since the count began.",
)
DEVICE_ATTRIBUTED_ENERGY = Metric(
    stem="device_attributed_energy",
    unit="joules",
    type=Type.COUNTER,
    labels=_DEVICE,
    rows=rows.per_device(lambda entry: entry.attributed_j),
    help="Part of the device's energy that was charged to runs, whole or by shares.",
)
DEVICE_UNATTRIBUTED_ENERGY = Metric(
    stem="device_unattributed_energy",
    unit="joules",
    type=Type.COUNTER,
    labels=_DEVICE,
    rows=rows.per_device(lambda entry: entry.unattributed_j),
    help="Part of the device's energy that is no run's: none held it, or the time is over in which one could be found.",
)
DEVICE_PENDING_ENERGY = Metric(
    stem="device_pending_energy",
    unit="joules",
    type=Type.GAUGE,
    labels=_DEVICE,
    rows=rows.per_device(lambda entry: entry.pending_j),
    help="Part of the device's energy of which it is not known yet whose it is, or how much of it is whose.",
)
DEVICE_POWER = Metric(
    stem="device_power",
    unit="watts",
    type=Type.GAUGE,
    labels=_DEVICE,
    rows=rows.per_device(lambda entry: entry.power_w),
    help="Mean power of the last second or interval: the driver's own mean where it gives one, else energy by time.",
)
DEVICE_IDLE_POWER = Metric(
    stem="device_idle_power",
    unit="watts",
    type=Type.GAUGE,
    labels=_DEVICE,
    rows=rows.per_device(lambda entry: entry.idle.power_w),
    help="Least mean power at which the device was seen without a process and without utilisation.",
)
DEVICE_POWER_LIMIT = Metric(
    stem="device_power_limit",
    unit="watts",
    type=Type.GAUGE,
    labels=_DEVICE,
    rows=rows.per_device(lambda entry: entry.telemetry.power_limit_w),
    help="Lowest power limit in force.",
)
DEVICE_UTILIZATION = Metric(
    stem="device_utilization",
    unit="ratio",
    type=Type.GAUGE,
    labels=_DEVICE,
    rows=rows.per_device(lambda entry: entry.telemetry.utilization_ratio),
    help="Share of the time in which work was resident on the device. Not proportional to power.",
)
DEVICE_MEMORY_USED = Metric(
    stem="device_memory_used",
    unit="bytes",
    type=Type.GAUGE,
    labels=_DEVICE,
    rows=rows.per_device(lambda entry: entry.telemetry.memory_used_bytes),
    help="Device memory in use.",
)
DEVICE_TEMPERATURE = Metric(
    stem="device_temperature",
    unit="celsius",
    type=Type.GAUGE,
    labels=_DEVICE,
    rows=rows.per_device(lambda entry: entry.telemetry.temperature_c),
    help="Temperature of the device.",
)
DEVICE_THROTTLED = Metric(
    stem="device_throttled",
    unit="seconds",
    type=Type.COUNTER,
    labels=("device", "reason"),
    rows=rows.device_throttled,
    help="Time in which the device was slowed down, by reason, as its driver counts it since it was loaded.",
)
DEVICE_UNMEASURED = Metric(
    stem="device_unmeasured",
    unit="seconds",
    type=Type.COUNTER,
    labels=_DEVICE,
    rows=rows.per_device(lambda entry: entry.unmeasured_s),
    help="Time in which the device's energy is unknown. It is in no total: never filled in, never guessed.",
)
DEVICE_ENERGY_RESETS = Metric(
    stem="device_energy_resets",
    type=Type.COUNTER,
    labels=_DEVICE,
    rows=rows.per_device(lambda entry: float(entry.resets)),
    help="Times that the hardware counter restarted, so that the joules of one interval are lost.",
)
DEVICE_ENERGY_CROSSCHECK = Metric(
    stem="device_energy_crosscheck",
    unit="ratio",
    type=Type.GAUGE,
    labels=("device",),
    rows=rows.crosscheck,
    help="Energy counter over integrated average power, of the last whole minute. Far from 1: a sensor is at fault.",
)
DEVICE_ENERGY_ERROR = Metric(
    stem="device_energy_error",
    unit="ratio",
    type=Type.GAUGE,
    labels=_DEVICE,
    rows=rows.per_device(lambda entry: entry.device.error_ratio),
    help="Half width of the band around an estimate. Absent for a sensor: its own error takes a meter to know.",
)
DEVICE_INFO = Metric(
    stem="device",
    type=Type.INFO,
    labels=(*_DEVICE, "source", "model", "index", "calibration"),
    rows=rows.device_info,
    help="What the device is. calibration = factor applied to its joules.",
)
OVERLAP_ENERGY = Metric(
    stem="overlap_energy",
    unit="joules",
    type=Type.COUNTER,
    labels=(*_DEVICE, "within", "method"),
    rows=rows.overlap_energy,
    help="Energy of a reading that shares joules with summed devices, such as the platform: never add it to them.",
)
OVERLAP_POWER = Metric(
    stem="overlap_power",
    unit="watts",
    type=Type.GAUGE,
    labels=(*_DEVICE, "within"),
    rows=rows.overlap_power,
    help="Power of a reading that shares watts with summed devices: never add it to them.",
)
NODE_MEASURED_ENERGY = Metric(
    stem="node_measured_energy",
    unit="joules",
    type=Type.COUNTER,
    labels=("component", "method"),
    rows=rows.node_energy,
    help="Energy of the disjoint parts of the node that have a sensor. Fans, network and power supplies are missing.",
)
NODE_MEASURED_POWER = Metric(
    stem="node_measured_power",
    unit="watts",
    type=Type.GAUGE,
    rows=rows.single(lambda snapshot: snapshot.node_power_w),
    help="Power of the disjoint parts of the node that have a sensor.",
)
NODE_EMISSIONS = Metric(
    stem="node_emissions",
    unit="grams",
    type=Type.COUNTER,
    labels=("method", "basis", "quality"),
    rows=rows.node_emissions,
    help="CO2e of the energy of the node's parts x PUE, at the intensity known at its use; estimates by method apart.",
)
NODE_UNPRICED_ENERGY = Metric(
    stem="node_unpriced_energy",
    unit="joules",
    type=Type.GAUGE,
    rows=rows.single(lambda snapshot: snapshot.node_unpriced_j),
    help="Energy of the node's parts, estimates included, for which no carbon intensity was known.",
)
RUN_ENERGY = Metric(
    stem="run_energy",
    unit="joules",
    type=Type.COUNTER,
    labels=(*_RUN, "component", "method", "share"),
    rows=rows.run_energy,
    help="Energy charged to the run on this node since its start; share = by what right: whole = it held the device "
    "alone, usage = by what it used, equal, slice. Add up over nodes with last_over_time, not increase.",
)
RUN_IDLE_ENERGY = Metric(
    stem="run_idle_energy",
    unit="joules",
    type=Type.COUNTER,
    labels=(*_RUN, "component"),
    rows=rows.run_idle_energy,
    help="Part of the run's energy that its share of the devices would have used idle; absent until that is known.",
)
RUN_PHASE_ENERGY = Metric(
    stem="run_phase_energy",
    unit="joules",
    type=Type.COUNTER,
    labels=(*_RUN, "phase"),
    rows=rows.run_phase_energy,
    help="Energy of the run by the phases that it tells, such as train and eval.",
)
RUN_EMISSIONS = Metric(
    stem="run_emissions",
    unit="grams",
    type=Type.COUNTER,
    labels=(*_RUN, "method", "basis", "quality"),
    rows=rows.run_emissions,
    help="Live CO2e of the run on this node: its energy x PUE at the intensity known when it was used.",
)
RUN_UNPRICED_ENERGY = Metric(
    stem="run_unpriced_energy",
    unit="joules",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.per_run(lambda entry: entry.unpriced_j),
    help="Energy of the run for which no carbon intensity was known.",
)
RUN_POWER = Metric(
    stem="run_power",
    unit="watts",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.per_run(lambda entry: entry.power_w),
    help="Power of the devices that the run holds; of one that several share, its share.",
)
RUN_ACTIVE = Metric(
    stem="run_active",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.per_run(lambda entry: float(entry.active)),
    help="1 while the run goes on, 0 once it has ended.",
)
RUN_START = Metric(
    stem="run_start_timestamp",
    unit="seconds",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.per_run(lambda entry: entry.run.start.wall_s),
    help="Unix time of the run's start.",
)
RUN_END = Metric(
    stem="run_end_timestamp",
    unit="seconds",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.per_run(lambda entry: entry.run.end.wall_s if entry.run.end else None),
    help="Unix time of the run's end.",
)
RUN_DURATION = Metric(
    stem="run_duration",
    unit="seconds",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.per_run(lambda entry: entry.duration_s),
    help="Active time of the run.",
)
RUN_MEASURED_TIME = Metric(
    stem="run_measured_time",
    unit="ratio",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.per_run(rows.run_measured_time),
    help="Share of the run's device time that a sensor told (the simulation, if simulated); estimates do not count.",
)
RUN_STEPS = Metric(
    stem="run_steps",
    type=Type.COUNTER,
    labels=_RUN,
    rows=rows.per_run(lambda entry: entry.run.progress.steps),
    help="Steps of the run, of its ranks the furthest: take the maximum over nodes.",
)
RUN_TOKENS = Metric(
    stem="run_tokens",
    type=Type.COUNTER,
    labels=_RUN,
    rows=rows.per_run(lambda entry: entry.run.progress.tokens),
    help="Tokens of the run's ranks on this node: add up over nodes.",
)
RUN_SAMPLES = Metric(
    stem="run_samples",
    type=Type.COUNTER,
    labels=_RUN,
    rows=rows.per_run(lambda entry: entry.run.progress.samples),
    help="Samples of the run's ranks on this node: add up over nodes.",
)
RUN_PROGRESS = Metric(
    stem="run_progress",
    unit="ratio",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.per_run(lambda entry: entry.run.progress.done_ratio),
    help="How much of its work the run says it has done.",
)
RUN_SETTLED_EMISSIONS = Metric(
    stem="run_settled_emissions",
    unit="grams",
    type=Type.GAUGE,
    labels=(*_RUN, "basis"),
    rows=rows.run_settled,
    help="CO2e of the run on this node, priced again with what is known by now; may rise and fall. Never add bases.",
)
RUN_SETTLED = Metric(
    stem="run_settled",
    unit="ratio",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.run_settled_ratio,
    help="Share of the run's energy whose price can change no more.",
)
RUN_MARGINAL_EMISSIONS = Metric(
    stem="run_marginal_emissions",
    unit="grams",
    type=Type.COUNTER,
    labels=_RUN,
    rows=rows.run_extra(
        lambda entry: entry.extras.marginal_g,
        lambda snapshot: any(slot.signal is Signal.MARGINAL for slot in snapshot.intensities),
    ),
    help="Live CO2e by the marginal intensity, where a feed tells it: for shifting load, never for accounting.",
)
RUN_EMBODIED_EMISSIONS = Metric(
    stem="run_embodied_emissions",
    unit="grams",
    type=Type.COUNTER,
    labels=_RUN,
    rows=rows.run_extra(lambda entry: entry.extras.embodied_g, lambda snapshot: snapshot.policy.embodied_g_per_s),
    help="The run's part, by reserved time, of the CO2e that making its devices emitted, by the kilograms and lifetime "
    "that were given. Part of no other figure.",
)
RUN_MARKET_EMISSIONS = Metric(
    stem="run_market_emissions",
    unit="grams",
    type=Type.COUNTER,
    labels=_RUN,
    rows=rows.run_extra(
        lambda entry: entry.extras.market_g,
        lambda snapshot: snapshot.policy.market_grams_per_kilowatthour is not None,
    ),
    help="CO2e by the factor of the site's contracts: beside the location-based grams, never instead of them.",
)
RUN_COST = Metric(
    stem="run_cost",
    type=Type.COUNTER,
    labels=(*_RUN, "currency"),
    rows=rows.run_cost,
    help="Energy x PUE x price of electricity when it was used, one below 0 taken as 0; absent where none was given.",
)
RUN_WATER = Metric(
    stem="run_water",
    unit="liters",
    type=Type.COUNTER,
    labels=_RUN,
    rows=rows.run_extra(
        lambda entry: entry.extras.water_l,
        lambda snapshot: snapshot.policy.water_liters_per_kilowatthour is not None,
    ),
    help="Energy x the water usage effectiveness that was given, in liters.",
)
RUN_FORECAST_ENERGY = Metric(
    stem="run_forecast_energy",
    unit="joules",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.projected(lambda projection: projection.energy_j),
    help="Energy of the run at its end, if it goes on at its mean pace and power; for runs that tell their progress.",
)
RUN_FORECAST_EMISSIONS = Metric(
    stem="run_forecast_emissions",
    unit="grams",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.projected(lambda projection: projection.emissions_g),
    help="CO2e of the run at its end, by what is expected of the grid where its provider has a forecast, else by the "
    "intensity of now.",
)
RUN_FORECAST_END = Metric(
    stem="run_forecast_end_timestamp",
    unit="seconds",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.projected(lambda projection: projection.end_wall_s),
    help="Unix time at which the run ends, if it goes on at its mean pace.",
)
RUN_BUDGET_ENERGY = Metric(
    stem="run_budget_energy",
    unit="joules",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.run_budget(lambda budget: budget.energy_j),
    help="Energy that the whole run may use, all its nodes together: by its tags, else by the settings.",
)
RUN_BUDGET_EMISSIONS = Metric(
    stem="run_budget_emissions",
    unit="grams",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.run_budget(lambda budget: budget.emissions_g),
    help="CO2e that the whole run may emit, all its nodes together: by its tags, else by the settings.",
)
RUN_BUDGET_COST = Metric(
    stem="run_budget_cost",
    type=Type.GAUGE,
    labels=_RUN,
    rows=rows.run_budget(lambda budget: budget.cost),
    help="What the electricity of the whole run may cost, all its nodes together, in the currency of run_cost.",
)
RUN_INFO = Metric(
    stem="run",
    type=Type.INFO,
    labels=(*_RUN, "name", "user", "project", "launcher", "job_id"),
    rows=rows.run_info,
    help="What the run is.",
)
RUN_DEVICE_INFO = Metric(
    stem="run_device",
    type=Type.INFO,
    labels=(*_RUN, "device"),
    rows=rows.run_devices,
    help="The devices that the run holds, alone or with others.",
)
PROJECT_ENERGY = Metric(
    stem="project_energy",
    unit="joules",
    type=Type.COUNTER,
    labels=("project", "component", "method"),
    rows=rows.project_energy,
    help="Energy of all runs of the project on this node; none = of runs without one, other = beyond 100 projects.",
)
PROJECT_EMISSIONS = Metric(
    stem="project_emissions",
    unit="grams",
    type=Type.COUNTER,
    labels=("project", "method", "basis", "quality"),
    rows=rows.project_emissions,
    help="Live CO2e of all runs of the project on this node: energy x PUE at the intensity known when it was used.",
)
RUNS_DROPPED = Metric(
    stem="runs_dropped",
    type=Type.COUNTER,
    rows=rows.single(lambda snapshot: float(snapshot.runs_dropped)),
    help="Runs that were given up because there were too many at once.",
)
RUN_NAMES_ALTERED = Metric(
    stem="run_names_altered",
    type=Type.COUNTER,
    rows=rows.single(lambda snapshot: float(snapshot.names_altered)),
    help="Names, ids and tags of runs that were cut or cleaned.",
)
GRID_INTENSITY = Metric(
    stem="grid_intensity",
    unit="grams_per_kilowatthour",
    type=Type.GAUGE,
    labels=("grid_zone", "signal"),
    rows=rows.grid_intensity,
    help="Carbon intensity that energy used now is priced with, in grams of CO2e per kilowatt-hour.",
)
GRID_INTENSITY_INFO = Metric(
    stem="grid_intensity",
    type=Type.INFO,
    labels=("grid_zone", "signal", "provider", "basis", "quality"),
    rows=rows.grid_info,
    help="Where the intensity in use comes from and how firmly it is known.",
)
GRID_VALID_UNTIL = Metric(
    stem="grid_intensity_valid_until_timestamp",
    unit="seconds",
    type=Type.GAUGE,
    labels=("grid_zone", "signal"),
    rows=rows.grid_valid_until,
    help="Unix time of the end of the interval that the intensity in use was made for: a feed that stands still or is "
    "away falls behind. Absent for a yearly value.",
)
GRID_FORECAST = Metric(
    stem="grid_forecast_intensity",
    unit="grams_per_kilowatthour",
    type=Type.GAUGE,
    labels=("grid_zone", "hours"),
    rows=rows.grid_forecast,
    help="Intensity that the provider expects so many hours from now.",
)
GRID_FORECAST_ERROR = Metric(
    stem="grid_forecast_error",
    unit="ratio",
    type=Type.GAUGE,
    labels=("grid_zone",),
    rows=rows.grid_forecast_error,
    help="Mean absolute error of the provider's last forecasts over the mean of what came.",
)
GRID_REVISIONS = Metric(
    stem="grid_revisions",
    type=Type.COUNTER,
    labels=("grid_zone",),
    rows=rows.grid_revisions,
    help="Values that a provider changed after the fact.",
)
GRID_FETCH_FAILURES = Metric(
    stem="grid_fetch_failures",
    type=Type.COUNTER,
    labels=("provider", "reason"),
    rows=rows.grid_failures,
    help="Questions to a provider of intensities that gave no value, and values that were refused, by reason.",
)
GRID_FETCH_LAST_SUCCESS = Metric(
    stem="grid_fetch_last_success_timestamp",
    unit="seconds",
    type=Type.GAUGE,
    labels=("provider",),
    rows=rows.grid_last_success,
    help="Unix time of the provider's last good answer; its age says nothing of the age of its values.",
)
ELECTRICITY_PRICE = Metric(
    stem="electricity_price",
    unit="per_kilowatthour",
    type=Type.GAUGE,
    labels=("currency",),
    rows=rows.price,
    help="What a kilowatt-hour costs now; absent where no price was given.",
)
MARKET_INTENSITY = Metric(
    stem="market_intensity",
    unit="grams_per_kilowatthour",
    type=Type.GAUGE,
    rows=rows.single(lambda snapshot: snapshot.policy.market_grams_per_kilowatthour),
    help="Factor of the site's contracts, as it was given (GHG Protocol Scope 2, market-based).",
)
PUE = Metric(
    stem="pue",
    unit="ratio",
    type=Type.GAUGE,
    rows=rows.single(lambda snapshot: snapshot.policy.pue_ratio),
    help="Power usage effectiveness that grams and costs are multiplied by. Joules never are.",
)
SOURCE_UP = Metric(
    stem="source_up",
    type=Type.GAUGE,
    labels=("source",),
    rows=rows.per_source(lambda health: float(health.up)),
    help="1 while the source can be read.",
)
SOURCE_LAST_SUCCESS = Metric(
    stem="source_last_success_timestamp",
    unit="seconds",
    type=Type.GAUGE,
    labels=("source",),
    rows=rows.per_source(lambda health: health.last_success.wall_s if health.last_success else None),
    help="Unix time of the last reading; absent before the first.",
)
SOURCE_READ_DURATION = Metric(
    stem="source_read_duration",
    unit="seconds",
    type=Type.GAUGE,
    labels=("source",),
    rows=rows.per_source(lambda health: health.read_duration_s),
    help="How long the last read of all devices of the source took.",
)
SOURCE_FAILURES = Metric(
    stem="source_failures",
    type=Type.COUNTER,
    labels=("source", "reason"),
    rows=rows.source_failures,
    help="Reads that failed, by reason.",
)
SOURCE_LATE_READS = Metric(
    stem="source_late_reads",
    type=Type.COUNTER,
    labels=("source",),
    rows=rows.per_source(lambda health: float(health.late_ticks)),
    help="Reads that were skipped because the one before took too long.",
)
SAMPLER_LATE_TICKS = Metric(
    stem="sampler_late_ticks",
    type=Type.COUNTER,
    rows=rows.single(lambda snapshot: float(snapshot.late_ticks)),
    help="Turns of the loop that were skipped because the one before came too late.",
)
LEDGER_LAG = Metric(
    stem="ledger_lag",
    unit="seconds",
    type=Type.GAUGE,
    rows=rows.single(lambda snapshot: snapshot.ledger.lag_s),
    help="Time since the last commit when this was observed. Above 3 s what is shown may be lost with the daemon.",
)
LEDGER_WRITE_FAILURES = Metric(
    stem="ledger_write_failures",
    type=Type.COUNTER,
    rows=rows.single(lambda snapshot: float(snapshot.ledger.write_failures)),
    help="Commits that failed; what they held is kept in memory and written when the disk allows.",
)
LEDGER_INFO = Metric(
    stem="ledger",
    type=Type.INFO,
    labels=("ledger", "state"),
    rows=rows.ledger_info,
    help="Identity of the count, and where it is kept: file, temporary (goes with the daemon), memory.",
)
BUILD_INFO = Metric(
    stem="build",
    type=Type.INFO,
    labels=("version",),
    rows=lambda _snapshot: iter([((__version__,), 1.0)]),
    help="Version of trainwatt.",
)

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them, in the order above."""

"""The report document as it is written to files and answered by the API: the model that files are read by.

`schemas/report.json` is generated from it. SI units in every name; null = not known, never 0.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from monitor.core.attribution import ShareKind
from monitor.core.model import Basis, Component, Method, Quality, Signal

FORMAT = "trainwatt-report"
VERSION = 1
LARGEST = 1e18
LATEST_UNIX_S = 253_402_300_799.0  # the end of the year 9999: later moments have no name

Joules = Annotated[float, Field(ge=0.0, le=LARGEST)]
Grams = Annotated[float, Field(ge=0.0, le=LARGEST)]
Seconds = Annotated[float, Field(ge=0.0, le=LARGEST)]
Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
Moment = Annotated[float, Field(ge=0.0, le=LATEST_UNIX_S)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]

COLUMNS = (
    "start_unix_s",
    "end_unix_s",
    "device",
    "zone",
    "phase",
    "method",
    "share",
    "recovered",
    "energy_j",
    "idle_energy_j",
    "measured_s",
)
Row = tuple[
    Moment, Moment, str, str, str, Method, ShareKind | None, bool, Joules, Joules | None, Seconds
]  # as COLUMNS say


class _Noun(BaseModel):
    # Keys that a later release of the same version added are passed over.
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="ignore")


class RunWords(_Noun):
    """What the run is called, and by whom."""

    id: str = Field(min_length=1, description="identity of the run, the same on all of its nodes")
    name: str = Field(description="name for people")
    user: str = Field(description='"" = unknown')
    project: str = Field(description='"" = none')
    launcher: str = Field(description='what started it; "" = unknown')
    job_id: str = Field(description='id in the batch system; "" = none')
    tags: dict[str, str]


class ProgressWords(_Noun):
    """How far the run has come. null = the job does not tell."""

    steps: Count | None = Field(description="of its ranks the furthest")
    tokens: Count | None = Field(description="of its ranks together")
    samples: Count | None = Field(description="of its ranks together")
    done_ratio: Ratio | None


class EnergyPart(_Noun):
    """Joules of one component, by how they are known and by what right the run is charged."""

    component: Component
    method: Method
    share: ShareKind
    energy_j: Joules


class EmissionsPart(_Noun):
    """Grams of CO2e = joules x intensity when they were used x PUE. Bases are never added."""

    method: Method
    basis: Basis
    quality: Quality
    emissions_g: Grams


class SettledPart(_Noun):
    """Settled grams of CO2e of one basis, whatever the method of their joules. Bases are never added."""

    basis: Basis
    emissions_g: Grams


class SettledWords(_Noun):
    """The same joules priced again with what was known later. It may fall, which the live figure never does."""

    emissions_g: list[SettledPart] = Field(description="empty = no joule has a price")
    settled_ratio: Ratio = Field(description="part of the joules whose price can change no more")
    energy_j: Joules = Field(description="all joules up to that moment, those without a price included")
    unpriced_energy_j: Joules = Field(description="part of them that has no grams")
    priced_at_unix_s: Moment = Field(
        description="as known at this moment; in a merged report at the earliest of its parts'"
    )
    repriced: bool = Field(
        default=False, description="priced again from a report's own rows and factors, not by the daemon that metered"
    )


class Cost(_Noun):
    """What the electricity cost, overhead of the site included."""

    amount: float = Field(ge=-LARGEST, le=LARGEST, description="negative prices happen")
    currency: str = Field(description="as ISO 4217 has it")


class ExtrasWords(_Noun):
    """What else the run comes to. Each is a figure of its own, never netted from another. null = not configured."""

    marginal_emissions_g: Grams | None = Field(
        default=None, description="by the plant that one more kWh turns up: for shifting load, never for accounting"
    )
    embodied_emissions_g: Grams | None = Field(
        default=None, description="its part, by reserved time, of what making the devices has emitted"
    )
    market_based_emissions_g: Grams | None = Field(
        default=None, description="by the factor of the site's contracts (GHG Protocol Scope 2, market-based)"
    )
    cost: Cost | None = None
    water_l: float | None = Field(default=None, ge=0.0, le=LARGEST, description="liters of the site's own factor")


class Sci(_Noun):
    """Software Carbon Intensity (specification 1.1.0, ISO/IEC 21031:2024): ((E x I) + M) per R.

    Location-based, by the average signal, PUE in E; market instruments are excluded.
    """

    of: Literal["settled", "live"] = Field(description="which grams are its E x I")
    basis: Basis
    operational_g: Grams = Field(description="E x I of all joules that have a price")
    embodied_g: Grams | None = Field(description="M; null = none was given, so that the score is without it")
    unpriced_energy_j: Joules = Field(description="joules that are not in E x I, since nobody knows their I")
    run_g: Grams = Field(description="R = this run")
    step_g: Grams | None = Field(description="R = a step; null = the job tells none")
    million_tokens_g: Grams | None = Field(description="R = 1,000,000 tokens; null = the job tells none")


class BudgetWords(_Noun):
    """What the whole run may use, all its nodes together: a bound, not a part of it. null = nobody set this one."""

    energy_j: float | None = Field(gt=0.0, le=LARGEST)
    emissions_g: float | None = Field(gt=0.0, le=LARGEST)
    cost: float | None = Field(gt=0.0, le=LARGEST, description="in the currency of the cost")


class PueChange(_Noun):
    """A power usage effectiveness and since when the grams are priced with it."""

    valid_from_unix_s: Moment
    pue_ratio: float = Field(ge=1.0, le=100.0)


class DeviceWords(_Noun):
    """A device that the run held. null = the node does not know it any more."""

    node: str
    id: str
    component: Component | None
    source: str | None
    model: str | None
    index: str | None = Field(description="position the driver showed it at: no identity")
    methods: list[Method]
    calibration_ratio: float | None = Field(gt=0.0, description="factor that its joules were multiplied by")
    error_ratio: float | None = Field(ge=0.0, description="half width of the band of an estimate; null for a sensor")


class Factor(_Noun):
    """A carbon intensity that priced joules of the run, or may have: one version of what a provider said."""

    node: str
    zone: str
    signal: Signal
    grams_per_kilowatthour: float = Field(ge=0.0, le=1e6)
    provider: str
    basis: Basis
    quality: Quality
    valid_from_s: Moment | None = Field(description="Unix time; null = it has no beginning")
    valid_until_s: Moment | None = Field(description="Unix time; null = it has no end")
    detail: str = Field(description="whom to credit, under which licence; edition and year")
    fetched_at_s: Moment | None = Field(default=None, description="Unix time; null = of a bundled table, or not known")
    updated_at_s: Moment | None = Field(
        default=None, description="Unix time of its last change, as the provider tells it; null = it tells none"
    )
    made_by: str = Field(default="", description="how it was estimated, in the provider's word")
    dataset: str = Field(default="", description='edition of the table or dataset; "" = the provider names none')
    in_use: bool = Field(
        default=True, description="whether it prices joules, live or settled; else it is another version that was known"
    )


class Intervals(_Noun):
    """The run's joules by time and device, so that they can be priced again elsewhere.

    Of a run that goes on they may be a second newer than the totals.
    """

    columns: list[Literal[COLUMNS]]  # type: ignore[valid-type]
    bucket_s: Seconds | None = Field(description="rows were added up to so many seconds; null = as the ledger has them")
    rows: list[Row] = Field(
        description='zone and phase: "" = none; share: null = nobody\'s; idle_energy_j: null = not known; '
        "measured_s: seconds of it that a sensor saw"
    )


class NodeReport(_Noun):
    """A run as one ledger counted it."""

    format: Literal["trainwatt-report"]
    version: Literal[1]
    trainwatt: str = Field(description="version of the program that wrote it")
    node: str | None = Field(description="host name; null in a merged report of several nodes")
    ledger: str | None = Field(description="identity of the count; null in a merged report of several")
    written_at_unix_s: Moment = Field(description="the moment that the totals are of")
    run: RunWords
    active: bool = Field(description="whether it goes on")
    start_unix_s: Moment
    end_unix_s: Moment | None = Field(description="null while it goes on")
    duration_s: Seconds = Field(
        description="active time by a steady clock, the pauses of a requeued run left out; of several nodes the "
        "longest, of several ledgers on one node the sum, at most the time from the first start to the last end there"
    )
    progress: ProgressWords
    energy_j: list[EnergyPart] = Field(description="empty = nothing is known, which is not 0")
    idle_energy_j: dict[Component, Joules] = Field(
        default={},
        description="part of the energy that the devices of a component would have used idle; absent = not known, or, "
        "in a merged report, not known of every part",
    )
    phase_energy_j: dict[str, Joules] = Field(description="by phase, as far as the job tells its phases")
    emissions_g: list[EmissionsPart] = Field(
        description="live: priced with what was known when the joules were used, and never changed; empty = no joule "
        "has a price"
    )
    settled: SettledWords | None = Field(default=None, description="null = it has not been priced again")
    extras: ExtrasWords = Field(default_factory=ExtrasWords)
    budget: BudgetWords | None = Field(
        default=None, description="by its tags, else by the settings of the node; null = nobody set any"
    )
    sci: Sci | None = Field(
        default=None, description="null = no grams are known, or of several bases, which are never added"
    )
    unpriced_energy_j: Joules = Field(description="part of the energy that has no grams")
    recovered_energy_j: Joules = Field(
        description="part of the energy that was used while no daemon ran, told afterwards by the hardware counters"
    )
    held_device_s: Seconds = Field(description="device-seconds that it held, as far as they are accounted for")
    measured_device_s: Seconds = Field(description="part of them that a sensor saw")
    measured_time_ratio: Ratio | None = Field(description="measured over held; null = it held no metered device")
    pue_ratio: float | None = Field(
        ge=1.0,
        le=100.0,
        description="power usage effectiveness in the grams, never in joules; null = it changed, or parts differ",
    )
    pue_changes: list[PueChange] = Field(
        default=[], description="oldest first, where it was not the same throughout; empty = pue_ratio throughout"
    )
    zone: str | None = Field(description="grid zone; null = none, or several")
    devices: list[DeviceWords]
    factors: list[Factor]
    factors_left_out: Count = Field(
        default=0, description="older versions of factors that are not in here since they are too many"
    )
    providers: dict[str, list[str]] = Field(
        default={}, description="of each zone the providers that price its joules, in the order of preference"
    )
    intervals: Intervals | None = Field(description="null = nowhere kept, or, in a merged report, in its parts")
    missing: list[str] = Field(description="what is not in the figures, in words")


class LeftOut(_Noun):
    """A report that was merged and did not count: there was a newer one of the same ledger."""

    node: str | None
    ledger: str | None
    written_at_unix_s: Moment


class Report(NodeReport):
    """A run: as one ledger counted it, or merged of several, which are then its parts."""

    parts: list[NodeReport] = Field(default=[], description="what a merged report is made of: one for each ledger")
    left_out: list[LeftOut] = Field(default=[], description="older reports of the same ledgers, which did not count")
    warnings: list[str] = Field(default=[], description="what makes its sums doubtful, in words")


def json_schema() -> dict[str, Any]:
    """The document as JSON Schema, draft 2020-12."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Report.model_json_schema()}

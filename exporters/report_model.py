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
    """A carbon intensity that priced joules of the run, or may have."""

    node: str
    zone: str
    signal: Signal
    grams_per_kilowatthour: float = Field(ge=0.0, le=1e6)
    provider: str
    basis: Basis
    quality: Quality
    valid_from_s: Moment | None = Field(description="Unix time; null = it has no beginning")
    valid_until_s: Moment | None = Field(description="Unix time; null = it has no end")
    detail: str = Field(description="edition and year")


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
    emissions_g: list[EmissionsPart] = Field(description="empty = no joule has a price")
    unpriced_energy_j: Joules = Field(description="part of the energy that has no grams")
    recovered_energy_j: Joules = Field(
        description="part of the energy that was used while no daemon ran, told afterwards by the hardware counters"
    )
    held_device_s: Seconds = Field(description="device-seconds that it held, as far as they are accounted for")
    measured_device_s: Seconds = Field(description="part of them that a sensor saw")
    measured_time_ratio: Ratio | None = Field(description="measured over held; null = it held no metered device")
    pue_ratio: float | None = Field(
        ge=1.0, le=100.0, description="power usage effectiveness in the grams, never in joules; null = parts differ"
    )
    zone: str | None = Field(description="grid zone; null = none, or several")
    devices: list[DeviceWords]
    factors: list[Factor]
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

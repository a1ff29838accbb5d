"""What the daemon answers on the control socket, once: keys may be added, none is taken away."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class Answer(BaseModel):
    """One line from the daemon; keys may be added."""

    ok: Literal[True]


class HeldDevice(BaseModel):
    """A device that the run holds."""

    id: str
    component: str
    index: str
    model: str


class StartAnswer(Answer):
    """The answer to start and join."""

    run: str = Field(description="id of the run from now on")
    name: str
    ledger: str = Field(description="id of the ledger that counts it")
    node: str
    joined: bool = Field(description="it was alive before")
    altered: bool = Field(description="a name was cut or cleaned")
    devices: list[HeldDevice]
    missing: list[str] = Field(description="what no sensor tells, in words")
    late: bool = Field(
        default=False, description="the devices were not read within the time: its first second is less exact"
    )


class EndAnswer(Answer):
    """The answer to end."""

    run: str
    ended: bool = Field(description="no member is left")
    report: dict[str, Any] | None = Field(
        None,
        description="a trainwatt-report document: of a run that has ended, or up to now of a job that goes on "
        "when the last of those who spoke for it has left",
    )
    late: bool = Field(
        default=False, description="the devices were not read within the time: the report lacks the last second"
    )


class JobStartAnswer(Answer):
    """The answer to job_start."""

    run: str = Field(description="id of the job's run")
    joined: bool = Field(description="it was alive before")
    altered: bool = Field(description="a name was cut or cleaned")
    late: bool = Field(
        default=False, description="the devices were not read within the time: its first second is less exact"
    )


class JobEndAnswer(Answer):
    """The answer to job_end."""

    runs: list[str] = Field(description="ids of the runs that ended; none for a job that is unknown")


class RunsAnswer(Answer):
    """The answer to runs."""

    runs: list[dict[str, Any]] = Field(description="summaries as in /api/v1/runs")
    problem: str | None = Field(None, description="why the ended ones may be missing")


class ReportAnswer(Answer):
    """The answer to report."""

    report: dict[str, Any] = Field(description="a trainwatt-report document")


class GridAnswer(Answer):
    """The answer to grid."""

    grid: dict[str, Any] = Field(description="the document of /api/v1/grid")


class ForgetAnswer(Answer):
    """The answer to forget."""

    forgotten: int = Field(description="runs that were removed")


class ReleaseAnswer(Answer):
    """The answer to release."""

    source: str
    released_until_s: float = Field(description="Unix time")


class ResumeAnswer(Answer):
    """The answer to resume."""

    source: str
    was_released: bool
    up: bool
    problem: str = Field("", description="why it is not up")


class Refusal(BaseModel):
    """The answer to whatever cannot be done."""

    ok: Literal[False]
    error: str = Field(description="one line that says what to do")

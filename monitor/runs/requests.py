"""Every request of the control socket and its answer, once: what is checked is what the JSON Schema says."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.json_schema import models_json_schema

from monitor.errors import FailureError
from monitor.runs.answers import (
    Answer,
    EndAnswer,
    ForgetAnswer,
    GridAnswer,
    JobEndAnswer,
    JobStartAnswer,
    Refusal,
    ReleaseAnswer,
    ReportAnswer,
    ResumeAnswer,
    RunsAnswer,
    StartAnswer,
)
from monitor.runs.protocol import DEFAULT_RELEASE_S, LONGEST_RELEASE_S

SHOWN_CHARACTERS = 60
DEFAULT_LISTED = 100
MOST_LISTED = 10_000
TITLE = "trainwatt control socket"

Count = Annotated[int, Field(ge=0, le=10**18)] | Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]
Pid = Annotated[int, Field(gt=0, lt=2**31)]
JobId = Annotated[
    str,
    Field(pattern="^[0-9]{1,20}$", description="number of the job, as text: a task of an array has one of its own"),
]
RunId = Annotated[str, Field(description="id of the run; your own ID@user is meant where ID is another user's")]


class Request(BaseModel):
    """One line to the daemon. Types are taken as they are, and an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Start(Request):
    """Start a run, join a live one of the same user, or go on with an ended one: the asking process is a member."""

    op: Literal["start"]
    id: str | None = Field(None, description="id of the run; else the scheduler's, the launcher's, the process tree's")
    name: str | None = Field(None, description="for people; else the id")
    tags: dict[str, str] = Field(
        default_factory=dict,
        description="at most 32 are kept; budget_energy_kwh, budget_co2e_kg and budget_cost are what the run may use",
    )
    project: str | None = Field(None, description="what its energy is summed under")
    launcher: str | None = Field(None, description="what started the job; else found in the environment")
    job_id: str | None = Field(None, description="the scheduler's number of the job; else found in the environment")
    environment: dict[str, str] = Field(
        default_factory=dict,
        description="the variables of the job that tell its id and devices: TRAINWATT_RUN, SLURM_*, "
        "TORCHELASTIC_RUN_ID, LOCAL_RANK, CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER, NVIDIA_VISIBLE_DEVICES; others are "
        "ignored",
    )


class Join(Request):
    """Make a process a member of a live run of its user."""

    op: Literal["join"]
    run: RunId
    pid: Pid | None = Field(None, description="a process of the same user; else the asking one")


class Progress(Request):
    """How far the asking process is, counted from its own beginning: of a repeated or lost line nothing comes."""

    op: Literal["progress"]
    run: RunId
    steps: Count | None = Field(None, description="steps done; the run's are those of its furthest process")
    tokens: Count | None = Field(None, description="tokens done; the run's are those of its processes together")
    samples: Count | None = Field(None, description="samples done; the run's are those of its processes together")
    done: Count | None = Field(None, description="part of `total` that is done, in any unit")
    total: Count | None = Field(None, description="all there is to do, in the unit of `done`")


class Phase(Request):
    """What the run does from now on."""

    op: Literal["phase"]
    run: RunId
    phase: str = Field(
        description='such as train, eval, checkpoint; "" = none; at most 32 of a run, others are "other"'
    )


class End(Request):
    """End the membership of a process; the run ends with its last member."""

    op: Literal["end"]
    run: RunId
    pid: Pid | None = Field(None, description="a member; else the asking process")


class Runs(Request):
    """List the runs that the daemon knows, newest first."""

    op: Literal["runs"]
    limit: Annotated[int, Field(ge=1, le=MOST_LISTED)] = Field(DEFAULT_LISTED, description="at most so many")


class Report(Request):
    """The report of one run, up to now."""

    op: Literal["report"]
    run: RunId


class Grid(Request):
    """What the daemon knows of the grid: zones, intensities, feeds, outlooks, prices."""

    op: Literal["grid"]


class Forget(Request):
    """Remove ended runs from the ledger: one's own; an administrator's wish goes for all."""

    op: Literal["forget"]
    run: Annotated[str | None, Field(description="id of the run")] = None
    user: str | None = Field(None, description="name of the user whose runs are meant, instead of one run")


class Stop(Request):
    """End a private daemon on which no run is alive."""

    op: Literal["stop"]


class Release(Request):
    """Let go of a source's hardware, so that its driver can be changed. For administrators."""

    op: Literal["release"]
    source: str = Field(description="label of the source, such as nvml")
    limit_s: Annotated[float, Field(gt=0, le=LONGEST_RELEASE_S)] = Field(
        DEFAULT_RELEASE_S, description="seconds after which it is opened again by itself"
    )


class Resume(Request):
    """End a release. For administrators."""

    op: Literal["resume"]
    source: str = Field(description="label of the source, such as nvml")


class JobStart(Request):
    """A scheduler's job begins on this node: a run that lives until `job_end`. For administrators: a prolog says it.

    Said again it changes nothing; a job that is queued again goes on.
    """

    op: Literal["job_start"]
    job_id: JobId
    uid: Annotated[int, Field(ge=0, lt=2**32 - 1, description="number of the user whose job it is")]
    cluster: str = Field("", description="name of the scheduler's cluster; it is part of the run's id")
    name: str = Field("", description="for people; else the id")
    account: str = Field("", description="what its energy is summed under: the project")
    nodes: Annotated[int | None, Field(ge=1, description="how many nodes the job has")] = None
    gpus: str = Field("", description='the GPUs of this node that it was given, such as "0,2-3", or UUIDs; "" = none')
    array_job_id: str = Field("", description="number of the array that it is a task of")
    array_task_id: str = Field("", description="its number within the array")
    restart: Annotated[int, Field(ge=0, description="how often the job was queued again")] = 0
    partition: str = Field("", description="where it was queued")


class JobEnd(Request):
    """A scheduler's job has ended on this node. For administrators: an epilog says it. It is answered at once."""

    op: Literal["job_end"]
    job_id: JobId
    uid: Annotated[int | None, Field(ge=0, lt=2**32 - 1, description="whose job; None = whoever's it is")] = None
    cluster: str = Field("", description="name of the scheduler's cluster")


REQUESTS: dict[str, tuple[type[Request], type[Answer]]] = {
    "start": (Start, StartAnswer),
    "join": (Join, StartAnswer),
    "progress": (Progress, Answer),
    "phase": (Phase, Answer),
    "end": (End, EndAnswer),
    "runs": (Runs, RunsAnswer),
    "report": (Report, ReportAnswer),
    "grid": (Grid, GridAnswer),
    "forget": (Forget, ForgetAnswer),
    "stop": (Stop, Answer),
    "job_start": (JobStart, JobStartAnswer),
    "job_end": (JobEnd, JobEndAnswer),
    "release": (Release, ReleaseAnswer),
    "resume": (Resume, ResumeAnswer),
}
"""By `op`: what may be asked, and what is answered."""

Wanted = TypeVar("Wanted", bound=Request)


def parse(model: type[Wanted], request: Mapping[str, Any]) -> Wanted:
    """The request as its model. Raises FailureError with one line."""
    try:
        return model.model_validate(dict(request))
    except ValidationError as error:
        raise FailureError(_explain(model, error)) from error


def _explain(model: type[Request], error: ValidationError) -> str:
    every = error.errors(include_url=False)
    # Of a number that may be whole or not, both branches complain: the last says what is expected in general.
    first = [one for one in every if one["loc"][:1] == every[0]["loc"][:1]][-1]
    place = [str(part) for part in first["loc"] if not _is_type(part)]
    name = _short(".".join(place)) or "request"
    if first["type"] == "extra_forbidden":
        known = [field for field in model.model_fields if field != "op"]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(known) or 'none'}"
        return f"unknown key {name!r}; {hint}"
    if first["type"] == "missing":
        return f"{name}: missing; {model.model_fields[place[0]].description or 'it has to be sent'}"
    expected = str(first["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{name}: expected {expected}, not {_short(repr(first['input']))}"


def _is_type(part: object) -> bool:
    """A branch of a union, which pydantic names among the places."""
    return part in {"int", "float"} or (isinstance(part, str) and part.startswith("constrained-"))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def json_schema() -> dict[str, Any]:
    """The whole socket as one JSON Schema: a line to the daemon fits `request`, a line from it `answer`."""
    models = [model for pair in REQUESTS.values() for model in pair]
    unique = list(dict.fromkeys([*models, Refusal]))
    references, schema = models_json_schema(
        [(model, "validation") for model in unique], title=TITLE, ref_template="#/$defs/{model}"
    )
    requests = [references[pair[0], "validation"] for pair in REQUESTS.values()]
    answers = {op: references[pair[1], "validation"]["$ref"] for op, pair in REQUESTS.items()}
    definitions = dict(schema["$defs"])
    definitions["AnyAnswer"] = {
        "description": "One line from the daemon; which one fits is told by the request that it answers.",
        "anyOf": [{"$ref": ref} for ref in dict.fromkeys([*answers.values(), "#/$defs/Refusal"])],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": TITLE,
        "description": "One JSON object a line in UTF-8, at most 64 KiB, answered in the order of the requests. This "
        "schema is of a request; $defs holds the answers, x-answers which one belongs to which op.",
        "oneOf": requests,
        "x-answers": answers,
        "$defs": definitions,
    }

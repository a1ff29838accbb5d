"""What a request may hold: checked, explained in one line, and written down as a JSON Schema."""

from typing import Any

import jsonschema
import pytest

from monitor.errors import FailureError
from monitor.runs import requests
from monitor.runs.requests import REQUESTS, json_schema, parse

WELL: list[dict[str, Any]] = [
    {"op": "start"},
    {"op": "start", "id": None, "name": 'a "b"', "tags": {"k": "v"}, "environment": {"SLURM_JOB_ID": "7"}},
    {"op": "join", "run": "r"},
    {"op": "join", "run": "r", "pid": 7},
    {"op": "progress", "run": "r", "steps": 7, "tokens": 1e6, "done": 0.5, "total": 1},
    {"op": "phase", "run": "r", "phase": ""},
    {"op": "end", "run": "r"},
    {"op": "runs"},
    {"op": "runs", "limit": 5},
    {"op": "report", "run": "r"},
    {"op": "forget", "user": "ann"},
    {"op": "stop"},
    {"op": "job_start", "job_id": "7", "uid": 1000},
    {"op": "job_start", "job_id": "8", "uid": 1000, "cluster": "deep", "gpus": "0,2-3", "nodes": 2, "restart": 1},
    {"op": "job_end", "job_id": "7"},
    {"op": "job_end", "job_id": "7", "uid": 1000, "cluster": "deep"},
    {"op": "release", "source": "nvml", "limit_s": 60},
    {"op": "resume", "source": "nvml"},
]
ILL: list[tuple[dict[str, Any], str]] = [
    ({"op": "start", "tags": ["k=v"]}, "tags: expected a valid dictionary, not ['k=v']"),
    ({"op": "start", "tags": {"k": 1}}, "tags.k: expected a valid string, not 1"),
    ({"op": "start", "nmae": "x"}, "unknown key 'nmae'; did you mean 'name'?"),
    ({"op": "stop", "now": True}, "unknown key 'now'; there is: none"),
    ({"op": "start", "id": 7}, "id: expected a valid string, not 7"),
    ({"op": "join"}, "run: missing; id of the run"),
    ({"op": "join", "run": "r", "pid": "7"}, "pid: expected a valid integer, not '7'"),
    ({"op": "join", "run": "r", "pid": True}, "pid: expected a valid integer, not True"),
    ({"op": "join", "run": "r", "pid": 0}, "pid: expected greater than 0, not 0"),
    ({"op": "progress", "run": "r", "steps": "7"}, "steps: expected a valid number, not '7'"),
    ({"op": "progress", "run": "r", "steps": True}, "steps: expected a valid number, not True"),
    ({"op": "progress", "run": "r", "steps": -1}, "steps: expected greater than or equal to 0, not -1"),
    ({"op": "progress", "run": "r", "tokens": 1e19}, "tokens: expected less than or equal to 1000000000000000000"),
    ({"op": "progress", "run": "r", "tokens": float("inf")}, "tokens: expected"),
    ({"op": "phase", "run": "r"}, "phase: missing"),
    ({"op": "runs", "limit": 0}, "limit: expected greater than or equal to 1"),
    ({"op": "phase", "run": "r", "phase": ["x" * 10_000]}, "phase: expected a valid string, not ['xxx"),
    ({"op": "start", "tags": {"x" * 10_000: 1}}, "tags.xxx"),
    ({"op": "job_start", "job_id": "7"}, "uid: missing; number of the user"),
    ({"op": "job_start", "job_id": "7_3", "uid": 1}, "job_id: expected"),
    ({"op": "job_start", "job_id": "7", "uid": -1}, "uid: expected greater than or equal to 0, not -1"),
    ({"op": "job_start", "job_id": "7", "uid": 1, "gpu": "0"}, "unknown key 'gpu'; did you mean 'gpus'?"),
    ({"op": "job_end"}, "job_id: missing; number of the job"),
]


@pytest.mark.parametrize("request_", WELL, ids=str)
def test_a_request_that_is_well(request_: dict[str, Any]) -> None:
    """What is right is taken, by the model and by the published schema."""
    assert request_["op"] == parse(REQUESTS[request_["op"]][0], request_).model_dump()["op"]
    jsonschema.validate(request_, json_schema())


@pytest.mark.parametrize(("request_", "says"), ILL, ids=lambda case: str(case)[:40])
def test_a_request_that_is_ill_is_one_line(request_: dict[str, Any], says: str) -> None:
    """What is wrong is named with what is expected, in one short line; the published schema refuses it, too."""
    with pytest.raises(FailureError) as caught:
        parse(REQUESTS[request_["op"]][0], request_)

    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(request_, json_schema())


def test_the_schema_is_one() -> None:
    """Valid JSON Schema, every request described with its keys, every op with its answer."""
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)

    assert set(REQUESTS) == set(schema["x-answers"])
    for op, (request, answer) in REQUESTS.items():
        described = schema["$defs"][request.__name__]

        assert described["description"]
        assert described["additionalProperties"] is False
        assert described["properties"]["op"]["const"] == op
        assert f"#/$defs/{answer.__name__}" == schema["x-answers"][op]
        assert [] == [key for key, text in described["properties"].items() if key != "op" and "description" not in text]
    assert requests.json_schema() == schema


def test_answers_fit_the_schema() -> None:
    """What the daemon says may be checked against the same document."""
    schema = json_schema()
    answers = {"$ref": "#/$defs/AnyAnswer", "$defs": schema["$defs"]}
    jsonschema.validate({"ok": False, "error": "no"}, answers)
    jsonschema.validate({"ok": True}, answers)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"ok": "yes"}, answers)

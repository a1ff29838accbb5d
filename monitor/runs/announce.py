"""What a Slurm prolog and epilog tell the daemon of their node. slurmd and the job wait for it: it is short.

What slurmd gives them is little: job id, user, account, GPUs and number of nodes, but (in 22.05) neither the job's name
nor its array; a daemon that may read the job's processes finds them there. With `--ask-slurmctld` it is asked, which a
large cluster should not do.
"""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monitor.errors import FailureError
from monitor.runs.protocol import SYSTEM_PATH, ask

PATIENCE_S = 2.0
ASK = "--ask-slurmctld"
ASKED_WITHIN_S = 1.0
_RANGES = re.compile(r"\[([^\]]*)\]")
_FACTS = {
    "name": re.compile(r"(?:^| )JobName=(.*?) UserId="),
    "array_job_id": re.compile(r" ArrayJobId=(\d+)"),
    "array_task_id": re.compile(r" ArrayTaskId=(\d+)"),
}
"""In the one line of `scontrol --oneliner show job`; a name may have blanks."""


def announce(what: str, environment: Mapping[str, str], arguments: Sequence[str] = ()) -> str:
    """Tell the daemon of a prolog's, or an epilog's, environment; one line on what went wrong, "" = nothing."""
    if wrong := [argument for argument in arguments if argument != ASK]:
        return f"unknown argument {wrong[0]}; there is {ASK}, for the prolog"
    job = environment.get("SLURM_JOB_ID", "").strip()
    if not job:
        return "SLURM_JOB_ID is not set: this is for slurmd, as Prolog or Epilog of slurm.conf"
    # A path by name is trusted: the daemon of a node may be that of a service user.
    socket = Path(environment.get("TRAINWATT_SOCKET") or SYSTEM_PATH)
    try:
        if what == "epilog":
            ask(socket, ending(environment), timeout_s=PATIENCE_S)
        else:
            facts = _asked(job) if ASK in arguments else {}
            ask(socket, {**beginning(environment), **facts}, timeout_s=PATIENCE_S)
    except FailureError as error:
        return f"job {job} goes on without being told of: {error}"
    return ""


def beginning(environment: Mapping[str, str]) -> dict[str, Any]:
    """The request of a prolog, without what slurmd does not tell."""
    told: dict[str, Any] = {
        "job_id": _first(environment, "SLURM_JOB_ID"),
        "uid": _number(environment, "SLURM_JOB_UID", "SLURM_UID"),
        "cluster": _first(environment, "SLURM_CLUSTER_NAME"),
        "name": _first(environment, "SLURM_JOB_NAME"),
        "account": _first(environment, "SLURM_JOB_ACCOUNT"),
        "nodes": _nodes(environment),
        "gpus": _first(environment, "SLURM_JOB_GPUS", "SLURM_STEP_GPUS"),
        "array_job_id": _first(environment, "SLURM_ARRAY_JOB_ID"),
        "array_task_id": _first(environment, "SLURM_ARRAY_TASK_ID"),
        "restart": _number(environment, "SLURM_JOB_RESTART_COUNT", "SLURM_RESTART_COUNT"),
        "partition": _first(environment, "SLURM_JOB_PARTITION"),
    }
    return {"op": "job_start", **{key: value for key, value in told.items() if value not in {"", None}}}


def ending(environment: Mapping[str, str]) -> dict[str, Any]:
    """The request of an epilog."""
    told = {"cluster": _first(environment, "SLURM_CLUSTER_NAME"), "uid": _number(environment, "SLURM_JOB_UID")}
    known = {key: value for key, value in told.items() if value not in {"", None}}
    return {"op": "job_end", "job_id": _first(environment, "SLURM_JOB_ID"), **known}


def count_nodes(text: str) -> int:
    """How many nodes a list of Slurm names, such as node[01-03,7],login or r[1-2]n[1-4]."""
    return sum(_count(name) for name in _split(text))


def _split(text: str) -> list[str]:
    """At the commas that stand in no brackets."""
    names, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == "," and depth <= 0:
            names.append("")
        else:
            names[-1] += character
    return [name for name in (one.strip() for one in names) if name]


def _count(name: str) -> int:
    nodes = 1
    for ranges in _RANGES.findall(name):
        numbers = 0
        for entry in ranges.split(","):
            first, dash, last = entry.partition("-")
            numbers += int(last) - int(first) + 1 if dash and first.isdigit() and last.isdigit() else 1
        nodes *= numbers
    return nodes


def _nodes(environment: Mapping[str, str]) -> int | None:
    told = _number(environment, "SLURM_JOB_NUM_NODES", "SLURM_NNODES")
    return told or count_nodes(_first(environment, "SLURM_JOB_NODELIST", "SLURM_NODELIST")) or None


def _first(environment: Mapping[str, str], *names: str) -> str:
    return next((text for name in names if (text := environment.get(name, "").strip())), "")


def _number(environment: Mapping[str, str], *names: str) -> int | None:
    text = _first(environment, *names)
    return int(text) if text.isascii() and text.isdigit() else None


def _asked(job: str) -> dict[str, str]:
    """What only slurmctld knows; nothing where it does not answer at once."""
    try:
        line = subprocess.run(  # noqa: S603  (a number, and no shell)
            ["scontrol", "--oneliner", "show", "job", job],  # noqa: S607  (slurmd's own PATH)
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ASKED_WITHIN_S,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    found = {key: fact.search(line) for key, fact in _FACTS.items()}
    return {key: match[1] for key, match in found.items() if match}

"""Who a run is: its id and where that comes from, and names that are fit to be shown. No I/O."""

import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

LONGEST_ID = 128
LONGEST_NAME = 200
LONGEST_TAG_KEY = 64
LONGEST_TAG_VALUE = 200
LONGEST_USER = 64
LONGEST_PROJECT = 128
LONGEST_PHASE = 64
MOST_TAGS = 32

ELLIPSIS = "…"
DIGEST_CHARACTERS = 8
BOOT_CHARACTERS = 8
"""As much of the boot id tells the boots of one node apart."""
CONTAINER_CHARACTERS = 12
UNKNOWN_CLUSTER = "cluster"
"""Stands in an id for a cluster of which nobody tells the name."""
NO_TORCHRUN_ID = "none"
"""What torchrun passes on when nobody named a rendezvous (`--rdzv-id`)."""

# C0, DEL and C1, the line and paragraph separators, and what turns the direction of the text around it.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SURROGATES = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"


class Process(NamedTuple):
    """A process that cannot be mistaken for a later one of the same number."""

    pid: int
    start_ticks: int
    """Clock ticks from boot to its start: field 22 of /proc/PID/stat. 0 = it had gone before anybody looked."""


class Origin(NamedTuple):
    """A process as an id is made of it."""

    boot_id: str
    pid: int
    start_ticks: int


def run_id(environment: Mapping[str, str], process: Origin, parent: Origin | None = None) -> str:
    """What the user gave, else the scheduler's or launcher's id, else the process tree's, in that order.

    `parent` is the process above: the workers of one torchrun agent (LOCAL_RANK is set) are one tree, and it is theirs.
    """
    given = given_id(environment)
    if given:
        return given
    job = job_id(environment)
    if job:
        return slurm_id(environment.get("SLURM_CLUSTER_NAME", ""), job)
    named = rendezvous(environment)
    if named:
        return torchrun_id(named)
    return tree_id(parent if parent is not None and "LOCAL_RANK" in environment else process)


def key(environment: Mapping[str, str], uid: int) -> str:
    """`Found.key` of a run of this user that has its id by such an environment. Processes found to be of it are its.

    "" = only its processes' descent tells.
    """
    given, job, named = given_id(environment), raw_job_id(environment), rendezvous(environment)
    if given:
        return given_key(uid, given)
    if job:
        return slurm_key(job)
    return torchrun_key(uid, named) if named else ""


def given_id(environment: Mapping[str, str]) -> str:
    """The id that the user gave; "" = none."""
    return environment.get("TRAINWATT_RUN", "").strip()


def given_key(uid: int, given: str) -> str:
    """Key of what a user named so."""
    return f"given:{uid}:{clean_id(given)[0]}"


def slurm_id(cluster: str, job: str) -> str:
    """Id of a Slurm job."""
    return f"slurm-{cluster.strip() or UNKNOWN_CLUSTER}-{job}"


def slurm_key(job: str) -> str:
    """Key of a Slurm job, by its raw number: each task of an array has its own."""
    return f"slurm:{clean_id(job)[0]}"


def raw_job_id(environment: Mapping[str, str]) -> str:
    """The number that Slurm's directories and processes have for the job; "" without one."""
    return environment.get("SLURM_JOB_ID", "").strip()


def rendezvous(environment: Mapping[str, str]) -> str:
    """What torchrun calls the run; "" without a name."""
    named = environment.get("TORCHELASTIC_RUN_ID", "").strip()
    return "" if named.lower() == NO_TORCHRUN_ID else named


def torchrun_id(named: str) -> str:
    """Id of a run that torchrun knows by a name."""
    return f"torchrun-{named}"


def torchrun_key(uid: int, named: str) -> str:
    """Key of a user's run that torchrun knows by a name."""
    return f"torchrun:{uid}:{clean_id(named)[0]}"


def pod_id(pod: str) -> str:
    """Id of a pod, by its UID."""
    return f"pod-{pod}"


def container_id(container: str) -> str:
    """Id of a container: as much of its full id as its engine shows."""
    return f"container-{container[:CONTAINER_CHARACTERS]}"


def tree_id(root: Origin) -> str:
    """Id of all that descends from a process."""
    return f"tree-{root.boot_id[:BOOT_CHARACTERS]}-{root.pid}-{root.start_ticks}"


def launcher(environment: Mapping[str, str]) -> str:
    """What started the job: slurm, torchrun, or "" for none that we know."""
    if environment.get("SLURM_JOB_ID", "").strip():
        return "slurm"
    return "torchrun" if "TORCHELASTIC_RUN_ID" in environment else ""


def job_id(environment: Mapping[str, str]) -> str:
    """The scheduler's number of the job, ARRAY_TASK for a task of an array; "" without one."""
    array = environment.get("SLURM_ARRAY_JOB_ID", "").strip()
    task = environment.get("SLURM_ARRAY_TASK_ID", "").strip()
    return f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID", "").strip()


def clean(text: str, longest: int) -> tuple[str, bool]:
    """A name on one line of at most so many characters, and whether it had to be changed for that.

    Quotes stay: whoever writes a format escapes for it.
    """
    fit = _SURROGATES.sub(REPLACEMENT, _UNFIT.sub(" ", text)).strip()
    if len(fit) > longest:
        fit = fit[: longest - 1].rstrip() + ELLIPSIS
    # The mark stands where a name that was no UTF-8 was repaired when it was read.
    return fit, fit != text or REPLACEMENT in fit


def clean_id(text: str) -> tuple[str, bool]:
    """An id fit to be shown. One that is cut keeps a digest, so that two that differ at their ends stay two."""
    fit, altered = clean(text, LONGEST_ID)
    whole, _altered = clean(text, len(text) + 1)
    return (_cut(whole, LONGEST_ID), True) if len(whole) > LONGEST_ID else (fit, altered)


def scoped(run_id: str, user: str) -> str:
    """The id of this user's run where another user had the id first."""
    return f"{_cut(run_id, LONGEST_ID - len(user) - 1)}@{user}"


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:DIGEST_CHARACTERS]
    return text[: longest - len(ELLIPSIS) - DIGEST_CHARACTERS].rstrip() + ELLIPSIS + digest


def clean_tags(tags: Mapping[str, str]) -> tuple[tuple[tuple[str, str], ...], int]:
    """Tags fit to be shown, sorted by name, at most 32, and how many names and values were changed or left out."""
    fit: dict[str, str] = {}
    altered = 0
    for key, value in tags.items():
        name, name_altered = clean(key, LONGEST_TAG_KEY)
        text, text_altered = clean(value, LONGEST_TAG_VALUE)
        altered += name_altered + text_altered
        if name and len(fit) < MOST_TAGS:
            fit[name] = text
        else:
            altered += not name_altered
    return tuple(sorted(fit.items())), altered

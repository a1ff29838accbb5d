"""Whose work a process is that nobody registered: by what the user, the scheduler, the launcher and the kernel say.

What only the process itself says (its environment) is taken at its word for names, never for another user's work: the
user of a run is the kernel's word. What cannot be known is told in `Identity.note`, never guessed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

from monitor.runs import holdings, identity, slurm
from monitor.runs.cgroup import Place, PlaceKind, place_of
from monitor.runs.evidence import Evidence
from monitor.runs.identity import Origin, Process
from monitor.runs.kinship import Kin, root_of
from monitor.runs.wish import Wish

NO_ENVIRONMENT = "its environment may not be read: name, project and the GPUs that it was given are unknown"
NO_ARRAY = "whether it is a task of an array is unknown"
NO_NUMBER = (
    "Slurm's number of the job is unknown: its directory has a SLUID, and no environment that may be read tells it"
)

NOWHERE = Place()
MOST_REMEMBERED = 4096
"""Jobs; then it begins anew."""

_T = TypeVar("_T")
_UID = re.compile("[0-9]{1,10}")


class Kind(StrEnum):
    """What gives a run its id, the first that there is."""

    GIVEN = auto()
    SLURM = auto()
    TORCHRUN = auto()
    POD = auto()
    CONTAINER = auto()
    TREE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which run a process is of, and how that is known."""

    key: str
    """`Found.key`."""
    kind: Kind
    wish: Wish
    uid: int
    """Real user of the process; of a Slurm job and of a rootless container, the user whose it is."""
    root: Process
    """Where the tree begins that the process is in."""
    directories: tuple[tuple[str, str], ...] = ()
    """(controller, path) of a cgroup in which the run is, and nothing else; () = there is none."""
    place: Place = NOWHERE
    """Where it stands: of a job in which an id was given, the job's directory, for whoever knows that all is its."""
    proven: bool = False
    """The kernel or root says so: an environment alone says what its user wants it to."""
    note: str = ""
    """What is unknown, in words."""


class _Job(NamedTuple):
    number: str
    """"" = only the SLUID is known."""
    sluid: str
    directories: tuple[tuple[str, str], ...]
    proven: bool


class _Above(NamedTuple):
    """What a slurmstepd tells of the job that it began."""

    number: str = ""
    user: int | None = None
    """Of the process that it started."""


class _Process(NamedTuple):
    """What is known of the process in question."""

    uid: int
    environment: Mapping[str, str] | None
    place: Place
    root: Process

    @property
    def told(self) -> Mapping[str, str]:
        return self.environment or {}


class Identifier:
    """Identifies processes under a procfs root. Not safe to share among threads."""

    def __init__(self, root: Path, *, cluster: str, boot_id: str) -> None:
        """`cluster` is the name of this node's Slurm cluster, "" = unknown."""
        self._evidence = Evidence(root)
        self._cluster = cluster
        self._boot_id = boot_id
        self._numbers: dict[str, str] = {}
        """Number of each job that has a SLUID, as one of its processes told it."""
        self._users: dict[str, int] = {}
        """User of each job that the kernel or root told of."""

    def identify(self, line: Sequence[Kin]) -> Identity | None:
        """The run of a process: `line` is itself, then its ancestors, nearest first.

        None where it has gone, and for Slurm's own daemon of a job and root's prologs, whose work is nobody's.
        """
        if not line:
            return None
        own = line[0]
        uid = self._evidence.real_uid(own.pid)
        place = place_of(self._evidence.cgroup_text(own.pid))
        environment = self._evidence.environment(own.pid)
        above = self._above(line)
        root = root_of(line, self._evidence)
        # Its number may have become another's meanwhile: then all of this is the other's.
        if uid is None or root is None or self._evidence.start_ticks(own.pid) != own.start_ticks:
            return None
        if uid == 0 and (own.comm.startswith(slurm.STEPD) or slurm.is_script(environment or {})):
            return None
        job = self._job(place, above, environment or {})
        if job is not None and job.proven:
            uid = self._user(uid, place, job, above, environment or {})
        elif place.kind in {PlaceKind.POD, PlaceKind.CONTAINER} and place.owner is not None:
            uid = place.owner
        return self._identity(_Process(uid, environment, place, root), job)

    def _job(self, place: Place, above: _Above, environment: Mapping[str, str]) -> _Job | None:
        """The Slurm job: the cgroup's word before that of a slurmstepd above, before the environment's."""
        if place.kind is PlaceKind.SLURM:
            return _Job(place.id, "", place.directories, proven=True)
        number = above.number or identity.raw_job_id(environment)
        if place.kind is not PlaceKind.SLUID:
            return _Job(number, "", (), proven=bool(above.number)) if number else None
        # Not all of its processes may be read, and it is one job.
        number = number or self._numbers.get(place.id, "")
        if number:
            _remember(self._numbers, place.id, number)
        return _Job(number, place.id, place.directories, proven=True)

    def _user(self, uid: int, place: Place, job: _Job, above: _Above, environment: Mapping[str, str]) -> int:
        """Whose the job is, of which this process of `uid` is: it may be root's, or of a user of a container in it."""
        name = job.number or job.sluid
        told = environment.get("SLURM_JOB_UID", "")
        if place.owner is not None:
            user = place.owner
        elif above.user is not None:
            user = above.user
        elif name in self._users:
            return self._users[name]
        elif uid == 0:  # root may say for whom it works, nobody else
            return int(told) if _is_of(environment, job) and _UID.fullmatch(told) else uid
        else:
            user = uid
        _remember(self._users, name, user)
        return user

    def _above(self, line: Sequence[Kin]) -> _Above:
        """What a slurmstepd tells that is an ancestor."""
        for child, kin in pairwise(line):
            # Name and title are anybody's to choose; the user is not.
            if kin.comm.startswith(slurm.STEPD) and self._evidence.real_uid(kin.pid) == 0:
                number = slurm.job_of_stepd(self._evidence.command_line(kin.pid))
                # Until it is the job's user, what it starts has its own name.
                is_started = not child.comm.startswith(slurm.STEPD)
                return _Above(number, self._evidence.real_uid(child.pid) if is_started else None)
        return _Above()

    def _identity(self, known: _Process, job: _Job | None) -> Identity:
        told, uid, place, root = known.told, known.uid, known.place, known.root
        given, named = identity.given_id(told), identity.rendezvous(told)
        if identity.clean_id(given)[0]:
            # Of a job or a pod in which this one was named, others may be, too: its directory is not this one's alone.
            return _made(known, job, Kind.GIVEN, given, identity.given_key(uid, given))
        if job is not None:
            key = identity.slurm_key(job.number or job.sluid)
            slurms = _made(known, job, Kind.SLURM, self._slurm_id(known, job), key)
            return replace(slurms, directories=job.directories, proven=job.proven)
        if identity.clean_id(named)[0]:
            return _made(known, job, Kind.TORCHRUN, identity.torchrun_id(named), identity.torchrun_key(uid, named))
        if place.kind is PlaceKind.POD:
            pods = _made(known, job, Kind.POD, identity.pod_id(place.id), f"pod:{_scope(place)}{place.id}")
            return replace(pods, directories=place.directories, proven=True)
        if place.kind is PlaceKind.CONTAINER:
            run_id, key = identity.container_id(place.id), f"container:{_scope(place)}{place.id}"
            return replace(_made(known, job, Kind.CONTAINER, run_id, key), directories=place.directories, proven=True)
        run_id = identity.tree_id(Origin(self._boot_id, root.pid, root.start_ticks))
        return replace(_made(known, job, Kind.TREE, run_id, f"tree:{root.pid}:{root.start_ticks}"), proven=True)

    def _slurm_id(self, known: _Process, job: _Job) -> str:
        """As `identity.run_id` makes it where the environment is of this job: a registered run has that."""
        if _is_of(known.told, job):
            return identity.slurm_id(known.told.get("SLURM_CLUSTER_NAME", ""), identity.job_id(known.told))
        return identity.slurm_id(self._cluster, job.number or job.sluid)


def _made(known: _Process, job: _Job | None, kind: Kind, run_id: str, key: str) -> Identity:
    told, place = known.told, known.place
    of_job = told if job is not None and _is_of(told, job) else {}
    number = "" if job is None else job.number
    wish = Wish(
        id=run_id,
        name=of_job.get("SLURM_JOB_NAME", ""),
        project=of_job.get("SLURM_JOB_ACCOUNT", "") or (told.get("POD_NAMESPACE", "") if place.pod else ""),
        launcher=slurm.NAME if job is not None else identity.launcher(told) or place.engine,
        job_id=identity.job_id(of_job) or number,
        tags=_tags(of_job),
        hints=holdings.hints(told),
        key=key,
        raw_job_id=number,
        is_named=kind is Kind.GIVEN,
    )
    note = _note(known.environment, job, of_job, kind)
    return Identity(key=key, kind=kind, wish=wish, uid=known.uid, root=known.root, place=place, note=note)


def _is_of(environment: Mapping[str, str], job: _Job) -> bool:
    """Whether an environment is the job's own: that of another may have been passed on."""
    return bool(job.number) and identity.raw_job_id(environment) == job.number


def _remember(known: dict[str, _T], name: str, value: _T) -> None:
    if len(known) >= MOST_REMEMBERED:
        known.clear()
    known[name] = value


def _scope(place: Place) -> str:
    """A user's own engine may call a container as it likes: then it is his container of that name."""
    return "" if place.owner is None else f"{place.owner}:"


def _tags(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    told = {
        "nodes": environment.get("SLURM_JOB_NUM_NODES", ""),
        "restarts": environment.get("SLURM_RESTART_COUNT", ""),
    }
    return tuple((name, text) for name, text in told.items() if text)


def _note(environment: Mapping[str, str] | None, job: _Job | None, of_job: Mapping[str, str], kind: Kind) -> str:
    unknown = []
    if kind is Kind.SLURM and job is not None and not job.number:
        unknown.append(NO_NUMBER)
    if environment is None:
        unknown.append(NO_ENVIRONMENT)
    if kind is Kind.SLURM and not of_job:
        unknown.append(NO_ARRAY)
    return "; ".join(unknown)

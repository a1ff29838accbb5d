"""Where a process stands: the whole of /proc/PID/cgroup as the job, pod, container or unit that it is in. No I/O.

A user may make directories of any name below his own service manager and below a service that was given to him. So a
name counts only where nobody but root, the kubelet or a container engine could have made it: "never a wrong id".
"""

import re
from collections.abc import Iterable, Iterator
from enum import IntEnum, StrEnum, auto
from typing import NamedTuple


class PlaceKind(StrEnum):
    """What a place is, in the words of whoever made it."""

    SLURM = auto()
    """A Slurm job, by its number."""
    SLUID = auto()
    """A Slurm job, by the name that it has in place of a number from 26.05 on (CgroupJobIdPaths=no)."""
    POD = auto()
    CONTAINER = auto()
    UNIT = auto()
    """A scope or a service of systemd."""
    NONE = auto()


class Place(NamedTuple):
    """Where a process stands."""

    kind: PlaceKind = PlaceKind.NONE
    id: str = ""
    """Job number, SLUID, pod UID (with dashes; one of 32 digits as it is), container id in full, or name of a unit."""
    pod: str = ""
    container: str = ""
    """Set beside `pod` where a container is in one, and beside a job that is in a container, or around one."""
    step: str = ""
    """Of a Slurm job: batch, extern, interactive or a number."""
    engine: str = ""
    """What runs it: kubernetes, docker, podman, containerd, cri-o; "" = the path does not tell."""
    owner: int | None = None
    """User number where the path tells it for sure: of a Slurm job (v1), or of the user whose manager it is below."""
    directories: tuple[tuple[str, str], ...] = ()
    """(controller, path) of the directory that is the place's own; "" is the controller of version 2."""


class _Rank(IntEnum):
    """Which of two findings on one path says more: a scheduler's job before a pod before a container."""

    NONE = 0
    UNIT = 1
    CONTAINER = 2
    POD = 3
    SLUID = 4
    SLURM = 5


class _Found(NamedTuple):
    rank: _Rank = _Rank.NONE
    id: str = ""
    pod: str = ""
    container: str = ""
    step: str = ""
    engine: str = ""
    owner: int | None = None
    own: str = ""
    """Path of its own directory; "" = out of sight."""


_NOWHERE = _Found()
_HEX = "[0-9a-f]{64}"
_LINE = re.compile(r"([0-9]{1,9}):([^:]*):(/.*)", re.DOTALL)
_UP = ".."
_GONE = " (deleted)"
_UNIT_ENDS = (".scope", ".service")
_STEPD = re.compile(r"(?:[^/]+_)?slurmstepd\.scope")
_V1 = re.compile(r"slurm(?:_[^/]+)?")
_V1_USER = re.compile(r"uid_([0-9]{1,10})")
_JOB = re.compile(r"job_([1-9][0-9]{0,9})")
_SLUID = re.compile(r"s[0-9A-HJKMNP-TV-Z]{13}")
"""`sluid2str` of Slurm's src/common/sluid.c: 13 digits to the base of 32."""
_STEP = re.compile(r"step_([0-9]{1,10}|batch|extern|interactive)(?:\+[0-9]+)?")
_USER_SLICE = re.compile(r"user-([0-9]{1,10})\.slice")
_ENGINE_SERVICE = re.compile(
    r"(?:docker|containerd|crio|cri-docker|kubelet|k3s|k3s-agent|rke2-server|rke2-agent|k0sworker"
    r"|snap\.(?:docker|microk8s|k8s)\..*)\.service"
)
_POD_UID = "[0-9a-f]{8}(?P<dash>[-_])[0-9a-f]{4}(?P=dash)[0-9a-f]{4}(?P=dash)[0-9a-f]{4}(?P=dash)[0-9a-f]{12}"
_POD_SLICE = re.compile(
    rf"(?:[a-z0-9]+-)?kubepods(?:-burstable|-besteffort)?-pod(?P<uid>{_POD_UID}|[0-9a-f]{{32}})\.slice(?::.*)?"
)
_POD_DIRECTORY = re.compile(rf"pod(?P<uid>{_POD_UID}|[0-9a-f]{{32}})")
_KUBEPODS = ("kubepods", "burstable", "besteffort")
_PODMAN_POD = re.compile(rf"(?:machine|user)-libpod_pod_({_HEX})\.slice")
_CONTAINER = re.compile(
    rf"(?:[^:]*:)?(?P<engine>docker|cri-containerd|crio|libpod|libpod-payload|nerdctl)[-:](?P<id>{_HEX})(?:\.scope)?"
)
_BARE = re.compile(_HEX)
_ENGINES = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "libpod-payload": "podman",
    "libpod_parent": "podman",
    "moby": "docker",
}
"""By the word before the id; by the directory above it, for a bare id."""
_KINDS = {
    _Rank.SLURM: PlaceKind.SLURM,
    _Rank.SLUID: PlaceKind.SLUID,
    _Rank.POD: PlaceKind.POD,
    _Rank.CONTAINER: PlaceKind.CONTAINER,
    _Rank.UNIT: PlaceKind.UNIT,
}
_SYSTEMD = ("", "name=systemd")
"""The hierarchies in which units are."""


def place_of(text: str) -> Place:
    """What the lines of /proc/PID/cgroup say together (cgroups(7)); where they contradict each other, less."""
    found = [(controllers, _on(path)) for controllers, path in _lines(text)]
    for rank in sorted(_KINDS, reverse=True):
        of_rank = [(controllers, one) for controllers, one in found if one.rank is rank]
        if rank is _Rank.UNIT:
            # Units of the v1 controllers are the same, or less than that: systemd does not use each of them.
            of_rank = [one for one in of_rank if set(one[0]) & set(_SYSTEMD)][:1] or of_rank
        if len({one.id for _controllers, one in of_rank}) == 1:
            return _together(rank, of_rank, [one for _controllers, one in found])
    return Place()


def _together(rank: _Rank, of_rank: list[tuple[tuple[str, ...], _Found]], every: Iterable[_Found]) -> Place:
    ours = [one for _controllers, one in of_rank]
    every = list(every)
    return Place(
        kind=_KINDS[rank],
        id=ours[0].id,
        pod=_only(one.pod for one in every),
        container=_only(one.container for one in every),
        step=_only(one.step for one in ours),
        engine="" if rank is _Rank.UNIT else _only(one.engine for one in ours),
        owner=next((one.owner for one in ours if one.owner is not None), None),
        directories=tuple((name, one.own) for controllers, one in of_rank if one.own for name in controllers),
    )


def _only(values: Iterable[str]) -> str:
    seen = {value for value in values if value}
    return seen.pop() if len(seen) == 1 else ""


def place_lines(text: str) -> tuple[tuple[str, str], ...]:
    """(controller, path) of each line."""
    return tuple((name, path) for controllers, path in _lines(text) for name in controllers)


def _lines(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    for line in text.split("\n"):
        if match := _LINE.fullmatch(line):
            number, controllers, path = match.groups()
            # A line of version 2 names no controller, and is the only one that may.
            if (number == "0") == (not controllers):
                yield tuple(controllers.split(",")), path


def _on(path: str) -> _Found:
    """What one path says."""
    gone = path.endswith(_GONE)
    parts = path.removesuffix(_GONE).strip("/").split("/")
    # Seen from within a cgroup namespace, what is outside of it begins with "..": its directories cannot be reached.
    ups = next((index for index, part in enumerate(parts) if part != _UP), len(parts))
    if _UP in parts[ups:] or "" in parts:
        return _NOWHERE
    found = _read(parts, ups)
    return found._replace(own="") if gone or ups else found


def _read(parts: list[str], ups: int) -> _Found:
    wall = next((index for index, part in enumerate(parts) if _is_delegated(part)), len(parts))
    pod = _pod(parts, ups, wall)
    container = _container(parts, ups, wall, after=pod[1] + 1 if pod else None)
    inside = container[1] + 1 if container and container[1] < wall else None
    job = _job(parts, ups, inside)
    unit = _unit(parts)
    owner = _user(parts)
    if job is not None:
        rank, at, user = job
        number, step = _JOB.fullmatch(parts[at]), _STEP.fullmatch(parts[at + 1]) if at + 1 < len(parts) else None
        job_id = number.group(1) if number else parts[at]
        found = _Found(rank, job_id, step=step.group(1) if step else "", own=_path(parts, at))
        owner = user
    elif pod:
        # A container that names its pod in its own name has no directory of the pod's above it.
        found = _Found(_Rank.POD, pod[0], own="" if ":" in parts[pod[1]] else _path(parts, pod[1]))
    elif container:
        found = _Found(_Rank.CONTAINER, container[0], own=_path(parts, container[1]))
    elif unit is not None:
        found = _Found(_Rank.UNIT, parts[unit], own=_path(parts, unit))
    else:
        return _NOWHERE
    return found._replace(
        pod=pod[0] if pod else "",
        container=container[0] if container else "",
        engine=pod[2] if pod else container[2] if container else "",
        owner=owner,
    )


def _path(parts: list[str], last: int) -> str:
    return "/" + "/".join(parts[: last + 1])


def _is_delegated(part: str) -> bool:
    """Whether an ordinary user may be who makes the directories below: units, but those of engines and of Slurm."""
    if not part.endswith(_UNIT_ENDS):
        return False
    return not (_ENGINE_SERVICE.fullmatch(part) or _STEPD.fullmatch(part) or _CONTAINER.fullmatch(part))


def _user(parts: list[str]) -> int | None:
    """Whose sessions and services these are: logind makes these directories, nobody else."""
    if parts[0] != "user.slice" or len(parts) < 2:  # noqa: PLR2004  (user.slice/user-N.slice)
        return None
    match = _USER_SLICE.fullmatch(parts[1])
    return int(match.group(1)) if match else None


def _job(parts: list[str], ups: int, inside: int | None) -> tuple[_Rank, int, int | None] | None:
    """Rank, position and user of a Slurm job's directory, directly below the root or below a container's directory."""
    for start in (ups,) if inside is None else (ups, inside):
        first, second, third = [*parts[start : start + 3], "", "", ""][:3]
        user, number = _V1_USER.fullmatch(second), _JOB.fullmatch(third)
        if _V1.fullmatch(first) and user and number:
            return _Rank.SLURM, start + 2, int(user.group(1))
        # Seen from a neighbour, and only so, a path may begin with the scope: /../slurmstepd.scope.
        at, scope, own = (start + 1, second, third) if first == "system.slice" else (start, first, second)
        if not _STEPD.fullmatch(scope) or (at == start and (start > ups or not ups)):
            continue
        if _JOB.fullmatch(own):
            return _Rank.SLURM, at + 1, None
        if _SLUID.fullmatch(own):
            return _Rank.SLUID, at + 1, None
    return None


def _pod(parts: list[str], ups: int, wall: int) -> tuple[str, int, str] | None:
    """UID, position and engine of the innermost pod: of a cluster within a container, that of the work."""
    for index in reversed(range(ups, wall)):
        match = _POD_SLICE.fullmatch(parts[index])
        if match is None and (parts[index - 1] in _KUBEPODS if index > ups else ups):
            match = _POD_DIRECTORY.fullmatch(parts[index])
        if match is not None:
            return match["uid"].replace("_", "-"), index, "kubernetes"
    for index in range(ups, len(parts)):
        match = _PODMAN_POD.fullmatch(parts[index])
        if match is not None and (index < wall or _is_rootless(parts, index)):
            return match.group(1), index, "podman"
    return None


def _container(parts: list[str], ups: int, wall: int, after: int | None) -> tuple[str, int, str] | None:
    """Id, position and engine of the outermost container (in the pod): those within are made by what runs in it."""
    if after is not None and ":" in parts[after - 1]:
        after -= 1
    for index in range(ups if after is None else after, len(parts)):
        if index > wall and not (parts[index].endswith(".scope") and _is_rootless(parts, index)):
            continue
        if found := _CONTAINER.fullmatch(parts[index]):
            return found["id"], index, _ENGINES[found["engine"]]
        if _BARE.fullmatch(parts[index]) and index > 0:
            return parts[index], index, _ENGINES.get(parts[index - 1], "")
    return None


def _is_rootless(parts: list[str], index: int) -> bool:
    """Whether it is where engines of an ordinary user put theirs: in slices of the user.slice of his own manager."""
    head, slices = parts[:3], parts[3:index]
    if _user(parts) is None or len(head) < 3 or head[2] != f"user@{_user(parts)}.service":  # noqa: PLR2004  (as `head`)
        return False
    return slices[:1] == ["user.slice"] and all(part.endswith(".slice") for part in slices)


def _unit(parts: list[str]) -> int | None:
    units = [index for index, part in enumerate(parts) if part.endswith(_UNIT_ENDS) and part not in _UNIT_ENDS]
    return units[-1] if units else None

"""A daemon within a container, outside of the host's PID namespace: the container is one run.

Drivers tell processes by the host's numbers, which are others than ours. So nobody can tell here which process is on
which GPU; but all GPUs that can be seen are the container's.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from monitor.core.model import Instant, Processes
from monitor.runs.cgroup import PlaceKind, place_of
from monitor.runs.cgroupfs import Directories
from monitor.runs.evidence import Evidence
from monitor.runs.forest import Forest
from monitor.runs.found import Found, Tracked
from monitor.runs.identity import container_id, pod_id
from monitor.runs.wish import Wish

FIRST_PID = 1
MOST_BYTES = 2**20
KEY = "container:own"
_IN_MOUNTS = re.compile(r"/(?:containers|sandboxes|overlay-containers|libpod/[^/ ]+)/([0-9a-f]{64})/")
_POD_IN_MOUNTS = re.compile(r"/kubelet/pods/([0-9a-f]{8}-[0-9a-f-]{27})/")


class OwnContainer:
    """Finds one run, while a driver tells of any process."""

    def __init__(self, root: Path, *, hostname: str, ticks_per_s: int) -> None:
        self._evidence = Evidence(root)
        self._id = own_id(root, self._evidence, hostname)
        self._ticks_per_s = ticks_per_s

    def find(
        self,
        forest: Forest,
        tracked: Sequence[Tracked],
        looks: Mapping[str, Processes],
        at: Instant,  # noqa: ARG002
    ) -> list[Found]:
        """The container, once there is work on a GPU and nobody has registered a run."""
        if tracked or not any(look.processes for look in looks.values()):
            return []
        line = forest.line(FIRST_PID)
        uid = self._evidence.real_uid(FIRST_PID)
        if not line or uid is None:
            return []
        first = line[0]
        wish = Wish(id=self._id, launcher="container", key=KEY, is_named=False)
        start_s = first.start_ticks / self._ticks_per_s
        return [Found(key=KEY, wish=wish, uid=uid, start_mono_s=start_s, processes=(first.process,))]

    @staticmethod
    def directories(tracked: Sequence[Tracked]) -> dict[str, Directories]:  # noqa: ARG004
        """None: what is outside of the container is not told within."""
        return {}


def own_id(root: Path, evidence: Evidence, hostname: str) -> str:
    """What the container is called outside: by its cgroup, else by what is mounted into it, else by its host name."""
    place = place_of(evidence.cgroup_text(FIRST_PID))
    if place.kind is PlaceKind.POD:
        return pod_id(place.id)
    if place.kind is PlaceKind.CONTAINER:
        return container_id(place.id)
    try:
        with (root / "self" / "mountinfo").open("rb") as file:
            mounts = file.read(MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        mounts = ""
    if match := _POD_IN_MOUNTS.search(mounts):
        return pod_id(match[1])
    if match := _IN_MOUNTS.search(mounts):
        return container_id(match[1])
    return container_id(hostname)

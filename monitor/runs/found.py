"""What discovery tells the book of runs, and what it must know of it. No I/O."""

from dataclasses import dataclass
from typing import NamedTuple

from monitor.runs.identity import Process
from monitor.runs.wish import Wish

MOST_FOUND_PROCESSES = 8
"""As many processes of a found run are watched, one by one, for their ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A run that nobody registered, as its processes show it."""

    key: str
    """What its processes have in common and no others do: `slurm:42`, `pod:UID`, `container:ID`, `given:UID:NAME`,
    `tree:PID:START`. The same in every look, and the same for a run that was registered for it (`slurm:42`)."""
    wish: Wish
    """Its id, names and devices; the id is the one that the user, the scheduler or the launcher gave it."""
    uid: int
    """Whose processes they are."""
    start_mono_s: float
    """Start of the oldest of them (steady clock)."""
    processes: tuple[Process, ...]
    """Living ones, those that matter first; at most MOST_FOUND_PROCESSES."""


class Tracked(NamedTuple):
    """What discovery must know of a live run."""

    run_id: str
    uid: int
    members: frozenset[Process]
    """Processes that are in it by name; their descendants are, too."""
    keys: frozenset[str]
    """Of Found, and of registered jobs: processes of this key are its."""


class Occupied(NamedTuple):
    """A run's processes on one device."""

    since_mono_s: float
    """Start of the oldest of them."""
    slices: frozenset[str] = frozenset()
    """Which of the device's slices (MIG) they are on."""

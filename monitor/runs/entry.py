"""One run in the book: what is known of it, what of it is shown, and what the ledger keeps for a restart. No I/O."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from monitor.core.model import Device, Instant, Phase, Run
from monitor.runs import holdings, spells
from monitor.runs.found import Occupied, Tracked
from monitor.runs.holdings import Hints
from monitor.runs.identity import LONGEST_PHASE, Process, clean
from monitor.runs.tally import Tally

FORMAT = 2
"""Of the memory."""
NOBODY = -1
"""Owner of a run whose memory cannot be read."""
MOST_HINTS = 64
"""Environments of one run that differ, such as one GPU to each rank."""
MOST_KEYS = 16
MOST_PHASE_NAMES = 32
OTHER_PHASE = "other"
KEPT_PHASES_S = 60.0
MOST_CHANGES = 256
"""Changes of phase that are kept: more than the socket lets a job tell in a turn."""
FROM_THE_START = float("-inf")


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """Mutable, and guarded by the lock of the registry."""

    uid: int
    known: Run
    """As it is but for progress and memory, which are put in when it is shown."""
    members: set[Process] = field(default_factory=set)
    """Those that asked to be in it."""
    sightings: dict[str, frozenset[Process]] = field(default_factory=dict)
    """Those that discovery saw last, by the key by which they are its."""
    keys: set[str] = field(default_factory=set)
    """Of Found: processes of this key are its."""
    found: bool = False
    """Begun by discovery, not by a word of its own."""
    lasting: bool = False
    """A scheduler's job: it lives until it is said to have ended, with or without processes."""
    unconfirmed: bool = False
    """Lasting, and not seen since the daemon was restarted: its end may have been told to nobody."""
    was_seen: bool = False
    """Processes of it have been found."""
    outer: str = ""
    """Id of the run that it is inside of, and whose devices it has while it lives."""
    raw_job_id: str = ""
    """The scheduler's own number of the job that it is in."""
    hints: list[Hints] = field(default_factory=list)
    allotted: frozenset[str] = frozenset()
    """Devices that its environments say are its."""
    occupied: dict[str, Occupied] = field(default_factory=dict)
    """Devices on which it has processes, in a run that was allocated none."""
    lent: frozenset[str] = frozenset()
    """Devices of the runs inside of it."""
    tally: Tally = field(default_factory=Tally)
    phase_names: set[str] = field(default_factory=set)
    _shown: Run | None = None
    _tracked: Tracked | None = None

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.known.end is None

    @property
    def bereft(self) -> bool:
        """Whether it ends for want of processes.

        A run that spoke for itself ends with those that spoke: who waits for its report is not kept waiting by others.
        """
        return not self.lasting and not self.members and not (self.found and any(self.sightings.values()))

    @property
    def processes(self) -> frozenset[Process]:
        """Everything that is in it by name."""
        return frozenset(self.members).union(*self.sightings.values())

    @property
    def allocated(self) -> bool:
        """Whether an environment of it says which devices it was given."""
        return any(holdings.is_allocated(dict(hints)) for hints in self.hints)

    @property
    def claims(self) -> frozenset[str]:
        """Devices that are its own, or of a run inside of it."""
        return self.allotted if self.allocated else self.allotted | self.occupied.keys()

    def touch(self) -> None:
        """What is shown is out of date."""
        self._shown = None

    def change(self, known: Run) -> None:
        """It is otherwise from now on."""
        if known != self.known:
            self.known = known
            self.touch()

    def show(self) -> Run:
        """The same object until something changes."""
        if self._shown is None:
            self._shown = replace(self.known, progress=self.tally.progress(), memory=self._memory())
        return self._shown

    def tracked(self) -> Tracked:
        """What discovery must know of it: the same object until that changes."""
        now = Tracked(self.known.id, self.uid, self.processes, frozenset(self.keys))
        if self._tracked != now:
            self._tracked = now
        return self._tracked or now

    # -- who is in it ------------------------------------------------------------------------------------------------

    def join(self, process: Process) -> None:
        """One more process is in it."""
        self.members.add(process)
        self.touch()

    def leave(self, process: Process) -> bool:
        """A process has ended; whether it was in the run."""
        seen = [key for key, processes in self.sightings.items() if process in processes]
        for key in seen:
            self.sightings[key] -= {process}
        if not seen and process not in self.members:
            return False
        self.members.discard(process)
        self.touch()
        return True

    def sight(self, key: str, processes: Iterable[Process]) -> frozenset[Process]:
        """These are its processes of this key now; which of them are new."""
        self.own_key(key)
        now = frozenset(processes)
        new = now - self.processes
        if key in self.keys and self.sightings.get(key) != now:
            self.sightings[key] = now
            self.was_seen = self.was_seen or bool(now)
            self.touch()
        return new

    def own_key(self, key: str) -> None:
        """Processes of this key are its."""
        if key and key not in self.keys and len(self.keys) < MOST_KEYS:
            self.keys.add(key)
            self.touch()

    def disband(self) -> None:
        """Nobody is in it any more."""
        self.members.clear()
        self.sightings.clear()
        self.lasting = self.unconfirmed = False
        self.touch()

    def forget_stretch(self) -> None:
        """It begins another stretch: of who was in it and what it held nothing is left."""
        self.disband()
        self.keys.clear()
        self.hints.clear()
        self.occupied.clear()
        self.allotted = self.lent = frozenset()
        self.found, self.was_seen, self.outer, self.raw_job_id = False, False, "", ""
        self.tally.close()

    # -- what it holds -----------------------------------------------------------------------------------------------

    def allot(self, hints: Hints, devices: Iterable[Device], at_s: float) -> bool:
        """Hold what one more of its environments names, too; whether that changed what it claims."""
        if hints in self.hints or len(self.hints) >= MOST_HINTS:
            return False
        before = self.claims
        self.hints.append(hints)
        self.touch()
        if self.allocated:
            self.occupied.clear()
        self.resolve(devices, at_s, is_new=True)
        return self.claims != before

    def resolve(self, devices: Iterable[Device], at_s: float, *, is_new: bool = False) -> bool:
        """Find what it is allotted among these devices. What it had and is out of sight it still has.

        A device that is seen late was its own all the time, unless the environment that names it is new.
        """
        seen = list(devices)
        before = self.claims
        away = self.allotted - {device.id for device in seen}
        self.allotted = away.union(*(holdings.held(dict(hints), seen) for hints in self.hints))
        begun_s = at_s if is_new else FROM_THE_START
        self.settle(at_s, dict.fromkeys(self.claims - before, begun_s))
        self._divide(seen)
        return self.claims != before

    def occupy(self, at: Mapping[str, float], here: Mapping[str, Occupied], now_s: float) -> bool:
        """Of the devices that were looked at, at these moments, it has processes on these; whether its claims changed.

        What it was allocated it holds, with processes on it and without.
        """
        if self.allocated:
            self.settle(now_s, {})
            return False
        before = self.claims
        moments: dict[str, float] = {}
        for device, looked_s in at.items():
            now = here.get(device)
            if now is None and self.occupied.pop(device, None) is not None:
                moments[device] = looked_s
                self.touch()
            elif now is not None and now != self.occupied.get(device):
                moments[device] = now.since_mono_s
                self.occupied[device] = now
                self.touch()
        if moments:
            slices = frozenset[str]().union(*(occupied.slices for occupied in self.occupied.values()))
            self.change(replace(self.known, slices=slices))
        self.settle(now_s, moments)
        return self.claims != before

    def lend(self, devices: Mapping[str, float], at_s: float) -> None:
        """The runs inside of it have these devices, each since a moment; others it has back from `at_s` on."""
        self.lent = frozenset(devices)
        self.settle(at_s, devices)

    def settle(self, at_s: float, moments: Mapping[str, float]) -> None:
        """Hold what it claims and has not lent."""
        holds, held = spells.changed(self.known, self.claims - self.lent, at_s, moments)
        self.change(replace(self.known, holds=holds, spells=held))

    def _divide(self, devices: Iterable[Device]) -> None:
        if self.allocated:
            slices = frozenset[str]().union(*(holdings.slices_held(dict(hints), devices) for hints in self.hints))
            self.change(replace(self.known, slices=slices))

    # -- phases ------------------------------------------------------------------------------------------------------

    def enter(self, name: str, at: Instant) -> bool:
        """Begin a phase, "" for none; whether its name had to be changed."""
        name, altered = clean(name, LONGEST_PHASE)
        if name and name not in self.phase_names:
            if len(self.phase_names) < MOST_PHASE_NAMES:
                self.phase_names.add(name)
            else:
                name = OTHER_PHASE
        phases = self.known.phases
        if name == (phases[-1].name if phases else ""):
            return altered
        phases = (*phases, Phase(name, at.mono_s))
        recent = next(i for i, phase in enumerate(phases) if phase.since_mono_s >= at.mono_s - KEPT_PHASES_S)
        self.change(replace(self.known, phases=phases[max(0, recent - 1) :][-MOST_CHANGES:]))
        return altered

    # -- over restarts ---------------------------------------------------------------------------------------------

    def _memory(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "uid": self.uid,
                "members": sorted(self.members),
                "hints": self.hints,
                "phases": sorted(self.phase_names),
                "tally": self.tally.dump(),
                "keys": sorted(self.keys),
                "sightings": {key: sorted(processes) for key, processes in sorted(self.sightings.items())},
                "found": self.found,
                "lasting": self.lasting,
                "unconfirmed": self.unconfirmed,
                "was_seen": self.was_seen,
                "outer": self.outer,
                "raw_job_id": self.raw_job_id,
                "allotted": sorted(self.allotted),
                "occupied": {device: [one.since_mono_s, sorted(one.slices)] for device, one in self.occupied.items()},
            },
            separators=(",", ":"),
        )

"""One run in the book: what is known of it, what of it is shown, and what the ledger keeps for a restart. No I/O."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from monitor.core.model import Device, Instant, Phase, Run
from monitor.runs import holdings
from monitor.runs.holdings import Hints
from monitor.runs.identity import LONGEST_PHASE, Process, clean
from monitor.runs.tally import Tally

FORMAT = 1
NOBODY = -1
"""Owner of a run whose memory cannot be read."""
MOST_HINTS = 64
"""Environments of one run that differ, such as one GPU to each rank."""
MOST_PHASE_NAMES = 32
OTHER_PHASE = "other"
KEPT_PHASES_S = 60.0
MOST_CHANGES = 256
"""Changes of phase that are kept: more than the socket lets a job tell in a turn."""


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """Mutable, and guarded by the lock of the registry."""

    uid: int
    known: Run
    """As it is but for progress and memory, which are put in when it is shown."""
    members: set[Process] = field(default_factory=set)
    hints: list[Hints] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    phase_names: set[str] = field(default_factory=set)
    _shown: Run | None = None

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.known.end is None

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

    def join(self, process: Process) -> None:
        """One more process is in it."""
        self.members.add(process)
        self.touch()

    # -- what it holds -----------------------------------------------------------------------------------------------

    def allot(self, hints: Hints, devices: Iterable[Device]) -> None:
        """Hold what one more of its environments names, too."""
        if hints not in self.hints and len(self.hints) < MOST_HINTS:
            self.hints.append(hints)
            self.resolve(devices)

    def resolve(self, devices: Iterable[Device]) -> None:
        """Find what it holds among these devices. What it held and is out of sight it still holds."""
        seen = list(devices)
        away = self.known.holds - {device.id for device in seen}
        holds = away.union(*(holdings.held(dict(hints), seen) for hints in self.hints))
        if holds != self.known.holds:
            self.change(replace(self.known, holds=holds))

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

    def shift(self, now: Instant, at: Instant | None) -> None:
        """Tell its moments, which are of another boot's steady clock and seen from `at`, by that of this boot."""
        last = at or self.known.end or now
        by_s = (now.mono_s - now.wall_s) - (last.mono_s - last.wall_s)

        def move(moment: Instant) -> Instant:
            return Instant(moment.mono_s + by_s, moment.wall_s)

        run = self.known
        self.change(
            replace(
                run,
                start=move(run.start),
                resumed=None if run.resumed is None else move(run.resumed),
                end=None if run.end is None else move(run.end),
                phases=tuple(Phase(phase.name, phase.since_mono_s + by_s) for phase in run.phases),
            )
        )

    def _memory(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "uid": self.uid,
                "members": sorted(self.members),
                "hints": self.hints,
                "phases": sorted(self.phase_names),
                "tally": self.tally.dump(),
            },
            separators=(",", ":"),
        )


def recall(run: Run) -> Entry | None:
    """The run as its memory tells it; None for a memory that cannot be read: then it is nobody's."""
    try:
        document: dict[str, Any] = json.loads(run.memory)
        if document["format"] != FORMAT:
            return None
        return Entry(
            uid=int(document["uid"]),
            known=run,
            members={Process(int(pid), int(ticks)) for pid, ticks in document["members"]},
            hints=[tuple((str(name), str(text)) for name, text in hints) for hints in document["hints"]],
            tally=Tally.load(document["tally"]),
            phase_names={str(name) for name in document["phases"]},
            _shown=run,
        )
    except (ValueError, TypeError, KeyError):
        return None


def owner_of(run: Run) -> int | None:
    """User number of the run's owner; None where its memory does not tell."""
    entry = recall(run)
    return None if entry is None else entry.uid


def restored(run: Run, alive: Callable[[Process], bool], at: Instant | None) -> Entry:
    """The run as a new daemon finds it: with its living processes; without any it ended at `at`, the last commit."""
    entry = recall(run) or Entry(uid=NOBODY, known=run)
    entry.members = {process for process in entry.members if alive(process)}
    for process in entry.tally.reporters:
        if not alive(process):
            entry.tally.leave(process)
    if run.end is None:
        entry.touch()
        if not entry.members:
            is_later = at is not None and at.mono_s > run.since.mono_s
            entry.change(replace(run, end=at if is_later else run.since))
    return entry

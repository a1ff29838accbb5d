"""The runs of a node in the order of their starts: what is alive, what has ended and is still shown, what gives way.

Not thread-safe: the registry guards it. No I/O.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import is_

from monitor.core.model import Device, Instant, Run, RunBook
from monitor.errors import FailureError
from monitor.runs import spells
from monitor.runs.entry import Entry
from monitor.runs.identity import Process

SHOWN_CHARACTERS = 60
"""As much of an id is repeated in an error message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the users of a node may cost."""

    live: int = 256
    ended: int = 100
    ended_s: float = 900.0
    """How long an ended run is shown."""
    members: int = 256
    """Processes of one run."""
    members_of_user: int = 1024


class Book:
    """Entries by id."""

    def __init__(self, limits: Limits) -> None:
        self.seen: tuple[Device, ...] = ()
        """Every device of the node."""
        self.altered = 0
        self.dropped = 0
        self._limits = limits
        self._entries: dict[str, Entry] = {}
        self._ended: dict[str, None] = {}
        """In the order of their ends."""
        self._alive: Counter[int] = Counter()
        """Live runs by user."""
        self._shown = RunBook()

    def get(self, run_id: str) -> Entry | None:
        """The entry of this id."""
        return self._entries.get(run_id)

    def living(self) -> Iterator[Entry]:
        """Those that have not ended, oldest start first."""
        return (entry for entry in self._entries.values() if entry.alive)

    def show(self, at: Instant) -> RunBook:
        """Every run to show now: the same object while nothing has changed."""
        self._strike_old(at)
        runs: tuple[Run, ...] = tuple([entry.show() for entry in self._entries.values()])
        shown = self._shown.runs
        if len(runs) == len(shown) and all(map(is_, runs, shown)):
            runs = shown
        if runs is not shown or (self.dropped, self.altered) != (self._shown.dropped, self._shown.altered):
            self._shown = RunBook(runs=runs, dropped=self.dropped, altered=self.altered)
        return self._shown

    def see(self, devices: tuple[Device, ...], at_s: float) -> None:
        """Find anew what the live runs hold, where the devices have changed."""
        if devices != self.seen:
            self.seen = devices
            for entry in list(self.living()):
                if entry.resolve(devices, at_s):
                    self.share(entry, at_s)

    # -- runs within runs --------------------------------------------------------------------------------------------

    def share(self, inner: Entry, at_s: float) -> None:
        """What a run claims has changed, or it has ended: the runs that it is inside of hold what is left."""
        for outer in self._around(inner):
            if outer.alive:
                outer.lend(self._lent_by(outer), at_s)

    def is_deserted(self, entry: Entry) -> bool:
        """Whether nobody is in a run, nor in one inside of it."""
        return not entry.processes and not any(entry in self._around(one) for one in self.living() if one.outer)

    def _around(self, entry: Entry) -> Iterator[Entry]:
        passed = {entry.known.id}
        above = self._entries.get(entry.outer)
        while above is not None and above.known.id not in passed:
            passed.add(above.known.id)
            yield above
            above = self._entries.get(above.outer)

    def _lent_by(self, outer: Entry) -> dict[str, float]:
        """Devices of the live runs inside of it, each with the moment since when."""
        lent: dict[str, float] = {}
        for entry in self.living():
            if entry.outer and outer in self._around(entry):
                for device in entry.claims:
                    began_s = spells.began(entry.known, device).since_mono_s
                    lent[device] = min(began_s, lent.get(device, began_s))
        return lent

    # -- coming and going --------------------------------------------------------------------------------------------

    def add(self, entry: Entry) -> None:
        """Put a run at the end: a new one, one that goes on, or one of the daemon before."""
        run_id = entry.known.id
        self._ended.pop(run_id, None)
        self._entries.pop(run_id, None)
        self._entries[run_id] = entry
        if entry.alive:
            self._alive[entry.uid] += 1
        else:
            self._ended[run_id] = None

    def finish(self, entry: Entry, at: Instant) -> None:
        """A live run has ended."""
        entry.disband()
        entry.change(replace(entry.known, end=at))
        self.share(entry, at.mono_s)
        self._alive[entry.uid] -= 1
        self._alive += Counter()  # without the users who have none
        self._ended[entry.known.id] = None
        if len(self._ended) > self._limits.ended:
            self.strike(next(iter(self._ended)))

    def strike(self, run_id: str) -> None:
        """Show an ended run no longer."""
        if run_id in self._ended:
            del self._ended[run_id], self._entries[run_id]

    def _strike_old(self, at: Instant) -> None:
        while self._ended:
            oldest = next(iter(self._ended))
            end = self._entries[oldest].known.end
            is_recent = end is not None and at.mono_s - end.mono_s < self._limits.ended_s
            if is_recent and len(self._ended) <= self._limits.ended:
                return
            self.strike(oldest)

    # -- room --------------------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether one more run may be alive."""
        return sum(self._alive.values()) < self._limits.live

    def yields_to(self, uid: int) -> bool:
        """Whether another user has so many runs that one of his gives way to one more of this user."""
        return self.has_room or max(self._alive.values(), default=0) > self._alive[uid] + 1

    def make_room(self, uid: int, at: Instant) -> None:
        """Before a run is added, give up one of whoever has the most, the one who asks included.

        So a flood drowns nobody else. Raises FailureError where only others have runs, and none has too many.
        """
        if self.has_room:
            return
        most = max(self._alive, key=lambda other: self._alive[other])
        victim = uid if self._alive[uid] + 1 >= self._alive[most] else most
        oldest = next((entry for entry in self.living() if entry.uid == victim), None)
        self.dropped += 1
        if oldest is None:
            raise FailureError(f"{self._limits.live} runs are alive on this node, which is the most; try again later")
        self.finish(oldest, at)

    def check_members(self, uid: int, entry: Entry | None) -> None:
        """Refuse one process too many. Raises FailureError."""
        if entry is not None and len(entry.members) >= self._limits.members:
            raise FailureError(f"run {short(entry.known.id)} has {len(entry.members)} processes; it takes no more")
        of_user = sum(len(other.members) for other in self.living() if other.uid == uid)
        if of_user >= self._limits.members_of_user:
            raise FailureError(f"your runs have {of_user} processes on this node; end some before you start more")

    def processes(self) -> Iterable[Process]:
        """Who is in live runs, and who reports for them."""
        for entry in self.living():
            yield from entry.processes
            yield from entry.tally.reporters.keys() - entry.tally.gone


def short(run_id: str) -> str:
    """An id as an error message shows it."""
    text = repr(run_id)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."

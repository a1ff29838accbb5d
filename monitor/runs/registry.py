"""The book of runs: who started what, which processes are in it, how far it is. Any thread may ask and tell.

The lock is held for microseconds: what may wait for a disk or for a directory of users is done outside of it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Protocol

from monitor.core.model import Device, Instant, Run, RunBook
from monitor.core.ports import Now
from monitor.core.snapshot import RunTotals
from monitor.errors import FailureError
from monitor.runs.book import Book, Limits, short
from monitor.runs.entry import NOBODY, Entry, owner_of, recall, restored
from monitor.runs.holdings import doubt
from monitor.runs.identity import LONGEST_USER, Process, clean, clean_id, scoped
from monitor.runs.membership import user_name
from monitor.runs.tally import Told
from monitor.runs.wish import Wish, completed, renamed


class Living(Protocol):
    """Tells whether a process still runs."""

    def alive(self, process: Process) -> bool:
        """Whether this very process, not a later one of its number, has not ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What became of a wish."""

    run: Run
    joined: bool = False
    """It was alive before."""
    altered: bool = False
    """A name was cut or cleaned."""
    returned: RunTotals | None = None
    """The run came back from the ledger, with these totals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of a member's end."""

    run: Run
    ended: bool
    """No member is left."""


class Registry:
    """Implements `ports.Runs`. Every run belongs to the user number that started it."""

    def __init__(
        self,
        *,
        now: Now,
        devices: Callable[[], Iterable[Device]],
        processes: Living,
        owner: Callable[[str], int | None] = lambda _run_id: None,
        remembered: Callable[[str], RunTotals | None] = lambda _run_id: None,
        on_return: Callable[[RunTotals], object] = lambda _totals: None,
        user_of: Callable[[int], str] = user_name,
        limits: Limits | None = None,
    ) -> None:
        """`owner` and `remembered` ask the ledger of runs that are not in the book any more; they may be slow.

        `on_return` is given the totals of a run that comes back from the ledger, before the book shows it; the lock is
        held, so it notes them and returns.
        """
        self._now = now
        self._devices = devices
        self._processes = processes
        self._owner = owner
        self._remembered = remembered
        self._on_return = on_return
        self._user_of = user_of
        self._lock = Lock()
        self._starting = Lock()
        """Held while the ledger is asked: of two that bring back one run, the second joins."""
        self._book = Book(limits or Limits())
        self._users: dict[int, str] = {}
        """Names of those who have started something."""

    # -- for the loop ------------------------------------------------------------------------------------------------

    def runs(self, at: Instant) -> RunBook:
        """Every run to show: the same object while nothing has changed, and the same `Run` for one that has not."""
        seen = tuple(self._devices())
        with self._lock:
            self._book.see(seen)
            return self._book.show(at)

    def restore(self, totals: Iterable[RunTotals], *, at: Instant | None, same_boot: bool) -> None:
        """Take over the book of the daemon before. A live run goes on while one of its processes lives.

        Else it ended at `at`, the last commit. Of another boot all have ended, and their moments are told by the clock
        of this one.
        """
        alive = self._processes.alive if same_boot else lambda _process: False
        entries = [restored(one.run, alive, at) for one in totals]
        if not same_boot:
            now = self._now()
            for entry in entries:
                entry.shift(now, at)
        with self._lock:
            for entry in sorted(entries, key=_end_s):
                if self._book.get(entry.known.id) is None:
                    self._book.add(entry)
                    self._users.setdefault(entry.uid, entry.known.user)

    # -- for whoever starts and ends runs ----------------------------------------------------------------------------

    def start(self, wish: Wish, uid: int, process: Process | None) -> Started:
        """Start a run, join a live one of the same owner, or go on with an ended one. May wait for the ledger.

        `process` is its first member; None = it has gone already, and the run with it. An id that is another user's
        becomes ID@user. Raises FailureError when there is no room.
        """
        asked, altered = clean_id(wish.id)
        if not asked:
            raise FailureError("the id is empty: leave it out, or name the run")
        user, _altered = clean(self._user_of(uid), LONGEST_USER)
        with self._starting:
            while True:
                run_id, known, returned = self._find(asked, uid, user)
                with self._lock:
                    if known is not self._book.get(run_id):
                        continue  # it was struck out meanwhile: ask the ledger
                    self._users[uid] = user
                    return self._start(wish, run_id, uid, process, returned=returned, altered=altered)

    def _start(
        self, wish: Wish, run_id: str, uid: int, process: Process | None, *, returned: RunTotals | None, altered: bool
    ) -> Started:
        wanted, changed = wish.as_run()
        wanted = replace(wanted, id=run_id, user=self._users[uid])
        entry = self._book.get(run_id)
        joined = entry is not None and entry.alive
        self._book.altered += altered + changed
        self._book.check_members(uid, entry if joined else None)
        if entry is None or not joined:
            now = self._now()
            self._book.make_room(uid, now)
            if returned is not None:
                self._on_return(returned)
            entry = _begun(entry, returned, wanted, uid, now)
            self._book.add(entry)
        else:
            entry.change(completed(entry.known, wanted))
        if process is not None:
            entry.join(process)
        entry.allot(wish.hints, self._book.seen)
        if not entry.members:
            self._book.finish(entry, self._now())
        return Started(run=entry.show(), joined=joined, altered=altered or changed > 0, returned=returned)

    def join(self, run_id: str, uid: int, process: Process | None) -> Run:
        """Make a process a member of a live run of this user. Raises FailureError."""
        with self._lock:
            entry = self._own_living(run_id, uid)
            if process is not None and process not in entry.members:
                self._book.check_members(uid, entry)
                entry.join(process)
            return entry.show()

    def progress(self, run_id: str, uid: int, process: Process, said: Told) -> bool:
        """Take the counts of one process; whether it is a new one, whose end is to be watched.

        They are taken of one that has gone, too: its last words come late. Raises FailureError.
        """
        with self._lock:
            entry = self._own(run_id, uid)
            others = entry.tally.others(process)
            is_known = others is None and entry.alive
        # Whoever comes after the others have gone is counted on top of them, even if their end is not told yet.
        gone = [other for other in others or () if not self._processes.alive(other)]
        is_alive = is_known or (process.start_ticks > 0 and self._processes.alive(process))
        with self._lock:
            entry = self._own_living(run_id, uid) if is_alive else self._own(run_id, uid)
            for other in gone:
                entry.tally.leave(other)
            if entry.tally.report(process, said):
                entry.touch()
            if not is_alive:
                entry.tally.leave(process)
            return is_alive and not is_known

    def phase(self, run_id: str, uid: int, name: str) -> None:
        """Begin a phase of a live run, "" for none. Raises FailureError."""
        at = self._now()
        with self._lock:
            self._book.altered += self._own_living(run_id, uid).enter(name, at)

    def end(self, run_id: str, uid: int, pid: int) -> Ended:
        """End the membership of a process; the run ends with its last one. Raises FailureError."""
        with self._lock:
            members = tuple(self._own(run_id, uid).members)
        # Workers that went a moment ago do not keep it alive: whoever ends last must know that it was the last.
        gone = [one for one in members if one.pid != pid and not self._processes.alive(one)]
        with self._lock:
            entry = self._own(run_id, uid)
            leaving = [process for process in entry.members if process.pid == pid]
            if entry.alive and not leaving:
                some = ", ".join(str(process.pid) for process in sorted(entry.members)[:5])
                raise FailureError(f"process {pid} is no member of run {short(entry.known.id)}; its members: {some}")
            for process in (*(one for one in gone if one in entry.members), *leaving):
                entry.tally.retire(process)
                self._leave(entry, process)
            return Ended(run=entry.show(), ended=not entry.alive)

    def process_ended(self, process: Process) -> bool:
        """A process is no more. Whether a run ended with it."""
        with self._lock:
            ended = False
            for entry in list(self._book.living()):
                entry.tally.leave(process)
                if process in entry.members:
                    self._leave(entry, process)
                    ended = ended or not entry.alive
            return ended

    def _leave(self, entry: Entry, process: Process) -> None:
        entry.members.discard(process)
        entry.touch()
        if not entry.members:
            self._book.finish(entry, self._now())

    def forget(self, run_ids: Iterable[str]) -> None:
        """Strike ended runs out of the book."""
        with self._lock:
            for run_id in run_ids:
                self._book.strike(run_id)

    # -- what is known -----------------------------------------------------------------------------------------------

    def members(self) -> frozenset[Process]:
        """Every process whose end matters: the members of live runs, and who reports for them."""
        with self._lock:
            return frozenset(process for process in self._book.processes() if process.start_ticks > 0)

    def known_process(self, run_id: str, uid: int, pid: int) -> Process | None:
        """The process of this number that the run knows: for the last words of one that has gone."""
        with self._lock:
            entry = self._mine(run_id, uid)
            known = [] if entry is None else [p for p in (*entry.members, *entry.tally.reporters) if p.pid == pid]
            return known[-1] if known else None

    def get(self, run_id: str) -> Run | None:
        """A run of the book as it is now."""
        with self._lock:
            entry = self._book.get(run_id)
            return None if entry is None else entry.show()

    def doubts(self, run_id: str) -> tuple[str, ...]:
        """What is not sure about the devices it holds, in words."""
        with self._lock:
            entry = self._book.get(run_id)
            every = [] if entry is None else [doubt(dict(hints), self._book.seen) for hints in entry.hints]
        return tuple(dict.fromkeys(line for line in every if line))

    def live(self) -> tuple[str, ...]:
        """Ids of the runs that have not ended."""
        with self._lock:
            return tuple(entry.known.id for entry in self._book.living())

    def owner(self, run_id: str) -> int | None:
        """User number of a run's owner, also of one that only the ledger knows; None = there is no such run.

        May wait for the ledger.
        """
        with self._lock:
            entry = self._book.get(run_id)
        if entry is not None:
            return entry.uid
        return self._ledgers_owner(run_id, self._recall(run_id))

    def resolve_id(self, run_id: str, uid: int) -> str:
        """The id by which this user's run goes: ID@user where ID is another user's. Else as it is, cleaned."""
        with self._lock:
            entry = self._mine(run_id, uid)
            return clean_id(run_id)[0] if entry is None else entry.known.id

    # -- whose it is -------------------------------------------------------------------------------------------------

    def _mine(self, run_id: str, uid: int) -> Entry | None:
        asked, _altered = clean_id(run_id)
        entry = self._book.get(asked)
        if (entry is None or entry.uid != uid) and uid in self._users:
            own = self._book.get(scoped(asked, self._users[uid]))
            entry = own if own is not None and own.uid == uid else entry
        return entry

    def _own(self, run_id: str, uid: int) -> Entry:
        entry = self._mine(run_id, uid)
        if entry is None:
            asked, _altered = clean_id(run_id)
            raise FailureError(f"no run {short(asked)}; start it first, or see trainwatt runs for those there are")
        if entry.uid != uid:
            raise FailureError(f"run {short(entry.known.id)} belongs to another user; only its owner may do that")
        return entry

    def _own_living(self, run_id: str, uid: int) -> Entry:
        entry = self._own(run_id, uid)
        if not entry.alive:
            raise FailureError(f"run {short(entry.known.id)} has ended; start it again to go on with it")
        return entry

    def _find(self, asked: str, uid: int, user: str) -> tuple[str, Entry | None, RunTotals | None]:
        """The id that this user may have, with its entry, or what the ledger remembers of it."""
        for run_id in (asked, scoped(asked, user)):
            with self._lock:
                entry = self._book.get(run_id)
            if entry is not None:
                if entry.uid == uid:
                    return run_id, entry, None
                continue
            totals = self._recall(run_id)
            if self._ledgers_owner(run_id, totals) in (None, uid):
                return run_id, None, totals
        raise FailureError(f"{short(asked)} and {short(scoped(asked, user))} are other users' runs; choose another id")

    def _recall(self, run_id: str) -> RunTotals | None:
        try:
            return self._remembered(run_id)
        except FailureError:  # a ledger that cannot be read keeps nobody from starting
            return None

    def _ledgers_owner(self, run_id: str, totals: RunTotals | None) -> int | None:
        if totals is None:
            return self._owner(run_id)
        uid = owner_of(totals.run)
        return NOBODY if uid is None else uid


def _begun(entry: Entry | None, returned: RunTotals | None, wanted: Run, uid: int, now: Instant) -> Entry:
    """A new run; or one that goes on, which it does with its total, its counts, and what it holds now."""
    if entry is None and returned is not None:
        entry = recall(returned.run)
    if entry is None:
        return Entry(uid=uid, known=replace(wanted, start=now, name=wanted.name or wanted.id))
    run = entry.known
    before_s = run.before_s + (max(0.0, run.end.mono_s - run.since.mono_s) if run.end else 0.0)
    if returned is not None:
        before_s = returned.duration_s
    goes_on = replace(run, resumed=now, before_s=before_s, end=None, holds=frozenset(), phases=())
    entry.change(renamed(goes_on, wanted))
    entry.members.clear()
    entry.hints.clear()
    entry.tally.close()
    return entry


def _end_s(entry: Entry) -> float:
    return float("inf") if entry.known.end is None else entry.known.end.mono_s

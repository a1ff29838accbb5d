"""The book of runs under its lock: whose an id is, and how a run begins. What the registry is built on.

The lock is held for microseconds: what may wait for a disk or for a directory of users is done outside of it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from types import MappingProxyType
from typing import Protocol

from monitor.core.model import Device, Instant, Run
from monitor.core.ports import Now
from monitor.core.snapshot import RunTotals
from monitor.errors import FailureError
from monitor.runs import holdings
from monitor.runs.book import Book, Limits, short
from monitor.runs.entry import NOBODY, Entry
from monitor.runs.identity import LONGEST_USER, Process, clean, clean_id, scoped, slurm_key
from monitor.runs.membership import user_name
from monitor.runs.memory import owner_of, recall
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
    deserted: bool = False
    """Nobody who spoke for it is left, but the job that it is of goes on."""


class Shelf:
    """Every run belongs to the user number that started it."""

    def __init__(
        self,
        *,
        now: Now,
        devices: Callable[[], Iterable[Device]],
        processes: Living,
        owner: Callable[[str], int | None] = lambda _run_id: None,
        remembered: Callable[[str], RunTotals | None] = lambda _run_id: None,
        on_return: Callable[[RunTotals], object] = lambda _totals: None,
        on_members: Callable[[Process], object] = lambda _process: None,
        user_of: Callable[[int], str] = user_name,
        scope_of: Callable[[int], str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        """`owner` and `remembered` ask the ledger of runs that are not in the book any more; they may be slow.

        `on_return` is given the totals of a run that comes back from the ledger, before the book shows it; the lock is
        held, so it notes them and returns. `on_members` is given every process that discovery puts into a run, so that
        its end is watched; no lock is held. `user_of` is what is shown of a user, `scope_of` what stands behind the @
        where two users' runs go by one id: else the same.
        """
        self._now = now
        self._devices = devices
        self._processes = processes
        self._owner = owner
        self._remembered = remembered
        self._on_return = on_return
        self._on_members = on_members
        self._user_of = user_of
        self._scope_of = scope_of or user_of
        self._lock = Lock()
        self._starting = Lock()
        """Held while the ledger is asked: of two that bring back one run, the second joins."""
        self._book = Book(limits or Limits())
        self._users: dict[int, str] = {}
        """What is shown of those who have started something."""
        self._scopes: dict[int, str] = {}
        self._owners: Mapping[int, str] = MappingProxyType({})
        """Run of each process number, at the last look."""
        self._restored_at: Instant | None = None
        """The last commit of the daemon before."""

    # -- beginning: the lock is held ---------------------------------------------------------------------------------

    def _begin(
        self, entry: Entry | None, wish: Wish, run_id: str, uid: int, *, at: Instant, returned: RunTotals | None
    ) -> Entry:
        """A new run, or an ended one that goes on, from `at`: with nobody in it yet."""
        wanted, altered = wish.as_run()
        wanted = replace(wanted, id=run_id, user=self._users[uid])
        self._book.altered += altered
        if returned is not None:
            self._on_return(returned)
        begun = _begun(entry, returned, wanted, uid, at)
        begun.own_key(wish.key)
        self._book.add(begun)
        return begun

    def _complete(self, entry: Entry, wish: Wish) -> int:
        """Names that a live run lacked; how many had to be changed."""
        wanted, altered = wish.as_run()
        known = completed(entry.known, replace(wanted, id=entry.known.id))
        if known != entry.known:
            entry.change(known)
            self._book.altered += altered
        entry.own_key(wish.key)
        return altered

    def _allot(self, entry: Entry, wish: Wish, at_s: float) -> None:
        """Let a run hold what the environment of one of its processes says.

        What a scheduler allocated to a job stands: within it devices may be counted otherwise.
        """
        if entry.lasting and (entry.allocated or not holdings.is_allocated(dict(wish.hints))):
            return
        if entry.allot(wish.hints, self._book.seen, at_s):
            self._book.share(entry, at_s)

    def _nest(self, entry: Entry, wish: Wish, processes: Iterable[Process]) -> None:
        """A run that begins in another one of its user, or around some, has its devices, or lends them its own."""
        entry.raw_job_id = wish.raw_job_id or (wish.job_id if wish.job_id.isdigit() else "")
        around = [self._run_of(process) for process in processes]
        around.append(self._by_key(_job_key(entry), entry.uid))
        outer = next((one for one in around if one is not None and one is not entry and one.uid == entry.uid), None)
        if outer is not None and outer.outer != entry.known.id:
            entry.outer = outer.known.id
        for inner in [one for one in self._book.living() if one.uid == entry.uid and not one.outer]:
            key = _job_key(inner)
            if inner is not entry and key in entry.keys and key not in inner.keys and entry.outer != inner.known.id:
                inner.outer = entry.known.id
                inner.touch()
                self._book.share(inner, self._now().mono_s)
        entry.touch()

    def _finish_if_bereft(self, entry: Entry) -> None:
        if entry.alive and entry.bereft:
            self._book.finish(entry, self._now())

    # -- whose it is: the lock is held -------------------------------------------------------------------------------

    def _run_of(self, process: Process) -> Entry | None:
        """The live run that a process is in: by name, else by its ancestors at the last look."""
        by_name = next((entry for entry in self._book.living() if process in entry.processes), None)
        if by_name is not None:
            return by_name
        entry = self._book.get(self._owners.get(process.pid, ""))
        return entry if entry is not None and entry.alive else None

    def _by_key(self, key: str, uid: int) -> Entry | None:
        return next((one for one in self._book.living() if one.uid == uid and key in one.keys), None) if key else None

    def _mine(self, run_id: str, uid: int) -> Entry | None:
        asked, _altered = clean_id(run_id)
        entry = self._book.get(asked)
        if (entry is None or entry.uid != uid) and uid in self._scopes:
            own = self._book.get(scoped(asked, self._scopes[uid]))
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

    # -- whose it was: this may wait, and no lock is held ------------------------------------------------------------

    def _name_user(self, uid: int) -> None:
        user, _altered = clean(self._user_of(uid), LONGEST_USER)
        scope, _altered = clean(self._scope_of(uid), LONGEST_USER)
        with self._lock:
            self._users[uid], self._scopes[uid] = user, scope

    def _find(self, asked: str, uid: int) -> tuple[str, Entry | None, RunTotals | None]:
        """The id that this user may have, with its entry, or what the ledger remembers of it."""
        own = scoped(asked, self._scopes[uid])
        # What ends in a user's name is that user's: else two ids would be enough to keep somebody out.
        is_open = "@" not in asked or asked.endswith(f"@{self._scopes[uid]}")
        for run_id in (asked, own) if is_open else (own,):
            with self._lock:
                entry = self._book.get(run_id)
            if entry is not None:
                if entry.uid == uid:
                    return run_id, entry, None
                continue
            totals = self._recall(run_id)
            if self._ledgers_owner(run_id, totals) in (None, uid):
                return run_id, None, totals
        raise FailureError(f"{short(asked)} and {short(own)} are other users' runs; choose another id")

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


def _job_key(entry: Entry) -> str:
    return slurm_key(entry.raw_job_id) if entry.raw_job_id else ""


def _begun(entry: Entry | None, returned: RunTotals | None, wanted: Run, uid: int, at: Instant) -> Entry:
    """A new run; or one that goes on, which it does with its total, its counts, and what it holds now."""
    if entry is None and returned is not None:
        entry = recall(returned.run)
    if entry is None:
        return Entry(uid=uid, known=replace(wanted, start=at, name=wanted.name or wanted.id))
    run = entry.known
    before_s = run.before_s + (max(0.0, run.end.mono_s - run.since.mono_s) if run.end else 0.0)
    if returned is not None:
        before_s = returned.duration_s
    goes_on = replace(
        run,
        resumed=at,
        before_s=before_s,
        end=None,
        holds=frozenset(),
        spells=(),
        slices=frozenset(),
        phases=(),
    )
    entry.change(renamed(goes_on, wanted))
    entry.forget_stretch()
    return entry

"""The book of runs: who started what, which processes are in it, how far it is. Any thread may ask and tell."""

from collections.abc import Iterable
from dataclasses import replace

from monitor.core.model import Instant, Run, RunBook
from monitor.core.snapshot import RunTotals
from monitor.errors import FailureError
from monitor.runs.book import short
from monitor.runs.entry import Entry
from monitor.runs.finding import Finding
from monitor.runs.holdings import doubt
from monitor.runs.identity import Process, clean_id
from monitor.runs.memory import restored, shift
from monitor.runs.shelf import Ended, Living, Started
from monitor.runs.tally import Told
from monitor.runs.wish import Wish

__all__ = ["Ended", "Living", "Registry", "Started"]


class Registry(Finding):
    """Implements `ports.Runs`. To what discovery tells it adds what the runs themselves say, and what is shown."""

    # -- for the loop ------------------------------------------------------------------------------------------------

    def runs(self, at: Instant) -> RunBook:
        """Every run to show: the same object while nothing has changed, and the same `Run` for one that has not."""
        seen = tuple(self._devices())
        with self._lock:
            self._book.see(seen, at.mono_s)
            return self._book.show(at)

    def restore(self, totals: Iterable[RunTotals], *, at: Instant | None, same_boot: bool) -> None:
        """Take over the book of the daemon before. A live run goes on while one of its processes lives.

        Else it ended at `at`, the last commit. A lasting one goes on, and waits for `confirm`. Of another boot all have
        ended, and their moments are told by the clock of this one.
        """
        alive = self._processes.alive if same_boot else lambda _process: False
        entries = [restored(one.run, alive, at, same_boot=same_boot) for one in totals]
        if not same_boot:
            now = self._now()
            for entry in entries:
                shift(entry, now, at)
        with self._lock:
            self._restored_at = at
            for entry in sorted(entries, key=_end_s):
                if self._book.get(entry.known.id) is None:
                    self._book.add(entry)
                    self._users.setdefault(entry.uid, entry.known.user)
                    if entry.known.user:
                        self._scopes.setdefault(entry.uid, entry.known.user)
            for entry in list(self._book.living()):
                self._book.share(entry, self._now().mono_s)

    # -- for whoever starts and ends runs ----------------------------------------------------------------------------

    def start(self, wish: Wish, uid: int, process: Process | None) -> Started:
        """Start a run, join a live one of the same owner, or go on with an ended one. May wait for the ledger.

        `process` is its first member; None = it has gone already, and the run with it. Who names no id joins the job
        that it is of, or the run that was found for it before it spoke. An id that is another user's becomes ID@user.
        Raises FailureError when there is no room.
        """
        asked, altered = clean_id(wish.id)
        if not asked:
            raise FailureError("the id is empty: leave it out, or name the run")
        self._name_user(uid)
        with self._starting:
            while True:
                with self._lock:
                    at_home = None if wish.is_named else self._home(wish, uid, process)
                found = self._find(asked, uid) if at_home is None else (at_home.known.id, at_home, None)
                run_id, known, returned = found
                with self._lock:
                    if known is not self._book.get(run_id) or (at_home is not None and not at_home.alive):
                        continue  # it was struck out meanwhile: ask the ledger
                    self._book.altered += altered
                    if at_home is not None and wish.key not in at_home.keys and run_id != asked:
                        # It is here by its descent only: what its environment says of a job is no key to that.
                        wish = replace(wish, key="")
                    return self._start(wish, run_id, uid, process, returned=returned, altered=altered)

    def _home(self, wish: Wish, uid: int, process: Process | None) -> Entry | None:
        """The live run of this user to which a wish without a name belongs."""
        entry = self._by_key(wish.key, uid)
        if entry is None and process is not None:
            entry = self._run_of(process)
        is_found = entry is not None and entry.uid == uid and (entry.found or entry.lasting or wish.key in entry.keys)
        return entry if is_found else None

    def _start(
        self, wish: Wish, run_id: str, uid: int, process: Process | None, *, returned: RunTotals | None, altered: bool
    ) -> Started:
        entry = self._book.get(run_id)
        joined = entry is not None and entry.alive
        self._book.check_members(uid, entry if joined else None)
        now = self._now()
        if entry is None or not joined:
            self._book.make_room(uid, now)
            entry = self._begin(entry, wish, run_id, uid, at=now, returned=returned)
            self._nest(entry, wish, () if process is None else (process,))
            changed = wish.as_run()[1]
        else:
            changed = self._complete(entry, wish)
        if process is not None:
            entry.join(process)
        self._allot(entry, wish, now.mono_s)
        self._finish_if_bereft(entry)
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
            members = tuple(self._own(run_id, uid).processes)
        # Workers that went a moment ago do not keep it alive: whoever ends last must know that it was the last.
        gone = [one for one in members if one.pid != pid and not self._processes.alive(one)]
        with self._lock:
            entry = self._own(run_id, uid)
            leaving = [process for process in entry.members if process.pid == pid]
            if entry.alive and not leaving and pid not in {process.pid for process in entry.processes}:
                some = ", ".join(str(process.pid) for process in sorted(entry.members)[:5])
                raise FailureError(f"process {pid} is no member of run {short(entry.known.id)}; its members: {some}")
            for process in (*(one for one in gone if one in entry.processes), *leaving):
                entry.tally.retire(process)
            for process in leaving:
                entry.members.discard(process)
                entry.touch()
            for process in gone:
                entry.leave(process)
            self._finish_if_bereft(entry)
            return Ended(run=entry.show(), ended=not entry.alive, deserted=entry.alive and not entry.members)

    def process_ended(self, process: Process) -> bool:
        """A process is no more. Whether a run ended with it."""
        with self._lock:
            ended = False
            for entry in list(self._book.living()):
                entry.tally.leave(process)
                if entry.leave(process):
                    self._finish_if_bereft(entry)
                    ended = ended or not entry.alive
            return ended

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
            known = [] if entry is None else [p for p in (*entry.processes, *entry.tally.reporters) if p.pid == pid]
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

    def run_of(self, process: Process) -> str | None:
        """The live run that a process is in, by name, or by its ancestors when discovery looked last."""
        with self._lock:
            entry = self._run_of(process)
            return None if entry is None else entry.known.id

    def resolve_id(self, run_id: str, uid: int) -> str:
        """The id by which this user's run goes: ID@user where ID is another user's. Else as it is, cleaned."""
        with self._lock:
            entry = self._mine(run_id, uid)
            return clean_id(run_id)[0] if entry is None else entry.known.id


def _end_s(entry: Entry) -> float:
    return float("inf") if entry.known.end is None else entry.known.end.mono_s

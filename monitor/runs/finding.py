"""Runs that nobody registered: what discovery finds among the processes, and what a scheduler says of its jobs.

And what only whoever looks at the processes can tell: on which devices a run has any. Any thread may tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from monitor.core.model import Component, Instant
from monitor.core.snapshot import RunTotals
from monitor.errors import FailureError
from monitor.runs.entry import Entry
from monitor.runs.found import MOST_FOUND_PROCESSES, Found, Occupied, Tracked
from monitor.runs.holdings import is_allocated
from monitor.runs.identity import Process, clean_id
from monitor.runs.memory import last_seen
from monitor.runs.shelf import Shelf, Started
from monitor.runs.wish import Wish


class Finding(Shelf):
    """What is told from outside of the runs. One thread looks at a time; schedulers may speak meanwhile."""

    _told: tuple[Tracked, ...] = ()
    _turned_away: frozenset[str] = frozenset()
    """Keys for which there was no room, each counted once."""

    # -- what whoever looks must know --------------------------------------------------------------------------------

    def tracked(self) -> tuple[Tracked, ...]:
        """Who is in which live run: the same object while nothing has changed."""
        with self._lock:
            now = tuple(entry.tracked() for entry in self._book.living())
            if now != self._told:
                self._told = now
            return self._told

    # -- what was seen -----------------------------------------------------------------------------------------------

    def discover(self, found: Sequence[Found]) -> Mapping[str, str]:
        """Take in what was found; the run of each key. May wait for the ledger. What has no room is left out.

        What belongs to a live run of the same user, by its key or by its id, is in that from now on; of one that was
        found before, these are the processes of the key, and no others. All else begins a run, at its own start.
        """
        ids: dict[str, str] = {}
        new: set[Process] = set()
        away: set[str] = set()
        for one in found:
            if not one.processes:
                continue
            with self._lock:
                entry = self._by_key(one.key, one.uid)
                if entry is not None:
                    self._take_in(entry, one, new, self._now().mono_s)
            try:
                entry = entry or self._begin_found(one, new)
            except FailureError:  # both ids are other users'
                entry = None
                away.add(one.key)
            if entry is not None:
                ids[one.key] = entry.known.id
            elif one.key not in away and self._is_alive(one):
                away.add(one.key)
        with self._lock:
            self._book.dropped += len(away - self._turned_away)
        self._turned_away = frozenset(away)
        for process in new:
            self._on_members(process)
        return ids

    def note_owners(self, owners: Mapping[int, str]) -> None:
        """Which run each process is in, as of a look; an assignment, so it must not be changed afterwards."""
        self._owners = owners

    def occupy(self, at: Mapping[str, float], present: Mapping[str, Mapping[str, Occupied]]) -> None:
        """On which of the devices that were looked at, each at its moment, the runs have processes.

        A run that was allocated no devices holds those, from the start of its first process there until the look that
        finds none.
        """
        now_s = self._now().mono_s
        with self._lock:
            # All of them first: what one gives back, another may have taken.
            altered = [
                entry for entry in list(self._book.living()) if entry.occupy(at, present.get(entry.known.id, {}), now_s)
            ]
            for entry in altered:
                self._book.share(entry, max(at.values(), default=now_s))

    def confirm(self, keys: frozenset[str]) -> None:
        """After a restart, these are the keys of all processes: a lasting run without any ended while nobody looked."""
        with self._lock:
            for entry in [one for one in self._book.living() if one.unconfirmed]:
                entry.unconfirmed = False
                entry.touch()
                if self._book.is_deserted(entry) and not entry.keys & keys:
                    self._book.finish(entry, last_seen(entry.known, self._restored_at))

    def _begin_found(self, one: Found, new: set[Process]) -> Entry | None:
        asked, altered = clean_id(one.wish.id)
        if not asked:
            return None
        self._name_user(one.uid)
        wish = replace(one.wish, key=one.key)
        with self._starting:
            while True:
                run_id, known, returned = self._find(asked, one.uid)
                is_alive = self._is_alive(one)
                with self._lock:
                    entry = self._by_key(one.key, one.uid)
                    if entry is None and known is not self._book.get(run_id):
                        continue  # it was struck out meanwhile: ask the ledger
                    now = self._now()
                    entry = entry or (known if known is not None and known.alive else None)
                    if entry is None and (not is_alive or not self._book.yields_to(one.uid)):
                        return None
                    at_s = now.mono_s
                    if entry is None:
                        self._book.altered += altered
                        self._book.make_room(one.uid, now)
                        start = _start(one, known, returned, now)
                        entry = self._begin(known, wish, run_id, one.uid, at=start, returned=returned)
                        entry.found = True
                        self._nest(entry, wish, one.processes)
                        at_s = start.mono_s
                    self._take_in(entry, one, new, at_s)
                    return entry

    def _take_in(self, entry: Entry, one: Found, new: set[Process], at_s: float) -> None:
        self._complete(entry, one.wish)
        new |= entry.sight(one.key, one.processes[:MOST_FOUND_PROCESSES])
        if not entry.hints or is_allocated(dict(one.wish.hints)):
            self._allot(entry, one.wish, at_s)

    def _is_alive(self, one: Found) -> bool:
        return any(self._processes.alive(process) for process in one.processes)

    # -- what a scheduler says ---------------------------------------------------------------------------------------

    def begin_lasting(self, wish: Wish, uid: int) -> Started:
        """A job begins, which lives until `end_lasting`. May wait for the ledger. Raises FailureError for want of room.

        A job without devices in its hints holds those on which it has processes. Of jobs before it that hold a device
        of its own and have no process, the end was not told: they end now.
        """
        asked, altered = clean_id(wish.id)
        self._name_user(uid)
        with self._starting:
            while True:
                run_id, known, returned = self._find(asked, uid)
                with self._lock:
                    entry = self._by_key(wish.key, uid)
                    if entry is None and known is not self._book.get(run_id):
                        continue  # it was struck out meanwhile: ask the ledger
                    now = self._now()
                    for other in [one for one in self._book.living() if one.lasting and one is not entry]:
                        if wish.key in other.keys:  # the number has come round again, and is another user's now
                            self._book.finish(other, now)
                    entry = entry or (known if known is not None and known.alive else None)
                    joined = entry is not None
                    if entry is None:
                        self._book.altered += altered
                        self._book.make_room(uid, now)
                        entry = self._begin(known, wish, run_id, uid, at=now, returned=returned)
                        self._nest(entry, wish, ())
                    self._complete(entry, wish)
                    entry.lasting, entry.unconfirmed = True, False
                    entry.touch()
                    if wish.hints and entry.allot(wish.hints, self._book.seen, now.mono_s):
                        self._book.share(entry, now.mono_s)
                    self._end_forgotten(entry, now)
                    return Started(run=entry.show(), joined=joined, altered=altered, returned=returned)

    def end_lasting(self, key: str, uid: int | None = None) -> tuple[str, ...]:
        """A job has ended, whatever is left of it; ids of its runs, none for a job that is unknown."""
        with self._lock:
            over = [
                entry
                for entry in self._book.living()
                if key in entry.keys and (entry.lasting or entry.found) and uid in (None, entry.uid)
            ]
            for entry in over:
                self._book.finish(entry, self._now())
            return tuple(entry.known.id for entry in over)

    def _end_forgotten(self, entry: Entry, at: Instant) -> None:
        gpus = {device.id for device in self._book.seen if device.component is Component.GPU}
        mine = entry.claims & gpus
        for other in [one for one in self._book.living() if one.lasting and one is not entry]:
            if other.was_seen and other.claims & mine and self._book.is_deserted(other):
                self._book.finish(other, at)


def _start(one: Found, before: Entry | None, returned: RunTotals | None, now: Instant) -> Instant:
    """When a found run began: with its oldest process, but not before the end of its stretch before."""
    run = before.known if before is not None else returned.run if returned is not None else None
    start_s = one.start_mono_s
    if run is not None and run.end is not None:
        start_s = max(start_s, run.end.mono_s)
    start_s = min(start_s, now.mono_s)
    return Instant(start_s, now.wall_s - (now.mono_s - start_s))

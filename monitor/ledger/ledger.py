"""The ledger at work: the loop hands it every snapshot, a thread of its own commits and then publishes.

    loop --offer--> pending rows, newest snapshot --commit (writer's thread)--> file --> publish

A commit that fails keeps what waits in memory and is tried again; nothing is lost while the daemon lives.
"""

import contextlib
import logging
import os
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from threading import Lock, Thread

from monitor import clock
from monitor.core.model import Instant, LedgerHealth, LedgerState
from monitor.core.ports import History, Now
from monitor.core.snapshot import Policy, RunTotals, Snapshot
from monitor.errors import FailureError
from monitor.ledger import location, runs, store, trouble
from monitor.ledger.history import FileHistory, NoHistory
from monitor.ledger.offers import Offers
from monitor.ledger.restore import Restored, restore
from monitor.ledger.tending import Tending
from monitor.ledger.wishes import Forgotten, Wish, Wishes, forget
from monitor.ledger.writer import FiledUnder, Writer

LOG = logging.getLogger("trainwatt")

MOUNTS = Path("/proc/self/mountinfo")
COMMITS_APART_S = 0.9
"""A little less than a second, the pace of the loop: what it offers is then not waited for twice."""
LONGEST_BACK_OFF_S = 10.0
LAST_COMMIT_WITHIN_S = 10.0
"""A disk that hangs must not keep the daemon from ending."""

Publish = Callable[[Snapshot], None]
NamesOf = Callable[[str], tuple[str, ...]]
"""Everything that the runs of a user may be filed under."""


def _as_it_is(user: str) -> tuple[str, ...]:
    return (user,)


@dataclass(frozen=True, slots=True)
class Kept:
    """The file of a ledger, held by this process."""

    store: store.Store
    writer: Writer
    tending: Tending
    lock: int


class Ledger:
    """Keeps the count, as `ports.Keeper`. Made by `open_ledger`. `offer`, `health` and `forget` never block."""

    def __init__(
        self,
        restored: Restored,
        kept: Kept | None,
        history: History,
        *,
        now: Now,
        state: LedgerState,
        problem: str = "",
        names_of: NamesOf = _as_it_is,
    ) -> None:
        self.id = restored.first.ledger_id
        """Made with the file: counts that share it go on from each other."""
        self.first = restored.first
        """The count to go on from."""
        self.runs: tuple[RunTotals, ...] = restored.runs
        """Runs that were alive at the last commit, and those that had ended a short while before this start."""
        self.same_boot = restored.same_boot
        """Whether the machine has not booted since the last commit."""
        self.restored_at: Instant | None = restored.restored_at
        """The moment of the last commit on this boot's clock; None = this is a new count."""
        self.history = history
        """What it remembers, from any thread."""
        self.path = None if kept is None else kept.store.path
        """Its file; None = nothing is kept."""
        self._kept = kept
        self._state = state
        self._problem = problem
        self._names_of = names_of
        self._failures = 0
        self._committed_at = now()

        self._offers = Offers(restored.settled)
        self._wishes = Wishes()
        self._writing = Lock()
        """Held over I/O, by whoever commits."""
        self._closed = False
        self._publish: Publish | None = None
        self._thread: Thread | None = None
        self._offered = clock.Bell()
        self._urgent = clock.Bell()
        self._stop = False

    # -- for the loop and everybody else -----------------------------------------------------------------------------

    def offer(self, snapshot: Snapshot, *, at_once: bool = False) -> None:
        """Take a snapshot and what its turn booked; commit within a second, or now. Never blocks, never raises."""
        self._offers.add(snapshot)
        if at_once:
            self._urgent.ring()
        self._offered.ring()

    def health(self, at: Instant) -> LedgerHealth:
        """How it fares now."""
        lag_s = None if self._kept is None else max(0.0, at.mono_s - self._committed_at.mono_s)
        return LedgerHealth(state=self._state, lag_s=lag_s, write_failures=self._failures, problem=self._problem)

    def forget(
        self, run_id: str | None = None, user: str | None = None, keep: frozenset[str] = frozenset()
    ) -> Forgotten:
        """Have an ended run, or all ended ones of a user but for `keep`, leave the file; their joules become nobody's.

        The result, told by the writer's thread, is the ids of the runs that were forgotten; what still shows them must
        drop them. FailureError for a run that is alive, and when it cannot be done now.
        """
        done = self._wishes.add(run_id, () if user is None else self._names_of(user), keep)
        self._urgent.ring()
        self._offered.ring()
        if self._closed:
            self._wishes.refuse()
        return done

    # -- the writer's thread -----------------------------------------------------------------------------------------

    def start(self, publish: Publish) -> None:
        """Start the writer's thread, which calls `publish` with each snapshot whose count is kept."""
        self._publish = publish
        self._thread = Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause_s = COMMITS_APART_S
        begun_s = -COMMITS_APART_S
        while True:
            self._offered.wait()
            self._urgent.wait_until(begun_s + pause_s)
            # Cleared before anything is taken: whoever rings them afterwards is heard.
            self._offered.clear()
            self._urgent.clear()
            if self._stop:
                return
            begun_s = clock.now().mono_s
            if self.commit():
                pause_s = COMMITS_APART_S
                self.tend()
            else:
                pause_s = min(2 * pause_s, LONGEST_BACK_OFF_S)
                self._offered.ring()

    def commit(self) -> bool:
        """Commit what was offered, publish it, then forget what shall be; False when it cannot be written now."""
        with self._writing:
            if self._closed:
                return True
            done = self._keep()
            self._wishes.fulfil(self._forget)
            return done

    def _keep(self) -> bool:
        """One commit; publish what is in it."""
        batch = self._offers.take()
        if batch is None:
            return True
        if self._kept is not None:
            try:
                self._kept.writer.write(batch)
            except Exception as error:  # noqa: BLE001  (whatever it is: what waits is kept, and tried again)
                self._offers.give_back(batch)
                self._failed(error, self._kept)
                return False
            self._recovered(self._kept)
            self._committed_at = batch.snapshot.at or self._committed_at
        if self._publish is not None:
            self._publish(batch.snapshot)
        return True

    def _failed(self, error: Exception, kept: Kept) -> None:
        self._failures += 1
        line = f"{trouble.line(kept.store.path, error)}; until then the count is kept in memory only"
        if trouble.is_damage(error):
            store.distrust(kept.store.path)
        if line != self._problem:
            LOG.warning("%s", line)
        self._problem = line

    def _recovered(self, kept: Kept) -> None:
        if self._problem:
            self._problem = ""
            LOG.info("the ledger %s is written again; nothing was lost", kept.store.path)

    def tend(self) -> bool:
        """Do a few milliseconds of upkeep, if any is due: old rows merged or deleted. Whether more is due now."""
        with self._writing:
            if self._kept is None or self._closed:
                return False
            try:
                more, runs_went = self._kept.tending.turn()
            except sqlite3.Error as error:
                # The next commit tells whether the disk is at fault, and people of it; here only damage is noted.
                if trouble.is_damage(error):
                    self._failed(error, self._kept)
                return False
            if runs_went:
                self._kept.writer.forget_what_is_known()
            return more

    def _forget(self, wish: Wish) -> tuple[str, ...]:
        if self._kept is None:
            return ()
        if self._problem:
            raise FailureError(f"nothing can be forgotten now: {self._problem}")
        try:
            forgotten = forget(self._kept.store.db, self._offers, wish)
            self._kept.writer.forget_what_is_known()
            self._kept.tending.wipe_log()
        except sqlite3.Error as error:
            raise FailureError(f"nothing was forgotten: {trouble.line(self._kept.store.path, error)}") from error
        return forgotten

    def close(self) -> None:
        """Commit what is left, empty the log, let the directory go. Safe to call twice; never raises."""
        self._stop = True
        self._urgent.ring()
        self._offered.ring()
        if self._thread is not None:
            self._thread.join(LAST_COMMIT_WITHIN_S)
        if not self._writing.acquire(timeout=LAST_COMMIT_WITHIN_S):
            LOG.warning("the disk of the ledger does not answer: what it did not take in time is lost")
            return
        try:
            if self._closed:
                return
            if not self._keep():
                LOG.warning("the ledger could not be written at the end: %s", self._problem)
            self._closed = True
            self._wishes.refuse()
            if self._kept is not None:
                with contextlib.suppress(sqlite3.Error):
                    store.wipe_log(self._kept.store.db)
                with contextlib.suppress(sqlite3.Error):
                    self._kept.store.db.close()
                os.close(self._kept.lock)
        finally:
            self._writing.release()


def open_ledger(
    directory: Path,
    *,
    now: Now,
    policy: Policy,
    boot_id: str,
    state: LedgerState = LedgerState.FILE,
    mounts: Path = MOUNTS,
    retention_days: int | None,
    whole_check_bytes: int = store.WHOLE_CHECK_BYTES,
    filed_under: FiledUnder = attrgetter("user"),
    names_of: NamesOf = _as_it_is,
    shown: runs.Shown = runs.as_it_is,
) -> Ledger:
    """Open the ledger of a directory, or begin one; restore what the daemon before this one committed.

    `boot_id` names this boot of the machine (/proc/sys/kernel/random/boot_id); `retention_days` None = for ever; a file
    larger than `whole_check_bytes` is not checked whole, so that the start is not delayed. `filed_under` is the word
    by which the runs of a user are found again, `names_of` all such words of one user; `shown` makes of a run that is
    read what is to be shown of it.
    A disk that cannot be written gives a ledger in memory, whose `health` says so. Raises FailureError when the
    directory is on a network file system, is not ours to use, is held by another daemon, or holds a newer ledger.
    """
    if state is LedgerState.FILE:  # what is temporary need not outlive a quarrel over its locks
        location.refuse_network(directory, mounts)
    lock = None
    try:
        location.make(directory)
        lock = location.hold(directory)
        resume = lambda *file: restore(*file, now=now(), policy=policy, boot_id=boot_id, shown=shown)  # noqa: E731
        opened, restored = _restored(directory, resume, wall_s=now().wall_s, check_bytes=whole_check_bytes)
    except (OSError, sqlite3.Error, FailureError) as error:
        if lock is not None:
            os.close(lock)
        if isinstance(error, FailureError):
            raise
        return _in_memory(directory, error, now=now, policy=policy)
    factors_end_s = restored.restored_at.wall_s if restored.restored_at is not None else None
    kept = Kept(
        store=opened,
        writer=Writer(opened.db, boot_id, factors_end_s, filed_under),
        tending=Tending(opened.db, now=now, retention_days=retention_days),
        lock=lock,
    )
    history = FileHistory(opened.path, now=now, boot_id=boot_id, shown=shown)
    return Ledger(restored, kept, history, now=now, state=state, names_of=names_of)


def _restored(
    directory: Path, resume: Callable[[sqlite3.Connection, str], Restored], *, wall_s: float, check_bytes: int
) -> tuple[store.Store, Restored]:
    """The file, and the count in it. One whose rows cannot be understood is put aside like any that is damaged."""
    opened = store.open_store(directory, wall_s=wall_s, whole_check_bytes=check_bytes)
    try:
        return opened, resume(opened.db, opened.ledger_id)
    except ValueError as error:
        opened.db.close()
        store.put_aside(opened.path, error, wall_s)
    opened = store.open_store(directory, wall_s=wall_s)
    return opened, resume(opened.db, opened.ledger_id)


def _in_memory(directory: Path, error: OSError | sqlite3.Error, *, now: Now, policy: Policy) -> Ledger:
    """The ledger of a directory that cannot be written now. Raises FailureError when that is no matter of the disk."""
    if isinstance(error, OSError) and error.errno not in trouble.NO_ROOM:
        raise FailureError(
            f"cannot keep a ledger in {directory}: {error.strerror}; give another directory with --state-dir"
        ) from error
    reason = error.strerror if isinstance(error, OSError) else str(error)
    problem = (
        f"no ledger can be written in {directory} ({reason}): the count is kept in memory and ends with this daemon; "
        f"make it writable and restart trainwatt, or give another directory with --state-dir"
    )
    LOG.warning("%s", problem)
    first = Snapshot(ledger_id=f"memory-{secrets.token_hex(6)}", policy=policy)
    return Ledger(Restored(first, ()), None, NoHistory(), now=now, state=LedgerState.MEMORY, problem=problem)

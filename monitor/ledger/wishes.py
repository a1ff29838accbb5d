"""What is asked of the writer's thread: that runs be forgotten. Who asks waits for a future, never for the disk."""

import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from monitor.errors import FailureError
from monitor.ledger import forgetting
from monitor.ledger.offers import Offers

Forgotten = Future[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Wish:
    """A run, or all ended ones of a user but for `keep`."""

    run_id: str | None
    users: tuple[str, ...]
    """Everything that the user's runs may be filed under."""
    keep: frozenset[str]
    done: Forgotten


class Wishes:
    """Wishes in the order in which they came, from any thread."""

    def __init__(self) -> None:
        self._waiting: deque[Wish] = deque()

    def add(self, run_id: str | None, users: tuple[str, ...], keep: frozenset[str]) -> Forgotten:
        """Ask."""
        wish = Wish(run_id, users, keep, Future())
        self._waiting.append(wish)
        return wish.done

    def fulfil(self, work: Callable[[Wish], tuple[str, ...]]) -> None:
        """Do what is asked for; what `work` raises as FailureError is the answer."""
        for _ in range(len(self._waiting)):
            wish = self._waiting.popleft()
            if wish.done.set_running_or_notify_cancel():
                try:
                    wish.done.set_result(work(wish))
                except FailureError as error:
                    wish.done.set_exception(error)

    def refuse(self) -> None:
        """There is nobody left to do it."""
        with contextlib.suppress(IndexError):  # two may refuse at once
            while True:
                self._waiting.popleft().done.set_exception(FailureError("trainwatt has ended: ask again once it runs"))


def forget(db: sqlite3.Connection, offers: Offers, wish: Wish) -> tuple[str, ...]:
    """Forget the ended runs that are meant: their ids. Raises FailureError for one that is alive, and sqlite3.Error."""
    meant = forgetting.meant_runs(db, run_id=wish.run_id, users=wish.users)
    ended = {name: key for key, name, marked in meant if _has_ended(offers, name, marked=marked)}
    if wish.run_id is not None and meant and wish.run_id not in ended:
        raise FailureError(f"{wish.run_id} has not ended: only an ended run can be forgotten")
    keys = {name: key for name, key in ended.items() if name not in wish.keep}
    if keys:
        offers.forget(frozenset(keys))
        forgetting.forget(db, list(keys.values()))
    return tuple(keys)


def _has_ended(offers: Offers, run_id: str, *, marked: bool) -> bool:
    """By the newest snapshot, for a run may have been given up without an end; before there is one, by the file."""
    alive = offers.is_alive(run_id)
    return marked if alive is None else not alive

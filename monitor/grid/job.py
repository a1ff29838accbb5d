"""What comes again and again for one provider, and what the asker of it needs of others."""

import math
from dataclasses import dataclass
from typing import Protocol

from monitor.grid.feed import About, Feed, Reply, Request, Want


class Client(Protocol):
    """What monitor/grid/client.py does; named here so that its library is only loaded where it is used."""

    def get(self, request: Request, about: About) -> Reply:
        """The reply, whatever its status. Raises FeedError."""
        ...


class Place(Protocol):
    """Where a provider stands in the order of a zone."""

    def stands_in(self, zone: str, provider: str) -> bool:
        """Whether it is only asked where others fail."""
        ...

    def needed_from_s(self, zone: str, provider: str, at_s: float) -> float:
        """From when on a stand-in is needed, as far as is known now."""
        ...

    def tried(self, zone: str, provider: str) -> None:
        """It was asked for the present, whatever came of it."""
        ...


@dataclass(slots=True)
class Job:
    """One question that comes again and again."""

    zone: str
    want: Want
    feed: Feed
    asked_s: float | None = None
    chance: float = 0.0
    tries: int = 0
    """Failures in a row."""
    not_before_s: float = -math.inf
    is_possible: bool = True
    is_pending: bool = False
    """It has to be asked again at once: what it was asked with had expired."""
    is_hopeless: bool = False
    """The zone or the plan is why it failed, so that the others' success says nothing of it."""

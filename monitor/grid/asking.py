"""Each provider asked once, for verbs that run without a daemon. Nothing is kept, nothing is tried again."""

import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple

from monitor.core.model import Intensity
from monitor.errors import FeedError
from monitor.grid import reply
from monitor.grid.feed import Ask, Feed, LogsIn, Want

PATIENCE_S = 10.0
HINT_S = 3 * 3600.0
"""How far back the newest values are looked for: the newest hours of some feeds come late."""


class Answered(NamedTuple):
    """What one provider said of one zone."""

    feed: Feed
    zone: str
    slots: tuple[Intensity, ...] = ()
    reason: str = ""
    """A word of FeedError.REASONS; "" = it gave values."""
    problem: str = ""
    """One line for people."""


def ask_each(
    questions: Sequence[tuple[str, Feed]],
    want: Want,
    *,
    now: Callable[[], float] = time.time,
    ahead_s: float = 0.0,
    patience_s: float = PATIENCE_S,
) -> list[Answered]:
    """Ask each provider for its zone, all at once; in the order of the questions. Returns after the patience at latest.

    `ahead_s` is how far a forecast is wanted.
    """
    answers: SimpleQueue[tuple[int, Answered]] = SimpleQueue()

    def ask(number: int) -> None:
        zone, feed = questions[number]
        answers.put((number, _ask(zone, feed, want, now, ahead_s)))

    for number in range(len(questions)):
        # One that hangs is left behind when the verb ends.
        Thread(target=ask, args=(number,), name=f"ask-{number}", daemon=True).start()
    found: dict[int, Answered] = {}
    gone_at_s = time.monotonic() + patience_s
    while len(found) < len(questions):
        try:
            number, answer = answers.get(timeout=max(0.0, gone_at_s - time.monotonic()))
        except Empty:
            break
        found[number] = answer
    return [found.get(number) or _late(zone, feed, patience_s) for number, (zone, feed) in enumerate(questions)]


def _late(zone: str, feed: Feed, patience_s: float) -> Answered:
    return Answered(
        feed, zone, reason="timeout", problem=f"{feed.about.title} did not answer within {patience_s:g} s; try again"
    )


def _ask(zone: str, feed: Feed, want: Want, now: Callable[[], float], ahead_s: float) -> Answered:
    import requests

    from monitor.grid.client import Client

    at_s = now()
    start_s, end_s = (at_s, at_s + ahead_s) if want is Want.FORECAST else (at_s - HINT_S, at_s)
    question = Ask(want=want, zone=zone, at_s=at_s, start_s=start_s, end_s=end_s)
    try:
        request = feed.request(question)
        if request is None:
            return Answered(feed, zone, reason="zone", problem=f"{feed.about.title} cannot be asked that of {zone}")
        with requests.Session() as session:
            client = Client(session, now)
            if isinstance(feed, LogsIn):
                request = feed.authorized(request, feed.token(client.get(feed.login(), feed.about)))
            slots = tuple(feed.parse(question, client.get(request, feed.about)))
        for slot in slots:
            reply.grams(feed.about, slot.grams_per_kilowatthour)
    except FeedError as error:
        return Answered(feed, zone, reason=error.reason, problem=str(error))
    except Exception as error:  # noqa: BLE001  (of somebody else's package anything may come; its words may hold a key)
        return Answered(
            feed, zone, reason="content", problem=f"{feed.about.title} failed inside with {type(error).__name__}"
        )
    if not slots:
        return Answered(feed, zone, reason="empty", problem=f"{feed.about.title} has no value of {zone} now")
    return Answered(feed, zone, slots=slots)

"""Another trainwatt on the site: one machine asks the providers, all others ask it. It answers from its store.

What it hands on stays its provider's: name, basis, quality and credit are the original ones.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus

from monitor.core.model import Intensity, Quality
from monitor.core.wire import intensities_of
from monitor.errors import FeedError, UsageError
from monitor.grid import reply
from monitor.grid.feed import About, Account, Ask, Reply, Request, Want
from monitor.grid.options import Options

PATH = "/api/v1/grid/intensity"
KNOWN = (Quality.ACTUAL, Quality.ESTIMATED, Quality.FORECAST)
"""What is carried on or taken from a yearly table, each machine decides for itself."""
FORECAST_S = 96 * 3600.0
PAST_S = 7 * 86_400.0
HINT_S = 3 * 3600.0


class Relay:
    """`base_url` is the other's, such as http://node0:9595; a key is sent as a bearer's token."""

    def __init__(self, account: Account) -> None:
        Options("relay", account.options, ())
        if not account.base_url:
            raise UsageError("feed.relay: set base_url to the other trainwatt, such as http://node0:9595")
        self._url = account.base_url + PATH
        self._headers = {"Authorization": f"Bearer {account.key}"} if account.key else {}
        self.about = About(
            name="relay",
            title="the trainwatt that relays",
            credit="",  # each value brings its own
            cadence_s=300.0,
            phase_s=150.0,
            apart_s=5.0,
            past_s=PAST_S,
            forecast_s=FORECAST_S,
        )

    def knows(self, zone: str) -> bool:  # noqa: ARG002  (only the other knows)
        """It may know any."""
        return True

    def request(self, ask: Ask) -> Request | None:
        """One path for everything. Of some zones and of the present slot a forecast may be all that there is."""
        start_s, end_s = max(ask.start_s, ask.end_s - PAST_S), ask.end_s
        if ask.want is Want.LATEST:
            start_s, end_s = min(start_s, ask.at_s - HINT_S), max(end_s, ask.at_s + 1.0)
        span = (("start", str(math.floor(start_s))), ("end", str(math.ceil(end_s))))
        return Request(url=self._url, params=(("zone", ask.zone), *span, ("forecast", "1")), headers=self._headers)

    def parse(self, ask: Ask, answer: Reply) -> Sequence[Intensity]:
        """The document of monitor/core/wire.py."""
        if answer.status == HTTPStatus.NOT_FOUND:
            remedy = f"check feed.relay base_url, and that the other trainwatt watches {ask.zone}"
            raise reply.refusal(self.about, answer, remedy=remedy)
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            remedy = "the other trainwatt serves its API beyond loopback only where it is asked to (expose)"
            raise reply.refusal(self.about, answer, remedy=remedy)
        found = reply.document(self.about, answer)
        try:
            slots = intensities_of(found)
        except ValueError as error:
            raise reply.unlike(self.about, str(error)) from error
        if found["zone"] != ask.zone:
            raise FeedError(
                f"{self.about.title} was asked for {ask.zone} and answered for {found['zone']!r:.40}", reason="content"
            )
        values: dict[tuple[object, ...], Intensity] = {}
        refused: list[FeedError] = []
        for slot in slots:
            try:
                reply.grams(self.about, slot.grams_per_kilowatthour)
            except FeedError as error:
                refused.append(error)
                continue
            if slot.quality in KNOWN:
                # The other's clock may be ahead of ours: nothing was fetched later than now.
                fetched_at_s = answer.received_at_s if slot.fetched_at_s is None else slot.fetched_at_s
                key = (slot.provider, slot.signal, slot.basis, slot.valid_from_s, slot.valid_until_s)
                values[key] = replace(slot, fetched_at_s=min(fetched_at_s, answer.received_at_s))
        if not values:
            empty = FeedError(f"{self.about.title} has no value of {ask.zone} for what was asked", reason="empty")
            raise next(iter(refused), empty)
        if refused:
            reply.tell_once(str(refused[0]))
        return list(values.values())

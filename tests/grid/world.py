"""A refresher in virtual time: made-up providers, a client that plays them from a table, a store in memory."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from monitor.core.model import Basis, Instant, Intensity, Quality, Rate, Signal
from monitor.core.ports import IntensityStore
from monitor.errors import FeedError
from monitor.grid import reply
from monitor.grid.feed import About, Ask, Feed, Reply, Request, Token, Want
from monitor.grid.refresher import Refresher, no_rates
from monitor.ledger.intensities import Intensities

NOON_S = 1_795_262_400.0
"""2026-11-21T12:00:00Z."""
HALF_HOUR_S = 1800.0
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
SECRET = "s3cr3t-k3y"  # noqa: S105  (no real one)
STATIC = Intensity(
    zone="GB",
    grams_per_kilowatthour=210.9,
    basis=Basis.DIRECT,
    quality=Quality.STATIC,
    provider="ember-owid",
    valid_from_s=-math.inf,
    valid_until_s=math.inf,
)
ABOUT = About(
    name="one", title="The One", credit="The One, CC0", cadence_s=HALF_HOUR_S, phase_s=120.0, past_s=14 * DAY_S
)

Slot = tuple[float, float, float | None, str]
"""From, until, g/kWh, quality."""
Play = Callable[[Ask], Reply]


class MadeUp:
    """A provider whose answers are lists of slots."""

    def __init__(self, about: About = ABOUT, *, zones: Sequence[str] | None = None) -> None:
        self.about = about
        self._zones = zones

    def knows(self, zone: str) -> bool:
        """As it was told."""
        return self._zones is None or zone in self._zones

    def request(self, ask: Ask) -> Request | None:
        """With a key in the query, as some have it."""
        return Request(
            url=f"http://{self.about.name}.example/{ask.want}",
            params=(("zone", ask.zone), ("from", f"{ask.start_s}"), ("to", f"{ask.end_s}"), ("api_key", SECRET)),
        )

    def parse(self, ask: Ask, answer: Reply) -> Sequence[Intensity]:
        """Of the zone that the document names, else of the one that was asked for."""
        found = reply.document(self.about, answer)
        return [
            Intensity(
                zone=found.get("zone", ask.zone),
                grams_per_kilowatthour=float(grams),
                basis=Basis.DIRECT,
                quality=Quality(quality),
                provider=found.get("provider", self.about.name),
                signal=self.about.signal,
                valid_from_s=from_s,
                valid_until_s=until_s,
            )
            for from_s, until_s, grams, quality in found["slots"]
            if grams is not None
        ]


class WithLogin(MadeUp):
    """One that wants a token first, which goes into a header."""

    def login(self) -> Request:
        """User and password."""
        return Request(url=f"http://{self.about.name}.example/login", auth=("me", SECRET))

    def token(self, answer: Reply) -> Token:
        """Good for half an hour."""
        if answer.status != 200:
            raise reply.refusal(self.about, answer, reason="key")
        return Token(answer.body.decode(), answer.received_at_s + HALF_HOUR_S)

    def authorized(self, request: Request, token: Token) -> Request:
        """As a bearer's."""
        return replace(request, headers={"Authorization": token.value})

    def has_expired(self, answer: Reply) -> bool:
        """401 and no other word."""
        return answer.status == 401


class World:
    """Time, providers and what was asked of them. Every test also proves that the quota is kept."""

    def __init__(self, now_s: float = NOON_S + 600.0) -> None:
        self.now_s = now_s
        self.plays: dict[str, Play] = {}
        self.asked: list[tuple[float, str, str, str]] = []
        """(when, provider, path, zone)."""
        self.tokens: list[str] = []
        self.abouts: dict[str, About] = {}

    def get(self, request: Request, about: About) -> Reply:
        """What monitor/grid/client.py does over the network."""
        params = dict(request.params)
        path = request.url.rpartition("/")[2]
        last_s = max((at_s for at_s, name, _path, _zone in self.asked if name == about.name), default=-math.inf)

        assert self.now_s - last_s >= about.apart_s, (
            f"{about.name} was asked {self.now_s - last_s} s after the last time"
        )

        self.asked.append((self.now_s, about.name, path, params.get("zone", "")))
        self.tokens.append(request.headers.get("Authorization", ""))
        want = Want(path) if path != "login" else Want.LATEST
        ask = Ask(
            want=want,
            zone=params.get("zone", "login"),
            at_s=self.now_s,
            start_s=float(params.get("from", 0.0)),
            end_s=float(params.get("to", 0.0)),
        )
        play = self.plays.get(f"{about.name}/{path}", self.plays.get(about.name))

        assert play is not None
        return play(ask)

    def count(self, provider: str, path: str | None = None, *, since_s: float = 0.0) -> int:
        """How often it was asked."""
        return len(
            [1 for at_s, name, of, _zone in self.asked if name == provider and path in (None, of) and at_s >= since_s]
        )

    def reply(self, slots: Sequence[Slot], *, headers: Mapping[str, str] | None = None, **more: str) -> Reply:
        """A document of slots."""
        return self.answer(200, json.dumps({"slots": slots, **more}).encode(), headers=headers)

    def answer(self, status: int, body: bytes = b"{}", *, headers: Mapping[str, str] | None = None) -> Reply:
        """Anything."""
        return Reply(
            status=status,
            body=body,
            headers={"content-type": "application/json", **(headers or {})},
            received_at_s=self.now_s,
        )

    def every_half_hour(self, grams: Callable[[float], float], *, ahead_s: float = 0.0) -> Play:
        """Actual values of all slots that are over, forecasts `ahead_s` far."""

        def play(ask: Ask) -> Reply:
            first_s = math.floor(min(ask.start_s, ask.at_s - 2 * HOUR_S) / HALF_HOUR_S) * HALF_HOUR_S
            slots: list[Slot] = []
            while first_s < ask.at_s + ahead_s:
                quality = "actual" if first_s + HALF_HOUR_S <= ask.at_s else "forecast"
                if quality == "actual" or ahead_s > 0.0:
                    slots.append((first_s, first_s + HALF_HOUR_S, grams(first_s), quality))
                first_s += HALF_HOUR_S
            return self.reply(slots)

        return play

    def dead(self, ask: Ask) -> Reply:
        """No connection."""
        raise FeedError(f"nobody answers for {ask.zone}; check base_url", reason="network")

    def refresher(
        self,
        plans: Mapping[str, Sequence[Feed]],
        *,
        store: IntensityStore | None = None,
        statics: Mapping[str, Intensity] | None = None,
        rates: Callable[[float, float], Sequence[Rate]] = no_rates,
        news: list[str] | None = None,
    ) -> Refresher:
        """One with all of that."""
        return Refresher(
            plans,
            statics={"GB": STATIC} if statics is None else statics,
            store=Intensities(None) if store is None else store,
            client=self,
            wall_s=lambda: self.now_s,
            random=Random(7),
            rates=rates,
            on_news=(list[str]() if news is None else news).append,
        )

    def run(
        self,
        refresher: Refresher,
        providers: Sequence[str],
        seconds: float,
        watch: Callable[[], None] | None = None,
    ) -> None:
        """Let time pass as the threads would have it; `watch` is called after each turn and each five minutes."""
        end_s = self.now_s + seconds
        due = dict.fromkeys(providers, self.now_s)
        while True:
            name = min(due, key=lambda name: due[name])
            step_s = min(due[name], self.now_s + 300.0, end_s)
            self.now_s = max(self.now_s, step_s)
            if due[name] <= self.now_s:
                before = len(self.asked)
                due[name] = refresher.tick(name)
                if len(self.asked) > before:
                    # Whoever stands behind it is woken.
                    due = {other: due[name] if other == name else self.now_s for other in due}
            if watch is not None:
                watch()
            if self.now_s >= end_s and min(due.values()) > self.now_s:
                return

    def price(
        self, refresher: Refresher, *, zone: str = "GB", signal: Signal = Signal.AVERAGE, ago_s: float = 0.0
    ) -> Intensity:
        """What prices a moment now."""
        slots = refresher.intensities(Instant(0.0, self.now_s))
        at_s = self.now_s - ago_s
        return next(
            slot
            for slot in slots
            if (slot.zone, slot.signal) == (zone, signal) and slot.valid_from_s <= at_s < slot.valid_until_s
        )

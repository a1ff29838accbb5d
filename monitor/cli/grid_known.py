"""What is known of the grid, for verbs: the daemon's word, else each feed asked once, else the yearly value."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from monitor import app, clock
from monitor.config import Settings
from monitor.core.fallback import in_order, with_relayed
from monitor.core.model import FeedHealth, GridState, Instant, Intensity, Outlook, Quality, Rate, Signal
from monitor.core.snapshot import Policy, Snapshot
from monitor.errors import FailureError, UsageError
from monitor.grid import static
from monitor.grid.asking import Answered, ask_each
from monitor.grid.feed import Feed, Want
from monitor.runs.protocol import ask
from monitor.wiring import Wiring, wire

KEEP_S = 3600.0


class Known(NamedTuple):
    """The document of `/api/v1/grid`, the zone that is meant, and who told it."""

    document: dict[str, Any]
    zone: str
    source: str
    """`daemon` or `feeds`: each asked once just now."""
    why: str = ""
    """Why it was not the daemon, for people."""


def known(settings: Settings, *, ahead_s: float | None = None) -> Known:
    """What the daemon knows of its zone, or of that of the settings; where none answers, what the feeds say now.

    `ahead_s` asks the feeds for a forecast that long instead of the present. Raises UsageError: no zone is known.
    """
    wanted = static.resolve_zone(settings.zone) if settings.zone is not None else None
    try:
        document = ask(settings.socket, {"op": "grid"})["grid"]
    except FailureError as error:
        why = str(error).partition(";")[0]
    else:
        zone = wanted or document["zone"]
        if zone is not None and zone in {document["zone"], *document["device_zones"].values()}:
            return Known(document, zone, "daemon")
        why = f"the daemon does not watch {zone}" if zone else "the daemon knows no zone"
    wiring = wire(settings)
    zone = wanted or wiring.zone
    if zone is None:
        raise UsageError(wiring.policy.zone_found)
    return Known(ask_feeds(wiring, zone, ahead_s=ahead_s), zone, "feeds", why)


def ask_feeds(wiring: Wiring, zone: str, *, ahead_s: float | None = None) -> dict[str, Any]:
    """The same document, made of what the feeds of a zone say, each asked once."""
    feeds = wiring.plans[zone] if zone in wiring.plans else wiring.plan_of(zone)
    yearly = wiring.statics.get(zone) or static.intensity(zone)
    at = clock.now()
    if ahead_s is None:
        answers = ask_each([(zone, feed) for feed in feeds], Want.LATEST)
        outlooks: list[Outlook] = []
        intensities = preferred([slot for one in answers for slot in one.slots], feeds, yearly, zone, at.wall_s)
    else:
        able = [feed for feed in feeds if feed.about.forecast_s > 0.0]
        answers = ask_each([(zone, feed) for feed in able], Want.FORECAST, ahead_s=ahead_s)
        outlooks = [outlook for answer in answers for outlook in _outlooks(answer, at)]
        intensities = (yearly,)
    policy = Policy(
        pue_ratio=wiring.policy.pue_ratio,
        zone=zone,
        zone_found=wiring.policy.zone_found if zone == wiring.zone else "as set",
    )
    state = GridState(feeds=tuple(_health(answer, at.wall_s) for answer in answers), outlooks=tuple(outlooks))
    return app.grid_document(Snapshot(ledger_id="", policy=policy, at=at, intensities=intensities, grid=state))


def preferred(
    slots: Sequence[Intensity], feeds: Sequence[Feed], yearly: Intensity, zone: str, at_s: float
) -> tuple[Intensity, ...]:
    """What prices the present of a zone, in order of preference. A relay's values bear their providers' names."""
    ours = [slot for slot in slots if slot.zone == zone]
    names = with_relayed([feed.about.name for feed in feeds], ours)
    average = in_order(ours, names, yearly, at_s=at_s, keep_s=KEEP_S)
    return average + in_order(ours, names, None, at_s=at_s, keep_s=KEEP_S, signal=Signal.MARGINAL)


def _health(answer: Answered, at_s: float) -> FeedHealth:
    return FeedHealth(
        provider=answer.feed.about.name,
        zone=answer.zone,
        last_success_s=None if answer.reason else at_s,
        failures=((answer.reason, 1),) if answer.reason else (),
        problem=answer.problem,
    )


def _outlooks(answer: Answered, at: Instant) -> list[Outlook]:
    """What one provider expects, by what it counts."""
    slots = [slot for slot in answer.slots if slot.valid_until_s > at.wall_s and math.isfinite(slot.valid_until_s)]
    expected = [slot for slot in slots if slot.quality in {Quality.FORECAST, Quality.ESTIMATED, Quality.ACTUAL}]
    kinds = dict.fromkeys((slot.provider, slot.basis, slot.signal) for slot in expected)
    return [
        Outlook(
            zone=answer.zone,
            provider=provider,
            basis=basis,
            signal=signal,
            issued_at_s=at.wall_s,
            slots=tuple(
                sorted(
                    (
                        Rate(slot.grams_per_kilowatthour, slot.valid_from_s, slot.valid_until_s)
                        for slot in expected
                        if (slot.provider, slot.basis, slot.signal) == (provider, basis, signal)
                    ),
                    key=lambda rate: rate.valid_from_s,
                )
            ),
        )
        for provider, basis, signal in kinds
    ]

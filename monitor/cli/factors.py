"""Carbon intensities beside those of a report: from the bundled table, or asked of the configured feeds."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from monitor.config import Settings
from monitor.core.model import Intensity
from monitor.errors import FeedError

Spans = Mapping[str, tuple[float, float]]


def of_table(spans: Spans) -> dict[str, Any]:
    """The yearly value of each zone, as arguments of `app.reprice`."""
    from monitor.grid import static

    return {"more": [static.intensity(zone) for zone in spans]}


def of_feeds(spans: Spans, settings: Settings) -> dict[str, Any]:
    """What the feeds of each zone tell of its span today, as arguments of `app.reprice`.

    Each feed is asked once a zone. One that does not answer is a line on stderr. Raises UsageError for the settings.
    """
    import requests

    from monitor.grid.client import Client
    from monitor.grid.feed import Feed, LogsIn
    from monitor.wiring import wire

    plan_of = wire(settings).plan_of
    with requests.Session() as session:
        client = Client(session, time.time)
        feeds: dict[str, list[Feed]] = {
            zone: [feed for feed in plan_of(zone) if not isinstance(feed, LogsIn)] for zone in spans
        }
        slots = [
            slot
            for zone, (start_s, end_s) in spans.items()
            for slot in _asked(client, feeds[zone], zone, start_s, end_s)
        ]
    for zone in spans:
        if not feeds[zone]:
            click.echo(f"trainwatt: no feed of the settings knows {zone}: see trainwatt config", err=True)
    return {
        "more": slots,
        "providers": {zone: [feed.about.name for feed in plan] for zone, plan in feeds.items()},
        "settles_after_s": {feed.about.name: feed.about.settles_after_s for plan in feeds.values() for feed in plan},
    }


def _asked(client: Any, feeds: Any, zone: str, start_s: float, end_s: float) -> Iterator[Intensity]:
    from monitor.grid.feed import Ask, Want

    for feed in feeds:
        ask = Ask(want=Want.PAST, zone=zone, at_s=time.time(), start_s=start_s, end_s=end_s)
        request = feed.request(ask)
        if request is None:
            click.echo(f"trainwatt: {zone}: {feed.about.title} tells nothing of that time", err=True)
            continue
        try:
            slots = feed.parse(ask, client.get(request, feed.about))
        except FeedError as error:
            click.echo(f"trainwatt: {zone}: {error}", err=True)
            continue
        # Only what has to do with the run: some tell more than they were asked.
        yield from (slot for slot in slots if slot.valid_until_s > start_s and slot.valid_from_s < end_s)


def spans_of(document: Mapping[str, Any], margin_s: float) -> dict[str, tuple[float, float]]:
    """Zones of the energy in a report, each with its first and its last moment in Unix time."""
    spans: dict[str, tuple[float, float]] = {}
    for part in document["parts"] or [document]:
        rows = part["intervals"]["rows"] if part["intervals"] else []
        for start_s, end_s, _device, zone, *_rest in rows:
            if zone:
                from_s, until_s = spans.get(zone, (start_s - margin_s, end_s))
                spans[zone] = (min(from_s, start_s - margin_s), max(until_s, end_s))
    return spans

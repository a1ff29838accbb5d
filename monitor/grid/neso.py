"""NESO Carbon Intensity: Great Britain by half-hours, and its regions. No key.

A region has a forecast and never an actual value: it stays `forecast` for ever. What is counted is direct CO2 with
imports and losses of the grid, not the life cycle. `/intensity` alone answers with the last complete half-hour, so the
present one is taken from a range; a range that begins on a slot's edge begins with the slot that ends there.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from monitor.core.model import Basis, Intensity, Quality
from monitor.errors import FeedError
from monitor.grid import reply
from monitor.grid.feed import About, Account, Ask, Reply, Request, Want

BASE_URL = "https://api.carbonintensity.org.uk"
STEP_S = 1800.0
BEFORE_S = 3600.0
"""LATEST asks for so much before the present slot: an actual value comes with the slot's end, or a little later."""
LONGEST_SPAN_S = 14 * 86400.0
"""What one request may ask for."""
REGIONS: Mapping[str, int] = MappingProxyType(
    {
        "GB-1": 1,  # North Scotland
        "GB-2": 2,  # South Scotland
        "GB-3": 3,  # North West England
        "GB-4": 4,  # North East England
        "GB-5": 5,  # Yorkshire
        "GB-6": 6,  # North Wales and Merseyside
        "GB-7": 7,  # South Wales
        "GB-8": 8,  # West Midlands
        "GB-9": 9,  # East Midlands
        "GB-10": 10,  # East England
        "GB-11": 11,  # South West England
        "GB-12": 12,  # South England
        "GB-13": 13,  # London
        "GB-14": 14,  # South East England
        "GB-15": 15,  # England
        "GB-16": 16,  # Scotland
        "GB-17": 17,  # Wales
    }
)


class Neso:
    """Zones GB and GB-1 to GB-17."""

    about = About(
        name="neso",
        title="NESO Carbon Intensity",
        credit="NESO Carbon Intensity API, CC BY 4.0",
        cadence_s=STEP_S,
        phase_s=120.0,
        past_s=365 * 86400.0,
        forecast_s=48 * 3600.0,
    )

    def __init__(self, account: Account) -> None:
        self._base_url = account.base_url or BASE_URL

    def knows(self, zone: str) -> bool:
        """GB and its regions."""
        return zone == "GB" or zone in REGIONS

    def request(self, ask: Ask) -> Request | None:
        """Always a range. Of a longer past than one request may have, the newest 14 days."""
        if not self.knows(ask.zone):
            return None
        if ask.want is Want.PAST:
            until_s = -(-ask.end_s // STEP_S) * STEP_S
            from_s = max(ask.start_s, until_s - LONGEST_SPAN_S)
            span = f"{_stamp(from_s)}/{_stamp(until_s)}"
        elif ask.want is Want.FORECAST:
            span = f"{_stamp(ask.at_s)}/fw48h"
        else:
            span = f"{_stamp(ask.at_s - BEFORE_S)}/fw24h"
        region = REGIONS.get(ask.zone)
        path = f"/intensity/{span}" if region is None else f"/regional/intensity/{span}/regionid/{region}"
        return Request(url=f"{self._base_url}{path}", headers={"Accept": "application/json"})

    def parse(self, ask: Ask, answer: Reply) -> Sequence[Intensity]:
        """The actual value where there is one, else the forecast."""
        if answer.status == HTTPStatus.BAD_REQUEST and b"region" in answer.body:
            raise reply.refusal(self.about, answer, reason="zone")
        gathering = reply.Gathering(self.about, ask, answer)
        for row in self._rows(ask, reply.document(self.about, answer)):
            intensity = reply.table(self.about, row.get("intensity"), "intensity")
            actual = intensity.get("actual")
            gathering.add(
                intensity.get("forecast") if actual is None else actual,
                row.get("from"),
                until=row.get("to", ""),
                basis=Basis.DIRECT,
                quality=Quality.FORECAST if actual is None else Quality.ACTUAL,
            )
        return gathering.values()

    def _rows(self, ask: Ask, found: Any) -> Iterator[dict[str, Any]]:
        """The slots. Those of a region stand in an object or, contrary to other calls, in an array of one."""
        region = REGIONS.get(ask.zone)
        data = reply.table(self.about, found, "the answer").get("data")
        for block in reply.tables(self.about, data, "data"):
            if "data" not in block:
                yield block
            elif block.get("regionid") in (region, str(region)):
                yield from reply.tables(self.about, block["data"], "data of a region")
            else:
                raise FeedError(
                    f"{self.about.title} answered for another region than {ask.zone}: nothing of it is used",
                    reason="content",
                )


def _stamp(unix_s: float) -> str:
    """The edge at or before a moment, as the API writes it: no seconds."""
    return f"{datetime.fromtimestamp(unix_s // STEP_S * STEP_S, UTC):%Y-%m-%dT%H:%MZ}"

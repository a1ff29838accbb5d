"""Energinet's Energi Data Service: western (DK1) and eastern (DK2) Denmark by five minutes. No key.

One request a minute for each dataset and address, by the notice of August 2025: all of ours keep that distance. Only
the stamps in UTC are used, in what is asked and in what comes: the Danish ones repeat an hour each autumn.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType

from monitor.core.model import Basis, Intensity, Quality
from monitor.grid import reply
from monitor.grid.feed import About, Account, Ask, Reply, Request, Want

BASE_URL = "https://api.energidataservice.dk"
ACTUAL = "CO2Emis"
PROGNOSIS = "CO2EmisProg"
STEP_S = 300.0
LATEST_ROWS = 12
LONGEST_SPAN_S = 60 * 86400.0
"""Of rows of some 110 bytes, what stays below 2 MB."""
AFTER_A_REFUSAL_S = 65.0
PRICE_AREAS: Mapping[str, str] = MappingProxyType({"DK-DK1": "DK1", "DK-DK2": "DK2"})


class Energinet:
    """Zones DK-DK1 and DK-DK2; nothing for Denmark as a whole, which is two grids."""

    about = About(
        name="energinet",
        title="Energi Data Service",
        credit="Energinet, Energi Data Service, CC BY 4.0",
        cadence_s=STEP_S,
        apart_s=65.0,
        past_s=365 * 86400.0,
        forecast_s=48 * 3600.0,
        notice="Energi Data Service answers one request a minute for each internet address: "
        "of several machines behind one, let one ask and the others ask that one (feed relay)",
    )

    def __init__(self, account: Account) -> None:
        self._base_url = account.base_url or BASE_URL

    def knows(self, zone: str) -> bool:
        """The two price areas."""
        return zone in PRICE_AREAS

    def request(self, ask: Ask) -> Request | None:
        """Without `start` the prognosis is cut to its last 100 rows; without `timezone`, times are Danish."""
        area = PRICE_AREAS.get(ask.zone)
        if area is None:
            return None
        dataset = ACTUAL
        wanted = {"filter": json.dumps({"PriceArea": [area]}, separators=(",", ":"))}
        if ask.want is Want.FORECAST:
            dataset = PROGNOSIS
            wanted |= {"start": "now", "sort": "Minutes5UTC asc", "limit": "0"}
        elif ask.want is Want.PAST:
            start_s = max(ask.start_s, ask.end_s - LONGEST_SPAN_S)
            end_s = -(-ask.end_s // STEP_S) * STEP_S
            wanted |= {"start": _stamp(start_s), "end": _stamp(end_s), "timezone": "UTC"}
            wanted |= {"sort": "Minutes5UTC asc", "limit": "0"}
        else:
            wanted |= {"sort": "Minutes5UTC desc", "limit": str(LATEST_ROWS)}
        return Request(url=f"{self._base_url}/dataset/{dataset}", params=tuple(wanted.items()))

    def parse(self, ask: Ask, answer: Reply) -> Sequence[Intensity]:
        """Rows of the area that was asked for. Of the prognosis, what is not over."""
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise reply.refusal(self.about, answer, wait_s=AFTER_A_REFUSAL_S)
        if answer.status == HTTPStatus.NOT_FOUND:
            raise reply.refusal(self.about, answer, reason="server", remedy="has the dataset moved?")
        found = reply.table(self.about, reply.document(self.about, answer), "the answer")
        is_forecast = ask.want is Want.FORECAST
        gathering = reply.Gathering(self.about, ask, answer)
        for row in reply.tables(self.about, found.get("records"), "records"):
            if row.get("PriceArea") == PRICE_AREAS.get(ask.zone):
                gathering.add(
                    row.get("CO2Emission"),
                    row.get("Minutes5UTC"),
                    step_s=STEP_S,
                    basis=Basis.DIRECT,
                    quality=Quality.FORECAST if is_forecast else Quality.ACTUAL,
                    dataset=PROGNOSIS if is_forecast else ACTUAL,
                )
        return gathering.values()


def _stamp(unix_s: float) -> str:
    """The edge at or before a moment, to the minute."""
    return f"{datetime.fromtimestamp(unix_s // STEP_S * STEP_S, UTC):%Y-%m-%dT%H:%M}"

"""Energy-Charts of Fraunhofer ISE: European countries, by 15 minutes or by hours, with its own forecast. No key.

Used only where it is named: its licence is told in two ways that exclude each other. Parallel arrays: of one interval
either the value or the forecast is null. Its day begins at midnight, so the first hours have forecasts only.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from monitor.core.model import Basis, Intensity, Quality
from monitor.errors import FeedError
from monitor.grid import reply
from monitor.grid.feed import About, Account, Ask, Reply, Request, Want

BASE_URL = "https://api.energy-charts.info"
LONGEST_SPAN_S = 60 * 86400.0
"""What one request asks for at most: some 6,000 intervals."""
LONGEST_STEP_S = 3600.0
STEP_OF_ONE_S = 900.0
"""Of an interval that stands alone nothing tells the length: the shortest claims the least."""
AFTER_A_REFUSAL_S = 60.0
COUNTRIES: Mapping[str, str] = MappingProxyType(
    {
        "AT": "at",
        "BA": "ba",
        "BE": "be",
        "BG": "bg",
        "CH": "ch",
        "CZ": "cz",
        "DE": "de",
        "DK": "dk",
        "EE": "ee",
        "ES": "es",
        "EU27": "eu",
        "FI": "fi",
        "FR": "fr",
        "GR": "gr",
        "HR": "hr",
        "HU": "hu",
        "IE": "ie",
        "IT": "it",
        "LT": "lt",
        "LU": "lu",
        "LV": "lv",
        "ME": "me",
        "MK": "mk",
        "NL": "nl",
        "NO": "no",
        "PL": "pl",
        "PT": "pt",
        "RO": "ro",
        "RS": "rs",
        "SE": "se",
        "SI": "si",
        "SK": "sk",
    }
)


class EnergyCharts:
    """Whole countries only: a bidding zone (SE-SE3, DK-DK1) is not its country."""

    about = About(
        name="energy_charts",
        title="Energy-Charts",
        credit="Energy-Charts (Fraunhofer ISE), CC BY 4.0 by its specification; its notes forbid commercial use",
        cadence_s=900.0,
        apart_s=31.0,
        past_s=365 * 86400.0,
        forecast_s=48 * 3600.0,
        opt_in=True,
        notice="the specification of Energy-Charts says CC BY 4.0, its publishing notes forbid commercial use: "
        "ask Fraunhofer ISE before you use its values commercially",
    )

    def __init__(self, account: Account) -> None:
        self._base_url = account.base_url or BASE_URL

    def knows(self, zone: str) -> bool:
        """Whether the table has its country."""
        return zone in COUNTRIES

    def request(self, ask: Ask) -> Request | None:
        """Without a span it answers with its day and the forecast to the end of the next."""
        country = COUNTRIES.get(ask.zone)
        if country is None:
            return None
        params = [("country", country)]
        if ask.want is Want.PAST:
            start_s = max(ask.start_s, ask.end_s - LONGEST_SPAN_S)
            params += [("start", _stamp(start_s)), ("end", _stamp(ask.end_s))]
        return Request(url=f"{self._base_url}/co2eq", params=tuple(params))

    def parse(self, ask: Ask, answer: Reply) -> Sequence[Intensity]:
        """The value where there is one, else the forecast. A country that it does not know is null throughout."""
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise reply.refusal(self.about, answer, wait_s=AFTER_A_REFUSAL_S)
        if answer.status == HTTPStatus.NOT_FOUND:
            raise reply.refusal(self.about, answer, reason="empty")
        found = reply.table(self.about, reply.document(self.about, answer), "the answer")
        starts = self._column(found, "unix_seconds")
        values = self._column(found, "co2eq")
        forecasts = self._column(found, "co2eq_forecast")
        if len({len(starts), len(values), len(forecasts)}) > 1:
            raise reply.unlike(self.about, f"{len(starts)} times, {len(values)} values, {len(forecasts)} forecasts")
        step_s = _step_s(starts)
        gathering = reply.Gathering(self.about, ask, answer)
        for start, value, forecast in zip(starts, values, forecasts, strict=True):
            gathering.add(
                forecast if value is None else value,
                start,
                step_s=step_s,
                basis=Basis.LIFECYCLE,
                quality=Quality.FORECAST if value is None else Quality.ACTUAL,
            )
        return gathering.values(otherwise=self._unknown(ask) if starts else None)

    def _column(self, found: dict[str, Any], name: str) -> list[Any]:
        column = found.get(name)
        if not isinstance(column, list):
            raise reply.unlike(self.about, f"{name} is no list")
        return column

    def _unknown(self, ask: Ask) -> FeedError:
        return FeedError(
            f"{self.about.title} answered for {ask.zone} without a single value, "
            "as it does for countries that it does not have: choose another feed for this zone",
            reason="zone",
        )


def _step_s(starts: Sequence[Any]) -> float:
    """Length of the intervals: the distance of the nearest two, an hour at most."""
    moments = set()
    for start in starts:
        with suppress(ValueError):
            moments.add(reply.unix_s(start))
    apart_s = (later - sooner for sooner, later in pairwise(sorted(moments)))
    return min(LONGEST_STEP_S, min(apart_s, default=STEP_OF_ONE_S))


def _stamp(unix_s: float) -> str:
    """A moment to the minute."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%MZ}"

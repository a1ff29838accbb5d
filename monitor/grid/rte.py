"""RTE éCO2mix through the portal ODRÉ: France by half-hours. No key.

Production in France, direct CO2. Two datasets. `tr`, real time, is telemetry filled up with estimates: `estimated`. It
keeps its rows for months, until `cons-def`, the consolidated and later definitive figures, has them: `actual`; what is
older than half a year is asked there. Rows come every 15 minutes and the rate stands in those of :00 and :30 only, for
the 30 minutes from then; what has not come yet is null. Nothing is chosen by "today", which is empty after midnight.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from monitor.core.model import Basis, Intensity, Quality
from monitor.errors import FeedError
from monitor.grid import reply
from monitor.grid.feed import About, Account, Ask, Reply, Request, Want

BASE_URL = "https://odre.opendatasoft.com"
REAL_TIME = "eco2mix-national-tr"
CONSOLIDATED = "eco2mix-national-cons-def"
CONSOLIDATED_AFTER_S = 183 * 86400.0
STEP_S = 1800.0
LATEST_ROWS = 12
LONGEST_SPAN_S = 183 * 86400.0
"""Of rows of some 60 bytes, what stays below 1 MB."""
NOTHING = ("ND", "")
"""What stands in a column for "not available", beside null."""


class Rte:
    """Zone FR."""

    about = About(
        name="rte",
        title="RTE éCO2mix",
        credit="RTE \N{EN DASH} éCO2mix, Licence Ouverte 2.0",
        cadence_s=STEP_S,
        # The value of a slot comes 15 to 20 minutes after the slot's end.
        phase_s=1200.0,
        past_s=10 * 365 * 86400.0,
    )

    def __init__(self, account: Account) -> None:
        self._base_url = account.base_url or BASE_URL

    def knows(self, zone: str) -> bool:
        """France as a whole; its regions have no rate."""
        return zone == "FR"

    def request(self, ask: Ask) -> Request | None:
        """The newest rows by `records`; a span by `exports/json`, which is not cut at 100 rows."""
        if not self.knows(ask.zone) or ask.want is Want.FORECAST:
            return None
        where, verb, limit = "taux_co2 is not null", "records", [("limit", str(LATEST_ROWS))]
        if ask.want is Want.PAST:
            start_s = max(ask.start_s, ask.end_s - LONGEST_SPAN_S)
            where = f"date_heure >= {_date(start_s)} and date_heure < {_date(ask.end_s)} and {where}"
            verb, limit = "exports/json", []
        params = [("select", "taux_co2,date_heure"), ("where", where), ("order_by", "date_heure desc")]
        params += [*limit, ("timezone", "UTC")]
        root = f"{self._base_url}/api/explore/v2.1/catalog/datasets"
        return Request(url=f"{root}/{_dataset(ask)}/{verb}", params=tuple(params))

    def parse(self, ask: Ask, answer: Reply) -> Sequence[Intensity]:
        """Rows in `results`, or bare ones of an export."""
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise reply.refusal(self.about, answer, wait_s=self._wait_s(answer))
        if answer.status == HTTPStatus.NOT_FOUND:
            raise reply.refusal(self.about, answer, reason="server", remedy="has the dataset moved?")
        dataset = _dataset(ask)
        rows = list(self._rows(reply.document(self.about, answer)))
        gathering = reply.Gathering(self.about, ask, answer)
        for row in rows:
            rate = row.get("taux_co2")
            gathering.add(
                None if rate in NOTHING else rate,
                row.get("date_heure"),
                step_s=STEP_S,
                basis=Basis.DIRECT,
                quality=Quality.ACTUAL if dataset == CONSOLIDATED else Quality.ESTIMATED,
                dataset=dataset,
            )
        return gathering.values()

    def _rows(self, found: Any) -> Iterator[dict[str, Any]]:
        rows = found if isinstance(found, list) else reply.table(self.about, found, "the answer").get("results")
        yield from reply.tables(self.about, rows, "results")

    def _wait_s(self, answer: Reply) -> float | None:
        """Seconds until the quota is given anew, by the body or by a header of its own: there is no Retry-After."""
        try:
            told = reply.parsed(self.about, answer)
        except FeedError:
            told = None
        reset = told.get("reset_time") if isinstance(told, dict) else None
        try:
            reset_s = reply.unix_s(reset or answer.headers.get("x-ratelimit-reset"))
        except ValueError:
            return None
        return max(0.0, reset_s - answer.received_at_s)


def _dataset(ask: Ask) -> str:
    """Which of the two has the span."""
    is_old = ask.want is Want.PAST and ask.end_s < ask.at_s - CONSOLIDATED_AFTER_S
    return CONSOLIDATED if is_old else REAL_TIME


def _date(unix_s: float) -> str:
    """A moment as a literal of ODSQL."""
    return f"date'{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%S+00:00}'"

"""The carbon intensity of a town with a power plant of its own, by the quarter of an hour."""

from collections.abc import Sequence

from monitor.core.model import Basis, Intensity, Quality
from monitor.grid import reply
from monitor.grid.feed import About, Account, Ask, Reply, Request, Want

QUARTER_S = 900.0


class Riverside:
    """Answers {"rows": [{"at": "2026-11-21T12:00Z", "kg_per_mwh": 31.5}]}; what is not known yet is null."""

    about = About(
        name="riverside",
        title="Riverside power plant",
        credit="Riverside municipal works, CC0",
        cadence_s=QUARTER_S,
        past_s=86_400.0,
    )

    def __init__(self, account: Account) -> None:
        self._base_url = account.base_url or "https://power.riverside.example"

    def knows(self, zone: str) -> bool:
        """Its own town, by a name of its own."""
        return zone == "XX-RIVERSIDE"

    def request(self, ask: Ask) -> Request | None:
        """It tells the last day, whatever is asked, and has no forecast."""
        return None if ask.want is Want.FORECAST else Request(url=f"{self._base_url}/v1/intensity")

    def parse(self, ask: Ask, answer: Reply) -> Sequence[Intensity]:
        """Status, content type and syntax are looked at by `document`, numbers and times by `Gathering`."""
        found = reply.table(self.about, reply.document(self.about, answer), "the answer")
        gathering = reply.Gathering(self.about, ask, answer)
        for row in reply.tables(self.about, found.get("rows"), "rows"):
            gathering.add(
                row.get("kg_per_mwh"),
                row.get("at"),
                step_s=QUARTER_S,
                basis=Basis.DIRECT,
                quality=Quality.ACTUAL,
            )
        return gathering.values()

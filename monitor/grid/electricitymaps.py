"""Electricity Maps (key): flow-traced average intensity of some 350 zones, revised for hours. API v4, or v3.

Zones are trainwatt's own: it names them as Electricity Maps does. Asked without a zone that it can resolve, this API
places the caller by IP and answers for that place with 200: lookup is always turned off, and the zone is compared.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from monitor.core.model import Basis, Intensity, Quality
from monitor.errors import FeedError
from monitor.grid import reply
from monitor.grid.feed import About, Account, Ask, Reply, Request, Want
from monitor.grid.options import Options

BASE_URL = "https://api.electricitymaps.com"
ZONE = re.compile(r"[A-Z]{2}(-[A-Z][A-Z0-9]*){0,2}")
"""ISO country or country-region; the regions of NESO (GB-13) and EGRID-* are other people's."""
STEPS_S = {"5_minutes": 300.0, "15_minutes": 900.0, "hourly": 3600.0}
HORIZONS_H = (6, 24, 48, 72)
HISTORY_S = 24 * 3600.0
"""What `history` reaches back."""
LONGEST_RANGE_S = 10 * 24 * 3600.0
"""What one `past-range` may span, by hours."""
OPTIONS = ("version", "basis", "granularity", "past_range")


class ElectricityMaps:
    """Every zone of the form of its ids.

    Options: `version` v4 or v3; `basis` lifecycle or direct; `granularity` of plans that have finer slots than hours;
    `past_range` true for a plan with access to the past beyond 24 h.
    """

    def __init__(self, account: Account) -> None:
        options = Options("electricitymaps", account.options, OPTIONS)
        self._root = f"{account.base_url or BASE_URL}/{options.choice('version', ('v4', 'v3'), 'v4')}/carbon-intensity"
        self._key = account.key
        self._basis = Basis(options.choice("basis", (Basis.LIFECYCLE, Basis.DIRECT), Basis.LIFECYCLE))
        self._granularity = options.choice("granularity", ("", *STEPS_S), "")
        self._has_past = options.flag("past_range")
        self.about = About(
            name="electricitymaps",
            title="Electricity Maps",
            credit="Source: ElectricityMaps.com, proprietary; the free tier is for non-commercial use",
            # The newest hours are estimates that get better meanwhile: twice an hour, at :10 and :40.
            cadence_s=min(1800.0, STEPS_S[self._granularity or "hourly"]),
            phase_s=600.0 if self._granularity in ("", "hourly") else 60.0,
            past_s=LONGEST_RANGE_S if self._has_past else HISTORY_S,
            forecast_s=HORIZONS_H[-1] * 3600.0,
            settles_after_s=72 * 3600.0 if self._has_past else HISTORY_S,
            needs_key=True,
        )

    def knows(self, zone: str) -> bool:
        """Whether the zone is of the form of its ids."""
        return ZONE.fullmatch(zone) is not None

    def request(self, ask: Ask) -> Request | None:
        """One `history` has the present hour and the 24 before it, as revised: it is LATEST, and near PAST."""
        params = [
            ("zone", ask.zone),
            ("emissionFactorType", self._basis.value),
            ("disableCallerLookup", "true"),
        ]
        if self._granularity:
            params.append(("temporalGranularity", self._granularity))
        verb = "history"
        if ask.want is Want.FORECAST:
            verb = "forecast"
            params.append(("horizonHours", str(_horizon_h(ask.end_s - ask.at_s))))
        elif ask.want is Want.PAST and ask.start_s < ask.at_s - HISTORY_S:
            if ask.end_s <= ask.at_s - HISTORY_S and not self._has_past:
                return None
            if self._has_past:
                verb = "past-range"
                start_s = max(ask.start_s, ask.end_s - LONGEST_RANGE_S)
                params += [("start", _iso(start_s)), ("end", _iso(ask.end_s))]
        return Request(url=f"{self._root}/{verb}", params=tuple(params), headers={"auth-token": self._key})

    def parse(self, ask: Ask, answer: Reply) -> Sequence[Intensity]:
        """Rows under `history`, `data` or `forecast`, or one bare row."""
        if answer.status != HTTPStatus.OK:
            raise self._refusal(answer)
        found = reply.table(self.about, reply.document(self.about, answer), "the answer")
        if "error" in found:  # seen with 200
            raise self._refusal(answer)
        self._check_zone(ask, found.get("zone"))
        gathering = reply.Gathering(self.about, ask, answer)
        data = next((found[name] for name in ("history", "data", "forecast") if name in found), found)
        for row in reply.tables(self.about, data, "a row"):
            self._check_zone(ask, row.get("zone", ask.zone))
            # `datetime` is the slot's start. `createdAt` is when it was first forecast, `updatedAt` may precede it.
            gathering.add(
                row.get("carbonIntensity"),
                row.get("datetime"),
                step_s=self._step_s(found, row),
                basis=self._basis_of(found, row),
                quality=_quality(found, row),
                updated=row.get("updatedAt", found.get("updatedAt")),
                made_by=str(row.get("estimationMethod") or ""),
            )
        return gathering.values()

    def _step_s(self, found: Mapping[str, Any], row: Mapping[str, Any]) -> float:
        """Length of a slot; v3 does not tell it: then it is what was asked for."""
        word = found.get("temporalGranularity") or row.get("temporalGranularity") or self._granularity or "hourly"
        if not isinstance(word, str) or word not in STEPS_S:
            raise reply.unlike(self.about, f"temporalGranularity = {word!r:.40}")
        return STEPS_S[word]

    def _basis_of(self, found: Mapping[str, Any], row: Mapping[str, Any]) -> Basis:
        """What the document says it is, which goes before what was asked for; forecasts do not say."""
        word = row.get("emissionFactorType") or found.get("emissionFactorType") or self._basis.value
        return Basis(word) if word in (Basis.LIFECYCLE, Basis.DIRECT) else Basis.UNKNOWN

    def _check_zone(self, ask: Ask, zone: Any) -> None:
        if zone != ask.zone:
            raise FeedError(
                f"{self.about.title} was asked for {ask.zone} and answered for {zone!r:.40}, which may be where it "
                "thinks we are: set a zone that it knows (its /zones lists them)",
                reason="zone",
            )

    def _refusal(self, answer: Reply) -> FeedError:
        """One status for three things: 401 is a wrong key, a zone that is not in the plan, or too many requests."""
        words = _words(answer)
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS or "too many" in words or "rate limit" in words:
            return reply.refusal(self.about, answer, reason="quota")
        if "unauthorized for" in words or "do not have access" in words:
            remedy = "the plan of this key does not include it: choose another feed for the zone, or another plan"
            return reply.refusal(self.about, answer, reason="plan", remedy=remedy)
        if "no recent data" in words:
            return reply.refusal(self.about, answer, reason="empty")
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            remedy = "good keys see this now and then; if it lasts, check feed.electricitymaps key"
            return reply.refusal(self.about, answer, reason="key", remedy=remedy)
        return reply.refusal(self.about, answer, reason="content" if answer.status == HTTPStatus.OK else None)


def _words(answer: Reply) -> str:
    """What a refusal says, to be searched in; HTML or nothing is as good as any."""
    return answer.body[:2000].decode("utf-8", "replace").lower()


def _quality(found: Mapping[str, Any], row: Mapping[str, Any]) -> Quality:
    if "forecast" in found:
        return Quality.FORECAST
    # Whatever is not said to be final is an estimate.
    return Quality.ACTUAL if row.get("isEstimated") is False else Quality.ESTIMATED


def _horizon_h(span_s: float) -> int:
    """The least horizon it offers that reaches so far."""
    return next((hours for hours in HORIZONS_H if hours * 3600.0 >= span_s), HORIZONS_H[-1])


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

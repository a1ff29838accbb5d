"""WattTime v3 (account): the marginal emission rate, `co2_moer`. Its own series; never part of the average one.

The percentile that it gives away for every region (`signal-index`) is no emission factor and is not asked for.
"""

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from monitor.core.model import Basis, Intensity, Quality, Signal
from monitor.core.units import KILOGRAMS_PER_POUND
from monitor.errors import FeedError
from monitor.grid import reply
from monitor.grid.feed import About, Account, Ask, Reply, Request, Token, Want
from monitor.grid.options import Options

BASE_URL = "https://api.watttime.org"
SIGNAL = "co2_moer"
FACTORS: Mapping[str, float] = {"lbs_co2_per_mwh": KILOGRAMS_PER_POUND}
"""Units of `meta.units` in g/kWh, which is kg/MWh."""
PERIOD_S = 300.0
LONGEST_PERIOD_S = 3600.0
MINUTE_S = 60
FURTHEST_H = 72
LONGEST_RANGE_S = 30 * 86_400.0
"""It takes 32 days at a time; its own client asks for 30."""
TOKEN_S = 30 * 60.0
SPARE_S = 60.0
"""So long before its end a token is not used any more."""
REGIONS: Mapping[str, str] = {
    "DE": "DE",
    "FI": "FI",
    "FR": "FR",
    "GB": "UK",
    "IE": "IE",
    "IT": "IT",
    "JP-TK": "JP_TK",
    "NL": "NL",
    "SE": "SE",
    "US-CAL-CISO": "CAISO_NORTH",
    "US-CAR-CPLE": "CPLE",
    "US-CAR-DUK": "DUK",
    "US-CAR-SC": "SC",
    "US-CAR-SCEG": "SCEG",
    "US-MIDW-AECI": "AECI",
    "US-MIDW-LGEE": "LGEE",
    "US-NW-BPAT": "BPA",
    "US-NW-IPCO": "IPCO",
    "US-NW-NEVP": "NEVP",
    "US-NW-PACE": "PACE",
    "US-NW-PACW": "PACW",
    "US-NW-PSCO": "PSCO",
    "US-SE-SOCO": "SOCO",
    "US-SW-AZPS": "AZPS",
    "US-SW-PNM": "PNM",
    "US-SW-SRP": "SRP",
    "US-TEN-TVA": "TVA",
}
"""Zone to region, where the zone is one region, and the one that is free. ERCOT, PJM, MISO, SPP, NYISO and ISO-NE are
many each: which one a site is in, only its owner knows (option `region`)."""


class WattTime:
    """Zones that are one of its regions, and those whose region the settings name.

    Option `region`: its id in place of the table's, such as PJM_DC; where machines are in several zones ZONE=REGION for
    each, such as `US-MIDA-PJM=PJM_DC US-TEX-ERCO=ERCOT_AUSTIN`.
    """

    def __init__(self, account: Account) -> None:
        options = Options("watttime", account.options, ("region",))
        self._root = account.base_url or BASE_URL
        self._user, self._password = account.user, account.password
        self._regions, self._anywhere = _regions(options)
        self.about = About(
            name="watttime",
            title="WattTime",
            credit="WattTime co2_moer, watttime.org, proprietary",
            cadence_s=PERIOD_S,
            phase_s=30.0,
            past_s=LONGEST_RANGE_S,
            forecast_s=FURTHEST_H * 3600.0,
            signal=Signal.MARGINAL,
            needs_key=True,
        )

    def knows(self, zone: str) -> bool:
        """Whether the zone is one region, or the settings name its region."""
        return self._region(zone) is not None

    def request(self, ask: Ask) -> Request | None:
        """The forecast's first point is the present five minutes; the past is another endpoint, ends included."""
        region = self._region(ask.zone)
        if region is None:
            return None
        params = [("region", region), ("signal_type", SIGNAL)]
        if ask.want is not Want.PAST:
            hours = 0 if ask.want is Want.LATEST else math.ceil((ask.end_s - ask.at_s) / 3600.0)
            params.append(("horizon_hours", str(min(FURTHEST_H, max(0, hours)))))
            return Request(url=f"{self._root}/v3/forecast", params=tuple(params))
        first_s = math.floor(ask.start_s / PERIOD_S) * PERIOD_S
        last_s = max(first_s, math.ceil(ask.end_s / PERIOD_S) * PERIOD_S - PERIOD_S)
        first_s = max(first_s, last_s - LONGEST_RANGE_S)
        params += [("start", _iso(first_s)), ("end", _iso(last_s)), ("include_imputed_marker", "true")]
        return Request(url=f"{self._root}/v3/historical", params=tuple(params))

    def parse(self, ask: Ask, answer: Reply) -> Sequence[Intensity]:
        """Points of `data`, in the unit and of the length that `meta` tells."""
        if answer.status != HTTPStatus.OK:
            raise self._refusal(answer)
        found = reply.table(self.about, reply.document(self.about, answer), "the answer")
        meta = reply.table(self.about, found.get("meta"), "meta")
        self._check(ask, meta)
        factor, period_s, made_s = self._factor(meta), self._period_s(meta), self._made_s(answer, meta)
        model = meta.get("model")
        gathering = reply.Gathering(self.about, ask, answer)
        for point in reply.tables(self.about, found.get("data"), "data"):
            imputed = point.get("imputed_data_used") is True
            quality = Quality.ESTIMATED if imputed else Quality.ACTUAL
            if ask.want is not Want.PAST:
                # The present point is an estimate, made when the forecast was.
                quality = Quality.ESTIMATED if self._moment(point.get("point_time")) <= made_s else Quality.FORECAST
            gathering.add(
                point.get("value"),
                point.get("point_time"),
                step_s=period_s,
                # What the plant at the margin emits at its stack: CO2, no life cycle.
                basis=Basis.DIRECT,
                signal=Signal.MARGINAL,
                quality=quality,
                factor=factor,
                updated=point.get("last_updated"),
                made_by="imputed" if imputed else "",
                dataset=str(model.get("date") or "") if isinstance(model, Mapping) else "",
            )
        return gathering.values()

    def login(self) -> Request:
        """User and password go over Basic, once for a token of half an hour."""
        return Request(url=f"{self._root}/login", auth=(self._user, self._password))

    def token(self, answer: Reply) -> Token:
        """The token, until a minute before its end. Wrong credentials are answered with 403 and a page of HTML."""
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            remedy = "check feed.watttime user and password"
            raise reply.refusal(self.about, answer, reason="key", remedy=remedy)
        found = reply.document(self.about, answer)
        word = found.get("token") if isinstance(found, Mapping) else None
        if not isinstance(word, str) or not word or not (word.isascii() and word.isprintable()):
            raise reply.unlike(self.about, "the login gave no token")
        until_s = _end_of(word)
        if until_s is None or until_s - SPARE_S <= answer.received_at_s:  # none is told, or our clock is wrong
            until_s = answer.received_at_s + TOKEN_S
        return Token(word, until_s - SPARE_S)

    def authorized(self, request: Request, token: Token) -> Request:
        """The token is a bearer's."""
        return replace(request, headers={**request.headers, "Authorization": f"Bearer {token.value}"})

    def has_expired(self, answer: Reply) -> bool:
        """401 and 403 are a token that has ended, but for 403 with the words of a plan that is too small."""
        return answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) and not _is_plan(answer)

    def _region(self, zone: str) -> str | None:
        return self._regions.get(zone) or self._anywhere or REGIONS.get(zone)

    def _check(self, ask: Ask, meta: Mapping[str, Any]) -> None:
        region, signal = meta.get("region"), meta.get("signal_type")
        if region != self._region(ask.zone):
            raise FeedError(
                f"{self.about.title} was asked for {self._region(ask.zone)} and answered for {region!r:.40}: "
                "nothing of it is used",
                reason="content",
            )
        if signal != SIGNAL:
            raise reply.unlike(self.about, f"signal_type = {signal!r:.40}, which is not {SIGNAL}")

    def _factor(self, meta: Mapping[str, Any]) -> float:
        unit = meta.get("units")
        if not isinstance(unit, str) or unit not in FACTORS:
            raise reply.unlike(self.about, f"units = {unit!r:.40}")
        return FACTORS[unit]

    def _period_s(self, meta: Mapping[str, Any]) -> float:
        period_s = meta.get("data_point_period_seconds")
        # Whole minutes: anything else is not a length of slots.
        if not isinstance(period_s, int | float) or not 0 < period_s <= LONGEST_PERIOD_S or period_s % MINUTE_S:
            raise reply.unlike(self.about, f"data_point_period_seconds = {period_s!r:.40}")
        return float(period_s)

    def _made_s(self, answer: Reply, meta: Mapping[str, Any]) -> float:
        made = meta.get("generated_at")
        return answer.received_at_s if made is None else self._moment(made)

    def _moment(self, value: Any) -> float:
        try:
            return reply.unix_s(value)
        except ValueError as error:
            raise reply.unlike(self.about, str(error)) from error

    def _refusal(self, answer: Reply) -> FeedError:
        if _is_plan(answer):
            remedy = "the plan of this account does not include the region: choose another plan, or drop the feed"
            return reply.refusal(self.about, answer, reason="plan", remedy=remedy)
        remedy = ""
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            remedy = "check feed.watttime user and password"
        elif answer.status == HTTPStatus.NOT_FOUND:
            remedy = "check feed.watttime region"
        return reply.refusal(self.about, answer, remedy=remedy)


def _is_plan(answer: Reply) -> bool:
    return answer.status == HTTPStatus.FORBIDDEN and b"invalid scope" in answer.body[:2000].lower()


def _regions(options: Options) -> tuple[dict[str, str], str]:
    """Region of each zone that the settings name, and the one for any zone."""
    words = options.text("region").replace(",", " ").split()
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    single = [word for word in words if "=" not in word]
    if len(single) > 1 or (single and pairs) or not all(zone and region for zone, region in pairs.items()):
        raise options.wrong("region", "one region, or ZONE=REGION for each zone")
    return pairs, single[0] if single else ""


def _end_of(token: str) -> float | None:
    """Unix time in the `exp` of a JSON web token (RFC 7519); None where there is none to be read."""
    part = token.split(".")[1] if token.count(".") == 2 else ""  # noqa: PLR2004  (header, claims, signature)
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    try:
        return reply.unix_s(claims["exp"])
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def _iso(unix_s: float) -> str:
    """With the offset that it insists on."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M+00:00")

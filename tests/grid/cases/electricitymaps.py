"""Electricity Maps, v4 and v3: `history` for the present, `past-range` and `forecast`."""

from typing import Any

from monitor.grid.feed import Account, Want
from tests.grid.case import NOW_S, Case

NOON_S = 1_795_262_400.0
"""2026-11-21T12:00Z, the hour of NOW_S."""
HOUR_S = 3600.0
ROW = b'{"zone":"DE","carbonIntensity":%s,"datetime":"2026-11-21T%s:00:00.000Z","isEstimated":false}'


def _rows(*rows: tuple[bytes, bytes], name: bytes = b"history", more: bytes = b"") -> bytes:
    """An envelope with rows of (intensity, hour)."""
    return b'{"zone":"DE","%s":[%s]%s}' % (name, b",".join(ROW % row for row in rows), more)


def _case(name: str, *, options: dict[str, str] | None = None, **words: object) -> Case:
    given: dict[str, object] = {
        "provider": "electricitymaps",
        "zone": "DE",
        "want": Want.LATEST,
        "account": Account(key="em-secret-1", options=options or {}),
        "path": "/v4/carbon-intensity/history",
        "query": {"zone": "DE", "emissionFactorType": "lifecycle", "disableCallerLookup": "true"},
        "headers": {"auth-token": "em-secret-1"},
        "basis": "lifecycle",
        "step_s": HOUR_S,
    }
    return Case(name=name, **(given | words))  # type: ignore[arg-type]


V3: dict[str, Any] = {"path": "/v3/carbon-intensity/history", "options": {"version": "v3"}}

CASES = (
    _case(
        "normal: hours that are measured",
        fixture="electricitymaps/v4_carbon_intensity_history.json",
        values={NOON_S - 23 * HOUR_S: 411.0, NOON_S - 2 * HOUR_S: 355.0},
        quality="actual",
    ),
    _case(
        "normal: the newest hours are estimates",
        fixture="electricitymaps/v4_carbon_intensity_history.json",
        values={NOON_S - HOUR_S: 348.0, NOON_S: 342.0},
        quality="estimated",
    ),
    _case(
        "revised: an hour that was no estimate, and those that were",
        at_s=NOW_S + 3 * HOUR_S,
        fixture="electricitymaps/v4_carbon_intensity_history_3h_later_revised.json",
        values={NOON_S - 2 * HOUR_S: 339.0, NOON_S - HOUR_S: 301.0, NOON_S: 262.0},
        quality="actual",
    ),
    _case(
        "null in the middle, v3",
        fixture="electricitymaps/v3_history_with_null.json",
        values={NOON_S - 4 * HOUR_S: 352.0, NOON_S - 2 * HOUR_S: 355.0},
        absent=frozenset({NOON_S - 3 * HOUR_S}),
        quality="actual",
        **V3,
    ),
    _case(
        "null now",
        body=_rows((b"341", b"11"), (b"null", b"12")),
        values={NOON_S - HOUR_S: 341.0},
        absent=frozenset({NOON_S}),
        quality="actual",
    ),
    _case("null throughout", body=_rows((b"null", b"11"), (b"null", b"12")), reason="empty", says="no value of DE"),
    _case(
        "history under data, as its documentation has it",
        body=_rows((b"341.5", b"11"), name=b"data"),
        values={NOON_S - HOUR_S: 341.5},
        quality="actual",
        **V3,
    ),
    _case(
        "a bare row",
        fixture="electricitymaps/v4_carbon_intensity_latest.json",
        values={NOON_S: 342.0},
        quality="estimated",
    ),
    _case(
        "a bare row of v3, updated before its hour began",
        fixture="electricitymaps/v3_carbon_intensity_latest.json",
        values={NOON_S: 342.0},
        quality="estimated",
        **V3,
    ),
    _case(
        "a legal zero, a number as text, rows out of order and twice",
        body=_rows((b"0", b"11"), (b'"341"', b"09"), (b"0", b"11")),
        values={NOON_S - HOUR_S: 0.0, NOON_S - 3 * HOUR_S: 341.0},
        quality="actual",
    ),
    _case(
        "direct emissions",
        options={"basis": "direct"},
        query={"zone": "DE", "emissionFactorType": "direct", "disableCallerLookup": "true"},
        body=_rows((b"290", b"11")).replace(b'"isEst', b'"emissionFactorType":"direct","isEst'),
        values={NOON_S - HOUR_S: 290.0},
        quality="actual",
        basis="direct",
    ),
    _case(
        "the label is that of the document",
        options={"basis": "direct"},
        query={"zone": "DE", "emissionFactorType": "direct", "disableCallerLookup": "true"},
        fixture="electricitymaps/v4_carbon_intensity_history.json",
        values={NOON_S - 2 * HOUR_S: 355.0},
        quality="actual",
        basis="lifecycle",
    ),
    _case(
        "slots of 15 minutes",
        options={"granularity": "15_minutes"},
        query={
            "zone": "DE",
            "emissionFactorType": "lifecycle",
            "disableCallerLookup": "true",
            "temporalGranularity": "15_minutes",
        },
        body=_rows((b"341", b"11"), more=b',"temporalGranularity":"15_minutes"'),
        values={NOON_S - HOUR_S: 341.0},
        quality="actual",
        step_s=900.0,
    ),
    _case(
        "a granularity that nobody asked for",
        body=_rows((b"341", b"11"), more=b',"temporalGranularity":"daily"'),
        reason="content",
        says="temporalGranularity = 'daily'",
    ),
    _case(
        "a near past is in history, which any plan has",
        want=Want.PAST,
        start_s=NOON_S - 3 * HOUR_S,
        end_s=NOON_S,
        options={"past_range": "true"},
        fixture="electricitymaps/v4_carbon_intensity_history.json",
        values={NOON_S - 2 * HOUR_S: 355.0},
        quality="actual",
    ),
    _case(
        "past, v3",
        want=Want.PAST,
        start_s=NOON_S - 48 * HOUR_S,
        end_s=NOON_S - 42 * HOUR_S,
        path="/v3/carbon-intensity/past-range",
        options={"version": "v3", "past_range": "true"},
        query={
            "zone": "DE",
            "emissionFactorType": "lifecycle",
            "disableCallerLookup": "true",
            "start": "2026-11-19T12:00:00Z",
            "end": "2026-11-19T18:00:00Z",
        },
        fixture="electricitymaps/v3_carbon_intensity_past_range.json",
        values={NOON_S - 48 * HOUR_S: 380.0, NOON_S - 44 * HOUR_S: 384.0},
        quality="actual",
    ),
    _case(
        "forecast",
        want=Want.FORECAST,
        start_s=NOW_S,
        end_s=NOW_S + 23.5 * HOUR_S,
        path="/v4/carbon-intensity/forecast",
        query={
            "zone": "DE",
            "emissionFactorType": "lifecycle",
            "disableCallerLookup": "true",
            "horizonHours": "24",
        },
        fixture="electricitymaps/v4_carbon_intensity_forecast.json",
        values={NOON_S: 322.0, NOON_S + 24 * HOUR_S: 330.0},
        quality="forecast",
    ),
    _case(
        "a longer forecast than there is",
        want=Want.FORECAST,
        start_s=NOW_S,
        end_s=NOW_S + 96 * HOUR_S,
        path="/v4/carbon-intensity/forecast",
        query={
            "zone": "DE",
            "emissionFactorType": "lifecycle",
            "disableCallerLookup": "true",
            "horizonHours": "72",
        },
        fixture="electricitymaps/v4_carbon_intensity_forecast.json",
        values={NOON_S + HOUR_S: 329.0},
        quality="forecast",
    ),
    _case(
        "the zone that is answered is where it thinks we are",
        zone="PL",
        query={"zone": "PL", "emissionFactorType": "lifecycle", "disableCallerLookup": "true"},
        fixture="electricitymaps/v4_carbon_intensity_history.json",
        reason="zone",
        says="asked for PL and answered for 'DE'",
    ),
    _case(
        "a row of another zone",
        body=_rows((b"341", b"11")).replace(b'[{"zone":"DE"', b'[{"zone":"CA-QC"'),
        reason="zone",
        says="answered for 'CA-QC'",
    ),
    _case("zones, which is no answer to this", fixture="electricitymaps/v4_zones_with_token.json", reason="zone"),
    _case(
        "zones of mixed types",
        body=b'{"DE":{"access":["*"],"subZoneKeys":[],"isCommerciallyAvailable":true},"tier":"TIER_A","n":[1]}',
        reason="zone",
        says="answered for None",
    ),
    _case("no data with 200", fixture="electricitymaps/v3_home_assistant_no_data.json", reason="zone", says="None"),
    _case("an empty list", body=b'{"zone":"DE","history":[]}', reason="empty", says="no value of DE"),
    _case("rows that are none", body=b'{"zone":"DE","history":[1,2]}', reason="content", says="no object"),
    _case("a list", body=b"[]", reason="content", says="no object"),
    _case("numbers that cannot be", body=_rows((b"-3", b"11"), (b"NaN", b"12")), reason="value", says="left out"),
    _case(
        "one number that cannot be among others",
        body=_rows((b"341", b"11"), (b"99999", b"12")),
        values={NOON_S - HOUR_S: 341.0},
        absent=frozenset({NOON_S}),
        quality="actual",
    ),
    _case(
        "401: the key",
        fixture="electricitymaps/error_401_invalid_token.json",
        status=401,
        reason="key",
        says="check feed.electricitymaps key",
    ),
    _case(
        "401: a zone that is not in the plan",
        fixture="electricitymaps/error_401_zone_not_in_plan.json",
        status=401,
        reason="plan",
        says="the plan of this key does not include it",
    ),
    _case("401: too many requests", body=b'{"error":"Rate limit exceeded"}', status=401, reason="quota"),
    _case(
        "404: no recent data",
        fixture="electricitymaps/error_404_no_recent_data.json",
        status=404,
        reason="empty",
        says="No recent data",
    ),
    _case(
        "no recent data with 200",
        fixture="electricitymaps/error_404_no_recent_data.json",
        reason="empty",
        says="No recent data",
    ),
    _case("404: no such zone", body=b'{"error":"Zone does not exist"}', status=404, reason="zone"),
    _case("an error with 200", body=b'{"error":"Something"}', reason="content", says="Something"),
    _case(
        "400",
        fixture="electricitymaps/error_400_temporality.json",
        status=400,
        reason="server",
        says="Expected one of latest",
    ),
    _case(
        "429 with Retry-After",
        fixture="electricitymaps/error_429.json",
        status=429,
        reply_headers={"Retry-After": "60"},
        reason="quota",
        retry_after_s=60.0,
        says="Too many requests",
    ),
    _case("429 without", fixture="electricitymaps/error_429.json", status=429, reason="quota"),
    _case(
        "HTML",
        body=b"<html>Bad gateway</html>",
        status=502,
        content_type="text/html",
        reason="server",
        says="Bad gateway",
    ),
    _case("HTML with 200", body=b"<html>Hello</html>", content_type="text/html", reason="content", says="text/html"),
    _case("broken JSON", body=b'{"zone":"DE","history":[', reason="content", says="no JSON"),
)

"""WattTime v3: login, then the marginal rate of a region in pounds per MWh."""

from monitor.grid.feed import Account, Want
from tests.grid.case import NOW_S, Case

NOON_S = 1_795_262_400.0
"""2026-11-21T12:00Z."""
POUND = 0.45359237
STEP_S = 300.0
ACCOUNT = Account(user="carla", password="wt-secret-1")  # noqa: S106  (of nobody)
TOKEN = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2ln"  # noqa: S105  (the fixture's)
POINT = b'{"point_time":"2026-11-21T12:%s:00+00:00","value":%s}'
META = b'"region":"CAISO_NORTH","warnings":[],"signal_type":"co2_moer","model":{"date":"2023-03-01"}'
UNITS = b'"units":"lbs_co2_per_mwh","data_point_period_seconds":300'


def _points(*points: tuple[bytes, bytes], meta: bytes = META, units: bytes = UNITS) -> bytes:
    """A document with points of (minute after 12:00, value)."""
    return b'{"data":[%s],"meta":{%s,%s}}' % (b",".join(POINT % point for point in points), meta, units)


def _case(name: str, **words: object) -> Case:
    given: dict[str, object] = {
        "provider": "watttime",
        "zone": "US-CAL-CISO",
        "want": Want.LATEST,
        "account": ACCOUNT,
        "path": "/v3/forecast",
        "query": {"region": "CAISO_NORTH", "signal_type": "co2_moer", "horizon_hours": "0"},
        "headers": {"authorization": f"Bearer {TOKEN}"},
        "basis": "direct",
        "signal": "marginal",
        "step_s": STEP_S,
    }
    return Case(name=name, **(given | words))  # type: ignore[arg-type]


FORECAST = {
    "want": Want.FORECAST,
    "end_s": NOW_S + 23.2 * 3600,
    "query": {"region": "CAISO_NORTH", "signal_type": "co2_moer", "horizon_hours": "24"},
}
PAST = {
    "want": Want.PAST,
    "start_s": NOON_S - 7200,
    "end_s": NOON_S - 3600,
    "path": "/v3/historical",
    "query": {
        "region": "CAISO_NORTH",
        "signal_type": "co2_moer",
        "start": "2026-11-21T10:00+00:00",
        # Both ends are included: the slot from 11:00 on is not asked for.
        "end": "2026-11-21T10:55+00:00",
        "include_imputed_marker": "true",
    },
}

CASES = (
    _case(
        "normal: pounds per MWh",
        fixture="watttime/forecast_nowcast.json",
        values={NOON_S: 870.4 * POUND},
        quality="estimated",
    ),
    _case(
        "forecast",
        fixture="watttime/forecast.json",
        values={NOON_S + 1800: 972.4 * POUND, NOON_S + 86_400: 966.4 * POUND},
        # Over by 12:27.
        absent=frozenset({NOON_S + STEP_S}),
        quality="forecast",
        **FORECAST,
    ),
    _case(
        "the forecast's first point is an estimate",
        fixture="watttime/forecast.json",
        at_s=NOON_S + 60,
        end_s=NOON_S + 86_000,
        values={NOON_S: 870.4 * POUND},
        quality="estimated",
        want=Want.FORECAST,
        query=FORECAST["query"],
    ),
    _case(
        "past",
        fixture="watttime/historical.json",
        values={NOON_S - 7200: 860.0 * POUND, NOON_S - 3900: 871.0 * POUND},
        quality="actual",
        **PAST,
    ),
    _case(
        "revised: the same slot later",
        body=b'{"data":[{"point_time":"2026-11-21T10:00:00+00:00","value":640.0,'
        b'"last_updated":"2026-11-22T03:00:00+00:00"}],"meta":{%s,%s}}' % (META, UNITS),
        values={NOON_S - 7200: 640.0 * POUND},
        quality="actual",
        **PAST,
    ),
    _case(
        "past that was imputed",
        body=b'{"data":[{"point_time":"2026-11-21T10:00:00+00:00","value":640.0,"imputed_data_used":true}],'
        b'"meta":{%s,%s}}' % (META, UNITS),
        values={NOON_S - 7200: 640.0 * POUND},
        quality="estimated",
        **PAST,
    ),
    _case(
        "a region of the settings",
        zone="US-MIDA-PJM",
        account=Account(user="carla", password="wt-secret-1", options={"region": "US-MIDA-PJM=PJM_DC"}),  # noqa: S106
        query={"region": "PJM_DC", "signal_type": "co2_moer", "horizon_hours": "0"},
        body=_points((b"25", b"1000"), meta=META.replace(b"CAISO_NORTH", b"PJM_DC")),
        values={NOON_S + 1500: 1000 * POUND},
        quality="estimated",
    ),
    _case(
        "points of an hour",
        body=_points((b"00", b"1000"), units=UNITS.replace(b":300", b":3600")),
        values={NOON_S: 1000 * POUND},
        quality="estimated",
        step_s=3600.0,
    ),
    _case("null now", body=_points((b"25", b"null")), reason="empty", says="no value of US-CAL-CISO"),
    _case("a legal zero", body=_points((b"25", b"0")), values={NOON_S + 1500: 0.0}, quality="estimated"),
    _case(
        "a number that cannot be",
        body=_points((b"20", b"-9"), (b"25", b"900")),
        values={NOON_S + 1500: 900 * POUND},
        absent=frozenset({NOON_S + 1200}),
        quality="estimated",
    ),
    _case("only such", body=_points((b"20", b"-9")), reason="value", says="left out"),
    _case(
        "another unit", body=_points((b"25", b"9"), units=UNITS.replace(b"lbs", b"oz")), reason="content", says="oz_"
    ),
    _case("no unit", body=_points((b"25", b"9"), units=b'"n":1'), reason="content", says="units = None"),
    _case(
        "no length of a slot",
        body=_points((b"25", b"9"), units=UNITS.replace(b":300", b":0")),
        reason="content",
        says="data_point_period_seconds = 0",
    ),
    _case(
        "the percentile is no emission factor", fixture="watttime/signal_index.json", reason="content", says="'PSCO'"
    ),
    _case(
        "the percentile of the region itself",
        body=_points((b"25", b"96"), units=UNITS.replace(b"lbs_co2_per_mwh", b"percentile")),
        reason="content",
        says="units = 'percentile'",
    ),
    _case(
        "the average signal",
        zone="IT",
        fixture="watttime/historical_aoer_imputed.json",
        reason="content",
        says="signal_type = 'co2_aoer'",
        **(PAST | {"query": PAST["query"] | {"region": "IT"}}),  # type: ignore[operator]
    ),
    _case(
        "another region",
        zone="DE",
        query={"region": "DE", "signal_type": "co2_moer", "horizon_hours": "0"},
        fixture="watttime/forecast_nowcast.json",
        reason="content",
        says="asked for DE and answered for 'CAISO_NORTH'",
    ),
    _case("an empty list", fixture="watttime/historical_empty.json", reason="empty", **PAST),
    _case("no points at all", fixture="watttime/my_access.json", reason="content"),
    _case(
        "403: out of the plan",
        fixture="watttime/error_403_invalid_scope.json",
        status=403,
        reason="plan",
        says="the plan of this account",
    ),
    _case(
        "401: a token that has ended",
        fixture="watttime/error_401_token.json",
        status=401,
        reason="key",
        says="check feed.watttime user and password",
    ),
    _case(
        "403 as a page of HTML",
        fixture="watttime/login_403_forbidden.html",
        status=403,
        content_type="text/html",
        reason="key",
        says="403 Forbidden",
    ),
    _case(
        "404: no coverage",
        fixture="watttime/error_404_coordinates.json",
        status=404,
        reason="zone",
        says="check feed.watttime region",
    ),
    _case("422", fixture="watttime/error_422_validation.json", status=422, reason="server", says="field required"),
    _case(
        "429 as text, without Retry-After",
        fixture="watttime/error_429.txt",
        status=429,
        content_type="text/plain",
        reason="quota",
        says="Too Many Requests",
    ),
    _case("HTML with 200", body=b"<html>", content_type="text/html", reason="content", says="text/html"),
    _case(
        "login: wrong credentials are a page of HTML",
        path="/login",
        login_fixture="watttime/login_403_forbidden.html",
        login_status=403,
        login_content_type="text/html",
        reason="key",
        says="check feed.watttime user and password",
    ),
    _case(
        "login: too often",
        path="/login",
        login_fixture="watttime/error_429.txt",
        login_status=429,
        login_content_type="text/plain",
        reason="quota",
        says="Too Many Requests",
    ),
)

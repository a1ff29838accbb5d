"""RTE éCO2mix through ODRÉ."""

from monitor.grid.feed import Want
from tests.grid.case import NOW_S, Case

HALF_PAST_ELEVEN_S = 1_795_260_600.0
"""2026-11-21T11:30Z."""
HALF_HOUR_S = 1800.0
ROOT = "/api/explore/v2.1/catalog/datasets"
TR = f"{ROOT}/eco2mix-national-tr"
NEWEST = {
    "select": "taux_co2,date_heure",
    "where": "taux_co2 is not null",
    "order_by": "date_heure desc",
    "limit": "12",
    "timezone": "UTC",
}


def _span(start: str, end: str) -> dict[str, str]:
    where = f"date_heure >= date'{start}' and date_heure < date'{end}' and taux_co2 is not null"
    return {name: value for name, value in NEWEST.items() if name != "limit"} | {"where": where}


def _case(name: str, **words: object) -> Case:
    given: dict[str, object] = {
        "provider": "rte",
        "zone": "FR",
        "want": Want.LATEST,
        "path": f"{TR}/records",
        "query": NEWEST,
        "basis": "direct",
        "quality": "estimated",
        "step_s": HALF_HOUR_S,
    }
    return Case(name=name, **(given | words))  # type: ignore[arg-type]


CASES = (
    _case("normal", fixture="rte_odre/records_latest.json", values={HALF_PAST_ELEVEN_S: 39.0}),
    _case(
        "null at :15 and :45 and in the tail",
        fixture="rte_odre/records_with_nulls.json",
        values={HALF_PAST_ELEVEN_S: 39.0, HALF_PAST_ELEVEN_S - HALF_HOUR_S: 40.0},
        absent=frozenset({HALF_PAST_ELEVEN_S + 900, HALF_PAST_ELEVEN_S + 1800, HALF_PAST_ELEVEN_S - 900}),
    ),
    _case(
        "numbers as text, ND, an offset that is not UTC, a real zero",
        body=b'{"results":[{"taux_co2":"38","date_heure":"2026-11-21T12:30:00+01:00"},'
        b'{"taux_co2":"ND","date_heure":"2026-11-21T11:00:00+00:00"},'
        b'{"taux_co2":0,"date_heure":"2026-11-21T10:30:00+00:00"}]}',
        values={HALF_PAST_ELEVEN_S: 38.0, HALF_PAST_ELEVEN_S - 3600: 0.0},
        absent=frozenset({HALF_PAST_ELEVEN_S - HALF_HOUR_S}),
    ),
    _case(
        "daylight saving: the hour that Paris has twice is two hours",
        at_s=1_792_893_600.0,  # 2026-10-25T02:00Z
        body=b'{"results":[{"taux_co2":31,"date_heure":"2026-10-25T02:00:00+01:00"},'
        b'{"taux_co2":30,"date_heure":"2026-10-25T02:00:00+02:00"}]}',
        values={1_792_890_000.0: 31.0, 1_792_886_400.0: 30.0},
    ),
    _case(
        "past: the bare rows of an export",
        want=Want.PAST,
        start_s=HALF_PAST_ELEVEN_S - 2 * 3600,
        end_s=HALF_PAST_ELEVEN_S + HALF_HOUR_S,
        path=f"{TR}/exports/json",
        query=_span("2026-11-21T09:30:00+00:00", "2026-11-21T12:00:00+00:00"),
        fixture="rte_odre/exports_json.json",
        values={HALF_PAST_ELEVEN_S: 39.0, HALF_PAST_ELEVEN_S - 3 * HALF_HOUR_S: 42.0},
    ),
    _case(
        "revised: real time first, another number later",
        want=Want.PAST,
        start_s=HALF_PAST_ELEVEN_S,
        end_s=HALF_PAST_ELEVEN_S + HALF_HOUR_S,
        at_s=NOW_S + 86_400,
        path=f"{TR}/exports/json",
        query=_span("2026-11-21T11:30:00+00:00", "2026-11-21T12:00:00+00:00"),
        body=b'[{"taux_co2":41,"date_heure":"2026-11-21T11:30:00+00:00"}]',
        values={HALF_PAST_ELEVEN_S: 41.0},
    ),
    _case(
        "revised: consolidated after half a year",
        want=Want.PAST,
        start_s=HALF_PAST_ELEVEN_S,
        end_s=HALF_PAST_ELEVEN_S + HALF_HOUR_S,
        at_s=NOW_S + 184 * 86_400,
        path=f"{ROOT}/eco2mix-national-cons-def/exports/json",
        query=_span("2026-11-21T11:30:00+00:00", "2026-11-21T12:00:00+00:00"),
        body=b'[{"taux_co2":42,"date_heure":"2026-11-21T11:30:00+00:00"}]',
        values={HALF_PAST_ELEVEN_S: 42.0},
        quality="actual",
    ),
    _case("empty, as after midnight", fixture="rte_odre/records_empty.json", reason="empty", says="no value of FR"),
    _case(
        "429: alone until the reset_time of the body",
        fixture="rte_odre/error_429.json",
        status=429,
        reason="quota",
        retry_after_s=1_796_083_200.0 - NOW_S,  # 2026-12-01T00:00:00Z
        says="exceeded the requests limit",
    ),
    _case(
        "429 as HTML: alone until the reset of the header",
        status=429,
        body=b"<html><body>Too many requests</body></html>",
        content_type="text/html",
        reply_headers={"X-RateLimit-Reset": "2026-11-21 13:00:00+00:00"},
        reason="quota",
        retry_after_s=1980.0,
    ),
    _case(
        "400 of a field",
        fixture="rte_odre/error_400_odsql.json",
        status=400,
        reason="server",
        says="Unknown field: taux_co2x",
    ),
    _case(
        "404 of the dataset",
        status=404,
        body=b'{"error_code":"ODSQLError","message":"Unknown dataset: eco2mix-national-tr"}',
        reason="server",
        says="has the dataset moved?",
    ),
    _case("500", status=500, body=b"", reason="server", says="answered 500"),
)

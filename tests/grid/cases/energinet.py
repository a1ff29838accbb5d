"""Energi Data Service: CO2Emis and CO2EmisProg."""

from monitor.grid.feed import Want
from tests.grid.case import NOW_S, Case

NOON_S = 1_795_262_400.0
"""2026-11-21T12:00Z."""
FIVE_MINUTES_S = 300.0
DK1 = '{"PriceArea":["DK1"]}'
DK2 = '{"PriceArea":["DK2"]}'
NEWEST = {"filter": DK1, "sort": "Minutes5UTC desc", "limit": "12"}
PROGNOSIS = {"filter": DK1, "start": "now", "sort": "Minutes5UTC asc", "limit": "0"}


def _span(start: str, end: str) -> dict[str, str]:
    return {
        "filter": DK1,
        "start": start,
        "end": end,
        "timezone": "UTC",
        "sort": "Minutes5UTC asc",
        "limit": "0",
    }


def _case(name: str, **words: object) -> Case:
    given: dict[str, object] = {
        "provider": "energinet",
        "zone": "DK-DK1",
        "want": Want.LATEST,
        "path": "/dataset/CO2Emis",
        "query": NEWEST,
        "basis": "direct",
        "quality": "actual",
        "step_s": FIVE_MINUTES_S,
    }
    return Case(name=name, **(given | words))  # type: ignore[arg-type]


CASES = (
    _case(
        "normal: naive stamps are UTC",
        fixture="energinet/co2emis_dk1.json",
        values={NOON_S: 75.0, NOON_S - FIVE_MINUTES_S: 76.5},
    ),
    _case(
        "null, and a real zero",
        body=b'{"records":[{"Minutes5UTC":"2026-11-21T12:05:00","PriceArea":"DK1","CO2Emission":null},'
        b'{"Minutes5UTC":"2026-11-21T12:00:00","PriceArea":"DK1","CO2Emission":0.0}]}',
        values={NOON_S: 0.0},
        absent=frozenset({NOON_S + FIVE_MINUTES_S}),
    ),
    _case(
        "rows of the other area are not ours",
        zone="DK-DK2",
        query=NEWEST | {"filter": DK2},
        body=b'{"records":[{"Minutes5UTC":"2026-11-21T12:05:00","PriceArea":"DK1","CO2Emission":75.0},'
        b'{"Minutes5UTC":"2026-11-21T12:00:00","PriceArea":"DK2","CO2Emission":91.5}]}',
        values={NOON_S: 91.5},
        absent=frozenset({NOON_S + FIVE_MINUTES_S}),
    ),
    _case(
        "past, asked for in UTC",
        want=Want.PAST,
        start_s=NOON_S - 3600 + 17,
        end_s=NOON_S + 17,
        query=_span("2026-11-21T11:00", "2026-11-21T12:05"),
        fixture="energinet/co2emis_dk1.json",
        values={NOON_S: 75.0},
    ),
    _case(
        "revised, if it ever does",
        want=Want.PAST,
        start_s=NOON_S,
        end_s=NOON_S + FIVE_MINUTES_S,
        query=_span("2026-11-21T12:00", "2026-11-21T12:05"),
        body=b'{"records":[{"Minutes5UTC":"2026-11-21T12:00:00","PriceArea":"DK1","CO2Emission":71.25}]}',
        values={NOON_S: 71.25},
    ),
    _case(
        "daylight saving: the Danish stamps repeat an hour and are not used",
        want=Want.PAST,
        start_s=1_792_886_400.0,  # 2026-10-25T00:00Z
        end_s=1_792_893_600.0,
        query=_span("2026-10-25T00:00", "2026-10-25T02:00"),
        body=b'{"records":[{"Minutes5UTC":"2026-10-25T00:00:00","Minutes5DK":"2026-10-25T02:00:00","PriceArea":"DK1",'
        b'"CO2Emission":60.0},{"Minutes5UTC":"2026-10-25T01:00:00","Minutes5DK":"2026-10-25T02:00:00",'
        b'"PriceArea":"DK1","CO2Emission":61.0}]}',
        values={1_792_886_400.0: 60.0, 1_792_890_000.0: 61.0},
    ),
    _case(
        "forecast: from now on, all rows, ascending",
        want=Want.FORECAST,
        end_s=NOW_S + 48 * 3600,
        path="/dataset/CO2EmisProg",
        query=PROGNOSIS,
        fixture="energinet/co2emisprog_dk1.json",
        values={NOON_S + 1500: 82.5, NOON_S + 12 * 3600 - FIVE_MINUTES_S: 87.0},
        # 12:00 to 12:25 are over at 12:27: a prognosis tells nothing of them.
        absent=frozenset({NOON_S, NOON_S + 1200}),
        quality="forecast",
    ),
    _case("empty", fixture="energinet/empty.json", reason="empty", says="no value of DK-DK1"),
    _case(
        "429 as text",
        fixture="energinet/error_429.txt",
        status=429,
        content_type="text/plain",
        reason="quota",
        retry_after_s=65.0,
        says="Max allowed requests",
    ),
    _case(
        "429 as HTML, with a Retry-After that is too short",
        body=b"<html><body><h1>Too Many Requests</h1></body></html>",
        status=429,
        content_type="text/html",
        reply_headers={"Retry-After": "10"},
        reason="quota",
        retry_after_s=65.0,
    ),
    _case(
        "429 with a ban that lasts",
        status=429,
        content_type="text/plain",
        reply_headers={"Retry-After": "Sat, 21 Nov 2026 12:32:00 GMT"},
        reason="quota",
        retry_after_s=300.0,
    ),
    _case(
        "404 of the dataset",
        status=404,
        body=b"no such dataset",
        content_type="text/plain",
        reason="server",
        says="moved",
    ),
    _case("400", status=400, body=b'{"message":"bad filter"}', reason="server", says="bad filter"),
    _case("500", status=500, body=b"<html>", content_type="text/html", reason="server", says="answered 500"),
    _case(
        "text where JSON should be",
        body=b"Service restarts",
        content_type="text/plain",
        reason="content",
        says="text/plain",
    ),
)

"""Energy-Charts: `/co2eq` with its parallel arrays."""

from monitor.grid.feed import Want
from tests.grid.case import NOW_S, Case

MIDNIGHT_S = 1_795_219_200.0
"""2026-11-21T00:00Z."""
QUARTER_S = 900.0


def _case(name: str, **words: object) -> Case:
    given: dict[str, object] = {
        "provider": "energy_charts",
        "zone": "DE",
        "want": Want.LATEST,
        "path": "/co2eq",
        "query": {"country": "de"},
        "basis": "lifecycle",
        "step_s": QUARTER_S,
    }
    return Case(name=name, **(given | words))  # type: ignore[arg-type]


CASES = (
    _case(
        "normal: values up to two hours ago",
        fixture="energy_charts/co2eq_de.json",
        values={MIDNIGHT_S: 322.0, MIDNIGHT_S + 40 * QUARTER_S: 272.0},
        quality="actual",
    ),
    _case(
        "null values: forecasts since then",
        fixture="energy_charts/co2eq_de.json",
        values={MIDNIGHT_S + 41 * QUARTER_S: 240.2, MIDNIGHT_S + 48 * QUARTER_S: 300.0},
        quality="forecast",
    ),
    _case(
        "by hours, out of order, a slot without either and a real zero",
        zone="NO",
        query={"country": "no"},
        body=b'{"unix_seconds":[1795226400,1795219200,1795222800],"co2eq":[null,29.5,null],'
        b'"co2eq_forecast":[0,null,null],"deprecated":false}',
        values={MIDNIGHT_S: 29.5},
        absent=frozenset({MIDNIGHT_S + 3600}),
        quality="actual",
        step_s=3600.0,
    ),
    _case(
        "both of one interval: the value goes before the forecast",
        body=b'{"unix_seconds":[1795219200,1795220100],"co2eq":[320.1,318.0],"co2eq_forecast":[331.0,null]}',
        values={MIDNIGHT_S: 320.1, MIDNIGHT_S + QUARTER_S: 318.0},
        quality="actual",
    ),
    _case(
        "past",
        want=Want.PAST,
        start_s=MIDNIGHT_S,
        end_s=MIDNIGHT_S + 3600,
        query={"country": "de", "start": "2026-11-21T00:00Z", "end": "2026-11-21T01:00Z"},
        fixture="energy_charts/co2eq_de.json",
        values={MIDNIGHT_S: 322.0},
        quality="actual",
    ),
    _case(
        "revised: what was a forecast is a value now",
        want=Want.PAST,
        start_s=MIDNIGHT_S + 48 * QUARTER_S,
        end_s=MIDNIGHT_S + 50 * QUARTER_S,
        at_s=NOW_S + 86_400,
        query={"country": "de", "start": "2026-11-21T12:00Z", "end": "2026-11-21T12:30Z"},
        body=b'{"unix_seconds":[1795262400,1795263300],"co2eq":[287.25,286.0],"co2eq_forecast":[null,null]}',
        values={MIDNIGHT_S + 48 * QUARTER_S: 287.25},
        quality="actual",
    ),
    _case(
        "forecast",
        want=Want.FORECAST,
        end_s=NOW_S + 36 * 3600,
        fixture="energy_charts/co2eq_de.json",
        values={MIDNIGHT_S + 187 * QUARTER_S: 237.3},
        quality="forecast",
        # Over by now: to a question about what is to come, a prognosis of it is no answer.
        absent=frozenset({MIDNIGHT_S + 45 * QUARTER_S}),
    ),
    _case(
        "null throughout, as for a country that it does not have",
        zone="LU",
        query={"country": "lu"},
        fixture="energy_charts/co2eq_all_null.json",
        reason="zone",
        says="choose another feed",
    ),
    _case("empty", body=b'{"unix_seconds":[],"co2eq":[],"co2eq_forecast":[]}', reason="empty", says="no value of DE"),
    _case(
        "200 with an error text",
        fixture="energy_charts/error_200_plaintext.txt",
        content_type="text/plain",
        reason="content",
        says="end must be >= start",
    ),
    _case("404", fixture="energy_charts/error_404.json", status=404, reason="empty", says="no content available"),
    _case(
        "429 as text",
        fixture="energy_charts/error_429.txt",
        status=429,
        content_type="text/plain",
        reason="quota",
        retry_after_s=60.0,
        says="Too Many Requests",
    ),
    _case("503", status=503, body=b"<html>", content_type="text/html", reason="server", says="answered 503"),
    _case(
        "arrays of unlike lengths",
        body=b'{"unix_seconds":[1795219200,1795220100],"co2eq":[320.1],"co2eq_forecast":[null,331.0]}',
        reason="content",
        says="2 times, 1 values, 2 forecasts",
    ),
    _case(
        "a clock in milliseconds",
        body=b'{"unix_seconds":[1795219200000],"co2eq":[320.1],"co2eq_forecast":[null]}',
        reason="content",
        says="no moment between 1970 and 2100",
    ),
)

"""NESO: what `/intensity` and `/regional` say, with both of their shapes."""

from monitor.grid.feed import Want
from tests.grid.case import NOW_S, Case

NOON_S = 1_795_262_400.0
"""2026-11-21T12:00Z."""
HALF_HOUR_S = 1800.0
ACCEPT = {"accept": "application/json"}
FW24H = "/intensity/2026-11-21T11:00Z/fw24h"
LONDON = "/regional/intensity/2026-11-21T11:00Z/fw24h/regionid/13"


def _case(name: str, **words: object) -> Case:
    given: dict[str, object] = {
        "provider": "neso",
        "zone": "GB",
        "want": Want.LATEST,
        "path": FW24H,
        "headers": ACCEPT,
        "basis": "direct",
        "step_s": HALF_HOUR_S,
    }
    return Case(name=name, **(given | words))  # type: ignore[arg-type]


CASES = (
    _case(
        "normal: the last complete half hour is actual",
        fixture="uk_carbonintensity/intensity_fw24h.json",
        values={NOON_S - HALF_HOUR_S: 138.0},
        quality="actual",
    ),
    _case(
        "null actual: the present and coming half hours are forecasts",
        fixture="uk_carbonintensity/intensity_fw24h.json",
        values={NOON_S: 141.0, NOON_S + HALF_HOUR_S: 144.0, NOON_S + 23.5 * 3600: 135.0},
        quality="forecast",
    ),
    _case(
        "null actual in a row of its own",
        fixture="uk_carbonintensity/intensity_latest_actual_null.json",
        values={NOON_S: 144.0},
        quality="forecast",
    ),
    _case(
        "revised: the forecast of 12:00 has become an actual value",
        at_s=NOW_S + HALF_HOUR_S,
        path="/intensity/2026-11-21T11:30Z/fw24h",
        body=b'{"data":[{"from":"2026-11-21T12:00Z","to":"2026-11-21T12:30Z",'
        b'"intensity":{"forecast":141,"actual":133,"index":"moderate"}}]}',
        values={NOON_S: 133.0},
        quality="actual",
    ),
    _case(
        "null forecast and actual of one slot cost no other",
        body=b'{"data":[{"from":"2026-11-21T11:30Z","to":"2026-11-21T12:00Z","intensity":{"forecast":null,"actual":null'
        b'}},{"from":"2026-11-21T12:00Z","to":"2026-11-21T12:30Z","intensity":{"forecast":0,"actual":null}}]}',
        values={NOON_S: 0.0},
        absent=frozenset({NOON_S - HALF_HOUR_S}),
        quality="forecast",
    ),
    _case(
        "a slot twice: the actual value stays, whichever row comes last",
        body=b'{"data":[{"from":"2026-11-21T11:30Z","to":"2026-11-21T12:00Z","intensity":{"forecast":141,"actual":138}},'
        b'{"from":"2026-11-21T11:30Z","to":"2026-11-21T12:00Z","intensity":{"forecast":150,"actual":null}}]}',
        values={NOON_S - HALF_HOUR_S: 138.0},
        quality="actual",
    ),
    _case(
        "a question on a slot's edge asks wide, too",
        at_s=NOON_S,
        path=FW24H,
        fixture="uk_carbonintensity/intensity_latest.json",
        values={NOON_S - HALF_HOUR_S: 138.0},
        quality="actual",
    ),
    _case(
        "past",
        want=Want.PAST,
        start_s=NOON_S - 3 * 3600 + 60,
        end_s=NOON_S + 60,
        path="/intensity/2026-11-21T09:00Z/2026-11-21T12:30Z",
        fixture="uk_carbonintensity/intensity_range.json",
        values={NOON_S - 3 * 3600: 142.0, NOON_S - HALF_HOUR_S: 147.0},
        quality="actual",
    ),
    _case(
        "of a past of a month, the newest 14 days",
        want=Want.PAST,
        start_s=NOON_S - 30 * 86_400,
        end_s=NOON_S,
        path="/intensity/2026-11-07T12:00Z/2026-11-21T12:00Z",
        fixture="uk_carbonintensity/intensity_range.json",
        values={NOON_S - 3 * 3600: 142.0},
        quality="actual",
    ),
    _case(
        "forecast: 48 hours",
        want=Want.FORECAST,
        end_s=NOW_S + 48 * 3600,
        path="/intensity/2026-11-21T12:00Z/fw48h",
        fixture="uk_carbonintensity/intensity_fw24h.json",
        values={NOON_S: 141.0},
        quality="forecast",
    ),
    _case(
        "a region, as an object: forecasts for ever",
        zone="GB-13",
        path=LONDON,
        fixture="uk_carbonintensity/regional_fw48h_regionid.json",
        values={NOON_S - HALF_HOUR_S: 134.0, NOON_S: 135.0},
        quality="forecast",
    ),
    _case(
        "a region, as an array of one",
        zone="GB-13",
        path=LONDON,
        fixture="uk_carbonintensity/regional_regionid_current.json",
        values={NOON_S: 135.0},
        quality="forecast",
    ),
    _case(
        "a region with a postcode in it",
        zone="GB-13",
        path=LONDON,
        fixture="uk_carbonintensity/regional_fw48h_postcode.json",
        values={NOON_S: 135.0},
        quality="forecast",
    ),
    _case(
        "the past of a region",
        zone="GB-17",
        want=Want.PAST,
        start_s=NOON_S - 3600,
        end_s=NOON_S,
        path="/regional/intensity/2026-11-21T11:00Z/2026-11-21T12:00Z/regionid/17",
        body=b'{"data":{"regionid":17,"shortname":"Wales","data":[{"from":"2026-11-21T11:00Z","to":"2026-11-21T11:30Z",'
        b'"intensity":{"forecast":301,"index":"high"}}]}}',
        values={NOON_S - 3600: 301.0},
        quality="forecast",
    ),
    _case(
        "another region than was asked for",
        zone="GB-1",
        path="/regional/intensity/2026-11-21T11:00Z/fw24h/regionid/1",
        fixture="uk_carbonintensity/regional_fw48h_regionid.json",
        reason="content",
        says="another region than GB-1",
    ),
    _case("empty", fixture="uk_carbonintensity/empty_data.json", reason="empty", says="no value of GB"),
    _case(
        "a region that it does not know",
        zone="GB-13",
        path=LONDON,
        fixture="uk_carbonintensity/error_400_regionid.json",
        status=400,
        reason="zone",
        says="valid region ID",
    ),
    _case(
        "400 of a datetime",
        fixture="uk_carbonintensity/error_400_datetime.json",
        status=400,
        reason="server",
        says="answered 400",
    ),
    _case(
        "400 of a date",
        fixture="uk_carbonintensity/error_400_date.json",
        status=400,
        reason="server",
        says="YYYY-MM-DD",
    ),
    _case(
        "500 in an outage",
        fixture="uk_carbonintensity/error_500.json",
        status=500,
        reason="server",
        says="Requested resource not found",
    ),
    _case(
        "429 with Retry-After",
        status=429,
        body=b"slow down",
        content_type="text/plain",
        reply_headers={"Retry-After": "120"},
        reason="quota",
        retry_after_s=120.0,
        says="slow down",
    ),
    _case(
        "one number out of bounds costs no other",
        body=b'{"data":[{"from":"2026-11-21T12:00Z","to":"2026-11-21T12:30Z","intensity":{"forecast":-1,"actual":null}},'
        b'{"from":"2026-11-21T12:30Z","to":"2026-11-21T13:00Z","intensity":{"forecast":150,"actual":null}}]}',
        values={NOON_S + HALF_HOUR_S: 150.0},
        absent=frozenset({NOON_S}),
        quality="forecast",
    ),
)

"""Another trainwatt: what it hands on stays its provider's."""

import json
from dataclasses import replace

from monitor.core.model import Basis, Intensity, Quality, Signal
from monitor.core.wire import intensity_document
from monitor.grid.feed import Account, Want
from tests.grid.case import NOW_S, Case

NOON_S = 1_795_262_400.0
"""2026-11-21T12:00Z."""
HOUR_S = 3600.0
VALUE = Intensity(
    zone="DE",
    grams_per_kilowatthour=348.0,
    basis=Basis.LIFECYCLE,
    quality=Quality.ESTIMATED,
    provider="electricitymaps",
    valid_from_s=NOON_S - HOUR_S,
    valid_until_s=NOON_S,
    detail="Source: ElectricityMaps.com",
    fetched_at_s=NOW_S - 60.0,
    updated_at_s=NOW_S - 300.0,
    made_by="FORECASTS_HIERARCHY",
)
NOW = replace(VALUE, grams_per_kilowatthour=342.0, valid_from_s=NOON_S, valid_until_s=NOON_S + HOUR_S)
LATEST = {"zone": "DE", "start": "1795177620", "end": "1795264021", "forecast": "1"}


def _body(*values: Intensity, zone: str = "DE") -> bytes:
    return json.dumps(intensity_document(values, zone=zone)).encode()


def _case(name: str, **words: object) -> Case:
    given: dict[str, object] = {
        "provider": "relay",
        "zone": "DE",
        "want": Want.LATEST,
        "path": "/api/v1/grid/intensity",
        "query": LATEST,
        "basis": "lifecycle",
        "step_s": HOUR_S,
    }
    return Case(name=name, **(given | words))  # type: ignore[arg-type]


CASES = (
    _case(
        "normal, to a relay with a key",
        account=Account(key="site-secret-1"),
        headers={"authorization": "Bearer site-secret-1"},
        body=_body(VALUE, NOW),
        values={NOON_S - HOUR_S: 348.0, NOON_S: 342.0},
        quality="estimated",
    ),
    _case(
        "what is carried or of a yearly table is not handed on",
        body=_body(
            VALUE,
            replace(NOW, quality=Quality.CARRIED),
            replace(VALUE, quality=Quality.STATIC, valid_from_s=0.0, provider="ember-owid"),
        ),
        values={NOON_S - HOUR_S: 348.0},
        absent=frozenset({NOON_S, 0.0}),
        quality="estimated",
    ),
    _case(
        "forecast",
        want=Want.FORECAST,
        start_s=NOW_S,
        end_s=NOW_S + 86_400,
        query={"zone": "DE", "start": "1795264020", "end": "1795350420", "forecast": "1"},
        body=_body(replace(NOW, quality=Quality.FORECAST)),
        values={NOON_S: 342.0},
        quality="forecast",
    ),
    _case(
        "past, of which a relay tells seven days at a time",
        want=Want.PAST,
        start_s=NOW_S - 30 * 86_400,
        end_s=NOW_S,
        query={"zone": "DE", "start": "1794659220", "end": "1795264020", "forecast": "1"},
        body=_body(replace(VALUE, quality=Quality.ACTUAL)),
        values={NOON_S - HOUR_S: 348.0},
        quality="actual",
    ),
    _case(
        "revised since, and firmer",
        want=Want.PAST,
        start_s=NOON_S - HOUR_S,
        end_s=NOON_S,
        query={"zone": "DE", "start": "1795258800", "end": "1795262400", "forecast": "1"},
        body=_body(replace(VALUE, grams_per_kilowatthour=301.0, quality=Quality.ACTUAL, made_by="")),
        values={NOON_S - HOUR_S: 301.0},
        quality="actual",
    ),
    _case(
        "a marginal value",
        body=_body(replace(NOW, signal=Signal.MARGINAL, provider="watttime")),
        values={NOON_S: 342.0},
        signal="marginal",
        quality="estimated",
    ),
    _case("nothing known", body=_body(), reason="empty", says="no value of DE"),
    _case("another zone", body=_body(zone="FR"), reason="content", says="answered for 'FR'"),
    _case("a number that cannot be", body=_body(replace(NOW, grams_per_kilowatthour=9e3)), reason="value", says="9000"),
    _case(
        "null",
        body=_body(NOW).replace(b"342.0", b"null"),
        reason="content",
        says="grams_per_kilowatthour = None",
    ),
    _case("a word of another version", body=_body(NOW).replace(b'"estimated"', b'"guessed"'), reason="content"),
    _case("another document", body=b'{"devices":[]}', reason="content", says="expected str"),
    _case("404", status=404, body=b'{"detail":"no such zone"}', reason="zone", says="check feed.relay base_url"),
    _case("403", status=403, body=b"Forbidden", content_type="text/plain", reason="key", says="beyond loopback"),
    _case(
        "429",
        status=429,
        body=b"Too Many Requests",
        content_type="text/plain",
        reply_headers={"Retry-After": "30"},
        reason="quota",
        retry_after_s=30.0,
    ),
    _case("503", status=503, body=b"", reason="server", says="answered 503: nothing"),
    _case("its page in place of its API", body=b"<html>", content_type="text/html", reason="content", says="text/html"),
)

"""The user's own service: any JSON document over HTTP."""

from monitor.grid.feed import Account, Want
from tests.grid.case import NOW_S, Case

NOON_S = 1_795_262_400.0
"""2026-11-21T12:00Z."""
SLOT_S = 1_795_263_900.0
"""12:25Z: the five minutes that hold NOW_S."""
ROWS = (
    b'[{"from":"2026-11-21T11:30Z","until":"2026-11-21T12:00:00+00:00","grams_per_kilowatthour":210},'
    b'{"from":1795262400000,"until":1795264200,"grams_per_kilowatthour":"0"},'
    b'{"from":"2026-11-21T12:30Z","until":"2026-11-21T13:00Z","grams_per_kilowatthour":%s}]'
)


def _case(name: str, *, options: dict[str, str] | None = None, **words: object) -> Case:
    given: dict[str, object] = {
        "provider": "http",
        "zone": "DE",
        "want": Want.LATEST,
        "account": Account(options={"path": "/now", **(options or {})}),
        "path": "/now",
        "basis": "unknown",
        "step_s": 300.0,
    }
    return Case(name=name, **(given | words))  # type: ignore[arg-type]


CASES = (
    _case(
        "one number, of the five minutes in which it is read",
        options={"value": "data.0.value"},
        body=b'{"data":[{"value":231.5}]}',
        values={SLOT_S: 231.5},
        quality="actual",
    ),
    _case(
        "brackets, kilograms, labels, a key in a header of its own, a query",
        account=Account(
            key="own-secret-1",
            options={
                "path": "/now?site=a&probe=1",
                "header": "X-API-Key",
                "value": "result[-1].intensity",
                "factor": "1000",
                "basis": "lifecycle",
                "quality": "estimated",
                "step_s": "900",
            },
        ),
        query={"site": "a", "probe": "1"},
        headers={"x-api-key": "own-secret-1"},
        body=b'{"result":[{"intensity":1},{"intensity":"0.2315"}]}',
        values={SLOT_S - 600.0: 231.5},
        quality="estimated",
        basis="lifecycle",
        step_s=900.0,
    ),
    _case(
        "a bearer's token, and a slot with its edges",
        account=Account(
            key="own-secret-1",
            options={"path": "/now", "value": "$.now", "from": "$.since", "step_s": "$['length of slot']"},
        ),
        headers={"authorization": "Bearer own-secret-1"},
        body=b'{"now":88,"since":"2026-11-21T12:00:00.0000000Z","length of slot":1800}',
        values={NOON_S: 88.0},
        quality="actual",
        step_s=1800.0,
    ),
    _case(
        "a stamp at the end of the hour",
        options={"value": "v", "until": "t", "step_s": "3600"},
        body=b'{"v":88,"t":"2026-11-21T12:00Z"}',
        values={NOON_S - 3600.0: 88.0},
        quality="actual",
        step_s=3600.0,
    ),
    _case(
        "user and password",
        account=Account(
            user="carla",
            password="own-secret-2",  # noqa: S106  (of nobody)
            key="own-secret-1",
            options={"path": "/now", "value": "v", "header": "X-API-Key"},
        ),
        headers={"authorization": "Basic Y2FybGE6b3duLXNlY3JldC0y", "x-api-key": "own-secret-1"},
        body=b'{"v":88}',
        values={SLOT_S: 88.0},
        quality="actual",
    ),
    _case(
        "rows as they need no paths, a zero among them; what is to come is not the present",
        body=ROWS % b"150",
        values={NOON_S - 1800.0: 210.0, NOON_S: 0.0},
        absent=frozenset({NOON_S + 1800.0}),
        quality="actual",
        step_s=1800.0,
    ),
    _case(
        "rows to come are a forecast, whatever they are called",
        want=Want.FORECAST,
        start_s=NOW_S,
        end_s=NOW_S + 86_400.0,
        options={"forecast": "true"},
        body=ROWS % b"150",
        values={NOON_S + 1800.0: 150.0},
        absent=frozenset({NOON_S}),
        quality="forecast",
        step_s=1800.0,
    ),
    _case(
        "rows of which one was revised, and one is null",
        body=(ROWS % b"null").replace(b"210", b"180"),
        values={NOON_S - 1800.0: 180.0},
        absent=frozenset({NOON_S + 1800.0}),
        quality="actual",
        step_s=1800.0,
    ),
    _case("null", options={"value": "v"}, body=b'{"v":null}', reason="empty", says="no value of DE"),
    _case("true is no number", options={"value": "v"}, body=b'{"v":true}', reason="value", says="True"),
    _case("another unit", options={"value": "v"}, body=b'{"v":231500}', reason="value", says="231500"),
    _case(
        "nothing at the path",
        options={"value": "data.0.value"},
        body=b'{"data":[]}',
        reason="content",
        says="'data.0.value': nothing at data.0",
    ),
    _case("no list", body=b'{"a":1}', reason="content", says="no list at its root"),
    _case(
        "a slot that ends before it begins",
        options={"value": "v", "from": "f", "until": "u"},
        body=b'{"v":1,"f":"2026-11-21T12:00Z","u":"2026-11-21T11:00Z"}',
        reason="content",
    ),
    _case("a page", options={"value": "v"}, body=b"<html>", content_type="text/html", reason="content", says="no JSON"),
    _case("401", options={"value": "v"}, status=401, body=b"{}", reason="key", says="answered 401"),
    _case("429", options={"value": "v"}, status=429, body=b"{}", reason="quota"),
    _case("500", options={"value": "v"}, status=500, body=b"", reason="server", says="answered 500"),
)

"""The committed dashboards as tests look at them: panel by panel, query by query, variables filled in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "dashboards" / "json").glob("*.json"))
}
RANGES = {"$__rate_interval": "4s", "$__range": "10s", "$__interval": "1s"}
"""What Grafana would put for its own variables, at one scrape a second."""
ALL = {"$job": ".+", "$instance": ".+", "$run": ".+", "$grid_zone": ".+"}
"""And for the board's, with "All" chosen."""
EVERY = RANGES | ALL


@dataclass(frozen=True, slots=True)
class Target:
    """One query of one panel."""

    board: str
    panel: dict[str, Any]
    ref_id: str
    expr: str

    def __str__(self) -> str:
        return f"{self.board}/{self.panel['title']}/{self.ref_id}"


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every panel that draws something, with the board's uid."""
    for uid, board in BOARDS.items():
        for panel in board["panels"]:
            if panel["type"] != "row":
                yield uid, panel


TARGETS = [
    Target(uid, panel, target["refId"], target["expr"]) for uid, panel in panels() for target in panel["targets"]
]


def variables(uid: str) -> dict[str, dict[str, Any]]:
    """A board's variables by name."""
    return {variable["name"]: variable for variable in BOARDS[uid]["templating"]["list"]}


def filled_in(expr: str, values: dict[str, str] = EVERY) -> str:
    """The expression with the values of variables in their place, by default all of them, as Prometheus gets it."""
    for name, value in values.items():
        expr = expr.replace(name, value)
    return expr

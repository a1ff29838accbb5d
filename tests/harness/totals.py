"""The total of a run as people see it: the query of the Run board, and of DESIGN section 7."""

import json
from pathlib import Path

from tests.harness.prometheus import Prometheus

BOARD = Path(__file__).parents[2] / "dashboards" / "json" / "trainwatt-run.json"
PANEL = "Energy"
JOULES_PER_KILOWATTHOUR = 3.6e6


def total_query(run: str) -> str:
    """PromQL of a run's kilowatt-hours over nodes, scrapers, restarts and address changes, of the last hour."""
    panels = json.loads(BOARD.read_text("utf-8"))["panels"]
    (expr,) = [panel["targets"][0]["expr"] for panel in panels if panel["title"] == PANEL]
    for variable, value in {"$job": ".+", "$instance": ".+", "$run": run, "$__range": "1h"}.items():
        expr = expr.replace(variable, value)
    return str(expr)


def total_j(server: Prometheus, run: str) -> float:
    """Its joules now. Raises ValueError where the server does not know the run."""
    (series,) = server.query(total_query(run))
    return float(series["value"][1]) * JOULES_PER_KILOWATTHOUR

"""The row "This month" of the board "Fleet": exact totals of nodes and projects since the month began."""

from dashboards import panels as p
from dashboards import promql as q
from dashboards import scope
from dashboards.panels import Panel, Unit
from dashboards.promql import Query
from monitor import metrics as x
from monitor.metrics import Metric

SCOPE = scope.board()
MOST_BARS = 15
MONTH = "now/M"
WHEN = (
    "Since the month began by the time zone of whoever looks, from the last scrape before that to the last one now, "
    f"whatever the time range above; exact over restarts. Of a node that was not scraped before, or of which that is "
    "no longer stored, from its first scrape there is; of one whose ledger was replaced, what the new one has. The "
    f"{MOST_BARS} highest are shown."
)


def row() -> list[Panel]:
    """Panels of the row "This month"."""
    return [
        p.bars(
            "Energy by node this month",
            f"Energy of each node's disjoint parts that have a sensor, by how it is known. {WHEN} Not included: parts "
            "without a sensor; of a node that changed its address all is under one of the two.",
            Unit.KILOWATTHOUR,
            p.at_end(
                q.top(MOST_BARS, q.kilowatthours(_of_node(x.NODE_MEASURED_ENERGY, "method"))),
                "{{instance}}, {{method}}",
            ),
            since=MONTH,
        ),
        p.bars(
            "CO2e by node this month",
            "Energy of each node x PUE, at the intensity known when it was used. By basis and method, which are never "
            f"added up. {WHEN} Not included: energy without a known intensity, making the hardware.",
            Unit.GRAM,
            p.at_end(
                q.top(MOST_BARS, _of_node(x.NODE_EMISSIONS, "basis", "method")), "{{instance}}, {{basis}}, {{method}}"
            ),
            since=MONTH,
        ),
        p.bars(
            "Energy by project this month",
            f"Energy charged to the runs of each project, by how it is known. {WHEN} `none` is of runs without a "
            "project, `other` of those beyond a hundred. Not included: energy that no run held.",
            Unit.KILOWATTHOUR,
            p.at_end(
                q.top(MOST_BARS, q.kilowatthours(SCOPE.exact_since(x.PROJECT_ENERGY, "project", "method"))),
                "{{project}}, {{method}}",
            ),
            since=MONTH,
        ),
        p.bars(
            "CO2e by project this month",
            "Energy of the runs of each project x PUE, at the intensity known when it was used. By basis and method, "
            f"which are never added up. {WHEN} Not included: energy that no run held, or without a known intensity.",
            Unit.GRAM,
            p.at_end(
                q.top(MOST_BARS, SCOPE.exact_since(x.PROJECT_EMISSIONS, "project", "basis", "method")),
                "{{project}}, {{basis}}, {{method}}",
            ),
            since=MONTH,
        ),
    ]


def _of_node(metric: Metric, *by: str) -> Query:
    """By the address of the node, whose ledger is what counts."""
    of_ledgers = SCOPE.exact_since(metric, "ledger", *by)
    return q.total(SCOPE.described(of_ledgers, x.LEDGER_INFO, "instance", ended=True), "instance", *by)

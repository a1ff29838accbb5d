"""The row "Budgets and what is expected" of the board "Run". Budgets are of the whole run, on all of its nodes."""

from dashboards import panels as p
from dashboards import promql as q
from dashboards import run_queries as r
from dashboards.panels import Panel, Unit
from dashboards.run_queries import SCOPE
from monitor import metrics as x

MILLISECONDS_PER_SECOND = 1000
NEAR_RATIO = 0.8
EXCEEDED_RATIO = 1.0
EXPECTED = (
    "expected at its end, if it goes on at its mean pace and power (not before a hundredth is done, and not unless "
    "every node of the run tells its progress)"
)


def row() -> list[Panel]:
    """Panels of the row."""
    grams = SCOPE.exact(x.RUN_EMISSIONS, "run", "basis")
    cost = SCOPE.exact(x.RUN_COST, "run", "currency")
    bounds_j, bounds_g, bounds_money = (
        r.budget(metric) for metric in (x.RUN_BUDGET_ENERGY, x.RUN_BUDGET_EMISSIONS, x.RUN_BUDGET_COST)
    )
    expected_j, expected_g = r.expected_energy_j(), r.expected_grams()
    return [
        p.bars(
            "Budget used and expected",
            f"Share of its budget that the run has used, and that it is {EXPECTED}. Amber from 80 % on, red and full "
            "from 100 %; nothing is ever stopped. Grams are live ones, each basis against the whole budget. Empty "
            "for runs without a budget. Not included: nodes that are not chosen, though a budget is that of all nodes.",
            Unit.RATIO,
            p.at_end(q.ratio(r.energy_j(), bounds_j), "{{run}}: energy used"),
            p.at_end(q.ratio(grams, bounds_g), "{{run}}: CO2e used, {{basis}}"),
            p.at_end(q.ratio(cost, bounds_money), "{{run}}: {{currency}} used"),
            p.at_end(q.ratio(expected_j, bounds_j), "{{run}}: energy expected"),
            p.at_end(q.ratio(expected_g, bounds_g), "{{run}}: CO2e expected"),
            colors={NEAR_RATIO: "orange", EXCEEDED_RATIO: "red"},
            height=10,
        ),
        _times(),
        p.graph(
            "Energy so far, expected and budget",
            f"Exact energy of the run up to each moment, what is {EXPECTED}, and its budget where it has one. Not "
            "included: parts without a sensor, and other nodes.",
            Unit.KILOWATTHOUR,
            p.over_time(q.kilowatthours(r.energy_j()), "{{run}}"),
            p.over_time(q.kilowatthours(expected_j), "{{run}}: expected"),
            p.over_time(q.kilowatthours(bounds_j), "{{run}}: budget"),
            beside=True,
        ),
        p.graph(
            "CO2e so far, expected and budget",
            f"Live grams of the run up to each moment, by basis, which are never added up; what is {EXPECTED}, by the "
            "provider's forecast where it has one, else by the intensity of now; and its budget where it has one. Not "
            "expected over two bases.",
            Unit.GRAM,
            p.over_time(grams, "{{run}}: {{basis}}"),
            p.over_time(expected_g, "{{run}}: expected"),
            p.over_time(bounds_g, "{{run}}: budget"),
            beside=True,
        ),
        p.graph(
            "Cost so far and budget",
            "Energy x PUE x price of electricity of the run up to each moment, and its budget where it has one. Empty "
            "where no price was given. What it will come to is not reckoned.",
            Unit.NUMBER,
            p.over_time(cost, "{{run}}: {{currency}}"),
            p.over_time(bounds_money, "{{run}}: budget"),
            beside=True,
        ),
        p.graph(
            "Progress over time",
            "How much of its work the run said it had done; of several nodes the furthest. Empty for a run that does "
            "not tell.",
            Unit.RATIO,
            p.over_time(q.highest(SCOPE.select(x.RUN_PROGRESS), "run"), "{{run}}"),
            beside=True,
        ),
    ]


def _times() -> Panel:
    start = q.lowest(SCOPE.last_over_time(x.RUN_START), "run")
    end = q.highest(SCOPE.last_over_time(x.RUN_END), "run")
    going = q.compared(q.highest(SCOPE.select(x.RUN_ACTIVE), "run"), "==", 1)  # an old address would say 1 for ever
    expected = q.highest(SCOPE.select(x.RUN_FORECAST_END), "run")
    return p.listing(
        "Start and end",
        "First start and last end over all chosen nodes, and the end to be expected if the run goes on at its mean "
        "pace. Not shown: the end of a run that goes on, an expected end before a hundredth is done, and that of a run "
        "that does not tell its progress.",
        "run",
        {"run": "Run", "Value #A": "Start", "Value #B": "End", "Value #C": "Expected end"},
        dict.fromkeys(("Start", "End", "Expected end"), Unit.WHEN),
        p.rows(q.times(start, MILLISECONDS_PER_SECOND)),
        p.rows(q.times(q.unless(end, going), MILLISECONDS_PER_SECOND)),
        p.rows(q.times(expected, MILLISECONDS_PER_SECOND)),
        span=12,
        height=10,
        highest_first="Start",
        widths_px=dict.fromkeys(("Start", "End", "Expected end"), 160),
    )

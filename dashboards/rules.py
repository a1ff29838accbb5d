"""Recording rules: the figures of nodes, of the cluster and of whole runs that boards, alerts and other stores ask for.

Whatever two jobs scrape from one address counts once; a series of a run counts once for its ledger, so that a run on
several nodes adds up and one whose node changed its address does not double. Bases and methods are never added up.
"""

from dashboards import promql as q
from dashboards.promql import Query
from dashboards.rule import Group, Record
from dashboards.scope import RULES
from dashboards.thresholds import ENDED_RUNS, REQUEUED_RUNS
from monitor import metrics as x
from monitor.metrics import Metric

PART = ("run", "ledger")
"""A run's part on one node."""


def exact(metric: Metric, *by: str) -> Query:
    """Exact total of what a run has used, also of one that has just ended."""
    return RULES.exact(metric, *by, over=ENDED_RUNS)


def _part(metric: Metric, *by: str) -> Record:
    """What each node's part of a run has used, kept while the run goes on anywhere.

    A part is exported for 15 min after its end only; one that waits to be started again elsewhere may do so for hours.
    """
    level = (*PART, *by)
    name = f"{'_'.join(level)}:{metric.family}:exact"
    going = q.highest(RULES.last_over_time(x.RUN_ACTIVE, over=ENDED_RUNS), "run")
    before = Query(f"last_over_time({name}[{REQUEUED_RUNS}])", frozenset(level))
    return Record(
        level=level,
        family=metric.family,
        operation="exact",
        query=q.otherwise(exact(metric, *level), q.where(before, going, "run")),
        help=f"Of each node's part of a run; while the run goes on, up to {REQUEUED_RUNS} longer than it is exported.",
    )


def parts(metric: Metric) -> Query:
    """A gauge of each node's part of a run, now."""
    return q.highest(RULES.select(metric), *PART)


def _budget(metric: Metric, *by: str) -> Query:
    """The budget of the whole run; where the settings of its nodes differ, the lowest, as in a merged report."""
    return q.lowest(RULES.last_over_time(metric, over=ENDED_RUNS), *by)


def _forecast_energy() -> Query:
    """Each part by its forecast, else as it stands: an ended one, and one that does not tell how far it is."""
    forecast = parts(x.RUN_FORECAST_ENERGY)
    each = q.otherwise(forecast, RUN_ENERGY_PARTS.series)
    return q.where(q.total(each, "run"), forecast, "run")


def _forecast_emissions() -> Query:
    """As for energy; a part is only projected while all of its grams are of one basis, which is then the forecast's."""
    forecast = parts(x.RUN_FORECAST_EMISSIONS)
    so_far = RUN_EMISSIONS_PARTS.series
    of_basis = q.plus(q.times(q.compared(so_far, ">", 0), 0), forecast)
    return q.where(q.total(q.otherwise(of_basis, so_far), "run", "basis"), forecast, "run")


def _budget_cost() -> Query:
    """Budgets are told without a currency: it is that of the costs beside them."""
    costs = q.highest(RULES.last_over_time(x.RUN_COST, over=ENDED_RUNS), *PART, "currency")
    return q.lowest(q.plus(q.times(costs, 0), _budget(x.RUN_BUDGET_COST, *PART)), "run", "currency")


def _described(energy: Query) -> Query:
    """With the words of the newest description: one that is only in the range, not now, may be an old name."""
    return RULES.described(energy, x.RUN_INFO, "name", "project", "user", ended=True, over=ENDED_RUNS)


NODE_POWER = Record(
    level=("instance",),
    family=x.NODE_MEASURED_POWER.family,
    operation="max",
    query=q.highest(RULES.select(x.NODE_MEASURED_POWER), "instance"),
    help="Watts of the measured parts of a node, now.",
)
NODE_POWER_MEAN = Record(
    level=("instance", "component", "method"),
    family=x.NODE_MEASURED_ENERGY.family,
    operation="rate5m",
    query=q.highest(RULES.rate(x.NODE_MEASURED_ENERGY), "instance", "component", "method"),
    help="Mean watts of a node's measured parts over 5 min.",
)
NODE_EMISSIONS = Record(
    level=("instance", "basis", "method"),
    family=f"{x.NODE_EMISSIONS.family}_per_hour",
    operation="sum_rate5m",
    query=q.hourly(q.total(RULES.rate(x.NODE_EMISSIONS), "instance", "basis", "method")),
    help="Grams of CO2e that a node emits per hour, mean of 5 min.",
)
CLUSTER_POWER = Record(
    family=x.NODE_MEASURED_POWER.family,
    operation="sum",
    query=q.total(NODE_POWER.series),
    help="Watts of the measured parts of all nodes, now.",
)
CLUSTER_POWER_MEAN = Record(
    level=("component", "method"),
    family=x.NODE_MEASURED_ENERGY.family,
    operation="sum_rate5m",
    query=q.total(NODE_POWER_MEAN.series, "component", "method"),
    help="Mean watts of all nodes over 5 min.",
)
CLUSTER_EMISSIONS = Record(
    level=("basis", "method"),
    family=NODE_EMISSIONS.family,
    operation="sum_rate5m",
    query=q.total(NODE_EMISSIONS.series, "basis", "method"),
    help="Grams of CO2e that all nodes emit per hour, mean of 5 min.",
)

RUN_ENERGY_PARTS = _part(x.RUN_ENERGY)
RUN_EMISSIONS_PARTS = _part(x.RUN_EMISSIONS, "basis")
RUN_COST_PARTS = _part(x.RUN_COST, "currency")
RUN_ENERGY = Record(
    level=("run",),
    family=x.RUN_ENERGY.family,
    operation="exact",
    query=q.total(RUN_ENERGY_PARTS.series, "run"),
    help="Joules of the whole run since its start, all its nodes.",
)
RUN_ENERGY_NAMED = Record(
    level=("run", "name", "project", "user"),
    family=x.RUN_ENERGY.family,
    operation="exact",
    query=_described(RUN_ENERGY.series),
    help="The same with the run's name, project and user.",
)
RUN_EMISSIONS = Record(
    level=("run", "basis"),
    family=x.RUN_EMISSIONS.family,
    operation="exact",
    query=q.total(RUN_EMISSIONS_PARTS.series, "run", "basis"),
    help="Live grams of CO2e of the whole run since its start.",
)
RUN_COST = Record(
    level=("run", "currency"),
    family=x.RUN_COST.family,
    operation="exact",
    query=q.total(RUN_COST_PARTS.series, "run", "currency"),
    help="What the electricity of the whole run has cost.",
)
RUN_POWER = Record(
    level=("run",),
    family=x.RUN_POWER.family,
    operation="sum",
    query=q.total(parts(x.RUN_POWER), "run"),
    help="Watts of the run on all its nodes, now.",
)
RUN_ENERGY_PER_STEP = Record(
    level=("run",),
    family=f"{x.RUN_ENERGY.family}_per_step",
    operation="ratio_rate5m",
    query=q.ratio(
        q.over_ledgers(RULES.rate(x.RUN_ENERGY), "run"), q.compared(q.highest(RULES.rate(x.RUN_STEPS), "run"), ">", 0)
    ),
    help="Joules of all nodes per step, mean of 5 min.",
)
RUN_ENERGY_PER_TOKEN = Record(
    level=("run",),
    family=f"{x.RUN_ENERGY.family}_per_token",
    operation="ratio_rate5m",
    query=q.ratio(
        q.over_ledgers(RULES.rate(x.RUN_ENERGY), "run"),
        q.compared(q.over_ledgers(RULES.rate(x.RUN_TOKENS), "run"), ">", 0),
    ),
    help="Joules of all nodes per token, mean of 5 min.",
)
RUN_FORECAST_ENERGY = Record(
    level=("run",),
    family=x.RUN_FORECAST_ENERGY.family,
    operation="sum",
    query=_forecast_energy(),
    help="Joules of the whole run at its end; a node that does not tell its progress counts as it stands.",
)
RUN_FORECAST_EMISSIONS = Record(
    level=("run", "basis"),
    family=x.RUN_FORECAST_EMISSIONS.family,
    operation="sum",
    query=_forecast_emissions(),
    help="Grams of CO2e of the whole run at its end, likewise.",
)
RUN_BUDGET_ENERGY = Record(
    level=("run",),
    family=x.RUN_BUDGET_ENERGY.family,
    operation="min",
    query=_budget(x.RUN_BUDGET_ENERGY, "run"),
    help="Joules that the whole run may use.",
)
RUN_BUDGET_EMISSIONS = Record(
    level=("run",),
    family=x.RUN_BUDGET_EMISSIONS.family,
    operation="min",
    query=_budget(x.RUN_BUDGET_EMISSIONS, "run"),
    help="Grams of CO2e that the whole run may emit.",
)
RUN_BUDGET_COST = Record(
    level=("run", "currency"),
    family=x.RUN_BUDGET_COST.family,
    operation="min",
    query=_budget_cost(),
    help="What the electricity of the whole run may cost.",
)
RUN_BUDGET_ENERGY_USED = Record(
    level=("run",),
    family=f"{x.PREFIX}run_budget_energy_used",
    operation="ratio",
    query=q.ratio(RUN_ENERGY.series, RUN_BUDGET_ENERGY.series),
    help="Share of the energy budget that is used.",
)
RUN_BUDGET_EMISSIONS_USED = Record(
    level=("run", "basis"),
    family=f"{x.PREFIX}run_budget_emissions_used",
    operation="ratio",
    query=q.ratio(RUN_EMISSIONS.series, RUN_BUDGET_EMISSIONS.series),
    help="Share of the CO2e budget that is used, by the grams of one basis.",
)
RUN_BUDGET_COST_USED = Record(
    level=("run", "currency"),
    family=f"{x.PREFIX}run_budget_cost_used",
    operation="ratio",
    query=q.ratio(RUN_COST.series, RUN_BUDGET_COST.series),
    help="Share of the cost budget that is used.",
)

RECORDS = tuple(value for value in list(globals().values()) if isinstance(value, Record))
"""All of them; what one is made of stands before it."""
GROUPS = (
    Group("trainwatt.nodes", tuple(record for record in RECORDS if "run" not in record.level)),
    Group("trainwatt.runs", tuple(record for record in RECORDS if "run" in record.level)),
)

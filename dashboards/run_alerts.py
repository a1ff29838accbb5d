"""Alerts on runs: GPUs that stand by, runs that hang, budgets. Told once for a run, on however many nodes it is."""

from dashboards import promql as q
from dashboards import rules
from dashboards import thresholds as t
from dashboards.promql import Query
from dashboards.rule import Alert, Severity
from dashboards.scope import RULES
from monitor import metrics as x


def _idle_but_held() -> Query:
    """Utilisation of held GPUs; where several runs hold one, each of them is told."""
    held = q.highest(RULES.select(x.RUN_DEVICE_INFO), "instance", "run", "device")
    used = q.highest(RULES.select(x.DEVICE_UTILIZATION, component=t.GPUS), "instance", "device")
    return q.compared(q.product(held, used), "<", t.IDLE_RATIO)


def _stuck() -> Query:
    """Watts of live runs that have told steps before and tell none now. Idle GPUs are told by another alert."""
    standing = q.compared(q.highest(RULES.rate(x.RUN_STEPS), "run"), "==", 0)
    has_stepped = q.compared(q.highest(RULES.select(x.RUN_STEPS), "run"), ">", 0)
    alive = q.compared(q.highest(RULES.select(x.RUN_ACTIVE), "run"), "==", 1)
    gpus = q.over_ledgers(RULES.rate(x.RUN_ENERGY, component=t.GPUS), "run")
    idle = q.over_ledgers(RULES.rate(x.RUN_IDLE_ENERGY, component=t.GPUS), "run")
    at_rest = q.compared(gpus, "<=", q.times(idle, t.ABOVE_IDLE_RATIO))
    power = rules.RUN_POWER.series
    for condition in (standing, has_stepped, alive, gpus):
        power = q.where(power, condition, "run")
    return q.unless(power, at_rest, "run")


def _over(used: Query, *by: str) -> Query:
    return q.compared(q.highest(used, *by), ">", 1)


def _will_be_over(forecast: Query, budget: Query, over: Query) -> Query:
    """Forecast over budget, of runs that are not over it yet."""
    expected = q.highest(q.ratio(forecast, budget), "run")
    return q.unless(q.compared(expected, ">", 1), over, "run")


ENERGY_OVER = _over(rules.RUN_BUDGET_ENERGY_USED.series, "run")
EMISSIONS_OVER = _over(rules.RUN_BUDGET_EMISSIONS_USED.series, "run")
STOP_OR_RAISE = (
    "Decide whether the run goes on: trainwatt never stops one. `trainwatt report {{ $labels.run }}` on a node of the "
    "run says what it was used for."
)
EARLY = (
    "There is still time: shorten the run, lower the power limit of its GPUs, or raise the budget. It goes by the "
    "mean pace and power so far; the board Run has the figures."
)

RUNS = (
    Alert(
        name="TrainwattGpuReservedIdle",
        when=f"a run holds a GPU on which work is resident for less than {t.IDLE_RATIO:.0%} of the time",
        query=_idle_but_held(),
        lasts=t.IDLE,
        severity=Severity.WARNING,
        summary="Run {{ $labels.run }} holds {{ $labels.device }} on {{ $labels.instance }} and does not use it.",
        remedy="See what the job waits for (`trainwatt runs` and `nvidia-smi` on {{ $labels.instance }}), or release "
        "the GPU: its idle energy is the run's.",
    ),
    Alert(
        name="TrainwattRunHung",
        when=f"a run that has told steps tells none in 5 min, while its GPUs draw over {t.ABOVE_IDLE_RATIO:g} times "
        "their idle power, as far as that is known",
        query=_stuck(),
        lasts=t.STUCK,
        severity=Severity.WARNING,
        summary="Run {{ $labels.run }} makes no steps and draws {{ $value | humanize }}W.",
        remedy="Look at the newest lines of its log, and at its ranks with `py-spy dump --pid PID`: a collective call "
        "that waits for a lost rank spins for ever. A long evaluation or checkpoint looks the same.",
    ),
    Alert(
        name="TrainwattRunEnergyBudgetExceeded",
        when="a run has used more joules on all its nodes than its budget",
        query=ENERGY_OVER,
        lasts=t.OVER,
        severity=Severity.CRITICAL,
        summary="Run {{ $labels.run }} has used {{ $value | humanizePercentage }} of its energy budget.",
        remedy=STOP_OR_RAISE,
    ),
    Alert(
        name="TrainwattRunCarbonBudgetExceeded",
        when="a run has emitted more live grams of CO2e on all its nodes than its budget, by the basis with most of "
        "them: bases are never added",
        query=EMISSIONS_OVER,
        lasts=t.OVER,
        severity=Severity.CRITICAL,
        summary="Run {{ $labels.run }} has used {{ $value | humanizePercentage }} of its CO2e budget.",
        remedy=STOP_OR_RAISE,
    ),
    Alert(
        name="TrainwattRunCostBudgetExceeded",
        when="the electricity of a run has cost more on all its nodes than its budget",
        query=_over(rules.RUN_BUDGET_COST_USED.series, "run", "currency"),
        lasts=t.OVER,
        severity=Severity.CRITICAL,
        summary="Run {{ $labels.run }} has used {{ $value | humanizePercentage }} of its cost budget in "
        "{{ $labels.currency }}.",
        remedy=STOP_OR_RAISE,
    ),
    Alert(
        name="TrainwattRunEnergyForecastOverBudget",
        when="a run is expected to use more joules than its budget, and has not yet",
        query=_will_be_over(rules.RUN_FORECAST_ENERGY.series, rules.RUN_BUDGET_ENERGY.series, ENERGY_OVER),
        lasts=t.FORECAST,
        severity=Severity.WARNING,
        summary="Run {{ $labels.run }} will have used {{ $value | humanizePercentage }} of its energy budget at its "
        "end.",
        remedy=EARLY,
    ),
    Alert(
        name="TrainwattRunCarbonForecastOverBudget",
        when="a run is expected to emit more grams of CO2e than its budget, by the basis with most, and has not yet",
        query=_will_be_over(rules.RUN_FORECAST_EMISSIONS.series, rules.RUN_BUDGET_EMISSIONS.series, EMISSIONS_OVER),
        lasts=t.FORECAST,
        severity=Severity.WARNING,
        summary="Run {{ $labels.run }} will have used {{ $value | humanizePercentage }} of its CO2e budget at its end.",
        remedy=EARLY,
    ),
)

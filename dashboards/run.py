"""The dashboard "trainwatt / Run": what one run has used and emitted, where it went, and what it will come to.

Several runs may be chosen, to be compared. Totals are those of all chosen nodes since the run's start, whatever the
time range; a run that ended within the range is shown, too. Bases of grams are never added up.
"""

from grafana_foundation_sdk.models import dashboard as m

from dashboards import board, run_beside, run_forecast, run_power
from dashboards import panels as p
from dashboards import promql as q
from dashboards import run_queries as r
from dashboards.panels import Panel, Unit
from dashboards.run_queries import SCOPE
from monitor import metrics as x

UID = "trainwatt-run"
TOTAL = (
    "Exact, since the run's start and not only of the time range, on all chosen nodes that were seen in it (before a "
    "requeue the run may have been on another: choose a range from its start), as of the last scrape; once, however "
    "many scrape it"
)
WIDTHS_PX = {
    "Name": 140,
    "User": 90,
    "Energy": 110,
    **{f"CO2e, {basis}": 120 for basis in r.BASES},
    "Cost": 80,
    "Currency": 75,
    "Steps": 80,
    "Per step": 130,
    "Per token": 115,
    "Active time": 100,
    "Measured": 90,
}
"""Twelve columns of Grafana's own width do not fit beside each other."""


def build() -> m.Dashboard:
    """The whole board in Grafana's classic model."""
    rows = {
        "So far": _so_far() + _course(),
        "Runs compared": _compared(),
        "Budgets and what is expected": run_forecast.row(),
        "Power": run_power.row(),
        "Where the energy went": _parts(),
        "Nodes side by side": run_power.nodes(),
        "GPUs that it holds": run_power.gpus(),
        "Beside it": run_beside.row(),
    }
    description = "Energy, CO2e and cost of machine-learning training runs, as metered by trainwatt."
    runs = board.values_of(SCOPE, x.RUN_INFO, "run", "Run")
    return board.build(UID, "Run", description, SCOPE, rows, choices=[runs], shaded=False)


def _so_far() -> list[Panel]:
    return [
        p.figure(
            "Energy",
            f"Energy charged to the run. {TOTAL}. Estimates are in it where they were asked for; Energy by component "
            "says how each part is known. Not included: parts without a sensor, and other nodes.",
            Unit.KILOWATTHOUR,
            p.at_end(q.kilowatthours(r.energy_j()), "{{run}}"),
            span=6,
        ),
        p.figure(
            "CO2e",
            f"Live grams are {r.LOCATION_BASED}. Settled grams are the same energy priced again with what is known by "
            f"now; they may rise and fall, and follow the live ones by some minutes. {TOTAL}. By basis, which are "
            "never added up. Not included: energy without a known intensity (see Beside it), making the hardware.",
            Unit.GRAM,
            p.at_end(SCOPE.exact(x.RUN_EMISSIONS, "run", "basis"), "{{run}}: live, {{basis}}"),
            p.at_end(SCOPE.exact(x.RUN_SETTLED_EMISSIONS, "run", "basis"), "{{run}}: settled, {{basis}}"),
            span=12,
        ),
        p.figure(
            "Cost",
            f"Energy x PUE x the price of electricity when it was used. {TOTAL}. Empty where no price was given. Not "
            "included: the machines, and whatever else a bill has on it.",
            Unit.NUMBER,
            p.at_end(SCOPE.exact(x.RUN_COST, "run", "currency"), "{{run}}: {{currency}}"),
            span=6,
        ),
        p.figure(
            "Energy per step, token and sample",
            "All of the run's energy, evaluation and idling with it, by all of its steps, tokens or samples so far. "
            "Steps are those of its furthest node, tokens and samples those of all nodes together. Not shown: what "
            "the run does not tell.",
            Unit.JOULES_PER_STEP,
            p.at_end(r.joules_per_step(), "{{run}}: per step"),
            p.at_end(r.joules_per(x.RUN_TOKENS), "{{run}}: per token"),
            p.at_end(r.joules_per(x.RUN_SAMPLES), "{{run}}: per sample"),
            span=12,
            decimals=1,
            units={"B": Unit.JOULES_PER_TOKEN, "C": Unit.JOULES_PER_SAMPLE},
        ),
    ]


def _course() -> list[Panel]:
    return [
        p.figure(
            "Progress",
            "How much of its work the run says it has done; of several nodes the furthest. Empty for a run that does "
            "not tell.",
            Unit.RATIO,
            p.at_end(q.highest(SCOPE.last_over_time(x.RUN_PROGRESS), "run"), "{{run}}"),
            span=6,
            decimals=1,
        ),
        p.figure(
            "Active time",
            "Time in which the run was going on; of several nodes the longest, also where it went from one to another "
            "(Start and end have the whole). Not included: time between two attempts of a run that was requeued.",
            Unit.SECOND,
            p.at_end(q.highest(SCOPE.last_over_time(x.RUN_DURATION), "run"), "{{run}}"),
            span=6,
            decimals=1,
        ),
    ]


def _compared() -> list[Panel]:
    grams = {f"Value #{ref_id}": f"CO2e, {basis}" for ref_id, basis in zip("BCD", r.BASES, strict=True)}
    return [
        p.listing(
            "Runs",
            f"One row a run. {TOTAL}. CO2e is {r.LIVE}; one column a basis, and bases are never added up. Per step and "
            "per token: all of the run's energy. A column without an answer for any run is not shown. Not included: "
            "energy without a known intensity, in CO2e.",
            "run",
            {
                "run": "Run",
                "name": "Name",
                "user": "User",
                "Value #A": "Energy",
                **grams,
                "Value #E": "Cost",
                "currency": "Currency",
                "Value #F": "Steps",
                "Value #G": "Per step",
                "Value #H": "Per token",
                "Value #I": "Active time",
                "Value #J": "Measured",
            },
            {
                "Energy": Unit.KILOWATTHOUR,
                **dict.fromkeys(grams.values(), Unit.GRAM),
                "Cost": Unit.NUMBER,
                "Per step": Unit.JOULES_PER_STEP,
                "Per token": Unit.JOULES_PER_TOKEN,
                "Active time": Unit.SECOND,
                "Measured": Unit.RATIO,
            },
            p.rows(SCOPE.described(q.kilowatthours(r.energy_j()), x.RUN_INFO, "name", "user", ended=True)),
            *(p.rows(SCOPE.exact(x.RUN_EMISSIONS, "run", basis=basis)) for basis in r.BASES),
            p.rows(SCOPE.exact(x.RUN_COST, "run", "currency")),
            p.rows(r.steps()),
            p.rows(r.joules_per_step()),
            p.rows(r.joules_per(x.RUN_TOKENS)),
            p.rows(q.highest(SCOPE.last_over_time(x.RUN_DURATION), "run")),
            p.rows(r.measured_ratio()),
            highest_first="Energy",
            widths_px=WIDTHS_PX,
        )
    ]


def _parts() -> list[Panel]:
    return [
        p.bars(
            "Energy by component",
            f"Energy of the run by the part that used it and by how it is known. {TOTAL}. Estimated and simulated "
            "parts stand apart from measured ones. Not included: parts without a sensor.",
            Unit.KILOWATTHOUR,
            p.at_end(q.kilowatthours(r.energy_j("component", "method")), "{{run}}: {{component}}, {{method}}"),
            span=8,
            height=10,
        ),
        p.bars(
            "Energy by phase",
            f"Energy of the run by the phases that it tells, such as train and eval. {TOTAL}. Empty for a run that "
            "does not tell phases.",
            Unit.KILOWATTHOUR,
            p.at_end(q.kilowatthours(SCOPE.exact(x.RUN_PHASE_ENERGY, "run", "phase")), "{{run}}: {{phase}}"),
            span=8,
            height=10,
        ),
        p.bars(
            "Measured, settled and idle",
            "Measured: share of its device time that a sensor told, of several nodes the lowest; estimates do not "
            "count. Settled: share of its energy whose price can change no more; 0 where nothing has been priced again "
            "yet. Idle: share of its energy that the devices would have used idle; too low where that is not known of "
            "all of them, and not shown where it is known of none.",
            Unit.RATIO,
            p.at_end(r.measured_ratio(), "{{run}}: measured"),
            p.at_end(r.settled_ratio(), "{{run}}: settled"),
            p.at_end(r.idle_ratio(), "{{run}}: idle"),
            span=8,
            height=10,
        ),
    ]

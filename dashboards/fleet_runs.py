"""The row "Runs, and whose they are" of the board "Fleet": exact totals of runs, and their sums by whose they are."""

from dashboards import panels as p
from dashboards import promql as q
from dashboards import run, scope
from dashboards.panels import Panel, Unit
from dashboards.promql import Query
from monitor import metrics as x

SCOPE = scope.board()
MOST_RUNS = 25
MOST_BARS = 15
BASES = ("lifecycle", "direct", "unknown")
SEEN = (
    "Exact totals, each since its run's start, of the runs that were seen in the time range: also what they used "
    "before the range, on nodes that were seen in it, and not of one month"
)
HIGHEST = f"The {MOST_BARS} highest are shown."
PRICED = "Empty where no price was given; there is one only for runs, so what no run held is not in it."


def row() -> list[Panel]:
    """Panels of the row."""
    return [_top_runs(), *_costs(), *_users()]


def _top_runs() -> Panel:
    energy = q.top(MOST_RUNS, q.kilowatthours(SCOPE.exact(x.RUN_ENERGY, "run")))
    grams = {f"Value #{ref_id}": f"CO2e, {basis}" for ref_id, basis in zip("BCD", BASES, strict=True)}
    return p.listing(
        "Top runs",
        f"The {MOST_RUNS} runs with the most energy. {SEEN}. CO2e is live and location-based, one column a basis; "
        "bases are never added up. Not included: energy without a known intensity, in CO2e. A run's id leads to its "
        "board.",
        "run",
        {
            "run": "Run",
            "name": "Name",
            "user": "User",
            "project": "Project",
            "Value #A": "Energy",
            **grams,
            "Value #E": "Cost",
            "currency": "Currency",
            "Value #F": "Active time",
        },
        {
            "Energy": Unit.KILOWATTHOUR,
            **dict.fromkeys(grams.values(), Unit.GRAM),
            "Cost": Unit.NUMBER,
            "Active time": Unit.SECOND,
        },
        p.rows(SCOPE.described(energy, x.RUN_INFO, "name", "user", "project", ended=True)),
        *(p.rows(q.where(SCOPE.exact(x.RUN_EMISSIONS, "run", basis=basis), energy, "run")) for basis in BASES),
        p.rows(q.where(SCOPE.exact(x.RUN_COST, "run", "currency"), energy, "run")),
        p.rows(q.where(q.highest(SCOPE.last_over_time(x.RUN_DURATION), "run"), energy, "run")),
        links={"Run": p.board_of(run.UID, "run")},
        height=10,
        highest_first="Energy",
    )


def _costs() -> list[Panel]:
    cost = SCOPE.exact(x.RUN_COST, "run", "currency")
    of_ledgers = SCOPE.exact(x.RUN_COST, "ledger", "currency")
    by_node = SCOPE.described(of_ledgers, x.LEDGER_INFO, "instance", ended=True)
    return [
        p.bars(
            "Cost of runs by node",
            f"What the electricity of runs cost on each node. {SEEN}. {HIGHEST} {PRICED}",
            Unit.NUMBER,
            p.at_end(q.top(MOST_BARS, q.total(by_node, "instance", "currency")), "{{instance}}, {{currency}}"),
            span=8,
        ),
        p.bars(
            "Cost of runs by project",
            f"What the electricity of each project's runs cost. {SEEN}. {HIGHEST} {PRICED}",
            Unit.NUMBER,
            p.at_end(_by(cost, "project", "currency"), "{{project}}, {{currency}}"),
            span=8,
        ),
        p.bars(
            "Cost of runs by user",
            f"What the electricity of each user's runs cost. {SEEN}. {HIGHEST} {PRICED} Users have no names where "
            "privacy is set to off.",
            Unit.NUMBER,
            p.at_end(_by(cost, "user", "currency"), "{{user}}, {{currency}}"),
            span=8,
        ),
    ]


def _users() -> list[Panel]:
    energy = q.kilowatthours(SCOPE.exact(x.RUN_ENERGY, "run", "method"))
    grams = SCOPE.exact(x.RUN_EMISSIONS, "run", "basis", "method")
    return [
        p.bars(
            "Energy of runs by user",
            f"Energy charged to each user's runs, by how it is known. {SEEN}. {HIGHEST} Not included: energy that no "
            "run held. Users have no names where privacy is set to off.",
            Unit.KILOWATTHOUR,
            p.at_end(_by(energy, "user", "method"), "{{user}}, {{method}}"),
        ),
        p.bars(
            "CO2e of runs by user",
            "Live, location-based grams of each user's runs, by basis and method, which are never added up. "
            f"{SEEN}. {HIGHEST} Not included: energy that no run held, or without a known intensity.",
            Unit.GRAM,
            p.at_end(_by(grams, "user", "basis", "method"), "{{user}}, {{basis}}, {{method}}"),
        ),
    ]


def _by(runs: Query, whose: str, *by: str) -> Query:
    """Totals of runs added up by a word of their description; the highest."""
    return q.top(MOST_BARS, q.total(SCOPE.described(runs, x.RUN_INFO, whose, ended=True), whose, *by))

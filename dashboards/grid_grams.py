"""The row "What the grams rest on": how firmly known the prices were by which energy became grams.

Energy of nodes carries no zone: these figures follow the chosen nodes, not the chosen zones.
"""

from dashboards import panels as p
from dashboards import promql as q
from dashboards.grid_scope import SCOPE
from dashboards.panels import Panel, Unit
from monitor import metrics as x

KIND = ("basis", "quality", "method")
KIND_LEGEND = "{{basis}}, {{quality}}, {{method}}"
OF_NODES = "Follows the chosen nodes, not the chosen zones."


def row() -> list[Panel]:
    """Panels of the row."""
    return [
        p.graph(
            "CO2e rate by quality",
            "Emission per hour of the nodes' measured energy x PUE, by how firmly its price was known when the energy "
            "was used: actual, estimated, forecast, carried, static. Lines of one basis may be added up, lines of two "
            f"never. Not included: energy without a known intensity. {OF_NODES}",
            Unit.GRAMS_PER_HOUR,
            p.over_time(q.hourly(q.total(SCOPE.rate(x.NODE_EMISSIONS), *KIND)), KIND_LEGEND),
        ),
        p.bars(
            "CO2e in range by quality",
            "How much of what was emitted in the time range was priced by actual, estimated, forecast, carried and "
            "static values, as known then: later values change the settled figures of runs, not this. Not included: "
            f"energy without a known intensity. {OF_NODES}",
            Unit.GRAM,
            p.at_end(q.total(SCOPE.increase(x.NODE_EMISSIONS), *KIND), KIND_LEGEND),
        ),
        p.figure(
            "Energy without a price",
            "Energy of the nodes since the count began (not only of the time range), estimates included, for which no "
            f"carbon intensity was known. It is in no CO2e figure. {OF_NODES}",
            Unit.KILOWATTHOUR,
            p.at_end(q.kilowatthours(q.total(SCOPE.select(x.NODE_UNPRICED_ENERGY))), "unpriced"),
            span=6,
        ),
        p.figure(
            "PUE",
            "Power usage effectiveness that every CO2e figure and cost is multiplied by; a setting, not a measurement. "
            "Energy and power are never multiplied.",
            Unit.FACTOR,
            p.at_end(q.lowest(SCOPE.select(x.PUE)), "lowest of the nodes"),
            p.at_end(q.highest(SCOPE.select(x.PUE)), "highest of the nodes"),
            span=9,
        ),
        p.figure(
            "Market-based factor",
            "Factor of the site's contracts (GHG Protocol Scope 2, market-based), as it was given. It has its own "
            "grams beside the grid's and is never in them. Where the chosen nodes differ, the highest. Empty when none "
            "is set.",
            Unit.GRAMS_PER_KILOWATTHOUR,
            p.at_end(q.highest(SCOPE.select(x.MARKET_INTENSITY)), "market-based"),
            span=9,
            decimals=1,
        ),
        p.bars(
            "Settled share of runs",
            "Share of each run's energy whose price can change no more; of a run on many nodes that of the node that "
            "is furthest behind. Feeds change their values for up to 72 h. Not included: runs that were not priced "
            f"again yet. {OF_NODES}",
            Unit.RATIO,
            p.at_end(q.lowest(SCOPE.select(x.RUN_SETTLED), "run"), "{{run}}"),
            span=p.FULL_WIDTH,
        ).max(1),
    ]

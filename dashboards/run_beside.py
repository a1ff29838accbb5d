"""The row "Beside it" of the board "Run": figures that are part of no other, and are never added to any."""

from dashboards import panels as p
from dashboards import promql as q
from dashboards.panels import Panel, Unit
from dashboards.run_queries import SCOPE
from monitor import metrics as x


def row() -> list[Panel]:
    """Panels of the row "Beside it"."""
    return [
        p.listing(
            "Apart from the grams above",
            "Each column is a figure of its own, never added to another or to the CO2e above. Without a price: energy "
            "for which no carbon intensity was known, so that it is in no grams. Embodied: part of what making the "
            "devices emitted, by reserved time. Market-based: by the factor of the site's contracts. Marginal: what "
            "one kilowatt-hour more causes, for shifting load, never for accounting. Water: energy x the water usage "
            "effectiveness. Totals since the run's start, on all chosen nodes; a column that nothing was set for is "
            "not shown.",
            "run",
            {
                "run": "Run",
                "Value #A": "Energy without a price",
                "Value #B": "Embodied CO2e",
                "Value #C": "Market-based CO2e",
                "Value #D": "Marginal CO2e",
                "Value #E": "Water",
            },
            {
                "Energy without a price": Unit.KILOWATTHOUR,
                "Embodied CO2e": Unit.GRAM,
                "Market-based CO2e": Unit.GRAM,
                "Marginal CO2e": Unit.GRAM,
                "Water": Unit.LITER,
            },
            p.rows(q.kilowatthours(SCOPE.exact(x.RUN_UNPRICED_ENERGY, "run"))),
            p.rows(SCOPE.exact(x.RUN_EMBODIED_EMISSIONS, "run")),
            p.rows(SCOPE.exact(x.RUN_MARKET_EMISSIONS, "run")),
            p.rows(SCOPE.exact(x.RUN_MARGINAL_EMISSIONS, "run")),
            p.rows(SCOPE.exact(x.RUN_WATER, "run")),
            height=5,
        )
    ]

"""The row "Carbon": grams per hour and the intensity behind them. Bases are never added up."""

from dashboards import panels as p
from dashboards import promql as q
from dashboards import scope
from dashboards.panels import Panel, Unit
from monitor import metrics as x

SCOPE = scope.board()


def row() -> list[Panel]:
    """Panels of the row "Carbon"."""
    provenance = ("grid_zone", "provider", "basis", "quality")
    return [
        p.graph(
            "CO2e rate",
            "Emission per hour of the nodes' measured energy x PUE, at the intensity known when it was used. By basis, "
            "quality and method: lines of one basis may be added up, lines of two never. Not included: energy without "
            "a known intensity, making the hardware.",
            Unit.GRAMS_PER_HOUR,
            p.over_time(
                q.hourly(q.total(SCOPE.rate(x.NODE_EMISSIONS), "basis", "quality", "method")),
                "{{basis}}, {{quality}}, {{method}}",
            ),
        ),
        p.graph(
            "Carbon intensity",
            "Average intensity in use for each grid zone, with its provider, basis and quality; a change of any of "
            "them begins a new line. Not included: marginal intensity, and times without a known one.",
            Unit.GRAMS_PER_KILOWATTHOUR,
            p.over_time(q.highest(intensity(), *provenance), "{{grid_zone}}: {{provider}}, {{basis}}, {{quality}}"),
        ),
        p.figure(
            "Energy without a price",
            "Energy of the nodes since the count began (not only of the time range) for which no carbon intensity was "
            "known. It is in no CO2e figure of this dashboard.",
            Unit.KILOWATTHOUR,
            p.at_end(q.kilowatthours(q.total(SCOPE.select(x.NODE_UNPRICED_ENERGY))), "unpriced"),
            span=12,
        ),
        p.figure(
            "PUE",
            "Power usage effectiveness that every CO2e figure and cost is multiplied by; a setting, not a "
            "measurement. Energy and power are never multiplied.",
            Unit.FACTOR,
            p.at_end(q.highest(SCOPE.select(x.PUE), "instance"), "{{instance}}"),
            span=12,
        ),
    ]


def intensity() -> q.Query:
    """Average intensity in use, with where it comes from."""
    average = SCOPE.select(x.GRID_INTENSITY, signal="average")
    return SCOPE.described(average, x.GRID_INTENSITY_INFO, "provider", "basis", "quality")

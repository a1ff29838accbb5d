"""The dashboard "trainwatt / Grid": what energy is priced with, how firmly that is known, and what is expected.

Every description says what is in the figure and what is not. Bases, methods and signals are never added up.
"""

from grafana_foundation_sdk.models import dashboard as m

from dashboards import board, grid_feeds, grid_grams
from dashboards import panels as p
from dashboards import promql as q
from dashboards.grid_scope import SCOPE, ZONE, expected, intensity, valid_for
from dashboards.panels import Panel, Unit
from monitor import metrics as x
from monitor.rows import FORECAST_HOURS

UID = "trainwatt-grid"
CLEANEST = 5
WITH_FORECAST = "Empty without a provider that has a forecast, as none has where every value is static."


def build() -> m.Dashboard:
    """The whole board in Grafana's classic model."""
    rows = {
        "Now": _now(),
        "Over time and ahead": _over_time() + _ahead(),
        "What the grams rest on": grid_grams.row(),
        "Feeds": grid_feeds.row(),
    }
    description = "Carbon intensity of the grid, where it comes from and what is expected; price of electricity."
    zones = board.values_of(SCOPE, x.GRID_INTENSITY, "grid_zone", "Grid zone")
    return board.build(UID, "Grid", description, SCOPE, rows, choices=[zones], shaded=False)


def _now() -> list[Panel]:
    marginal = q.highest(SCOPE.select(x.GRID_INTENSITY, signal="marginal"), *ZONE)
    return [
        p.figure(
            "Intensity now",
            "Carbon intensity of each zone in use now. The average is what energy is priced with. The marginal one, "
            "there only where a feed tells it, answers another question (what one kilowatt-hour more would cause): "
            "for shifting load, never for accounting, and not to be compared with the average. Empty when no zone is "
            "set.",
            Unit.GRAMS_PER_KILOWATTHOUR,
            p.at_end(q.highest(intensity(), *ZONE, "basis"), "{{grid_zone}}, {{basis}}"),
            p.at_end(marginal, "{{grid_zone}}, marginal: apart"),
            span=8,
            decimals=0,
        ),
        p.figure(
            "Valid for, or stale since",
            "How long the interval still lasts that the average in use was made for; of several nodes the one that is "
            "worst off. Orange and `ago`: that interval has been over for so long, and its value is carried on. "
            "Not shown: values that hold for a whole year; empty without a live feed.",
            Unit.MINUTES_AND_SECONDS,
            p.at_end(valid_for(), "{{grid_zone}}"),
            span=5,
            decimals=0,
            colors={0: "text"},
            below="orange",
        ),
        p.figure(
            "Cleanest hour ahead",
            "Lowest intensity among the hours ahead that are exported, and, as a percentage, how far off the "
            "provider's forecasts of the last week were on average; the latter is not there before twelve of them "
            "could be compared. `trainwatt grid best` gives the best window to the minute. " + WITH_FORECAST,
            Unit.GRAMS_PER_KILOWATTHOUR,
            p.at_end(q.bottom(1, expected(), *ZONE), "{{grid_zone}}, in {{hours}} h"),
            p.at_end(q.highest(SCOPE.select(x.GRID_FORECAST_ERROR), *ZONE), "{{grid_zone}}, mean error"),
            span=6,
            decimals=0,
            units={"B": Unit.RATIO},
        ),
        p.figure(
            "Price of electricity",
            "What a kilowatt-hour costs now, by currency; where the chosen nodes pay differently, the highest. Not "
            "multiplied by PUE, which costs of runs are. Empty when no price is set.",
            Unit.NUMBER,
            p.at_end(q.highest(SCOPE.select(x.ELECTRICITY_PRICE), "currency"), "{{currency}} per kWh"),
            span=5,
            decimals=3,
        ),
        p.listing(
            "Value in use",
            "Of each zone the average in use: who tells it, what it counts (basis) and how firmly it is known "
            "(quality). More than one row for a zone: the chosen nodes are priced differently. Not included: marginal "
            "intensity. Empty when no zone is set.",
            "grid_zone",
            {
                "grid_zone": "Zone",
                "provider": "Provider",
                "basis": "Basis",
                "quality": "Quality",
                "Value #A": "Intensity",
            },
            {"Intensity": Unit.GRAMS_PER_KILOWATTHOUR},
            p.rows(intensity()),
            height=5,
            decimals=0,
        ),
    ]


def _over_time() -> list[Panel]:
    return [
        p.graph(
            "Average intensity",
            "Average intensity in use for each zone, with its provider, basis and quality; a change of any of them "
            "begins a new line. Lines of two bases are not to be compared. Not included: marginal intensity, and "
            "times without a known one. Empty when no zone is set.",
            Unit.GRAMS_PER_KILOWATTHOUR,
            p.over_time(intensity(), "{{grid_zone}}: {{provider}}, {{basis}}, {{quality}}"),
            height=10,
        ),
    ]


def _ahead() -> list[Panel]:
    return [
        p.bars(
            "Forecast by hours ahead",
            "What the zone's provider expects so many hours from now; these hours are told, those between are not. "
            "Of several providers the first in order that has a forecast. " + WITH_FORECAST,
            Unit.GRAMS_PER_KILOWATTHOUR,
            *(p.at_end(expected(hours=str(hours)), "{{grid_zone}}, in {{hours}} h") for hours in FORECAST_HOURS),
            height=10,
        ),
        p.bars(
            "Cleanest hours ahead",
            f"The {CLEANEST} lowest of the hours ahead that are told, of all chosen zones together. Not a window: "
            "`trainwatt grid best` gives the best time to start a job of a given length, to the minute. "
            + WITH_FORECAST,
            Unit.GRAMS_PER_KILOWATTHOUR,
            p.at_end(q.bottom(CLEANEST, expected()), "{{grid_zone}}, in {{hours}} h"),
            height=10,
        ),
        p.graph(
            "Expected for later",
            "What was expected at each moment of the range for some hours later: a line that moves is a forecast that "
            "was changed, or a day that goes on. Not what came. " + WITH_FORECAST,
            Unit.GRAMS_PER_KILOWATTHOUR,
            *(p.over_time(expected(hours=hours), "{{grid_zone}}, in {{hours}} h") for hours in ("1", "6", "24")),
            height=10,
        ),
    ]

"""What the rows of the board "Grid" have in common: its scope, and the queries that several of them ask."""

from dashboards import promql as q
from dashboards import scope
from dashboards.promql import Query
from monitor import metrics as x

SCOPE = scope.board("grid_zone")
ZONE = ("grid_zone",)
PROVENANCE = ("provider", "basis", "quality")
AVERAGE = "average"


def intensity(signal: str = AVERAGE) -> Query:
    """Intensity in use, g/kWh, with where it comes from: once for each zone and provenance, whoever tells it."""
    now = SCOPE.select(x.GRID_INTENSITY, signal=signal)
    return q.highest(SCOPE.described(now, x.GRID_INTENSITY_INFO, *PROVENANCE), *ZONE, *PROVENANCE)


def valid_for() -> Query:
    """Seconds for which the average in use was still made; below 0 for so long not. Of the node that is worst off."""
    return q.lowest(q.times(SCOPE.age(x.GRID_VALID_UNTIL, signal=AVERAGE), -1), *ZONE)


def expected(**match: str) -> Query:
    """What a provider expects of a zone so many hours from now, g/kWh."""
    return q.highest(SCOPE.select(x.GRID_FORECAST, **match), *ZONE, "hours")

"""The row "Feeds": whether providers of intensities answer, and whether they take back what they said."""

from dashboards import panels as p
from dashboards import promql as q
from dashboards.grid_scope import SCOPE, ZONE
from dashboards.panels import Panel, Unit
from monitor import metrics as x


def row() -> list[Panel]:
    """Panels of the row."""
    answered = q.highest(SCOPE.select(x.GRID_FETCH_LAST_SUCCESS), "provider")
    failures = q.total(SCOPE.select(x.GRID_FETCH_FAILURES), "provider", "reason")
    zones = q.highest(SCOPE.select(x.GRID_INTENSITY), *ZONE)
    return [
        p.graph(
            "Age of last good answer",
            "Time since each provider's last good answer; of several nodes the one that waits longest. It says "
            "nothing of the age of its values (see Valid for, or stale since). Not included: providers that never "
            "answered; empty without a live feed.",
            Unit.SECOND,
            p.over_time(q.highest(SCOPE.age(x.GRID_FETCH_LAST_SUCCESS), "provider"), "{{provider}}"),
            span=8,
        ),
        p.graph(
            "Failed questions by reason",
            "Questions that gave no value, and values that were refused, since the daemons started; a line without a "
            "reason is a provider without a failure. Not included: questions that were not asked because the provider "
            "is let alone for a while. Empty without a live feed.",
            Unit.NUMBER,
            p.over_time(q.or_zero(failures, answered), "{{provider}} {{reason}}"),
            span=8,
        ),
        p.graph(
            "Revised values",
            "Values that a provider changed after the fact, since the daemon started; of several nodes the one that "
            "saw most. They change the settled figures of runs, never the live ones. Not included: a forecast that "
            "became an actual value.",
            Unit.NUMBER,
            p.over_time(q.or_zero(q.highest(SCOPE.select(x.GRID_REVISIONS), *ZONE), zones), "{{grid_zone}}"),
            span=8,
        ),
    ]

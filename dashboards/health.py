"""The row "Sensor health": whether the figures above it can be trusted, and where joules are missing."""

from dashboards import panels as p
from dashboards import promql as q
from dashboards import scope
from dashboards.panels import DEVICE, DEVICE_LEGEND, Panel, Unit
from monitor import metrics as x

SCOPE = scope.board()


def row() -> list[Panel]:
    """Panels of the row "Sensor health"."""
    source = ("instance", "source")
    failures = q.highest(SCOPE.select(x.SOURCE_FAILURES), *source, "reason")
    return [
        p.lamp(
            "Source up",
            "Whether each source of readings can be read now. Not shown: a node whose daemon is not scraped at all.",
            p.at_end(q.highest(SCOPE.select(x.SOURCE_UP), *source), "{{source}} {{instance}}"),
            span=8,
        ),
        p.figure(
            "Counter resets",
            "Times in the range that a device's hardware counter restarted: the joules of that one interval are lost. "
            "Not included: a counter that wrapped at its known end, which loses nothing.",
            Unit.NUMBER,
            p.at_end(q.total(SCOPE.increase(x.DEVICE_ENERGY_RESETS), "component"), "{{component}}"),
            span=8,
            decimals=0,
        ),
        p.figure(
            "Late ticks",
            "Turns of the loop, and reads of a source, that were skipped in the range because the one before took too "
            "long. Energy by counter is not lost by them. Not included: reads that failed.",
            Unit.NUMBER,
            p.at_end(q.total(SCOPE.increase(x.SAMPLER_LATE_TICKS)), "loop"),
            p.at_end(q.total(SCOPE.increase(x.SOURCE_LATE_READS), "source"), "{{source}}"),
            span=8,
            decimals=0,
        ),
        p.graph(
            "Age of last reading",
            "Time since each source was last read with success, at each scrape. A source that never was has no age.",
            Unit.SECOND,
            p.over_time(q.highest(SCOPE.age(x.SOURCE_LAST_SUCCESS), *source), "{{source}} {{instance}}"),
        ),
        p.graph(
            "Read duration",
            "How long the last read of all devices of a source took. Not included: reads that failed.",
            Unit.SECOND,
            p.over_time(q.highest(SCOPE.select(x.SOURCE_READ_DURATION), *source), "{{source}} {{instance}}"),
        ),
        p.graph(
            "Failed reads by reason",
            "Reads that failed since the daemon started, by reason; a line without a reason is a source that has "
            "never failed. Not included: devices that a source leaves out on purpose.",
            Unit.NUMBER,
            p.over_time(q.or_zero(failures, _sources()), "{{source}} {{reason}} {{instance}}"),
            height=10,
        ),
        p.bars(
            "Unmeasured time",
            "Time in the range in which a device's energy is unknown. It is in no total: never filled in. Not "
            "included: time in which the daemon was not scraped.",
            Unit.SECOND,
            p.at_end(q.highest(SCOPE.increase(x.DEVICE_UNMEASURED), *DEVICE), DEVICE_LEGEND),
            height=10,
        ),
    ]


def _sources() -> q.Query:
    return q.highest(SCOPE.select(x.SOURCE_UP), "instance", "source")

"""The row "Sensor health": whether the figures above it can be trusted, and where joules are missing."""

from dashboards import panels as p
from dashboards import promql as q
from dashboards import scope
from dashboards.panels import DEVICE, DEVICE_LEGEND, Panel, Unit
from monitor import metrics as x
from monitor.core.crosscheck import AGREEMENT

SCOPE = scope.board()
LATE_COMMIT_S = 3
"""After so long a snapshot is shown uncommitted."""
FEWEST_OF_A_RISE = 0.5
"""A rise by one may come out as a little less."""


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
        p.figure(
            "Ledger lag",
            "Time since the last commit, when each daemon last looked. Above 3 s (orange) what is shown may be lost "
            "with the daemon, and a counter may fall when it is started anew. Not shown: a node that is not scraped.",
            Unit.SECOND,
            p.at_end(q.highest(SCOPE.select(x.LEDGER_LAG), "instance"), "{{instance}}"),
            span=6,
            colors={LATE_COMMIT_S: "orange"},
        ),
        p.figure(
            "Failed commits",
            "Commits to the ledger that failed in the range: a full or read-only disk. What they held is not lost, but "
            "kept in memory and written when the disk allows.",
            Unit.NUMBER,
            p.at_end(q.total(SCOPE.increase(x.LEDGER_WRITE_FAILURES)), "failed"),
            span=6,
            decimals=0,
            colors={FEWEST_OF_A_RISE: "red"},
        ),
        p.figure(
            "Counter against sensor",
            "Devices whose energy counter differed from the integral of their power sensor by more than a tenth in the "
            "last whole minute: one of the two is at fault. Not included: devices without both, and those of the "
            "first minute.",
            Unit.NUMBER,
            p.at_end(q.or_zero(_disagreeing(), q.highest(SCOPE.select(x.LEDGER_LAG), "instance")), "{{instance}}"),
            span=6,
            decimals=0,
            colors={1: "orange"},
        ),
        p.figure(
            "Runs dropped, names altered",
            "Runs that were given up in the range because there were too many at once: their energy is in no run's "
            "total, but in the node's. Names, ids and tags that were cut or cleaned in the range. Not included: what "
            "was so before the range.",
            Unit.NUMBER,
            p.at_end(q.total(SCOPE.increase(x.RUNS_DROPPED)), "runs dropped"),
            p.at_end(q.total(SCOPE.increase(x.RUN_NAMES_ALTERED)), "names altered"),
            span=6,
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
        p.listing(
            "Ledgers",
            "Where each node keeps its count: file outlives the daemon; temporary goes with it, as of simulated "
            "devices; memory is lost with it, since no file could be opened. Lag as above. Not shown: nodes that are "
            "not scraped.",
            "instance",
            {"instance": "Node", "ledger": "Ledger", "state": "Kept", "Value #A": "Lag"},
            {"Lag": Unit.SECOND},
            p.rows(
                SCOPE.described(
                    q.highest(SCOPE.select(x.LEDGER_LAG), "job", "instance"), x.LEDGER_INFO, "ledger", "state"
                )
            ),
            height=5,
            decimals=1,
        ),
    ]


def _disagreeing() -> q.Query:
    """Number of devices whose cross-check is far from 1, of each node that has such."""
    ratio = SCOPE.select(x.DEVICE_ENERGY_CROSSCHECK)
    lowest, highest = AGREEMENT
    far = q.otherwise(q.compared(ratio, "<", lowest), q.compared(ratio, ">", highest))
    return q.count(far, "instance")


def _sources() -> q.Query:
    return q.highest(SCOPE.select(x.SOURCE_UP), "instance", "source")

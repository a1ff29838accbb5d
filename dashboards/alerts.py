"""Alerts on nodes: the daemon, its sources, the grid's feeds, the ledger and the devices. Figures: thresholds.py.

An alert is told once for a node (`instance`), however many jobs scrape it.
"""

from dashboards import promql as q
from dashboards import thresholds as t
from dashboards.promql import Query
from dashboards.rule import Alert, Group, Severity
from dashboards.run_alerts import RUNS
from dashboards.scope import RULES
from monitor import metrics as x

# The one place where a series is named by hand: `up` is Prometheus' own and stands on nobody's list.
SCRAPED = Query('up{job=~".*trainwatt.*"}', frozenset(q.TARGET_LABELS))
NONE_SCRAPED = Query(f"absent({SCRAPED.text})", frozenset())

_SOURCE = ("instance", "source")
_CHECK = "Run `trainwatt check` on {{ $labels.instance }}"


def _failing(reason: str) -> Query:
    """Sources whose reads fail for this reason now."""
    return q.compared(q.highest(RULES.rate(x.SOURCE_FAILURES, reason=reason), *_SOURCE), ">", 0)


def _source_failing() -> Query:
    """Down, but neither for want of a permission (an alert of its own) nor because the node never had such a sensor."""
    down = q.compared(q.highest(RULES.select(x.SOURCE_UP), *_SOURCE), "==", 0)
    never_there = q.unless(_failing("absent"), RULES.select(x.SOURCE_LAST_SUCCESS), *_SOURCE)
    return q.unless(q.unless(down, never_there, *_SOURCE), _failing("denied"), *_SOURCE)


def _source_stale() -> Query:
    """Shown as up, and yet without a reading: a source that is down is told by another alert."""
    age = q.lowest(RULES.age(x.SOURCE_LAST_SUCCESS), *_SOURCE)
    up = q.compared(q.highest(RULES.select(x.SOURCE_UP), *_SOURCE), "==", 1)
    return q.where(q.compared(age, ">", t.SOURCE_STALE_S), up, *_SOURCE)


def _told_ago() -> Query:
    """Age of the end of the interval in use; absent for a yearly value."""
    return q.lowest(RULES.age(x.GRID_VALID_UNTIL, signal="average"), "instance", "grid_zone")


def _on_fallback() -> Query:
    """Zones at a yearly or long carried value, on nodes that have somebody to ask for averages."""
    zone = ("instance", "grid_zone")
    yearly = q.highest(RULES.select(x.GRID_INTENSITY_INFO, signal="average", quality="static"), *zone)
    carried = q.highest(RULES.select(x.GRID_INTENSITY_INFO, signal="average", quality="carried"), *zone)
    for_long = q.where(carried, q.compared(_told_ago(), ">", t.CARRIED_S), *zone)
    asks = q.unless(_asked(), _asked(provider=t.MARGINAL_ONLY))
    return q.where(q.otherwise(yearly, for_long), asks, "instance")


def _asked(**match: tuple[str, ...]) -> Query:
    """Providers that a node has asked."""
    failed, answered = RULES.select(x.GRID_FETCH_FAILURES, **match), RULES.select(x.GRID_FETCH_LAST_SUCCESS, **match)
    return q.otherwise(q.highest(failed, "instance", "provider"), q.highest(answered, "instance", "provider"))


DAEMON = (
    Alert(
        name="TrainwattDaemonDown",
        when="no job gets an answer from the daemon",
        query=q.compared(q.highest(SCRAPED, "instance"), "==", 0),
        lasts=t.DAEMON_AWAY,
        severity=Severity.CRITICAL,
        summary="trainwatt on {{ $labels.instance }} does not answer.",
        remedy="See why on that node (`systemctl status trainwatt` where it is a service) and start it again. Joules "
        "of devices with a counter of their own are booked when it is back; those of the others are lost.",
    ),
    Alert(
        name="TrainwattNotScraped",
        when="Prometheus has no target whose job is called trainwatt",
        query=NONE_SCRAPED,
        lasts=t.DAEMON_AWAY,
        severity=Severity.WARNING,
        summary="Prometheus scrapes no trainwatt.",
        remedy="Look at Status > Targets of Prometheus: the scrape job or the discovery of nodes is gone, or its name "
        "does not contain trainwatt.",
    ),
)

SOURCES = (
    Alert(
        name="TrainwattSourceFailing",
        when="a source that was read, or broke, is down; one that the node never had is not",
        query=_source_failing(),
        lasts=t.SOURCE_DOWN,
        severity=Severity.WARNING,
        summary="Source {{ $labels.source }} on {{ $labels.instance }} cannot be read.",
        remedy=f"{_CHECK}: it says what is wrong and the remedy. If the source was released for a driver upgrade, "
        "`trainwatt resume {{ $labels.source }}` opens it again.",
    ),
    Alert(
        name="TrainwattSourceStale",
        when=f"a source that is up has told nothing for {t.SOURCE_STALE_S:.0f} s; one that never told anything is "
        "silent",
        query=_source_stale(),
        lasts="1m",
        severity=Severity.WARNING,
        summary="Source {{ $labels.source }} on {{ $labels.instance }} has told nothing for "
        "{{ $value | humanizeDuration }}.",
        remedy=f"{_CHECK}. If the sources are well there, the daemon stands still: restart it.",
    ),
    Alert(
        name="TrainwattSensorDenied",
        when="a sensor that is there may not be read (for RAPL: the counters under powercap are root's only)",
        query=_failing("denied"),
        lasts=t.DENIED,
        severity=Severity.WARNING,
        summary="trainwatt on {{ $labels.instance }} is denied a sensor, seen while it reads {{ $labels.source }}.",
        remedy=f"{_CHECK}: it names the sensor and the permission. For RAPL give the service "
        "AmbientCapabilities=CAP_DAC_READ_SEARCH, or let a udev rule make energy_uj readable for its group.",
    ),
    Alert(
        name="TrainwattEnergyUnmeasured",
        when=f"of more than {t.UNMEASURED_RATIO:.0%} of the last hour the energy of a device is unknown",
        query=q.compared(
            q.highest(RULES.rate(x.DEVICE_UNMEASURED, over="1h"), "instance", "device"), ">", t.UNMEASURED_RATIO
        ),
        lasts="5m",
        severity=Severity.WARNING,
        summary="The energy of {{ $labels.device }} on {{ $labels.instance }} is unknown for "
        "{{ $value | humanizePercentage }} of the last hour.",
        remedy=f"{_CHECK}. What is unmeasured is in no total and cannot be recovered: say so where the runs of this "
        "time are reported.",
    ),
)

GRID = (
    Alert(
        name="TrainwattFeedStale",
        when=f"the interval of the intensity in use ended {t.INTERVAL_ENDED_S / 3600:.0f} h ago",
        query=q.compared(_told_ago(), ">", t.INTERVAL_ENDED_S),
        lasts="5m",
        severity=Severity.WARNING,
        summary="The carbon intensity of {{ $labels.grid_zone }} on {{ $labels.instance }} is of "
        "{{ $value | humanizeDuration }} ago.",
        remedy=f"{_CHECK}: it asks each feed once and says what comes back. Name a second provider in `feeds` if this "
        "one has stopped. Grams settle by later values as far as they come.",
    ),
    Alert(
        name="TrainwattFeedSilent",
        when=f"none of a node's providers has answered for {t.FEED_SILENT_S / 3600:.0f} h",
        query=q.compared(q.lowest(RULES.age(x.GRID_FETCH_LAST_SUCCESS), "instance"), ">", t.FEED_SILENT_S),
        lasts="5m",
        severity=Severity.WARNING,
        summary="No provider of carbon intensity has answered {{ $labels.instance }} for "
        "{{ $value | humanizeDuration }}.",
        remedy=f"{_CHECK}: it tells a missing network or proxy from a wrong key.",
    ),
    Alert(
        name="TrainwattGridOnFallback",
        when=f"grams are priced by a yearly value, or one carried for over {t.CARRIED_S / 3600:.0f} h, though somebody "
        "is asked",
        query=_on_fallback(),
        lasts=t.FALLBACK,
        severity=Severity.WARNING,
        summary="Energy in {{ $labels.grid_zone }} is priced by a stand-in on {{ $labels.instance }}: no provider "
        "tells the present.",
        remedy=f"{_CHECK}: the feed's line says why. Grams of this time are labelled static or carried, and settle "
        "when the feed returns within what it keeps.",
    ),
)

DEVICES = (
    Alert(
        name="TrainwattPowerNearLimit",
        when=f"a device draws over {t.NEAR_LIMIT_RATIO:.0%} of the limit in force",
        query=q.compared(
            q.ratio(
                q.highest(RULES.select(x.DEVICE_POWER), "instance", "device"),
                q.highest(RULES.select(x.DEVICE_POWER_LIMIT), "instance", "device"),
            ),
            ">",
            t.NEAR_LIMIT_RATIO,
        ),
        lasts=t.NEAR_LIMIT,
        severity=Severity.INFO,
        summary="{{ $labels.device }} on {{ $labels.instance }} is at {{ $value | humanizePercentage }} of its power "
        "limit.",
        remedy="No fault: its limit slows it down. Compare energy per step at another limit (`nvidia-smi -pl WATTS`) "
        "if speed or energy matters.",
    ),
    Alert(
        name="TrainwattDeviceThrottled",
        when=f"for over {t.THROTTLED_RATIO:.0%} of the time a device is slowed down by {', '.join(t.FAULTS)}; the "
        "configured power limit is no fault",
        query=q.compared(
            q.highest(RULES.rate(x.DEVICE_THROTTLED, reason=t.FAULTS), "instance", "device", "reason"),
            ">",
            t.THROTTLED_RATIO,
        ),
        lasts="10m",
        severity=Severity.WARNING,
        summary="{{ $labels.device }} on {{ $labels.instance }} is slowed down for {{ $value | humanizePercentage }} "
        "of the time ({{ $labels.reason }}).",
        remedy="Run `nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER` on {{ $labels.instance }}. thermal: see to fans, "
        "air flow and cooling water; board_limit: to the board's power supply; reliability: have the board looked at.",
    ),
)

LEDGER = (
    Alert(
        name="TrainwattLedgerLate",
        when=f"the last commit is over {t.LEDGER_LAG_S:.0f} s ago",
        query=q.compared(q.highest(RULES.select(x.LEDGER_LAG), "instance"), ">", t.LEDGER_LAG_S),
        lasts="1m",
        severity=Severity.WARNING,
        summary="The ledger of {{ $labels.instance }} is {{ $value | humanizeDuration }} behind.",
        remedy="The page and the log of trainwatt on {{ $labels.instance }} say why: free space on its disk, or move "
        "--state-dir to a faster one. Until then a crash loses what is not written.",
    ),
    Alert(
        name="TrainwattLedgerWriteFailures",
        when="commits fail again and again",
        query=q.compared(q.highest(RULES.rate(x.LEDGER_WRITE_FAILURES), "instance"), ">", 0),
        lasts="10m",
        severity=Severity.CRITICAL,
        summary="The ledger of {{ $labels.instance }} cannot be written.",
        remedy="The page and the log of trainwatt on {{ $labels.instance }} say why: free space on its disk, or make "
        "--state-dir writable. What is metered meanwhile is kept in memory and written then.",
    ),
    Alert(
        name="TrainwattLedgerInMemory",
        when="no ledger could be opened: totals end with the daemon",
        query=q.highest(RULES.select(x.LEDGER_INFO, state="memory"), "instance"),
        lasts="5m",
        severity=Severity.CRITICAL,
        summary="trainwatt on {{ $labels.instance }} counts in memory only.",
        remedy="The page and the log of trainwatt on {{ $labels.instance }} say why: make --state-dir a writable "
        "directory on a local disk and restart it. Totals of its runs are lost with the daemon.",
    ),
)

GROUPS = (
    Group("trainwatt.alerts.nodes", (*DAEMON, *SOURCES, *DEVICES, *LEDGER)),
    Group("trainwatt.alerts.grid", GRID),
    Group("trainwatt.alerts.runs", RUNS),
)

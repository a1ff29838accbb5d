"""The dashboard "trainwatt / Fleet": all chosen nodes together: what they draw, use, emit and cost, and for whom.

Every description says what is in the figure and what is not. Methods and bases are never added up.
"""

from grafana_foundation_sdk.models import dashboard as m

from dashboards import board, carbon, fleet_month, fleet_runs, scope
from dashboards import panels as p
from dashboards import promql as q
from dashboards.panels import Panel, Unit
from monitor import metrics as x

UID = "trainwatt-fleet"
SCOPE = scope.board()
NOT_MEASURED = "Not included: parts without a sensor, such as fans, network, disks and power supply losses."


def build() -> m.Dashboard:
    """The whole board in Grafana's classic model."""
    rows = {
        "Now": _now(),
        "In the time range": _in_range(),
        "Over time": _over_time(),
        "This month": fleet_month.row(),
        "Runs, and whose they are": fleet_runs.row(),
    }
    description = "Power, energy, CO2e and cost of all nodes that trainwatt meters, by node, project, user and run."
    return board.build(UID, "Fleet", description, SCOPE, rows, since="now-24h", refresh="1m", shaded=False)


def _now() -> list[Panel]:
    up = q.highest(SCOPE.select(x.BUILD_INFO), "instance")
    seen = q.highest(SCOPE.last_over_time(x.BUILD_INFO), "instance")
    active = q.count(q.compared(q.highest(SCOPE.select(x.RUN_ACTIVE), "run"), "==", 1))
    return [
        p.figure(
            "Power now",
            "Sum of the disjoint parts of the chosen nodes that have a sensor and tell their power now. "
            f"{NOT_MEASURED}",
            Unit.WATT,
            p.at_end(q.total(SCOPE.select(x.NODE_MEASURED_POWER)), "measured parts"),
            span=5,
        ),
        p.figure(
            "Nodes",
            "Nodes whose daemon is scraped now, beside those that were seen in the time range: of the others nothing "
            "is known now. Not counted: nodes that were never scraped in it. One that changed its address counts twice "
            "among those seen.",
            Unit.NUMBER,
            p.at_end(q.count(up), "up"),
            p.at_end(q.count(seen), "seen in range"),
            span=5,
            decimals=0,
        ),
        p.figure(
            "Active runs",
            "Runs that go on now on any chosen node; one on several nodes counts once. Not included: runs that nobody "
            "registered and that have no work on a GPU.",
            Unit.NUMBER,
            p.at_end(q.or_zero(active, q.count(up)), "runs"),
            decimals=0,
        ),
        p.figure(
            "Grid intensity",
            "Average carbon intensity of each grid zone in use now, with its provider, basis (lifecycle or direct) and "
            "quality. Nodes that price by different values stand side by side. Marginal intensity is not shown. Empty "
            "when no zone is set.",
            Unit.GRAMS_PER_KILOWATTHOUR,
            p.at_end(
                q.highest(carbon.intensity(), "grid_zone", "provider", "basis", "quality"),
                "{{grid_zone}}, {{provider}}, {{basis}}, {{quality}}",
            ),
            span=10,
            decimals=0,
        ),
    ]


def _in_range() -> list[Panel]:
    unattributed_j = q.total(SCOPE.increase(x.DEVICE_UNATTRIBUTED_ENERGY))
    idle = q.ratio(SCOPE.exact(x.RUN_IDLE_ENERGY), SCOPE.exact(x.RUN_ENERGY))
    return [
        p.figure(
            "Energy in range",
            "Rise of the nodes' energy counters over the time range, by how it is known; these are never merged. Up to "
            f"two scrape intervals at each edge may be missing; This month is exact. {NOT_MEASURED}",
            Unit.KILOWATTHOUR,
            p.at_end(q.kilowatthours(q.total(SCOPE.increase(x.NODE_MEASURED_ENERGY), "method")), "{{method}}"),
        ),
        p.figure(
            "CO2e in range",
            "Energy of the nodes over the time range x PUE, at the grid intensity known when it was used "
            "(location-based, live: not re-priced). By basis and method, which are never added up. Not included: "
            "energy without a known intensity, making the hardware, parts without a sensor.",
            Unit.GRAM,
            p.at_end(q.total(SCOPE.increase(x.NODE_EMISSIONS), "basis", "method"), "{{basis}}, {{method}}"),
            span=5,
        ),
        p.figure(
            "Energy by owner",
            "Energy of all devices over the time range: charged to runs, or held by no run. Pending is a level, not a "
            "rise: what waits now, up to 15 s, until its owner is known.",
            Unit.KILOWATTHOUR,
            p.at_end(q.kilowatthours(q.total(SCOPE.increase(x.DEVICE_ATTRIBUTED_ENERGY))), "of runs"),
            p.at_end(q.kilowatthours(unattributed_j), "unattributed"),
            p.at_end(q.kilowatthours(q.total(SCOPE.select(x.DEVICE_PENDING_ENERGY))), "pending now"),
            span=6,
        ),
        p.figure(
            "Idle and unattributed",
            "Unattributed: share of the energy of all devices in the range that no run held. Idle: share of the energy "
            "of the runs seen in the range, since their start, that their devices would have used idle; too low where "
            "idle power is not known of all of them, and not shown where it is known of none.",
            Unit.RATIO,
            p.at_end(q.ratio(unattributed_j, q.total(SCOPE.increase(x.DEVICE_ENERGY))), "unattributed"),
            p.at_end(idle, "idle in runs"),
            decimals=1,
        ),
        p.figure(
            "Coverage",
            "How much of the device time of the least measured run seen in the range a sensor told; and the time in "
            "the range in which the energy of a device is unknown, all devices together. Unmeasured energy is in no "
            "total: never filled in. Not included: time in which no daemon ran.",
            Unit.RATIO,
            p.at_end(q.lowest(SCOPE.last_over_time(x.RUN_MEASURED_TIME)), "least measured run"),
            p.at_end(q.total(SCOPE.increase(x.DEVICE_UNMEASURED)), "unmeasured device time"),
            span=5,
            decimals=1,
            units={"B": Unit.SECOND},
        ),
    ]


def _over_time() -> list[Panel]:
    return [
        p.stacked(
            "Power by node",
            "Power of the disjoint parts of each node that have a sensor, as it was at each scrape; what happens "
            f"between two scrapes is not in it. {NOT_MEASURED}",
            Unit.WATT,
            p.over_time(q.highest(SCOPE.select(x.NODE_MEASURED_POWER), "instance"), "{{instance}}"),
            beside=True,
        ),
        p.stacked(
            "Power by project",
            "Rate of the energy charged to each project's runs, by how it is known: mean power over each step. `none` "
            "is of runs without a project. Not included: energy that no run held.",
            Unit.WATT,
            p.over_time(q.total(SCOPE.rate(x.PROJECT_ENERGY), "project", "method"), "{{project}}, {{method}}"),
            beside=True,
        ),
        p.graph(
            "CO2e rate by node",
            "Emission per hour of each node's energy x PUE, at the intensity known when it was used. By basis and "
            "method: lines of two of either are never to be added up. Not included: energy without a known intensity, "
            "making the hardware.",
            Unit.GRAMS_PER_HOUR,
            p.over_time(
                q.hourly(q.total(SCOPE.rate(x.NODE_EMISSIONS), "instance", "basis", "method")),
                "{{instance}}, {{basis}}, {{method}}",
            ),
            beside=True,
        ),
        p.graph(
            "CO2e rate by project",
            "Emission per hour of each project's runs, at the intensity known when the energy was used. By basis and "
            "method: lines of two of either are never to be added up. Not included: energy that no run held.",
            Unit.GRAMS_PER_HOUR,
            p.over_time(
                q.hourly(q.total(SCOPE.rate(x.PROJECT_EMISSIONS), "project", "basis", "method")),
                "{{project}}, {{basis}}, {{method}}",
            ),
            beside=True,
        ),
    ]

"""The dashboard "trainwatt / Node": what one node, or the chosen ones together, draw, use and emit, and who used it.

Every description says what is in the figure and what is not. Methods and bases are never added up.
"""

from grafana_foundation_sdk.models import dashboard as m

from dashboards import board, carbon, health, scope
from dashboards import panels as p
from dashboards import promql as q
from dashboards.panels import DEVICE, DEVICE_LEGEND, Panel, Unit
from monitor import metrics as x

UID = "trainwatt-node"
SCOPE = scope.board()
NOT_MEASURED = "Not included: parts without a sensor, such as fans, network, disks and power supply losses."


def build() -> m.Dashboard:
    """The whole board in Grafana's classic model."""
    rows = {
        "Now": _now(),
        "Power": _power(),
        "GPUs": _gpus(),
        "Energy": _energy(),
        "Runs on this node": _runs(),
        "Carbon": carbon.row(),
        "Sensor health": health.row(),
    }
    description = "Power, energy and CO2e of machine-learning nodes, as metered by trainwatt."
    return board.build(UID, "Node", description, SCOPE, rows)


def _now() -> list[Panel]:
    return [
        p.figure(
            "Power now",
            "Sum of the disjoint parts of the chosen nodes that have a sensor and tell their power now. "
            f"{NOT_MEASURED}",
            Unit.WATT,
            p.at_end(q.total(SCOPE.select(x.NODE_MEASURED_POWER)), "measured parts"),
        ),
        p.figure(
            "Energy in range",
            "Rise of the nodes' energy counters over the time range, by how it is known: counter (the hardware's own), "
            "integrated (from power readings), estimated, simulated. These are never merged. Up to two scrape "
            f"intervals at each edge may be missing; reports are exact. {NOT_MEASURED}",
            Unit.KILOWATTHOUR,
            p.at_end(q.kilowatthours(q.total(SCOPE.increase(x.NODE_MEASURED_ENERGY), "method")), "{{method}}"),
            span=5,
        ),
        p.figure(
            "CO2e in range",
            "Measured energy over the time range x PUE, at the grid intensity known when it was used (location-based, "
            "live: not re-priced). By basis and method, which are never added up. Not included: energy without a known "
            "intensity, making the hardware, parts without a sensor.",
            Unit.GRAM,
            p.at_end(q.total(SCOPE.increase(x.NODE_EMISSIONS), "basis", "method"), "{{basis}}, {{method}}"),
            span=5,
        ),
        p.figure(
            "Grid intensity",
            "Average carbon intensity of the grid zone in use now: the figure that energy is priced with, with its "
            "basis (lifecycle or direct) and quality. Marginal intensity is not shown. Empty when no zone is set.",
            Unit.GRAMS_PER_KILOWATTHOUR,
            p.at_end(
                q.highest(carbon.intensity(), "grid_zone", "basis", "quality"), "{{grid_zone}}, {{basis}}, {{quality}}"
            ),
            span=5,
            decimals=0,
        ),
        p.figure(
            "Devices with watts",
            "Devices that tell their power now, beside all devices that were found. A device that cannot be read "
            "loses its watts and keeps its joules. Not included: parts that overlap others.",
            Unit.NUMBER,
            p.at_end(q.count(SCOPE.select(x.DEVICE_POWER)), "with watts"),
            p.at_end(q.count(SCOPE.select(x.DEVICE_INFO)), "found"),
            span=5,
            decimals=0,
        ),
    ]


def _power() -> list[Panel]:
    return [
        p.stacked(
            "Power by device",
            "Mean power over the last second or interval, as it was at each scrape; what happens between two scrapes "
            f"is not in it. The devices are disjoint parts. {NOT_MEASURED}",
            Unit.WATT,
            p.over_time(q.highest(SCOPE.select(x.DEVICE_POWER), *DEVICE), DEVICE_LEGEND),
            height=10,
            beside=True,
        ),
        p.stacked(
            "Power by component",
            "Rate of the nodes' energy counters: mean power over each step, with everything between two scrapes. "
            f"Disjoint parts, each with how it is known. {NOT_MEASURED}",
            Unit.WATT,
            p.over_time(
                q.total(SCOPE.rate(x.NODE_MEASURED_ENERGY), "component", "method"), "{{component}}, {{method}}"
            ),
            height=10,
        ),
    ]


def _gpus() -> list[Panel]:
    power = _gpu(x.DEVICE_POWER)
    limit = _gpu(x.DEVICE_POWER_LIMIT)
    return [
        p.graph(
            "GPU power against limit",
            "Power of each GPU divided by the lowest power limit in force. Not included: GPUs that tell no limit. "
            "Near 100 % the GPU is slowed down by its limit.",
            Unit.RATIO,
            p.over_time(q.ratio(power, limit), DEVICE_LEGEND),
            beside=True,
        ),
        p.graph(
            "GPU utilisation",
            "Share of the time in which any work was resident on the GPU. It says nothing about how much of the GPU "
            "the work used, and is not proportional to power.",
            Unit.RATIO,
            p.over_time(_gpu(x.DEVICE_UTILIZATION), DEVICE_LEGEND),
            beside=True,
        ),
        p.graph(
            "GPU temperature",
            "Temperature of each GPU's die, as the driver tells it. Not included: its memory, which may be hotter.",
            Unit.CELSIUS,
            p.over_time(_gpu(x.DEVICE_TEMPERATURE), DEVICE_LEGEND),
            beside=True,
        ),
        p.graph(
            "GPU memory used",
            "Memory in use on each GPU by all processes and the driver. Not included: the host's memory.",
            Unit.BYTE,
            p.over_time(_gpu(x.DEVICE_MEMORY_USED), DEVICE_LEGEND),
            beside=True,
        ),
        p.graph(
            "GPU throttling",
            "Share of the time in which each GPU was slowed down, by the reason that its driver gives: power, thermal "
            "and others. Several reasons may hold at once, so they are never added up. Not included: GPUs whose "
            "driver counts no such time; a GPU that is slow for want of work.",
            Unit.RATIO,
            p.over_time(
                q.highest(SCOPE.rate(x.DEVICE_THROTTLED), "instance", "device", "reason"),
                "{{reason}}: " + DEVICE_LEGEND,
            ),
            span=18,
            beside=True,
        ),
        p.figure(
            "Idle power",
            "Sum of the lowest mean powers at which the devices were seen without a process and without utilisation, "
            "by component: what they draw when nothing runs. Not included: devices that were never seen idle, which "
            "are counted beside it.",
            Unit.WATT,
            p.at_end(q.total(SCOPE.select(x.DEVICE_IDLE_POWER), "component"), "{{component}}"),
            p.at_end(
                q.count(q.unless(SCOPE.select(x.DEVICE_INFO), SCOPE.select(x.DEVICE_IDLE_POWER))), "never seen idle"
            ),
            span=6,
            height=8,
            units={"B": Unit.NUMBER},
        ),
    ]


def _gpu(metric: x.Metric) -> q.Query:
    return q.highest(SCOPE.select(metric, component="gpu"), *DEVICE)


def _energy() -> list[Panel]:
    return [
        p.bars(
            "Energy by device",
            "Rise of each device's energy counter over the time range. Not included: time in which the device could "
            "not be read (see Unmeasured time), and parts without a sensor.",
            Unit.KILOWATTHOUR,
            p.at_end(
                q.kilowatthours(q.highest(SCOPE.increase(x.DEVICE_ENERGY), *DEVICE, "method")),
                DEVICE_LEGEND + ", {{method}}",
            ),
            height=10,
            span=14,
        ),
        p.bars(
            "Energy by owner",
            "Energy of all devices over the time range: charged to runs, or held by no run. Pending is a level, not a "
            "rise: what waits now, up to 15 s, until its owner is known. The three together are the devices' energy.",
            Unit.KILOWATTHOUR,
            p.at_end(q.kilowatthours(q.total(SCOPE.increase(x.DEVICE_ATTRIBUTED_ENERGY))), "attributed to runs"),
            p.at_end(q.kilowatthours(q.total(SCOPE.increase(x.DEVICE_UNATTRIBUTED_ENERGY))), "unattributed"),
            p.at_end(q.kilowatthours(q.total(SCOPE.select(x.DEVICE_PENDING_ENERGY))), "pending now"),
            height=10,
            span=10,
        ),
    ]


def _runs() -> list[Panel]:
    return [
        p.stacked(
            "Power by run",
            "Rate of the energy charged to each run on the chosen nodes. Shares of one device are disjoint, so the "
            "runs may be stacked. Not included: energy that no run held, and the run's part on other nodes.",
            Unit.WATT,
            p.over_time(q.total(SCOPE.rate(x.RUN_ENERGY), "run"), "{{run}}"),
            span=p.FULL_WIDTH,
        ),
        p.listing(
            "Runs",
            "Exact totals since each run's start (not only of the time range) on the chosen nodes, as of the last "
            "scrape, for every run seen in the range. CO2e is live and location-based, one column a basis; bases are "
            "never added up. A run's id leads to its own board. Not included: other nodes of the run, and energy "
            "without a known intensity.",
            "run",
            {
                "run": "Run",
                "name": "Name",
                "user": "User",
                "Value #A": "Energy",
                "Value #B": "CO2e, lifecycle",
                "Value #C": "CO2e, direct",
                "Value #D": "CO2e, unknown basis",
            },
            {
                "Energy": Unit.KILOWATTHOUR,
                "CO2e, lifecycle": Unit.GRAM,
                "CO2e, direct": Unit.GRAM,
                "CO2e, unknown basis": Unit.GRAM,
            },
            p.rows(
                SCOPE.described(
                    q.kilowatthours(SCOPE.exact(x.RUN_ENERGY, "run")), x.RUN_INFO, "name", "user", ended=True
                )
            ),
            *(p.rows(_run_grams(basis)) for basis in ("lifecycle", "direct", "unknown")),
            links={"Run": p.board_of("trainwatt-run", "run")},
        ),
    ]


def _run_grams(basis: str) -> q.Query:
    return SCOPE.exact(x.RUN_EMISSIONS, "run", basis=basis)

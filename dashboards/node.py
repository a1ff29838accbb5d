"""The dashboard "trainwatt / Node": what one node, or the chosen ones together, draw, use and emit, and who used it.

Every description says what is in the figure and what is not. Methods and bases are never added up.
"""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as m

from dashboards import carbon, health
from dashboards import panels as p
from dashboards import promql as q
from dashboards.panels import DEVICE, DEVICE_LEGEND, Panel, Unit
from monitor import metrics as x

UID = "trainwatt-node"
RUN_COUNT = ("run", "ledger", "component", "method", "share")
"""What identifies one count of a run, whoever scraped it and from whichever address."""
RUN_GRAMS = ("run", "ledger", "method", "basis", "quality")
NOT_MEASURED = "Not included: parts without a sensor, such as fans, network, disks and power supply losses."


def build() -> m.Dashboard:
    """The whole board in Grafana's classic model."""
    board = (
        dashboard.Dashboard("trainwatt / Node")
        .uid(UID)
        .description("Power, energy and CO2e of machine-learning nodes, as metered by trainwatt.")
        .tags(["trainwatt", "energy", "carbon"])
        .readonly()
        .tooltip(m.DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_choice("job", "Job", q.label_values(x.BUILD_INFO, "job")))
        .with_variable(_choice("instance", "Instance", q.label_values(x.BUILD_INFO, "instance", "job")))
    )
    rows = {
        "Now": _now(),
        "Power": _power(),
        "GPUs": _gpus(),
        "Energy": _energy(),
        "Runs on this node": _runs(),
        "Carbon": carbon.row(),
        "Sensor health": health.row(),
    }
    for title, row in rows.items():
        board = board.with_row(dashboard.Row(title))
        for panel in row:
            board = board.with_panel(panel)
    built = board.build()
    for number, placed in enumerate(built.panels or (), start=1):
        placed.id_val = number  # the SDK leaves them out; links to a panel need one that stays
    return built


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable(name).label(label).query(query).datasource(p.DATASOURCE).all_value(".+")
    return variable.refresh(m.VariableRefresh.ON_TIME_RANGE_CHANGED).multi(multi=True).include_all(include_all=True)


def _now() -> list[Panel]:
    return [
        p.figure(
            "Power now",
            "Sum of the disjoint parts of the chosen nodes that have a sensor and tell their power now. "
            f"{NOT_MEASURED}",
            Unit.WATT,
            p.at_end(q.total(q.select(x.NODE_MEASURED_POWER)), "measured parts"),
        ),
        p.figure(
            "Energy in range",
            "Rise of the nodes' energy counters over the time range, by how it is known: counter (the hardware's own), "
            "integrated (from power readings), estimated, simulated. These are never merged. Up to two scrape "
            f"intervals at each edge may be missing; reports are exact. {NOT_MEASURED}",
            Unit.KILOWATTHOUR,
            p.at_end(q.kilowatthours(q.total(q.increase(x.NODE_MEASURED_ENERGY), "method")), "{{method}}"),
            span=5,
        ),
        p.figure(
            "CO2e in range",
            "Measured energy over the time range x PUE, at the grid intensity known when it was used (location-based, "
            "live: not re-priced). By basis and method, which are never added up. Not included: energy without a known "
            "intensity, making the hardware, parts without a sensor.",
            Unit.GRAM,
            p.at_end(q.total(q.increase(x.NODE_EMISSIONS), "basis", "method"), "{{basis}}, {{method}}"),
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
            p.at_end(q.count(q.select(x.DEVICE_POWER)), "with watts"),
            p.at_end(q.count(q.select(x.DEVICE_INFO)), "found"),
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
            p.over_time(q.highest(q.select(x.DEVICE_POWER), *DEVICE), DEVICE_LEGEND),
            height=10,
            beside=True,
        ),
        p.stacked(
            "Power by component",
            "Rate of the nodes' energy counters: mean power over each step, with everything between two scrapes. "
            f"Disjoint parts, each with how it is known. {NOT_MEASURED}",
            Unit.WATT,
            p.over_time(q.total(q.rate(x.NODE_MEASURED_ENERGY), "component", "method"), "{{component}}, {{method}}"),
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
    ]


def _gpu(metric: x.Metric) -> q.Query:
    return q.highest(q.select(metric, component="gpu"), *DEVICE)


def _energy() -> list[Panel]:
    return [
        p.bars(
            "Energy by device",
            "Rise of each device's energy counter over the time range. Not included: time in which the device could "
            "not be read (see Unmeasured time), and parts without a sensor.",
            Unit.KILOWATTHOUR,
            p.at_end(
                q.kilowatthours(q.highest(q.increase(x.DEVICE_ENERGY), *DEVICE, "method")),
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
            p.at_end(q.kilowatthours(q.total(q.increase(x.DEVICE_ATTRIBUTED_ENERGY))), "attributed to runs"),
            p.at_end(q.kilowatthours(q.total(q.increase(x.DEVICE_UNATTRIBUTED_ENERGY))), "unattributed"),
            p.at_end(q.kilowatthours(q.total(q.select(x.DEVICE_PENDING_ENERGY))), "pending now"),
            height=10,
            span=10,
        ),
    ]


def _runs() -> list[Panel]:
    energy = q.total(q.highest(q.last_over_time(x.RUN_ENERGY), *RUN_COUNT), "run")
    return [
        p.stacked(
            "Power by run",
            "Rate of the energy charged to each run on the chosen nodes. Shares of one device are disjoint, so the "
            "runs may be stacked. Not included: energy that no run held, and the run's part on other nodes.",
            Unit.WATT,
            p.over_time(q.total(q.rate(x.RUN_ENERGY), "run"), "{{run}}"),
            span=p.FULL_WIDTH,
        ),
        p.listing(
            "Runs",
            "Exact totals since each run's start (not only of the time range) on the chosen nodes, as of the last "
            "scrape, for every run seen in the range. CO2e is live and location-based, one column a basis; bases are "
            "never added up. Not included: other nodes of the run, and energy without a known intensity.",
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
            p.rows(q.described(q.kilowatthours(energy), x.RUN_INFO, "name", "user", ended=True)),
            *(p.rows(_run_grams(basis)) for basis in ("lifecycle", "direct", "unknown")),
        ),
    ]


def _run_grams(basis: str) -> q.Query:
    return q.total(q.highest(q.last_over_time(x.RUN_EMISSIONS, basis=basis), *RUN_GRAMS), "run")

"""The rows of the board "Run" about power: of the run, of each of its nodes and of the GPUs that it holds."""

from dashboards import panels as p
from dashboards import promql as q
from dashboards import run_queries as r
from dashboards.panels import Panel, Unit
from dashboards.run_queries import HELD_LEGEND, SCOPE
from monitor import metrics as x


def row() -> list[Panel]:
    """Panels of the row "Power"."""
    return [
        p.graph(
            "Power of the run",
            "Power of the devices that the run holds on all chosen nodes, of a shared one its share, as it was at each "
            "scrape; and the part of it that the devices would draw idle, over each step. Not shown: the idle part "
            "where no device's idle power is known.",
            Unit.WATT,
            p.over_time(q.over_ledgers(SCOPE.select(x.RUN_POWER), "run"), "{{run}}"),
            p.over_time(q.over_ledgers(SCOPE.rate(x.RUN_IDLE_ENERGY), "run"), "{{run}}: idle part"),
            beside=True,
        ),
        p.graph(
            "GPU power and limit",
            "Energy of the run's GPUs over each step, beside the sum of the power limits in force of all GPUs that it "
            "holds. Of a shared GPU the run has a part of the power and the whole of the limit. Not included: the "
            "limits of GPUs that tell none.",
            Unit.WATT,
            p.over_time(q.over_ledgers(SCOPE.rate(x.RUN_ENERGY, component=r.GPUS), "run"), "{{run}}: GPUs"),
            p.over_time(q.over_ledgers(r.held(x.DEVICE_POWER_LIMIT), "run"), "{{run}}: limit"),
            beside=True,
        ),
    ]


def nodes() -> list[Panel]:
    """Panels of the row "Nodes side by side"."""
    energy_j = SCOPE.described(r.energy_j("ledger"), x.LEDGER_INFO, "instance", ended=True)
    return [
        p.graph(
            "Power by node",
            "Power of the devices that the run holds on each node, as it was at each scrape. A node that stays below "
            "the others may wait for them, or have less of the run. Not included: nodes that are not chosen.",
            Unit.WATT,
            p.over_time(q.highest(SCOPE.select(x.RUN_POWER), "run", "instance"), "{{instance}}: {{run}}"),
            beside=True,
        ),
        p.bars(
            "Energy by node",
            "Exact energy of the run on each node since its start, not only of the time range. A node that has changed "
            "its address has its energy under one of the two.",
            Unit.KILOWATTHOUR,
            p.at_end(q.kilowatthours(q.total(energy_j, "run", "instance")), "{{run}}: {{instance}}"),
        ),
    ]


def gpus() -> list[Panel]:
    """Panels of the row "GPUs that it holds"."""
    power = r.held(x.DEVICE_POWER)
    return [
        p.graph(
            "Power of held GPUs",
            "Whole power of each GPU that the run holds, also where other runs hold it, too: so lines of two runs may "
            "be of one GPU and are never to be added up.",
            Unit.WATT,
            p.over_time(r.numbered(power), HELD_LEGEND),
            beside=True,
        ),
        p.graph(
            "Utilisation of held GPUs",
            "Share of the time in which any work was resident on the GPU, also that of others. It says nothing about "
            "how much of the GPU the work used, and is not proportional to power.",
            Unit.RATIO,
            p.over_time(r.numbered(r.held(x.DEVICE_UTILIZATION)), HELD_LEGEND),
            beside=True,
        ),
        p.graph(
            "Power of held GPUs against limit",
            "Power of each GPU that the run holds by the lowest limit in force: near 100 % the limit slows it down. "
            "Not included: GPUs that tell no limit.",
            Unit.RATIO,
            p.over_time(r.numbered(q.ratio(power, r.held(x.DEVICE_POWER_LIMIT))), HELD_LEGEND),
            beside=True,
        ),
        p.graph(
            "Temperature of held GPUs",
            "Temperature of each GPU's die, as the driver tells it. Not included: its memory, which may be hotter.",
            Unit.CELSIUS,
            p.over_time(r.numbered(r.held(x.DEVICE_TEMPERATURE)), HELD_LEGEND),
            beside=True,
        ),
    ]

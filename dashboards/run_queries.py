"""What the rows of the board "Run" have in common: its scope, and the queries that several of them ask."""

from dashboards import promql as q
from dashboards import scope
from dashboards.promql import Query
from monitor import metrics as x
from monitor.metrics import Metric

SCOPE = scope.board("run")
GPUS = ("gpu", "module")
"""Components of a run's GPUs: a module is the reading where the GPU in it has none."""
HELD = ("run", "ledger", "instance", "device")
HELD_LEGEND = "{{instance}} {{index}}: {{run}}"
BASES = ("lifecycle", "direct", "unknown")
LOCATION_BASED = "location-based: energy x PUE at the intensity known when it was used"
LIVE = f"live and {LOCATION_BASED}"


def energy_j(*by: str) -> Query:
    """Joules of each run so far, on all chosen nodes."""
    return SCOPE.exact(x.RUN_ENERGY, "run", *by)


def steps() -> Query:
    """Steps of each run that has done any: every node tells them, so the furthest counts."""
    return q.compared(q.highest(SCOPE.last_over_time(x.RUN_STEPS), "run"), ">", 0)


def joules_per(metric: Metric) -> Query:
    """Energy of each run by its tokens or samples, which add up over nodes."""
    return q.ratio(energy_j(), q.compared(SCOPE.exact(metric, "run"), ">", 0))


def joules_per_step() -> Query:
    """Energy of each run by its steps."""
    return q.ratio(energy_j(), steps())


def measured_ratio() -> Query:
    """Share of the device time that a sensor told; of several nodes the lowest."""
    return q.lowest(SCOPE.last_over_time(x.RUN_MEASURED_TIME), "run")


def settled_ratio() -> Query:
    """Share of the energy whose price is final, over all nodes; 0 where nothing has been priced again yet."""
    ratio = q.highest(SCOPE.last_over_time(x.RUN_SETTLED), "run", "ledger")
    grams = q.highest(SCOPE.last_over_time(x.RUN_SETTLED_EMISSIONS), "run", "ledger", "basis")
    priced = q.where(ratio, grams, "run", "ledger")  # of what is not priced yet everything counts as final
    settled_j = q.total(q.product(energy_j("ledger"), priced), "run")
    return q.or_zero(q.ratio(settled_j, energy_j()), energy_j())


def idle_ratio() -> Query:
    """Share of the energy that the devices would have used idle: too low while that is not known of all of them."""
    return q.ratio(SCOPE.exact(x.RUN_IDLE_ENERGY, "run"), energy_j())


def budget(metric: Metric) -> Query:
    """Bound of each whole run; where the settings of its nodes differ, the lowest holds."""
    return q.lowest(SCOPE.last_over_time(metric), "run")


def expected_energy_j() -> Query:
    """Joules of each run at its end: what its nodes expect, and what those have used where it is over.

    Absent while a node on which the run goes on expects nothing.
    """
    told = _told(x.RUN_FORECAST_ENERGY)
    over = q.unless(energy_j("ledger"), _going())
    return _of_all_nodes(q.otherwise(told, over), told)


def expected_grams() -> Query:
    """Grams of each run at its end: what its nodes expect.

    Absent while one of its nodes expects nothing, also one on which the run is over: its grams may be of other bases.
    """
    told = _told(x.RUN_FORECAST_EMISSIONS)
    over = q.unless(energy_j("ledger"), _going())
    return q.unless(_of_all_nodes(told, told), over, "run")


def held(metric: Metric) -> Query:
    """A figure of each GPU that a run holds now, alone or with others."""
    holds = q.highest(SCOPE.select(x.RUN_DEVICE_INFO), *HELD)
    return q.product(holds, q.highest(SCOPE.select(metric, component=GPUS), "instance", "device"))


def numbered(of_devices: Query) -> Query:
    """With the number of each device: what drivers call it has forty letters."""
    return SCOPE.described(of_devices, x.DEVICE_INFO, "index")


def _told(metric: Metric) -> Query:
    return q.highest(SCOPE.select(metric), "run", "ledger")


def _going() -> Query:
    return q.compared(q.highest(SCOPE.select(x.RUN_ACTIVE), "run", "ledger"), "==", 1)


def _of_all_nodes(parts: Query, told: Query) -> Query:
    silent = q.unless(_going(), told)
    return q.unless(q.where(q.total(parts, "run"), told, "run"), silent, "run")

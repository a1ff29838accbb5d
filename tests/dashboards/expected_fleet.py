"""What the board "Fleet" has to show."""

from tests.dashboards.expected_node import (
    device_energy,
    intensity,
    node_emissions,
    node_energy,
    of_device,
    of_node,
    run_emissions,
    run_energy,
)
from tests.dashboards.expected_run import active, by_run, divided, duration_s, idle_energy, measured, named, run_cost
from tests.dashboards.oracle import (
    Expected,
    Scrape,
    Seen,
    Vector,
    count,
    highest,
    kilowatthours,
    labels,
    lowest,
    only,
    times,
    total,
)

SECONDS_PER_HOUR = 3600


def project_energy(scrape: Scrape) -> Vector:
    """Joules of each project, by component and method."""
    return {
        scrape.labels(project=one["project"], component=part["component"], method=part["method"]): part["energy_j"]
        for one in scrape.snapshot["projects"]
        for part in one["energy_j"]
    }


def project_emissions(scrape: Scrape) -> Vector:
    """Grams of each project, by method, basis and quality."""
    return {
        scrape.labels(
            project=one["project"], method=part["method"], basis=part["basis"], quality=part["quality"]
        ): part["emissions_g"]
        for one in scrape.snapshot["projects"]
        for part in one["emissions_g"]
    }


def _up(scrape: Scrape) -> Vector:
    return {labels(instance=scrape.instance): 1.0}


def _active(seen: Seen) -> Vector:
    """Runs that go on anywhere; 0 where none does."""
    return {labels(): float(sum(highest(seen.now(active), "run").values()))}


def _unattributed(seen: Seen) -> Vector:
    return divided(total(seen.increase(of_device("unattributed_energy_j"))), total(seen.increase(device_energy)))


def _idle(seen: Seen) -> Vector:
    return divided(total(seen.last_over_time(idle_energy)), total(seen.last_over_time(run_energy)))


def _grams(basis: str) -> Expected:
    return lambda seen: total(only(seen.last_over_time(run_emissions), basis=basis), "run")


def _energy_kwh(seen: Seen) -> Vector:
    return kilowatthours(by_run(run_energy)(seen))


def _cost_by(word: str) -> Expected:
    return lambda seen: total(named(by_run(run_cost, "currency")(seen), seen, word), word, "currency")


def _hourly(reader_rate: Vector, *by: str) -> Vector:
    return times(total(reader_rate, *by), SECONDS_PER_HOUR)


EXPECTED: dict[str, Expected] = {
    "Power now/A": lambda seen: total(seen.now(of_node("measured_power_w"))),
    "Nodes/A": lambda seen: count(seen.now(_up)),
    "Nodes/B": lambda seen: count(seen.last_over_time(_up)),
    "Active runs/A": _active,
    "Grid intensity/A": lambda seen: highest(seen.now(intensity), "grid_zone", "provider", "basis", "quality"),
    "Energy in range/A": lambda seen: kilowatthours(total(seen.increase(node_energy), "method")),
    "CO2e in range/A": lambda seen: total(seen.increase(node_emissions), "basis", "method"),
    "Energy by owner/A": lambda seen: kilowatthours(total(seen.increase(of_device("attributed_energy_j")))),
    "Energy by owner/B": lambda seen: kilowatthours(total(seen.increase(of_device("unattributed_energy_j")))),
    "Energy by owner/C": lambda seen: kilowatthours(total(seen.now(of_device("pending_energy_j")))),
    "Idle and unattributed/A": _unattributed,
    "Idle and unattributed/B": _idle,
    "Coverage/A": lambda seen: lowest(seen.last_over_time(measured)),
    "Coverage/B": lambda seen: total(seen.increase(of_device("unmeasured_s"))),
    "Power by node/A": lambda seen: highest(seen.now(of_node("measured_power_w")), "instance"),
    "Power by project/A": lambda seen: total(seen.rate(project_energy), "project", "method"),
    "CO2e rate by node/A": lambda seen: _hourly(seen.rate(node_emissions), "instance", "basis", "method"),
    "CO2e rate by project/A": lambda seen: _hourly(seen.rate(project_emissions), "project", "basis", "method"),
    # The range of the tests stands for the month.
    "Energy by node this month/A": lambda seen: kilowatthours(total(seen.rise(node_energy), "instance", "method")),
    "CO2e by node this month/A": lambda seen: total(seen.rise(node_emissions), "instance", "basis", "method"),
    "Energy by project this month/A": lambda seen: kilowatthours(total(seen.rise(project_energy), "project", "method")),
    "CO2e by project this month/A": lambda seen: total(seen.rise(project_emissions), "project", "basis", "method"),
    "Top runs/A": lambda seen: named(_energy_kwh(seen), seen, "name", "user", "project"),
    "Top runs/B": _grams("lifecycle"),
    "Top runs/C": _grams("direct"),
    # No provider of these nodes is silent about its basis.
    "Top runs/D": _grams("unknown"),
    "Top runs/E": by_run(run_cost, "currency"),
    "Top runs/F": lambda seen: highest(seen.last_over_time(duration_s), "run"),
    "Cost of runs by node/A": lambda seen: total(seen.last_over_time(run_cost), "instance", "currency"),
    "Cost of runs by project/A": _cost_by("project"),
    "Cost of runs by user/A": _cost_by("user"),
    "Energy of runs by user/A": lambda seen: kilowatthours(
        total(named(by_run(run_energy, "method")(seen), seen, "user"), "user", "method")
    ),
    "CO2e of runs by user/A": lambda seen: total(
        named(by_run(run_emissions, "basis", "method")(seen), seen, "user"), "user", "basis", "method"
    ),
}

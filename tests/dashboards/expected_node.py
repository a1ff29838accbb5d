"""What the board "Node" has to show."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.dashboards.oracle import (
    Expected,
    Labels,
    Reader,
    Scrape,
    Seen,
    Vector,
    count,
    highest,
    kilowatthours,
    labels,
    only,
    times,
    total,
)

DEVICE = ("instance", "device", "component")
SOURCE = ("instance", "source")
SECONDS_PER_HOUR = 3600


# -- readers ---------------------------------------------------------------------------------------------------------


def of_node(field: str) -> Reader:
    """A figure of the whole node."""
    return lambda scrape: _told({scrape.labels(): scrape.snapshot["node"][field]})


def of_snapshot(field: str) -> Reader:
    """A figure of the daemon."""
    return lambda scrape: _told({scrape.labels(): scrape.snapshot[field]})


def ledger_health(field: str) -> Reader:
    """A figure of the ledger's health."""
    return lambda scrape: _told({scrape.labels(): scrape.snapshot["ledger_health"][field]})


def node_energy(scrape: Scrape) -> Vector:
    """Joules of the node, by component and method."""
    return {
        scrape.labels(component=part["component"], method=part["method"]): part["energy_j"]
        for part in scrape.snapshot["node"]["measured_energy_j"]
    }


def node_emissions(scrape: Scrape) -> Vector:
    """Grams of the node, by method, basis and quality."""
    return {
        scrape.labels(method=part["method"], basis=part["basis"], quality=part["quality"]): part["emissions_g"]
        for part in scrape.snapshot["node"]["emissions_g"]
    }


def device_info(scrape: Scrape) -> Vector:
    """1 for each device."""
    return {scrape.labels(device=device["id"]): 1.0 for device in scrape.snapshot["devices"]}


def of_device(field: str, component: str = "") -> Reader:
    """A figure of each summed device that tells it, or of those that are this component."""
    return lambda scrape: _told(
        {
            scrape.labels(device=device["id"], component=device["component"]): device[field]
            for device in _parts(scrape)
            if component in ("", device["component"])
        }
    )


def device_throttled(scrape: Scrape) -> Vector:
    """Seconds in which each device was slowed down, by reason."""
    return {
        scrape.labels(device=device["id"], reason=reason): throttled_s
        for device in _parts(scrape)
        for reason, throttled_s in device["throttled_s"].items()
    }


def device_energy(scrape: Scrape) -> Vector:
    """Joules of each summed device, by method."""
    return {
        scrape.labels(device=device["id"], component=device["component"], method=method): energy_j
        for device in _parts(scrape)
        for method, energy_j in device["energy_j"].items()
    }


def run_energy(scrape: Scrape) -> Vector:
    """Joules of each run, by component, method and share."""
    return {
        of_ledger(scrape, run=run["id"], component=part["component"], method=part["method"], share=part["share"]): part[
            "energy_j"
        ]
        for run in scrape.snapshot["runs"]
        for part in run["energy_j"]
    }


def run_emissions(scrape: Scrape) -> Vector:
    """Live grams of each run, by method, basis and quality."""
    return {
        of_ledger(scrape, run=run["id"], method=part["method"], basis=part["basis"], quality=part["quality"]): part[
            "emissions_g"
        ]
        for run in scrape.snapshot["runs"]
        for part in run["emissions_g"]
    }


def run_names(seen: Seen) -> dict[str, dict[str, Any]]:
    """What is known of each run that was seen in the range, by its id."""
    return {
        run["id"]: run
        for node in seen.nodes
        for scrape in node
        if scrape.at_s > seen.at_s - seen.range_s
        for run in scrape.snapshot["runs"]
    }


def in_use(scrape: Scrape) -> Iterator[Mapping[str, Any]]:
    """The average intensities that price the present."""
    return (slot for slot in scrape.snapshot["grid"] if slot["in_use"] and slot["signal"] == "average")


def intensity(scrape: Scrape) -> Vector:
    """Grams per kWh of each zone, with where they come from."""
    return {
        scrape.labels(
            grid_zone=slot["zone"], provider=slot["provider"], basis=slot["basis"], quality=slot["quality"]
        ): slot["grams_per_kilowatthour"]
        for slot in in_use(scrape)
    }


def of_source(value: Callable[[Mapping[str, Any]], float | None]) -> Reader:
    """A figure of each source that has it."""
    return lambda scrape: _told(
        {scrape.labels(source=source["source"]): value(source) for source in scrape.snapshot["sources"]}
    )


def of_ledger(scrape: Scrape, **words: object) -> Labels:
    """Labels of a series that names its ledger."""
    return scrape.labels(ledger=scrape.ledger, **words)


def _parts(scrape: Scrape) -> Iterator[Mapping[str, Any]]:
    return (device for device in scrape.snapshot["devices"] if not device["within"])


def _told(values: Mapping[Labels, float | None]) -> Vector:
    return {key: float(value) for key, value in values.items() if value is not None}


# -- panels ----------------------------------------------------------------------------------------------------------


def _gpu(field: str) -> Expected:
    return lambda seen: highest(seen.now(of_device(field, "gpu")), *DEVICE)


def _against_limit(seen: Seen) -> Vector:
    limit = _gpu("power_limit_w")(seen)
    return {key: power_w / limit[key] for key, power_w in _gpu("power_w")(seen).items()}


def _without_idle_power(seen: Seen) -> Vector:
    """Devices of which no idle power is known."""
    unknown = [
        device for scrape in seen.last for device in scrape.snapshot["devices"] if device["idle_power_w"] is None
    ]
    return {labels(): float(len(unknown))} if unknown else {}


def _disagreeing(seen: Seen) -> Vector:
    """Devices whose counter and sensor differ by more than a tenth; 0 for a node that has none such."""
    return {
        labels(instance=scrape.instance): float(
            sum(abs((device["energy_crosscheck_ratio"] or 1.0) - 1.0) > 0.1 for device in _parts(scrape))
        )
        for scrape in seen.last
    }


def _ledgers(seen: Seen) -> Vector:
    return {
        scrape.labels(ledger=scrape.ledger, state=scrape.snapshot["ledger_health"]["state"]): lag_s
        for scrape in seen.last
        for lag_s in ledger_health("lag_s")(scrape).values()
    }


def _runs(seen: Seen) -> Vector:
    energy = kilowatthours(total(seen.last_over_time(run_energy), "run"))
    names = run_names(seen)
    return {
        key | labels(name=names[run]["name"], user=names[run]["user"]): value
        for key, value in energy.items()
        for run in [dict(key)["run"]]
    }


def _grams(basis: str) -> Expected:
    return lambda seen: total(only(seen.last_over_time(run_emissions), basis=basis), "run")


def _age(seen: Seen) -> Vector:
    read_s = of_source(lambda source: source["last_success"] and source["last_success"]["unix_s"])
    return {key: seen.at_s - at_s for key, at_s in highest(seen.now(read_s), *SOURCE).items()}


def _failures(seen: Seen) -> Vector:
    """Of a source that never failed a 0 without a reason."""
    found: Vector = {}
    for scrape in seen.last:
        for source in scrape.snapshot["sources"]:
            about = labels(instance=scrape.instance, source=source["source"])
            counts = {about | labels(reason=reason): count for reason, count in source["failures"].items()}
            found |= counts or {about: 0.0}
    return found


EXPECTED: dict[str, Expected] = {
    "Power now/A": lambda seen: total(seen.now(of_node("measured_power_w"))),
    "Energy in range/A": lambda seen: kilowatthours(total(seen.increase(node_energy), "method")),
    "CO2e in range/A": lambda seen: total(seen.increase(node_emissions), "basis", "method"),
    "Grid intensity/A": lambda seen: highest(seen.now(intensity), "grid_zone", "basis", "quality"),
    "Devices with watts/A": lambda seen: count(seen.now(of_device("power_w"))),
    "Devices with watts/B": lambda seen: count(seen.now(device_info)),
    "Power by device/A": lambda seen: highest(seen.now(of_device("power_w")), *DEVICE),
    "Power by component/A": lambda seen: total(seen.rate(node_energy), "component", "method"),
    "GPU power against limit/A": _against_limit,
    "GPU utilisation/A": _gpu("utilization_ratio"),
    "GPU temperature/A": _gpu("temperature_c"),
    "GPU memory used/A": _gpu("memory_used_bytes"),
    "GPU throttling/A": lambda seen: highest(seen.rate(device_throttled), "instance", "device", "reason"),
    # The idle power of a device is known once somebody has looked for its processes: never of a simulated one.
    "Idle power/A": lambda seen: total(seen.now(of_device("idle_power_w")), "component"),
    "Idle power/B": _without_idle_power,
    "Energy by device/A": lambda seen: kilowatthours(highest(seen.increase(device_energy), *DEVICE, "method")),
    "Energy by owner/A": lambda seen: kilowatthours(total(seen.increase(of_device("attributed_energy_j")))),
    "Energy by owner/B": lambda seen: kilowatthours(total(seen.increase(of_device("unattributed_energy_j")))),
    "Energy by owner/C": lambda seen: kilowatthours(total(seen.now(of_device("pending_energy_j")))),
    "Power by run/A": lambda seen: total(seen.rate(run_energy), "run"),
    "Runs/A": _runs,
    "Runs/B": _grams("lifecycle"),
    "Runs/C": _grams("direct"),
    # No provider of these nodes is silent about its basis.
    "Runs/D": _grams("unknown"),
    "CO2e rate/A": lambda seen: times(total(seen.rate(node_emissions), "basis", "quality", "method"), SECONDS_PER_HOUR),
    "Carbon intensity/A": lambda seen: highest(seen.now(intensity), "grid_zone", "provider", "basis", "quality"),
    "Energy without a price/A": lambda seen: kilowatthours(total(seen.now(of_node("unpriced_energy_j")))),
    "PUE/A": lambda seen: highest(seen.now(of_node("pue_ratio")), "instance"),
    "Source up/A": lambda seen: highest(seen.now(of_source(lambda source: float(source["up"]))), *SOURCE),
    "Counter resets/A": lambda seen: total(seen.increase(of_device("energy_resets")), "component"),
    "Late ticks/A": lambda seen: total(seen.increase(of_snapshot("late_ticks"))),
    "Late ticks/B": lambda seen: total(seen.increase(of_source(lambda source: source["late_reads"])), "source"),
    "Ledger lag/A": lambda seen: highest(seen.now(ledger_health("lag_s")), "instance"),
    "Failed commits/A": lambda seen: total(seen.increase(ledger_health("write_failures"))),
    "Counter against sensor/A": _disagreeing,
    "Runs dropped, names altered/A": lambda seen: total(seen.increase(of_snapshot("runs_dropped"))),
    "Runs dropped, names altered/B": lambda seen: total(seen.increase(of_snapshot("names_altered"))),
    "Ledgers/A": _ledgers,
    "Age of last reading/A": _age,
    "Read duration/A": lambda seen: highest(seen.now(of_source(lambda source: source["read_duration_s"])), *SOURCE),
    "Failed reads by reason/A": _failures,
    "Unmeasured time/A": lambda seen: highest(seen.increase(of_device("unmeasured_s")), *DEVICE),
}

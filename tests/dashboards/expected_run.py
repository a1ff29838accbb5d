"""What the board "Run" has to show."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.dashboards.expected_node import of_device, of_ledger, run_emissions, run_energy, run_names
from tests.dashboards.oracle import (
    Expected,
    Labels,
    Reader,
    Scrape,
    Seen,
    Vector,
    highest,
    kilowatthours,
    labels,
    lowest,
    only,
    times,
    total,
)

MILLISECONDS_PER_SECOND = 1000
NODE_AND_DEVICE = ("instance", "device")


# -- readers ---------------------------------------------------------------------------------------------------------


def of_run(value: Callable[[Mapping[str, Any]], float | None]) -> Reader:
    """A figure of each run that has it."""
    return lambda scrape: {
        of_ledger(scrape, run=run["id"]): float(told)
        for run in scrape.snapshot["runs"]
        if (told := value(run)) is not None
    }


def of_budget(field: str) -> Reader:
    """A bound of each run that has one."""
    return of_run(lambda run: (run["budget"] or {}).get(field))


def of_progress(field: str) -> Reader:
    """A count of each run that tells it."""
    return of_run(lambda run: run["progress"][field])


def of_parts(field: str, label: str) -> Reader:
    """A figure of each part of a run."""
    return lambda scrape: {
        of_ledger(scrape, run=run["id"], **{label: part}): value
        for run in scrape.snapshot["runs"]
        for part, value in run[field].items()
    }


def of_extras(field: str) -> Reader:
    """What is reckoned beside the grams of each run, where something was set for it."""
    return lambda scrape: {
        of_ledger(scrape, run=run): report["extras"][field]
        for run, report in scrape.reports.items()
        if report["extras"][field] is not None
    }


def run_cost(scrape: Scrape) -> Vector:
    """Cost of each run, by currency."""
    return {
        of_ledger(scrape, run=run, currency=cost["currency"]): cost["amount"]
        for run, report in scrape.reports.items()
        if (cost := report["extras"]["cost"])
    }


def settled_emissions(scrape: Scrape) -> Vector:
    """Grams of each run that was priced again, by basis."""
    return {
        of_ledger(scrape, run=run, basis=basis): emissions_g
        for run, settled in scrape.snapshot["grid_state"]["settled"].items()
        for basis, emissions_g in settled["emissions_g"].items()
    }


def settled_ratio(scrape: Scrape) -> Vector:
    """Share of each run that is final, of those that were priced again."""
    return {
        of_ledger(scrape, run=run): settled["final_ratio"]
        for run, settled in scrape.snapshot["grid_state"]["settled"].items()
        if settled["emissions_g"]
    }


def forecast(stem: str) -> Reader:
    """What a run will come to, which no JSON tells."""
    return lambda scrape: scrape.of_exposition(f"trainwatt_run_forecast_{stem}")


active = of_run(lambda run: float(run["active"]))
duration_s = of_run(lambda run: run["duration_s"])
end_s = of_run(lambda run: run["end"] and run["end"]["unix_s"])
measured = of_run(lambda run: run["measured_time_ratio"])
power_w = of_run(lambda run: run["power_w"])
idle_energy = of_parts("idle_energy_j", "component")


# -- vectors ---------------------------------------------------------------------------------------------------------


def by_run(reader: Reader, *by: str) -> Expected:
    """Exact totals of the runs that were seen in the range."""
    return lambda seen: total(seen.last_over_time(reader), "run", *by)


def named(vector: Vector, seen: Seen, *words: str) -> Vector:
    """With words about each run."""
    runs = run_names(seen)
    return {
        key | labels(**{word: runs[dict(key)["run"]][word] for word in words}): value for key, value in vector.items()
    }


def divided(part: Vector, whole: Vector) -> Vector:
    """Each part by the whole that has the same labels, as far as the whole has any."""
    return {key: value / whole[about] for key, value in part.items() for about in whole if about <= key}


def _above_zero(vector: Vector) -> Vector:
    return {key: value for key, value in vector.items() if value > 0}


def _energy(seen: Seen) -> Vector:
    return by_run(run_energy)(seen)


def _steps(seen: Seen) -> Vector:
    """The furthest node's."""
    return _above_zero(highest(seen.last_over_time(of_progress("steps")), "run"))


def _joules_per(field: str) -> Expected:
    return lambda seen: divided(_energy(seen), _above_zero(by_run(of_progress(field))(seen)))


def _ended(seen: Seen) -> Vector:
    """Of runs that are over on every node."""
    going = highest(seen.last_over_time(active), "run")
    ends_s = highest(seen.last_over_time(end_s), "run")
    return {key: at_s * MILLISECONDS_PER_SECOND for key, at_s in ends_s.items() if not going[key]}


def _settled(seen: Seen) -> Vector:
    """Weighed by the energy of each node; 0 where nothing was priced again."""
    ratios = {_of_count(key): ratio for key, ratio in seen.last_over_time(settled_ratio).items()}
    final_j = {key: j * ratios.get(key, 0.0) for key, j in total(seen.last_over_time(run_energy), *COUNT).items()}
    return divided(total(final_j, "run"), _energy(seen))


COUNT = ("run", "ledger")


def _of_count(key: Labels) -> Labels:
    return frozenset(pair for pair in key if pair[0] in COUNT)


def _nodes(seen: Seen) -> Iterator[tuple[Labels, list[tuple[Labels, bool]]]]:
    """Each run with its nodes, and whether it goes on there."""
    going = highest(seen.now(active), *COUNT)
    used = total(seen.last_over_time(run_energy), *COUNT)
    for run in _energy(seen):
        yield run, [(key, bool(going.get(key))) for key in used if run <= key]


def _expected_energy(seen: Seen) -> Vector:
    """At nodes where it is over, what was used; nothing while a node on which it goes on expects nothing."""
    told = highest(seen.now(forecast("energy_joules")), *COUNT)
    used = total(seen.last_over_time(run_energy), *COUNT)
    found: Vector = {}
    for run, nodes in _nodes(seen):
        is_told = any(key in told for key, _ in nodes)
        if is_told and all(key in told for key, goes_on in nodes if goes_on):
            found[run] = sum(told.get(key, used[key]) for key, _ in nodes)
    return found


def _expected_grams(seen: Seen) -> Vector:
    """Only where the run goes on at all of its nodes, and all expect something."""
    told = highest(seen.now(forecast("emissions_grams")), *COUNT)
    return {
        run: sum(told[key] for key, _ in nodes)
        for run, nodes in _nodes(seen)
        if all(goes_on and key in told for key, goes_on in nodes)
    }


def _bound(field: str) -> Expected:
    return lambda seen: lowest(seen.last_over_time(of_budget(field)), "run")


def _used(value: Expected, field: str) -> Expected:
    return lambda seen: divided(value(seen), _bound(field)(seen))


def _held(seen: Seen, field: str) -> Vector:
    """A figure of each GPU of each run that goes on."""
    values = highest(seen.now(of_device(field, "gpu")), *NODE_AND_DEVICE)
    return {
        about | labels(run=run["id"], ledger=scrape.ledger): values[about]
        for scrape in seen.last
        for run in scrape.snapshot["runs"]
        for device in run["holds"]
        if run["active"] and (about := labels(instance=scrape.instance, device=device)) in values
    }


def _numbered(vector: Vector, seen: Seen) -> Vector:
    numbers = {
        labels(instance=scrape.instance, device=device["id"]): labels(index=device["index"])
        for scrape in seen.last
        for device in scrape.snapshot["devices"]
    }
    return {key | number: value for key, value in vector.items() for about, number in numbers.items() if about <= key}


def _of_gpus(field: str) -> Expected:
    return lambda seen: _numbered(_held(seen, field), seen)


def _against_limit(seen: Seen) -> Vector:
    return _numbered(divided(_held(seen, "power_w"), _held(seen, "power_limit_w")), seen)


def _grams(basis: str) -> Expected:
    return lambda seen: total(only(seen.last_over_time(run_emissions), basis=basis), "run")


_energy_kwh: Expected = lambda seen: kilowatthours(_energy(seen))  # noqa: E731
_emissions = by_run(run_emissions, "basis")
_cost = by_run(run_cost, "currency")
_measured: Expected = lambda seen: lowest(seen.last_over_time(measured), "run")  # noqa: E731
_duration: Expected = lambda seen: highest(seen.last_over_time(duration_s), "run")  # noqa: E731
_per_step: Expected = lambda seen: divided(_energy(seen), _steps(seen))  # noqa: E731

EXPECTED: dict[str, Expected] = {
    "Energy/A": _energy_kwh,
    "CO2e/A": _emissions,
    "CO2e/B": by_run(settled_emissions, "basis"),
    "Cost/A": _cost,
    "Energy per step, token and sample/A": _per_step,
    "Energy per step, token and sample/B": _joules_per("tokens"),
    "Energy per step, token and sample/C": _joules_per("samples"),
    "Progress/A": lambda seen: highest(seen.last_over_time(of_progress("done_ratio")), "run"),
    "Active time/A": _duration,
    "Measured, settled and idle/A": _measured,
    "Measured, settled and idle/B": _settled,
    "Measured, settled and idle/C": lambda seen: divided(by_run(idle_energy)(seen), _energy(seen)),
    "Runs/A": lambda seen: named(_energy_kwh(seen), seen, "name", "user"),
    "Runs/B": _grams("lifecycle"),
    "Runs/C": _grams("direct"),
    # No provider of these nodes is silent about its basis.
    "Runs/D": _grams("unknown"),
    "Runs/E": _cost,
    "Runs/F": _steps,
    "Runs/G": _per_step,
    "Runs/H": _joules_per("tokens"),
    "Runs/I": _duration,
    "Runs/J": _measured,
    "Budget used and expected/A": _used(_energy, "energy_j"),
    "Budget used and expected/B": _used(_emissions, "emissions_g"),
    "Budget used and expected/C": _used(_cost, "cost"),
    "Budget used and expected/D": _used(_expected_energy, "energy_j"),
    "Budget used and expected/E": _used(_expected_grams, "emissions_g"),
    "Start and end/A": lambda seen: times(
        lowest(seen.last_over_time(of_run(lambda run: run["start"]["unix_s"])), "run"), MILLISECONDS_PER_SECOND
    ),
    "Start and end/B": _ended,
    "Start and end/C": lambda seen: times(
        highest(seen.now(forecast("end_timestamp_seconds")), "run"), MILLISECONDS_PER_SECOND
    ),
    "Energy so far, expected and budget/A": _energy_kwh,
    "Energy so far, expected and budget/B": lambda seen: kilowatthours(_expected_energy(seen)),
    "Energy so far, expected and budget/C": lambda seen: kilowatthours(_bound("energy_j")(seen)),
    "CO2e so far, expected and budget/A": _emissions,
    "CO2e so far, expected and budget/B": _expected_grams,
    "CO2e so far, expected and budget/C": _bound("emissions_g"),
    "Cost so far and budget/A": _cost,
    "Cost so far and budget/B": _bound("cost"),
    "Progress over time/A": lambda seen: highest(seen.now(of_progress("done_ratio")), "run"),
    "Power of the run/A": lambda seen: total(seen.now(power_w), "run"),
    "Power of the run/B": lambda seen: total(seen.rate(idle_energy), "run"),
    "GPU power and limit/A": lambda seen: total(only(seen.rate(run_energy), component="gpu"), "run"),
    "GPU power and limit/B": lambda seen: total(_held(seen, "power_limit_w"), "run"),
    "Energy by component/A": lambda seen: kilowatthours(by_run(run_energy, "component", "method")(seen)),
    "Energy by phase/A": lambda seen: kilowatthours(by_run(of_parts("phase_energy_j", "phase"), "phase")(seen)),
    "Power by node/A": lambda seen: highest(seen.now(power_w), "run", "instance"),
    "Energy by node/A": lambda seen: kilowatthours(by_run(run_energy, "instance")(seen)),
    "Power of held GPUs/A": _of_gpus("power_w"),
    "Utilisation of held GPUs/A": _of_gpus("utilization_ratio"),
    "Power of held GPUs against limit/A": _against_limit,
    "Temperature of held GPUs/A": _of_gpus("temperature_c"),
    "Apart from the grams above/A": lambda seen: kilowatthours(
        by_run(of_run(lambda run: run["unpriced_energy_j"]))(seen)
    ),
    "Apart from the grams above/B": by_run(of_extras("embodied_emissions_g")),
    "Apart from the grams above/C": by_run(of_extras("market_based_emissions_g")),
    # None of the providers of these nodes tells a marginal intensity.
    "Apart from the grams above/D": by_run(of_extras("marginal_emissions_g")),
    "Apart from the grams above/E": by_run(of_extras("water_l")),
}

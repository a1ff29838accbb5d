"""What the board "Grid" has to show."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.dashboards.expected_node import (
    SECONDS_PER_HOUR,
    intensity,
    node_emissions,
    of_ledger,
    of_node,
)
from tests.dashboards.oracle import (
    Expected,
    Reader,
    Scrape,
    Seen,
    Vector,
    highest,
    kilowatthours,
    labels,
    lowest,
    times,
    total,
)

HOURS = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 36, 48)
"""Ahead, in the order of the bars."""
LATER = (1, 6, 24)
KIND = ("basis", "quality", "method")


# -- readers ---------------------------------------------------------------------------------------------------------


def in_use(scrape: Scrape, signal: str) -> Iterator[Mapping[str, Any]]:
    """The intensities of a signal that price the present."""
    return (slot for slot in scrape.grid["grid"] if slot["in_use"] and slot["signal"] == signal)


def marginal(scrape: Scrape) -> Vector:
    """Grams per kWh that one more would cause, by zone."""
    return {
        scrape.labels(grid_zone=slot["zone"]): slot["grams_per_kilowatthour"] for slot in in_use(scrape, "marginal")
    }


def made_until(scrape: Scrape) -> Vector:
    """Unix time of the end of the interval that each zone's average was made for; a carried one begins with it."""
    found: Vector = {}
    for slot in in_use(scrape, "average"):
        until_s = slot["valid_from_s"] if slot["quality"] == "carried" else slot["valid_until_s"]
        if until_s is not None:
            found[scrape.labels(grid_zone=slot["zone"])] = until_s
    return found


def outlooks(scrape: Scrape) -> Iterator[Mapping[str, Any]]:
    """What is expected of the average of each zone."""
    return (outlook for outlook in scrape.grid["outlooks"] if outlook["signal"] == "average")


def ahead(scrape: Scrape) -> Vector:
    """Grams per kWh by zone and hours from then."""
    now_s = scrape.grid["at"]["unix_s"]
    return {
        scrape.labels(grid_zone=outlook["zone"], hours=hours): slot["grams_per_kilowatthour"]
        for outlook in outlooks(scrape)
        for hours in HOURS
        for slot in outlook["slots"]
        if slot["from_s"] <= now_s + hours * SECONDS_PER_HOUR < slot["until_s"]
    }


def forecast_error(scrape: Scrape) -> Vector:
    """Share by which forecasts were off, by zone."""
    return {
        scrape.labels(grid_zone=outlook["zone"]): outlook["error_ratio"]
        for outlook in outlooks(scrape)
        if outlook["error_ratio"] is not None
    }


def price(scrape: Scrape) -> Vector:
    """Of a kilowatt-hour at that moment, by currency."""
    now_s = scrape.grid["at"]["unix_s"]
    return {
        scrape.labels(currency=scrape.grid["currency"]): rate["amount"]
        for rate in scrape.grid["prices"]
        if _or(rate["from_s"], -math.inf) <= now_s < _or(rate["until_s"], math.inf)
    }


def market(scrape: Scrape) -> Vector:
    """Factor of the site's contracts."""
    factor = scrape.grid["market_grams_per_kilowatthour"]
    return {} if factor is None else {scrape.labels(): factor}


def settled_share(scrape: Scrape) -> Vector:
    """Of each run that was priced again."""
    settled = scrape.grid["settled"]
    return {of_ledger(scrape, run=run): one["final_ratio"] for run, one in settled.items() if one["energy_j"] > 0.0}


def last_success(scrape: Scrape) -> Vector:
    """Unix time of each provider's last good answer, whatever the zone."""
    told = {
        scrape.labels(provider=feed["provider"], zone=feed["zone"]): feed["last_success_s"]
        for feed in scrape.grid["feeds"]
        if feed["last_success_s"] is not None
    }
    return highest(told, "job", "instance", "provider")


def failures(scrape: Scrape) -> Vector:
    """Questions that gave no value, by provider and reason, whatever the zone."""
    told = {
        scrape.labels(provider=feed["provider"], reason=reason, zone=feed["zone"]): float(number)
        for feed in scrape.grid["feeds"]
        for reason, number in feed["failures"].items()
    }
    return total(told, "job", "instance", "provider", "reason")


def revisions(scrape: Scrape) -> Vector:
    """Values that were changed after the fact, by zone."""
    return {scrape.labels(grid_zone=zone): float(number) for zone, number in scrape.grid["revisions"].items()}


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


# -- panels ----------------------------------------------------------------------------------------------------------


def _valid_for(seen: Seen) -> Vector:
    return lowest({key: until_s - seen.at_s for key, until_s in seen.now(made_until).items()}, "grid_zone")


def _ahead(*hours: int) -> Expected:
    return lambda seen: {
        key: value
        for key, value in highest(seen.now(ahead), "grid_zone", "hours").items()
        if dict(key)["hours"] in {str(hour) for hour in hours}
    }


def _cleanest(seen: Seen) -> Vector:
    """The lowest of each zone."""
    expected = _ahead(*HOURS)(seen)
    least = lowest(expected, "grid_zone")
    return {key: value for key, value in expected.items() if value == least[labels(grid_zone=dict(key)["grid_zone"])]}


def _five_cleanest(seen: Seen) -> Vector:
    return dict(sorted(_ahead(*HOURS)(seen).items(), key=lambda item: item[1])[:5])


def _by_provenance(seen: Seen) -> Vector:
    return highest(seen.now(intensity), "grid_zone", "provider", "basis", "quality")


def _age(seen: Seen) -> Vector:
    return highest({key: seen.at_s - at_s for key, at_s in seen.now(last_success).items()}, "provider")


def _failures(seen: Seen) -> Vector:
    """Of a provider that has answered and never failed a 0 without a reason."""
    found = total(seen.now(failures), "provider", "reason")
    failed = {dict(key)["provider"] for key in found}
    calm = [key for key in highest(seen.now(last_success), "provider") if dict(key)["provider"] not in failed]
    return found | dict.fromkeys(calm, 0.0)


def _revisions(seen: Seen) -> Vector:
    """0 for a zone without any."""
    zones = {slot["zone"] for scrape in seen.last for slot in scrape.grid["grid"] if slot["in_use"]}
    none = {labels(grid_zone=zone): 0.0 for zone in zones}
    return none | highest(seen.now(revisions), "grid_zone")


def _of_all(fold: Callable[..., Vector], reader: Reader) -> Expected:
    return lambda seen: fold(seen.now(reader))


EXPECTED: dict[str, Expected] = {
    "Intensity now/A": lambda seen: highest(seen.now(intensity), "grid_zone", "basis"),
    # No provider of these nodes tells a marginal intensity.
    "Intensity now/B": lambda seen: highest(seen.now(marginal), "grid_zone"),
    "Valid for, or stale since/A": _valid_for,
    "Cleanest hour ahead/A": _cleanest,
    # Nothing was expected long enough ago to be compared with what came.
    "Cleanest hour ahead/B": lambda seen: highest(seen.now(forecast_error), "grid_zone"),
    "Price of electricity/A": lambda seen: highest(seen.now(price), "currency"),
    "Value in use/A": _by_provenance,
    "Average intensity/A": _by_provenance,
    **{f"Forecast by hours ahead/{letter}": _ahead(hours) for letter, hours in zip("ABCDEFGHIJKL", HOURS, strict=True)},
    "Cleanest hours ahead/A": _five_cleanest,
    **{f"Expected for later/{letter}": _ahead(hours) for letter, hours in zip("ABC", LATER, strict=True)},
    "CO2e rate by quality/A": lambda seen: times(total(seen.rate(node_emissions), *KIND), SECONDS_PER_HOUR),
    "CO2e in range by quality/A": lambda seen: total(seen.increase(node_emissions), *KIND),
    "Energy without a price/A": lambda seen: kilowatthours(total(seen.now(of_node("unpriced_energy_j")))),
    "PUE/A": _of_all(lowest, of_node("pue_ratio")),
    "PUE/B": _of_all(highest, of_node("pue_ratio")),
    "Market-based factor/A": _of_all(highest, market),
    "Settled share of runs/A": lambda seen: lowest(seen.now(settled_share), "run"),
    "Age of last good answer/A": _age,
    "Failed questions by reason/A": _failures,
    "Revised values/A": _revisions,
}

"""What grams are like, for people: each with its source, and only where it says something.

Household-days are not among them: no figure with a source is at hand for them.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from monitor.core.units import GRAMS_PER_KILOGRAM, KILOGRAMS_PER_POUND

SMALLEST_RATIO = 0.1
"""Less than a tenth of a thing is like nothing."""
STRUBELL = "Strubell et al. 2019, arXiv 1906.02243, table 1"


class Equivalent(NamedTuple):
    """Something that people know, and what it emits."""

    words: str
    emissions_g: float
    source: str


GRAMS_PER_POUND = KILOGRAMS_PER_POUND * GRAMS_PER_KILOGRAM
EQUIVALENTS = (
    Equivalent("the lifetime of an average car, fuel included", 126_000 * GRAMS_PER_POUND, STRUBELL),
    Equivalent("the flight of one passenger, New York - San Francisco", 1984 * GRAMS_PER_POUND, STRUBELL),
)


def equivalent_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Of the settled grams where there are any, else of the live ones; nothing of a simulation.

    Bases are never added, so that grams of several are like nothing, either.
    """
    sci = document["sci"]
    if sci is None or any(part["method"] == "simulated" for part in document["energy_j"]):
        return
    for words, emissions_g, source in EQUIVALENTS:
        ratio = sci["operational_g"] / emissions_g
        if ratio >= SMALLEST_RATIO:
            times = f"{float(f'{ratio:.1e}'):,g}"  # two digits, as the grams have
            yield f"{times} x {words} ({emissions_g / GRAMS_PER_KILOGRAM:,.1f} kg CO2e; {source})"

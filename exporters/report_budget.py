"""Budgets of a run as documents have them, and in words: what the whole run may use, and how much of it is used."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from exporters.quantities import percent, plain
from exporters.report_sci import is_of_all
from monitor.core import budget
from monitor.core.model import Run
from monitor.core.snapshot import Policy
from monitor.core.units import GRAMS_PER_KILOGRAM, kilowatthours

Document = Mapping[str, Any]
FIELDS = ("energy_j", "emissions_g", "cost")


def budget_words(run: Run, policy: Policy) -> dict[str, float | None] | None:
    """The bounds of the whole run, all its nodes together; None where nobody set any."""
    bounds = budget.of_run(run, policy)._asdict()
    return bounds if any(bound is not None for bound in bounds.values()) else None


def merged(parts: Sequence[Document]) -> dict[str, float | None] | None:
    """Of all nodes the same, never a sum. Where their settings differ, the lowest bound is the one that holds."""
    every = [told for part in parts if (told := part.get("budget"))]
    lowest = {
        name: min((told[name] for told in every if told[name] is not None), default=None) for name in FIELDS if every
    }
    return lowest or None


def budget_line(document: Document) -> str:
    """`61 % of 500 kWh, 40 % of 120 kg CO2e (lifecycle)`; "" without budgets. What is exceeded is named first."""
    used = list(_used(document))
    over = [words for ratio, words in used if ratio > 1.0]
    within = [words for ratio, words in used if ratio <= 1.0]
    return ", ".join([*([f"EXCEEDED: {', '.join(over)}"] if over else []), *within])


def over_budget(document: Document) -> str:
    """The budgets that are exceeded, for a line: `112 % of 0.1 kWh`; "" = none."""
    return ", ".join(words for ratio, words in _used(document) if ratio > 1.0)


def _used(document: Document) -> Iterator[tuple[float, str]]:
    """How much of each budget is used, and that in words. Bases of grams are never added: each has a line."""
    bounds = document.get("budget") or {}
    energy_j, emissions_g, cost = (bounds.get(name) for name in FIELDS)
    if energy_j:
        parts = [part["energy_j"] for part in document["energy_j"]]
        yield _ratio(sum(parts) if parts else None, energy_j, f"{kilowatthours(energy_j):g} kWh")
    if emissions_g:
        bound = f"{emissions_g / GRAMS_PER_KILOGRAM:g} kg CO2e"
        used_g, settled = _grams(document)
        for basis in sorted(used_g):
            # Boards and alerts go by live grams: whoever compares is told why these differ.
            yield _ratio(used_g[basis], emissions_g, f"{bound} ({basis}{', settled' if settled else ''})")
        if not used_g:
            yield _ratio(None, emissions_g, bound)
    if cost:
        paid = (document.get("extras") or {}).get("cost")
        currency = f" {plain(paid['currency'])}" if paid else ""
        yield _ratio(paid["amount"] if paid else None, cost, f"{cost:g}{currency}")


def _ratio(used: float | None, bound: float, words: str) -> tuple[float, str]:
    if used is None:
        return 0.0, f"an unknown part of {words}"
    return used / bound, f"{percent(used / bound)} of {words}"


def _grams(document: Document) -> tuple[dict[str, float], bool]:
    """By basis, and whether they are settled ones, as where those are of all of its joules; else live ones."""
    told = document.get("settled")
    settled = told if told and is_of_all(document, told) else None
    source = settled or document
    grams: dict[str, float] = {}
    for part in source["emissions_g"]:
        grams[part["basis"]] = grams.get(part["basis"], 0.0) + part["emissions_g"]
    return grams, settled is not None

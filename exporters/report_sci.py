"""Software Carbon Intensity of a run: ((E x I) + M) per R, by its specification 1.1.0 (ISO/IEC 21031:2024).

E includes the PUE and I is location-based: market instruments are excluded, marginal grams are another question.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from exporters.quantities import grams, joules

MILLION = 1_000_000
SAME_RATIO = 0.01
"""A figure that was settled a moment ago lags behind a run that goes on; grams have two digits."""


def score(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The entry `sci` of a report: of settled grams where there are any of all of its joules, else of live ones.

    None where no grams are known, or where they are of several bases, so that no one figure stands for all of them.
    """
    settled = document["settled"]
    is_settled = settled and settled["emissions_g"] and is_of_all(document, settled)
    of, source = ("settled", settled) if is_settled else ("live", document)
    by_basis: dict[str, float] = {}
    for part in source["emissions_g"]:
        if part["emissions_g"] == 0.0:
            continue  # a series that begins at 0 has no grams of its basis
        by_basis[part["basis"]] = by_basis.get(part["basis"], 0.0) + part["emissions_g"]
    if not by_basis and source["emissions_g"]:
        by_basis = {part["basis"]: 0.0 for part in source["emissions_g"]}
    if len(by_basis) != 1:
        return None
    ((basis, operational_g),) = by_basis.items()
    embodied_g = document["extras"]["embodied_emissions_g"]
    run_g = operational_g + (embodied_g or 0.0)
    steps, tokens = document["progress"]["steps"], document["progress"]["tokens"]
    return {
        "of": of,
        "basis": basis,
        "operational_g": operational_g,
        "embodied_g": embodied_g,
        "unpriced_energy_j": source["unpriced_energy_j"],
        "run_g": run_g,
        "step_g": run_g / steps if steps else None,
        "million_tokens_g": run_g / tokens * MILLION if tokens else None,
    }


def is_of_all(document: Mapping[str, Any], settled: Mapping[str, Any]) -> bool:
    """Whether a settled figure is of the same joules as the live one, as far as two digits show."""
    total_j = sum(part["energy_j"] for part in document["energy_j"])
    return bool(abs(total_j - settled["energy_j"]) <= SAME_RATIO * total_j)


def sci_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The score in words, with what is not in it."""
    sci = document["sci"]
    if sci is None:
        bases = sorted({part["basis"] for part in document["emissions_g"]})
        if len(bases) > 1:
            yield f"none: its grams are of {' and '.join(bases)} basis, which are never added"
        return
    per = [f"{grams(sci['run_g'])} per run"]
    per += [f"{grams(sci[f'{unit}_g'])} per {name}" for unit, name in UNITS.items() if sci[f"{unit}_g"] is not None]
    yield ", ".join(per)
    embodied = "no M, since no embodied carbon was given"
    if sci["embodied_g"] is not None:
        embodied = f"M {grams(sci['embodied_g'])}"
    yield f"E x I {grams(sci['operational_g'])} ({sci['of']} grams), {embodied}"
    yield f"{sci['basis']} basis, location-based, average signal, PUE included, no market instruments"
    apart = sorted({part["method"] for part in document["energy_j"]} & {"estimated", "simulated"})
    if apart:
        yield f"{' and '.join(apart)} energy is in it"
    if sci["unpriced_energy_j"] > 0.0:
        yield f"{joules(sci['unpriced_energy_j'])} are not in it: they have no grams"


UNITS = {"step": "step", "million_tokens": "million tokens"}

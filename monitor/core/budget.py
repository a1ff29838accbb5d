"""What a whole run may use, by its tags, else by its project, else by the settings of the node.

trainwatt run --tag budget_energy_kwh=500 --tag budget_co2e_kg=120 --tag budget_cost=150 -- python train.py
"""

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from monitor.core.model import Run
from monitor.core.snapshot import NO_PROJECT, Budget, Policy
from monitor.core.units import GRAMS_PER_KILOGRAM, JOULES_PER_KILOWATTHOUR


class _Tag(NamedTuple):
    field: str
    factor: float


TAGS = {
    "budget_energy_kwh": _Tag("energy_j", JOULES_PER_KILOWATTHOUR),
    "budget_co2e_kg": _Tag("emissions_g", GRAMS_PER_KILOGRAM),
    "budget_cost": _Tag("cost", 1.0),
}
"""Tags that are budgets, and what one of their unit is in ours."""
PREFIX = "budget_"
"""Whatever tag begins so is meant to be one of them; the settings leave it out."""
LEAST = 1e-9
MOST = 1e11
"""The least and the greatest budget in its own unit: less than a joule, more than the whole world uses."""
SHOWN_CHARACTERS = 40


def amount(name: str, text: str) -> float:
    """A budget as a tag says it, in joules, grams or money. Raises ValueError in one line that says what to write."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not LEAST <= number <= MOST:
        shown = repr(text[:SHOWN_CHARACTERS])
        raise ValueError(
            f"tag {name}: {shown} is no amount; write a number above 0 and up to {MOST:g}, such as {name}=120"
        )
    return number * TAGS[name].factor


def complaints(tags: Iterable[tuple[str, str]]) -> list[str]:
    """What is wrong with the budgets among these tags, a line each: no amount, or a name that is none of the three."""
    lines = []
    for name, text in tags:
        if name in TAGS:
            try:
                amount(name, text)
            except ValueError as error:
                lines.append(str(error))
        elif name.startswith(PREFIX):
            shown = ascii(name[:SHOWN_CHARACTERS])[1:-1]
            lines.append(f"tag {shown}: there is no such budget; there is: {', '.join(TAGS)}")
    return lines


def of_settings(amounts: Mapping[str, float | None], given: Budget | None = None) -> Budget:
    """Budgets by the keys of a table (energy_kwh, co2e_kg, cost); what it leaves out is as in `given`."""
    told = {TAGS[PREFIX + key].field: number * TAGS[PREFIX + key].factor for key, number in amounts.items() if number}
    return (given or Budget())._replace(**told)


def of_run(run: Run, policy: Policy) -> Budget:
    """The budgets of a run; one that its tags do not say, or say in no number, is its project's or the node's."""
    given = policy.project_budgets.get(run.project or NO_PROJECT, policy.budget)
    return _by_tags(run.tags, given) if run.tags else given


@lru_cache(maxsize=1024)
def _by_tags(tags: tuple[tuple[str, str], ...], given: Budget) -> Budget:
    for name, text in tags:
        if name in TAGS:
            try:
                given = given._replace(**{TAGS[name].field: amount(name, text)})
            except ValueError:
                continue  # whoever set it has been told
    return given

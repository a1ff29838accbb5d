"""What a whole run may use, by its tags, else by its project, else by the settings of the node.

trainwatt run --tag budget_energy_kwh=500 --tag budget_co2e_kg=120 --tag budget_cost=150 -- python train.py
"""

import math
from functools import lru_cache
from typing import NamedTuple

from monitor.core.model import Run
from monitor.core.snapshot import Budget, Policy
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


def amount(name: str, text: str) -> float:
    """A budget as a tag says it, in joules, grams or money. Raises ValueError in one line that says what to write."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0.0):
        raise ValueError(f"tag {name}: {text!r} is no amount; write a number above 0, such as {name}=120")
    return number * TAGS[name].factor


def of_run(run: Run, policy: Policy) -> Budget:
    """The budgets of a run; one that its tags do not say, or say in no number, is its project's or the node's."""
    given = policy.project_budgets.get(run.project, policy.budget)
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

"""Budgets of runs: by tags, project and settings, and what is none."""

import pytest

from monitor.core.budget import TAGS, amount, complaints, of_run, of_settings
from monitor.core.model import Instant, Run
from monitor.core.snapshot import Budget, Policy

NODE = of_settings({"energy_kwh": 500.0, "co2e_kg": 120.0, "cost": None})
VISION = of_settings({"energy_kwh": 5.0, "co2e_kg": None, "cost": 40.0}, NODE)
POLICY = Policy(budget=NODE, project_budgets={"vision": VISION})


def run(project: str = "", **tags: str) -> Run:
    """A run of a project with tags."""
    return Run(id="r", name="r", start=Instant(0.0, 0.0), project=project, tags=tuple(sorted(tags.items())))


@pytest.mark.parametrize(
    ("of", "bounds"),
    [
        (run(), (500 * 3.6e6, 120e3, None)),
        (run("language"), (500 * 3.6e6, 120e3, None)),
        (run("vision"), (5 * 3.6e6, 120e3, 40.0)),
        (run(budget_energy_kwh="0.5"), (0.5 * 3.6e6, 120e3, None)),
        (run("vision", budget_co2e_kg="1e-3", budget_cost=" 7 "), (5 * 3.6e6, 1.0, 7.0)),
        (run("vision", budget_cost="much", team="a"), (5 * 3.6e6, 120e3, 40.0)),
        (run(budget_energy_kwh="-1", budget_co2e_kg="nan", budget_cost="inf"), (500 * 3.6e6, 120e3, None)),
    ],
)
def test_tags_come_before_the_project_and_that_before_the_settings(of: Run, bounds: tuple[float, ...]) -> None:
    """Field by field, in joules, grams and money; a tag that is no amount has no effect."""
    assert Budget(*bounds) == of_run(of, POLICY)


def test_runs_without_a_project_have_one() -> None:
    """The name that metrics and boards give it."""
    policy = Policy(budget=NODE, project_budgets={"none": VISION})

    assert VISION == of_run(run(), policy)


def test_without_any_there_is_none() -> None:
    """None is not 0."""
    assert Budget(None, None, None) == of_run(run("vision", team="a"), Policy())


@pytest.mark.parametrize("text", ["", "abc", "0", "-1", "nan", "inf", "1e12", "1e400", "1e-320", "5 kWh", "1" * 9999])
def test_what_is_no_amount_is_one_line(text: str) -> None:
    """It names the tag and says what to write, however long the text is."""
    for name in TAGS:
        with pytest.raises(
            ValueError, match=f"^tag {name}: '.* is no amount; write a number above 0 .*{name}=120$"
        ) as e:
            amount(name, text)

        assert len(str(e.value)) < 200


def test_complaints_name_the_three() -> None:
    """A mistyped budget is told; other tags are nobody's business."""
    tags = [
        ("team", "budget_"),
        ("budget_energy", "5"),
        ("budget_cost", "5"),
        ("budget_co2e_kg", "x"),
        ("budget_\n", ""),
    ]
    told = complaints(tags)

    assert 3 == len(told)
    assert (
        "tag budget_energy: there is no such budget; there is: budget_energy_kwh, budget_co2e_kg, budget_cost"
        == told[0]
    )
    assert told[1].startswith("tag budget_co2e_kg: 'x' is no amount")
    assert "\n" not in "".join(told)

"""Budgets in documents and in words: of the whole run, so never a sum over nodes."""

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from exporters.api import snapshot_document
from exporters.report_document import run_summary
from exporters.report_file import parse_report, report_json
from exporters.report_merge import merge
from exporters.report_model import json_schema
from exporters.report_text import report_text, summary_line
from monitor.core.model import Basis, GridState, Method, Quality, Rate
from monitor.core.snapshot import Budget, Extras, Policy, RunTotals
from tests.exporters.test_report_document import demo, document, snapshot, totals
from tests.exporters.test_report_merge import on

USED_KWH = 12_340.0 / 3.6e6


def bounded(policy: Policy | None = None, entry: RunTotals | None = None, **tags: str) -> dict[str, Any]:
    """The report of a run of 12.34 kJ and 1.2 g with these tags, on a node of this policy."""
    of = entry or totals(demo())
    of = of._replace(run=replace(of.run, tags=tuple(sorted(tags.items()))))
    known = snapshot(of)
    return document(of, replace(known, policy=policy) if policy else known)


def budget_of(text: str) -> str:
    """What the text says of budgets, on one line."""
    lines = text.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("budget"))
    more = [line for line in lines[first + 1 : first + 4] if line.startswith("    ")]
    return " ".join(line.strip() for line in [lines[first].removeprefix("budget"), *more])


def test_without_a_budget_nothing_is_said() -> None:
    """Null in the document, no line in the text."""
    assert document()["budget"] is None
    assert "budget" not in report_text(document()) + summary_line(document())
    assert run_summary(totals(demo()), snapshot())["budget"] is None


def test_what_is_used_of_each_is_told() -> None:
    """Energy, grams by basis, money; what is not known is not 0 %."""
    known = bounded(budget_energy_kwh=str(USED_KWH / 0.61), budget_co2e_kg="0.12", budget_cost="150")

    assert {"energy_j": pytest.approx(12_340.0 / 0.61), "emissions_g": 120.0, "cost": 150.0} == known["budget"]
    assert budget_of(report_text(known)).startswith(
        "61 % of 0.00561931 kWh, 1 % of 0.12 kg CO2e (lifecycle), an unknown"
    )
    assert "OVER" not in summary_line(known)


def test_bases_are_not_added() -> None:
    """Grams of two bases are two parts of one budget."""
    keys = {(Method.COUNTER, basis, Quality.ACTUAL): 60.0 for basis in (Basis.LIFECYCLE, Basis.DIRECT)}
    text = report_text(bounded(entry=totals(demo(), emissions_g=keys), budget_co2e_kg="0.1"))

    assert "60 % of 0.1 kg CO2e (direct), 60 % of 0.1 kg CO2e (lifecycle)" == budget_of(text)


def test_a_run_over_its_budget_says_so_plainly() -> None:
    """In the line at its end and in the report, before what is kept."""
    over = bounded(budget_energy_kwh=str(USED_KWH / 1.25), budget_co2e_kg="1")

    assert "; OVER BUDGET: 125 % of 0.00274222 kWh" in summary_line(over)
    assert budget_of(report_text(over)) == ("EXCEEDED: 125 % of 0.00274222 kWh, 0.1 % of 1 kg CO2e (lifecycle)")


def test_money_is_compared_in_its_currency() -> None:
    """By the cost that was told."""
    policy = Policy(zone="DE", currency="EUR", budget=Budget(cost=2.0))
    entry = totals(demo(), extras=Extras(cost=1.0))
    known = replace(snapshot(entry), policy=policy, grid=GridState(rates=(Rate(0.3, 0.0, 1e12),)))

    assert "50 % of 2 EUR" == budget_of(report_text(document(entry, known)))


def test_merged_nodes_have_one_budget() -> None:
    """The same, not the sum; the lowest where they differ, whatever the order and the grouping."""
    tagged = bounded(budget_energy_kwh=str(12_340.0 / 3.6e6))
    parts = [on(f"node-{at}") | {"budget": tagged["budget"]} for at in range(3)]
    whole = merge(parts)

    assert pytest.approx(12_340.0) == whole["budget"]["energy_j"]
    assert "OVER BUDGET: 300 % of" in summary_line(whole)
    parts[1]["budget"] = {"energy_j": 1000.0, "emissions_g": 5.0, "cost": None}
    parts[2]["budget"] = None
    for again in (merge(parts), merge([merge(parts[1:]), parts[0]]), merge(parts[::-1])):
        assert {"energy_j": 1000.0, "emissions_g": 5.0, "cost": None} == again["budget"]
    del parts[0]["budget"], parts[1]["budget"], parts[2]["budget"]  # of a release that knew none

    assert merge(parts)["budget"] is None


def test_a_report_with_a_budget_is_read_back() -> None:
    """Valid by the schema, the greatest one, too."""
    greatest = bounded(budget_energy_kwh="1e11", budget_co2e_kg="1e11", budget_cost="1e11")
    text = report_json(greatest)

    jsonschema.Draft202012Validator(json_schema()).validate(json.loads(text))
    assert json.loads(text) == parse_report(text.encode(), "it")


def test_the_api_tells_bounds_and_throttled_seconds() -> None:
    """Of each run of the snapshot its budget, null where nobody set any."""
    one, other = totals(demo(tags=(("budget_cost", "3"),))), totals(demo(id="demo-2", tags=()))
    shown = snapshot_document(snapshot(one, other))

    assert [{"energy_j": None, "emissions_g": None, "cost": 3.0}, None] == [run["budget"] for run in shown["runs"]]
    assert [{}, {}] == [device["throttled_s"] for device in shown["devices"]]

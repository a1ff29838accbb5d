"""The rules of grafana/dashboard-linter on the committed JSON, and a few of our own."""

import re
from collections import Counter
from typing import Any

import pytest

from monitor.metrics import METRICS, Type
from tests.dashboards.boards import BOARDS, RANGES, TARGETS, Target, filled_in, panels, variables
from tests.dashboards.promql_tree import uses

GRAFANA_UNITS = {
    "watt",
    "kwatth",
    "massg",
    "percentunit",
    "celsius",
    "bytes",
    "s",
    "short",
    "none",
    "litre",
    "dateTimeAsIso",
    "dtdurations",
}
CUSTOM_UNITS = {"suffix:gCO2e/h", "suffix:gCO2e/kWh", "suffix:J/step", "suffix:J/token", "suffix:J/sample"}
"""Excluded from the rule panel-units: it knows no custom units, and Grafana has none for CO2e and for training."""
SUPPORTED = {"timeseries", "stat", "bargauge", "table"}
REFRESHED = {"trainwatt-fleet": ("now-24h", "1m")}
"""Begin of the range and pace of boards that look further back than an hour, so that they need not hurry."""
EXACT = {
    **{m.series: "increase() loses the run's beginning" for m in METRICS if "run" in m.labels},
    **{
        f"trainwatt_{stem}_total": "exact since the month began, where increase() would extrapolate"
        for stem in ("node_measured_energy_joules", "node_emissions_grams", "project_energy_joules")
    },
    "trainwatt_project_emissions_grams_total": "likewise",
}
"""Counters of which last_over_time makes exact totals, with the reason: excluded from the rule target-counter-agg.

min_over_time is what a node that is new had at first.
"""
NOT_BY_RATE = {
    "trainwatt_source_failures_total": "the series begins with the first failure, which increase() cannot see",
    "trainwatt_grid_fetch_failures_total": "likewise",
    "trainwatt_grid_revisions_total": "the series begins with the first revision, which increase() cannot see",
}
"""Excluded from the rule target-counter-agg, with the reason."""
BEFORE_THE_RANGE = "[31d] offset $__range"
"""The one window that is not the range: where exact totals of the range begin."""
OF_A_BASIS = {metric.series for metric in METRICS if "emissions" in metric.series and "basis" in metric.labels}
"""Grams of the grid's average: those of making hardware, of contracts, of the margin and of budgets have no basis."""
COUNTERS = {metric.series for metric in METRICS if metric.type is Type.COUNTER}

each_board = pytest.mark.parametrize("uid", BOARDS)
each_panel = pytest.mark.parametrize("panel", [pytest.param(p, id=f"{uid}/{p['title']}") for uid, p in panels()])
each_target = pytest.mark.parametrize("target", TARGETS, ids=str)


@each_board
def test_board_is_classic_and_read_only(uid: str) -> None:
    """Rule uneditable-dashboard; the schema, uid and absent inputs that file provisioning needs."""
    board = BOARDS[uid]

    assert (uid, 42, False) == (board["uid"], board["schemaVersion"], board["editable"])
    assert not {"__inputs", "__requires", "id"} & board.keys()
    since, refresh = REFRESHED.get(uid, ("now-1h", "10s"))
    assert ("browser", 1, refresh) == (board["timezone"], board["graphTooltip"], board["refresh"])
    assert {"from": since, "to": "now"} == board["time"]
    assert "trainwatt" in board["tags"]


@each_board
def test_datasource_is_a_variable(uid: str) -> None:
    """Rule template-datasource."""
    source = variables(uid)["datasource"]

    assert ("datasource", "prometheus", "Data source") == (source["type"], source["query"], source["label"])


@each_board
@pytest.mark.parametrize(("name", "label"), [("job", "Job"), ("instance", "Instance")])
def test_target_variables(uid: str, name: str, label: str) -> None:
    """Rules template-job, template-instance, template-label-promql and template-on-time-change-reload."""
    variable = variables(uid)[name]
    query = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])

    assert ("query", label, "${datasource}") == (variable["type"], variable["label"], variable["datasource"]["uid"])
    assert (True, True, ".+", 2) == (
        variable["multi"],
        variable["includeAll"],
        variable["allValue"],
        variable["refresh"],
    )
    assert query
    assert name == query[2]
    assert {use.metric for use in uses(query[1])} <= {metric.series for metric in METRICS}


@each_board
def test_no_two_panels_share_a_title_or_an_id(uid: str) -> None:
    """Titles and ids are unique: links and the drawing test find a panel by them."""
    for key in ("title", "id"):
        counts = Counter(panel[key] for panel in BOARDS[uid]["panels"])

        assert not [value for value, count in counts.items() if count > 1]


@each_board
def test_panels_do_not_overlap(uid: str) -> None:
    """Every cell of the 24 columns belongs to one panel at most."""
    cells: Counter[tuple[int, int]] = Counter()
    for panel in BOARDS[uid]["panels"]:
        at = panel["gridPos"]
        cells.update((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"]))

    assert not [cell for cell, count in cells.items() if count > 1]
    assert max(x for x, _ in cells) < 24


@each_panel
def test_panel_is_described(panel: dict[str, Any]) -> None:
    """Rules panel-title-description, panel-datasource, panel-no-targets; the panel types that are drawn in a test."""
    assert panel["title"]
    assert re.search(r"\bnot\b|never|without|loses", panel["description"], re.IGNORECASE), "say what is not included"
    assert panel["type"] in SUPPORTED
    assert "${datasource}" == panel["datasource"]["uid"]
    assert panel["targets"]
    assert {"${datasource}"} == {target["datasource"]["uid"] for target in panel["targets"]}


@each_panel
def test_panel_has_a_unit(panel: dict[str, Any]) -> None:
    """Rule panel-units, also for the columns of a table."""
    field = panel["fieldConfig"]
    units = [field["defaults"]["unit"]]
    units += [p["value"] for o in field["overrides"] for p in o["properties"] if p["id"] == "unit"]

    assert set(units) <= GRAFANA_UNITS | CUSTOM_UNITS


@each_panel
def test_a_table_names_its_own_columns(panel: dict[str, Any]) -> None:
    """What a table is sorted by, and what it gives a unit, a width or a link, are headings that it has."""
    if panel["type"] != "table":
        return
    headings = {
        heading for step in panel["transformations"] for heading in step["options"].get("renameByName", {}).values()
    }
    named = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
    named |= {field["displayName"] for field in panel["options"].get("sortBy", [])}

    assert named <= headings


@each_target
def test_selectors_follow_the_variables(target: Target) -> None:
    """Rules target-promql, target-job and target-instance."""
    for use in uses(filled_in(target.expr, RANGES)):
        assert {("job", "Re", "$job"), ("instance", "Re", "$instance")} <= set(use.matchers), use


@each_target
def test_ranges(target: Target) -> None:
    """Rule target-rate-interval: rates over $__rate_interval, which stands nowhere else; the others over $__range."""
    expr = target.expr.replace(BEFORE_THE_RANGE, "[$__range]").replace("} offset $__range or", "} or")
    windows = re.findall(r"(\w+)\([^()]*\[([^\]]+)\]\)", expr)

    assert expr.count("[") == len(windows)
    assert all(("$__rate_interval" if name == "rate" else "$__range") == window for name, window in windows)
    assert not re.search(r"\$__(?!rate_interval\]|range\])", expr)


@each_target
def test_counters_are_read_as_counters(target: Target) -> None:
    """Rule target-counter-agg: a counter stands in rate or increase, apart from those with a written reason."""
    for use in uses(filled_in(target.expr)):
        if use.metric in EXACT and use.function in {"last_over_time", "min_over_time"}:
            continue
        if use.metric in COUNTERS and use.function not in {"rate", "increase"}:
            assert use.metric in NOT_BY_RATE, f"{use.metric} in {use.function}"


@each_target
def test_bases_and_methods_stay_apart(target: Target) -> None:
    """Grams of two bases are never added up: a query of grams names its basis or groups by it."""
    for use in uses(filled_in(target.expr)):
        if use.metric in OF_A_BASIS:
            named = any(label == "basis" and operator == "Equal" for label, operator, _ in use.matchers)

            assert named or re.search(r"by \([^)]*\bbasis\b", target.expr)


def test_watts_of_a_node_are_not_added_up_here() -> None:
    """No query sums the watts of devices: the node's own figure knows which parts overlap."""
    for target in TARGETS:
        if re.search(r"\bsum\b", target.expr):
            assert "device_power_watts" not in target.expr

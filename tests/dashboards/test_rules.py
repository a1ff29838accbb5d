"""The rules as they ship: promtool's judgement, a value of every record, three cases of every alert."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import promql as q
from dashboards import rule_files
from dashboards.rule import Alert, Record, Severity
from dashboards.scope import RULES as SCOPE
from monitor import metrics as x
from tests.dashboards.boards import ROOT
from tests.dashboards.promql_tree import Use, grouped_by, uses
from tests.harness import need

FOLDER = ROOT / "dashboards" / "rules"
CASES = sorted((Path(__file__).parent / "rules").glob("*.yml"))
PLAIN: dict[str, Any] = yaml.safe_load((FOLDER / "trainwatt.rules.yml").read_text("utf-8"))
MANIFEST: dict[str, Any] = yaml.safe_load((FOLDER / "trainwatt.prometheusrule.yml").read_text("utf-8"))
RULES = [rule for group in PLAIN["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDS = [rule for rule in RULES if "record" in rule]
GROUPS_OF_TESTS = [one for file in CASES for one in yaml.safe_load(file.read_text("utf-8"))["tests"]]
SERIES = {metric.series: metric for metric in x.METRICS}
PROMETHEUS_OWN = {"up": {"job", "instance"}}
KINDS = {"fires": True, "quiet": False, "edge": False}
"""Whether a case of the kind has to see the alert; an edge has to see it absent once."""


def promtool(*args: str) -> subprocess.CompletedProcess[str]:
    """Run promtool to its end."""
    return subprocess.run([need.program("promtool"), *args], capture_output=True, text=True, timeout=60, check=False)


def words(rule: dict[str, Any]) -> str:
    """Name of a rule."""
    return str(rule.get("alert") or rule["record"])


@pytest.mark.parametrize("document", [PLAIN, MANIFEST["spec"]], ids=["plain", "operator"])
def test_promtool_has_no_complaint(document: dict[str, Any], tmp_path: Path) -> None:
    """Both files hold rules that promtool accepts with every lint rule on."""
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": document["groups"]}))

    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(file))

    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def test_the_manifest_has_the_same_groups() -> None:
    """Whoever runs the operator gets the same rules, and the kind that it looks for."""
    assert PLAIN["groups"] == MANIFEST["spec"]["groups"]
    assert ("monitoring.coreos.com/v1", "PrometheusRule") == (MANIFEST["apiVersion"], MANIFEST["kind"])


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_cases(file: Path) -> None:
    """Promtool sees every case of the file come out as written."""
    done = promtool("test", "rules", str(file))

    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alert", ALERTS, ids=words)
def test_every_alert_has_its_cases(alert: dict[str, Any], kind: str) -> None:
    """One that fires with its labels and words, one that stays quiet, one at the edge."""
    name = alert["alert"]
    groups = [one for one in GROUPS_OF_TESTS if one["name"] == f"{name}: {kind}"]
    tests = [test for one in groups for test in one["alert_rule_test"]]
    expected = [seen for test in tests for seen in test["exp_alerts"]]

    assert all(test["alertname"] == name for test in tests)
    assert KINDS[kind] or any(not test["exp_alerts"] for test in tests)
    assert kind == "edge" or KINDS[kind] == bool(expected)
    for seen in expected:
        assert {"summary", "description"} == seen["exp_annotations"].keys()
        assert alert["labels"]["severity"] == seen["exp_labels"]["severity"]


@pytest.mark.parametrize("record", RECORDS, ids=words)
def test_every_record_has_a_value(record: dict[str, Any]) -> None:
    """A test says what its value has to be."""
    asked = [test for one in GROUPS_OF_TESTS for test in one.get("promql_expr_test", ())]

    assert any(test["expr"] == record["record"] and test["exp_samples"] for test in asked)


def test_cases_are_of_series_that_there_are() -> None:
    """What goes into a case is what the daemon exports, with all of its labels: a dead series proves nothing."""
    for one in GROUPS_OF_TESTS:
        for entry in one["input_series"]:
            found = re.fullmatch(r"(\w+){(.*)}", entry["series"])
            assert found, entry["series"]
            name, labels = found[1], set(re.findall(r"(\w+)=", found[2]))

            assert (PROMETHEUS_OWN.get(name) or {*SERIES[name].labels, "job", "instance"}) == labels, entry["series"]


@pytest.mark.parametrize("rule", RULES, ids=words)
def test_names_are_of_the_list(rule: dict[str, Any]) -> None:
    """Every series is on the metric list, another rule's record, or `up`; rates are of counters; labels are there."""
    records = {one["record"]: set(one["record"].split(":")[0].split("_")) for one in RECORDS}
    found = uses(rule["expr"])
    labels = [known_labels(use, records) for use in found]

    assert found
    assert grouped_by(rule["expr"]) <= set().union(*labels)
    for use, there in zip(found, labels, strict=True):
        assert {label for label, _, _ in use.matchers} <= there
        if use.function == "rate":
            assert x.Type.COUNTER is SERIES[use.metric].type


def known_labels(use: Use, records: dict[str, set[str]]) -> set[str]:
    """Labels of a series. Raises KeyError when there is none of the name."""
    if use.metric in SERIES:
        return {*SERIES[use.metric].labels, "job", "instance"}
    return records.get(use.metric) or PROMETHEUS_OWN[use.metric]


def test_joules_and_grams_of_runs_are_exact() -> None:
    """A total of a run is the last value of each series, counted once a ledger: never a rise, never a bare sum."""
    for rule in RECORDS:
        if rule["record"].endswith(":exact") and rule["record"].startswith(("run:", "run_basis:", "run_currency:")):
            assert re.fullmatch(
                r"sum by \(run(, \w+)?\) \(run_ledger(_\w+)?:trainwatt_run_\w+:exact\)",
                rule["expr"],
            )
        elif rule["record"].startswith("run_ledger"):
            assert re.match(
                r"\(sum by \(run, ledger(, \w+)?\) "
                r"\(max by \(run, ledger[^()]*\) \(last_over_time\(\w+\[30m\]\)\)\)\) or ",
                rule["expr"],
            )


def test_bases_are_never_added() -> None:
    """Whatever reads grams keeps the basis; only the greatest of them is compared with a budget."""
    for rule in RULES:
        if "emissions_grams_total" in rule["expr"]:
            assert "basis" in rule["record"].split(":")[0]


def test_a_record_that_names_other_labels_is_refused() -> None:
    """The level of a record says its labels."""
    query = q.highest(SCOPE.select(x.DEVICE_POWER), "instance", "device")
    with pytest.raises(ValueError, match="instance:trainwatt_device_power_watts:max is by"):
        Record(level=("instance",), family=x.DEVICE_POWER.family, operation="max", query=query, help="")


def test_an_alert_whose_words_would_be_blank_is_refused() -> None:
    """A label in the words has to be on the alert."""
    query = q.highest(SCOPE.select(x.SOURCE_UP), "instance")
    fields = {"when": "", "query": query, "lasts": "1m", "severity": Severity.WARNING, "remedy": ""}
    with pytest.raises(ValueError, match="TrainwattDown has no label 'source'; it has instance"):
        Alert(name="TrainwattDown", summary="{{ $labels.source }} is down.", **fields)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="SourceDown does not begin with Trainwatt"):
        Alert(name="SourceDown", summary="", **fields)  # type: ignore[arg-type]


def test_the_page_tells_every_rule() -> None:
    """ALERTS.md has a line for each alert and record, without a template left in it."""
    page = (FOLDER / "ALERTS.md").read_text("utf-8")

    assert all(f"\n| `{words(rule)}` |" in page for rule in RULES)
    assert "{{" not in page
    assert page == rule_files.page()

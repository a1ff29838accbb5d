"""The rules as files: for Prometheus itself, for the Prometheus Operator, and as a page for people."""

import re
from typing import Any

import yaml

from dashboards import alerts, rules
from dashboards.rule import Alert, Group
from dashboards.thresholds import ENDED_RUNS, REQUEUED_RUNS

GROUPS: tuple[Group, ...] = (*rules.GROUPS, *alerts.GROUPS)
ALERTS = tuple(rule for group in GROUPS for rule in group.rules if isinstance(rule, Alert))
NOTE = "Written by scripts/generate: change dashboards/rules.py, alerts.py, run_alerts.py or thresholds.py instead."
WIDTH = 120


def plain() -> str:
    """A file for `rule_files` of prometheus.yml."""
    return f"# {NOTE}\n" + _yaml({"groups": _groups()})


def operator() -> str:
    """The same rules as a manifest for the Prometheus Operator."""
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "trainwatt", "labels": {"app.kubernetes.io/name": "trainwatt", "role": "alert-rules"}},
        "spec": {"groups": _groups()},
    }
    hint = "# Its labels have to be those that `ruleSelector` of your Prometheus resource asks for."
    return f"# {NOTE}\n{hint}\n" + _yaml(manifest)


def page() -> str:
    """Alerts and recording rules as Markdown."""
    head = (
        "What `trainwatt.rules.yml` (for `rule_files` of Prometheus) and `trainwatt.prometheusrule.yml` (for the "
        f"Prometheus Operator) in this folder hold. {NOTE.replace('scripts/generate', '`scripts/generate`')}"
    )
    totals = (
        "A budget is that of the whole run; where the settings of its nodes differ, the lowest holds. Totals of runs "
        f"look {ENDED_RUNS} back; while a run goes on, a part of it that is over, as on the node before a requeue, "
        f"stays in them if it was seen within {REQUEUED_RUNS}. Reports keep it."
    )
    lines = [
        "# Alerts and recording rules",
        "",
        head,
        "",
        "critical: somebody has to do something now; warning: look at it today; info: no fault.",
        "",
        "| alert | severity | when | for | what to do |",
        "|---|---|---|---|---|",
        *(
            f"| `{one.name}` | {one.severity} | {_words(one.when)} | {one.lasts} | {_words(one.remedy)} |"
            for one in ALERTS
        ),
        "",
        totals,
        "",
        "| recording rule | help |",
        "|---|---|",
        *(f"| `{record.name}` | {record.help} |" for record in rules.RECORDS),
        "",
    ]
    return "\n".join(lines)


def _groups() -> list[dict[str, Any]]:
    return [group.document() for group in GROUPS]


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=WIDTH, allow_unicode=True)


def _words(text: str) -> str:
    """Words of an alert before it comes: a label's name stands for its value."""
    return re.sub(r"{{ \$labels\.(\w+) }}", lambda label: label[1].upper(), text).replace("|", "\\|")

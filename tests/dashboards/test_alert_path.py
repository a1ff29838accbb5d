"""An alert walks the whole way: daemon, scrape, rules as shipped, Alertmanager, somebody's webhook."""

import re
from pathlib import Path

import yaml

from tests.dashboards.boards import ROOT
from tests.harness import poll
from tests.harness.alertmanager import alertmanager, webhook
from tests.harness.daemon import daemon
from tests.harness.prometheus import Prometheus, prometheus

RULES = ROOT / "dashboards" / "rules" / "trainwatt.rules.yml"
ALERT = "TrainwattRunCostBudgetExceeded"
RUN = "mock-llm-pretrain"
BUDGET = 0.0001
SETTINGS = f"""
mock = "training"
zone = "DE"
price = {{currency = "EUR", flat = 0.3}}
[budget]
cost = {BUDGET}
"""
"""The simulated runs name budgets of energy and CO2e themselves, but none of money: this one is used up in a second."""
ROUNDED = 1.0005
"""Four digits are written."""


def test_an_alert_arrives_with_its_words(tmp_path: Path) -> None:
    """Whoever is woken reads which run it is, how far it is over its budget, and what to do; and no rule is broken."""
    settings = tmp_path / "trainwatt.toml"
    settings.write_text(SETTINGS)
    with (
        webhook() as somebody,
        alertmanager(somebody, tmp_path / "alertmanager") as address,
        daemon("--config", str(settings), log=tmp_path / "log") as served,
        prometheus(
            [f"127.0.0.1:{served.port}"], tmp_path / "prometheus", rules=[RULES], alertmanager=address
        ) as server,
    ):
        alert = poll.until(
            lambda: next((told for told in somebody.alerts(ALERT) if told["labels"]["run"] == RUN), None),
            what="the alert",
            within_s=20.0,
        )
        poll.until(lambda: evaluated(server), what="an evaluation of every rule", within_s=10.0)
        spent = server.query(f'trainwatt_run_cost_total{{run="{RUN}"}}')
        failed = [rule["name"] for rule in rules(server) if rule["health"] != "ok"]

    before, after = re.split(r"{{ \$value .*?}}", written("summary"))
    share = re.fullmatch(rf"{re.escape(before)}([\d.]+)%{re.escape(after)}", alert["annotations"]["summary"])
    assert share, alert["annotations"]["summary"]
    assert 100.0 < float(share[1]) <= 100.0 * float(spent[0]["value"][1]) / BUDGET * ROUNDED
    assert written("description") == alert["annotations"]["description"]
    assert {"alertname": ALERT, "severity": "critical", "run": RUN, "currency": "EUR"} == alert["labels"]
    assert "firing" == alert["status"]
    assert not failed


def written(annotation: str) -> str:
    """An annotation of the alert as it stands in the rules file, with the labels filled in."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    (alert,) = [rule for group in groups for rule in group["rules"] if rule.get("alert") == ALERT]
    text: str = alert["annotations"][annotation]
    return text.replace("{{ $labels.run }}", RUN).replace("{{ $labels.currency }}", "EUR")


def rules(server: Prometheus) -> list[dict[str, str]]:
    """Every rule that the server has, with its health."""
    return [rule for group in server.get("rules")["groups"] for rule in group["rules"]]


def evaluated(server: Prometheus) -> bool:
    """Whether every rule has been tried, with what the daemon tells."""
    return all(rule["health"] != "unknown" for rule in rules(server))

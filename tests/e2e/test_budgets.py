"""Budgets from settings, tags, the socket and a job, and throttled seconds from the driver: to what a scraper reads."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from monitor.runs.protocol import ask
from tests.drivers import nvml
from tests.harness import need, poll
from tests.harness.daemon import Daemon, clean_environment, daemon

SETTINGS = """
[budget]
energy_kwh = 500
[budget.project.vision]
co2e_kg = 120
cost = 40
"""
JOB = """
import sys, trainwatt
with trainwatt.run("job", id="job", tags={"budget_energy_kwh": "abc", "budget_kwh": "5", "budget_co2e_kg": "0.5"}):
    trainwatt.step()
"""


@dataclass
class Node:
    """A daemon with these settings, on one GPU that is throttled."""

    served: Daemon
    driver: nvml.FakeDriver
    scratch: Path
    environment: dict[str, str]

    def budgets(self, run: str) -> dict[str, float]:
        """Each budget of a run, as it is scraped."""
        return {
            family.name.removeprefix("trainwatt_run_budget_"): sample.value
            for family in parse_text(self.served.metrics())
            for sample in family.samples
            if family.name.startswith("trainwatt_run_budget_") and sample.labels["run"] == run
        }

    def api(self, path: str) -> Any:
        """What the API answers."""
        return json.loads(self.served.get(f"/api/v1/{path}")[2])

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command with the daemon's socket at hand."""
        return subprocess.run(
            words,
            env=clean_environment(
                self.environment | {"TRAINWATT_SOCKET": str(self.served.socket), "CUDA_VISIBLE_DEVICES": "0"}
            ),
            cwd=self.scratch,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Iterator[Node]:
    """One daemon for all of them."""
    scratch = tmp_path_factory.mktemp("budgets")
    gpu = nvml.FakeGpu(throttled={"power": 0.5, "thermal": 0.25, "sync_boost": None})
    driver = nvml.FakeDriver(scratch / "nvml.conf", [gpu])
    environment = driver.environment(library.parent)
    (scratch / "sys").mkdir()
    (scratch / "trainwatt.toml").write_text(SETTINGS)
    arguments = ("--config", str(scratch / "trainwatt.toml"), "--sysfs", str(scratch / "sys"), "--zone", "DE")
    with daemon(*arguments, log=scratch / "log", env=environment) as served:
        yield Node(served, driver, scratch, environment)


def test_the_settings_are_the_budgets_of_runs_that_name_none(node: Node) -> None:
    """Those of the project, and field by field the general ones; the same in the API and the exposition."""
    assert node.served.socket is not None
    ask(node.served.socket, {"op": "start", "id": "plain"})
    ask(node.served.socket, {"op": "start", "id": "seen", "project": "vision"})
    poll.until(lambda: node.budgets("seen"), what="the run in a scrape")

    assert {"energy_joules": 1.8e9} == node.budgets("plain")
    assert {"energy_joules": 1.8e9, "emissions_grams": 120e3, "cost": 40.0} == node.budgets("seen")
    assert {"energy_j": 1.8e9, "emissions_g": 120e3, "cost": 40.0} == node.api("runs/seen")["budget"]
    of_lists = [{run["run"]["id"]: run["budget"] for run in node.api("runs")["runs"]}]
    of_lists.append({run["id"]: run["budget"] for run in node.api("snapshot")["runs"]})
    for listed in of_lists:
        assert {"energy_j": 1.8e9, "emissions_g": None, "cost": None} == listed["plain"]
        assert {"energy_j": 1.8e9, "emissions_g": 120e3, "cost": 40.0} == listed["seen"]


def test_money_without_a_price_is_told_at_the_start(node: Node) -> None:
    """One line: it can never be exceeded."""
    told = [line for line in node.served.log.splitlines() if "can never be exceeded" in line]

    assert 1 == len(told)
    assert told[0].startswith(
        "trainwatt: budget: cost can never be exceeded, since no price is set; set one with [price]"
    )


def test_tags_of_run_come_first(node: Node) -> None:
    """`trainwatt run --tag` to the scrape, and its report says how much of it is used."""
    tags = ("project=vision", "budget_energy_kwh=0.000001", "budget_cost=2.5")
    words = ("--id", "tagged", *(word for tag in tags for word in ("--tag", tag)))
    done = node.run(need.trainwatt(), "run", "--socket", str(node.served.socket), *words, "--", "sleep", "1")
    poll.until(lambda: node.budgets("tagged"), what="the run in a scrape")
    shown = node.run(need.trainwatt(), "report", "--socket", str(node.served.socket), "tagged").stdout

    assert 0 == done.returncode, done.stderr
    assert {"energy_joules": pytest.approx(3.6), "emissions_grams": 120e3, "cost": 2.5} == node.budgets("tagged")
    assert "OVER BUDGET" in done.stderr
    assert "EXCEEDED" in shown


def test_a_bad_budget_of_a_job_loses_nothing(node: Node) -> None:
    """Two ranks of a job that tag it wrongly are metered, with what is right; the daemon says so once."""
    for _rank in range(2):
        done = node.run(sys.executable, "-c", JOB)

        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    poll.until(lambda: "emissions_grams" in node.budgets("job"), what="the run in a scrape")
    told = [line for line in node.served.log.splitlines() if "'job'" in line]

    assert {"energy_joules": 1.8e9, "emissions_grams": 500.0} == node.budgets("job")
    assert "abc" == node.api("runs/job")["run"]["tags"]["budget_energy_kwh"]
    assert 1 == len(told)
    assert "budget_energy_kwh: 'abc' is no amount" in told[0]
    assert "budget_kwh: there is no such budget; there is: budget_energy_kwh, budget_co2e_kg, budget_cost" in told[0]
    assert told[0].endswith("; of no effect")


def test_throttled_seconds_are_scraped(node: Node) -> None:
    """By reason, as the driver counts them; what it does not offer is absent."""

    def scraped() -> dict[str, float]:
        return {
            sample.labels["reason"]: sample.value
            for family in parse_text(node.served.metrics())
            for sample in family.samples
            if sample.name == "trainwatt_device_throttled_seconds_total"
            and sample.labels["device"] == node.driver.uuid(0)
        }

    seen = poll.until(scraped, what="telemetry")
    now_s = node.driver.now_s()

    assert {"power", "thermal", "board_limit", "low_utilization", "reliability"} == set(seen)
    assert 0.0 <= now_s - seen["power"] / 0.5 < 30.0
    assert seen["power"] == pytest.approx(2 * seen["thermal"])
    assert 0.0 == seen["board_limit"]

"""A real training process as the job: PyTorch on the CPU, whose phases the stand-in GPUs follow."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.boards import TARGETS, filled_in
from tests.drivers import nvml
from tests.harness import need, poll
from tests.harness.daemon import Daemon, daemon
from tests.harness.prometheus import Prometheus, prometheus

GPUS = 2
ROOT = Path(__file__).parents[2]
JOB = ROOT / "tests" / "jobs" / "train.py"


@dataclass
class Trained:
    """What is left after the run: who metered it, and what it says of itself."""

    served: Daemon
    scraped: Prometheus
    report: dict[str, Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Iterator[Trained]:
    """Meter a whole training run; scrape it before its start and after its end."""
    if importlib.util.find_spec("torch") is None:
        need.missing("PyTorch (pip install torch==2.13.0)")
    scratch = tmp_path_factory.mktemp("training")
    driver = nvml.FakeDriver(scratch / "nvml.conf", [nvml.FakeGpu()] * GPUS)
    (scratch / "sys").mkdir()
    environment = driver.environment(library.parent)
    arguments = ("--sysfs", str(scratch / "sys"), "--zone", "FR")
    with (
        daemon(*arguments, log=scratch / "log", env=environment) as served,
        prometheus([f"127.0.0.1:{served.port}"], scratch / "prometheus") as scraped,
    ):
        scraped.wait_for_scrapes(3)
        report = scratch / "report.json"
        subprocess.run(
            [sys.executable, str(JOB), str(driver.config_path), str(GPUS), str(report)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=True,
            timeout=120,
        )
        document = json.loads(report.read_text())
        poll.until(
            lambda: served.snapshot()["devices"][0]["read_at"]["boottime_s"] > document["end_s"], what="a later reading"
        )
        scraped.wait_for_scrapes(scraped.scrapes() + 2)
        yield Trained(served, scraped, document)


def test_it_was_a_training_run(trained: Trained) -> None:
    """The job made steps and learned: its phases are those of real work."""
    assert trained.report["steps"] > 100
    assert trained.report["losses"][1] < trained.report["losses"][0]
    assert ["steps", "evaluation", "checkpoint"] * 3 + ["idle"] == [name for name, _ in trained.report["phases"]]


def test_the_joules_follow_the_job(trained: Trained) -> None:
    """In Prometheus each GPU gained, from before the run to after it, the joules that the run made it draw."""
    series = trained.scraped.samples("trainwatt_device_energy_joules_total", 600)
    idle_w = 70.0

    assert GPUS == len(series)
    for samples in series.values():
        stamps = trained.scraped.samples("trainwatt_source_last_success_timestamp_seconds", 600)
        read_at = dict(stamps[next(key for key in stamps if ("source", "nvml") in key)])
        metered_j = samples[-1][1] - samples[0][1]
        span_s = read_at[samples[-1][0]] - read_at[samples[0][0]]
        run_s = trained.report["end_s"] - trained.report["begin_s"]
        true_j = trained.report["true_j"][0] + idle_w * (span_s - run_s)

        assert true_j == pytest.approx(metered_j, rel=0.01)


@pytest.mark.parametrize("title", ["Power by device", "Energy by device"])
def test_the_dashboard_shows_them(trained: Trained, title: str) -> None:
    """The dashboard's own queries, answered by the real Prometheus, show both GPUs of the job."""
    target = next(target for target in TARGETS if target.panel["title"] == title)
    answer = trained.scraped.query(filled_in(target.expr))

    assert GPUS == len({series["metric"]["device"] for series in answer})
    assert all(float(series["value"][1]) > 0.0 for series in answer)


def test_power_rises_and_falls_with_the_phases(trained: Trained) -> None:
    """The watts that were scraped during steps, evaluation and checkpoint are those of the phases."""
    peak_w = trained.scraped.query("max_over_time(trainwatt_device_power_watts[10m])")
    now_w = trained.scraped.query("trainwatt_device_power_watts")

    assert all(450.0 < float(series["value"][1]) < 560.0 for series in peak_w)  # mean of the steps: 511 W
    assert all(float(series["value"][1]) == pytest.approx(70.0, abs=5.0) for series in now_w)

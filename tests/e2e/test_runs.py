"""`trainwatt run` against the truth, with a daemon and without: every surface tells the same joules."""

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from monitor.runs.protocol import ask
from tests.drivers import nvml, rapl
from tests.drivers.waveform import Square
from tests.harness import need, poll
from tests.harness.daemon import Daemon, clean_environment, daemon, free_port
from tests.harness.processes import processes_with
from tests.harness.prometheus import Prometheus, prometheus
from tests.harness.totals import total_j, total_query
from tests.harness.victoria import victoria

GPUS = 2
PERIOD_S = 0.02
STEP_W = 400.0
DEMO = ("--name", "demo", "--id", "demo")
ALLOCATED = {"CUDA_VISIBLE_DEVICES": "0,1"}
"""Both GPUs are the run's, though no process of it is on them."""
JOB = Path(__file__).parents[1] / "jobs" / "steps.py"


@dataclass
class Machine:
    """GPUs and CPUs under load, and a place of their own for everything that is written."""

    scratch: Path
    driver: nvml.FakeDriver
    environment: dict[str, str]
    sysfs: Path

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """`trainwatt run ARGUMENTS` to its end, in the scratch directory."""
        return subprocess.run(
            [need.trainwatt(), "run", *arguments],
            env=clean_environment(self.environment | ALLOCATED | (env or {})),
            cwd=self.scratch,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def report(self, run: str) -> dict[str, Any]:
        """The report file that the run left."""
        (path,) = self.scratch.glob(f"trainwatt-{run}-*.json")
        document: dict[str, Any] = json.loads(path.read_text())
        return document

    def true_gpu_j(self, report: dict[str, Any]) -> float:
        """What the GPUs really drew between the edges of a run."""
        start_s = report["start_unix_s"] - (time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
        return sum(self.driver.true_energy_j(gpu, start_s, start_s + report["duration_s"]) for gpu in range(GPUS))


@pytest.fixture
def machine(tmp_path: Path, library: Path) -> Iterator[Machine]:
    """Two GPUs that draw steps, two sockets."""
    gpus = [nvml.FakeGpu(counter_period_s=PERIOD_S, counter_phase_s=0.007 * gpu) for gpu in range(GPUS)]
    driver = nvml.FakeDriver(tmp_path / "nvml.conf", gpus)
    for gpu in range(GPUS):
        wave = Square(period_s=0.31 + 0.1 * gpu, duty=0.6, high_w=150.0 + STEP_W, low_w=150.0)
        driver.wave(gpu, driver.now_s(), wave)
    tree = rapl.RaplTree(tmp_path / "sys", rapl.server())
    with tree.running():
        yield Machine(tmp_path, driver, driver.environment(library.parent), tmp_path / "sys")


def energy_j(report: dict[str, Any], component: str = "") -> float:
    """All joules of a report, or those of one component."""
    return float(sum(part["energy_j"] for part in report["energy_j"] if part["component"].startswith(component)))


def intervals_j(report: dict[str, Any]) -> float:
    """The same by its intervals."""
    column = report["intervals"]["columns"].index("energy_j")
    return float(sum(row[column] for row in report["intervals"]["rows"]))


def is_true(machine: Machine, report: dict[str, Any], relative: float) -> bool:
    """Section 10: so much of it, and one counter period x power step at each edge of each GPU."""
    true_j = machine.true_gpu_j(report)
    edges_j = 2 * GPUS * PERIOD_S * STEP_W
    return abs(energy_j(report, "gpu") - true_j) <= relative * true_j + edges_j


def of_devices(devices: list[dict[str, Any]], component: str, *what: str) -> float:
    """Joules of all devices of a component: the parts of each that are named."""
    chosen = [device for device in devices if device["component"] == component]
    return float(sum(device[f"{name}_energy_j"] for device in chosen for name in what))


def api_run(served: Daemon, run: str) -> dict[str, Any]:
    """A run as the API has it."""
    document: dict[str, Any] = json.loads(served.get(f"/api/v1/runs/{urllib.parse.quote(run)}")[2])
    return document


def ledger_j(state: Path, run: str) -> float:
    """A run's joules as the file has them, read with nothing of ours."""
    with contextlib.closing(sqlite3.connect(f"file:{state / 'ledger.sqlite'}?mode=ro", uri=True)) as db:
        (joules,) = db.execute(
            "SELECT sum(energy_j) FROM intervals JOIN runs ON intervals.run = runs.key WHERE runs.id = ?", (run,)
        ).fetchone()
    return float(joules)


def test_with_a_daemon_every_surface_agrees(machine: Machine) -> None:
    """Summary, report file, API, ledger and Prometheus tell the same joules, and they are the truth."""
    arguments = ("--sysfs", str(machine.sysfs), "--zone", "FR")
    with (
        daemon(*arguments, log=machine.scratch / "log", env=machine.environment) as served,
        prometheus([f"127.0.0.1:{served.port}"], machine.scratch / "prometheus") as scraped,
    ):
        scraped.wait_for_scrapes(1)
        done = machine.run(*DEMO, "--socket", str(served.socket), "--", sys.executable, str(JOB), "6", "3")
        scraped.wait_for_scrapes(scraped.scrapes() + 2)
        report, api = machine.report("demo"), api_run(served, "demo")
        devices = served.snapshot()["devices"]
        kept_j, scraped_j = ledger_j(machine.scratch / "log.state", "demo"), total_j(scraped, "demo")
        steps = scraped.query('trainwatt_run_steps_total{run="demo"}')

    joules = energy_j(report)
    assert done.returncode == 3, done.stderr
    assert is_true(machine, report, 0.01)
    assert joules == pytest.approx(intervals_j(report))
    assert joules == pytest.approx(energy_j(api))
    assert joules == pytest.approx(kept_j)
    assert joules == pytest.approx(scraped_j)
    assert f"{joules / 1000:.2f} kJ" in done.stderr
    for component in ("gpu", "cpu", "dram"):
        every_j = sum(sum(one["energy_j"].values()) for one in devices if one["component"] == component)
        parts_j = of_devices(devices, component, "attributed", "unattributed", "pending")

        assert parts_j == pytest.approx(every_j)
        assert 0.0 < energy_j(report, component) < every_j
        assert energy_j(report, component) == pytest.approx(of_devices(devices, component, "attributed"))
    assert int(done.stdout) == report["progress"]["steps"] == int(float(steps[0]["value"][1]))
    assert report["progress"]["tokens"] == 1000 * report["progress"]["steps"]
    assert {"train", "eval"} == set(report["phase_energy_j"])
    assert sum(report["phase_energy_j"].values()) <= joules
    assert not api["active"]


def test_without_a_daemon_it_brings_its_own(machine: Machine) -> None:
    """The same joules in summary and report, the truth again, and no process and no socket afterwards."""
    with TemporaryDirectory(prefix="tw-") as short:
        own = ("--sysfs", str(machine.sysfs), "--zone", "FR")
        done = machine.run(*DEMO, *own, "--", sys.executable, str(JOB), "6", "3", env={"XDG_RUNTIME_DIR": short})
        left = sorted(str(path.relative_to(short)) for path in Path(short).rglob("*"))
        daemons = processes_with("monitor.cli.private", short)
    report = machine.report("demo")

    assert done.returncode == 3, done.stderr
    assert is_true(machine, report, 0.01)
    assert energy_j(report) == pytest.approx(intervals_j(report))
    assert f"{energy_j(report) / 1000:.2f} kJ" in done.stderr
    assert int(done.stdout) == report["progress"]["steps"]
    assert sum(grams["emissions_g"] for grams in report["emissions_g"]) > 0.0
    assert [] == daemons
    assert [path for path in left if path != "trainwatt"] == []


def test_a_gpu_without_a_counter_is_told_to_the_end(tmp_path: Path, library: Path) -> None:
    """Its one-second mean speaks of half a second ago: the report waits for it, and nothing comes after it."""
    driver = nvml.FakeDriver(tmp_path / "nvml.conf", [nvml.FakeGpu(idle_w=300.0)])
    driver.fault("nvmlDeviceGetTotalEnergyConsumption", 3)  # NVML_ERROR_NOT_SUPPORTED
    (tmp_path / "sys").mkdir()
    environment = driver.environment(library.parent)
    with daemon("--sysfs", str(tmp_path / "sys"), log=tmp_path / "log", env=environment) as served:
        assert served.socket is not None
        poll.until(lambda: served.snapshot()["devices"][0]["energy_j"], what="joules")
        ask(served.socket, {"op": "start", "id": "short", "environment": {"CUDA_VISIBLE_DEVICES": "0"}})
        poll.until(lambda: api_run(served, "short")["duration_s"] > 2.0, what="two seconds of it")
        report = ask(served.socket, {"op": "end", "run": "short"})["report"]
        ended_s = report["end_unix_s"]
        poll.until(lambda: served.snapshot()["at"]["unix_s"] > ended_s + 3.0, what="three seconds after it")
        later = api_run(served, "short")

    assert [{"gpu", "integrated"}] == [{part["component"], part["method"]} for part in report["energy_j"]]
    assert energy_j(report) == pytest.approx(300.0 * report["duration_s"], rel=0.02)
    assert energy_j(later) == energy_j(report)


def test_six_short_runs_between_two_scrapes(machine: Machine) -> None:
    """Runs of 0.7 s under a scrape each 5 s: all six are in Prometheus, each exactly as its report says."""
    with (
        daemon("--sysfs", str(machine.sysfs), log=machine.scratch / "log", env=machine.environment) as served,
        prometheus([f"127.0.0.1:{served.port}"], machine.scratch / "prometheus", interval_s=5.0) as scraped,
    ):
        for number in range(6):
            done = machine.run("--id", f"short-{number}", "--socket", str(served.socket), "--", "sleep", "0.7")

            assert done.returncode == 0, done.stderr
        reports = [machine.report(f"short-{number}") for number in range(6)]
        ended_s = max(report["end_unix_s"] for report in reports)
        poll.until(
            lambda: [s for s in scraped.query("timestamp(up)") if float(s["value"][1]) > ended_s + 1.0],
            what="a scrape after the last run",
        )
        scraped_j = [total_j(scraped, f"short-{number}") for number in range(6)]

    assert [energy_j(report) for report in reports] == pytest.approx(scraped_j)
    for report in reports:
        assert 0.7 <= report["duration_s"] < 2.0
        assert is_true(machine, report, 0.01)


def test_restarted_elsewhere_under_two_replicas(machine: Machine) -> None:
    """Another address and port in the middle, two replicas that write to one store: the total stays the run's."""
    scratch = machine.scratch
    state = ("--sysfs", str(machine.sysfs), "--state-dir", str(scratch / "state"))
    with TemporaryDirectory(prefix="tw-") as short, contextlib.ExitStack() as stack:
        socket = f"{short}/socket"
        store = stack.enter_context(victoria(scratch / "victoria"))
        with daemon(*state, "--socket", socket, log=scratch / "first", env=machine.environment) as first:
            ask(Path(socket), {"op": "start", "id": "moved", "name": "moved", "environment": ALLOCATED})
            second_port = free_port()
            targets = [f"127.0.0.1:{first.port}", f"localhost:{second_port}"]
            replicas = [
                stack.enter_context(
                    prometheus(targets, scratch / name, replica=name, write_to=f"{store.url}/api/v1/write")
                )
                for name in ("a", "b")
            ]
            for replica in replicas:
                poll.until(lambda r=replica: r.query(total_query("moved")), what="the run in Prometheus")  # type: ignore[misc]
        with daemon(
            *state, "--socket", socket, log=scratch / "second", env=machine.environment, port=second_port
        ) as second:
            poll.until(lambda: second.snapshot()["runs"][0]["duration_s"] > 5.0, what="the run on its second address")
            report = ask(Path(socket), {"op": "end", "run": "moved"})["report"]
            ended_s = report["end_unix_s"]
            for server, seen in (*((replica, 1) for replica in replicas), (store, 2)):
                poll.until(lambda s=server, n=seen: scraped_after(s, ended_s) >= n, what="a scrape after the end")  # type: ignore[misc]
            totals_j = [total_j(server, "moved") for server in (*replicas, store)]
            series = store.query(
                'count(last_over_time(trainwatt_run_energy_joules_total{run="moved",component="gpu"}[1h]))'
            )

    assert [energy_j(report)] * 3 == pytest.approx(totals_j)
    assert float(series[0]["value"][1]) == 4.0, "two addresses x two replicas"
    assert is_true(machine, report, 0.01)


def scraped_after(server: Prometheus, ended_s: float) -> int:
    """How many replicas have seen the run after its end."""
    stamps = server.query('timestamp(trainwatt_run_end_timestamp_seconds{run="moved"})')
    return sum(float(series["value"][1]) > ended_s for series in stamps)

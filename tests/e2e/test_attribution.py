"""Runs that come and go on real processes, under a real Prometheus: in every scrape the sum closes."""

import json
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.drivers import nvml, rapl
from tests.drivers.waveform import Const
from tests.harness import need, poll
from tests.harness.daemon import Daemon, clean_environment, daemon
from tests.harness.prometheus import Prometheus, prometheus

GIB = 2**30
IDLE_W, BUSY_W = 80.0, 400.0
MINUTES_S = 90.0
WORKER = """
import os, sys, time
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    child = os.fork()
    if not child:
        sum(number * number for number in range(30000))
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(0.05)
"""
"""Forks workers that work and die, and reaps them."""
OTHERS = 8
"""GPUs that runs of other tests may name by number: whoever looks for runs finds them, too."""
SHARED, OWN_1, OWN_2, UNUSED, FREE = range(OTHERS, OTHERS + 5)


@dataclass
class Site:
    """Five GPUs beside those of others, one socket, and the processes that a test has started."""

    scratch: Path
    driver: nvml.FakeDriver
    environment: dict[str, str]
    sysfs: Path
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def work(self, run: str, gpu: int | None, sm_percent: int = 50, lasts_s: float = 3600.0) -> int:
        """Start a process whose environment names the run, on a GPU; return its number."""
        env = clean_environment() | {"TRAINWATT_RUN": run}
        env.pop("CUDA_VISIBLE_DEVICES", None)
        process = subprocess.Popen([sys.executable, "-c", WORKER, str(lasts_s)], env=env)
        self.started[run] = process
        if gpu is not None:
            self.driver.process(gpu, process.pid, GIB, sm_percent)
        return process.pid

    def register(self, run: str, gpu: int, served: Daemon) -> int:
        """`trainwatt run` with an allocation of one GPU; return its number."""
        env = clean_environment(self.environment | {"CUDA_VISIBLE_DEVICES": self.driver.uuid(gpu)})
        words = [need.trainwatt(), "run", "--id", run, "--socket", str(served.socket), "--report", "none", "--"]
        words += [sys.executable, "-c", WORKER, "3600"]
        self.started[run] = subprocess.Popen(words, env=env, cwd=self.scratch, stderr=subprocess.DEVNULL)
        return self.started[run].pid

    def end(self, run: str, gpu: int | None) -> None:
        """Let it go, from its GPU, too."""
        process = self.started.pop(run)
        if gpu is not None:
            self.driver.end_process(gpu, process.pid)
        process.terminate()
        process.wait(20)


@pytest.fixture
def site(tmp_path: Path, library: Path) -> Iterator[Site]:
    """Steady power, so that the truth is a product."""
    gpus = [
        nvml.FakeGpu(idle_w=IDLE_W, counter_period_s=0.02, uuid=f"GPU-a77b0000-0000-4000-8000-{number:012d}")
        for number in range(FREE + 1)
    ]
    driver = nvml.FakeDriver(tmp_path / "nvml.conf", gpus)
    for gpu in (SHARED, OWN_1, OWN_2):
        driver.wave(gpu, driver.now_s(), Const(BUSY_W))
    tree = rapl.RaplTree(tmp_path / "sys", rapl.server())
    made = Site(tmp_path, driver, driver.environment(library.parent), tmp_path / "sys")
    with tree.running():
        yield made
    for process in made.started.values():
        process.terminate()  # `trainwatt run` passes it on
        process.wait(20)


def gpu_j(served: Daemon, run: str) -> float:
    """A run's joules on GPUs; 0 while the daemon does not know it."""
    (found,) = [one for one in served.snapshot()["runs"] if one["id"] == run] or [{"energy_j": []}]
    return float(sum(part["energy_j"] for part in found["energy_j"] if part["component"] == "gpu"))


def knows(served: Daemon, *runs: str) -> bool:
    """Whether all of them are alive there."""
    return set(runs) <= {run["id"] for run in served.snapshot()["runs"] if run["active"]}


Table = dict[float, dict[tuple[str, ...], float]]


def table(server: Prometheus, name: str, *labels: str) -> Table:
    """By time of the scrape, then by labels; series that differ in other labels are added up."""
    rows: Table = defaultdict(lambda: defaultdict(float))
    for metric, samples in server.samples(f"trainwatt_{name}", 600).items():
        told = dict(metric)
        for t, value in samples:
            rows[t][tuple(told[label] for label in labels)] += value
    return rows


def stir(site: Site, server: Prometheus) -> None:
    """Processes come, go, die and come again, on the free GPU and on the shared one, for minutes."""
    rng = random.Random(11)
    guests: list[tuple[str, int]] = []
    ends_at, count = time.monotonic() + MINUTES_S, 0
    while time.monotonic() < ends_at:
        action = rng.choice(["come", "come", "go", "again", "brief"])
        count += 1
        if action == "come" and len(guests) < 4:
            gpu = rng.choice([FREE, FREE, SHARED])
            site.work(f"guest-{count}", gpu, rng.choice([10, 40]))
            guests.append((f"guest-{count}", gpu))
        elif action == "go" and guests:
            site.end(*guests.pop(rng.randrange(len(guests))))
        elif action == "again":
            site.end("share-b", SHARED)
            site.work("share-b", SHARED, 20)
        elif action == "brief":
            site.work(f"brief-{count}", None, lasts_s=0.2)
        server.wait_for_scrapes(server.scrapes() + rng.choice([1, 2, 4]))


def assert_closed(server: Prometheus, scrapes: int) -> None:
    """In every scrape: attributed + unattributed + pending = device, and runs by component = attributed."""
    device = ("device", "component")
    total = table(server, "device_energy_joules_total", *device)
    attributed = table(server, "device_attributed_energy_joules_total", *device)
    unattributed = table(server, "device_unattributed_energy_joules_total", *device)
    pending = table(server, "device_pending_energy_joules", *device)
    by_run = table(server, "run_energy_joules_total", "component")

    assert min(len(rows) for rows in (total, attributed, unattributed, pending)) >= scrapes - 2
    for t, devices in total.items():
        of_component: dict[str, float] = defaultdict(float)
        for key, joules in devices.items():
            parts_j = attributed[t][key] + unattributed[t][key] + pending[t][key]
            assert parts_j == pytest.approx(joules, rel=1e-9, abs=1e-6), (t, key)
            of_component[key[1]] += attributed[t][key]
        for component, joules in of_component.items():
            assert by_run[t][component,] == pytest.approx(joules, rel=1e-9, abs=1e-6), (t, component)


def test_the_sum_closes_on_every_scrape_while_processes_come_and_go(site: Site) -> None:
    """Two share a GPU, two hold their own, one is allocated and unused, one is free: for two minutes in all."""
    with ExitStack() as stack:
        served = stack.enter_context(
            daemon("--sysfs", str(site.sysfs), log=site.scratch / "log", env=site.environment, discover=True)
        )
        server = stack.enter_context(prometheus([f"127.0.0.1:{served.port}"], site.scratch / "prometheus"))
        site.work("share-a", SHARED, 60)
        site.work("share-b", SHARED, 20)
        for run, gpu in (("own-1", OWN_1), ("own-2", OWN_2), ("reserved", UNUSED)):
            site.register(run, gpu, served)
        poll.until(lambda: knows(served, "share-a", "share-b", "own-1", "own-2", "reserved"), what="five runs")
        began = {run: gpu_j(served, run) for run in ("share-a", "share-b")}
        poll.until(lambda: gpu_j(served, "share-b") > began["share-b"] + 10 * BUSY_W / 4, what="10 s of sharing")
        shared = [gpu_j(served, run) - began[run] for run in ("share-a", "share-b")]
        stir(site, server)
        scrapes = server.scrapes()
        assert_closed(server, scrapes)
        snapshot = served.snapshot()

    found = {run["id"]: run for run in snapshot["runs"]}
    free = next(one for one in snapshot["devices"] if one["id"] == site.driver.uuid(FREE))
    reserved_j = sum(part["energy_j"] for part in found["reserved"]["energy_j"] if part["component"] == "gpu")
    assert scrapes > MINUTES_S * 0.8
    # 60 to 20: three quarters of what the two drew. Nobody knows what the GPU draws idle, for it never was.
    assert shared[0] / sum(shared) == pytest.approx(0.75, abs=0.02)
    assert any(run.startswith("guest-") for run in found)
    assert {part["share"] for part in found["own-1"]["energy_j"] if part["component"] == "gpu"} == {"whole"}
    assert reserved_j == pytest.approx(IDLE_W * found["reserved"]["duration_s"], rel=0.02)
    assert free["unattributed_energy_j"] > 0.0


def test_a_run_found_late_has_its_joules_from_its_processes_start(site: Site) -> None:
    """It is on the GPU for seconds before anybody looks; no counter falls when it is found.

    Without a CPU's sensor: the edge of any other run on this machine, such as those of tests beside this one, settles
    what the CPUs used up to then, and a run that is found after it has no part in that.
    """
    (site.scratch / "bare").mkdir()
    bare = str(site.scratch / "bare")
    with daemon("--sysfs", bare, log=site.scratch / "log", env=site.environment, discover=True) as served:
        free = site.driver.uuid(OWN_1)

        def device() -> dict[str, Any]:
            return next(one for one in served.snapshot()["devices"] if one["id"] == free)

        poll.until(lambda: device()["unattributed_energy_j"] > 0.0, what="joules that nobody claimed")
        pid = site.work("late", OWN_1, 70)
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        seen: list[dict[str, float]] = []

        def is_found() -> bool:
            seen.append(device())
            return knows(served, "late") and gpu_j(served, "late") > 0.0

        poll.until(is_found, what="the run")
        found_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        poll.until(lambda: gpu_j(served, "late") > 12 * BUSY_W, what="twelve seconds of it")
        snapshot = served.snapshot()
        entry = device()
    start_s = ticks / os.sysconf("SC_CLK_TCK")
    (run,) = [one for one in snapshot["runs"] if one["id"] == "late"]
    read_s = next(one for one in snapshot["devices"] if one["id"] == free)["read_at"]["boottime_s"]
    joules = sum(part["energy_j"] for part in run["energy_j"] if part["component"] == "gpu")

    assert found_s - start_s > 0.3, "it was not late at all"
    assert run["start"]["boottime_s"] == pytest.approx(start_s, abs=0.02)
    assert joules == pytest.approx(BUSY_W * (read_s - start_s), abs=BUSY_W * 0.1)
    assert run["measured_time_ratio"] > 0.99
    for key in ("attributed_energy_j", "unattributed_energy_j"):
        values = [one[key] for one in (*seen, entry)]
        assert values == sorted(values), f"{key} fell"


def test_a_daemon_in_the_middle_of_a_run_claims_nothing_that_it_has_not_seen(site: Site) -> None:
    """No idle power is known, so none is shown; the time before the daemon counts as not measured."""
    site.work("long", OWN_1, 0)
    began = time.monotonic()
    poll.until(lambda: time.monotonic() > began + 8.0, what="eight seconds without a daemon")
    with daemon("--sysfs", str(site.sysfs), log=site.scratch / "log", env=site.environment, discover=True) as served:
        poll.until(lambda: gpu_j(served, "long") > 8 * BUSY_W, what="eight seconds of it")
        text, snapshot = served.metrics(), served.snapshot()
    (run,) = [one for one in snapshot["runs"] if one["id"] == "long"]
    idle = [line for line in text.splitlines() if line.startswith("trainwatt_device_idle_power_watts{")]

    assert 'trainwatt_run_idle_energy_joules_total{run="long"' not in text
    assert not [line for line in idle if site.driver.uuid(OWN_1) in line]
    assert run["duration_s"] > 16.0
    assert 0.3 < run["measured_time_ratio"] < 0.75
    assert json.dumps(run)


def test_the_idle_part_of_a_run_is_told_once_it_has_been_seen(site: Site) -> None:
    """A GPU that was seen idle: of the run that comes then, what the GPU would have drawn anyway is told apart."""
    with daemon("--sysfs", str(site.sysfs), log=site.scratch / "log", env=site.environment, discover=True) as served:
        idle = f'trainwatt_device_idle_power_watts{{component="gpu",device="{site.driver.uuid(FREE)}"}}'
        line = poll.until(
            lambda: [one for one in served.metrics().splitlines() if one.startswith(idle)], what="idle power"
        )
        site.work("visitor", FREE, 30)
        site.driver.wave(FREE, site.driver.now_s(), Const(BUSY_W))
        poll.until(lambda: gpu_j(served, "visitor") > 10 * BUSY_W, what="ten seconds of it")
        (run,) = [one for one in served.snapshot()["runs"] if one["id"] == "visitor"]

    joules = sum(part["energy_j"] for part in run["energy_j"] if part["component"] == "gpu")
    assert float(line[0].rsplit(" ", 1)[1]) == pytest.approx(IDLE_W, rel=0.03)
    assert run["idle_energy_j"]["gpu"] == pytest.approx(joules * IDLE_W / BUSY_W, rel=0.1)

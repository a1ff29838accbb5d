"""kill -9 at random moments during one run, under a real Prometheus: nothing lost, nothing twice, nothing lower."""

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from monitor.runs.protocol import ask
from tests.drivers import nvml, rapl
from tests.drivers.waveform import Const, Square
from tests.harness import need, poll
from tests.harness.daemon import Daemon, clean_environment, daemon, free_port
from tests.harness.prometheus import Prometheus, prometheus
from tests.harness.totals import total_j

KILLS = 100
COUNTING, INTEGRATED = (0, 1, 2), 3
"""GPUs with a counter, and one whose power must be integrated."""
ALLOCATED = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, (*COUNTING, INTEGRATED)))}
"""What the run's environment says it was given: all of them, though no process of it is on any."""
PERIOD_S = 0.05
STEP_W = 400.0
SELF_HEALTH = (
    "trainwatt_source_",
    "trainwatt_sampler_",
    "trainwatt_ledger_",
    "trainwatt_runs_",
    "trainwatt_run_names_",
)
"""Counts of the daemon's own doings, which may begin again at 0."""


@dataclass
class Node:
    """A machine whose daemon is killed again and again, and what was seen of it."""

    scratch: Path
    driver: nvml.FakeDriver
    arguments: list[str]
    environment: dict[str, str]
    port: int
    socket: Path
    boot_id: Path
    process: subprocess.Popen[bytes] | None = None
    dead_s: float = 0.0
    """How long no daemon ran, from kill to start."""
    kills: int = 0
    scraped: Prometheus | None = None
    report: dict[str, Any] = field(default_factory=dict)

    def start(self, *prefix: str) -> None:
        """Start the daemon in the place of the one before."""
        with (self.scratch / "log").open("a") as log:
            self.process = subprocess.Popen(
                [*prefix, need.trainwatt(), "serve", "--listen", f"127.0.0.1:{self.port}", *self.arguments],
                env=clean_environment({"TRAINWATT_DISCOVER": "false"} | self.environment),
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """As the kernel's memory killer does."""
        assert self.process is not None
        assert self.process.poll() is None, (self.scratch / "log").read_text()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self.kills += 1

    def stop(self) -> None:
        """End what runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)

    def served(self) -> Daemon:
        """The daemon that runs now, once it is ready."""
        assert self.process is not None
        served = Daemon(self.process, self.port, self.scratch / "log", self.socket)  # type: ignore[arg-type]
        poll.until(served.ready, what="readiness after a restart")
        return served


def make(scratch: Path, library: Path, short: Path) -> Node:
    """Three GPUs with a counter, one without, two sockets, all under load."""
    gpus = [nvml.FakeGpu(counter_period_s=PERIOD_S, counter_phase_s=0.01 * gpu) for gpu in COUNTING]
    driver = nvml.FakeDriver(scratch / "nvml.conf", [*gpus, nvml.FakeGpu(arch=4)])
    for gpu in range(4):
        steps = Square(period_s=0.7 + 0.2 * gpu, duty=0.6, high_w=150.0 + STEP_W, low_w=150.0)
        driver.wave(gpu, driver.now_s(), steps if gpu != INTEGRATED else Const(300.0))
    boot_id = scratch / "boot_id"
    boot_id.write_text("01234567-89ab-4cde-8f01-23456789abcd\n")
    arguments = ["--sysfs", str(scratch / "sys"), "--state-dir", str(scratch / "state"), "--zone", "DE"]
    socket = short / "socket"
    return Node(
        scratch=scratch,
        driver=driver,
        arguments=[*arguments, "--socket", str(socket)],
        environment=driver.environment(library.parent),
        port=free_port(),
        socket=socket,
        boot_id=boot_id,
    )


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Iterator[Node]:
    """One run, a hundred kills, and a Prometheus that watches all of it."""
    scratch = tmp_path_factory.mktemp("killed")
    rng = random.Random(11)
    tree = rapl.RaplTree(scratch / "sys", rapl.server())
    with TemporaryDirectory(prefix="tw-") as short, tree.running(), ExitStack() as stack:
        node = make(scratch, library, Path(short))
        scraped = stack.enter_context(prometheus([f"127.0.0.1:{node.port}"], scratch / "prometheus", interval_s=0.5))
        stack.callback(node.stop)
        node.start()
        node.served()
        ask(node.socket, {"op": "start", "id": "victim", "name": "victim", "environment": ALLOCATED})
        for _ in range(KILLS):
            # The experiment, not a wait: the moment of the kill, also while the daemon starts.
            threading.Event().wait(rng.uniform(0.0, 1.4))
            node.kill()
            died_s = time.monotonic()
            node.start()
            node.dead_s += time.monotonic() - died_s
        node.served()
        node.report = ask(node.socket, {"op": "end", "run": "victim"})["report"]
        scraped.wait_for_scrapes(scraped.scrapes() + 2)
        node.scraped = scraped
        yield node


def joules(report: dict[str, Any], devices: Sequence[str]) -> float:
    """Energy of some devices in a report's intervals."""
    columns = report["intervals"]["columns"]
    device, energy = columns.index("device"), columns.index("energy_j")
    return float(sum(row[energy] for row in report["intervals"]["rows"] if row[device] in devices))


def test_no_joule_of_a_counter_is_lost_or_booked_twice(node: Node) -> None:
    """Over a hundred kills, GPUs with a counter are within 0.1 % of the truth and one period at each edge."""
    start_s = node.report["start_unix_s"] - (time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
    end_s = start_s + node.report["duration_s"]
    true_j = sum(node.driver.true_energy_j(gpu, start_s, end_s) for gpu in COUNTING)
    measured_j = joules(node.report, [node.driver.uuid(gpu) for gpu in COUNTING])

    assert node.kills == KILLS
    assert true_j == pytest.approx(measured_j, abs=0.001 * true_j + 2 * PERIOD_S * STEP_W * len(COUNTING))


def test_what_was_used_while_it_was_dead_is_flagged(node: Node) -> None:
    """The report says how much of it the counters told afterwards."""
    assert 0.0 < node.report["recovered_energy_j"] < sum(part["energy_j"] for part in node.report["energy_j"])


def test_no_series_was_ever_lower_than_a_scrape_before(node: Node) -> None:
    """Every counter of energy and grams that Prometheus holds only rises, over all restarts, as one series each."""
    assert node.scraped is not None
    series = node.scraped.samples('{__name__=~"trainwatt_.*_total"}', 3600)
    kept = {k: v for k, v in series.items() if not dict(k)["__name__"].startswith(SELF_HEALTH)}

    assert len(kept) > 20
    for labels, samples in kept.items():
        values = [value for _, value in samples]

        assert values == sorted(values), labels


def test_the_run_is_one_series_of_one_ledger(node: Node) -> None:
    """The ledger's id stays; the last value that Prometheus holds is the report's, to the joule."""
    assert node.scraped is not None
    ledgers = node.scraped.query('count by (ledger) (last_over_time(trainwatt_run_info{run="victim"}[1h]))')

    assert [node.report["ledger"]] == [entry["metric"]["ledger"] for entry in ledgers]
    assert sum(part["energy_j"] for part in node.report["energy_j"]) == pytest.approx(total_j(node.scraped, "victim"))


def test_the_downtime_of_an_integrated_device_is_stated(node: Node) -> None:
    """Seconds without a daemon are unmeasured for it, never filled in: measured and unmeasured make up the run."""
    assert node.scraped is not None
    device = node.driver.uuid(INTEGRATED)
    (series,) = node.scraped.query(f'trainwatt_device_unmeasured_seconds_total{{device="{device}"}}')
    unmeasured_s = float(series["value"][1])
    measured_j = joules(node.report, [device])

    assert node.dead_s < unmeasured_s < node.report["duration_s"]
    # It draws a constant 300 W, so its joules tell the seconds that were measured.
    assert measured_j / 300.0 + unmeasured_s == pytest.approx(node.report["duration_s"], abs=3.0)


def test_shares_and_remainder_make_up_each_device(node: Node) -> None:
    """After all of it: attributed + unattributed + pending = device."""
    assert node.scraped is not None
    devices = {
        s["metric"]["device"]: float(s["value"][1])
        for s in node.scraped.query("sum by (device) (trainwatt_device_energy_joules_total)")
    }
    parts = {
        s["metric"]["device"]: float(s["value"][1])
        for s in node.scraped.query(
            "sum by (device) (trainwatt_device_attributed_energy_joules_total)"
            " + sum by (device) (trainwatt_device_unattributed_energy_joules_total)"
            " + sum by (device) (trainwatt_device_pending_energy_joules)"
        )
    }

    assert devices == pytest.approx(parts)


def test_a_reboot_loses_only_its_own_time(tmp_path: Path, library: Path) -> None:
    """A new boot id: no counter is compared over it, no series falls, the time is stated, the requeued run goes on."""
    unshare = shutil.which("unshare")
    probe = [unshare or "", "--mount", "sh", "-c", "mount --bind /proc/uptime /proc/sys/kernel/random/boot_id"]
    if unshare is None or os.geteuid() != 0 or subprocess.run(probe, check=False, capture_output=True).returncode:
        need.missing("a mount namespace of one's own (root, and unshare of util-linux)")
    rapl.RaplTree(tmp_path / "sys", rapl.server())
    with TemporaryDirectory(prefix="tw-") as short:
        node = make(tmp_path, library, Path(short))
        with daemon(*node.arguments, log=tmp_path / "log", env=node.environment, port=node.port) as served:
            ask(node.socket, {"op": "start", "id": "job", "name": "job", "environment": ALLOCATED})
            poll.until(lambda: booked_j(served) > 100.0, what="some joules")
            before, before_j = served.snapshot(), booked_j(served)
            node.process = served.process  # type: ignore[assignment]
            node.kill()
        bind = f'mount --bind "{node.boot_id}" /proc/sys/kernel/random/boot_id && exec "$@"'
        node.start(unshare, "--mount", "sh", "-c", bind, "sh")
        try:
            served = node.served()
            first = served.snapshot()
            (ended,) = first["runs"]
            answer = ask(node.socket, {"op": "start", "id": "job", "name": "job", "environment": ALLOCATED})
            poll.until(lambda: booked_j(served) > before_j + 100.0, what="joules of the second boot")
            after = served.snapshot()
            report = ask(node.socket, {"op": "end", "run": "job"})["report"]
        finally:
            node.stop()

    assert before["ledger"] == after["ledger"] == answer["ledger"]
    assert not ended["active"]
    for was, now in zip(before["devices"], after["devices"], strict=True):
        assert sum(was["energy_j"].values()) <= sum(now["energy_j"].values())
        assert now["energy_resets"] == was["energy_resets"]
        assert was["unmeasured_s"] < now["unmeasured_s"] < was["unmeasured_s"] + 30.0
    gap_s = first["at"]["unix_s"] - before["at"]["unix_s"]
    assert (
        0.0 < report["duration_s"] < report["end_unix_s"] - report["start_unix_s"] < report["duration_s"] + gap_s + 30.0
    )


def booked_j(served: Daemon) -> float:
    """All joules of the run `job`."""
    return float(sum(part["energy_j"] for run in served.snapshot()["runs"] for part in run["energy_j"]))

"""Jobs of a real Slurm, submitted by an ordinary user and never touched by us, on /metrics."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.drivers import nvml
from tests.harness import need, poll
from tests.harness.daemon import Daemon, clean_environment, daemon, free_port
from tests.harness.slurm import CLUSTER, slurm
from tests.harness.users import NOBODY, as_an_ordinary_user

SERIES = re.compile(r"^trainwatt_(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass
class Node:
    """A daemon's socket before there is a daemon, and the machine that it meters."""

    place: Path
    """A directory that everybody may enter."""
    driver: nvml.FakeDriver
    environment: dict[str, str]

    @property
    def socket(self) -> Path:
        """Where the daemon will listen."""
        return self.place / "run" / "socket"

    @property
    def arguments(self) -> list[str]:
        """Of the daemon."""
        return ["--sysfs", str(self.place / "sys"), "--socket", str(self.socket)]


@pytest.fixture
def node(library: Path) -> Iterator[Node]:
    """Two GPUs of 100 W."""
    with TemporaryDirectory(prefix="tw-") as name:
        place = Path(name)
        for folder in (place, place / "run", place / "sys"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)
        driver = nvml.FakeDriver(place / "nvml.conf", [nvml.FakeGpu(idle_w=100.0)] * 2)
        copied = place / "libnvidia-ml.so.1"
        copied.write_bytes((library.parent / "libnvidia-ml.so.1").read_bytes())
        yield Node(place, driver, driver.environment(place))


@contextmanager
def as_a_service_user(node: Node, *, discover: bool = False) -> Iterator[Daemon]:
    """A daemon of a user without any right."""
    with TemporaryDirectory(prefix="tw-") as python:
        prefix = as_an_ordinary_user(Path(python))
        state, log, port = node.place / "state", node.place / "run" / "log", free_port()
        state.mkdir()
        log.touch()
        for path in (node.place, *node.place.iterdir(), log):
            path.chmod(0o755)
            os.chown(path, NOBODY, NOBODY)
        own = ["--listen", f"127.0.0.1:{port}", "--state-dir", str(state), *node.arguments]
        settings = {"TRAINWATT_DISCOVER": str(discover).lower()}
        with log.open("a") as said:
            process = subprocess.Popen(
                [*prefix, need.trainwatt(), "serve", *own],
                env=clean_environment({**node.environment, "HOME": str(node.place), **settings}),
                cwd="/",
                stdout=said,
                stderr=said,
                text=True,
            )
        served = Daemon(process, port, log, node.socket)
        try:
            poll.until(served.ready, what="readiness of the daemon")
            yield served
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


@contextmanager
def as_root(node: Node, *, discover: bool = False) -> Iterator[Daemon]:
    """A daemon of the node's administrator."""
    with daemon(*node.arguments, log=node.place / "log", env=node.environment, discover=discover) as served:
        yield served


def rows(served: Daemon, name: str, run: str) -> list[tuple[dict[str, str], float]]:
    """Labels and value of each series of one metric that is this run's."""
    every = [
        (dict(LABEL.findall(text)), float(value))
        for stem, text, value in SERIES.findall(served.metrics())
        if stem == name
    ]
    return [(labels, value) for labels, value in every if labels["run"] == run]


def value(served: Daemon, name: str, run: str) -> float | None:
    """The sum of a metric over a run's series; None where there is none."""
    found = rows(served, name, run)
    return sum(number for _labels, number in found) if found else None


def described(served: Daemon, run: str) -> dict[str, str]:
    """The one run_info of a run, once it is there."""
    found = poll.until(lambda: rows(served, "run_info", run), what=f"{run} on /metrics")

    assert len(found) == 1
    return found[0][0]


def is_active(served: Daemon, run: str) -> bool:
    """Whether it has not ended."""
    return value(served, "run_active", run) == 1.0


# -- told by prolog and epilog ---------------------------------------------------------------------------------------


def test_a_job_is_a_run_from_prolog_to_epilog(node: Node) -> None:
    """Under the scheduler's id, with its user and account, on its GPU; with the epilog it ends."""
    with as_root(node) as served, slurm(node.socket) as cluster:
        job = cluster.submit("--job-name=fine tuning", "--account=physics", "--gres=gpu:1")
        run = f"slurm-{CLUSTER}-{job}"
        told = described(served, run)

        assert (cluster.user, "physics", "slurm", job) == (
            told["user"],
            told["project"],
            told["launcher"],
            told["job_id"],
        )
        assert is_active(served, run)
        (held,) = poll.until(lambda: rows(served, "run_device_info", run), what="the device of the job")
        poll.until(lambda: value(served, "run_energy_joules_total", run), what="joules of the job")

        assert held[0]["device"] in {device["id"] for device in served.snapshot()["devices"]}
        assert is_active(served, run)
        cluster.cancel(job)
        poll.until(lambda: not is_active(served, run), what="the end of the run")

        assert len(rows(served, "run_info", run)) == 1
        assert "trainwatt-slurm" not in cluster.log


def test_a_daemon_without_rights_is_told_all(node: Node) -> None:
    """A daemon of a service user learns user and account from the prolog, and the name where slurmctld is asked."""
    with as_a_service_user(node) as served, slurm(node.socket, "--ask-slurmctld") as cluster:
        job = cluster.submit("--job-name=fine tuning", "--account=physics", "--gres=gpu:1")
        run = f"slurm-{CLUSTER}-{job}"
        told = described(served, run)

        assert ("fine tuning", cluster.user, "physics") == (told["name"], told["user"], told["project"])
        assert len(poll.until(lambda: rows(served, "run_device_info", run), what="its device")) == 1
        cluster.cancel(job)
        poll.until(lambda: not is_active(served, run), what="the end of the run")


def test_a_task_of_an_array_is_a_run_of_its_own(node: Node) -> None:
    """By the array's number and its own where slurmctld is asked for them; a job without a GPU holds none."""
    with as_root(node) as served, slurm(node.socket, "--ask-slurmctld") as cluster:
        job = cluster.submit("--array=3")
        told = described(served, f"slurm-{CLUSTER}-{job}_3")

        assert told["job_id"] == f"{job}_3"
        assert [] == rows(served, "run_device_info", f"slurm-{CLUSTER}-{job}_3")


def test_a_requeued_job_goes_on(node: Node) -> None:
    """One run with one description: its joules do not fall, and what it waited is not counted as active."""
    with as_root(node) as served, slurm(node.socket) as cluster:
        job = cluster.submit("--account=physics", "--gres=gpu:1", "--requeue")
        run = f"slurm-{CLUSTER}-{job}"
        poll.until(lambda: (value(served, "run_energy_joules_total", run) or 0.0) > 100.0, what="a second of the job")
        started = value(served, "run_start_timestamp_seconds", run)
        cluster.requeue(job)
        poll.until(lambda: not is_active(served, run), what="the end of its first stretch")
        before_j = value(served, "run_energy_joules_total", run)
        before_s = value(served, "run_duration_seconds", run)
        ended = value(served, "run_end_timestamp_seconds", run)
        cluster.start_again(job)
        poll.until(lambda: is_active(served, run), what="its second stretch")
        poll.until(
            lambda: (value(served, "run_energy_joules_total", run) or 0.0) > (before_j or 0.0) + 50.0,
            what="joules of its second stretch",
        )
        cluster.cancel(job)
        poll.until(lambda: not is_active(served, run), what="the end of the run")
        after_s, wall_s = value(served, "run_duration_seconds", run), value(served, "run_end_timestamp_seconds", run)
        told = rows(served, "run_info", run)

    assert None not in {started, before_j, before_s, ended, after_s, wall_s}
    assert len(told) == 1
    assert after_s is not None
    assert (before_s or 0.0) < after_s < (wall_s or 0.0) - (started or 0.0)


def test_a_job_runs_without_a_daemon(node: Node) -> None:
    """A prolog that reaches nobody says so in one line, and neither the job nor the node takes any harm."""
    with slurm(node.socket) as cluster:
        job = cluster.submit(script="true")
        poll.until(lambda: cluster.state(job) == "COMPLETED", what="the end of the job")
        poll.until(lambda: cluster.is_idle, what="the node without a job")

        assert f"trainwatt-slurm-prolog: job {job} goes on without being told of" in cluster.log


# -- found -----------------------------------------------------------------------------------------------------------


def test_a_job_is_found_by_root(node: Node) -> None:
    """Without a prolog: by what its processes carry, with name, user and account; queued again it is the same run."""
    with as_root(node, discover=True) as served, slurm() as cluster:
        job = cluster.submit("--job-name=fine tuning", "--account=physics", "--gres=gpu:1", "--requeue")
        run = f"slurm-{CLUSTER}-{job}"
        told = described(served, run)

        assert ("fine tuning", cluster.user, "slurm") == (told["name"], told["user"], told["launcher"])
        assert told["project"] == "physics"
        assert len(poll.until(lambda: rows(served, "run_device_info", run), what="its device")) == 1
        poll.until(lambda: value(served, "run_energy_joules_total", run), what="joules")
        cluster.requeue(job)
        poll.until(lambda: not is_active(served, run), what="the end of its first stretch")
        before_j = value(served, "run_energy_joules_total", run) or 0.0
        cluster.start_again(job)
        poll.until(lambda: is_active(served, run), what="its second stretch")
        poll.until(lambda: (value(served, "run_energy_joules_total", run) or 0.0) > before_j, what="its joules")
        assert len(rows(served, "run_info", run)) == 1
        cluster.cancel(job)
        poll.until(lambda: not is_active(served, run), what="the end of the run")


def test_a_job_is_found_without_rights(node: Node) -> None:
    """By the title of its slurmstepd: whose it is, is known, its name and its account are not."""
    with slurm() as cluster:
        node.environment["SLURM_CONF"] = str(cluster.configuration)
        with as_a_service_user(node, discover=True) as served:
            job = cluster.submit("--job-name=fine tuning", "--account=physics")
            run = f"slurm-{CLUSTER}-{job}"
            told = described(served, run)

            assert (run, cluster.user, "") == (told["name"], told["user"], told["project"])
            cluster.cancel(job)
            poll.until(lambda: not is_active(served, run), what="the end of the run")


def test_a_prologs_job_is_named_by_what_is_found(node: Node) -> None:
    """Slurmd does not tell the prolog a job's name: its processes do, and it stays one run."""
    with as_root(node, discover=True) as served, slurm(node.socket) as cluster:
        job = cluster.submit("--job-name=fine tuning", "--account=physics", "--gres=gpu:1")
        run = f"slurm-{CLUSTER}-{job}"
        poll.until(lambda: described(served, run)["name"] == "fine tuning", what="the name of the job")

        assert described(served, run)["project"] == "physics"

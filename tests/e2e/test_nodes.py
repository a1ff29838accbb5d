"""One run of three nodes, each with a daemon of its own: their parts add up, and no rank counts twice."""

import contextlib
import importlib.util
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from monitor.runs.protocol import ask
from tests.drivers import nvml, rapl
from tests.drivers.waveform import Square
from tests.harness import need, poll
from tests.harness.daemon import Daemon, clean_environment
from tests.harness.namespaces import INTERFACE, Host, network
from tests.harness.prometheus import Prometheus, prometheus
from tests.harness.totals import total_j

RUN = "torchrun-three"
STEPS, STEP_S = 240, 0.05
BATCH, TOKENS = 32, 1000
GPUS = {"node-a": (520.0, 260.0), "node-b": (340.0,), "node-c": (610.0, 180.0)}
"""Watts above idle that each GPU of a node draws in a step."""
IDLE_W, PERIOD_S, SOCKET_W = 90.0, 0.02, 150.0
METRICS_PORT, RENDEZVOUS_PORT = 9595, 29400
JOB = Path(__file__).parents[1] / "jobs" / "ddp.py"


@dataclass
class Node:
    """One machine: what it draws, who meters it, and what the run left there."""

    host: Host
    driver: nvml.FakeDriver
    environment: dict[str, str]
    place: Path
    socket: Path
    served: Daemon | None = None
    report: dict[str, Any] = field(default_factory=dict)

    def energy_j(self, component: str = "") -> float:
        """Joules of its report, or those of one component."""
        return float(
            sum(part["energy_j"] for part in self.report["energy_j"] if part["component"].startswith(component))
        )

    def true_gpu_j(self) -> float:
        """What its GPUs really drew between its own edges of the run."""
        start_s = self.report["start_unix_s"] - (time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
        end_s = start_s + self.report["duration_s"]
        return sum(self.driver.true_energy_j(gpu, start_s, end_s) for gpu in range(len(self.driver.gpus)))

    def ledger_j(self) -> float:
        """The run's joules as its file has them, read with nothing of ours."""
        with contextlib.closing(
            sqlite3.connect(f"file:{self.place / 'state' / 'ledger.sqlite'}?mode=ro", uri=True)
        ) as db:
            (joules,) = db.execute(
                "SELECT sum(energy_j) FROM intervals JOIN runs ON intervals.run = runs.key WHERE runs.id = ?", (RUN,)
            ).fetchone()
        return float(joules)


@dataclass
class Site:
    """Three nodes after the run, and the one Prometheus that saw them all."""

    nodes: list[Node]
    merged: dict[str, Any]
    total_j: float
    told: dict[str, float]
    """Answers of Prometheus, by query."""
    series: list[dict[str, Any]]
    """The run's joules as Prometheus has them."""
    remainders_j: list[float]
    """Of each device of each node: all its joules, less those that are a run's, nobody's, or wait."""


STEPS_OF_ALL = f'max(trainwatt_run_steps_total{{run="{RUN}"}})'
TOKENS_OF_ALL = f'sum(trainwatt_run_tokens_total{{run="{RUN}"}})'
SAMPLES_OF_ALL = f'sum(trainwatt_run_samples_total{{run="{RUN}"}})'
START = f'min(trainwatt_run_start_timestamp_seconds{{run="{RUN}"}})'
END = f'max(trainwatt_run_end_timestamp_seconds{{run="{RUN}"}})'
PARTS = "attributed_energy_joules_total|unattributed_energy_joules_total|pending_energy_joules"
REMAINDERS = (
    "sum by (instance, device) (trainwatt_device_energy_joules_total)"
    f' - sum by (instance, device) ({{__name__=~"trainwatt_device_({PARTS})"}})'
)
QUERIES = (STEPS_OF_ALL, TOKENS_OF_ALL, SAMPLES_OF_ALL, START, END)


def make(host: Host, place: Path, short: Path, library: Path) -> Node:
    """GPUs at work, each in its own way, and one socket."""
    place.mkdir()
    watts = GPUS[host.name]
    gpus = [
        nvml.FakeGpu(
            uuid=f"GPU-{host.name}-{gpu}", idle_w=IDLE_W, counter_period_s=PERIOD_S, counter_phase_s=0.007 * gpu
        )
        for gpu in range(len(watts))
    ]
    driver = nvml.FakeDriver(place / "nvml.conf", gpus)
    for gpu, step_w in enumerate(watts):
        steps = Square(period_s=0.31 + 0.1 * gpu, duty=0.6, high_w=IDLE_W + step_w, low_w=IDLE_W)
        driver.wave(gpu, driver.now_s(), steps)
    return Node(host, driver, driver.environment(library.parent), place, short / host.name)


@contextmanager
def metered(node: Node) -> Iterator[None]:
    """A daemon on a node, as its administrator starts it."""
    arguments = ["--listen", f"{node.host.address}:{METRICS_PORT}", "--sysfs", str(node.place / "sys")]
    arguments += ["--state-dir", str(node.place / "state"), "--socket", str(node.socket)]
    # The nodes have one /proc: to find the run there would be to find the ranks of the others, too.
    environment = clean_environment(node.environment | {"TRAINWATT_DISCOVER": "false"})
    log = node.place / "log"
    with log.open("w") as said:
        command = node.host.words(need.trainwatt(), "serve", *arguments)
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said, text=True)
        node.served = Daemon(process, METRICS_PORT, log, node.socket)
        node.served.url = f"http://{node.host.address}:{METRICS_PORT}"
        try:
            poll.until(node.served.ready, what=f"readiness of the daemon of {node.host.name}")
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def train(nodes: Sequence[Node]) -> None:
    """One agent of torchrun on each node, with one rank, which has the node's GPUs and knows its daemon's socket."""
    first = nodes[0].host.address
    agents = []
    with ExitStack() as stack:
        for node in nodes:
            words = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={len(nodes)}", "--nproc-per-node=1"]
            words += ["--rdzv-id=three", "--rdzv-backend=c10d", f"--rdzv-endpoint={first}:{RENDEZVOUS_PORT}"]
            words += [f"--rdzv-conf=is_host={int(node is nodes[0])}", f"--local-addr={node.host.address}"]
            own = {
                "CUDA_VISIBLE_DEVICES": ",".join(str(gpu) for gpu in range(len(node.driver.gpus))),
                "TRAINWATT_SOCKET": str(node.socket),
                "GLOO_SOCKET_IFNAME": INTERFACE,
                "OMP_NUM_THREADS": "1",
            }
            said = stack.enter_context((node.place / "job").open("w"))
            agent = subprocess.Popen(
                node.host.words(*words, str(JOB), str(STEPS), str(STEP_S)),
                env=clean_environment(own),
                cwd=node.place,
                stdout=said,
                stderr=said,
            )
            stack.callback(end, agent)
            agents.append(agent)
        for node, agent in zip(nodes, agents, strict=True):
            assert agent.wait(120) == 0, (node.place / "job").read_text()


def end(agent: subprocess.Popen[bytes]) -> None:
    """Stop an agent that is still there, which ends its ranks."""
    if agent.poll() is None:
        agent.terminate()
        try:
            agent.wait(40)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()


def seen_at_its_end(scraped: Prometheus) -> bool:
    """Whether the end of the run is there from every node."""
    return len(scraped.query(f'trainwatt_run_end_timestamp_seconds{{run="{RUN}"}}')) == len(GPUS)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, library: Path) -> Iterator[Site]:
    """Train over three nodes, and ask everybody afterwards."""
    if importlib.util.find_spec("torch") is None:
        need.missing("PyTorch (pip install torch==2.13.0)")
    scratch = tmp_path_factory.mktemp("nodes")
    with network(list(GPUS)) as net, TemporaryDirectory(prefix="tw-") as short, ExitStack() as stack:
        nodes = [make(host, scratch / host.name, Path(short), library) for host in net.hosts]
        for node in nodes:
            stack.enter_context(rapl.RaplTree(node.place / "sys", rapl.package(0, level_w=SOCKET_W)).running(20.0))
        stack.enter_context(net.at_the_switch())
        for node in nodes:
            stack.enter_context(metered(node))
        targets = [f"{host.address}:{METRICS_PORT}" for host in net.hosts]
        scraped = stack.enter_context(prometheus(targets, scratch / "prometheus"))
        scraped.wait_for_scrapes(1)
        train(nodes)
        poll.until(lambda: seen_at_its_end(scraped), what="the end of the run in Prometheus")
        for node in nodes:
            node.report = ask(node.socket, {"op": "report", "run": RUN})["report"]
        scraped.wait_for_scrapes(scraped.scrapes() + 2)
        told = {query: float(series["value"][1]) for query in QUERIES for series in scraped.query(query)}
        series = scraped.query(f'trainwatt_run_energy_joules_total{{run="{RUN}"}}')
        total = total_j(scraped, RUN)
        remainders_j = [float(one["value"][1]) for one in scraped.query(REMAINDERS)]
        yield Site(nodes, merged(nodes), total, told, series, remainders_j)


def merged(nodes: Sequence[Node]) -> dict[str, Any]:
    """`trainwatt report FILE...`, of files that were carried to where there is no daemon."""
    files = []
    for node in nodes:
        file = node.place / f"trainwatt-three-{node.host.name}.json"
        words = [need.trainwatt(), "report", RUN, "--socket", str(node.socket), "--format", "json", "-o", str(file)]
        subprocess.run(node.host.words(*words), env=clean_environment(), check=True, timeout=30)
        files.append(str(file))
    words = [need.trainwatt(), "report", *files, "--format", "json"]
    done = subprocess.run(words, env=clean_environment(), check=True, timeout=30, capture_output=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_one_query_is_the_sum_of_the_nodes(site: Site) -> None:
    """The query of section 7 gives one total: that of the three reports, of the three ledgers, and of their merger."""
    parts_j = [node.energy_j() for node in site.nodes]

    assert sum(parts_j) == pytest.approx(site.total_j, rel=1e-6)
    assert parts_j == pytest.approx([node.ledger_j() for node in site.nodes], rel=1e-6)
    assert sum(part["energy_j"] for part in site.merged["energy_j"]) == pytest.approx(site.total_j, rel=1e-6)


def test_each_node_has_its_own_part_and_it_is_the_truth(site: Site) -> None:
    """Between its own edges each node's GPUs are the run's: within 1 %, and one counter period x step at each edge."""
    for node in site.nodes:
        true_j = node.true_gpu_j()
        edges_j = sum(2 * PERIOD_S * step_w for step_w in GPUS[node.host.name])

        assert node.report["duration_s"] > 0.9 * STEPS * STEP_S
        assert true_j == pytest.approx(node.energy_j("gpu"), abs=0.01 * true_j + edges_j)
        assert node.host.name == node.report["node"]
        assert {f"GPU-{node.host.name}-{gpu}" for gpu in range(len(GPUS[node.host.name]))} == {
            device["id"] for device in node.report["devices"] if device["component"] == "gpu"
        }
    together_j = sum(node.true_gpu_j() for node in site.nodes)
    all_edges_j = sum(2 * PERIOD_S * step_w for watts in GPUS.values() for step_w in watts)
    told_j = sum(float(one["value"][1]) for one in site.series if one["metric"]["component"] == "gpu")

    assert together_j == pytest.approx(told_j, abs=0.01 * together_j + all_edges_j)


def test_shares_and_remainder_make_up_each_device_of_each_node(site: Site) -> None:
    """Attributed + unattributed + pending = device: of five GPUs, and of the socket and its memory on each node."""
    assert sum(map(len, GPUS.values())) + 2 * len(GPUS) == len(site.remainders_j)
    assert [0.0] * len(site.remainders_j) == pytest.approx(site.remainders_j, abs=1e-3)


def test_no_node_counts_a_rank_of_another(site: Site) -> None:
    """Three ledgers with one series a part; the one rank of each took a part of its processor's joules."""
    keys = [
        tuple(sorted((k, v) for k, v in one["metric"].items() if k not in {"instance", "job"})) for one in site.series
    ]

    assert len(keys) == len(set(keys))
    assert {one["metric"]["ledger"] for one in site.series} == {node.report["ledger"] for node in site.nodes}
    assert len({node.report["ledger"] for node in site.nodes}) == len(site.nodes)
    for node in site.nodes:
        assert STEPS * BATCH == node.report["progress"]["samples"]
        assert STEPS * TOKENS == node.report["progress"]["tokens"]
        # It is a part of what the socket draws, by the CPU time of this node's rank alone.
        assert 0.0 < node.energy_j("cpu") <= 1.02 * SOCKET_W * node.report["duration_s"]
        assert {part["share"] for part in node.report["energy_j"] if part["component"] == "cpu"} == {"usage"}


def test_steps_are_those_of_a_rank_and_tokens_of_all(site: Site) -> None:
    """Over nodes steps are the greatest, tokens and samples add up; so it is in Prometheus and in merged files."""
    ranks = len(site.nodes)
    progress = site.merged["progress"]

    assert STEPS == site.told[STEPS_OF_ALL] == progress["steps"]
    assert ranks * STEPS * TOKENS == site.told[TOKENS_OF_ALL] == progress["tokens"]
    assert ranks * STEPS * BATCH == site.told[SAMPLES_OF_ALL] == progress["samples"]
    assert progress["done_ratio"] == pytest.approx(1.0)


def test_it_lasts_from_the_first_start_to_the_last_end(site: Site) -> None:
    """The start is the earliest, the end the latest of the three."""
    start_s = min(node.report["start_unix_s"] for node in site.nodes)
    end_s = max(node.report["end_unix_s"] for node in site.nodes)

    assert start_s == pytest.approx(site.told[START], abs=1e-3)
    assert end_s == pytest.approx(site.told[END], abs=1e-3)
    assert (start_s, end_s) == (site.merged["start_unix_s"], site.merged["end_unix_s"])
    assert sorted(GPUS) == sorted(part["node"] for part in site.merged["parts"])
    assert [] == site.merged["left_out"] == site.merged["warnings"]

"""A whole node against the truth: stand-in driver and RAPL tree, daemon, real Prometheus at 1 s."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.drivers import nvml, rapl
from tests.drivers.waveform import Const, Square, Waveform
from tests.harness import need
from tests.harness.daemon import daemon
from tests.harness.prometheus import Prometheus, prometheus

GPUS = 8
WINDOW_S = 60
ZONES = {"package-0": "0", "package-0-dram": "0:1", "package-1": "1", "package-1-dram": "1:1"}


@dataclass
class Node:
    """What was metered, and by whom."""

    driver: nvml.FakeDriver
    tree: rapl.RaplTree
    prometheus: Prometheus
    boot_to_unix_s: float


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Eight GPUs and two sockets under load, scraped for a good minute."""
    need.program("gcc")
    scratch = tmp_path_factory.mktemp("node")
    rng = random.Random(7)
    library = nvml.build(scratch)
    gpus = [
        nvml.FakeGpu(counter_period_s=rng.uniform(0.02, 0.1), counter_phase_s=rng.uniform(0.0, 0.1))
        for _ in range(GPUS)
    ]
    driver = nvml.FakeDriver(scratch / "nvml.conf", gpus)
    began_s = driver.now_s()
    for gpu in range(GPUS):
        steps = Square(period_s=rng.uniform(0.3, 2.9), duty=rng.uniform(0.4, 0.9), high_w=650.0, low_w=150.0)
        driver.wave(gpu, began_s, steps)
        driver.wave(gpu, began_s + 30.0, Const(rng.uniform(200.0, 600.0)))  # evaluation
        driver.wave(gpu, began_s + 38.0, steps)
    tree = small_ranges(scratch / "sys")
    with (
        tree.running(),
        daemon("--sysfs", str(scratch / "sys"), log=scratch / "log", env=driver.environment(library.parent)) as served,
        prometheus([f"127.0.0.1:{served.port}"], scratch / "prometheus") as server,
    ):
        server.wait_for_scrapes(WINDOW_S + 4, within_s=WINDOW_S + 30)
        yield Node(driver, tree, server, time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))


def small_ranges(root: Path) -> rapl.RaplTree:
    """Two sockets whose counters go round several times a minute."""
    zones = []
    for zone in rapl.server():
        level_w = zone.waveform.power_w(1.0)
        steps = Square(period_s=1.7, duty=0.6, high_w=1.3 * level_w, low_w=0.5 * level_w)
        zones.append(
            replace(zone, range_uj=int(12e6 * level_w), waveform=Waveform(level_w, ((0.0, steps),)), base_uj=1_000_000)
        )
    return rapl.RaplTree(root, zones)


def readings(node: Node, device: str, source: str) -> list[tuple[float, float]]:
    """(CLOCK_BOOTTIME of the reading, joules) of one device, as Prometheus has them."""
    energy = node.prometheus.samples(f'trainwatt_device_energy_joules_total{{device="{device}"}}', 600)
    stamps = node.prometheus.samples(f'trainwatt_source_last_success_timestamp_seconds{{source="{source}"}}', 600)

    assert len(energy) == len(stamps) == 1, f"{device}: one series each"
    read_at = dict(next(iter(stamps.values())))
    return [(read_at[t] - node.boot_to_unix_s, joules) for t, joules in next(iter(energy.values())) if t in read_at]


def window(series: list[tuple[float, float]]) -> tuple[tuple[float, float], tuple[float, float]]:
    """The last reading, and the one WINDOW_S before it."""
    end = series[-1]
    begin = min(series, key=lambda reading: abs(reading[0] - (end[0] - WINDOW_S)))

    assert end[0] - begin[0] >= WINDOW_S - 1.5
    return begin, end


def test_gpu_energy_is_the_truth(node: Node) -> None:
    """Eight GPUs over 60 s: within 0.1 % of the truth at the readings' own time, each and together."""
    measured_j = truth_j = 0.0
    for gpu in range(GPUS):
        (begin_s, begin_j), (end_s, end_j) = window(readings(node, node.driver.uuid(gpu), "nvml"))
        true_j = node.driver.true_energy_j(gpu, begin_s, end_s)
        period_s = node.driver.gpus[gpu].counter_period_s
        measured_j, truth_j = measured_j + end_j - begin_j, truth_j + true_j

        # Section 10: 0.1 %, and one counter period x power step at each edge.
        assert true_j == pytest.approx(end_j - begin_j, abs=0.001 * true_j + 2 * period_s * 500.0)
    assert truth_j == pytest.approx(measured_j, rel=0.001)


def test_rapl_energy_is_the_truth_over_several_wraps(node: Node) -> None:
    """Packages and DRAM whose counters wrap four times and more: within 0.1 % of the truth."""
    for device, numbers in ZONES.items():
        (begin_s, begin_j), (end_s, end_j) = window(readings(node, device, "rapl"))
        zone_id = f"intel-rapl:{numbers}"
        true_j = node.tree.true_energy_j(zone_id, begin_s, end_s)

        assert true_j / (node.tree.zone(zone_id).range_uj * 1e-6) > 4.0
        assert true_j == pytest.approx(end_j - begin_j, rel=0.001)


def test_no_counter_falls(node: Node) -> None:
    """Not one of the series that Prometheus holds as counters was ever lower than the scrape before."""
    series = node.prometheus.samples('{__name__=~"trainwatt_.*_total"}', 600)

    assert len(series) > 50
    for labels, samples in series.items():
        values = [value for _, value in samples]

        assert values == sorted(values), labels


def test_every_device_has_its_series(node: Node) -> None:
    """GPUs, packages and DRAM by the counter method; core and psys lie within or around them and are not there."""
    found = {
        (series["metric"]["device"], series["metric"]["component"], series["metric"]["method"])
        for series in node.prometheus.query("trainwatt_device_energy_joules_total")
    }
    gpus = {(node.driver.uuid(gpu), "gpu", "counter") for gpu in range(GPUS)}
    zones = {(device, "dram" if device.endswith("dram") else "cpu", "counter") for device in ZONES}

    assert gpus | zones == found


def test_the_node_is_the_sum_of_its_parts(node: Node) -> None:
    """The node's measured energy is that of its devices, by component."""
    total = {
        s["metric"]["component"]: float(s["value"][1])
        for s in node.prometheus.query("trainwatt_node_measured_energy_joules_total")
    }
    parts = node.prometheus.query("sum by (component) (trainwatt_device_energy_joules_total)")

    assert total == pytest.approx({s["metric"]["component"]: float(s["value"][1]) for s in parts})

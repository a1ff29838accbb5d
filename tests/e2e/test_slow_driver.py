"""A driver that takes two seconds a call on one GPU: everybody else keeps time, and no joule is lost."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.drivers import nvml, rapl
from tests.drivers.waveform import Square
from tests.harness import poll
from tests.harness.daemon import Daemon, daemon

GPUS = 3
SLOW_S = 2.0


def value(served: Daemon, name: str, **labels: str) -> float:
    """One sample of the exposition."""
    return next(
        sample.value
        for family in parse(served.metrics())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def joules(served: Daemon) -> dict[str, tuple[float, float]]:
    """(CLOCK_BOOTTIME of the last reading, joules) of each device."""
    return {
        device["id"]: (device["read_at"]["boottime_s"], sum(device["energy_j"].values()))
        for device in served.snapshot()["devices"]
    }


def test_a_slow_gpu_delays_nobody_else(tmp_path: Path, library: Path) -> None:
    """RAPL and the loop keep their deadlines, a metric shows the delay, and afterwards every GPU's joules are exact."""
    driver = nvml.FakeDriver(tmp_path / "nvml.conf", [nvml.FakeGpu(counter_period_s=0.02)] * GPUS)
    begin_s = driver.now_s()
    for gpu in range(GPUS):
        driver.wave(gpu, begin_s, Square(period_s=0.7, duty=0.6, high_w=600.0, low_w=200.0))
    tree = rapl.RaplTree(tmp_path / "sys")
    environment = driver.environment(library.parent)
    with tree.running(50), daemon("--sysfs", str(tree.root), log=tmp_path / "log", env=environment) as served:
        first = joules(served)
        slow_from_s = driver.now_s()
        for symbol in ("nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetFieldValues"):
            driver.latency(symbol, SLOW_S, gpu_index=1)
        poll.until(
            lambda: value(served, "trainwatt_source_read_duration_seconds", source="nvml") >= SLOW_S, what="a slow read"
        )
        poll.until(
            lambda: served.snapshot()["at"]["boottime_s"] > slow_from_s + 15.0, what="15 s under the slow driver"
        )

        assert value(served, "trainwatt_source_late_reads_total", source="nvml") >= 3
        assert value(served, "trainwatt_source_late_reads_total", source="rapl") == 0
        assert value(served, "trainwatt_sampler_late_ticks_total") == 0
        at_s = served.snapshot()["at"]["boottime_s"]
        rapl_at_s, _ = joules(served)["package-0"]

        assert at_s - rapl_at_s < 1.5
        driver.heal()
        well_s = driver.now_s()
        poll.until(lambda: min(at for at, _ in joules(served).values()) > well_s + 1.0, what="readings after the delay")
        last = joules(served)

    for gpu in range(GPUS):
        (first_s, first_j), (last_s, last_j) = first[driver.uuid(gpu)], last[driver.uuid(gpu)]
        true_j = driver.true_energy_j(gpu, first_s, last_s)

        # Exact to the counter's own period at both edges.
        assert true_j == pytest.approx(last_j - first_j, abs=2 * 0.02 * 600.0 + 0.001 * true_j)

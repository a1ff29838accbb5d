"""The machine that is metered: eight GPUs of the stand-in driver at work, two sockets with DRAM."""

from collections.abc import Sequence
from pathlib import Path

from tests.drivers import nvml, rapl
from tests.drivers.waveform import Square

GPUS = 8
NOT_SUPPORTED = 3
"""NVML_ERROR_NOT_SUPPORTED."""
ENERGY = "nvmlDeviceGetTotalEnergyConsumption"
HIGH_W, LOW_W = 650.0, 150.0


def load(period_s: float) -> Square:
    """Training steps: half of each period at HIGH_W, half at LOW_W."""
    return Square(period_s=period_s, duty=0.5, high_w=HIGH_W, low_w=LOW_W)


def working_driver(config: Path, *, counter: bool) -> nvml.FakeDriver:
    """Eight GPUs on the real clock; without `counter` their power has to be integrated."""
    driver = nvml.FakeDriver(config, [nvml.FakeGpu(counter_phase_s=gpu / 80) for gpu in range(GPUS)])
    began_s = driver.now_s()
    for gpu in range(GPUS):
        driver.wave(gpu, began_s, load(0.3 + 0.2 * gpu))
    if not counter:
        driver.fault(ENERGY, NOT_SUPPORTED)
    return driver


def occupy(driver: nvml.FakeDriver, pids: Sequence[int]) -> None:
    """A process at work on each GPU, by turns where they are fewer."""
    for gpu in range(GPUS):
        driver.process(gpu, pids[gpu % len(pids)], 2**36, 90)


def two_sockets(root: Path) -> rapl.RaplTree:
    """Two packages with dram (and core, which is no part of a sum)."""
    return rapl.RaplTree(root, [*rapl.package(0), *rapl.package(1)])

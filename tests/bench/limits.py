"""How far sampling at 10 Hz goes: a sensor of the moment, held for 100 ms, under square loads of any duty."""

import os
from pathlib import Path
from statistics import fmean

from tests.bench import node
from tests.bench.accuracy import released
from tests.bench.report import table
from tests.drivers import nvml
from tests.drivers.waveform import Square
from tests.harness.rig import Rig

TITLE = (
    "limits: no counter, sensor of the moment held for 100 ms, integrated at 10 Hz; error over 60 s in %,\n"
    f"mean / mean of |error| over 20 phases of a square load of {node.HIGH_W:g}/{node.LOW_W:g} W"
)
PHASES = 20
DUTIES = (0.1, 0.3, 0.5, 0.7, 0.9)
PERIODS_S = (0.1, 0.2, 0.37, 1.0, 2.9)
BEGIN_S, WINDOW_S = 1000.0, 60.0


def measure(scratch: Path, *, markdown: bool) -> str:
    """Every duty x period, as a table."""
    nvml.preload(nvml.build(scratch))
    rows = [
        [f"duty {duty:g}", *(_cell(scratch / "limits.conf", duty, period_s) for period_s in PERIODS_S)]
        for duty in DUTIES
    ]
    return table(["", *(f"{period_s:g} s load" for period_s in PERIODS_S)], rows, markdown=markdown)


def _cell(config: Path, duty: float, period_s: float) -> str:
    os.environ[nvml.CONFIG_VARIABLE] = str(config)
    gpu = nvml.FakeGpu(name="Tesla P100-SXM2-16GB", arch=4, usage="instant", instant_window_s=0.0)
    driver = nvml.FakeDriver(config, [gpu] * PHASES, virtual_s=BEGIN_S)
    driver.fault(node.ENERGY, node.NOT_SUPPORTED)
    for number in range(PHASES):
        load = Square(period_s=period_s, duty=duty, high_w=node.HIGH_W, low_w=node.LOW_W)
        driver.wave(number, BEGIN_S / 2 + period_s * number / PHASES, load)
    with released():
        rig = Rig(driver=driver, begin_s=BEGIN_S)
        rig.go(WINDOW_S)
        errors = []
        for number in range(PHASES):
            uuid = driver.uuid(number)
            true_j = driver.true_energy_j(number, BEGIN_S, rig.read_at_s(uuid))
            errors.append(100 * (rig.energy_j(uuid) / true_j - 1.0))
    return f"{fmean(errors):+.2f} / {fmean(abs(error) for error in errors):.2f}"

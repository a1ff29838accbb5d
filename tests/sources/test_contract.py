"""One contract, every source: whatever it reads, these promises hold.

A replay is left out: its instants are the recording's own, and test_recording.py holds it to them bit for bit.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from monitor.core.model import Component, Device, Instant, PowerSignal, Reading, Readout
from monitor.core.ports import Source
from monitor.sources.alternatives import FirstThatWorks
from monitor.sources.estimate import Estimate, power_w
from monitor.sources.hwmon import Hwmon
from monitor.sources.mock import Mock
from monitor.sources.nvml.source import Nvml
from monitor.sources.perf import Perf
from monitor.sources.plugins import Checked
from monitor.sources.rapl import Rapl
from tests.conftest import MakeDriver
from tests.drivers import rapl
from tests.drivers.hwmon import HwmonTree, grace_hopper
from tests.drivers.nvml import FakeDriver, FakeGpu
from tests.drivers.perf import LEVEL_W, Kernel, power_pmu
from tests.drivers.stat import Stat
from tests.drivers.waveform import Const
from tests.harness.rig import FileRig

BEGIN_S = 1000.0


@dataclass
class Stage:
    """A source, the world that it reads, and the power that all of its parts together truly draw."""

    make: Callable[[Callable[[], Instant]], Source]
    true_w: float
    show: Callable[[float], None] = lambda _at_s: None
    at_s: float = BEGIN_S
    source: Source = field(init=False)

    def __post_init__(self) -> None:
        self.show(self.at_s)
        self.source = self.make(self.now)

    def now(self) -> Instant:
        """The present of this stage; a call takes a microsecond."""
        self.at_s += 1e-6
        return Instant(self.at_s, 1.79e9 + self.at_s)

    def read(self, at_s: float) -> Readout:
        """What the source says at a moment."""
        self.at_s = at_s
        self.show(at_s)
        return self.source.read()


Now = Callable[[], Instant]


def nvml(_root: Path, make_driver: MakeDriver, _kernel: Kernel) -> Stage:
    """Three GPUs with counters."""
    driver = make_driver([FakeGpu()] * 3)
    for gpu in range(3):
        driver.wave(gpu, 0.0, Const(300.0))
    return Stage(lambda now: Nvml(now=now, interval_s=1.0), 900.0, driver.set_virtual)


def nvml_without_counters(root: Path, make_driver: MakeDriver, kernel: Kernel) -> Stage:
    """Three GPUs whose power must be integrated."""
    return nvml(root, lambda *args: counterless(make_driver(*args)), kernel)


def counterless(driver: FakeDriver) -> FakeDriver:
    """The driver without its energy counter."""
    driver.fault("nvmlDeviceGetTotalEnergyConsumption", 3)
    return driver


def powercap(root: Path, _make_driver: MakeDriver, _kernel: Kernel) -> Stage:
    """Two sockets with DRAM, and a platform that is in no sum."""
    tree, procfs = rapl.RaplTree(root / "sys"), rapl.cpu_of("GenuineIntel", root / "proc")
    return Stage(lambda now: Rapl(root / "sys", now=now, interval_s=1.0, procfs=procfs), 360.0, tree.update)


def first_that_works(root: Path, make_driver: MakeDriver, kernel: Kernel) -> Stage:
    """A powercap tree behind one that is not there."""
    behind = powercap(root, make_driver, kernel)
    (root / "empty").mkdir()

    def either(now: Now) -> Source:
        return FirstThatWorks([Rapl(root / "empty", now=now, interval_s=1.0), behind.make(now)], now=now)

    return Stage(either, behind.true_w, behind.show)


def perf(root: Path, _make_driver: MakeDriver, kernel: Kernel) -> Stage:
    """Two sockets with DRAM, by perf events."""
    sysfs, procfs = power_pmu(root / "sys"), rapl.cpu_of("GenuineIntel", root / "proc")

    def make(now: Now) -> Source:
        source = Perf(sysfs, now=now, interval_s=1.0, procfs=procfs, open_event=kernel.open_event)
        kernel.readers.append(source)
        return source

    return Stage(make, 2 * sum(LEVEL_W.values()) + 2 * 36, kernel.update)


def hwmon(root: Path, _make_driver: MakeDriver, _kernel: Kernel) -> Stage:
    """A Grace Hopper's meters: only the Grace side is a part."""
    meters = HwmonTree(root / "sys", grace_hopper())
    return Stage(lambda now: Hwmon(root / "sys", now=now, interval_s=1.0), 300.0, meters.update)


def estimate(root: Path, _make_driver: MakeDriver, _kernel: Kernel) -> Stage:
    """A CPU at half load, without any sensor."""
    stat = Stat(root / "proc", {0.0: 0.5})
    true_w = power_w(0.5, 200.0)
    return Stage(lambda now: Estimate(root / "proc", tdp_w=200.0, now=now, interval_s=1.0), true_w, stat.update)


class Card:
    """What a plug-in might be: one accelerator with a counter."""

    name = "accel"
    period_s = 1.0

    def __init__(self, now: Now) -> None:
        self._now = now

    def open(self) -> None:
        """There is nothing to find."""

    def close(self) -> None:
        """Nothing is held open."""

    def read(self) -> Readout:
        """250 W, since ever."""
        device = Device(id="accel-0", component=Component.GPU, source="accel", max_power_w=600.0)
        at = self._now()
        return Readout(readings=(Reading(device=device, at=at, energy_j=250.0 * at.mono_s),))


def plugin(_root: Path, _make_driver: MakeDriver, _kernel: Kernel) -> Stage:
    """A third-party source, through the check that all of them go through."""
    return Stage(lambda now: Checked("accel", Card(now), now=now, period_s=1.0), 250.0)


def mock(_root: Path, _make_driver: MakeDriver, _kernel: Kernel) -> Stage:
    """The simulated node, which draws what it likes: tests of its own hold it to that."""
    return Stage(lambda now: Mock("training", now=now, interval_s=1.0), math.nan)


STEADY = (nvml, nvml_without_counters, powercap, first_that_works, perf, hwmon, estimate, plugin)


@pytest.fixture(params=[*STEADY, mock], ids=lambda build: build.__name__)
def stage(request: pytest.FixtureRequest, tmp_path: Path, make_driver: MakeDriver) -> Iterator[Stage]:
    """Each source on its fixture."""
    kernel = Kernel()
    yield request.param(tmp_path, make_driver, kernel)
    kernel.shut()


def test_every_reading_is_whole(stage: Stage) -> None:
    """Finite, not negative, from a device of this source with one id and a bound; never a reading of nothing."""
    stage.source.open()
    for second in range(1, 12):
        readout = stage.read(BEGIN_S + second)
        ids = [reading.device.id for reading in readout.readings]

        assert ids
        assert len(ids) == len(set(ids))
        for reading in readout.readings:
            values = [v for v in (reading.energy_j, reading.power_w, reading.wraps_at_j) if v is not None]

            assert reading.energy_j is not None or reading.power_w is not None
            assert all(math.isfinite(value) and value >= 0.0 for value in values)
            assert reading.device.source == stage.source.name
            assert reading.device.max_power_w > 0.0


def test_readings_are_stamped_beside_the_call(stage: Stage) -> None:
    """Each reading's instant lies within the read that took it; that of a mean at most half a second before."""
    stage.source.open()
    for second in range(1, 6):
        before = stage.now().mono_s if second == 1 else BEGIN_S + second
        readout = stage.read(BEGIN_S + second)

        for reading in readout.readings:
            is_mean = reading.energy_j is None and reading.power_signal is PowerSignal.AVERAGE

            assert before - (0.5 if is_mean else 0.0) <= reading.at.mono_s <= stage.now().mono_s


def test_a_source_can_be_closed_and_opened_again(stage: Stage) -> None:
    """Closing twice is no error, and the same devices are there afterwards, under the same ids."""
    stage.source.open()
    first = {reading.device.id for reading in stage.read(BEGIN_S + 1).readings}
    stage.source.close()
    stage.source.close()
    stage.source.open()

    assert first == {reading.device.id for reading in stage.read(BEGIN_S + 2).readings}
    assert 0.0 < stage.source.period_s <= 60.0


@pytest.mark.parametrize("stage", STEADY, indirect=True, ids=lambda build: build.__name__)
def test_its_parts_add_up_to_the_truth(stage: Stage) -> None:
    """Through supervisor and fold, a minute at a steady load gives the joules of that load."""
    rig = FileRig(stage.make, follow=[stage.show])
    snapshot = rig.go(60.0)
    parts = [entry for entry in snapshot.devices.values() if entry.device.is_part]

    assert sum(sum(entry.energy_j.values()) for entry in parts) == pytest.approx(60.0 * stage.true_w, rel=0.02)
    assert all(entry.unmeasured_s == 0.0 for entry in parts)

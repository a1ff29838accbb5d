"""Counters that stop, lie, vanish or return; sensors of the moment; superchips, MIG, processes."""

import statistics

import pytest

from monitor.sources.nvml.source import Nvml
from tests.conftest import MakeDriver
from tests.drivers.nvml import FakeDriver, FakeGpu
from tests.drivers.waveform import Const, Square
from tests.harness.rig import Rig

COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
NOT_SUPPORTED, TIMEOUT, UNKNOWN = 3, 10, 999


def error_ratio(rig: Rig, driver: FakeDriver, gpu: int, begin_s: float) -> float:
    """Metered over true joules, less 1, up to the last reading."""
    uuid = driver.uuid(gpu)
    return rig.energy_j(uuid) / driver.true_energy_j(gpu, begin_s, rig.read_at_s(uuid)) - 1.0


def test_a_sensor_of_the_moment_is_integrated_at_10_hz(make_driver: MakeDriver) -> None:
    """Square load of 650/150 W, 1 s, duty 0.5, on a sensor held for 100 ms: mean error of 20 phases within 1 %."""
    driver = make_driver([FakeGpu(arch=7, usage="instant", instant_window_s=0.0)] * 20)
    driver.fault(COUNTER, NOT_SUPPORTED)
    for gpu in range(20):
        driver.wave(gpu, 900.0 + gpu / 20, Square(period_s=1.0, duty=0.5, high_w=650.0, low_w=150.0))
    rig = Rig(driver=driver)
    rig.go(60.0)
    errors = [error_ratio(rig, driver, gpu, 1000.0) for gpu in range(20)]

    assert abs(statistics.mean(errors)) < 0.01
    assert statistics.mean(abs(error) for error in errors) < 0.01
    assert {"integrated"} == {method for entry in rig.loop.snapshot.devices.values() for method in entry.energy_j}


@pytest.mark.parametrize("gain", [1.0, 0.93, 1.08])
def test_a_counter_that_returns_is_reconciled(make_driver: MakeDriver, gain: float) -> None:
    """Joules flow during a counter's outage; at its return they become the counter's, whichever sensor reads high."""
    driver = make_driver([FakeGpu(power_gain=gain)])
    driver.wave(0, 0.0, Const(400.0))
    driver.fault(COUNTER, TIMEOUT, window_s=(1010.0, 1030.0))
    rig = Rig(driver=driver)
    uuid = driver.uuid(0)
    rig.go(25.0)

    assert rig.energy_j(uuid) == pytest.approx(400.0 * (10 + 14.5 * gain), rel=0.02)
    assert rig.device(uuid).power_w == pytest.approx(400.0 * gain)
    shown_j = []
    rig.go(35.0, each_turn=lambda snapshot: shown_j.append(sum(snapshot.devices[uuid].energy_j.values())))

    assert shown_j == sorted(shown_j)
    assert rig.energy_j(uuid) == pytest.approx(400.0 * 60, abs=45.0)
    assert rig.device(uuid).unmeasured_s == 0.0


def test_a_counter_that_restarted_meanwhile_leaves_the_integral(make_driver: MakeDriver) -> None:
    """A counter that comes back from 0 cannot vouch for its outage: what was integrated stands, and it is a reset."""
    driver = make_driver([FakeGpu(base_mj=5_000_000_000)])
    driver.wave(0, 0.0, Const(400.0))
    driver.fault(COUNTER, TIMEOUT, window_s=(1010.0, 1030.0))
    driver.restart(0, 1020.0)
    rig = Rig(driver=driver)
    rig.go(60.0)
    entry = rig.device(driver.uuid(0))

    assert rig.energy_j(driver.uuid(0)) == pytest.approx(400.0 * 60, rel=0.01)
    assert entry.resets == 1
    assert entry.unmeasured_s == 0.0


def test_a_frozen_counter_is_noticed(make_driver: MakeDriver) -> None:
    """A counter that stands still under load is taken as away: the joules are integrated, and in the end right."""
    driver = make_driver()
    driver.wave(0, 0.0, Const(400.0))
    driver.freeze(0, 1010.0, 1040.0)
    rig = Rig(driver=driver)
    uuid = driver.uuid(0)
    rig.go(38.0)

    assert rig.energy_j(uuid) == pytest.approx(400.0 * 38, rel=0.03)
    assert set(rig.device(uuid).energy_j) == {"counter", "integrated"}
    rig.go(22.0)

    assert rig.energy_j(uuid) == pytest.approx(400.0 * 60, abs=60.0)


def test_an_idle_counter_is_not_frozen(make_driver: MakeDriver) -> None:
    """A GPU that draws nothing counts nothing: that is no fault."""
    driver = make_driver()
    driver.wave(0, 0.0, Const(0.0))
    rig = Rig(driver=driver)
    rig.go(60.0)

    assert set(rig.device(driver.uuid(0)).energy_j) == {"counter"}


@pytest.mark.parametrize(("gain", "agrees"), [(1.0, True), (0.57, False), (1.3, False)])
def test_two_sensors_are_checked_against_each_other(
    make_driver: MakeDriver,
    caplog: pytest.LogCaptureFixture,
    gain: float,
    agrees: bool,  # noqa: FBT001
) -> None:
    """The counter over the integrated power is shown as a ratio; one that is far from 1 is warned about."""
    driver = make_driver([FakeGpu(counter_gain=gain)])
    driver.wave(0, 0.0, Const(400.0))
    rig = Rig(driver=driver)
    check = rig.go(200.0).devices[driver.uuid(0)].crosscheck

    assert check.ratio == pytest.approx(gain, rel=0.02)
    assert (0 if agrees else 1) == sum("one of them is at fault" in text for text in caplog.messages)


def test_a_calibration_factor_is_applied_and_shown(make_driver: MakeDriver) -> None:
    """A factor for one card scales its joules, however they are known, and only its own."""
    driver = make_driver([FakeGpu()] * 2)
    for gpu in range(2):
        driver.wave(gpu, 0.0, Const(400.0))
    rig = Rig(driver=driver, calibration={driver.uuid(1): 1.05})
    rig.go(30.0)

    assert rig.energy_j(driver.uuid(1)) == pytest.approx(1.05 * rig.energy_j(driver.uuid(0)))
    assert rig.device(driver.uuid(1)).device.calibration_ratio == 1.05


def test_unknown_errors_reopen_the_library_and_name_the_container(make_driver: MakeDriver) -> None:
    """A container that lost its device cgroup gets "unknown error" from every call: said so, and tried anew."""
    driver = make_driver()
    driver.wave(0, 0.0, Const(400.0))
    driver.fault("nvmlDeviceGetTotalEnergyConsumption", UNKNOWN, window_s=(1010.0, 1020.0))
    driver.fault("nvmlDeviceGetFieldValues", UNKNOWN, window_s=(1010.0, 1020.0))
    driver.fault("nvmlDeviceGetPowerUsage", UNKNOWN, window_s=(1010.0, 1020.0))
    rig = Rig(driver=driver)
    rig.go(16.0)

    assert not rig.loop.snapshot.sources[0].up
    assert "container" in rig.loop.snapshot.sources[0].problem
    rig.go(44.0)

    assert rig.loop.snapshot.sources[0].up
    assert rig.energy_j(driver.uuid(0)) == pytest.approx(400.0 * 60, abs=45.0)


def test_a_superchip_is_not_counted_twice(make_driver: MakeDriver) -> None:
    """Module and GPU are both read; the GPU is the part, the module around it overlaps and is in no sum."""
    driver = make_driver([FakeGpu(scopes=0b011, module_extra_w=150.0)])
    driver.wave(0, 0.0, Const(400.0))
    rig = Rig(driver=driver)
    snapshot = rig.go(30.0)
    module = snapshot.devices[f"{driver.uuid(0)}-module"]

    assert snapshot.node_power_w == pytest.approx(400.0)
    assert module.power_w == pytest.approx(550.0)
    assert ("module", "node") == (module.device.component, module.device.within)
    assert {"gpu"} == {component for component, _ in snapshot.node_energy_j}


def test_a_module_is_the_part_where_it_is_the_only_reading(make_driver: MakeDriver) -> None:
    """Where only the module scope answers, its joules are counted, as a module."""
    driver = make_driver([FakeGpu(scopes=0b010, module_extra_w=150.0)])
    driver.wave(0, 0.0, Const(400.0))
    rig = Rig(driver=driver)
    snapshot = rig.go(30.0)

    assert {"module"} == {component for component, _ in snapshot.node_energy_j}
    assert snapshot.node_power_w == pytest.approx(550.0)


def test_memory_power_lies_within_the_gpu(make_driver: MakeDriver) -> None:
    """The memory scope is shown beside its GPU and never added to it."""
    driver = make_driver([FakeGpu(scopes=0b101, memory_share=0.25)])
    driver.wave(0, 0.0, Const(400.0))
    snapshot = Rig(driver=driver).go(10.0)
    memory = snapshot.devices[f"{driver.uuid(0)}-memory"]

    assert memory.power_w == pytest.approx(100.0)
    assert driver.uuid(0) == memory.device.within
    assert snapshot.node_power_w == pytest.approx(400.0)


def test_mig_power_is_counted_once(make_driver: MakeDriver) -> None:
    """A GPU in slices has one power reading; the slices are known by name and repeat nothing."""
    driver = make_driver([FakeGpu(mig=1)])
    driver.wave(0, 0.0, Const(400.0))
    for number in range(3):
        driver.mig(0, number, (number + 1, 0), f"MIG-{number}", 10 * 2**30)
    snapshot = Rig(driver=driver).go(30.0)

    assert [driver.uuid(0)] == list(snapshot.devices)
    assert ("MIG-0", "MIG-1", "MIG-2") == snapshot.devices[driver.uuid(0)].device.slices
    assert snapshot.node_power_w == pytest.approx(400.0)


def test_slices_and_gpus_that_come_later_are_found(make_driver: MakeDriver) -> None:
    """An operator divides a GPU and another one appears: both are seen within minutes, and no joule is lost."""
    driver = make_driver([FakeGpu(mig=1)])
    driver.wave(0, 0.0, Const(400.0))
    rig = Rig(driver=driver)
    rig.go(30.0)
    driver.mig(0, 0, (1, 0), "MIG-late", 10 * 2**30)
    driver.gpus.append(FakeGpu())
    driver.wave(1, 0.0, Const(300.0))
    rig.go(150.0)

    assert rig.device(driver.uuid(0)).device.slices == ("MIG-late",)
    assert rig.device(driver.uuid(1)).power_w == pytest.approx(300.0)
    assert rig.energy_j(driver.uuid(0)) == pytest.approx(400.0 * 180, abs=45.0)
    assert rig.device(driver.uuid(0)).unmeasured_s == 0.0


def test_a_gpu_without_any_power_sensor_is_absent_not_zero(make_driver: MakeDriver) -> None:
    """A vGPU that tells neither energy nor power has no joules and no watts; its time is unmeasured."""
    driver = make_driver()
    driver.fault(COUNTER, NOT_SUPPORTED)
    driver.fault("nvmlDeviceGetPowerUsage", NOT_SUPPORTED)
    for number in (185, 186, 191):
        driver.field_fault(number, NOT_SUPPORTED)
    rig = Rig(driver=driver)
    rig.go(20.0)
    entry = rig.device(driver.uuid(0))

    assert entry.energy_j == {}
    assert entry.power_w is None
    assert entry.unmeasured_s == pytest.approx(20.0, abs=1.1)


def test_processes_and_their_utilisation(make_driver: MakeDriver) -> None:
    """Who works on a GPU, with memory and mean SM utilisation; a GPU nobody uses has an empty list."""
    driver = make_driver([FakeGpu()] * 2)
    driver.process(0, 4711, 3 * 2**30, 80)
    driver.process(0, 4712, 1 * 2**30, 15)
    snapshot = Rig(driver=driver).go(12.0)
    busy, free = (snapshot.devices[driver.uuid(gpu)].processes for gpu in range(2))

    assert busy is not None
    assert free is not None
    assert [(4711, 3 * 2**30), (4712, 2**30)] == [(process.pid, process.memory_bytes) for process in busy.processes]
    assert [0.80, 0.15] == pytest.approx([process.sm_utilization_ratio for process in busy.processes])
    assert free.processes == ()


def test_calls_stay_few(make_driver: MakeDriver) -> None:
    """A GPU with a counter is read once a second; only one that must be integrated is read ten times as often."""
    driver = make_driver([FakeGpu()] * 2)
    rig = Rig(driver=driver)
    nvml = next(s for s in (one._source for one in rig.supervisors) if isinstance(s, Nvml))  # noqa: SLF001
    rig.go(5.0)

    assert nvml.period_s == 1.0
    driver.fault(COUNTER, TIMEOUT, gpu_index=0, window_s=(1006.0, 1008.0))
    rig.go(2.0)

    assert nvml.period_s == 0.1
    rig.go(5.0)

    assert nvml.period_s == 1.0


def test_another_driver_closes_the_interval(make_driver: MakeDriver) -> None:
    """A driver changed during a release counts from 0, and may have passed the old value: it is not believed."""
    driver = make_driver([FakeGpu(idle_w=0.0)])
    driver.wave(0, 1000.0, Const(400.0))
    rig = Rig(driver=driver)
    rig.go(20.0)
    rig.supervisors[0].release(100.0)
    rig.go(10.0)
    driver.set_versions("580.10.01", "13.580.10")
    driver.reload(rig.at_s)
    rig.go(150.0)
    entry = rig.device(driver.uuid(0))

    assert entry.unmeasured_s >= 90.0
    assert rig.energy_j(driver.uuid(0)) == pytest.approx(400.0 * (180.0 - entry.unmeasured_s), rel=0.02)

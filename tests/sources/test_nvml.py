"""NVIDIA GPUs on the stand-in driver, in virtual time."""

import pynvml
import pytest

from monitor.sources.nvml import driver as seam
from tests.conftest import MakeDriver
from tests.drivers.nvml import FakeGpu
from tests.drivers.waveform import Const, Square
from tests.harness.rig import Rig

NOT_SUPPORTED, NO_PERMISSION, TIMEOUT, GPU_IS_LOST, UNKNOWN = 3, 4, 10, 15, 999
EIGHT = tuple(FakeGpu(counter_period_s=0.02 + 0.01 * gpu, counter_phase_s=0.013 * gpu) for gpu in range(8))


def test_eight_gpus_are_eight_devices(make_driver: MakeDriver) -> None:
    """Each GPU has its own joules, keyed by UUID: they are summed over devices, never averaged."""
    driver = make_driver(EIGHT)
    for gpu in range(8):
        driver.wave(gpu, 0.0, Const(100.0 * gpu + 50.0))
    rig = Rig(driver=driver)
    rig.go(60.0)

    assert {driver.uuid(gpu) for gpu in range(8)} == set(rig.loop.snapshot.devices)
    for gpu in range(8):
        true_j = driver.true_energy_j(gpu, 1000.0, rig.read_at_s(driver.uuid(gpu)))

        assert true_j == pytest.approx(rig.energy_j(driver.uuid(gpu)), rel=0.001, abs=0.1 * (100 * gpu + 50))


def test_telemetry_is_in_si_units(make_driver: MakeDriver) -> None:
    """Watts, ratios, bytes and degrees as the driver means them, with model and index."""
    driver = make_driver([FakeGpu(limit_w=650.0, utilization=87, memory_used_bytes=7 * 2**30, temperature_c=61)])
    driver.wave(0, 0.0, Const(432.0))
    rig = Rig(driver=driver)
    entry = rig.go(3.0).devices[driver.uuid(0)]

    assert entry.power_w == pytest.approx(432.0)
    assert (650.0, 0.87, 7 * 2**30, 61.0) == (
        entry.telemetry.power_limit_w,
        entry.telemetry.utilization_ratio,
        entry.telemetry.memory_used_bytes,
        entry.telemetry.temperature_c,
    )
    assert ("NVIDIA H100 80GB HBM3", "0") == (entry.device.model, entry.device.index)


def test_throttled_seconds_are_the_drivers_own(make_driver: MakeDriver) -> None:
    """By reason, since the driver was loaded, sorted; a reason that is not offered is absent, and 0 is 0."""
    driver = make_driver([FakeGpu(throttled={"power": 0.5, "thermal": 0.125, "sync_boost": None})], virtual_s=1000.0)
    rig = Rig(driver=driver)
    rig.go(12.0)
    told = rig.device(driver.uuid(0)).telemetry.throttled_s
    read_s = told[2][1] / 0.5

    assert ["board_limit", "low_utilization", "power", "reliability", "thermal"] == [reason for reason, _ in told]
    assert 1009.0 <= read_s <= 1012.0
    assert [0.0, 0.0, 0.5 * read_s, 0.0, 0.125 * read_s] == pytest.approx([seconds for _, seconds in told])


def test_throttled_seconds_begin_anew_with_the_driver(make_driver: MakeDriver) -> None:
    """They are passed on as they are: a reload of the driver is a fall."""
    driver = make_driver([FakeGpu(throttled={"power": 1.0})])
    rig = Rig(driver=driver)
    before_s = dict(rig.go(12.0).devices[driver.uuid(0)].telemetry.throttled_s)["power"]
    driver.reload(rig.at_s)
    after_s = dict(rig.go(60.0).devices[driver.uuid(0)].telemetry.throttled_s)["power"]

    assert before_s > 1000.0
    assert 0.0 < after_s < 61.0


def test_unchanged_throttled_seconds_are_the_same_object(make_driver: MakeDriver) -> None:
    """Nothing is made anew every 5 s on a GPU that is never throttled."""
    driver = make_driver()
    rig = Rig(driver=driver)
    first = rig.go(7.0).devices[driver.uuid(0)]
    second = rig.go(10.0).devices[driver.uuid(0)]

    assert first.telemetry_at != second.telemetry_at
    assert first.telemetry.throttled_s
    assert first.telemetry.throttled_s is second.telemetry.throttled_s


@pytest.mark.parametrize(
    ("code", "what"), [(NOT_SUPPORTED, "never"), (2, "invalid argument"), (TIMEOUT, "late"), (UNKNOWN, "unknown")]
)
def test_throttled_fields_that_fail_cost_nothing_else(make_driver: MakeDriver, code: int, what: str) -> None:
    """Whatever the code of each value is, that part of the telemetry is absent, and everything else is there."""
    driver = make_driver([FakeGpu(throttled={"power": 0.5}, temperature_c=61)])
    driver.wave(0, 0.0, Const(300.0))
    for number in range(74, 80):
        driver.field_fault(number, code)
    rig = Rig(driver=driver)
    rig.go(20.0)
    entry = rig.device(driver.uuid(0))

    assert ((), 61.0) == (entry.telemetry.throttled_s, entry.telemetry.temperature_c), what
    assert entry.power_w == pytest.approx(300.0)
    assert rig.energy_j(driver.uuid(0)) == pytest.approx(6000.0, rel=0.01)
    assert rig.loop.snapshot.sources[0].failures == ()


def test_throttled_fields_that_time_out_come_back(make_driver: MakeDriver) -> None:
    """What failed once is asked again; only what is not offered is let alone."""
    driver = make_driver([FakeGpu(throttled={"power": 0.5})])
    for number in range(74, 80):
        driver.field_fault(number, TIMEOUT, window_s=(0.0, 1010.0))
    rig = Rig(driver=driver)
    away = rig.go(8.0).devices[driver.uuid(0)].telemetry
    back = rig.go(10.0).devices[driver.uuid(0)].telemetry

    assert () == away.throttled_s
    assert 6 == len(back.throttled_s)


@pytest.mark.parametrize("code", [2, NOT_SUPPORTED])
def test_a_driver_that_refuses_the_whole_call_offers_none(make_driver: MakeDriver, code: int) -> None:
    """An invalid argument here is no reason to open the library anew."""
    driver = make_driver()
    pynvml.nvmlInit()
    handle = seam.handle_by_index(0)
    driver.fault("nvmlDeviceGetFieldValues", code)
    with pytest.raises(pynvml.NVMLError) as caught:
        seam.throttled_s(handle)

    assert NOT_SUPPORTED == caught.value.value


@pytest.mark.parametrize(
    "symbol",
    [
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetFieldValues",
    ],
)
def test_one_unsupported_call_does_not_drop_the_others(make_driver: MakeDriver, symbol: str) -> None:
    """A metric that a GPU does not offer is absent; its joules flow on."""
    driver = make_driver()
    driver.wave(0, 0.0, Const(300.0))
    driver.fault(symbol, NOT_SUPPORTED)
    rig = Rig(driver=driver)
    rig.go(20.0)

    assert rig.energy_j(driver.uuid(0)) == pytest.approx(6000.0, rel=0.01)
    assert rig.device(driver.uuid(0)).unmeasured_s == 0.0


def test_without_a_counter_average_power_is_integrated(make_driver: MakeDriver) -> None:
    """No energy counter: the driver's 1 s mean is integrated, and the method says so."""
    driver = make_driver()
    driver.wave(0, 0.0, Square(period_s=1.0, duty=0.5, high_w=650.0, low_w=150.0))
    driver.fault("nvmlDeviceGetTotalEnergyConsumption", NOT_SUPPORTED)
    rig = Rig(driver=driver)
    snapshot = rig.go(60.0)
    true_j = driver.true_energy_j(0, 1000.0, rig.read_at_s(driver.uuid(0)))

    assert {"integrated"} == set(snapshot.devices[driver.uuid(0)].energy_j)
    assert true_j == pytest.approx(rig.energy_j(driver.uuid(0)), rel=0.01)


def test_a_forbidden_gpu_is_skipped_and_the_others_keep_their_slot(make_driver: MakeDriver) -> None:
    """A GPU that may not be opened is left out; the next one keeps its index."""
    driver = make_driver(EIGHT[:3])
    driver.forbid(1)
    rig = Rig(driver=driver)
    snapshot = rig.go(2.0)

    assert {"0", "2"} == {entry.device.index for entry in snapshot.devices.values()}


def test_a_lost_gpu_stops_alone_and_comes_back(make_driver: MakeDriver) -> None:
    """One of eight GPUs falls off the bus for 12 s: no watts, its seconds counted, the other seven exact."""
    driver = make_driver(EIGHT)
    for gpu in range(8):
        driver.wave(gpu, 0.0, Const(400.0))
    driver.fault("*", GPU_IS_LOST, gpu_index=0, window_s=(1010.0, 1022.0))
    rig = Rig(driver=driver)
    lost, well = driver.uuid(0), [driver.uuid(gpu) for gpu in range(1, 8)]
    rig.go(15.0)

    assert rig.device(lost).power_w is None
    assert rig.loop.snapshot.sources[0].up
    assert "fell off the bus" in rig.loop.snapshot.sources[0].problem
    rig.go(45.0)

    assert 12.0 <= rig.device(lost).unmeasured_s <= 25.0
    assert rig.energy_j(lost) == pytest.approx(400.0 * (60.0 - rig.device(lost).unmeasured_s), rel=0.02)
    assert [rig.energy_j(uuid) for uuid in well] == pytest.approx([400.0 * 60.0] * 7, abs=45.0)
    assert {rig.device(uuid).unmeasured_s for uuid in well} == {0.0}
    assert rig.device(lost).power_w == pytest.approx(400.0)


def test_a_restarted_counter_is_neither_negative_nor_phantom(make_driver: MakeDriver) -> None:
    """A driver that restarts its counter costs one interval, counted in seconds and as a reset."""
    driver = make_driver([FakeGpu(base_mj=9_000_000_000)])
    driver.wave(0, 0.0, Const(500.0))
    driver.restart(0, 1020.4)
    rig = Rig(driver=driver)
    rig.go(60.0)
    entry = rig.device(driver.uuid(0))

    assert entry.resets == 1
    assert entry.unmeasured_s == pytest.approx(1.0)
    assert rig.energy_j(driver.uuid(0)) == pytest.approx(59.0 * 500.0, abs=60.0)


def test_an_implausible_jump_is_no_energy(make_driver: MakeDriver) -> None:
    """A counter that leaps by a megajoule has not seen that energy: the interval is unmeasured."""
    driver = make_driver()
    driver.wave(0, 0.0, Const(500.0))
    driver.jump(0, 1030.5, 1e9)
    rig = Rig(driver=driver)
    rig.go(60.0)

    assert rig.energy_j(driver.uuid(0)) == pytest.approx(59.0 * 500.0, abs=60.0)
    assert rig.device(driver.uuid(0)).unmeasured_s == pytest.approx(1.0)


def test_a_timeout_books_nothing_and_loses_nothing(make_driver: MakeDriver) -> None:
    """Calls that time out for 5 s add no joule meanwhile; the counter tells all of them afterwards."""
    driver = make_driver()
    driver.wave(0, 0.0, Const(500.0))
    driver.fault("nvmlDeviceGetTotalEnergyConsumption", TIMEOUT, window_s=(1010.0, 1015.0))
    rig = Rig(driver=driver)
    rig.go(30.0)

    assert rig.energy_j(driver.uuid(0)) == pytest.approx(30.0 * 500.0, abs=60.0)
    assert rig.device(driver.uuid(0)).unmeasured_s == 0.0
    assert ("timeout", 5) in rig.loop.snapshot.sources[0].failures


def test_a_reloaded_driver_is_opened_again(make_driver: MakeDriver) -> None:
    """All handles become invalid at a driver reload: the library is opened anew, and readings go on."""
    driver = make_driver(EIGHT[:2])
    for gpu in range(2):
        driver.wave(gpu, 0.0, Const(300.0))
    rig = Rig(driver=driver)
    rig.go(20.0)
    driver.reload(1020.5)
    rig.go(40.0)

    for gpu in range(2):
        entry = rig.device(driver.uuid(gpu))

        assert rig.energy_j(driver.uuid(gpu)) == pytest.approx(300.0 * (60.0 - entry.unmeasured_s), rel=0.01)
        assert entry.power_w == pytest.approx(300.0)

"""The fault catalogue: what goes wrong with sensors, what we report, and the joules that are true.

Every row runs the whole pipeline for two minutes of virtual time at a constant load. `lost_s` is the time whose
joules nobody can know, as bounds: exactly that much is missing from the total, and it is counted as unmeasured.
References: P = NVML's return codes and documents, or the kernel's; # = issue of the named project.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeDriver
from tests.drivers import rapl
from tests.drivers.nvml import FakeDriver, FakeGpu
from tests.drivers.waveform import Const
from tests.harness.rig import Rig

GPU_W, PACKAGE_W, RUN_S = 400.0, 150.0, 120.0
COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
BEGIN_S = 1000.0
PLAIN = FakeGpu(base_mj=10**10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A fault of the NVML driver, on the first of two GPUs; the second one must be exact in every row."""

    fault: str
    known_from: str
    happens: Callable[[FakeDriver], object]
    lost_s: tuple[float, float] = (0.0, 0.0)
    methods: frozenset[str] = frozenset({"counter"})
    resets: int = 0
    says: str = ""
    gpu: FakeGpu = PLAIN
    hits_both: bool = False


def fails(
    symbol: str, code: int, begin_s: float, end_s: float, *, every: bool = False
) -> Callable[[FakeDriver], object]:
    """That call answers with that NVML return code for a while."""
    window = (BEGIN_S + begin_s, BEGIN_S + end_s)
    return lambda driver: driver.fault(symbol, code, gpu_index=None if every else 0, window_s=window)


def fails_all(code: int, begin_s: float, end_s: float) -> Callable[[FakeDriver], object]:
    """Counter and power answer with that code for a while."""

    def happen(driver: FakeDriver) -> None:
        for symbol in (COUNTER, "nvmlDeviceGetFieldValues", "nvmlDeviceGetPowerUsage"):
            fails(symbol, code, begin_s, end_s)(driver)

    return happen


def telemetry_fails(driver: FakeDriver) -> None:
    """Nothing but energy and power can be read."""
    for name in ("UtilizationRates", "MemoryInfo_v2", "TemperatureV", "EnforcedPowerLimit"):
        driver.fault(f"nvmlDeviceGet{name}", 999, gpu_index=0)


BOTH = frozenset({"counter", "integrated"})
INTEGRATED = frozenset({"integrated"})
GPUS = [
    Gpu(fault="nothing", known_from="-", happens=lambda _: None),
    Gpu(
        fault="counter times out for 5 s",
        known_from="P TIMEOUT: skip the sample",
        happens=fails(COUNTER, 10, 30, 35),
        methods=BOTH,
        says="Timeout",
    ),
    Gpu(fault="counter is not ready", known_from="CodeCarbon #578", happens=fails(COUNTER, 27, 0, 3), methods=BOTH),
    Gpu(fault="counter in use", known_from="P IN_USE", happens=fails(COUNTER, 19, 30, 31), methods=BOTH),
    Gpu(
        fault="no answer at all for 8 s",
        known_from="P TIMEOUT",
        happens=fails_all(10, 30, 38),
        says="Timeout",
    ),
    Gpu(
        fault="no counter (before Volta)",
        known_from="P NOT_SUPPORTED",
        happens=fails(COUNTER, 3, 0, 1e9),
        methods=INTEGRATED,
    ),
    Gpu(
        fault="counter not permitted",
        known_from="P NO_PERMISSION",
        happens=fails(COUNTER, 4, 0, 1e9),
        methods=INTEGRATED,
    ),
    Gpu(
        fault="counter symbol missing",
        known_from="nvidia_gpu_exporter guards; P 13",
        happens=fails(COUNTER, 13, 0, 1e9),
        methods=INTEGRATED,
    ),
    Gpu(
        fault="no counter, sensor of the moment",
        known_from="P GA100 and older",
        happens=fails(COUNTER, 3, 0, 1e9),
        gpu=FakeGpu(arch=7, usage="instant"),
        methods=INTEGRATED,
    ),
    Gpu(
        fault="counter fails, sensor reads 8 % high",
        known_from="CodeCarbon 3.3.2 reconciles; P sec. 2",
        happens=fails(COUNTER, 10, 30, 60),
        gpu=FakeGpu(power_gain=1.08),
        methods=BOTH,
    ),
    Gpu(
        fault="counter fails, sensor reads 8 % low",
        known_from="P sec. 2",
        happens=fails(COUNTER, 10, 30, 60),
        gpu=FakeGpu(power_gain=0.92),
        methods=BOTH,
    ),
    Gpu(
        fault="counter restarts",
        known_from="Alumet: 1.8e19 mJ; CodeCarbon: negative",
        happens=lambda driver: driver.restart(0, BEGIN_S + 50.5),
        lost_s=(1.0, 1.0),
        resets=1,
    ),
    Gpu(
        fault="counter leaps up by 50 MJ",
        known_from="dcgm-exporter #417, Kepler #1279",
        happens=lambda driver: driver.jump(0, BEGIN_S + 50.5, 5e10),
        lost_s=(1.0, 1.0),
    ),
    Gpu(
        fault="counter leaps down",
        known_from="P: never abs(), never a wrap",
        happens=lambda driver: driver.jump(0, BEGIN_S + 50.5, -5e9),
        lost_s=(1.0, 1.0),
        resets=1,
    ),
    Gpu(
        fault="counter frozen for 40 s",
        known_from="ROCm/amdsmi #38",
        happens=lambda driver: driver.freeze(0, BEGIN_S + 30, BEGIN_S + 70),
        methods=BOTH,
    ),
    Gpu(
        fault="GPU falls off the bus for 12 s",
        known_from="gpu-monitoring-tools #188, dcgm-exporter #164",
        happens=fails("*", 15, 30, 42),
        lost_s=(12.0, 20.0),
        says="fell off the bus",
    ),
    Gpu(
        fault="GPU must be reset",
        known_from="P RESET_REQUIRED",
        happens=fails("*", 16, 30, 40),
        lost_s=(10.0, 17.0),
        says="nvidia-smi -r",
    ),
    Gpu(
        fault="library uninitialised for 4 s",
        known_from="P UNINITIALIZED: re-init",
        happens=fails(COUNTER, 1, 30, 34),
        hits_both=True,
    ),
    Gpu(
        fault="driver and library differ for 10 s",
        known_from="P LIB_RM_VERSION_MISMATCH",
        happens=fails(COUNTER, 18, 30, 40),
        says="reload the driver or reboot",
        hits_both=True,
    ),
    Gpu(
        fault="driver gone for 20 s, counters kept",
        known_from="P DRIVER_NOT_LOADED: re-init with back-off",
        happens=fails("*", 9, 30, 50, every=True),
        says="no NVIDIA driver here",
        hits_both=True,
    ),
    Gpu(
        fault="driver reloaded",
        known_from="P: handles invalid, energy restarts",
        happens=lambda _: None,
        lost_s=(1.0, 8.0),
        hits_both=True,
    ),
    Gpu(
        fault="device cgroup gone",
        known_from="nvidia-container-toolkit #48",
        happens=fails_all(999, 30, 45),
        says="container",
        hits_both=True,
    ),
    Gpu(
        fault="field values fail",
        known_from="mlflow #14736: one call drops the rest",
        happens=fails("nvmlDeviceGetFieldValues", 999, 0, 1e9),
    ),
    Gpu(
        fault="one field value fails, the call succeeds",
        known_from="P nvmlReturn per value",
        happens=lambda driver: driver.field_fault(185, 3, gpu_index=0),
    ),
    Gpu(
        fault="telemetry fails",
        known_from="mlflow #14736",
        happens=telemetry_fails,
    ),
]


@pytest.mark.parametrize("row", GPUS, ids=lambda row: row.fault)
def test_gpu_faults(make_driver: MakeDriver, row: Gpu) -> None:
    """The metered joules are the true ones less the lost seconds, which are counted; the neighbour is exact."""
    driver = make_driver([row.gpu, FakeGpu(counter_phase_s=0.03)])
    for gpu in range(2):
        driver.wave(gpu, 0.0, Const(GPU_W))
    row.happens(driver)
    rig = Rig(driver=driver)
    said: set[str] = set()
    uuids = [driver.uuid(gpu) for gpu in range(2)]
    rig.go(50.0, each_turn=lambda snapshot: said.add(snapshot.sources[0].problem))
    if row.fault == "driver reloaded":
        driver.reload(rig.at_s + 0.5)
    rig.go(RUN_S - 50.0, each_turn=lambda snapshot: said.add(snapshot.sources[0].problem))
    entry = rig.device(uuids[0])

    assert row.lost_s[0] - 0.01 <= entry.unmeasured_s <= row.lost_s[1] + 0.01
    assert rig.energy_j(uuids[0]) == pytest.approx(GPU_W * (RUN_S - entry.unmeasured_s), rel=0.01)
    assert {method for method, joules in entry.energy_j.items() if joules} == row.methods
    assert row.resets == entry.resets or row.hits_both
    assert any(row.says in problem for problem in said)
    if not row.hits_both:
        assert rig.energy_j(uuids[1]) == pytest.approx(GPU_W * RUN_S, abs=45.0)
        assert rig.device(uuids[1]).unmeasured_s == 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A fault of the powercap tree, on the first package."""

    fault: str
    known_from: str
    begins: Callable[[rapl.RaplTree], object] = lambda _tree: None
    ends: Callable[[rapl.RaplTree], object] = lambda _tree: None
    lost_s: tuple[float, float] = (0.0, 0.0)
    resets: int = 0
    says: str = ""
    changes: dict[str, Any] = field(default_factory=dict)


FIRST = "intel-rapl:0"


def wrapping_at(second_s: float, range_uj: int) -> int:
    """What the first package's counter shows at time 0 if it comes round at that second of the row."""
    return -int(PACKAGE_W * (BEGIN_S + second_s) * 1e6) % range_uj


ZONES = [
    Zone(fault="nothing", known_from="-"),
    Zone(
        fault="empty read for 30 s",
        known_from="perun: 1,000 J became 263,143 J",
        begins=lambda tree: tree.garble(FIRST, ""),
        ends=lambda tree: tree.heal(FIRST),
        says="not a counter",
    ),
    Zone(
        fault="torn read",
        known_from="CodeCarbon: phantom 262 kJ of a failed read",
        begins=lambda tree: tree.garble(FIRST, "12 34\n"),
        ends=lambda tree: tree.heal(FIRST),
        says="not a counter",
    ),
    Zone(
        fault="permission lost for 30 s",
        known_from="CVE-2020-8694; node_exporter #1892",
        begins=lambda tree: tree.deny(FIRST),
        ends=lambda tree: tree.heal(FIRST),
        says="CAP_DAC_READ_SEARCH",
    ),
    Zone(
        fault="262 kJ range wraps",
        known_from="pyJoules, node_exporter, CEEMS ignore it",
        changes={"range_uj": rapl.RANGE_61_UJ, "base_uj": wrapping_at(60.0, rapl.RANGE_61_UJ)},
    ),
    Zone(
        fault="65 kJ range wraps",
        known_from="P: AMD, many servers",
        changes={"range_uj": rapl.RANGE_15_UJ, "base_uj": wrapping_at(60.0, rapl.RANGE_15_UJ)},
    ),
    Zone(
        fault="wraps while it cannot be read",
        known_from="P",
        begins=lambda tree: tree.deny(FIRST),
        ends=lambda tree: tree.heal(FIRST),
        changes={"range_uj": 40 * 10**9, "base_uj": wrapping_at(45.0, 40 * 10**9), "max_power_w": 350.0},
    ),
    Zone(
        fault="may have wrapped twice in a gap",
        known_from="Kepler blind spot",
        begins=lambda tree: tree.deny(FIRST),
        ends=lambda tree: tree.heal(FIRST),
        changes={"range_uj": 3 * 10**9, "max_power_w": 350.0},
        lost_s=(30.0, 33.0),
    ),
    Zone(
        fault="counter set anew",
        known_from="P: reset and wrap look alike",
        begins=lambda tree: tree.reset(FIRST, BEGIN_S + 30.6),
        lost_s=(1.0, 1.0),
        resets=1,
        changes={"base_uj": 10**11},
    ),
    Zone(
        fault="range unreadable, wraps",
        known_from="CodeCarbon #1309: negative energy",
        changes={"has_range_file": False, "base_uj": wrapping_at(60.4, rapl.RANGE_61_UJ)},
        lost_s=(1.0, 1.0),
        resets=1,
    ),
]


@pytest.mark.parametrize("row", ZONES, ids=lambda row: row.fault)
def test_rapl_faults(tmp_path: Path, row: Zone) -> None:
    """The metered joules are the true ones less the lost seconds, which are counted; the other socket is exact."""
    changed = [replace(zone, **row.changes) if zone.id == FIRST else zone for zone in rapl.server()]
    tree = rapl.RaplTree(tmp_path / "sys", changed)
    rig = Rig(tree=tree)
    said: set[str] = set()
    for spell_s, then in ((30.0, row.begins), (30.0, row.ends), (RUN_S - 60.0, None)):
        rig.go(spell_s, each_turn=lambda snapshot: said.add(snapshot.sources[0].problem))
        if then is not None:
            then(tree)
    entry = rig.device("package-0")

    assert row.lost_s[0] - 0.01 <= entry.unmeasured_s <= row.lost_s[1] + 0.01
    assert rig.energy_j("package-0") == pytest.approx(PACKAGE_W * (RUN_S - entry.unmeasured_s), rel=0.002)
    assert row.resets == entry.resets
    assert any(row.says in problem for problem in said)
    assert rig.energy_j("package-1") == pytest.approx(PACKAGE_W * RUN_S)

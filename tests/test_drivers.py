"""The stand-ins show what they say they show: each is asked from outside and compared with its closed form."""

import errno
import json
import math
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drivers import nvml, rapl
from tests.drivers.waveform import Const, Ramp, Square, Wave, Waveform

TRAINING = Square(period_s=1.0, duty=0.7, high_w=650.0, low_w=150.0)
"""500 W on average."""

GPU_IS_LOST, NOT_SUPPORTED = 15, 3

# A program of its own, because a process can only ever have one NVML: evaluates one line after the other.
ASKED = """
import ctypes, json, sys, time
from pynvml import *
gpu = nvmlDeviceGetHandleByIndex
names = globals()
for line in sys.stdin:
    try:
        answer = eval(line, names)
    except NVMLError as error:
        answer = type(error).__name__
    print(json.dumps(answer), flush=True)
"""


class Program:
    """A program that uses NVML through pynvml, as a monitor does."""

    def __init__(self, driver: nvml.FakeDriver, library: Path) -> None:
        environment = {**os.environ, **driver.environment(library.parent)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", ASKED],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, expression: str) -> Any:
        """Return its value, or the name of the NVMLError it raised."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self) -> str:
        """End it and return what it wrote to stderr."""
        return self.process.communicate()[1]


@pytest.fixture
def driver(tmp_path: Path) -> nvml.FakeDriver:
    """Two idle GPUs at time 0 of a virtual clock."""
    return nvml.FakeDriver(tmp_path / "nvml.conf", [nvml.FakeGpu(), nvml.FakeGpu(name="Second")], virtual_s=0.0)


@pytest.fixture
def program(driver: nvml.FakeDriver, library: Path) -> Iterator[Program]:
    """Start a program that has initialised NVML, and see that the library had nothing to complain of."""
    program = Program(driver, library)
    assert program.ask("nvmlInit()") is None
    yield program
    assert program.end() == ""


def counter_mj(program: Program, gpu_index: int = 0) -> Any:
    """Return what the program reads of the energy counter."""
    return program.ask(f"nvmlDeviceGetTotalEnergyConsumption(gpu({gpu_index}))")


# -- waveforms -----------------------------------------------------------------------------------------------

powers_w = st.floats(0.0, 1000.0)
moments_s = st.floats(-5.0, 30.0)
waves: st.SearchStrategy[Wave] = st.one_of(
    st.builds(Const, powers_w),
    st.builds(Square, st.floats(0.05, 5.0), st.floats(0.0, 1.0), powers_w, powers_w),
    st.builds(Ramp, powers_w, powers_w, st.floats(0.0, 10.0)),
)


@st.composite
def waveforms(draw: st.DrawFn) -> Waveform:
    """Up to four waves of any kind."""
    starts_s = sorted(draw(st.lists(st.floats(0.0, 20.0), max_size=4)))
    return Waveform(draw(powers_w), tuple((start_s, draw(waves)) for start_s in starts_s))


@settings(deadline=None)
@given(waveforms(), moments_s, moments_s, moments_s)
def test_energy_adds_up(waveform: Waveform, a: float, b: float, c: float) -> None:
    """E[a,c] = E[a,b] + E[b,c], whatever the order of the three."""
    parts_j = waveform.energy_j(a, b) + waveform.energy_j(b, c)

    assert waveform.energy_j(a, c) == pytest.approx(parts_j, abs=1e-6)


@settings(deadline=None)
@given(waveforms(), moments_s, st.floats(0.0, 10.0))
def test_energy_is_the_integral_of_power(waveform: Waveform, begin_s: float, span_s: float) -> None:
    """The closed form is the sum of power times time, up to one step of width at each edge of the wave."""
    steps, highest_w = 500, 1000.0
    step_s = span_s / steps
    summed_j = sum(waveform.power_w(begin_s + (at + 0.5) * step_s) for at in range(steps)) * step_s
    periods_s = [wave.period_s for _, wave in waveform.pieces if isinstance(wave, Square)]
    edges = len(waveform.pieces) + 1 + sum(2 * (span_s / period_s + 2) for period_s in periods_s)

    tolerance_j = edges * step_s * highest_w + 1e-6

    assert waveform.energy_j(begin_s, begin_s + span_s) == pytest.approx(summed_j, abs=tolerance_j)


@pytest.mark.parametrize(
    ("wave", "expected_j"),
    [(Const(300.0), 3000.0), (TRAINING, 5000.0), (Ramp(100.0, 500.0, 4.0), 4 * 300.0 + 6 * 500.0)],
)
def test_energy_of_ten_seconds(wave: Wave, expected_j: float) -> None:
    """Ten seconds of each kind of wave hold what one reckons by hand."""
    assert Waveform(0.0, ((5.0, wave),)).energy_j(0.0, 15.0) == pytest.approx(expected_j)


def test_pieces_out_of_order_are_refused() -> None:
    """A waveform whose pieces go back in time cannot be made."""
    with pytest.raises(ValueError, match="order"):
        Waveform().then(2.0, Const(1.0)).then(1.0, Const(2.0))


# -- NVML: the energy counter --------------------------------------------------------------------------------


def test_the_counter_is_the_exact_integral(driver: nvml.FakeDriver, program: Program) -> None:
    """Ten minutes at 500 W on average are 300 kJ, to the millijoule."""
    driver.wave(0, 0.0, TRAINING)
    driver.set_virtual(600.0)

    assert counter_mj(program) == 300_000_000


def test_the_counter_is_refreshed_now_and_then(driver: nvml.FakeDriver, program: Program) -> None:
    """Between two refreshes, every 0.1 s from the phase on, the counter stands."""
    driver.drive(0, Waveform(100.0))
    driver.change_gpu(0, counter_phase_s=0.05)
    shown_mj = []
    for at_s in (0.14, 0.151, 0.249, 0.251):
        driver.set_virtual(at_s)
        shown_mj.append(counter_mj(program))

    assert shown_mj == [5_000, 15_000, 15_000, 25_000]


def test_the_twin_of_the_counter_tells_the_same(driver: nvml.FakeDriver, program: Program) -> None:
    """FakeDriver.counter_mj is what NVML shows, to the bit, through restarts, stand-stills and leaps."""
    driver.change_gpu(0, base_mj=10**12, counter_gain=0.97, counter_phase_s=0.013, counter_period_s=0.02)
    driver.wave(0, 3.0, Square(0.37, 0.41, 611.3, 87.9))
    driver.wave(0, 31.0, Ramp(90.0, 690.0, 7.7))
    driver.wave(0, 55.5, Const(0.0))
    driver.freeze(0, 12.0, 14.0)
    driver.jump(0, 20.0, -1234.0)
    driver.restart(0, 40.0)
    driver.jump(0, 45.0, 5e6)
    driver.restart(1, 50.0)
    chance = random.Random(1)
    for at_s in [3.0, 12.0, 14.0, 20.0, 40.0, 45.0, 50.0, *(chance.uniform(0.0, 70.0) for _ in range(200))]:
        driver.set_virtual(at_s)
        expected_mj = [driver.counter_mj(0, at_s), driver.counter_mj(1, at_s)]

        assert [counter_mj(program, 0), counter_mj(program, 1)] == expected_mj, at_s


def test_restart_freeze_and_jump(driver: nvml.FakeDriver, program: Program) -> None:
    """The counter restarts at 0, stands still and then catches up, and leaps by what it was told."""
    driver.drive(0, Waveform(100.0))
    driver.freeze(0, 1.0, 2.0)
    driver.jump(0, 3.0, -50_000)
    driver.restart(0, 4.0)
    shown_mj = []
    for at_s in (1.5, 2.0, 3.0, 4.0, 5.0):
        driver.set_virtual(at_s)
        shown_mj.append(counter_mj(program))

    assert shown_mj == [100_000, 200_000, 250_000, 0, 100_000]


def test_the_counter_of_a_live_clock(driver: nvml.FakeDriver, library: Path) -> None:
    """On CLOCK_BOOTTIME a reading lies between what the counter showed just before and just after."""
    live = nvml.FakeDriver(driver.config_path, [nvml.FakeGpu(counter_period_s=0.0)])
    live.wave(0, live.now_s(), TRAINING)
    program = Program(live, library)
    program.ask("nvmlInit()")
    before_s = live.now_s()
    shown_mj = counter_mj(program)
    after_s = live.now_s()
    program.end()

    assert live.counter_mj(0, before_s) <= shown_mj <= live.counter_mj(0, after_s)


# -- NVML: power and field values ----------------------------------------------------------------------------


def test_power_is_a_mean_of_the_last_second(driver: nvml.FakeDriver, program: Program) -> None:
    """Half a second into 500 W after 100 W the average says 300 W, the instantaneous sensor 500 W."""
    driver.drive(0, Waveform(100.0).then(10.0, Const(500.0)))
    driver.set_virtual(10.55)
    shown_mw = program.ask(
        "[nvmlDeviceGetPowerUsage(gpu(0)), *(v.value.uiVal for v in nvmlDeviceGetFieldValues(gpu(0), [185, 186]))]"
    )

    assert shown_mw == [300_000, 300_000, 500_000]


@pytest.mark.parametrize("gpu", [nvml.FakeGpu(arch=7, usage="instant"), nvml.FakeGpu(arch=5)])
def test_old_gpus_have_no_average(driver: nvml.FakeDriver, program: Program, gpu: nvml.FakeGpu) -> None:
    """GA100 and what is older than Ampere show the draw of the moment, and refuse POWER_AVERAGE."""
    driver.change_gpu(0, arch=gpu.arch, usage=gpu.usage)
    driver.drive(0, Waveform(100.0).then(10.0, Const(500.0)))
    driver.set_virtual(10.15)
    average = program.ask("nvmlDeviceGetFieldValues(gpu(0), [185])[0].nvmlReturn")

    assert (program.ask("nvmlDeviceGetPowerUsage(gpu(0))"), average) == (500_000, NOT_SUPPORTED)


def test_each_field_value_has_its_own_return(driver: nvml.FakeDriver, program: Program) -> None:
    """An unknown field, an absent scope and a faulty field fail alone, within a call that succeeds."""
    driver.field_fault(190, GPU_IS_LOST, gpu_index=0)
    ask = "[v.nvmlReturn for v in nvmlDeviceGetFieldValues(gpu(%d), [83, 999, (185, 2), (191, 0), 190])]"

    assert program.ask(ask % 0) == [0, NOT_SUPPORTED, NOT_SUPPORTED, 0, GPU_IS_LOST]
    assert program.ask(ask % 1) == [0, NOT_SUPPORTED, NOT_SUPPORTED, 0, 0]


def test_scopes_are_parts_and_sums(driver: nvml.FakeDriver, program: Program) -> None:
    """The memory draws its share of the GPU, the module the GPU and its own; energy likewise."""
    driver.change_gpu(0, scopes=0b111, memory_share=0.25, module_extra_w=200.0)
    driver.drive(0, Waveform(400.0))
    driver.set_virtual(10.0)
    power = "[v.value.uiVal for v in nvmlDeviceGetFieldValues(gpu(0), [(185, 0), (185, 1), (185, 2)])]"
    energy = "[v.value.ullVal for v in nvmlDeviceGetFieldValues(gpu(0), [83, (191, 0), (191, 1), (191, 2)])]"

    assert program.ask(power) == [400_000, 600_000, 100_000]
    assert program.ask(energy) == [4_000_000, 4_000_000, 6_000_000, 1_000_000]


def test_field_values_are_stamped_with_wall_time(driver: nvml.FakeDriver, program: Program) -> None:
    """Time stamps are CLOCK_REALTIME microseconds, whatever clock the waves run on."""
    driver.set_virtual(5.0)
    before_us = time.time_ns() // 1000
    stamp_us = program.ask("nvmlDeviceGetFieldValues(gpu(0), [185])[0].timestamp")

    assert before_us - 1 <= stamp_us <= time.time_ns() // 1000 + 1


def test_limits(driver: nvml.FakeDriver, program: Program) -> None:
    """The enforced limit may be lowered; the default and the highest stay."""
    driver.change_gpu(0, limit_w=350.0, max_limit_w=700.0)
    limits = program.ask(
        "[nvmlDeviceGetEnforcedPowerLimit(gpu(0)), nvmlDeviceGetPowerManagementDefaultLimit(gpu(0)), "
        "*nvmlDeviceGetPowerManagementLimitConstraints(gpu(0))]"
    )

    assert limits == [350_000, 700_000, 200_000, 700_000]


def test_power_samples_come_once(driver: nvml.FakeDriver, program: Program) -> None:
    """The ring gives what is later than the last time stamp seen, and NOT_FOUND when nothing is."""
    driver.drive(0, Waveform(100.0))
    driver.set_virtual(60.0)
    first = program.ask(
        "[(s.timeStamp, s.sampleValue.uiVal) for s in nvmlDeviceGetSamples(gpu(0), NVML_TOTAL_POWER_SAMPLES, 0)[1]]"
    )
    again = f"len(nvmlDeviceGetSamples(gpu(0), NVML_TOTAL_POWER_SAMPLES, {first[-1][0]})[1])"
    nothing_new = program.ask(again)
    driver.set_virtual(60.35)

    assert (len(first), {mw for _, mw in first}) == (120, {100_000})
    assert (nothing_new, program.ask(again)) == ("NVMLError_NotFound", 3)


# -- NVML: faults --------------------------------------------------------------------------------------------


def test_a_fault_has_a_symbol_a_gpu_and_a_window(driver: nvml.FakeDriver, program: Program) -> None:
    """A fault is there from its begin until before its end, for that GPU and that function alone."""
    driver.fault("nvmlDeviceGetPowerUsage", GPU_IS_LOST, gpu_index=0, window_s=(10.0, 20.0))
    seen = []
    for at_s in (9.99, 10.0, 19.99, 20.0):
        driver.set_virtual(at_s)
        seen.append(program.ask("nvmlDeviceGetPowerUsage(gpu(0))"))

        assert program.ask("nvmlDeviceGetPowerUsage(gpu(1))") == 70_000
        assert isinstance(counter_mj(program), int)

    assert seen == [70_000, "NVMLError_GpuIsLost", "NVMLError_GpuIsLost", 70_000]


def test_everything_fails_and_heals(driver: nvml.FakeDriver, program: Program) -> None:
    """The symbol * is every function, until healed."""
    driver.fault("*", 999)
    broken = [program.ask("nvmlDeviceGetCount()"), program.ask("gpu(0)"), program.ask("nvmlInit()")]
    driver.heal()

    assert broken == ["NVMLError_Unknown"] * 3
    assert program.ask("nvmlDeviceGetCount()") == 2


def test_every_answer_has_words(program: Program) -> None:
    """There are words for known and for unknown codes."""
    assert program.ask("[nvmlErrorString(c) for c in (0, 3, 15, 999, -1)]") == [
        "Success",
        "Not Supported",
        "GPU is lost",
        "Unknown Error",
        "Unknown Error",
    ]


def test_latency_is_waited_out(driver: nvml.FakeDriver, program: Program) -> None:
    """A slow function takes its time before it answers."""
    driver.latency("nvmlDeviceGetPowerUsage", 0.05, gpu_index=0)

    assert program.ask("[t := time.monotonic(), nvmlDeviceGetPowerUsage(gpu(0)), time.monotonic() - t][2]") >= 0.05


def test_a_reload_voids_handles(driver: nvml.FakeDriver, program: Program) -> None:
    """After a driver reload old handles are lost for good; the rest works after shutdown and init, from 0 J."""
    driver.set_virtual(10.0)
    program.ask("names.update(old=gpu(0))")
    old = "nvmlDeviceGetTotalEnergyConsumption(old)"
    before_mj = program.ask(old)
    driver.reload(10.0)
    voided = [program.ask(old), program.ask("gpu(0)"), program.ask("nvmlDeviceGetCount()")]
    program.ask("nvmlShutdown()")
    program.ask("nvmlInit()")
    driver.set_virtual(11.0)

    assert before_mj == 700_000
    assert voided == ["NVMLError_GpuIsLost", "NVMLError_Uninitialized", "NVMLError_Uninitialized"]
    assert (program.ask(old), counter_mj(program)) == ("NVMLError_GpuIsLost", 70_000)


def test_init_is_counted(program: Program) -> None:
    """Only the last shutdown closes the library."""
    program.ask("nvmlInit()")
    program.ask("nvmlShutdown()")
    open_still = program.ask("nvmlDeviceGetCount()")
    program.ask("nvmlShutdown()")

    assert open_still == 2
    assert program.ask("nvmlDeviceGetCount()") == "NVMLError_Uninitialized"
    assert program.ask("nvmlShutdown()") == "NVMLError_Uninitialized"


def test_preload_serves_the_own_process(driver: nvml.FakeDriver, library: Path) -> None:
    """A process that preloads the stand-in needs no LD_LIBRARY_PATH, and follows os.environ."""
    lines = [
        "import os, pathlib, pynvml, tests.drivers.nvml as nvml",
        f"nvml.preload(pathlib.Path({str(library)!r}))",
        f"os.environ[nvml.CONFIG_VARIABLE] = {str(driver.config_path)!r}",
        "pynvml.nvmlInit()",
        "raise SystemExit(40 + pynvml.nvmlDeviceGetCount())",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=Path(__file__).parents[1], check=False)

    assert done.returncode == 42


def test_no_set_up_is_no_driver(driver: nvml.FakeDriver, library: Path) -> None:
    """Without the file there is a library, but no driver below it."""
    driver.config_path.unlink()
    program = Program(driver, library)
    answer = program.ask("nvmlInit()")
    program.end()

    assert answer == "NVMLError_DriverNotLoaded"


def test_a_forbidden_gpu_counts(driver: nvml.FakeDriver, program: Program) -> None:
    """A GPU that may not be opened keeps its index, and nobody gets a handle to it by any name."""
    driver.forbid(0)

    assert program.ask("nvmlDeviceGetCount()") == 2
    assert program.ask("gpu(0)") == "NVMLError_NoPermission"
    assert program.ask(f"nvmlDeviceGetHandleByUUID(b'{driver.uuid(0)}')") == "NVMLError_NoPermission"
    assert program.ask("nvmlDeviceGetName(gpu(1))") == "Second"


def test_every_change_is_seen(driver: nvml.FakeDriver, program: Program) -> None:
    """Files of one size, written within one tick of the file system's clock, are told apart."""
    driver.drive(0, Waveform(100.0))
    for at_s in range(10, 60):
        for skipped in (1, 2, 3)[: at_s % 4]:
            driver.set_virtual(float(at_s + skipped))
        driver.set_virtual(float(at_s))

        assert counter_mj(program) == at_s * 100_000


def test_a_line_not_understood_is_reported(driver: nvml.FakeDriver, library: Path) -> None:
    """An unknown line is one line on stderr, and the rest holds."""
    driver.config_path.write_text(
        driver.config_path.read_text() + "# a remark\nwarp 9\ngpu 0 speed 7\nwave 0 1 const\n"
    )
    program = Program(driver, library)
    program.ask("nvmlInit()")
    count = program.ask("nvmlDeviceGetCount()")
    complaints = program.end().splitlines()

    assert count == 2
    assert [complaint.split("'")[1] for complaint in complaints] == ["warp ...", "gpu ...", "wave ..."]


# -- NVML: identity, processes, slices -----------------------------------------------------------------------


def test_identity(driver: nvml.FakeDriver, program: Program) -> None:
    """A GPU is found by index, UUID and bus id, and tells them."""
    by_uuid = f"nvmlDeviceGetIndex(nvmlDeviceGetHandleByUUID(b'{driver.uuid(1)}'))"

    assert program.ask(by_uuid) == 1
    assert program.ask("nvmlDeviceGetHandleByUUID(b'GPU-none')") == "NVMLError_NotFound"
    assert program.ask("nvmlDeviceGetPciInfo(gpu(1)).busId") == "00000000:02:00.0"
    assert program.ask("nvmlDeviceGetIndex(nvmlDeviceGetHandleByPciBusId(b'00000000:02:00.0'))") == 1
    assert program.ask("[nvmlDeviceGetName(gpu(0)), nvmlDeviceGetArchitecture(gpu(0))]") == ["NVIDIA H100 80GB HBM3", 9]
    assert program.ask("[nvmlSystemGetDriverVersion(), nvmlSystemGetNVMLVersion()]") == ["575.57.08", "13.575.57"]


def test_telemetry(driver: nvml.FakeDriver, program: Program) -> None:
    """Utilisation, memory, temperature and clock event reasons are what they were set to, by old calls and new."""
    driver.change_gpu(0, utilization=93, memory_used_bytes=2**35, temperature_c=66, reasons=0x4)
    shown = program.ask(
        "[nvmlDeviceGetUtilizationRates(gpu(0)).gpu, nvmlDeviceGetMemoryInfo(gpu(0)).used, "
        "nvmlDeviceGetMemoryInfo(gpu(0), version=nvmlMemory_v2).used, nvmlDeviceGetTemperature(gpu(0), 0), "
        "nvmlDeviceGetTemperatureV(gpu(0), 0), nvmlDeviceGetCurrentClocksEventReasons(gpu(0)), "
        "nvmlDeviceGetCurrentClocksThrottleReasons(gpu(0))]"
    )

    assert shown == [93, 2**35, 2**35, 66, 66, 4, 4]


def test_process_list(driver: nvml.FakeDriver, program: Program) -> None:
    """The list holds who is there now, with memory unknown where the driver does not tell."""
    listed = "[(p.pid, p.usedGpuMemory) for p in nvmlDeviceGetComputeRunningProcesses(gpu(0))]"
    nobody = program.ask(listed)
    driver.process(0, 4242, 2**34)
    driver.process(0, 4243, 2**64 - 1, window_s=(5.0, math.inf))
    first = program.ask(listed)
    driver.set_virtual(5.0)

    assert (nobody, first, program.ask(listed)) == ([], [[4242, 2**34]], [[4242, 2**34], [4243, None]])
    assert program.ask("nvmlDeviceGetGraphicsRunningProcesses(gpu(0))") == []


def test_peers_find_their_symbols(program: Program) -> None:
    """CodeCarbon and Zeus can run on the stand-in: everything they call is there."""
    names = (
        "InitWithFlags Init_v2 Shutdown ErrorString DeviceGetCount_v2 DeviceGetHandleByIndex_v2 DeviceGetName "
        "DeviceGetUUID DeviceGetMemoryInfo DeviceGetTemperature DeviceGetTemperatureV DeviceGetPowerUsage "
        "DeviceGetTotalEnergyConsumption DeviceGetFieldValues DeviceGetEnforcedPowerLimit DeviceGetUtilizationRates "
        "DeviceGetComputeMode DeviceGetComputeRunningProcesses_v3 DeviceGetGraphicsRunningProcesses_v3 "
        "DeviceGetArchitecture DeviceGetC2cModeInfoV DeviceGetCudaComputeCapability DeviceGetPersistenceMode "
        "DeviceGetPowerManagementDefaultLimit DeviceGetPowerManagementLimit "
        "DeviceGetPowerManagementLimitConstraints DeviceGetSupportedGraphicsClocks DeviceGetSupportedMemoryClocks "
        "DeviceSetPersistenceMode DeviceSetPowerManagementLimit DeviceSetGpuLockedClocks "
        "DeviceSetMemoryLockedClocks DeviceResetGpuLockedClocks DeviceResetMemoryLockedClocks"
    )
    missing = f"[s for s in '{names}'.split() if not hasattr(ctypes.CDLL('libnvidia-ml.so.1'), 'nvml' + s)]"

    assert program.ask(missing) == []
    assert program.ask("nvmlDeviceSetPowerManagementLimit(gpu(0), 300000)") == "NVMLError_NoPermission"
    assert program.ask("nvmlDeviceGetSupportedGraphicsClocks(gpu(0), nvmlDeviceGetSupportedMemoryClocks(gpu(0))[0])")


@pytest.mark.parametrize(("process_abi_32", "size"), [(False, 24), (True, 32)])
def test_process_struct(
    driver: nvml.FakeDriver, library: Path, tmp_path: Path, *, process_abi_32: bool, size: int
) -> None:
    """The variant writes 32 bytes a process, and only it has the symbol that nvitop knows it by."""
    program = Program(driver, nvml.build(tmp_path / "variant", process_abi_32=True) if process_abi_32 else library)
    driver.process(0, 1111, 5)
    driver.process(0, 2222, 6)
    program.ask("nvmlInit()")
    # Two records of one size or the other, and room behind them: the second pid shows the distance.
    words = program.ask(
        "[n := ctypes.c_uint(2), room := (ctypes.c_uint * 20)(), ctypes.CDLL('libnvidia-ml.so.1')"
        ".nvmlDeviceGetComputeRunningProcesses_v3(gpu(0), ctypes.byref(n), room), list(room)][3]"
    )
    marks = program.ask(
        "[hasattr(ctypes.CDLL('libnvidia-ml.so.1'), s) "
        "for s in ('nvmlDeviceGetConfComputeMemSizeInfo', 'nvmlDeviceGetRunningProcessDetailList')]"
    )
    program.end()

    assert [at * 4 for at, word in enumerate(words) if word in (1111, 2222)] == [0, size]
    assert marks == [process_abi_32, False]


def test_process_utilization(driver: nvml.FakeDriver, program: Program) -> None:
    """Six samples a second for each busy process, 72 in all, none twice, none for the idle."""
    samples = "[(s.pid, s.smUtil, s.timeStamp) for s in nvmlDeviceGetProcessUtilization(gpu(0), %d)]"
    nobody = program.ask(samples % 0)
    driver.process(0, 1, 0, 60)
    driver.process(0, 2, 0, 30, window_s=(99.0, math.inf))
    driver.process(0, 3, 0)
    driver.set_virtual(100.0)
    ring = program.ask(samples % 0)
    again = program.ask(samples % ring[-1][2])
    driver.set_virtual(100.5)
    later = program.ask(samples % ring[-1][2])

    assert (nobody, again) == ("NVMLError_NotFound", "NVMLError_NotFound")
    assert (len(ring), sum(pid == 2 for pid, _, _ in ring), {pid for pid, _, _ in ring}) == (72, 7, {1, 2})
    assert [(pid, percent) for pid, percent, _ in later] == [(2, 30), (1, 60)] * 3


def test_mig_slices_have_no_power(driver: nvml.FakeDriver, program: Program) -> None:
    """A slice has ids, memory and processes of its own, but power and energy only as part of its GPU."""
    driver.mig(0, 0, (7, 0), "MIG-aaaa", 10 * 2**30)
    driver.mig(0, 1, (8, 0), "MIG-bbbb", 20 * 2**30)
    driver.process(0, 77, 1, 50, instances=(8, 0))
    second = "nvmlDeviceGetMigDeviceHandleByIndex(gpu(0), 1)"

    assert program.ask("nvmlDeviceGetMigMode(gpu(0))") == [1, 1]
    assert program.ask("nvmlDeviceGetMigDeviceHandleByIndex(gpu(0), 2)") == "NVMLError_NotFound"
    assert program.ask(f"[nvmlDeviceGetUUID({second}), nvmlDeviceGetGpuInstanceId({second})]") == ["MIG-bbbb", 8]
    assert program.ask(f"nvmlDeviceGetIndex(nvmlDeviceGetDeviceHandleFromMigDeviceHandle({second}))") == 0
    assert program.ask(f"nvmlDeviceGetMemoryInfo({second}).total") == 20 * 2**30
    assert program.ask(f"[p.pid for p in nvmlDeviceGetComputeRunningProcesses({second})]") == [77]
    assert program.ask("nvmlDeviceGetComputeRunningProcesses(nvmlDeviceGetHandleByUUID(b'MIG-aaaa'))") == []
    for call in ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetUtilizationRates"):
        assert program.ask(f"{call}({second})") == "NVMLError_NotSupported"
    assert program.ask("nvmlDeviceGetUtilizationRates(gpu(0))") == "NVMLError_NotSupported"
    assert isinstance(counter_mj(program), int)


# -- RAPL ----------------------------------------------------------------------------------------------------


def read_uj(tree: rapl.RaplTree, zone_id: str) -> int:
    """Return what anybody reads of a zone's counter."""
    return int(tree.energy_file(zone_id).read_text())


def test_tree_of_a_server(tmp_path: Path) -> None:
    """Zones stand flat in the class directory, as links into the devices, where children lie in parents."""
    tree = rapl.RaplTree(tmp_path)
    names = {link.name: (link / "name").read_text().strip() for link in tree.powercap.glob("*:*")}

    assert names == {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "package-1",
        "intel-rapl:1:0": "core",
        "intel-rapl:1:1": "dram",
        "intel-rapl:2": "psys",
    }
    assert (tree.powercap / "intel-rapl:0:1").readlink() == Path(
        "../../devices/virtual/powercap/intel-rapl/intel-rapl:0/intel-rapl:0:1"
    )
    assert (tree.powercap / "intel-rapl:0" / "intel-rapl:0:1" / "name").read_text() == "dram\n"
    assert (tree.powercap / "intel-rapl:0" / "subsystem").resolve() == tree.powercap.resolve()
    assert tree.energy_file("intel-rapl:0").stat().st_mode & 0o777 == 0o400


def test_a_zone_without_range_or_constraint(tmp_path: Path) -> None:
    """Files may be missing, as on real machines."""
    zone = rapl.Zone(id="intel-rapl:0", name="package-0", waveform=Waveform(5.0), has_range_file=False, mode=0o440)
    tree = rapl.RaplTree(tmp_path, [zone])
    files = {path.name for path in (tree.powercap / zone.id).iterdir()}

    assert files == {"name", "enabled", "energy_uj", "subsystem", "device"}
    assert tree.energy_file(zone.id).stat().st_mode & 0o777 == 0o440


@settings(deadline=None, max_examples=30)
@given(
    waveform=waveforms(),
    range_uj=st.integers(10**6, 10**11),
    moments=st.lists(st.floats(0.0, 30.0), min_size=2, max_size=10).map(sorted),
)
def test_wrapped_counters_fold_to_the_truth(
    tmp_path_factory: pytest.TempPathFactory, waveform: Waveform, range_uj: int, moments: list[float]
) -> None:
    """Differences modulo the range are the true energy modulo the range, whatever the modulus."""
    zone = rapl.Zone(id="intel-rapl:0", name="package-0", waveform=waveform, range_uj=range_uj, base_uj=range_uj - 7)
    tree = rapl.RaplTree(tmp_path_factory.mktemp("sys"), [zone])
    shown_uj = []
    for at_s in moments:
        tree.update(at_s)
        shown_uj.append(read_uj(tree, zone.id))
    moved_uj = shown_uj[-1] - shown_uj[0] - 1e6 * tree.true_energy_j(zone.id, moments[0], moments[-1])

    assert all(0 <= uj < range_uj for uj in shown_uj)
    assert abs(moved_uj - range_uj * round(moved_uj / range_uj)) <= 2


def test_a_counter_wraps_to_fewer_digits(tmp_path: Path) -> None:
    """After its range a counter goes on from 0, and the shorter number is whole."""
    waveform = Waveform(100.0)
    zone = rapl.Zone(id="intel-rapl:0", name="package-0", waveform=waveform, base_uj=rapl.RANGE_61_UJ - 150_000_000)
    tree = rapl.RaplTree(tmp_path, [zone])
    texts = []
    for at_s in (0.0, 1.0, 2.0):
        tree.update(at_s)
        texts.append(tree.energy_file(zone.id).read_text())

    assert texts == ["261993328850\n", "262093328850\n", "50000000\n"]


def test_doubles_show_the_same_counter(tmp_path: Path) -> None:
    """All dies of an AMD package, and the MMIO zone of an Intel one, show one counter again and again."""
    amd = rapl.RaplTree(tmp_path / "amd", rapl.amd_dies(2))
    package = rapl.package(0)
    intel = rapl.RaplTree(tmp_path / "intel", [*package, rapl.mmio_duplicate(package[0])])
    for tree in (amd, intel):
        tree.update(123.4)

    assert (amd.powercap / "intel-rapl:1" / "name").read_text() == "package-0-die-1\n"
    assert read_uj(amd, "intel-rapl:0") == read_uj(amd, "intel-rapl:1") == 18_510_000_000
    assert read_uj(intel, "intel-rapl-mmio:0") == read_uj(intel, "intel-rapl:0") == 18_510_000_000


def test_reset(tmp_path: Path) -> None:
    """A counter that was reset goes on from 0."""
    tree = rapl.RaplTree(tmp_path)
    tree.update(10.0)
    before_uj = read_uj(tree, "intel-rapl:0")
    tree.reset("intel-rapl:0", 10.0)
    at_reset_uj = read_uj(tree, "intel-rapl:0")
    tree.update(11.0)

    assert (before_uj, at_reset_uj, read_uj(tree, "intel-rapl:0")) == (1_500_000_000, 0, 150_000_000)


def test_a_zone_vanishes_and_comes_back(tmp_path: Path) -> None:
    """A zone goes with its children, the others go on, and it may return."""
    tree = rapl.RaplTree(tmp_path)
    tree.vanish("intel-rapl:1")
    tree.update(1.0)
    left = {link.name for link in tree.powercap.glob("*:*")}
    tree.heal("intel-rapl:1")

    assert left == {"intel-rapl:0", "intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl:2"}
    assert read_uj(tree, "intel-rapl:1:1") == 30_000_000


def test_a_zone_is_denied(tmp_path: Path) -> None:
    """A denied counter cannot be opened, not by root either, until it is healed."""
    tree = rapl.RaplTree(tmp_path)
    try:
        tree.deny("intel-rapl:0")
    except PermissionError as error:
        pytest.skip(str(error))
    tree.deny("intel-rapl:0")
    tree.update(1.0)
    with pytest.raises(PermissionError) as refused:
        tree.energy_file("intel-rapl:0").read_text()
    tree.heal("intel-rapl:0")

    assert refused.value.errno == errno.EACCES
    assert read_uj(tree, "intel-rapl:0") == 150_000_000


@pytest.mark.parametrize("text", ["", "\n", "12x4\n", "-5\n"])
def test_a_zone_is_garbled(tmp_path: Path, text: str) -> None:
    """A garbled counter stays so while the others go on, until it is healed."""
    tree = rapl.RaplTree(tmp_path)
    tree.garble("intel-rapl:0", text)
    tree.update(1.0)
    garbled = tree.energy_file("intel-rapl:0").read_text()
    tree.heal("intel-rapl:0")

    assert garbled == text
    assert (read_uj(tree, "intel-rapl:0"), read_uj(tree, "intel-rapl:1")) == (150_000_000, 150_000_000)


def test_a_reader_beside_the_writer_sees_whole_values(tmp_path: Path) -> None:
    """Every read is a value that was meant, though the counter wraps from nine digits to one again and again."""
    zone = rapl.Zone(id="intel-rapl:0", name="package-0", waveform=Waveform(100.0), range_uj=100_000_000)
    tree = rapl.RaplTree(tmp_path, [zone])
    moments_s = [0.37 * at for at in range(400)]
    meant = {f"{tree.counter_uj(zone.id, at_s)}\n" for at_s in moments_s}
    seen = set[str]()
    with ThreadPoolExecutor(1) as pool:
        # The pool has one thread, so that the last update is the last to be done.
        updates = [pool.submit(tree.update, at_s) for at_s in moments_s]
        while not updates[-1].done():
            seen.add(tree.energy_file(zone.id).read_text())

    assert len(seen) > 1
    assert seen <= meant


def test_a_running_tree_follows_the_clock(tmp_path: Path) -> None:
    """While it runs, a tree shows counters of CLOCK_BOOTTIME, one after the other, as long as it is entered."""
    zone = rapl.Zone(id="intel-rapl:0", name="package-0", waveform=Waveform(100.0), range_uj=10**15)
    tree = rapl.RaplTree(tmp_path, [zone])
    begin_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    with tree.running(rate_hz=2000.0):
        first_uj = read_uj(tree, zone.id)
        while (later_uj := read_uj(tree, zone.id)) == first_uj:
            pass
    end_s = time.clock_gettime(time.CLOCK_BOOTTIME)

    assert tree.counter_uj(zone.id, begin_s) <= first_uj < later_uj <= tree.counter_uj(zone.id, end_s)


def test_what_goes_wrong_while_running_is_raised(tmp_path: Path) -> None:
    """A tree that cannot be written any more does not fail in silence."""
    tree = rapl.RaplTree(tmp_path / "sys")
    with pytest.raises(FileNotFoundError), tree.running(rate_hz=2000.0):
        shutil.rmtree(tmp_path / "sys", ignore_errors=True)

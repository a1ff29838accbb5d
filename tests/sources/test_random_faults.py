"""A thousand random faults of the driver and of the RAPL tree, in virtual time: what holds whatever happens."""

import contextlib
import tempfile
from pathlib import Path

import pynvml
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.drivers import rapl
from tests.drivers.nvml import FakeDriver, FakeGpu
from tests.drivers.waveform import Const, Square
from tests.harness.rig import Rig

GPUS = 3
SYMBOLS = (
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "*",
)
CODES = (1, 3, 4, 6, 9, 10, 12, 13, 15, 16, 17, 18, 21, 27, 28, 999)
ZONES = ("intel-rapl:0", "intel-rapl:0:1", "intel-rapl:1", "intel-rapl:1:1")
MOST_W = 700.0


class Faults(RuleBasedStateMachine):
    """A node to which anything may happen between two spells of time."""

    @initialize()
    def begin(self) -> None:
        """Three GPUs and two sockets at work."""
        self.scratch = tempfile.TemporaryDirectory()
        root = Path(self.scratch.name)
        pytest.MonkeyPatch().setenv("TRAINWATT_FAKE_NVML", str(root / "nvml.conf"))
        self.driver = FakeDriver(root / "nvml.conf", [FakeGpu(base_mj=10**9)] * GPUS, virtual_s=1000.0)
        for gpu in range(GPUS):
            self.driver.wave(gpu, 0.0, Square(period_s=0.9 + gpu, duty=0.6, high_w=MOST_W, low_w=100.0))
        self.tree = rapl.RaplTree(root / "sys")
        self.rig = Rig(driver=self.driver, tree=self.tree)
        self.before: dict[tuple[object, ...], float] = {}
        self.phantom_j = 0.0
        self.rig.go(2.0)

    def teardown(self) -> None:
        """Leave the library as it was found."""
        with contextlib.suppress(pynvml.NVMLError):
            while True:
                pynvml.nvmlShutdown()
        if hasattr(self, "scratch"):
            self.scratch.cleanup()

    @rule(
        symbol=st.sampled_from(SYMBOLS),
        code=st.sampled_from(CODES),
        gpu=st.integers(0, GPUS),
        span_s=st.integers(1, 20),
    )
    def calls_fail(self, symbol: str, code: int, gpu: int, span_s: int) -> None:
        """A call fails for a while, on one GPU or on all."""
        window = (self.rig.at_s, self.rig.at_s + span_s)
        self.driver.fault(symbol, code, gpu_index=gpu if gpu < GPUS else None, window_s=window)

    @rule(gpu=st.integers(0, GPUS - 1))
    def counter_restarts(self, gpu: int) -> None:
        """The driver begins to count from 0."""
        self.driver.restart(gpu, self.rig.at_s + 0.2)

    @rule(gpu=st.integers(0, GPUS - 1), megajoules=st.sampled_from([-500.0, 50.0, 20_000.0]))
    def counter_leaps(self, gpu: int, megajoules: float) -> None:
        """The counter leaps by what cannot have been used."""
        self.driver.jump(gpu, self.rig.at_s + 0.3, megajoules * 1e9)

    @rule(gpu=st.integers(0, GPUS - 1), span_s=st.integers(1, 30))
    def counter_freezes(self, gpu: int, span_s: int) -> None:
        """The counter stands still for a while."""
        self.driver.freeze(gpu, self.rig.at_s, self.rig.at_s + span_s)

    @rule()
    def driver_reloads(self) -> None:
        """Every handle becomes invalid."""
        self.driver.reload(self.rig.at_s + 0.1)

    @rule(zone=st.sampled_from(ZONES), text=st.sampled_from(["", "x\n", "-1\n", "12 13\n"]))
    def file_is_garbled(self, zone: str, text: str) -> None:
        """A counter file holds rubbish."""
        self.tree.garble(zone, text)

    @rule(zone=st.sampled_from(ZONES))
    def file_is_well_again(self, zone: str) -> None:
        """And a number once more."""
        self.tree.heal(zone)

    @rule(zone=st.sampled_from(ZONES))
    def zone_restarts(self, zone: str) -> None:
        """A RAPL counter begins at 0."""
        self.tree.reset(zone, self.rig.at_s + 0.5)

    @rule(seconds=st.integers(1, 12))
    def time_passes(self, seconds: int) -> None:
        """Nothing happens for a while."""
        self.rig.go(float(seconds))

    @invariant()
    def conservation_and_monotony(self) -> None:
        """The parts make up each device, no counter falls, nothing is booked that cannot have been used."""
        if not hasattr(self, "rig"):
            return
        self.rig.go(1.0)
        after: dict[tuple[object, ...], float] = {}
        for entry in self.rig.loop.snapshot.devices.values():
            energy_j = sum(entry.energy_j.values())
            span_s = self.rig.at_s - 1000.0

            assert entry.attributed_j + entry.unattributed_j + entry.pending_j == pytest.approx(energy_j, abs=1e-6)
            assert energy_j <= MOST_W * 1.05 * (span_s + 1.0)
            assert entry.unmeasured_s <= span_s + 1.0
            after |= {(entry.device.id, method): joules for method, joules in entry.energy_j.items()}
            after[entry.device.id, "unmeasured"] = entry.unmeasured_s
        assert all(after[key] >= value for key, value in self.before.items())
        self.before = after


@pytest.mark.usefixtures("_inside")
def test_a_thousand_random_faults() -> None:
    """At least a thousand steps: no exception leaves the supervisor, conservation and monotony hold."""
    run_state_machine_as_test(
        Faults,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_the_joules_are_near_the_truth_after_many_faults(make_driver: object, tmp_path: Path) -> None:
    """After faults of every kind, what is metered and what is admitted to be unmeasured account for the truth."""
    make = make_driver
    assert callable(make)
    driver: FakeDriver = make([FakeGpu(base_mj=10**9)] * GPUS)
    for gpu in range(GPUS):
        driver.wave(gpu, 0.0, Const(400.0))
    rig = Rig(driver=driver, tree=rapl.RaplTree(tmp_path / "sys"))
    rig.go(30.0)
    for number, code in enumerate(CODES):
        symbol = SYMBOLS[number % len(SYMBOLS)]
        driver.fault(symbol, code, gpu_index=number % GPUS, window_s=(rig.at_s, rig.at_s + 8))
        rig.go(60.0)
    rig.go(60.0)
    for gpu in range(GPUS):
        entry = rig.device(driver.uuid(gpu))
        true_j = driver.true_energy_j(gpu, 1000.0, rig.read_at_s(driver.uuid(gpu)))

        assert rig.energy_j(driver.uuid(gpu)) <= true_j * 1.001 + 100.0
        assert rig.energy_j(driver.uuid(gpu)) >= true_j - 400.0 * entry.unmeasured_s - 0.01 * true_j
        assert entry.unmeasured_s < 0.5 * (rig.at_s - 1000.0)

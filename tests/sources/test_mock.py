"""The simulated node: deterministic, labelled, and true to itself."""

import pytest

from monitor.core.budget import of_run
from monitor.core.model import Component, Instant, Reading
from monitor.core.snapshot import Policy
from monitor.sources.mock import Mock
from monitor.sources.waveform import Waveform
from tests.harness.rig import Rig


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.at_s = 500.0

    def now(self) -> Instant:
        """The present."""
        return Instant(self.at_s, 1.79e9 + self.at_s)


def read(mock: Mock, clock: Clock, at_s: float) -> dict[str, Reading]:
    """Every device at a moment after the start."""
    clock.at_s = 500.0 + at_s
    return {reading.device.id: reading for reading in mock.read().readings}


def test_energy_is_the_integral_of_the_power_it_reports() -> None:
    """Power, read at the end of every second, adds up to the energy, to float rounding."""
    clock = Clock()
    mock = Mock("training", now=clock.now, interval_s=1.0)
    first = read(mock, clock, 0.0)
    integral_j = dict.fromkeys(first, 0.0)
    for second in range(1, 601):
        for device_id, reading in read(mock, clock, float(second)).items():
            assert reading.power_w is not None
            integral_j[device_id] += reading.power_w

    for device_id, reading in read(mock, clock, 600.0).items():
        assert reading.energy_j == pytest.approx(integral_j[device_id])


def test_a_waveform_integrates_itself() -> None:
    """The closed form agrees with a fine sum of its own power, over more than one cycle and from before 0."""
    wave = Waveform([(0.3, 500.0), (1.1, 80.0), (0.25, 640.0)])
    steps = 100_000
    begin_s, end_s = -2.0, 7.3
    width_s = (end_s - begin_s) / steps
    summed_j = sum(wave.power_w(begin_s + (i + 0.5) * width_s) for i in range(steps)) * width_s

    assert wave.energy_j(end_s) - wave.energy_j(begin_s) == pytest.approx(summed_j, rel=1e-4)


def test_throttled_seconds_are_those_of_high_load() -> None:
    """Exactly the time above 95 % load: a backward pass of 0.58 s in each step of 1.2 s, none in other phases."""
    clock = Clock()
    mock = Mock("training", now=clock.now, interval_s=1.0)

    def throttled_s(at_s: float, gpu: int) -> dict[str, float]:
        telemetry = read(mock, clock, at_s)[f"mock-gpu-{gpu}"].telemetry

        assert telemetry is not None
        return dict(telemetry.throttled_s)

    for at_s, expected_s in ((0.34, 0.0), (0.92, 0.58), (1.2, 0.58), (96.0, 46.4), (120.0, 46.4), (241.2, 93.38)):
        assert {"power": pytest.approx(expected_s), "thermal": 0.0} == throttled_s(at_s, 0)
        assert {"power": 0.0, "thermal": 0.0} == throttled_s(at_s, 4) == throttled_s(at_s, 7)


def test_one_run_exceeds_its_budget_within_minutes() -> None:
    """And the other does not, in days."""
    clock = Clock()
    rig = Rig(sources=[mock := Mock("training", now=clock.now, interval_s=1.0)])
    clock.at_s = rig.at_s
    rig.book += mock.runs(rig.now()).runs

    def follow(_snapshot: object) -> None:
        clock.at_s = rig.at_s + 0.9

    runs = rig.go(600.0, each_turn=follow).runs
    used = {
        run_id: sum(entry.energy_j.values()) / (of_run(entry.run, Policy()).energy_j or 0.0)
        for run_id, entry in runs.items()
    }

    assert used["mock-vision-finetune"] > 1.0
    assert used["mock-llm-pretrain"] * 144 < 1.0  # of a day


def test_the_same_seed_is_the_same_node() -> None:
    """Two simulations of one seed agree to the bit; another seed differs."""

    def joules(seed: int) -> list[float | None]:
        clock = Clock()
        mock = Mock("training", now=clock.now, interval_s=1.0, seed=seed)
        return [reading.energy_j for reading in read(mock, clock, 1234.5).values()]

    assert joules(3) == joules(3)
    assert joules(3) != joules(4)


def test_the_scenario_is_a_training_node() -> None:
    """Eight GPUs, two sockets with DRAM, two runs that hold seven of the GPUs; power moves with the phases."""
    clock = Clock()
    mock = Mock("training", now=clock.now, interval_s=1.0)
    seconds = [read(mock, clock, float(second)) for second in range(1, 241)]
    watts = [second["mock-gpu-0"].power_w or 0.0 for second in seconds]
    components = [reading.device.component for reading in seconds[0].values()]

    assert (8, 2, 2) == tuple(components.count(part) for part in (Component.GPU, Component.CPU, Component.DRAM))
    assert min(watts) < 200.0
    assert max(watts) > 450.0
    assert [("mock-llm-pretrain", 6), ("mock-vision-finetune", 5)] == [
        (run.id, len(run.holds)) for run in mock.runs(clock.now()).runs
    ]


def test_it_goes_through_the_same_pipeline() -> None:
    """The fold books every joule as simulated, to the runs that hold the devices and nobody else."""
    clock = Clock()
    rig = Rig(sources=[mock := Mock("training", now=clock.now, interval_s=1.0)])
    clock.at_s = rig.at_s
    rig.book += mock.runs(rig.now()).runs

    def follow(_snapshot: object) -> None:
        clock.at_s = rig.at_s + 0.9

    snapshot = rig.go(30.0, each_turn=follow)

    assert {"simulated"} == {method for entry in snapshot.devices.values() for method in entry.energy_j}
    assert snapshot.devices["mock-gpu-7"].attributed_j == 0.0
    assert snapshot.devices["mock-gpu-7"].unattributed_j > 0.0
    assert snapshot.devices["mock-gpu-0"].unattributed_j == 0.0

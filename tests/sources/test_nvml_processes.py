"""Who works on a GPU, and on which part of it, as the stand-in driver tells it."""

from dataclasses import replace

import pytest

from monitor.core.model import Device, DeviceProcess, Instant, Processes
from monitor.sources.nvml.source import Nvml
from tests.conftest import MakeDriver
from tests.drivers.nvml import FakeDriver, FakeGpu

LIST, UTILISATION = "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetProcessUtilization"
ATTRIBUTES = "nvmlDeviceGetAttributes_v2"
NOT_SUPPORTED, NO_PERMISSION, TIMEOUT, UNKNOWN = 3, 4, 10, 999
GIB = 2**30


class Reader:
    """The source in virtual time."""

    def __init__(self, driver: FakeDriver, *, sees_processes: bool = True) -> None:
        self.driver = driver
        self.at_s = driver.now_s()
        self.source = Nvml(now=self.now, interval_s=1.0, sees_processes=sees_processes)
        self.source.open()

    def now(self) -> Instant:
        """The virtual present; a call takes a microsecond."""
        self.at_s += 1e-6
        return Instant(self.at_s, 1.79e9 + self.at_s)

    def read(self, at_s: float, *, edge: bool = False) -> tuple[Processes, ...]:
        """What is said of processes at a moment."""
        self.at_s = at_s
        self.driver.set_virtual(at_s)
        readout = self.source.read_energy() if edge else self.source.read()
        self.devices = {reading.device.id: reading.device for reading in readout.readings}
        return readout.processes

    def seen(self, at_s: float, *, edge: bool = False) -> tuple[DeviceProcess, ...]:
        """The processes of the only GPU."""
        (processes,) = self.read(at_s, edge=edge)
        return processes.processes

    @property
    def device(self) -> Device:
        """The only GPU."""
        (device,) = self.devices.values()
        return device


def test_who_ended_since_the_last_look_is_told(make_driver: MakeDriver) -> None:
    """A process that came and went between two looks has its part of the time, and no memory any more."""
    driver = make_driver()
    driver.process(0, 11, 3 * GIB, 60)
    driver.process(0, 12, GIB, 90, window_s=(1001.0, 1003.0))
    reader = Reader(driver)
    first, second, third = (reader.seen(at_s) for at_s in (1000.0, 1005.0, 1010.0))
    stayed, ended = second

    assert [11] == [process.pid for process in first]
    assert (11, 3 * GIB, "") == (stayed.pid, stayed.memory_bytes, stayed.slice_id)
    assert (12, None, "") == (ended.pid, ended.memory_bytes, ended.slice_id)
    assert [0.6, 0.9 * 2 / 5] == pytest.approx([stayed.sm_utilization_ratio, ended.sm_utilization_ratio], abs=0.04)
    assert [11] == [process.pid for process in third]


def test_the_first_look_tells_of_the_seconds_before(make_driver: MakeDriver) -> None:
    """What the driver still has of a process that ended before the daemon came is not lost to the opening."""
    driver = make_driver()
    driver.process(0, 12, GIB, 90, window_s=(990.0, 998.0))

    assert [12] == [process.pid for process in Reader(driver).seen(1000.0)]


def test_the_edge_of_a_run_is_a_reason_to_look(make_driver: MakeDriver) -> None:
    """But not within a second of the last look; the energy of all GPUs comes with it."""
    driver = make_driver([FakeGpu()] * 2)
    driver.process(1, 11, GIB)
    reader = Reader(driver)
    looks = [len(reader.read(1000.0)), *(len(reader.read(at_s, edge=True)) for at_s in (1000.9, 1001.5, 1002.0))]

    assert [2, 0, 2, 0] == looks
    assert 2 == len(reader.devices)


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION])
def test_a_driver_that_lists_none_is_known_at_once(make_driver: MakeDriver, code: int) -> None:
    """The device says so, and no list is told: none is not the same as an empty one."""
    driver = make_driver()
    driver.fault(LIST, code)
    reader = Reader(driver)

    assert () == reader.read(1000.0)
    assert not reader.device.lists_processes


def test_a_driver_that_lists_no_more_changes_the_device(make_driver: MakeDriver) -> None:
    """From the turn after; until then it was true. A list that only fails for once changes nothing."""
    driver = make_driver()
    driver.fault(LIST, TIMEOUT, window_s=(1004.0, 1006.0))
    driver.fault(LIST, NO_PERMISSION, window_s=(1014.0, 1016.0))
    reader = Reader(driver)
    moments_s = (1000.0, 1005.0, 1010.0, 1015.0, 1016.0, 1020.0)
    lists = [(len(reader.read(at_s)), reader.device.lists_processes) for at_s in moments_s]

    assert [(1, True), (0, True), (1, True), (0, True), (0, False), (0, False)] == lists


def test_numbers_of_a_host_that_we_do_not_see_are_not_told(make_driver: MakeDriver) -> None:
    """In a PID namespace of our own they would be other processes."""
    driver = make_driver()
    driver.process(0, 11, GIB, 50)
    reader = Reader(driver, sees_processes=False)

    assert () == reader.read(1000.0)
    assert not reader.device.lists_processes


def test_a_module_that_is_the_part_lists_its_processes(make_driver: MakeDriver) -> None:
    """A superchip that is only read as a whole is treated like a GPU; what overlaps says nothing of processes."""
    driver = make_driver([FakeGpu(scopes=0b010), FakeGpu(scopes=0b101)])
    reader = Reader(driver)
    reader.read(1000.0)
    lists = {device.component: device.lists_processes for device in reader.devices.values()}

    assert {"module": True, "gpu": True, "dram": False} == lists


def divided(
    make_driver: MakeDriver, *slices: tuple[tuple[int, int], tuple[int, int]], largest_profile: int = 7
) -> FakeDriver:
    """A GPU of 80 GiB in slices, each with its instances, slices of GPU and compute instance, and 10 GiB."""
    driver = make_driver([FakeGpu(mig=1, largest_profile=largest_profile)])
    for number, (instances, sizes) in enumerate(slices):
        driver.mig(0, number, instances, f"MIG-{number}", 10 * GIB, sizes)
    return driver


@pytest.mark.parametrize("handles_are_void", [False, True])
def test_a_process_is_on_its_slice(make_driver: MakeDriver, handles_are_void: bool) -> None:  # noqa: FBT001
    """Each slice is asked; where they cannot be, the whole list names their instances."""
    driver = divided(make_driver, ((1, 0), (3, 3)), ((2, 0), (4, 4)))
    driver.process(0, 11, GIB, instances=(1, 0))
    driver.process(0, 12, 2 * GIB, instances=(2, 0))
    reader = Reader(driver)
    (gpu,) = reader.source._gpus  # noqa: SLF001
    if handles_are_void:  # as after a change that has not been noticed
        gpu.slices = tuple(replace(one, handle=None) for one in gpu.slices)
    seen = reader.seen(1000.0)

    assert [(11, GIB), (12, 2 * GIB)] == [(process.pid, process.memory_bytes) for process in seen]
    assert ["MIG-0", "MIG-1"] == [process.slice_id for process in seen]
    assert {None} == {process.sm_utilization_ratio for process in seen}


@pytest.mark.parametrize(
    ("slices", "largest_profile", "ratios"),
    [
        ([((1, 0), (3, 3)), ((2, 0), (4, 4))], 7, (3 / 7, 4 / 7)),
        ([((1, 0), (1, 1))], 7, (1 / 7,)),
        ([((1, 0), (1, 1)), ((2, 0), (2, 2))], 4, (1 / 4, 2 / 4)),
        ([((1, 0), (3, 1)), ((1, 1), (3, 2))], 7, (1 / 7, 2 / 7)),
        ([((1, 0), (3, 1))], 7, (3 / 7,)),
        ([((1, 0), (3, 3)), ((2, 0), (4, 4))], 0, (1 / 8, 1 / 8)),
        ([((1, 0), (0, 0))], 7, (1 / 8,)),
        ([], 7, ()),
    ],
    ids=[
        "3g and 4g",
        "1g alone",
        "of four",
        "two in one",
        "more than it computes on",
        "memory",
        "memory of one",
        "none",
    ],
)
def test_what_part_a_slice_is(
    make_driver: MakeDriver,
    slices: list[tuple[tuple[int, int], tuple[int, int]]],
    largest_profile: int,
    ratios: tuple[float, ...],
) -> None:
    """Its slices of those that the largest profile has; of a GPU instance that it shares its compute slices; memory."""
    reader = Reader(divided(make_driver, *slices, largest_profile=largest_profile))
    reader.read(1000.0)

    assert ratios == pytest.approx(reader.device.slice_ratios)
    assert len(slices) == len(reader.device.slices)


def test_parts_that_nobody_tells_are_absent(make_driver: MakeDriver) -> None:
    """Then the slices have no ratios, and are known all the same."""
    driver = divided(make_driver, ((1, 0), (3, 3)))
    driver.fault(ATTRIBUTES, NOT_SUPPORTED)
    reader = Reader(driver)
    reader.read(1000.0)

    assert (("MIG-0",), ()) == (reader.device.slices, reader.device.slice_ratios)


def test_a_gpu_that_is_divided_anew_is_noticed(make_driver: MakeDriver) -> None:
    """Within a minute its slices and their parts are the new ones."""
    driver = divided(make_driver, ((1, 0), (3, 3)))
    reader = Reader(driver)
    reader.read(1000.0)
    driver.mig(0, 1, (2, 0), "MIG-1", 10 * GIB, (4, 4))
    for at_s in range(1001, 1070):
        reader.read(float(at_s))

    assert ("MIG-0", "MIG-1") == reader.device.slices
    assert (3 / 7, 4 / 7) == pytest.approx(reader.device.slice_ratios)

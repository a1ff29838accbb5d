"""The power PMU: which events are opened where, that its counters begin at 0, and the ABI of the system call."""

import ctypes
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.core.ports import Now
from monitor.errors import SourceAbsent, SourceBroken, SourceDenied
from monitor.sources.perf import ATTRIBUTES, Perf, open_event, parse_cpus, read_count
from monitor.sources.rapl import Rapl
from tests.drivers import rapl
from tests.drivers.perf import Kernel, power_pmu
from tests.harness.rig import FileRig

PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK = 1, 0


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A kernel without events."""
    kernel = Kernel()
    yield kernel
    kernel.shut()


def rig_of(sysfs: Path, kernel: Kernel, vendor: str = "GenuineIntel") -> FileRig:
    """A node whose counters this kernel opens."""
    procfs = rapl.cpu_of(vendor, sysfs.parent / "proc")

    def make(now: Now) -> Perf:
        kernel.readers.append(Perf(sysfs, now=now, interval_s=1.0, procfs=procfs, open_event=kernel.open_event))
        return kernel.readers[-1]

    return FileRig(make, follow=[kernel.update])


def test_each_package_has_its_events(tmp_path: Path, kernel: Kernel) -> None:
    """One package and one DRAM counter a socket, opened on its CPU, in joules; energy-cores is not opened."""
    rig = rig_of(power_pmu(tmp_path / "sys"), kernel)
    rig.go(60.0)
    watts = {"package-0": 150.0, "package-0-dram": 30.0, "package-1": 186.0, "package-1-dram": 66.0}

    assert {(23, 2, 0), (23, 2, 36), (23, 3, 0), (23, 3, 36)} == {(e.pmu_type, e.config, e.cpu) for e in kernel.opened}
    assert set(watts) == set(rig.loop.snapshot.devices)
    for device_id, level_w in watts.items():
        assert rig.energy_j(device_id) == pytest.approx(60.0 * level_w)
        assert rig.device(device_id).device.is_part
        assert {"counter"} == set(rig.device(device_id).energy_j)


def test_devices_are_those_of_powercap(tmp_path: Path, kernel: Kernel) -> None:
    """A run that holds package-1 goes on holding it when the source changes: the ids and components are the same."""
    sysfs = power_pmu(tmp_path / "sys")
    rig = rig_of(sysfs, kernel)
    rig.go(1.0)
    tree = rapl.RaplTree(sysfs, [*rapl.package(0), *rapl.package(1)])
    powercap = Rapl(sysfs, now=rig.now, interval_s=1.0)
    tree.update(1000.0)
    powercap.open()
    of_powercap = {(r.device.id, r.device.component) for r in powercap.read().readings}

    assert of_powercap == {(entry.device.id, entry.device.component) for entry in rig.loop.snapshot.devices.values()}


def test_genuine_dies_are_named_and_counted(tmp_path: Path, kernel: Kernel) -> None:
    """One CPU a die on Intel: every die is a device, named as powercap names it."""
    rig = rig_of(power_pmu(tmp_path / "sys", [(0, 0, 0), (24, 0, 1), (48, 1, 0), (72, 1, 1)], dram=False), kernel)
    rig.go(2.0)

    assert {f"package-{p}-die-{d}" for p in range(2) for d in range(2)} == set(rig.loop.snapshot.devices)


def test_mirrored_dies_are_one_package(tmp_path: Path, kernel: Kernel) -> None:
    """One CPU a die on AMD, all with the package's counter: one of them is read."""
    sysfs = power_pmu(tmp_path / "sys", [(0, 0, 0), (8, 0, 1), (16, 1, 2), (24, 1, 3)], dram=False)
    rig = rig_of(sysfs, kernel, "AuthenticAMD")
    snapshot = rig.go(10.0)

    assert {"package-0", "package-1"} == set(snapshot.devices)
    assert snapshot.node_power_w == pytest.approx(150.0 + 166.0)


def test_an_unknown_topology_is_still_counted(tmp_path: Path, kernel: Kernel) -> None:
    """Where the kernel does not say which package a CPU is in, the device is named after the CPU."""
    rig = rig_of(power_pmu(tmp_path / "sys", [(0, -1, -1)], dram=False), kernel)
    rig.go(2.0)

    assert {"package-of-cpu-0"} == set(rig.loop.snapshot.devices)


def test_no_power_pmu_is_absent(tmp_path: Path, kernel: Kernel) -> None:
    """A machine without the PMU, or without its package event, has no such sensor."""
    with pytest.raises(SourceAbsent, match="no power PMU"):
        Perf(tmp_path, now=rig_of(tmp_path / "sys", kernel).now, interval_s=1.0).open()
    sysfs = power_pmu(tmp_path / "sys", dram=False)
    (sysfs / "bus/event_source/devices/power/events/energy-pkg").unlink()
    with pytest.raises(SourceAbsent, match="energy-pkg"):
        Perf(sysfs, now=rig_of(sysfs, kernel).now, interval_s=1.0).open()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_a_refusal_names_the_remedy(tmp_path: Path, kernel: Kernel, code: int) -> None:
    """What the kernel does not let us open is denied, with the capability and the setting that cure it."""
    sysfs = power_pmu(tmp_path / "sys")
    kernel.refuse = {0: code, 36: code}

    with pytest.raises(SourceDenied, match=r"CAP_PERFMON.*perf_event_paranoid"):
        Perf(sysfs, now=rig_of(sysfs, kernel).now, interval_s=1.0, open_event=kernel.open_event).open()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("type", "many\n"),
        ("cpumask", "\n"),
        ("events/energy-pkg", "event=two\n"),
        ("events/energy-pkg", "event=0x02,umask=0x1\n"),
        ("events/energy-pkg.scale", ""),
        ("events/energy-pkg.scale", "1e9\n"),
        ("events/energy-pkg.scale", "nan\n"),
        ("events/energy-pkg.unit", "Furlongs\n"),
    ],
)
def test_a_pmu_that_makes_no_sense_is_broken(tmp_path: Path, kernel: Kernel, file: str, text: str) -> None:
    """A scale, unit or code that is not understood is told, never guessed."""
    sysfs = power_pmu(tmp_path / "sys")
    (sysfs / "bus/event_source/devices/power" / file).write_text(text)

    with pytest.raises(SourceBroken):
        Perf(sysfs, now=rig_of(sysfs, kernel).now, interval_s=1.0, open_event=kernel.open_event).open()
    assert not kernel.opened


def test_a_package_that_goes_offline_stops_alone_and_comes_back(tmp_path: Path, kernel: Kernel) -> None:
    """An event that ends is unmeasured until it is opened anew; its count begins at 0 and nothing is invented."""
    rig = rig_of(power_pmu(tmp_path / "sys", dram=False), kernel)
    rig.go(10.0)
    kernel.offline(36)
    rig.go(20.0)

    assert rig.device("package-1").power_w is None
    assert rig.loop.snapshot.sources[0].up
    kernel.refuse.clear()
    rig.go(30.0)
    entry = rig.device("package-1")

    assert 20.0 <= entry.unmeasured_s <= 32.0
    assert rig.energy_j("package-1") == pytest.approx(186.0 * (60.0 - entry.unmeasured_s))
    assert rig.energy_j("package-0") == pytest.approx(60.0 * 150.0)
    assert (0, "") == (entry.resets, rig.loop.snapshot.sources[0].problem)


def test_a_counter_opened_anew_tells_nothing_of_the_time_between(tmp_path: Path, kernel: Kernel) -> None:
    """All events end at once: the source is opened again, and the outage is unmeasured even if the counts would fit."""
    rig = rig_of(power_pmu(tmp_path / "sys", [(0, 0, 0)], dram=False), kernel)
    rig.go(1.0)
    kernel.offline(0)
    rig.go(5.0)
    kernel.refuse.clear()
    rig.go(54.0)
    entry = rig.device("package-0")

    assert entry.unmeasured_s >= 5.0
    assert rig.energy_j("package-0") == pytest.approx(150.0 * (60.0 - entry.unmeasured_s))


def test_a_moment_shut_loses_nothing(tmp_path: Path, kernel: Kernel) -> None:
    """Shut and opened within a moment, as when a better source was tried in vain, a counter goes on where it stood."""
    sysfs = power_pmu(tmp_path / "sys", [(0, 0, 0)], dram=False)
    rig = rig_of(sysfs, kernel)
    source = Perf(sysfs, now=rig.now, interval_s=1.0, open_event=kernel.open_event)
    source.open()
    rig.go(10.0)
    source.close()
    source.open()
    readout = source.read()

    assert not readout.failures
    assert readout.readings[0].energy_j == pytest.approx(150.0 * (rig.at_s - 1000.0))
    source.close()
    rig.go(1.0)
    source.open()
    readout = source.read()

    assert [("package-0", "restarted", True)] == [(f.device_id, f.reason, f.baseline_lost) for f in readout.failures]
    assert readout.failures[0].at.mono_s < readout.readings[0].at.mono_s
    assert readout.readings[0].energy_j == pytest.approx(0.0)
    source.close()


def test_every_descriptor_is_given_back(tmp_path: Path, kernel: Kernel) -> None:
    """Opened and closed a hundred times, also when one package refuses, the process holds no more than before."""
    sysfs = power_pmu(tmp_path / "sys")
    source = Perf(sysfs, now=rig_of(sysfs, kernel).now, interval_s=1.0, open_event=kernel.open_event)
    kernel.refuse = {36: errno.ENODEV}
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        source.open()
        source.close()

    # The pipes of the stand-in have two more ends each.
    assert before + 2 * len(kernel.opened) == len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(("text", "cpus"), [("0\n", [0]), ("0,36\n", [0, 36]), ("0-2,8\n", [0, 1, 2, 8])])
def test_cpu_lists(text: str, cpus: list[int]) -> None:
    """Single numbers and ranges."""
    assert cpus == parse_cpus(text)


def test_the_system_call_counts() -> None:
    """A real event through the real opener: the CPU clock, in nanoseconds, grows as time does."""
    try:
        descriptor = open_event(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, 0)
    except PermissionError as error:
        pytest.skip(f"this kernel opens no CPU-wide event for us: {error}")
    try:
        first, began_s = read_count(descriptor), time.monotonic()
        while time.monotonic() < began_s + 0.01:
            pass
        second, took_s = read_count(descriptor), time.monotonic() - began_s
    finally:
        os.close(descriptor)

    assert 0.005e9 < second - first < 1.5e9 * took_s + 5e6


def test_the_system_call_gives_its_errors() -> None:
    """A PMU that does not exist is an error with its name, not a descriptor."""
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        open_event(2**30, 0, 0)


def test_the_attributes_are_those_of_the_kernel() -> None:
    """The first published size of perf_event_attr, which every kernel since takes: 64 bytes."""

    class Attributes(ctypes.Structure):
        """As in include/uapi/linux/perf_event.h, up to PERF_ATTR_SIZE_VER0."""

        _fields_ = (
            ("type", ctypes.c_uint32),
            ("size", ctypes.c_uint32),
            ("config", ctypes.c_uint64),
            ("sample_period", ctypes.c_uint64),
            ("sample_type", ctypes.c_uint64),
            ("read_format", ctypes.c_uint64),
            ("flags", ctypes.c_uint64),
            ("wakeup_events", ctypes.c_uint32),
            ("bp_type", ctypes.c_uint32),
            ("config1", ctypes.c_uint64),
        )

    packed = Attributes.from_buffer_copy(ATTRIBUTES.pack(23, ATTRIBUTES.size, 2, 0, 0, 0, 0, 0, 0, 0))

    assert 64 == ctypes.sizeof(Attributes) == ATTRIBUTES.size
    assert (23, 64, 2) == (packed.type, packed.size, packed.config)

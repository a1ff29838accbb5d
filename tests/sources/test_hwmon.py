"""Sensors of /sys/class/hwmon: only those of known scope are used, each at its place among the others."""

from dataclasses import replace
from pathlib import Path

import pytest

from monitor.core.model import Component, PowerSignal
from monitor.core.ports import Now
from monitor.errors import SourceAbsent, SourceBroken
from monitor.sources.hwmon import Hwmon, read_micro
from tests.drivers.hwmon import Chip, HwmonTree, grace_hopper, power_meter, steady
from tests.drivers.waveform import Square, Waveform
from tests.harness.rig import FileRig


def rig_of(tree: HwmonTree) -> FileRig:
    """A node with these chips."""

    def make(now: Now) -> Hwmon:
        return Hwmon(tree.root, now=now, interval_s=1.0)

    return FileRig(make, follow=[tree.update])


def source_of(tree: HwmonTree) -> Hwmon:
    """The source, to be asked directly."""
    return Hwmon(tree.root, now=rig_of(tree).now, interval_s=1.0)


def amd_energy(sockets: int = 2) -> Chip:
    """The amd_energy chip: a counter for each core, and one for each socket."""
    labels = {f"energy{core + 1}_label": f"Ecore{core:03d}" for core in range(4)}
    values = {f"energy{core + 1}_input": steady(10.0) for core in range(4)}
    for socket in range(sockets):
        labels[f"energy{socket + 5}_label"] = f"Esocket{socket}"
        values[f"energy{socket + 5}_input"] = steady(180.0 + socket)
    return Chip(number=7, name="amd_energy", place="amd_energy.0", values=values, texts=labels)


FOREIGN = [
    Chip(number=10, name="amdgpu", place="0000:03:00.0", values={"power1_average": steady(300.0)}),
    Chip(number=11, name="nvme", place="nvme0", values={"power1_input": steady(5.0)}),
    Chip(number=12, name="riddle", place="i2c-1", values={"energy1_input": steady(50.0)}),
]


def test_the_grace_side_is_the_part(tmp_path: Path) -> None:
    """Of the four meters of a superchip, Grace is the CPU; CPU and SysIO lie within it, the module around it."""
    rig = rig_of(HwmonTree(tmp_path, grace_hopper(2)))
    snapshot = rig.go(60.0)
    within = {device_id: entry.device.within for device_id, entry in snapshot.devices.items()}

    assert {
        f"{name}{suffix}": place.format(socket)
        for socket in range(2)
        for name, suffix, place in (
            (f"package-{socket}", "", ""),
            (f"package-{socket}", "-cpu", "package-{}"),
            (f"package-{socket}", "-sysio", "package-{}"),
            (f"module-{socket}", "", "node"),
        )
    } == within
    assert snapshot.node_power_w == pytest.approx(300.0 + 301.0)
    assert rig.energy_j("package-0") == pytest.approx(60.0 * 300.0)
    assert rig.energy_j("module-1") == pytest.approx(60.0 * 701.0)
    assert {"integrated"} == set(rig.device("package-0").energy_j)
    assert Component.MODULE is rig.device("module-0").device.component


def test_without_a_grace_meter_the_cpu_rail_is_the_part(tmp_path: Path) -> None:
    """Firmware that shows rails only: the CPU rail is a part, SysIO overlaps."""
    rig = rig_of(HwmonTree(tmp_path, grace_hopper()[2:]))

    assert rig.go(5.0).node_power_w == pytest.approx(200.0)
    assert rig.device("package-0-sysio").device.within == "node"


def test_a_meter_that_comes_late_is_no_second_part(tmp_path: Path) -> None:
    """Where the CPU rail has been the part so far, the Grace meter that appears later overlaps it."""
    tree = HwmonTree(tmp_path, grace_hopper())
    tree.vanish(1)
    rig = rig_of(tree)
    rig.go(5.0)
    tree.heal(1)
    rig.go(120.0)

    assert rig.energy_j("package-0") > 0.0
    assert rig.loop.snapshot.node_power_w == pytest.approx(200.0)


@pytest.mark.parametrize("in_device", [True, False])
def test_an_acpi_power_meter_is_the_node(tmp_path: Path, in_device: bool) -> None:  # noqa: FBT001
    """A power meter that is none of Grace's measures the node: shown as an overlap, under the name of its device."""
    rig = rig_of(HwmonTree(tmp_path, [power_meter(3, "Intel(R) Node Manager", 850.0, in_device=in_device)]))
    snapshot = rig.go(10.0)
    entry = rig.device("power-meter-ACPI000D:03")

    assert (Component.PLATFORM, "node") == (entry.device.component, entry.device.within)
    assert rig.energy_j("power-meter-ACPI000D:03") == pytest.approx(8500.0)
    assert snapshot.node_power_w is None


def test_a_battery_is_no_power_supply(tmp_path: Path) -> None:
    """A power meter of a battery is not used."""
    chip = power_meter(0, "", 20.0)
    tree = HwmonTree(tmp_path, [replace(chip, texts={**chip.texts, "power1_is_battery": "1"})])

    with pytest.raises(SourceAbsent):
        source_of(tree).open()


def test_amd_sockets_are_cpus_and_their_cores_are_not(tmp_path: Path) -> None:
    """amd_energy counts joules: sockets are parts under the names of powercap, cores lie within them."""
    tree = HwmonTree(tmp_path, [amd_energy()])
    rig = rig_of(tree)
    snapshot = rig.go(60.0)

    assert {"package-0", "package-1"} == set(snapshot.devices)
    assert rig.energy_j("package-1") == pytest.approx(60.0 * 181.0)
    assert {"counter"} == set(rig.device("package-0").energy_j)
    assert {"lies within its socket"} == {unused.why for unused in source_of(tree).seen_not_used()}


def test_what_nobody_knows_is_seen_and_not_used(tmp_path: Path) -> None:
    """GPUs, disks and riddles are never added to anything; they are listed with a reason."""
    tree = HwmonTree(tmp_path, [power_meter(0, "Grace Power Socket 0", 300.0), *FOREIGN])
    rig = rig_of(tree)
    source = source_of(tree)
    source.open()

    assert {"package-0"} == set(rig.go(5.0).devices)
    assert {("amdgpu", "power1_average"), ("nvme", "power1_input"), ("riddle", "energy1_input")} == {
        (unused.chip, unused.path.name) for unused in source.seen_not_used()
    }
    assert all(unused.why for unused in source.seen_not_used())


def test_nothing_known_is_absent(tmp_path: Path) -> None:
    """Without a sensor of known scope there is none, and the message says what was seen."""
    with pytest.raises(SourceAbsent, match="seen, not used: amdgpu, nvme, riddle"):
        source_of(HwmonTree(tmp_path / "a", FOREIGN)).open()
    with pytest.raises(SourceAbsent, match="no power sensor"):
        Hwmon(tmp_path / "none", now=rig_of(HwmonTree(tmp_path / "b", [])).now, interval_s=1.0).open()


@pytest.mark.parametrize(
    ("window_s", "interval_s", "period_s", "signal"),
    [
        (1.0, 1.0, 1.0, PowerSignal.AVERAGE),
        (1.0, 10.0, 1.0, PowerSignal.AVERAGE),
        (30.0, 10.0, 1.0, PowerSignal.AVERAGE),
        (1.0, 0.5, 0.5, PowerSignal.AVERAGE),
        (0.5, 1.0, 0.5, PowerSignal.AVERAGE),
        (0.05, 1.0, 0.1, PowerSignal.INSTANT),
    ],
)
def test_an_average_is_read_as_often_as_its_window(
    tmp_path: Path, window_s: float, interval_s: float, period_s: float, signal: PowerSignal
) -> None:
    """Once a second, or as often as a shorter window passes; a mean that covers less than that is a momentary draw."""
    tree = HwmonTree(tmp_path, [power_meter(0, "Grace Power Socket 0", 300.0, window_s=window_s)])
    source = Hwmon(tree.root, now=rig_of(tree).now, interval_s=interval_s)
    source.open()
    reading = source.read().readings[0]

    assert (period_s, signal) == (source.period_s, reading.power_signal)
    assert reading.energy_j is None


@pytest.mark.parametrize("window_s", [1.0, 0.1])
def test_training_steps_are_integrated_truly(tmp_path: Path, window_s: float) -> None:
    """Steps faster than a second: the meter's mean covers each interval, so no load is missed between readings."""
    load = Waveform(120.0, ((0.0, Square(period_s=0.73, duty=0.6, high_w=400.0, low_w=120.0)),))
    chip = power_meter(0, "Grace Power Socket 0", 0.0, window_s=window_s)
    rig = rig_of(HwmonTree(tmp_path, [replace(chip, values={"power1_average": load})]))
    rig.go(60.0)

    assert load.energy_j(1000.0, rig.read_at_s("package-0")) == pytest.approx(rig.energy_j("package-0"), rel=0.002)


def test_counters_alone_keep_the_interval(tmp_path: Path) -> None:
    """A counter's total does not depend on the rate: it is read as seldom as was asked."""
    tree = HwmonTree(tmp_path, [amd_energy()])
    source = Hwmon(tree.root, now=rig_of(tree).now, interval_s=15.0)
    source.open()

    assert 15.0 == source.period_s


@pytest.mark.parametrize("text", ["", "300000000", "-5\n", "rubbish\n"])
def test_a_failed_read_is_unmeasured(tmp_path: Path, text: str) -> None:
    """An empty, torn or absurd value is a failure; without a counter its time stays unmeasured."""
    tree = HwmonTree(tmp_path, [*grace_hopper(2)])
    rig = rig_of(tree)
    rig.go(10.0)
    tree.garble(1, text)
    rig.go(20.0)

    assert ("read", 20) in rig.loop.snapshot.sources[0].failures
    assert rig.device("package-0").power_w is None
    assert rig.energy_j("package-1") == pytest.approx(30.0 * 301.0)
    tree.heal(1)
    rig.go(10.0)
    entry = rig.device("package-0")

    assert 19.0 <= entry.unmeasured_s <= 22.0
    assert rig.energy_j("package-0") == pytest.approx(300.0 * (40.0 - entry.unmeasured_s))


def test_a_meter_that_vanishes_comes_back(tmp_path: Path) -> None:
    """A meter that goes away says so, and is found again within 10 s of its return."""
    tree = HwmonTree(tmp_path, grace_hopper(2))
    rig = rig_of(tree)
    rig.go(10.0)
    tree.vanish(5)
    rig.go(30.0)

    assert "has vanished" in rig.loop.snapshot.sources[0].problem
    assert rig.loop.snapshot.node_power_w == pytest.approx(300.0)
    tree.heal(5)
    rig.go(20.0)
    entry = rig.device("package-1")

    assert not rig.loop.snapshot.sources[0].problem
    assert rig.device("package-1-cpu").device.within == "package-1"
    assert 30.0 <= entry.unmeasured_s <= 42.0
    assert rig.energy_j("package-1") == pytest.approx(301.0 * (60.0 - entry.unmeasured_s))


def test_a_lone_meter_that_vanishes_takes_the_source_down(tmp_path: Path) -> None:
    """The only meter goes: its baseline is dropped first, then the source is down until it is back."""
    tree = HwmonTree(tmp_path, [amd_energy(1)])
    rig = rig_of(tree)
    rig.go(10.0)
    tree.vanish(7)
    rig.go(10.0)

    assert not rig.loop.snapshot.sources[0].up
    tree.heal(7)
    rig.go(120.0)
    entry = rig.device("package-0")

    assert rig.loop.snapshot.sources[0].up
    assert rig.energy_j("package-0") == pytest.approx(180.0 * (140.0 - entry.unmeasured_s))
    assert entry.unmeasured_s >= 10.0


def test_nothing_but_rubbish_is_broken(tmp_path: Path) -> None:
    """Meters of which none gives a number do not count as found."""
    tree = HwmonTree(tmp_path, grace_hopper()[:1])
    tree.garble(0, "")

    with pytest.raises(SourceBroken, match="not a value"):
        source_of(tree).open()
    with pytest.raises(ValueError, match="power1_average"):
        read_micro(tree.file(0, "power1_average"))

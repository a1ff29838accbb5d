"""The powercap tree: which zones are parts of a sum, wraps, and what may go wrong with a file."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from monitor.core.model import Component
from monitor.core.ports import Now
from monitor.errors import SourceAbsent, SourceDenied
from monitor.sources.rapl import Rapl, cpu_vendor, parse_energy_uj
from tests.drivers import rapl
from tests.drivers.waveform import Const, Square, Waveform
from tests.harness.rig import FileRig, Rig, tree_root


def rig_of(tree: rapl.RaplTree, vendor: str = "GenuineIntel") -> FileRig:
    """A node whose CPU is of this vendor."""
    procfs = rapl.cpu_of(vendor, tree.root.parent / "proc")

    def make(now: Now) -> Rapl:
        return Rapl(tree.root, now=now, interval_s=1.0, procfs=procfs)

    return FileRig(make, follow=[tree.update])


def parts(rig: Rig) -> list[str]:
    """Ids of the devices that are summed."""
    return [device_id for device_id, entry in rig.loop.snapshot.devices.items() if entry.device.is_part]


def test_only_packages_and_dram_are_parts(tmp_path: Path) -> None:
    """Two sockets with equal child names give two packages and two DRAMs; core and psys are never added."""
    rig = Rig(tree=rapl.RaplTree(tree_root(tmp_path)))
    snapshot = rig.go(60.0)

    assert ["package-0", "package-0-dram", "package-1", "package-1-dram"] == parts(rig)
    assert snapshot.node_power_w == pytest.approx(2 * (150.0 + 30.0))
    assert sum(snapshot.node_energy_j.values()) == pytest.approx(60.0 * 360.0)


def test_a_dram_child_adds_to_its_package(tmp_path: Path) -> None:
    """Packages of 500 J each with their DRAM are all counted: the sum is that of every part."""
    zones = [*rapl.package(0, level_w=50.0), *rapl.package(1, level_w=50.0)]
    rig = rig_of(rapl.RaplTree(tree_root(tmp_path), zones))
    energy_j = rig.go(10.0).node_energy_j

    assert 1000.0 == pytest.approx(sum(j for (part, _), j in energy_j.items() if part is Component.CPU))
    assert 200.0 == pytest.approx(sum(j for (part, _), j in energy_j.items() if part is Component.DRAM))


def test_psys_overlaps_the_node(tmp_path: Path) -> None:
    """The platform is measured and shown as lying around the parts; nothing adds it to them."""
    second = rapl.Zone(id="intel-rapl:3", name="psys-1", waveform=Waveform(300.0))
    rig = rig_of(rapl.RaplTree(tree_root(tmp_path), [*rapl.server(), second]))
    rig.go(20.0)

    for device_id, level_w in (("psys", 500.0), ("psys-1", 300.0)):
        device = rig.device(device_id).device

        assert (Component.PLATFORM, "node", False) == (device.component, device.within, device.is_part)
        assert rig.energy_j(device_id) == pytest.approx(20.0 * level_w)
    assert rig.loop.snapshot.node_power_w == pytest.approx(360.0)


def test_the_mmio_duplicate_is_shown_nowhere(tmp_path: Path) -> None:
    """A second door to the same counter is not a second package."""
    zones = rapl.package(0)
    rig = rig_of(rapl.RaplTree(tree_root(tmp_path), [*zones, rapl.mmio_duplicate(zones[0])]))

    assert rig.go(10.0).node_power_w == pytest.approx(180.0)
    assert ["package-0", "package-0-dram"] == sorted(rig.loop.snapshot.devices)


@pytest.mark.parametrize("vendor", ["AuthenticAMD", "HygonGenuine"])
def test_mirrored_dies_are_one_package(tmp_path: Path, vendor: str) -> None:
    """Kernels 6.9 to 6.11 show AMD's one package counter once a die: it is counted once, and nothing is missed."""
    rig = rig_of(rapl.RaplTree(tree_root(tmp_path), rapl.amd_dies(4)), vendor)

    assert rig.go(10.0).node_power_w == pytest.approx(150.0)
    assert ["package-0"] == sorted(rig.loop.snapshot.devices)
    assert not rig.loop.snapshot.sources[0].failures


def test_genuine_dies_are_all_counted(tmp_path: Path) -> None:
    """Each die of Cascade Lake-AP has counters of its own: all of them are parts."""
    rig = rig_of(rapl.RaplTree(tree_root(tmp_path), rapl.intel_dies()))

    assert rig.go(10.0).node_power_w == pytest.approx(1.2 * (100.0 + 150.0))
    assert ["package-0-die-0", "package-0-die-0-dram", "package-0-die-1", "package-0-die-1-dram"] == parts(rig)


def test_dies_of_one_power_are_not_taken_for_mirrors(tmp_path: Path) -> None:
    """Two genuine dies that happen to count the same are still two."""
    zones = [zone for die in range(2) for zone in rapl.package(die, name=f"package-1-die-{die}", with_dram=False)]
    rig = rig_of(rapl.RaplTree(tree_root(tmp_path), zones))

    assert rig.go(10.0).node_power_w == pytest.approx(300.0)


def test_sixteen_sockets_keep_their_names(tmp_path: Path) -> None:
    """package-15 is a package like any other, and zones stand in the order of their numbers."""
    zones = [zone for number in range(16) for zone in rapl.package(number, level_w=50.0, with_dram=False)]
    rig = rig_of(rapl.RaplTree(tree_root(tmp_path), zones))

    assert rig.go(2.0).node_power_w == pytest.approx(16 * 50.0)
    assert {f"package-{number}" for number in range(16)} == set(rig.loop.snapshot.devices)


def test_zones_of_one_name_are_two_devices(tmp_path: Path) -> None:
    """Two zones called package-0 are told apart by their place, and keep their ids while one of them is away."""
    tree = rapl.RaplTree(tree_root(tmp_path), [*rapl.package(0), *rapl.package(1, level_w=90.0, name="package-0")])
    rig = rig_of(tree)
    rig.go(10.0)
    ids = ["package-0", "package-0-dram", "package-0@intel-rapl:1", "package-0@intel-rapl:1-dram"]

    assert ids == parts(rig)
    assert rig.loop.snapshot.node_power_w == pytest.approx(1.2 * (150.0 + 90.0))
    tree.vanish("intel-rapl:0")
    rig.go(30.0)

    assert rig.device("package-0").power_w is None
    assert rig.energy_j("package-0@intel-rapl:1") == pytest.approx(40.0 * 90.0)


def test_amd_without_dram_is_well(tmp_path: Path) -> None:
    """No DRAM zone is no failure, and the core zone of AMD, which counts one core, is not used."""
    rig = rig_of(rapl.RaplTree(tree_root(tmp_path), rapl.package(0, with_dram=False)), "AuthenticAMD")
    snapshot = rig.go(30.0)

    assert ["package-0"] == sorted(snapshot.devices)
    assert snapshot.sources[0].up
    assert ((), "") == (snapshot.sources[0].failures, snapshot.sources[0].problem)


@pytest.mark.parametrize("range_uj", [rapl.RANGE_61_UJ, rapl.RANGE_15_UJ, rapl.RANGE_DRAM_UJ, 2_000_000_000])
def test_a_wrap_is_neither_lost_nor_phantom(tmp_path: Path, range_uj: int) -> None:
    """Whatever the counter's range and wherever it starts, the joules are those that were used."""
    zones = [replace(zone, range_uj=range_uj, base_uj=range_uj - 5_000_000) for zone in rapl.package(0)]
    tree = rapl.RaplTree(tree_root(tmp_path), zones)
    rig = rig_of(tree)
    rig.go(60.0)

    for device, zone in (("package-0", "intel-rapl:0"), ("package-0-dram", "intel-rapl:0:1")):
        assert tree.true_energy_j(zone, 1000.0, 1060.0) == pytest.approx(rig.energy_j(device), abs=0.001)
        assert rig.device(device).resets == 0


def test_a_reset_is_not_a_wrap(tmp_path: Path) -> None:
    """A counter that restarts far from its end loses one interval, instead of gaining 262 kJ."""
    tree = rapl.RaplTree(tree_root(tmp_path))
    rig = rig_of(tree)
    rig.go(30.0)
    tree.reset("intel-rapl:0", 1030.5)
    rig.go(30.0)
    entry = rig.device("package-0")

    assert entry.resets == 1
    assert entry.unmeasured_s == pytest.approx(1.0)
    assert rig.energy_j("package-0") == pytest.approx(59.0 * 150.0)


def test_two_wraps_in_one_gap_are_unmeasured(tmp_path: Path) -> None:
    """A counter that may have gone round twice in a gap tells nothing of it: the time is lost, not guessed."""
    zones = [replace(zone, range_uj=2_000_000_000) for zone in rapl.package(0, with_dram=False)]
    tree = rapl.RaplTree(tree_root(tmp_path), zones)
    rig = rig_of(tree)
    rig.go(10.0)
    tree.garble("intel-rapl:0", "")
    rig.go(100.0)
    tree.heal("intel-rapl:0")
    rig.go(40.0)
    entry = rig.device("package-0")

    assert entry.unmeasured_s >= 100.0
    assert rig.energy_j("package-0") == pytest.approx(150.0 * (150.0 - entry.unmeasured_s))


def test_without_a_range_a_fall_is_a_reset(tmp_path: Path) -> None:
    """Where max_energy_range_uj cannot be read, a wrap costs one interval; nothing is negative, nothing is invented."""
    zones = [
        replace(zone, has_range_file=False, base_uj=zone.range_uj - 1_150_000_000 - 150_000_000_000 % zone.range_uj)
        for zone in rapl.package(0, with_dram=False)
    ]
    tree = rapl.RaplTree(tree_root(tmp_path), zones)
    rig = rig_of(tree)
    seen_j: list[float] = []
    rig.go(30.0, each_turn=lambda _snapshot: seen_j.append(rig.energy_j("package-0")))
    entry = rig.device("package-0")

    assert seen_j == sorted(seen_j)
    assert entry.resets == 1
    assert entry.unmeasured_s == pytest.approx(1.0)
    assert rig.energy_j("package-0") == pytest.approx(29.0 * 150.0)


def test_an_unreadable_tree_names_the_remedy(tmp_path: Path) -> None:
    """Permission denied is a state of the source with its three remedies in one line; no zone of it is shown as 0."""
    tree = rapl.RaplTree(tree_root(tmp_path))
    for zone in ("intel-rapl:0", "intel-rapl:0:1", "intel-rapl:1", "intel-rapl:1:1", "intel-rapl:2"):
        tree.deny(zone)
    rig = rig_of(tree)
    snapshot = rig.go(5.0)

    assert not snapshot.devices
    assert not snapshot.sources[0].up
    assert ("denied", 1) in snapshot.sources[0].failures
    for remedy in ("AmbientCapabilities=CAP_DAC_READ_SEARCH", "udev", "root", "bind mount"):
        assert remedy in snapshot.sources[0].problem
    assert "\n" not in snapshot.sources[0].problem


def test_permission_lost_and_found_costs_nothing(tmp_path: Path) -> None:
    """One zone is denied for a while: it says so with the remedy, the others go on, and its counter makes up for it."""
    tree = rapl.RaplTree(tree_root(tmp_path))
    rig = rig_of(tree)
    rig.go(10.0)
    tree.deny("intel-rapl:1")
    rig.go(20.0)
    health = rig.loop.snapshot.sources[0]

    assert health.up
    assert "udev rule" in health.problem
    assert ("denied", 20) in health.failures
    assert rig.device("package-1").power_w is None
    assert rig.energy_j("package-0") == pytest.approx(30.0 * 150.0)
    tree.heal("intel-rapl:1")
    rig.go(10.0)

    assert not rig.loop.snapshot.sources[0].problem
    assert rig.energy_j("package-1") == pytest.approx(40.0 * 150.0)
    assert rig.device("package-1").unmeasured_s == 0.0


def test_everything_denied_mid_run_is_the_source_and_comes_back(tmp_path: Path) -> None:
    """When no zone may be read any more the source is down with the remedy, and after a while reads on without loss."""
    tree = rapl.RaplTree(tree_root(tmp_path), rapl.package(0))
    rig = rig_of(tree)
    rig.go(10.0)
    for zone in ("intel-rapl:0", "intel-rapl:0:1"):
        tree.deny(zone)
    rig.go(10.0)

    assert not rig.loop.snapshot.sources[0].up
    assert "CAP_DAC_READ_SEARCH" in rig.loop.snapshot.sources[0].problem
    tree.heal("intel-rapl:0")
    rig.go(100.0)

    assert rig.loop.snapshot.sources[0].up
    assert rig.energy_j("package-0") == pytest.approx(120.0 * 150.0)


def test_a_platform_alone_does_not_hide_denied_parts(tmp_path: Path) -> None:
    """A readable psys beside packages that may not be read is no working source."""
    tree = rapl.RaplTree(tree_root(tmp_path), [*rapl.package(0, with_dram=False), *rapl.server()[-1:]])
    tree.deny("intel-rapl:0")

    with pytest.raises(SourceDenied):
        Rapl(tree.root, now=rig_of(tree).now, interval_s=1.0).open()


def test_a_zone_that_vanishes_comes_back(tmp_path: Path) -> None:
    """A hot-unplugged package has no watts and counts its time as unmeasured; it is found again within 10 s."""
    tree = rapl.RaplTree(tree_root(tmp_path))
    rig = rig_of(tree)
    rig.go(10.0)
    tree.vanish("intel-rapl:1")
    rig.go(60.0)

    assert rig.device("package-1").power_w is None
    assert "has vanished" in rig.loop.snapshot.sources[0].problem
    assert rig.loop.snapshot.node_power_w == pytest.approx(180.0)
    tree.reset("intel-rapl:1", 1070.0)
    tree.heal("intel-rapl:1")
    rig.go(30.0)
    entry = rig.device("package-1")

    assert 60.0 <= entry.unmeasured_s <= 72.0
    assert entry.resets == 0
    assert rig.energy_j("package-1") == pytest.approx(150.0 * (100.0 - entry.unmeasured_s))
    assert rig.energy_j("package-0") == pytest.approx(100.0 * 150.0)
    assert not rig.loop.snapshot.sources[0].problem


def test_a_tree_that_vanishes_comes_back(tmp_path: Path) -> None:
    """The module is unloaded and loaded again: the source is down meanwhile, and no joule is invented."""
    tree = rapl.RaplTree(tree_root(tmp_path), rapl.package(0))
    rig = rig_of(tree)
    rig.go(10.0)
    tree.vanish("intel-rapl:0")
    rig.go(20.0)

    assert not rig.loop.snapshot.sources[0].up
    tree.heal("intel-rapl:0")
    rig.go(120.0)
    entry = rig.device("package-0")

    assert rig.loop.snapshot.sources[0].up
    assert 20.0 <= entry.unmeasured_s <= 90.0
    assert rig.energy_j("package-0") == pytest.approx(150.0 * (150.0 - entry.unmeasured_s))


def test_a_new_zone_is_found(tmp_path: Path) -> None:
    """A package that appears while the daemon runs is read from the next look on, once a minute."""
    tree = rapl.RaplTree(tree_root(tmp_path), rapl.package(0))
    rig = rig_of(tree)
    rig.go(10.0)
    tree.add(rapl.package(1)[0])
    rig.go(60.0)

    assert rig.device("package-1").power_w == pytest.approx(150.0)


def test_zones_that_change_places_keep_their_identity(tmp_path: Path) -> None:
    """After a reload the sockets may have other numbers: the name is the identity, not the directory."""
    zones = [*rapl.package(0, level_w=100.0, with_dram=False), *rapl.package(1, level_w=60.0, with_dram=False)]
    tree = rapl.RaplTree(tree_root(tmp_path), zones)
    rig = rig_of(tree)
    rig.go(10.0)
    for place in (0, 1):
        tree.vanish(f"intel-rapl:{place}")
    for place, level_w in ((0, 60.0), (1, 100.0)):
        tree.add(rapl.package(place, level_w=level_w, name=f"package-{1 - place}")[0])
        tree.heal(f"intel-rapl:{place}")
    rig.go(120.0)

    assert ["package-0", "package-1"] == sorted(rig.loop.snapshot.devices)
    assert rig.device("package-0").power_w == pytest.approx(100.0)
    assert rig.device("package-1").power_w == pytest.approx(60.0)


def test_a_hidden_tree_is_told_from_an_absent_one(tmp_path: Path) -> None:
    """Links that lead nowhere mean a container that hides them, which has a remedy; no links mean no sensor."""
    tree = rapl.RaplTree(tree_root(tmp_path))
    tree.mask()
    rig = rig_of(tree)

    assert "--sysfs" in rig.go(2.0).sources[0].problem
    shutil.rmtree(tree.powercap)
    with pytest.raises(SourceAbsent):
        Rapl(tree.root, now=rig.now, interval_s=1.0).open()


@pytest.mark.parametrize("text", ["", "\n", "12a4\n", "-5\n", "1.5\n", "nan\n", "١٢\n", "26214", "1\n2\n", " 7\n"])
def test_rubbish_is_no_counter(text: str) -> None:
    """An empty, torn or absurd file is an error, never a number; also a number whose end is missing."""
    with pytest.raises(ValueError, match="not a counter"):
        parse_energy_uj(text)


@pytest.mark.parametrize("text", ["", "garbage\n", "-1\n", "15", "\x00\n", "\xff\n"])
def test_a_failed_read_adds_no_joule(tmp_path: Path, text: str) -> None:
    """While one file gives rubbish its zone stands still, the others go on, and afterwards the counter tells all."""
    tree = rapl.RaplTree(tree_root(tmp_path))
    rig = rig_of(tree)
    rig.go(10.0)
    before_j = rig.energy_j("package-0")
    tree.garble("intel-rapl:0", text)
    rig.go(10.0)

    assert before_j == rig.energy_j("package-0")
    assert rig.device("package-0").power_w is None
    assert rig.energy_j("package-1") == pytest.approx(20.0 * 150.0)
    assert ("read", 10) in rig.loop.snapshot.sources[0].failures
    tree.heal("intel-rapl:0")
    rig.go(10.0)

    assert rig.energy_j("package-0") == pytest.approx(30.0 * 150.0)


def test_a_failed_read_is_no_wrap(tmp_path: Path) -> None:
    """One missed read of a counter near its end: neither 0 nor 262 kJ come of it."""
    zones = [replace(zone, base_uj=zone.range_uj - 151_000_000_000) for zone in rapl.package(0, with_dram=False)]
    tree = rapl.RaplTree(tree_root(tmp_path), zones)
    rig = rig_of(tree)
    for _ in range(5):
        rig.go(2.0)
        tree.garble("intel-rapl:0", "")
        rig.go(1.0)
        tree.heal("intel-rapl:0")
    rig.go(2.0)

    assert rig.energy_j("package-0") == pytest.approx(17.0 * 150.0)


def test_a_stated_limit_that_is_too_low_loses_nothing(tmp_path: Path) -> None:
    """Firmware that states 5 W for a memory that draws 60 W must not make its joules implausible."""
    zones = [
        replace(zone, max_power_w=5.0, waveform=Waveform(60.0, ((0.0, Const(60.0)),))) if zone.name == "dram" else zone
        for zone in rapl.package(0)
    ]
    rig = rig_of(rapl.RaplTree(tree_root(tmp_path), zones))
    rig.go(10.0)

    assert rig.energy_j("package-0-dram") == pytest.approx(600.0)


def test_a_varying_load_is_counted_exactly(tmp_path: Path) -> None:
    """Steps shorter than the interval: the counter tells all of them."""
    tree = rapl.RaplTree(tree_root(tmp_path))
    tree.drive("intel-rapl:0", Waveform(80.0, ((0.0, Square(period_s=0.37, duty=0.6, high_w=300.0, low_w=60.0)),)))
    rig = rig_of(tree)
    rig.go(60.0)

    assert tree.true_energy_j("intel-rapl:0", 1000.0, 1060.0) == pytest.approx(rig.energy_j("package-0"), abs=0.001)


def test_the_vendor_is_that_of_cpuinfo(tmp_path: Path) -> None:
    """The vendor is read from procfs; where it says nothing, nothing is known."""
    assert "HygonGenuine" == cpu_vendor(rapl.cpu_of("HygonGenuine", tmp_path))
    assert "" == cpu_vendor(tmp_path / "none")

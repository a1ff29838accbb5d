"""The powercap tree: which zones are parts of a sum, wraps, and what may go wrong with a file."""

from dataclasses import replace
from pathlib import Path

import pytest

from monitor.sources.rapl import parse_energy_uj
from tests.drivers import rapl
from tests.harness.rig import Rig, tree_root


def test_only_packages_and_dram_are_parts(tmp_path: Path) -> None:
    """Two sockets with equal child names give two packages and two DRAMs; core and psys are never added."""
    rig = Rig(tree=rapl.RaplTree(tree_root(tmp_path)))
    snapshot = rig.go(60.0)

    assert ["package-0", "package-0-dram", "package-1", "package-1-dram"] == sorted(snapshot.devices)
    assert snapshot.node_power_w == pytest.approx(2 * (150.0 + 30.0))
    assert sum(snapshot.node_energy_j.values()) == pytest.approx(60.0 * 360.0)


def test_the_mmio_duplicate_is_not_added(tmp_path: Path) -> None:
    """A second door to the same counter is not a second package."""
    zones = rapl.package(0)
    rig = Rig(tree=rapl.RaplTree(tree_root(tmp_path), [*zones, rapl.mmio_duplicate(zones[0])]))

    assert rig.go(10.0).node_power_w == pytest.approx(180.0)


@pytest.mark.parametrize("range_uj", [rapl.RANGE_61_UJ, rapl.RANGE_15_UJ, 2_000_000_000])
def test_a_wrap_is_neither_lost_nor_phantom(tmp_path: Path, range_uj: int) -> None:
    """Whatever the counter's range and wherever it starts, the joules are those that were used."""
    zones = [replace(zone, range_uj=range_uj, base_uj=range_uj - 5_000_000) for zone in rapl.package(0)]
    tree = rapl.RaplTree(tree_root(tmp_path), zones)
    rig = Rig(tree=tree)
    rig.go(60.0)

    for device, zone in (("package-0", "intel-rapl:0"), ("package-0-dram", "intel-rapl:0:1")):
        assert tree.true_energy_j(zone, 1000.0, 1060.0) == pytest.approx(rig.energy_j(device), abs=0.001)


def test_a_reset_is_not_a_wrap(tmp_path: Path) -> None:
    """A counter that restarts far from its end loses one interval, instead of gaining 262 kJ."""
    tree = rapl.RaplTree(tree_root(tmp_path))
    rig = Rig(tree=tree)
    rig.go(30.0)
    tree.reset("intel-rapl:0", 1030.5)
    rig.go(30.0)
    entry = rig.device("package-0")

    assert entry.resets == 1
    assert entry.unmeasured_s == pytest.approx(1.0)
    assert rig.energy_j("package-0") == pytest.approx(59.0 * 150.0)


def test_an_unreadable_tree_names_the_remedy(tmp_path: Path) -> None:
    """Permission denied is a state of the source with its remedy; no zone of it is shown as 0."""
    tree = rapl.RaplTree(tree_root(tmp_path))
    for zone in ("intel-rapl:0", "intel-rapl:0:1", "intel-rapl:1", "intel-rapl:1:1"):
        tree.deny(zone)
    rig = Rig(tree=tree)
    snapshot = rig.go(5.0)

    assert not snapshot.devices
    assert not snapshot.sources[0].up
    assert "CAP_DAC_READ_SEARCH" in snapshot.sources[0].problem
    assert ("denied", 1) in snapshot.sources[0].failures


@pytest.mark.parametrize("text", ["", "\n", "12a4", "-5", "1.5", "nan", "١٢"])
def test_rubbish_is_no_counter(text: str) -> None:
    """An empty, torn or absurd file is an error, never a number."""
    with pytest.raises(ValueError, match="not a counter"):
        parse_energy_uj(text)


@pytest.mark.parametrize("text", ["", "garbage\n", "-1\n"])
def test_a_failed_read_adds_no_joule(tmp_path: Path, text: str) -> None:
    """While one file gives rubbish its zone stands still, the others go on, and afterwards the counter tells all."""
    tree = rapl.RaplTree(tree_root(tmp_path))
    rig = Rig(tree=tree)
    rig.go(10.0)
    before_j = rig.energy_j("package-0")
    tree.garble("intel-rapl:0", text)
    rig.go(10.0)

    assert before_j == rig.energy_j("package-0")
    assert rig.device("package-0").power_w is None
    assert rig.energy_j("package-1") == pytest.approx(20.0 * 150.0)
    tree.heal("intel-rapl:0")
    rig.go(10.0)

    assert rig.energy_j("package-0") == pytest.approx(30.0 * 150.0)

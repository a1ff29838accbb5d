"""The estimate of CPU power from load: opt-in, labelled, and on elapsed time."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.model import Component, Instant, Origin
from monitor.core.ports import Now
from monitor.errors import SourceAbsent, SourceBroken, UsageError
from monitor.sources.estimate import CURVE, ERROR_BAND_RATIO, Estimate, busy_share, parse_stat, power_w
from tests.drivers.stat import Stat
from tests.harness.rig import FileRig

TDP_W = 200.0


def rig_of(tmp_path: Path, load: dict[float, float]) -> tuple[FileRig, Stat]:
    """A node with this load."""
    stat = Stat(tmp_path / "proc", load)

    def make(now: Now) -> Estimate:
        return Estimate(tmp_path / "proc", tdp_w=TDP_W, now=now, interval_s=1.0)

    return FileRig(make, follow=[stat.update]), stat


@pytest.mark.parametrize(("busy", "ratio"), CURVE)
def test_the_published_points(tmp_path: Path, busy: float, ratio: float) -> None:
    """At the loads for which the curve is published, the power is the published part of the TDP."""
    rig, _ = rig_of(tmp_path, {0.0: busy})
    rig.go(60.0)

    assert rig.device("cpu-estimate").power_w == pytest.approx(ratio * TDP_W)
    assert rig.energy_j("cpu-estimate") == pytest.approx(60.0 * ratio * TDP_W)


def test_it_is_booked_as_estimated(tmp_path: Path) -> None:
    """Its joules stand under method="estimated", never among what is measured; the device says its band."""
    rig, _ = rig_of(tmp_path, {0.0: 0.5})
    snapshot = rig.go(10.0)
    device = rig.device("cpu-estimate").device

    assert {"estimated"} == set(rig.device("cpu-estimate").energy_j)
    assert snapshot.node_power_w is None
    assert not snapshot.node_energy_j
    assert (Component.CPU, Origin.ESTIMATED, "estimate") == (device.component, device.origin, device.source)
    assert device.is_part
    assert f"{ERROR_BAND_RATIO:.0%}" in device.model
    assert "200 W TDP" in device.model


def test_a_change_of_load_is_followed(tmp_path: Path) -> None:
    """Each second has the power of its own load."""
    rig, _ = rig_of(tmp_path, {0.0: 0.0, 1020.0: 1.0, 1030.0: 0.1})
    rig.go(60.0)

    assert TDP_W * (20 * 0.12 + 10 * 1.02 + 30 * 0.32) == pytest.approx(rig.energy_j("cpu-estimate"))


def test_elapsed_time_counts_not_the_nominal(tmp_path: Path) -> None:
    """A read that comes 2.7 s late covers the 3.7 s that have passed."""
    stat = Stat(tmp_path, {0.0: 1.0})
    at = [1000.0]
    source = Estimate(tmp_path, tdp_w=TDP_W, now=lambda: Instant(at[0], 1.79e9 + at[0]), interval_s=1.0)
    energies = []
    for moment in (1000.0, 1001.0, 1004.7, 1005.0):
        at[0] = moment
        stat.update(moment)
        source.open()
        energies.append(source.read().readings[0].energy_j)

    assert energies == pytest.approx([0.0, 204.0, 204.0 * 4.7, 204.0 * 5.0])


def test_over_a_long_silence_nothing_is_guessed(tmp_path: Path) -> None:
    """After an hour without a look (the machine slept) the interval is closed: unmeasured, not estimated."""
    stat = Stat(tmp_path, {0.0: 1.0})
    at = [1000.0]
    source = Estimate(tmp_path, tdp_w=TDP_W, now=lambda: Instant(at[0], 1.79e9 + at[0]), interval_s=1.0)
    stat.update(1000.0)
    source.open()
    source.read()
    at[0] = 4600.0
    stat.update(4600.0)
    readout = source.read()

    assert [("cpu-estimate", 1000.0, "gap", True)] == [
        (f.device_id, f.at.mono_s, f.reason, f.baseline_lost) for f in readout.failures
    ]
    assert 0.0 == readout.readings[0].energy_j


def test_times_that_stand_still_wait(tmp_path: Path) -> None:
    """Read faster than the kernel counts, nothing is lost: the next count covers the whole time."""
    rig, stat = rig_of(tmp_path, {0.0: 1.0})
    rig.go(10.0)
    stat.frozen = True
    rig.go(2.0)
    stat.frozen = False
    rig.go(8.0)

    assert rig.energy_j("cpu-estimate") == pytest.approx(20.0 * 204.0, rel=0.11)


def test_waiting_is_not_working_and_guests_are_counted_once() -> None:
    """Waiting for disks and for the hypervisor is no load; guest time is in user time already."""
    before = (0,) * 10

    assert 0.25 == busy_share(before, (10, 5, 5, 40, 20, 3, 2, 15, 10, 5))
    assert busy_share(before, before) is None


def test_counts_that_fall_are_no_load() -> None:
    """Idle and iowait may fall a little; a share is never below 0 nor above 1."""
    assert 1.0 == busy_share((0, 0, 0, 100, 50), (10, 0, 0, 99, 49))
    assert 0.0 == busy_share((100, 0, 0, 0, 0), (90, 0, 0, 10, 0))


@given(st.lists(st.integers(0, 10**9), min_size=10, max_size=10), st.lists(st.integers(0, 10**9), min_size=4))
def test_a_share_is_a_share(before: list[int], after: list[int]) -> None:
    """Whatever the counts, the share lies within 0 and 1, and the power within the curve."""
    busy = busy_share(tuple(before), tuple(after))

    assert busy is None or 0.0 <= busy <= 1.0
    assert busy is None or 0.12 * TDP_W <= power_w(busy, TDP_W) <= 1.02 * TDP_W + 1e-9


@pytest.mark.parametrize("text", ["", "\n", "cpu  1 2 3\n", "cpu0 1 2 3 4\n", "cpu  1 2 x 4\n"])
def test_rubbish_is_no_load(tmp_path: Path, text: str) -> None:
    """A file that does not have the times of all CPUs is an error, never an idle machine."""
    with pytest.raises(ValueError, match=r".+"):
        parse_stat(text)
    (tmp_path / "stat").write_text(text)
    with pytest.raises(SourceBroken):
        Estimate(tmp_path, tdp_w=TDP_W, now=lambda: Instant(0.0, 0.0), interval_s=1.0).open()


def test_without_the_file_it_is_absent(tmp_path: Path) -> None:
    """No /proc/stat, no estimate."""
    with pytest.raises(SourceAbsent):
        Estimate(tmp_path, tdp_w=TDP_W, now=lambda: Instant(0.0, 0.0), interval_s=1.0).open()


@pytest.mark.parametrize("tdp_w", [0.0, -5.0, float("nan")])
def test_a_tdp_must_be_meant(tmp_path: Path, tdp_w: float) -> None:
    """An impossible TDP is refused when it is given."""
    with pytest.raises(UsageError, match="TDP"):
        Estimate(tmp_path, tdp_w=tdp_w, now=lambda: Instant(0.0, 0.0), interval_s=1.0)

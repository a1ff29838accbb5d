"""Several ways to one thing: the best that opens is read, a better one is tried again, and no two are open at once."""

import errno
import shutil
from pathlib import Path

import pytest

from monitor.core.model import Component, Device, Instant, ReadFailure, Reading, Readout
from monitor.core.ports import Now
from monitor.errors import SourceAbsent, SourceBroken, SourceDenied, SourceError
from monitor.sources.alternatives import FirstThatWorks
from monitor.sources.estimate import Estimate
from monitor.sources.hwmon import Hwmon
from monitor.sources.perf import Perf
from monitor.sources.rapl import Rapl
from tests.drivers import rapl
from tests.harness.rig import FileRig, tree_root


class Stage:
    """The time of a test, and which of its sources are open."""

    def __init__(self) -> None:
        self.at_s = 1000.0
        self.open: list[str] = []
        self.most_open = 0

    def now(self) -> Instant:
        """The present."""
        return Instant(self.at_s, 1.79e9 + self.at_s)


class Member:
    """A source that opens and reads, or fails, as a test says."""

    def __init__(self, stage: Stage, name: str, period_s: float = 1.0) -> None:
        self.name, self.period_s = name, period_s
        self.stage = stage
        self.on_open: Exception | None = None
        self.on_read: Exception | None = None
        self.opened = 0
        self.failures: tuple[ReadFailure, ...] = ()
        self.device = Device(id="package-0", component=Component.CPU, source=name, max_power_w=100.0)

    def open(self) -> None:
        """Open, or fail."""
        self.opened += 1
        if self.on_open is not None:
            raise self.on_open
        self.stage.open.append(self.name)
        self.stage.most_open = max(self.stage.most_open, len(self.stage.open))

    def read(self) -> Readout:
        """One reading, or a failure."""
        if self.on_read is not None:
            raise self.on_read
        reading = Reading(device=self.device, at=self.stage.now(), energy_j=self.stage.at_s)
        return Readout(readings=(reading,), failures=self.failures)

    def close(self) -> None:
        """Close."""
        self.stage.open.remove(self.name)


@pytest.fixture
def stage() -> Stage:
    """A stage with nothing open."""
    return Stage()


def three(stage: Stage) -> tuple[FirstThatWorks, Member, Member, Member]:
    """Three ways."""
    best, second, last = Member(stage, "best", 1.0), Member(stage, "second", 0.5), Member(stage, "last", 2.0)
    return FirstThatWorks([best, second, last], now=stage.now), best, second, last


def test_the_first_that_opens_is_read(stage: Stage) -> None:
    """The best is taken; the others are not even opened; before that its name and period are shown."""
    source, best, second, last = three(stage)

    assert ("best", 1.0) == (source.name, source.period_s)
    source.open()
    readout = source.read()

    assert (1, 0, 0) == (best.opened, second.opened, last.opened)
    assert ["best"] == [reading.device.source for reading in readout.readings]
    assert not readout.failures
    source.close()

    assert not stage.open


def test_a_lesser_one_is_taken_and_says_why(stage: Stage) -> None:
    """What is denied is told once with its remedy, under no device; what is absent is not worth a word."""
    source, best, second, last = three(stage)
    best.on_open, second.on_open = SourceDenied("best: take the cure"), SourceAbsent("no second here")
    source.open()
    first, then = source.read(), source.read()

    assert ("last", 2.0, ["last"]) == (source.name, source.period_s, stage.open)
    assert [("", "denied", "best: take the cure; meanwhile last is read instead")] == [
        (failure.device_id, failure.reason, failure.message) for failure in first.failures
    ]
    assert not then.failures
    assert last.opened == 1


def test_better_ones_are_tried_again_each_minute(stage: Stage) -> None:
    """Every 60 s, and on no other read, the better ones are tried, and say again what is wrong."""
    source, best, second, _ = three(stage)
    best.on_open = SourceBroken("best is broken")
    source.open()
    told = []
    for _ in range(181):
        told += [stage.at_s for failure in source.read().failures if failure.reason == "broken"]
        stage.at_s += 1.0

    assert [1000.0, 1060.0, 1120.0, 1180.0] == told
    assert (4, 4) == (best.opened, second.opened)
    assert ["second"] == stage.open
    assert stage.most_open == 1


def test_the_best_comes_back(stage: Stage) -> None:
    """Once a better one opens it is read, and what the lesser told of loses its baseline: counters never mix."""
    source, best, second, _ = three(stage)
    best.on_open = SourceDenied("denied")
    source.open()
    source.read()
    best.on_open = None
    stage.at_s += 60.0
    readout = source.read()

    assert ("best", 1.0, ["best"], 1) == (source.name, source.period_s, stage.open, stage.most_open)
    assert ["best"] == [reading.device.source for reading in readout.readings]
    assert [("package-0", "switched", True, 1000.0)] == [
        (failure.device_id, failure.reason, failure.baseline_lost, failure.at.mono_s) for failure in readout.failures
    ]
    stage.at_s += 60.0
    assert not source.read().failures
    assert (2, 1) == (best.opened, second.opened)


def test_a_middle_one_may_take_over(stage: Stage) -> None:
    """Of the better ones the first that opens is taken, and the best is still told of."""
    source, best, second, _ = three(stage)
    best.on_open, second.on_open = SourceDenied("denied"), SourceBroken("broken")
    source.open()
    assert ["denied", "broken"] == [failure.reason for failure in source.read().failures]
    second.on_open = None
    stage.at_s += 60.0

    assert ["switched", "denied"] == [failure.reason for failure in source.read().failures]
    assert ["second"] == stage.open


def test_one_that_fails_is_closed_and_the_search_begins_anew(stage: Stage) -> None:
    """An error of the one in use is raised, it is closed, and the next open starts from the first."""
    source, best, second, _ = three(stage)
    source.open()
    source.read()
    best.on_read, best.on_open = SourceBroken("gone"), SourceAbsent("gone for good")
    with pytest.raises(SourceBroken, match="gone"):
        source.read()

    assert not stage.open
    assert source.name == "best"
    source.close()
    stage.at_s += 1.0
    source.open()
    readout = source.read()

    assert ["second"] == stage.open
    assert second.opened == 1
    assert [("package-0", "switched", True)] == [(f.device_id, f.reason, f.baseline_lost) for f in readout.failures]


def test_the_same_one_again_keeps_its_baseline(stage: Stage) -> None:
    """After an outage of the one in use that only it ends, its counters go on."""
    source, best, _, _ = three(stage)
    source.open()
    source.read()
    best.on_read = SourceBroken("a hiccup")
    with pytest.raises(SourceBroken):
        source.read()
    best.on_read = None
    source.open()

    assert not source.read().failures


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ((SourceAbsent("a"), SourceDenied("b"), SourceBroken("c")), SourceDenied),
        ((SourceAbsent("a"), SourceBroken("b"), SourceAbsent("c")), SourceBroken),
        ((SourceAbsent("a"), SourceAbsent("b"), SourceAbsent("c")), SourceAbsent),
        ((SourceAbsent("a"), RuntimeError("b"), SourceAbsent("c")), SourceBroken),
    ],
)
def test_when_none_opens_all_are_told(stage: Stage, errors: tuple[Exception, ...], kind: type[SourceError]) -> None:
    """The error is the one that can be cured, with the texts of all; a defect of one counts as broken."""
    source, *members = three(stage)
    for member, error in zip(members, errors, strict=True):
        member.on_open = error
    with pytest.raises(SourceError) as raised:
        source.open()

    assert kind is type(raised.value)
    assert [text[-1] for text in str(raised.value).split("; ")] == ["a", "b", "c"]
    assert ("best", []) == (source.name, stage.open)
    source.close()


def test_one_that_does_not_open_again_is_an_error(stage: Stage) -> None:
    """Closed to try a better one, the lesser refuses: nothing is open, and the supervisor is told."""
    source, best, second, _ = three(stage)
    best.on_open = SourceAbsent("absent")
    source.open()
    source.read()
    second.on_open = SourceBroken("second is gone")
    stage.at_s += 60.0
    with pytest.raises(SourceBroken, match="second is gone"):
        source.read()

    assert not stage.open


def test_what_the_member_says_is_passed_on(stage: Stage) -> None:
    """Failures of single devices come through beside the readings."""
    source, best, _, _ = three(stage)
    best.failures = (ReadFailure(device_id="x", at=stage.now(), reason="read", message="torn"),)
    source.open()

    assert best.failures == source.read().failures


def test_a_read_without_an_open_is_an_error(stage: Stage) -> None:
    """Nothing is opened behind the supervisor's back."""
    source, *_ = three(stage)

    with pytest.raises(SourceBroken):
        source.read()


def refuse(_type: int, _config: int, _cpu: int) -> int:
    """A kernel that opens no event."""
    raise PermissionError(errno.EACCES, "refused")


def test_a_cpu_without_rapl_rights_is_estimated_until_they_come(tmp_path: Path) -> None:
    """RAPL denied, no perf, no hwmon: the estimate runs, labelled; when RAPL may be read, measured joules take over."""
    tree = rapl.RaplTree(tree_root(tmp_path), rapl.package(0, with_dram=False))
    procfs = rapl.cpu_of("GenuineIntel", tmp_path / "proc")

    def make(now: Now) -> FirstThatWorks:
        return FirstThatWorks(
            [
                Rapl(tree.root, procfs=procfs, now=now, interval_s=1.0),
                Perf(tree.root, procfs=procfs, now=now, interval_s=1.0, open_event=refuse),
                Hwmon(tree.root, now=now, interval_s=1.0),
                Estimate(procfs, tdp_w=200.0, now=now, interval_s=1.0),
            ],
            now=now,
        )

    def work(at_s: float) -> None:
        (procfs / "stat").write_text(f"cpu  {round(100 * at_s)} 0 0 {round(100 * at_s)}\n")

    tree.deny("intel-rapl:0")
    rig = FileRig(make, follow=[tree.update, work])
    rig.go(30.0)

    assert {"cpu-estimate"} == set(rig.loop.snapshot.devices)
    assert rig.energy_j("cpu-estimate") == pytest.approx(30.0 * 0.75 * 200.0)
    assert "estimate" == rig.loop.snapshot.sources[0].source
    tree.heal("intel-rapl:0")
    rig.go(90.0)

    assert "rapl" == rig.loop.snapshot.sources[0].source
    assert rig.device("cpu-estimate").power_w is None
    assert rig.energy_j("cpu-estimate") == pytest.approx(59.0 * 0.75 * 200.0)
    assert rig.energy_j("package-0") == pytest.approx(60.0 * 150.0)
    shutil.rmtree(tree.powercap)
    rig.go(120.0)

    assert "estimate" == rig.loop.snapshot.sources[0].source
    # What the estimate did not cover is not booked when it returns.
    assert rig.energy_j("cpu-estimate") < (59.0 + 120.0) * 0.75 * 200.0

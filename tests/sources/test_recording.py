"""Recording and replay: the file holds what the sensors answered, and the pipeline makes the same joules of it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.core.model import (
    Component,
    Device,
    Instant,
    PowerSignal,
    ReadFailure,
    Reading,
    Readout,
    Telemetry,
)
from monitor.core.ports import Now, Source
from monitor.core.snapshot import Snapshot
from monitor.errors import SourceAbsent, SourceBroken, SourceDenied, UsageError
from monitor.sources.nvml.source import Nvml
from monitor.sources.rapl import Rapl
from monitor.sources.recording import Recorded, Recorder
from monitor.sources.replay import replay
from tests.conftest import MakeDriver
from tests.drivers.nvml import FakeGpu
from tests.drivers.rapl import RaplTree, server
from tests.drivers.waveform import Const, Square
from tests.harness.rig import Rig, tree_root

NOT_SUPPORTED, GPU_IS_LOST = 3, 15
CARD = Device(id="card", component=Component.GPU, source="script", max_power_w=1000.0, model="Card", index="0")
NODE = Device(id="node", component=Component.PLATFORM, source="script", max_power_w=5000.0, within="card")
Totals = dict[str, tuple[float, float, int]]


class Stage(Rig):
    """A node in virtual time whose sources are made with its clock."""

    def __init__(
        self, make: Callable[[Now], Sequence[Source]], *movers: Callable[[float], None], begin_s: float = 1000.0
    ) -> None:
        self.at_s = begin_s
        self._movers = movers
        super().__init__(sources=make(self.now), begin_s=begin_s)

    def _set(self, at_s: float) -> None:
        super()._set(at_s)
        for move in self._movers:
            move(at_s)


class Forbidden:
    """A sensor that is there, but not for us."""

    name = "psu"
    period_s = 1.0

    def open(self) -> None:
        """Refuse."""
        raise SourceDenied("/dev/ipmi0 may be opened by root only")

    def read(self) -> Readout:
        """Never come to."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held open."""


class Script:
    """A source that does what a list says, one entry a read, and then says nothing."""

    name = "script"
    period_s = 1.0

    def __init__(self, now: Now, acts: Sequence[Callable[[Instant], Readout]]) -> None:
        self._now = now
        self._acts = list(acts)

    def open(self) -> None:
        """There is nothing to find."""

    def read(self) -> Readout:
        """The next act."""
        return self._acts.pop(0)(self._now()) if self._acts else Readout()

    def close(self) -> None:
        """Nothing is held open."""


def recorded(file: Path, now: Now, sources: Sequence[Source]) -> tuple[Recorder, list[Recorded]]:
    """The sources, each answer of which is written to the file."""
    names = tuple(source.name for source in sources)
    recorder = Recorder(file.open("w"), start=now(), interval_s=1.0, sources=names)
    return recorder, [Recorded(source, recorder, now=now) for source in sources]


def record(
    file: Path, make: Callable[[Now], Sequence[Source]], seconds: float, *movers: Callable[[float], None]
) -> Stage:
    """The stage at the end of a recorded session."""
    recorders = []

    def wrapped(now: Now) -> Sequence[Source]:
        recorder, sources = recorded(file, now, make(now))
        recorders.append(recorder)
        return sources

    stage = Stage(wrapped, *movers)
    stage.go(seconds)
    recorders[0].close()
    return stage


def played(file: Path, seconds: float, *, begin_s: float = 4096.0) -> Stage:
    """The stage after so long a replay of a file."""
    stage = Stage(lambda now: replay(file, now=now), begin_s=begin_s)
    stage.go(seconds)
    return stage


def totals(snapshot: Snapshot) -> Totals:
    """Joules, unmeasured seconds and resets by device, as if recorded and simulated devices had one name."""
    return {
        device_id.removeprefix("mock-"): (sum(entry.energy_j.values()), entry.unmeasured_s, entry.resets)
        for device_id, entry in snapshot.devices.items()
    }


@pytest.fixture(scope="module")
def kept() -> list[tuple[Path, Stage]]:
    """The session once it has been recorded."""
    return []


@pytest.fixture
def session(tmp_path: Path, make_driver: MakeDriver, kept: list[tuple[Path, Stage]]) -> tuple[Path, Stage]:
    """Two minutes of three GPUs, two sockets and a power supply, with everything that goes wrong."""
    if not kept:
        kept.append(_record_session(tmp_path, make_driver))
    return kept[0]


def _record_session(tmp_path: Path, make_driver: MakeDriver) -> tuple[Path, Stage]:
    driver = make_driver([FakeGpu(), FakeGpu(), FakeGpu()])
    tree = RaplTree(tree_root(tmp_path), server())
    driver.wave(0, 0.0, Square(period_s=7.0, duty=0.4, high_w=650.0, low_w=90.0))
    driver.wave(1, 0.0, Const(300.0))
    driver.fault("*", GPU_IS_LOST, gpu_index=1, window_s=(1020.0, 1035.0))
    driver.restart(1, 1030.0)
    driver.restart(2, 1050.0)
    # Without its watts, too: joules bridged by integration would be booked under two methods, and summed in two orders.
    driver.fault("*", 999, gpu_index=2, window_s=(1060.0, 1064.0))
    driver.fault("*", 9, window_s=(1080.0, 1085.0))
    tree.reset("intel-rapl:1", 1070.0)

    def live(at_s: float) -> None:
        if at_s.is_integer():  # nobody reads the tree at other times, and writing it takes a while
            tree.update(at_s)
        if at_s == 1040.0:
            tree.garble("intel-rapl:0", "")
        if at_s == 1043.0:
            tree.heal("intel-rapl:0")

    file = tmp_path / "session.jsonl"
    stage = record(file, lambda now: _sensors(now, tree), 120.0, driver.set_virtual, live)
    return file, stage


def _sensors(now: Now, tree: RaplTree) -> list[Source]:
    return [Nvml(now=now, interval_s=1.0), Rapl(tree.root, now=now, interval_s=1.0), Forbidden()]


def test_the_session_is_worth_recording(session: tuple[Path, Stage]) -> None:
    """It holds a lost GPU, resets, failed reads, a driver that broke down and a source that is denied."""
    lines = [json.loads(line) for line in session[0].read_text().splitlines()]
    failures = {failure["reason"] for line in lines[1:] for failure in line.get("failures", ())}
    errors = {line["error"]["kind"] for line in lines[1:] if "error" in line}

    assert {"SourceBroken", "SourceDenied"} <= errors
    assert len(failures) >= 3
    assert any(unmeasured_s > 10.0 for _, unmeasured_s, _ in totals(session[1].loop.snapshot).values())
    assert sum(resets for _, _, resets in totals(session[1].loop.snapshot).values()) >= 2


def test_a_replay_makes_the_same_totals(session: tuple[Path, Stage]) -> None:
    """Joules, unmeasured seconds and resets of each device are those of the recorded session, bit for bit."""
    file, live = session

    assert totals(live.loop.snapshot) == totals(played(file, 120.0, begin_s=1000.0).loop.snapshot)


@pytest.mark.parametrize("begin_s", [4096.0, 5000.37, 1e7 + 0.999])
def test_the_moment_of_the_replay_does_not_matter(session: tuple[Path, Stage], begin_s: float) -> None:
    """At another time, and between two deadlines: the same joules and resets, the same seconds to rounding."""
    file, live = session
    again = totals(played(file, 120.0, begin_s=begin_s).loop.snapshot)

    for device_id, (energy_j, unmeasured_s, resets) in totals(live.loop.snapshot).items():
        assert (energy_j, resets) == again[device_id][::2], device_id
        assert unmeasured_s == pytest.approx(again[device_id][1], abs=1e-6), device_id


def test_a_replay_fails_as_the_sources_did(session: tuple[Path, Stage]) -> None:
    """Every failure and raised error comes again, as often, with its reason and words."""
    file, live = session
    again = played(file, 120.0)

    assert [s.health.failures for s in live.supervisors] == [s.health.failures for s in again.supervisors]
    assert [s.health.problem for s in live.supervisors] == [s.health.problem for s in again.supervisors]
    assert ["mock-nvml", "mock-rapl", "mock-psu"] == [s.health.source for s in again.supervisors]


def test_nothing_replayed_passes_for_measured(session: tuple[Path, Stage]) -> None:
    """Each device is simulated, under an id that says so, and keeps its model and component."""
    file, live = session
    snapshot = played(file, 60.0).loop.snapshot

    assert {f"mock-{device_id}" for device_id in live.loop.snapshot.devices} == set(snapshot.devices)
    assert {"simulated"} == {method for entry in snapshot.devices.values() for method in entry.energy_j}
    for device_id, entry in live.loop.snapshot.devices.items():
        again = snapshot.devices[f"mock-{device_id}"].device

        assert (entry.device.model, entry.device.component) == (again.model, again.component)


def test_power_that_is_integrated_is_replayed(tmp_path: Path, make_driver: MakeDriver) -> None:
    """A GPU without a counter was read ten times a second, and is again."""
    driver = make_driver()
    driver.wave(0, 0.0, Square(period_s=3.0, duty=0.5, high_w=650.0, low_w=150.0))
    driver.fault("nvmlDeviceGetTotalEnergyConsumption", NOT_SUPPORTED)
    file = tmp_path / "file"
    live = record(file, lambda now: [Nvml(now=now, interval_s=1.0)], 30.0, driver.set_virtual)
    again = played(file, 30.0)
    expected = totals(live.loop.snapshot)[driver.uuid(0)]

    assert expected[0] > 10_000.0
    assert expected == pytest.approx(totals(again.loop.snapshot)[driver.uuid(0)], rel=1e-9)
    assert again.supervisors[0].health.last_success is not None
    assert again.supervisors[0].health.last_success.mono_s == pytest.approx(4096.0 + 30.1, abs=0.11)


def test_the_end_is_the_end(session: tuple[Path, Stage]) -> None:
    """After the last turn each source is absent and says why; the joules stand still; nothing begins again."""
    file, live = session
    again = played(file, 1000.0)

    assert {f"the recording {file} has ended"} == {s.health.problem for s in again.supervisors}
    assert not any(s.health.up for s in again.supervisors)
    for device_id, (energy_j, _, resets) in totals(live.loop.snapshot).items():
        assert (energy_j, resets) == totals(again.loop.snapshot)[device_id][::2]


def _good(energy_j: float, power_w: float | None) -> Callable[[Instant], Readout]:
    return lambda at: Readout(
        readings=(Reading(device=CARD, at=at, energy_j=energy_j), Reading(device=NODE, at=at, power_w=power_w))
    )


def _failed(baseline_lost: bool) -> Callable[[Instant], Readout]:  # noqa: FBT001
    return lambda at: Readout(
        failures=(ReadFailure(device_id="card", at=at, reason="lost", message="gone", baseline_lost=baseline_lost),)
    )


def _raises(kind: type[Exception]) -> Callable[[Instant], Readout]:
    def act(_at: Instant) -> Readout:
        raise kind("a word")

    return act


ACTS = st.one_of(
    st.builds(_good, st.floats(0.0, 5000.0), st.none() | st.floats(0.0, 5000.0)),
    st.builds(_failed, st.booleans()),
    st.builds(_raises, st.sampled_from([SourceBroken, SourceDenied, SourceAbsent, RuntimeError])),
)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(ACTS, min_size=1, max_size=30))
def test_any_session_replays_to_the_same_totals(tmp_path: Path, acts: list[Callable[[Instant], Readout]]) -> None:
    """Whatever a source says, fails to say or raises: replay = live, bit for bit, health included."""
    file = tmp_path / "file"
    live = record(file, lambda now: [Script(now, acts)], 90.0)
    again = played(file, 90.0, begin_s=1000.0)

    assert totals(live.loop.snapshot) == totals(again.loop.snapshot)
    assert live.supervisors[0].health.failures == again.supervisors[0].health.failures
    assert live.supervisors[0].health.up == again.supervisors[0].health.up


def test_every_field_survives(tmp_path: Path) -> None:
    """A reading with everything and one with nothing come back as they were, but for the disguise."""
    whole = Reading(
        device=CARD,
        at=Instant(1000.0, 1.79e9),
        energy_j=0.1 + 0.2,
        wraps_at_j=262143.32885,
        power_w=1 / 3,
        power_signal=PowerSignal.INSTANT,
        telemetry=Telemetry(
            power_limit_w=700.0, memory_used_bytes=7 * 2**30, utilization_ratio=0.5, throttled_s=(("power", 0.25),)
        ),
    )
    bare = Reading(device=NODE, at=Instant(1000.0, 1.79e9), telemetry=Telemetry())
    file = tmp_path / "file"
    record(file, lambda now: [Script(now, [lambda _at: Readout(readings=(whole, bare))])], 1.0)
    first, second = replay(file, now=lambda: Instant(8000.0, 1.8e9))[0].read().readings

    assert (whole.energy_j, whole.wraps_at_j, whole.power_w, whole.power_signal, whole.telemetry) == (
        first.energy_j,
        first.wraps_at_j,
        first.power_w,
        first.power_signal,
        first.telemetry,
    )
    assert (None, None, None, Telemetry()) == (second.energy_j, second.wraps_at_j, second.power_w, second.telemetry)
    assert 8000.0 == first.at.mono_s
    assert ("mock-node", "mock-card", "mock-script") == (second.device.id, second.device.within, second.device.source)


def test_it_is_discreet(tmp_path: Path) -> None:
    """Folders of people and passwords in addresses stay out of the file, and so does the environment."""
    said = "no /home/alice/key and\nno https://bob:hunter2@bmc.example/redfish"
    file = tmp_path / "file"

    def act(at: Instant) -> Readout:
        return Readout(failures=(ReadFailure(device_id="card", at=at, reason="read", message=said),))

    record(file, lambda now: [Script(now, [act, _raises(SourceBroken)])], 3.0)
    text = file.read_text()

    assert "no ~/key and no https://bmc.example/redfish" in text
    assert not [word for word in ("alice", "bob", "hunter2", str(Path.home()), "PATH") if word in text]


def _file(path: Path, *lines: str, end: str = "\n") -> Path:
    path.write_text("\n".join(lines) + end)
    return path


HEADER = (
    '{"format":"trainwatt-recording","version":1,"trainwatt":"0.1.0","at":"2026-01-01T00:00:00+00:00",'
    '"wall_s":1.79e9,"kernel":"6.1","interval_s":1.0,"sources":["script"]}'
)
TURN = (
    '{"t_s":0.0,"wall_s":1.79e9,"took_s":0.0,"source":"script","name":"script","period_s":1.0,'
    '"devices":[{"id":"card","component":"gpu","source":"script","max_power_w":9.0}],'
    '"readings":[{"device":"card","t_s":0.0,"wall_s":1.79e9,"energy_j":1.0}]}'
)


@pytest.mark.parametrize(
    ("lines", "line", "says"),
    [
        ((), 1, "this is no recording"),
        (("not JSON",), 1, "this is no recording"),
        (('{"format":"other"}', TURN), 1, "this is no recording"),
        ((HEADER.replace('"version":1', '"version":2'), TURN), 1, "update trainwatt"),
        ((HEADER.replace('"interval_s":1.0', '"interval_s":0.0'), TURN), 1, "interval_s"),
        ((HEADER, "rubbish", TURN), 2, "JSON"),
        ((HEADER, TURN, TURN[:50], TURN), 3, "JSON"),
        ((HEADER, TURN.replace('"took_s":0.0,', "")), 2, "took_s"),
        ((HEADER, TURN.replace('"energy_j":1.0', '"energy_j":NaN')), 2, "energy_j"),
        ((HEADER, TURN.replace('"source":"script","name', '"source":"other","name')), 2, "'other'"),
        ((HEADER, TURN.replace('"device":"card"', '"device":"cart"')), 2, "'cart'"),
        ((HEADER, "[" * 5000), 2, "JSON"),
    ],
)
def test_a_damaged_file_says_where(tmp_path: Path, lines: tuple[str, ...], line: int, says: str) -> None:
    """Whatever is wrong with a file is one line that names the file and the line."""
    file = _file(tmp_path / "file", *lines)
    with pytest.raises(UsageError, match=says) as raised:
        replay(file, now=lambda: Instant(0.0, 0.0))

    assert f"{file}, line {line}: " in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_folder_is_no_recording(tmp_path: Path) -> None:
    """What cannot be read at all is named."""
    with pytest.raises(UsageError, match="cannot read the recording"):
        replay(tmp_path, now=lambda: Instant(0.0, 0.0))


@pytest.mark.parametrize("length", [1, 60, len(TURN) - 1])
def test_a_killed_recorder_loses_its_last_line_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    """A last line that was cut off anywhere is left out with a warning that names it."""
    file = _file(tmp_path / "file", HEADER, TURN, TURN[:length], end="")
    source = replay(file, now=lambda: Instant(100.0, 0.0))[0]

    assert f"{file}, line 3: cut off" in caplog.text
    assert 1 == len(source.read().readings)
    with pytest.raises(SourceAbsent, match="has ended"):
        source.read()


def test_a_full_disk_ends_the_recording_and_not_the_sources() -> None:
    """A file that takes no more stops the recorder, which says so; the sources go on answering."""

    def now() -> Instant:
        return Instant(1000.0, 1.79e9)

    source, ended = Script(now, [_good(1.0, None), _good(2.0, None)]), Event()
    with Path("/dev/full").open("w") as full:
        recorder = Recorder(full, start=now(), interval_s=1.0, sources=("script",), on_end=ended.set)
        said = Recorded(source, recorder, now=now).read()

    assert 2 == len(said.readings)
    assert ended.is_set()
    assert "No space left" in recorder.problem


def test_a_source_that_changes_its_name_is_replayed(tmp_path: Path) -> None:
    """One that goes another way than at first carries that way's name and notes, in the replay as then."""

    class Two(Script):
        def read(self) -> Readout:
            said = super().read()
            self.name, self.period_s = ("other", 0.5) if said.readings else ("script", 1.0)
            return said._replace(notes=("not the best way",) if said.readings else ())

    file = tmp_path / "file"
    record(file, lambda now: [Two(now, [_raises(SourceDenied), _good(5.0, None)])], 62.0)
    present = [8000.0]
    source = replay(file, now=lambda: Instant(present[0], 1.8e9 + present[0]))[0]
    with pytest.raises(SourceDenied):
        source.read()
    first = source.name
    present[0] = 8060.0
    said = source.read()

    assert ("mock-script", "mock-other", 0.5) == (first, source.name, source.period_s)
    assert ("not the best way",) == said.notes


def test_a_step_of_the_wall_clock_is_replayed(tmp_path: Path) -> None:
    """The wall clock that jumped an hour during the recording jumps again, on top of the time of the replay."""

    def stepped(step_s: float) -> Callable[[Instant], Readout]:
        return lambda at: Readout(readings=(Reading(device=CARD, at=Instant(at.mono_s, at.wall_s + step_s)),))

    file = tmp_path / "file"
    record(file, lambda now: [Script(now, [stepped(0.0), stepped(3600.0)])], 1.0)
    present = [8000.0]
    source = replay(file, now=lambda: Instant(present[0], 1.8e9 + present[0]))[0]
    first = source.read().readings[0]
    present[0] = 8001.0
    second = source.read().readings[0]

    assert Instant(8000.0, 1.8e9 + 8000.0) == first.at
    assert Instant(8001.0, 1.8e9 + 8001.0 + 3600.0) == second.at

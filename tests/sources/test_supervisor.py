"""The supervisor: whatever a source does, it ends as a count, one line for people and another try."""

import logging
import threading
from itertools import pairwise
from threading import Event, Thread

import pytest

from monitor import clock
from monitor.core.model import Component, Device, Instant, ReadFailure, Reading, Readout
from monitor.errors import SourceAbsent, SourceBroken, SourceDenied, SourceError
from monitor.sources.supervisor import Supervisor
from tests.conftest import MakeDriver
from tests.drivers.nvml import FakeGpu
from tests.drivers.waveform import Const
from tests.harness.rig import Rig

DEVICE = Device(id="d", component=Component.CPU, source="script", max_power_w=100.0)


class Script:
    """A source that does what a list says, one entry a read: a Readout, or an exception to raise."""

    name = "script"
    period_s = 1.0

    def __init__(self, *acts: Readout | Exception | float) -> None:
        self.acts = list(acts)
        self.at_s = 100.0
        self.opened = self.closed = 0

    def now(self) -> Instant:
        """The present of this stage."""
        return Instant(self.at_s, 1.79e9 + self.at_s)

    def open(self) -> None:
        """Count it."""
        self.opened += 1

    def close(self) -> None:
        """Count it."""
        self.closed += 1

    def read(self) -> Readout:
        """Do the next act; a number is a read that takes so many seconds."""
        act = self.acts.pop(0)
        if isinstance(act, Exception):
            raise act
        if isinstance(act, float):
            self.at_s += act
            return self.well()
        return act

    def well(self) -> Readout:
        """One good reading."""
        return Readout(readings=(Reading(device=DEVICE, at=self.now(), energy_j=1.0),))


def play(script: Script) -> tuple[Supervisor, list[float]]:
    """Tick at each due moment until the script ends; the moments of the ticks."""
    supervisor = Supervisor(script, now=script.now)
    moments = []
    while script.acts:
        moments.append(script.at_s)
        script.at_s = max(script.at_s, supervisor.tick())
    return supervisor, moments


@pytest.mark.parametrize(
    ("error", "waits_s"),
    [
        (SourceBroken("driver gone"), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]),
        (RuntimeError("a defect"), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]),
        (SourceAbsent("no driver"), [60.0] * 8),
        (SourceDenied("not for us"), [60.0] * 8),
    ],
)
def test_it_tries_again_with_back_off(error: Exception, waits_s: list[float]) -> None:
    """What is broken is tried again soon, then less and less often; what is absent or denied once a minute."""
    _, moments = play(Script(*[error] * 9))

    assert waits_s == pytest.approx([b - a for a, b in pairwise(moments)])


def test_a_recovered_source_is_read_on_its_deadlines() -> None:
    """After a failure the source is opened anew, its back-off forgotten, its deadlines whole seconds again."""
    script = Script(SourceBroken("gone"), SourceBroken("gone"), 0.25, 0.25, SourceBroken("gone"), 0.0)
    supervisor, moments = play(script)

    assert [100.0, 101.0, 103.0, 104.0, 105.0, 106.0] == moments
    assert (("broken", 3),) == supervisor.health.failures
    assert supervisor.health.up
    assert (4, 3) == (script.opened, script.closed)


def test_a_slow_read_skips_deadlines_and_counts_them() -> None:
    """A read of 2.5 s makes the source late: the deadlines in between are skipped, counted, never caught up."""
    script = Script(0.1, 2.5, 0.1)
    supervisor, moments = play(script)

    assert [100.0, 101.0, 104.0] == moments
    assert supervisor.health.late_ticks == 2
    assert supervisor.health.read_duration_s == pytest.approx(0.1)


def test_the_log_speaks_on_change_of_state(caplog: pytest.LogCaptureFixture) -> None:
    """The same problem is told once, however long it lasts; the recovery once."""
    failing = Readout(failures=(ReadFailure(device_id="d", at=Instant(0, 0), reason="timeout", message="d is late"),))
    script = Script(*[SourceBroken("driver gone")] * 5, 0.0, 0.0, failing, failing, 0.0, 0.0)
    with caplog.at_level(logging.INFO):
        play(script)

    assert [
        "script: driver gone",
        "script: reading 1 devices",
        "script: d is late",
        "script: well again",
    ] == caplog.messages


def test_a_source_that_hangs_is_shown_as_down() -> None:
    """While a call does not return the source goes from late to down, by name; when it does, it is well again."""
    returns, called = Event(), Event()
    script = Script(0.0, 0.0)

    def hang() -> Readout:
        called.set()
        returns.wait(10)
        return script.well()

    supervisor = Supervisor(script, now=script.now)
    supervisor.tick()
    script.read = hang  # type: ignore[method-assign]
    thread = Thread(target=supervisor.tick)
    thread.start()
    called.wait(10)
    shown = []
    for seconds in (1.0, 8.0, 8.0):
        script.at_s += seconds
        shown.append(supervisor.drain()[1])
    returns.set()
    thread.join(10)

    assert [True, True, False] == [health.up for health in shown]
    assert "has not returned for 17 s" in shown[2].problem
    assert supervisor.drain()[1].up


def test_drain_gives_every_reading_once() -> None:
    """The loop gets what was read since it last asked, oldest first, and the health that belongs to it."""
    script = Script(0.0, 0.0, SourceError("odd"))
    supervisor, _ = play(script)
    readouts, health = supervisor.drain()

    assert [1, 1, 0] == [len(readout.readings) for readout in readouts]
    assert not health.up
    assert ([], health) == supervisor.drain()


def test_a_released_source_is_closed_until_its_limit() -> None:
    """It is closed by the next tick, not tried again before the limit, counted once, and then read on its deadlines."""
    script = Script(0.25, 0.0, 0.0)
    supervisor = Supervisor(script, now=script.now)
    supervisor.tick()
    closed = supervisor.release(60.0)

    assert not closed.done()
    due_s = supervisor.tick()

    assert (160.25, 1, 1) == (due_s, script.opened, script.closed)
    assert closed.result(0) == Instant(160.25, 1.79e9 + 160.25)
    assert (False, (("released", 1),)) == (supervisor.health.up, supervisor.health.failures)
    assert supervisor.health.last_success == Instant(100.25, 1.79e9 + 100.25)
    assert "trainwatt resume script opens it earlier" in supervisor.health.problem
    assert "released until 14:16:00 UTC" in supervisor.health.problem
    script.at_s = 160.0

    assert supervisor.tick() == 160.25
    script.at_s = 160.25

    assert supervisor.tick() == 161.0
    assert (True, "", 2, 1) == (supervisor.health.up, supervisor.health.problem, script.opened, script.closed)
    assert (("released", 1),) == supervisor.health.failures


def test_releasing_twice_extends() -> None:
    """The later end holds, whichever was asked for last; both are told it, and the failure is counted once."""
    script = Script()
    supervisor = Supervisor(script, now=script.now)
    first, longer, shorter = (supervisor.release(limit_s) for limit_s in (30.0, 90.0, 60.0))

    assert supervisor.tick() == 190.0
    assert [190.0] * 3 == [until.mono_s for one in (first, longer, shorter) if (until := one.result(0))]
    script.at_s = 150.0
    supervisor.release(90.0)

    assert supervisor.tick() == 240.0
    assert (("released", 1),) == supervisor.health.failures
    assert (0, 0) == (script.opened, script.closed)


def test_a_resumed_source_is_tried_at_once() -> None:
    """Resuming ends the release early; what is not released is left alone and says so by None."""
    script = Script(0.0, SourceBroken("still away"), 0.0)
    supervisor = Supervisor(script, now=script.now)

    assert supervisor.resume() is None
    supervisor.tick()
    supervisor.release(900.0)
    supervisor.tick()
    tried = supervisor.resume()

    assert supervisor.resume() is None
    assert supervisor.tick() == 101.0
    assert tried is not None
    assert tried.result(0) is None
    assert ("still away", (("broken", 1), ("released", 1))) == (supervisor.health.problem, supervisor.health.failures)


def test_a_release_that_is_overtaken_says_so() -> None:
    """A release that was resumed, or ran out, before the driver returned has no end to tell: it did not close."""
    script = Script(0.0, 0.0)
    supervisor = Supervisor(script, now=script.now)
    resumed = supervisor.release(900.0)
    supervisor.resume()
    supervisor.tick()
    late = supervisor.release(5.0)
    script.at_s += 10.0
    supervisor.tick()

    assert (None, None) == (resumed.result(0), late.result(0))
    assert (1, 0) == (script.opened, script.closed)


def test_a_release_forgets_the_back_off() -> None:
    """What failed for long before it was released is tried with fresh patience afterwards."""
    script = Script(*[SourceBroken("gone")] * 8)
    supervisor = Supervisor(script, now=script.now)
    for _ in range(7):
        supervisor.tick()
    supervisor.release(10.0)
    script.at_s = supervisor.tick()

    assert supervisor.tick() == script.at_s + 1.0


def test_nobody_waits_for_an_answer_that_is_not_wanted() -> None:
    """A client that has gone takes its question with it; the order stands."""
    script = Script(0.0)
    supervisor = Supervisor(script, now=script.now)
    supervisor.release(900.0).cancel()

    assert supervisor.tick() == 1000.0


class Still(Script):
    """A source that is read once an hour, and says from which thread it is touched."""

    period_s = 3600.0

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def open(self) -> None:
        """Note the thread."""
        self.threads.add(threading.get_ident())
        super().open()

    def close(self) -> None:
        """Note the thread."""
        self.threads.add(threading.get_ident())
        super().close()

    def read(self) -> Readout:
        """One good reading."""
        self.threads.add(threading.get_ident())
        return self.well()


def test_orders_wake_the_thread_of_the_source() -> None:
    """Release, resume and the end are carried out at once, though the next read is an hour away, in one thread."""
    source, stop = Still(), Event()
    supervisor = Supervisor(source, now=clock.now)
    thread = supervisor.start(stop)

    assert supervisor.tried.wait(10)
    assert supervisor.release(900.0).result(10) is not None
    assert (1, 1, False) == (source.opened, source.closed, supervisor.health.up)
    tried = supervisor.resume()

    assert tried is not None
    assert tried.result(10) is None
    assert (2, 1, True) == (source.opened, source.closed, supervisor.health.up)
    stop.set()
    supervisor.wake()
    thread.join(10)

    assert not thread.is_alive()
    assert ({thread.ident}, 2) == (source.threads, source.closed)


def test_a_bell_that_was_rung_before_is_heard_once() -> None:
    """However often it was rung; a wait after that lasts until its moment, or until the bell is rung again."""
    bell, heard = clock.Bell(), Event()
    bell.ring()
    bell.ring()
    bell.wait_until(clock.now().mono_s + 3600.0)
    until_s = clock.now().mono_s + 0.05
    bell.wait_until(until_s)

    assert clock.now().mono_s >= until_s
    bell.ring()
    bell.clear()

    def wait() -> None:
        bell.wait_until(clock.now().mono_s + 3600.0)
        heard.set()

    thread = Thread(target=wait, daemon=True)
    thread.start()

    assert not heard.is_set()
    bell.ring()

    assert heard.wait(10)
    thread.join(10)


def test_the_counter_tells_what_was_used_during_a_release(make_driver: MakeDriver) -> None:
    """A counter that survived the release is booked when the source is back: no joule is lost, none unmeasured."""
    driver = make_driver()
    driver.wave(0, 0.0, Const(400.0))
    rig = Rig(driver=driver)
    gpu = driver.uuid(0)
    rig.go(10.0)
    rig.supervisors[0].release(60.0)
    before_j = rig.energy_j(gpu)
    rig.go(30.0)

    assert rig.device(gpu).power_w is None
    assert rig.energy_j(gpu) == pytest.approx(before_j, abs=400.0)
    assert rig.loop.snapshot.sources[0].problem.startswith("released until")
    rig.go(40.0)

    assert rig.device(gpu).power_w == pytest.approx(400.0)
    assert rig.energy_j(gpu) == pytest.approx(400.0 * 80.0, abs=45.0)
    assert (0.0, 0) == (rig.device(gpu).unmeasured_s, rig.device(gpu).resets)


def test_a_driver_reloaded_during_a_release_costs_that_time(make_driver: MakeDriver) -> None:
    """Another driver's counter has nothing to do with the old: that time is unmeasured, joules flow on after it."""
    driver = make_driver([FakeGpu(base_mj=9_000_000_000)])
    driver.wave(0, 0.0, Const(400.0))
    rig = Rig(driver=driver)
    gpu = driver.uuid(0)
    rig.go(10.0)
    rig.supervisors[0].release(60.0)
    rig.go(30.0)
    driver.reload(1035.0)
    driver.set_versions("580.10.01", "13.580.10.01")
    rig.go(60.0)

    assert rig.device(gpu).power_w == pytest.approx(400.0)
    assert rig.device(gpu).unmeasured_s == pytest.approx(61.0, abs=1.5)
    assert rig.energy_j(gpu) == pytest.approx(400.0 * (100.0 - rig.device(gpu).unmeasured_s), abs=45.0)

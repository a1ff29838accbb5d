"""The supervisor: whatever a source does, it ends as a count, one line for people and another try."""

import logging
from itertools import pairwise

import pytest

from monitor.core.model import Component, Device, Instant, ReadFailure, Reading, Readout
from monitor.errors import SourceAbsent, SourceBroken, SourceDenied, SourceError
from monitor.sources.supervisor import Supervisor

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


def test_drain_gives_every_reading_once() -> None:
    """The loop gets what was read since it last asked, oldest first, and the health that belongs to it."""
    script = Script(0.0, 0.0, SourceError("odd"))
    supervisor, _ = play(script)
    readouts, health = supervisor.drain()

    assert [1, 1, 0] == [len(readout.readings) for readout in readouts]
    assert not health.up
    assert ([], health) == supervisor.drain()

"""Starts and ends of runs trigger readings: the edges are exact to the counter's own period, not to the interval."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from monitor import clock
from monitor.core.model import GridState, Instant, LedgerHealth, Run, RunBook
from monitor.core.ports import Source
from monitor.core.snapshot import Policy, Snapshot
from monitor.loop import Loop
from monitor.sources.mock import Mock
from monitor.sources.supervisor import Supervisor
from tests.conftest import MakeDriver
from tests.drivers.nvml import FakeGpu
from tests.drivers.waveform import Const
from tests.harness.rig import Rig

COUNTER_PERIOD_S = 0.02
LOAD_W, IDLE_W = 600.0, 80.0


def energy_j(snapshot: Snapshot, run_id: str = "r") -> float:
    """All joules of a run."""
    return sum(snapshot.runs[run_id].energy_j.values())


def test_a_run_between_two_readings_has_its_own_joules(make_driver: MakeDriver) -> None:
    """A run of 0.7 s within one second is exact to the counter's period at each edge, on each of two GPUs."""
    gpus = [FakeGpu(counter_period_s=COUNTER_PERIOD_S), FakeGpu(counter_period_s=COUNTER_PERIOD_S)]
    driver = make_driver(gpus)
    for gpu in range(2):
        driver.wave(gpu, 900.0, Const(IDLE_W))
        driver.wave(gpu, 1003.15, Const(LOAD_W))
        driver.wave(gpu, 1003.85, Const(IDLE_W))
    rig = Rig(driver=driver)
    holds = frozenset(driver.uuid(gpu) for gpu in range(2))

    rig.go(3.05)
    run = Run(id="r", name="r", start=rig.now(), holds=holds)
    rig.book.append(run)
    rig.edge()
    rig.go(0.7)
    rig.book[:] = [replace(run, end=rig.now())]
    rig.edge()
    snapshot = rig.go(3.0)

    true_j = sum(driver.true_energy_j(gpu, 1003.15, 1003.85) for gpu in range(2))
    assert true_j == pytest.approx(energy_j(snapshot), abs=2 * 2 * COUNTER_PERIOD_S * (LOAD_W - IDLE_W))


def test_without_an_edge_the_interval_is_cut_by_time(make_driver: MakeDriver) -> None:
    """The same run known only from the regular readings is off by far more: the edges are what makes it exact."""
    driver = make_driver([FakeGpu(counter_period_s=COUNTER_PERIOD_S)])
    driver.wave(0, 900.0, Const(IDLE_W))
    driver.wave(0, 1003.15, Const(LOAD_W))
    driver.wave(0, 1003.5, Const(IDLE_W))
    rig = Rig(driver=driver)
    rig.book.append(
        Run(
            id="r",
            name="r",
            start=Instant(1003.15, 0.0),
            end=Instant(1003.5, 0.0),
            holds=frozenset({driver.uuid(0)}),
        )
    )

    snapshot = rig.go(6.0)

    assert driver.true_energy_j(0, 1003.15, 1003.5) != pytest.approx(energy_j(snapshot), rel=0.2)


def test_counters_are_read_at_an_edge_beside_integrated_gpus(make_driver: MakeDriver) -> None:
    """One GPU without a counter makes the source tick ten times a second; an edge still reads the others, too."""
    driver = make_driver([FakeGpu(counter_period_s=COUNTER_PERIOD_S), FakeGpu(arch=4)])
    driver.wave(0, 900.0, Const(IDLE_W))
    driver.wave(0, 1003.15, Const(LOAD_W))
    rig = Rig(driver=driver)

    rig.go(3.05)
    before_s = rig.read_at_s(driver.uuid(0))
    rig.edge()

    assert rig.read_at_s(driver.uuid(0)) > before_s
    assert rig.read_at_s(driver.uuid(0)) == pytest.approx(rig.now().mono_s, abs=0.01)


def test_an_edge_does_not_disturb_the_grid_of_deadlines(make_driver: MakeDriver) -> None:
    """Readings out of turn are no late reads, and the next regular one comes when it was due."""
    driver = make_driver([FakeGpu()])
    rig = Rig(driver=driver)

    rig.go(3.45)
    rig.edge()
    snapshot = rig.go(2.0)

    assert [0] == [health.late_ticks for health in snapshot.sources]
    assert rig.read_at_s(driver.uuid(0)) % 1.0 == pytest.approx(0.0, abs=1e-6)


class Book:
    """No run."""

    def runs(self, at: Instant) -> RunBook:  # noqa: ARG002
        """None."""
        return RunBook()

    def state(self) -> GridState:
        """No feeds."""
        return GridState()

    def intensities(self, at: Instant) -> tuple[()]:  # noqa: ARG002
        """None."""
        return ()


class Keeper:
    """Commits when the test says so."""

    def __init__(self) -> None:
        self.offered: list[tuple[Snapshot, bool]] = []
        self.at_once = threading.Event()

    def offer(self, snapshot: Snapshot, *, at_once: bool = False) -> None:
        """Remember."""
        self.offered.append((snapshot, at_once))
        if at_once:
            self.at_once.set()

    def health(self, at: Instant) -> LedgerHealth:  # noqa: ARG002
        """Well."""
        return LedgerHealth()


def node() -> Source:
    """A simulated node on the real clock."""
    return Mock("training", now=clock.now, interval_s=60.0)


def loop_of(source: Source, keeper: Keeper | None = None, interval_s: float = 60.0) -> Loop:
    """A loop over one source, at so slow a pace that only edges make it turn."""
    return Loop(
        Snapshot(ledger_id="test", policy=Policy()),
        supervisors=[Supervisor(source, now=clock.now)],
        runs=Book(),
        grid=Book(),
        now=clock.now,
        interval_s=interval_s,
        keeper=keeper,
    )


@contextmanager
def at_work(loop: Loop) -> Iterator[None]:
    """The loop and its source in threads of their own."""
    stop = threading.Event()
    threads = [loop.supervisors[0].start(stop), loop.start(stop)]
    try:
        yield
    finally:
        stop.set()
        loop.supervisors[0].wake()
        loop.wake()
        for thread in threads:
            thread.join(5.0)


def test_an_edge_is_answered_at_once_on_the_real_clock() -> None:
    """With a turn a minute, an edge has its reading, its turn and its published snapshot within a second."""
    loop = loop_of(node())
    with at_work(loop):
        asked = clock.now()
        snapshot = loop.edge().result(timeout=5.0)

        assert snapshot is loop.snapshot
        assert snapshot.at is not None
        assert 0.0 <= snapshot.at.mono_s - asked.mono_s < 1.0
        assert all(
            entry.meter.last is not None and entry.meter.last.at.mono_s >= asked.mono_s
            for entry in snapshot.devices.values()
        )


def test_a_thousand_edges_are_coalesced() -> None:
    """However many runs start at once, the sources are read ten times a second, and everybody is answered."""
    source = node()
    loop = loop_of(source)
    with at_work(loop):
        loop.edge().result(timeout=5.0)
        first = clock.now()
        snapshots = {id(future.result(timeout=10.0)): future.result() for future in [loop.edge() for _ in range(1000)]}
        took_s = clock.now().mono_s - first.mono_s

        assert len(snapshots) <= 2 + 10 * took_s


def test_what_is_not_committed_is_not_shown() -> None:
    """An edge is answered, and its snapshot shown, only when the keeper has committed it."""
    keeper = Keeper()
    loop = loop_of(node(), keeper)
    first = loop.snapshot
    with at_work(loop):
        answer = loop.edge()
        assert keeper.at_once.wait(5.0)

        assert not answer.done()
        assert loop.snapshot is first
        committed = keeper.offered[-1][0]
        loop.publish(committed)

        assert answer.result(timeout=5.0) is committed
        assert loop.snapshot is committed


def test_a_slow_commit_suspends_the_promise(make_driver: MakeDriver) -> None:
    """For 3 s an uncommitted snapshot is held back; then it is shown, and a late commit does not turn time back."""
    keeper = Keeper()
    rig = Rig(driver=make_driver([FakeGpu()]), keeper=keeper)

    rig.go(3.0)
    assert rig.loop.snapshot.at is None
    rig.go(2.0)
    shown = rig.loop.snapshot
    assert shown.at is not None
    assert shown.at == rig.loop.head.at

    rig.loop.publish(keeper.offered[0][0])

    assert rig.loop.snapshot is shown

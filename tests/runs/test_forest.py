"""Who belongs to which run, and CPU time that counts once: on made trees with a known truth, and on real processes."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.runs.forest import ROTATION, Forest
from monitor.runs.identity import Process
from monitor.runs.procfs import ProcessFiles, Stat
from tests.harness import poll

TICKS_PER_S = 100
KERNEL_FLAGS = 0x00200000


@dataclass
class Made:
    """A process of the machine below."""

    pid: int
    start: int
    ppid: int
    session: int
    pgrp: int
    state: str = "S"
    own: int = 0
    reaped: int = 0
    flags: int = 0
    comm: str = "made"
    run: str | None = None
    """Whose it is in truth."""


@dataclass
class Machine:
    """A kernel: it forks, burns CPU time, reaps, adopts orphans, and writes /proc as it goes."""

    root: Path
    processes: dict[int, Made] = field(default_factory=dict)
    ticks: int = 1_000
    last_pid: int = 0
    truth: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Ticks that the processes of each run burned since they were of it."""
    subreapers: set[int] = field(default_factory=lambda: {1})

    def begin(self, ppid: int = 1, *, pid: int | None = None, session: bool = False, group: bool = False) -> int:
        """Fork."""
        self.ticks += 1
        if pid is None:
            self.last_pid += 1
            pid = self.last_pid
        above = self.processes.get(ppid)
        made = Made(pid, self.ticks, ppid, above.session if above else pid, above.pgrp if above else pid)
        made.run = above.run if above else None
        if session:
            made.session = made.pgrp = pid
        if group:
            made.pgrp = pid
        self.processes[pid] = made
        self._write(made)
        return pid

    def process(self, pid: int) -> Process:
        """Its identity."""
        return Process(pid, self.processes[pid].start)

    def burn(self, pid: int, ticks: int) -> None:
        """Work."""
        made = self.processes[pid]
        made.own += ticks
        if made.run is not None:
            self.truth[made.run] += ticks
        self._write(made)

    def end(self, pid: int) -> None:
        """Exit: a zombie, its children adopted by the nearest subreaper above."""
        made = self.processes[pid]
        made.state = "Z"
        self._write(made)
        heir = made.ppid
        while heir not in self.subreapers:
            heir = self.processes[heir].ppid
        for child in self.processes.values():
            if child.ppid == pid:
                child.ppid = heir
                self._write(child)

    def reap(self, pid: int, *, ignored: bool = False) -> None:
        """Vanish; the parent is told of the times unless it ignores them."""
        made = self.processes.pop(pid)
        above = self.processes.get(made.ppid)
        if above is not None and not ignored:
            above.reaped += made.own + made.reaped
            self._write(above)
        shutil.rmtree(self.root / str(pid))

    def kill(self, pid: int, *, ignored: bool = False) -> None:
        """Exit, and be reaped at once."""
        self.end(pid)
        self.reap(pid, ignored=ignored)

    def change(self, pid: int, **fields: int | str) -> None:
        """Become another program, leave a session."""
        for name, value in fields.items():
            setattr(self.processes[pid], name, value)
        self._write(self.processes[pid])

    def below(self, pid: int) -> list[Made]:
        """A process and what descends from it."""
        return [
            made
            for made in self.processes.values()
            if made.pid == pid or (made.ppid != made.pid and pid in self._above(made))
        ]

    def mark(self, pid: int, run: str) -> None:
        """In truth it and its descendants are of a run from here on."""
        for made in self.below(pid):
            made.run = run

    def _above(self, made: Made) -> Iterator[int]:
        at: Made | None = made
        while at is not None:
            yield at.ppid
            at = self.processes.get(at.ppid)

    def _write(self, made: Made) -> None:
        directory = self.root / str(made.pid)
        directory.mkdir(exist_ok=True)
        (directory / "stat").write_text(
            f"{made.pid} ({made.comm}) {made.state} {made.ppid} {made.pgrp} {made.session} 0 -1 {made.flags} 0 0 0 0 "
            f"{made.own} 0 {made.reaped} 0 20 0 1 0 {made.start} 0 0\n"
        )


class Counting(ProcessFiles):
    """Notes what is read, and lets things happen before."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, ticks_per_s=TICKS_PER_S)
        self.reads: list[int] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def pids(self) -> list[int]:
        """The kernel lists them by number."""
        return sorted(super().pids())

    def stat_line(self, pid: int) -> bytes | None:
        """Something happens, then it is read."""
        self.meanwhile()
        self.reads.append(pid)
        return super().stat_line(pid)


@dataclass
class World:
    """A machine and who watches it."""

    machine: Machine
    files: Counting
    forest: Forest
    roots: dict[Process, str] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()
    taken: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def look(self, *, whole: bool = True, completed: bool = False) -> None:
        """One turn: look, assign, examine, take."""
        self.files.reads.clear()
        is_whole = self.forest.look(whole=whole)
        self.forest.assign(self.roots, self.alone)
        if completed and not is_whole:
            self.forest.complete()
            self.forest.assign(self.roots, self.alone)
        self.forest.unassigned()
        for run_id, cpu_s in self.forest.take_cpu_s().items():
            assert cpu_s >= 0
            self.taken[run_id] += cpu_s

    def root(self, pid: int, run: str) -> None:
        """A run begins with a process."""
        self.roots[self.machine.process(pid)] = run
        self.machine.mark(pid, run)

    def ticks(self, run: str) -> int:
        """Taken until now."""
        return round(self.taken[run] * TICKS_PER_S)

    def pids(self, run: str) -> set[int]:
        """Living processes of a run."""
        return {process.pid for process in self.forest.processes(run)}


@contextmanager
def made_world() -> Iterator[World]:
    """A machine with an init and a shell, 1 and 2."""
    with tempfile.TemporaryDirectory() as directory:
        machine = Machine(Path(directory))
        machine.begin(0)
        machine.begin(1, session=True)
        files = Counting(machine.root)
        yield World(machine, files, Forest(files))


@pytest.fixture
def world() -> Iterator[World]:
    """The same, looked at once."""
    with made_world() as made:
        made.look()
        yield made


def test_descendants_belong_to_the_nearest_root(world: World) -> None:
    """A run has its root and all below, a run within has what is below its own; others are of none."""
    machine = world.machine
    outer = machine.begin(2)
    child = machine.begin(outer)
    inner = machine.begin(child)
    grandchild = machine.begin(inner)
    other = machine.begin(2)
    world.root(outer, "outer")
    world.look()

    assert world.pids("outer") == {outer, child, inner, grandchild}
    assert not world.forest.containing()
    world.root(inner, "inner")
    world.look()

    assert world.pids("outer") == {outer, child}
    assert world.pids("inner") == {inner, grandchild}
    assert world.forest.processes("inner")[0] == machine.process(inner)
    assert world.forest.owners() == {outer: "outer", child: "outer", inner: "inner", grandchild: "inner"}
    assert [stat.pid for stat in world.forest.line(grandchild)] == [grandchild, inner, child, outer, 2, 1]
    assert other in {stat.pid for stat in world.forest.unassigned()}
    assert world.forest.line(99) == ()
    assert world.forest.containing().keys() == {"outer"}
    assert world.forest.start_s(inner) == machine.processes[inner].start / TICKS_PER_S
    assert world.forest.start_s(99) is None


def test_a_process_stays_in_its_run_when_those_above_die(world: World) -> None:
    """However many die above it, the root among them; its later children are of the run, too."""
    machine = world.machine
    chain = [machine.begin(2)]
    chain += [machine.begin(chain[-1]) for _ in range(1)]
    world.root(chain[0], "run")
    world.look()
    for _ in range(5):
        chain.append(machine.begin(chain[-1]))
        world.look()
        machine.kill(chain.pop(0))
        world.look()

        assert world.pids("run") == set(chain)
    world.roots.clear()
    chain.append(machine.begin(chain[-1]))
    world.look()

    assert world.pids("run") == set(chain)
    assert machine.processes[chain[0]].ppid == 1


def test_orphans_of_a_run_within_another_stay_in_it(world: World) -> None:
    """The root of the inner run dies; what the outer run's subreaper adopts is still of the inner one."""
    machine = world.machine
    outer = machine.begin(2)
    machine.subreapers.add(outer)
    inner = machine.begin(outer)
    worker = machine.begin(inner)
    world.root(outer, "outer")
    world.root(inner, "inner")
    world.look()
    machine.kill(inner)
    world.look()
    late = machine.begin(worker)
    world.look()

    assert machine.processes[worker].ppid == outer
    assert world.pids("inner") == {worker, late}
    world.forest.release("inner")
    world.look()

    assert world.pids("outer") == {outer, worker, late}


@pytest.mark.parametrize("leads", ["session", "group"])
def test_an_orphan_belongs_to_who_leads_its_session_or_group(world: World, leads: str) -> None:
    """First seen when its parent had died, it is known by the session or group that it was born into."""
    machine = world.machine
    root = machine.begin(2, session=leads == "session", group=leads == "group")
    world.root(root, "run")
    world.look()
    parent = machine.begin(root)
    orphan = machine.begin(parent)
    below = machine.begin(orphan)
    machine.burn(orphan, 7)
    machine.kill(parent)
    stranger = machine.begin(1, session=True)
    world.look()

    assert world.pids("run") == {root, orphan, below}
    assert world.ticks("run") == 7
    assert world.forest.owners().get(stranger) is None


def test_a_pipeline_is_no_orphan(world: World) -> None:
    """Who is in the group of a run's root, but has a parent of its own outside, is not of the run."""
    machine = world.machine
    root = machine.begin(2, group=True)
    world.root(root, "run")
    world.look()
    beside = machine.begin(2)
    machine.change(beside, pgrp=root)
    world.look()

    assert world.pids("run") == {root}


def test_an_orphan_of_a_dead_leader(world: World) -> None:
    """The leader may have died in the same look; but not if its run was released meanwhile."""
    machine = world.machine
    for released, number in ((False, 1), (True, 0)):
        root = machine.begin(2, session=True)
        world.root(root, "run")
        world.look()
        parent = machine.begin(root)
        orphan = machine.begin(parent)
        machine.kill(parent)
        machine.kill(root)
        if released:
            world.forest.look()
            world.forest.release("run")
            world.roots.clear()
        world.look()

        assert len(world.pids("run") & {orphan}) == number


def test_a_released_run_charges_no_more(world: World) -> None:
    """Its processes are examined again and may begin another run, which counts them from then on."""
    machine = world.machine
    root = machine.begin(2)
    child = machine.begin(root)
    world.root(root, "one")
    world.look()
    for _ in range(3):
        world.look()
    assert root not in {stat.pid for stat in world.forest.unassigned()}
    machine.burn(child, 5)
    world.forest.look()
    world.forest.release("one")
    world.roots.clear()
    world.forest.assign({})
    assert {stat.pid for stat in world.forest.unassigned()} == {root, child}
    assert world.forest.take_cpu_s() == {"one": 0.05}
    machine.burn(child, 11)
    world.look()
    assert world.forest.processes("one") == []
    world.root(root, "two")
    world.look()
    machine.burn(child, 3)
    world.look()

    assert world.ticks("one") == 0
    assert world.ticks("two") == 3


def test_who_died_lately_is_remembered(world: World) -> None:
    """For two looks, and not under the number of another process."""
    machine = world.machine
    root = machine.begin(2)
    child, other = machine.begin(root), machine.begin(root)
    world.root(root, "run")
    world.look()
    machine.kill(child)
    machine.kill(other)
    world.look()
    assert world.forest.owners() == {root: "run", child: "run", other: "run"}
    assert world.pids("run") == {root}
    machine.begin(2, pid=other)
    world.look()
    assert world.forest.owners() == {root: "run", child: "run"}
    world.look()

    assert world.forest.owners() == {root: "run"}


def test_a_number_that_was_given_anew(world: World) -> None:
    """Another start is another process: at once where the number was of a run, within a minute elsewhere."""
    machine = world.machine
    root = machine.begin(2)
    child, other = machine.begin(root), machine.begin(2)
    world.root(root, "run")
    machine.burn(child, 10)
    world.look()
    machine.kill(child)
    machine.kill(other)
    machine.begin(2, pid=child)
    machine.burn(child, 10_000)
    machine.begin(root, pid=other)
    world.look()

    assert child not in world.pids("run")
    for _ in range(ROTATION):
        world.look()
    assert world.pids("run") == {root, other}
    assert world.ticks("run") == 10


def test_who_is_examined(world: World) -> None:
    """New processes, twice, under the name that they have by then; no kernel threads, no zombies, none of a run."""
    machine = world.machine
    for _ in range(3):
        world.look()
    assert list(world.forest.unassigned()) == []
    machine.change(machine.begin(0), flags=KERNEL_FLAGS)
    machine.end(machine.begin(2))
    machine.begin(2)
    root = machine.begin(2)
    world.root(root, "run")
    new = machine.begin(2)
    world.look()
    assert {stat.comm for stat in world.forest.unassigned() if stat.pid == new} == {"made"}
    machine.change(new, comm="python")
    world.look()
    assert {stat.comm for stat in world.forest.unassigned() if stat.pid == new} == {"python"}
    world.look()

    assert list(world.forest.unassigned()) == []


def test_looks_at_edges_of_runs_examine_nobody(world: World) -> None:
    """However many runs begin and end meanwhile, a new process is examined twice, under its name of then."""
    machine = world.machine
    world.look()
    new = machine.begin(2)
    for _ in range(5):
        world.forest.look()
        world.forest.assign(world.roots, world.alone)
    machine.change(new, comm="python")
    for _ in range(2):
        world.look()

        assert {stat.comm for stat in world.forest.unassigned() if stat.pid == new} == {"python"}
    world.look()

    assert new not in {stat.pid for stat in world.forest.unassigned()}


def test_what_is_read(world: World) -> None:
    """Processes of runs in each look; others, and those of runs that a cgroup tells of, once in a rotation."""
    machine = world.machine
    root, apart = machine.begin(2), machine.begin(2)
    timed = {root, *(machine.begin(root) for _ in range(5))}
    others = {machine.begin(2) for _ in range(20)} | {apart, *(machine.begin(apart) for _ in range(5))}
    world.root(root, "run")
    world.root(apart, "apart")
    world.alone = frozenset({"apart"})
    world.look()
    world.look()
    seen = []
    for _ in range(ROTATION):
        world.look()
        assert timed <= set(world.files.reads)
        assert len(world.files.reads) == len(set(world.files.reads)) <= len(timed) + 6
        seen += [pid for pid in world.files.reads if pid in others]

    assert sorted(seen) == sorted(others)
    assert "apart" not in world.taken


def test_what_cannot_be_read_is_not_asked_each_time(world: World) -> None:
    """Listed but hidden (hidepid=1): asked again once in a rotation."""
    (world.machine.root / "1000").mkdir()
    asked = 0
    for _ in range(1 + ROTATION):
        world.look()
        asked += world.files.reads.count(1000)

    assert 2 == asked
    assert world.forest.owners() == {}


def test_time_before_a_run_is_not_its(world: World) -> None:
    """A root that registers in the middle of its life counts from there, with its children, dead or alive."""
    machine = world.machine
    root = machine.begin(2)
    child, ends = machine.begin(root), machine.begin(root)
    for pid in (root, child, ends):
        machine.burn(pid, 1_000)
    world.look()
    machine.burn(root, 500)
    world.look()
    world.root(root, "run")
    world.look()
    assert world.ticks("run") == 0
    machine.burn(ends, 3)
    machine.burn(child, 4)
    machine.kill(ends)
    world.look()
    machine.kill(child)
    world.look()

    assert world.ticks("run") == 7


def test_a_process_that_began_after_the_last_look_counts_from_its_start(world: World) -> None:
    """Also where its run is known only by a second telling after the same look."""
    machine = world.machine
    root = machine.begin(2)
    machine.burn(root, 30)
    world.forest.look()
    world.forest.assign({})
    world.forest.assign({machine.process(root): "run"})

    assert world.forest.take_cpu_s() == {"run": 0.3}


def test_a_run_within_takes_its_time_with_it(world: World) -> None:
    """Until it registers its time is the outer one's, then its own; reaped by the outer one it counts not again."""
    machine = world.machine
    outer = machine.begin(2)
    inner = machine.begin(outer)
    world.root(outer, "outer")
    machine.burn(inner, 100)
    world.look()
    world.root(inner, "inner")
    world.look()
    machine.burn(inner, 40)
    world.look()
    machine.end(inner)
    world.look()
    machine.reap(inner)
    world.look()

    assert world.ticks("outer") == 100
    assert world.ticks("inner") == 40


def test_a_run_within_that_a_cgroup_tells_of(world: World) -> None:
    """What the outer run reaps of it is not the outer one's."""
    machine = world.machine
    outer = machine.begin(2)
    inner = machine.begin(outer)
    below = machine.begin(inner)
    world.root(outer, "outer")
    world.root(inner, "inner")
    world.alone = frozenset({"inner"})
    world.look()
    machine.burn(inner, 40)
    machine.burn(below, 60)
    world.look()
    machine.kill(below)
    machine.kill(inner)
    world.look()

    assert world.taken == {"outer": 0.0}


def test_children_that_are_not_waited_for(world: World) -> None:
    """SIGCHLD is ignored: what was seen of a child counts, and takes nothing off from others."""
    machine = world.machine
    root = machine.begin(2)
    child, other = machine.begin(root), machine.begin(root)
    world.root(root, "run")
    machine.burn(child, 50)
    machine.burn(other, 20)
    world.look()
    machine.kill(child, ignored=True)
    machine.burn(root, 5)
    machine.burn(other, 9)
    machine.end(other)
    world.look()
    machine.reap(other)
    world.look()

    assert world.ticks("run") == 84


def test_after_a_restart(world: World) -> None:
    """A run goes on from what it had, what passed meanwhile is its; and never less than nothing."""
    machine = world.machine
    root = machine.begin(2)
    ends = machine.begin(root)
    world.root(root, "run")
    machine.burn(root, 100)
    machine.burn(ends, 50)
    world.look()
    raw_s = world.forest.raw_cpu_s("run")
    assert raw_s == 1.5
    machine.burn(ends, 5)
    machine.kill(ends)
    machine.burn(root, 20)
    for told_s, expected_s in ((raw_s, 0.25), (9.0, 0.0)):
        again = Forest(ProcessFiles(machine.root, ticks_per_s=TICKS_PER_S))
        again.adopt_cpu_s("run", told_s)
        again.look()
        again.assign(world.roots)

        assert again.take_cpu_s() == {"run": pytest.approx(expected_s)}
    machine.burn(root, 1)
    again.look()
    again.assign(world.roots)

    assert again.take_cpu_s() == {"run": 0.01}


class Orphans(Enum):
    """What becomes of the children of the dead."""

    NONE = "every parent outlives its children, and waits for them"
    WITHIN = "the run's root adopts them, and waits for them"
    LOST = "init adopts them, and some parents ignore SIGCHLD"


class History:
    """Things that happen on a machine with a run (root 3) beside a shell, drawn by chance."""

    def __init__(self, world: World, chance: random.Random, orphans: Orphans) -> None:
        self.machine = world.machine
        self.chance = chance
        self.orphans = orphans
        self.root = self.machine.begin(2, session=True)
        world.root(self.root, "run")
        if orphans is Orphans.WITHIN:
            self.machine.subreapers.add(self.root)

    def happen(self) -> None:
        """One thing."""
        machine, chance = self.machine, self.chance
        everyone = machine.processes.values()
        pid = chance.choice([made.pid for made in everyone if made.run and made.state != "Z"])
        may_end = pid != self.root
        if self.orphans is Orphans.NONE:
            may_end &= all(made.ppid != pid for made in everyone)
        ignored = self.orphans is Orphans.LOST and chance.random() < 0.3
        match chance.randrange(6):
            case 0 | 1:
                machine.begin(pid)
            case 2:
                machine.burn(pid, chance.choice((1, 10, 1_000)))
            case 3 if may_end:
                machine.end(pid)
            case 4 if may_end:
                machine.kill(pid, ignored=ignored)
            case 5:
                zombies = [made.pid for made in everyone if made.state == "Z"]
                if zombies:
                    machine.reap(chance.choice(zombies), ignored=ignored)


@pytest.mark.parametrize("spared", [False, True])
@pytest.mark.parametrize(
    ("orphans", "races"),
    [(Orphans.NONE, False), (Orphans.NONE, True), (Orphans.WITHIN, False), (Orphans.LOST, False), (Orphans.LOST, True)],
)
@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_all_time_counts_once(
    orphans: Orphans,
    races: bool,  # noqa: FBT001
    spared: bool,  # noqa: FBT001
    seed: int,
    busy: int,
) -> None:
    """Whatever is forked, burned, ended and reaped, with `races` also between the reads of a look.

    It is exactly what was burned, once all is still; never more where some of it is lost. With `spared` some looks are
    not whole, and some of these are completed.
    """
    with made_world() as world:
        chance = random.Random(seed)
        world.look()
        history = History(world, chance, orphans)
        if races:
            world.files.meanwhile = lambda: history.happen() if chance.random() < 0.3 else None
        for _ in range(10):
            for _ in range(chance.randrange(busy)):
                history.happen()
            if spared and chance.random() < 0.7:
                world.look(whole=False, completed=chance.random() < 0.3)
            else:
                world.look()
        world.files.meanwhile = lambda: None
        world.look()
        world.look()

        living = {made.pid for made in world.machine.processes.values() if made.run}
        assert {pid for pid in living if world.forest.owners().get(pid) == "run"} == living
        if orphans is Orphans.LOST:
            assert world.ticks("run") <= world.machine.truth["run"]
        else:
            assert world.ticks("run") == world.machine.truth["run"]


BUSY = """
import ctypes, os, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to us

def burn(cpu_s):
    while time.process_time() < cpu_s:
        pass

def fork(work):
    pid = os.fork()
    if not pid:
        work()
        os._exit(0)
    return pid

def chain(depth):  # each dies before its child, which is an orphan
    burn(0.02)
    if depth:
        fork(lambda: chain(depth - 1))

def brood():  # waits for its own
    for _ in range(3):
        fork(lambda: burn(0.02))
    burn(0.05)
    for _ in range(3):
        os.wait()

def double():
    fork(lambda: fork(lambda: burn(0.04)) and None)

for _ in range(int(sys.argv[1])):
    for work in (lambda: burn(0.01), brood, double, lambda: chain(3)):
        fork(work)
    os.system("i=0; while [ $i -lt 5 ]; do cat /dev/null; i=$((i + 1)); done")
    time.sleep(0.02)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
print("still", flush=True)
input()
"""


def real_world() -> tuple[Forest, ProcessFiles]:
    """The machine we are on, looked at once."""
    files = ProcessFiles()
    forest = Forest(files)
    forest.look()
    forest.assign({})
    return forest, files


def told(files: ProcessFiles, pid: int) -> Stat:
    """A process that is there."""
    stat = files.stat(pid)

    assert stat is not None
    return stat


@pytest.mark.parametrize("rounds", [1, 8])
def test_all_time_of_real_processes_counts_once(rounds: int) -> None:
    """Short-lived ones, broods, double forks, chains of dying parents: the sum is what the kernel says at the end."""
    forest, files = real_world()
    taken_s = 0.0
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, str(rounds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as root:
        assert root.stdout is not None
        os.set_blocking(root.stdout.fileno(), False)
        roots = {told(files, root.pid).process: "run"}

        def look() -> str:
            nonlocal taken_s
            forest.look()
            forest.assign(roots)
            taken_s += forest.take_cpu_s()["run"]
            assert root.stdout is not None
            return root.stdout.readline()

        poll.until(look, what="the end of the work", every_s=0.03)
        look()
        end = told(files, root.pid)
        root.kill()

    assert end.reaped_ticks >= rounds * 0.2 * files.ticks_per_s
    assert taken_s * files.ticks_per_s == pytest.approx(end.own_ticks + end.reaped_ticks, abs=3)


def test_a_real_root_that_ended_still_tells() -> None:
    """A zombie shows its final times; once it has been reaped nothing more comes, and nothing negative."""
    forest, files = real_world()
    code = "import time\nwhile time.process_time() < 0.2: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as root:
        roots = {told(files, root.pid).process: "run"}
        poll.until(lambda: told(files, root.pid).has_ended, what="the end of a burner")
        forest.look()
        forest.assign(roots)
        end = told(files, root.pid)
        assert forest.take_cpu_s()["run"] * files.ticks_per_s == end.own_ticks + end.reaped_ticks
        assert forest.processes("run") == []
    forest.look()
    forest.assign({})

    assert forest.take_cpu_s() == {}
    assert forest.owners().get(root.pid) == "run"
    assert forest.line(os.getpid())[1].pid == os.getppid()

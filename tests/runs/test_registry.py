"""The book of runs on a clock and processes of our own: who owns what, what it counts, and what is shown."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from monitor.core.model import Component, Device, Instant, Phase, Progress, Run
from monitor.core.snapshot import RunTotals
from monitor.errors import FailureError
from monitor.runs.book import Limits
from monitor.runs.entry import MOST_PHASE_NAMES
from monitor.runs.identity import Process
from monitor.runs.memory import owner_of
from monitor.runs.registry import Registry, Started
from monitor.runs.tally import MOST_REPORTERS, told
from monitor.runs.wish import Wish

ANN, BOB = 1000, 1001
USERS = {ANN: "ann", BOB: "bob"}
GPUS = [
    Device(id=f"gpu-{index}", component=Component.GPU, source="fake", max_power_w=700.0, index=str(index))
    for index in range(4)
]


@dataclass
class Node:
    """A registry, its clock, its processes, and a ledger."""

    at_s: float = 1000.0
    boot_s: float = 1.79e9
    devices: list[Device] = field(default_factory=lambda: list(GPUS))
    living: set[Process] = field(default_factory=set)
    ledger: dict[str, RunTotals] = field(default_factory=dict)
    returned: list[str] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
    last_pid: int = 100

    def __post_init__(self) -> None:
        self.book = self.restarted()

    def restarted(self) -> Registry:
        """The registry of a new daemon."""
        self.book = Registry(
            now=self.now,
            devices=lambda: self.devices,
            processes=self,
            remembered=self.ledger.get,
            on_return=lambda totals: self.returned.append(totals.run.id),
            user_of=lambda uid: USERS.get(uid, str(uid)),
            limits=self.limits,
        )
        return self.book

    def now(self) -> Instant:
        """The time."""
        return Instant(self.at_s, self.boot_s + self.at_s)

    def alive(self, process: Process) -> bool:
        """Whether the process lives."""
        return process in self.living

    def process(self) -> Process:
        """A new process."""
        self.last_pid += 1
        process = Process(self.last_pid, self.last_pid * 10)
        self.living.add(process)
        return process

    def kill(self, process: Process) -> bool:
        """End a process, and tell; whether a run ended with it."""
        self.living.discard(process)
        return self.book.process_ended(process)

    def start(self, run_id: str, uid: int = ANN, process: Process | None = None, **wish: object) -> Started:
        """Start a run by a new process, unless one is named."""
        return self.book.start(Wish(id=run_id, **wish), uid, process or self.process())  # type: ignore[arg-type]

    def shown(self) -> dict[str, Run]:
        """What is shown now."""
        return {run.id: run for run in self.book.runs(self.now()).runs}

    def report(self, run_id: str, process: Process, uid: int = ANN, **counts: float) -> Progress:
        """Report, and return how far the run is."""
        self.book.progress(run_id, uid, process, told(**counts))
        run = self.book.get(run_id)

        assert run is not None
        return run.progress


@pytest.fixture
def node() -> Node:
    """A node with four GPUs and two users."""
    return Node()


def totals(run: Run, duration_s: float = 0.0) -> RunTotals:
    """A run as the ledger keeps it."""
    return RunTotals(run=run, energy_j=MappingProxyType({}), emissions_g=MappingProxyType({}), duration_s=duration_s)


# -- starting, joining, ending ---------------------------------------------------------------------------------------


def test_a_run_is_shown_from_start_to_end_and_a_while_on(node: Node) -> None:
    """It begins with its first process and ends with its last; ended, it is shown for fifteen minutes."""
    one, two = node.process(), node.process()
    started = node.start("r", process=one, name="Demo", tags=(("k", "v"),), project="p", launcher="slurm", job_id="7")
    node.at_s += 10.0
    joined = node.start("r", process=two)

    assert (False, True) == (started.joined, joined.joined)
    run = node.shown()["r"]

    assert ("Demo", "ann", "p", "slurm", "7") == (run.name, run.user, run.project, run.launcher, run.job_id)
    assert (("k", "v"),) == run.tags
    assert frozenset(gpu.id for gpu in GPUS) == run.holds
    assert run.start.mono_s == 1000.0
    assert not node.kill(one)
    node.at_s += 10.0

    assert node.kill(two)
    end = node.shown()["r"].end

    assert end is not None
    assert end.mono_s == 1020.0
    node.at_s += 899.0

    assert "r" in node.shown()
    node.at_s += 1.0

    assert {} == node.shown()


def test_the_same_object_is_shown_until_something_changes(node: Node) -> None:
    """The loop may tell by identity what is new: an ended run stays the same object beside a live one that reports."""
    over, going = node.process(), node.process()
    node.start("over", process=over)
    node.kill(over)
    node.start("going", process=going)
    before = node.book.runs(node.now())
    node.book.phase("going", ANN, "")
    node.at_s += 1.0

    assert node.book.runs(node.now()) is before
    node.report("going", going, steps=1)
    after = node.book.runs(node.now())

    assert [True, False] == [one is other for one, other in zip(before.runs, after.runs, strict=True)]


def test_an_id_of_another_user_becomes_ones_own(node: Node) -> None:
    """Bob's `r` is r@bob, whenever he says r; it is no way into Ann's, alive or ended."""
    hers, his = node.process(), node.process()
    node.start("r", process=hers)

    assert node.start("r", BOB, his).run.id == "r@bob"
    assert node.start("r", BOB).joined
    node.report("r@bob", his, BOB, steps=5)
    node.book.progress("r", BOB, his, told(steps=7))
    node.kill(hers)

    assert node.start("r", BOB).run.id == "r@bob"
    shown = node.shown()

    assert (None, 7) == (shown["r"].progress.steps, shown["r@bob"].progress.steps)
    assert shown["r"].end is not None


def test_an_id_of_another_user_in_the_ledger_is_not_taken(node: Node) -> None:
    """Also a run that only the ledger remembers is its owner's, and so is one whose owner nobody can tell."""
    process = node.process()
    run = node.start("r", process=process).run
    node.ledger = {"r": totals(run), "x": totals(replace(run, id="x", memory="?"))}
    node.restarted()

    assert node.start("r", BOB).run.id == "r@bob"
    assert node.start("x", BOB).run.id == "x@bob"
    assert node.book.owner("r@bob") == BOB
    assert owner_of(run) == ANN == node.book.owner("r")
    assert node.book.owner("nothing") is None


def test_a_name_that_looks_like_another_users_is_no_key_to_it(node: Node) -> None:
    """Only Bob ever has an id that ends in @bob: whoever else asks for r@bob keeps him out of nothing."""
    node.start("r", ANN)

    assert node.start("r@bob", ANN).run.id == "r@bob@ann"
    assert node.start("r", BOB).run.id == "r@bob"
    assert node.start("r@bob", BOB).joined
    assert ["r", "r@bob@ann", "r@bob"] == [run_id for run_id, run in node.shown().items() if run.end is None]


@pytest.mark.parametrize("what", ["join", "progress", "phase", "end"])
def test_anothers_run_is_not_to_be_touched(node: Node, what: str) -> None:
    """Another user can neither join, feed, rename a phase of, nor end a run; an unknown one is told with the remedy."""
    process, stranger = node.process(), node.process()
    node.start("r", process=process)
    before = node.shown()
    does: dict[str, Callable[[str], object]] = {
        "join": lambda run_id: node.book.join(run_id, BOB, stranger),
        "progress": lambda run_id: node.book.progress(run_id, BOB, stranger, told(steps=1)),
        "phase": lambda run_id: node.book.phase(run_id, BOB, "eval"),
        "end": lambda run_id: node.book.end(run_id, BOB, process.pid),
    }
    with pytest.raises(FailureError, match="run 'r' belongs to another user"):
        does[what]("r")
    with pytest.raises(FailureError, match="no run 's'; start it first"):
        does[what]("s")

    assert before == node.shown()


def test_a_run_ends_with_its_last_member(node: Node) -> None:
    """A member may end its part; one that is none is refused with those that are; ended is ended, said again."""
    one, two = node.process(), node.process()
    node.start("r", process=one)
    node.book.join("r", ANN, two)

    assert not node.book.end("r", ANN, one.pid).ended
    with pytest.raises(FailureError, match=f"process {one.pid} is no member of run 'r'; its members: {two.pid}"):
        node.book.end("r", ANN, one.pid)
    assert node.book.end("r", ANN, two.pid).ended
    assert node.book.end("r", ANN, two.pid).ended
    with pytest.raises(FailureError, match="run 'r' has ended; start it again"):
        node.book.phase("r", ANN, "eval")
    with pytest.raises(FailureError, match="run 'r' has ended; start it again"):
        node.report("r", two, steps=1)


def test_a_run_of_a_process_that_has_gone_has_ended(node: Node) -> None:
    """Who starts a run and is gone before it is looked at leaves an ended run, not one for ever."""
    run = node.book.start(Wish(id="r"), ANN, None).run

    assert run.start == run.end
    assert () == node.book.live()


def test_a_requeued_run_goes_on(node: Node) -> None:
    """Started again after its end: same start, active time only, counts on top, and what it holds now."""
    first = node.process()
    node.start("r", process=first, name="first", hints=(("CUDA_VISIBLE_DEVICES", "0"),))
    node.report("r", first, steps=100, tokens=1000)
    node.at_s += 60.0
    node.kill(first)
    node.at_s += 600.0
    second = node.process()
    again = node.start("r", process=second, hints=(("CUDA_VISIBLE_DEVICES", "1"),))
    node.at_s += 30.0
    progress = node.report("r", second, steps=10, tokens=100)
    run = node.shown()["r"]

    assert not again.joined
    assert (1000.0, 1660.0, 60.0, None) == (run.start.mono_s, run.since.mono_s, run.before_s, run.end)
    assert (110, 1100) == (progress.steps, progress.tokens)
    assert {"gpu-1"} == run.holds
    assert run.name == "first"


def test_a_run_that_only_the_ledger_knows_goes_on(node: Node) -> None:
    """Its totals are handed on before the book shows it; it keeps its start, its active time and its counts."""
    first = node.process()
    node.start("r", process=first, name="mine")
    node.report("r", first, steps=100)
    node.at_s += 60.0
    node.kill(first)
    node.ledger["r"] = totals(node.shown()["r"], duration_s=60.0)
    node.at_s += 9000.0
    node.restarted()
    second = node.process()
    started = node.start("r", process=second, name="anew")
    run = node.shown()["r"]

    assert ["r"] == node.returned
    assert started.returned == node.ledger["r"]
    assert (1000.0, 10060.0, 60.0, "anew") == (run.start.mono_s, run.since.mono_s, run.before_s, run.name)
    assert node.report("r", second, steps=5).steps == 105
    assert node.start("r").joined
    assert ["r"] == node.returned


def test_a_ledger_that_cannot_be_read_keeps_nobody_from_starting(node: Node) -> None:
    """The run begins; what the ledger might have known of it is not there."""

    def broken(_run_id: str) -> RunTotals | None:
        raise FailureError("the ledger cannot be read")

    book = Registry(now=node.now, devices=lambda: GPUS, processes=node, remembered=broken)

    assert book.start(Wish(id="r"), ANN, node.process()).run.id == "r"


# -- names -----------------------------------------------------------------------------------------------------------


def test_names_are_cleaned_and_counted(node: Node) -> None:
    """What had to be cut or cleaned is counted, name by name; quotes stay."""
    started = node.start("i\nd", name='a "quoted"\nname', tags=(("k", "x" * 10_000),), project="p" * 500)
    node.book.phase("i\nd", ANN, "e" * 500)
    book = node.book.runs(node.now())

    assert started.altered
    assert ("i d", 'a "quoted" name') == (book.runs[0].id, book.runs[0].name)
    assert (200, 128, 64) == (len(book.runs[0].tags[0][1]), len(book.runs[0].project), len(book.runs[0].phases[0].name))
    assert book.altered == 5
    with pytest.raises(FailureError, match="the id is empty"):
        node.start(" \n ")


def test_the_first_process_to_name_a_live_run_has_the_say(node: Node) -> None:
    """Ranks that join may add what is missing, and rename nothing."""
    node.start("r")

    assert node.shown()["r"].name == "r"
    node.start("r", name="demo", project="p")
    node.start("r", name="other", project="q")
    run = node.shown()["r"]

    assert ("demo", "p") == (run.name, run.project)


# -- what is held ----------------------------------------------------------------------------------------------------


def test_a_tag_names_the_project_where_nothing_else_does(node: Node) -> None:
    """The account of a scheduler goes before it."""
    tags = (("project", "llm"),)

    assert node.start("tagged", process=node.process(), tags=tags).run.project == "llm"
    assert node.start("both", process=node.process(), tags=tags, project="account").run.project == "account"


def test_ranks_hold_together_what_each_was_given(node: Node) -> None:
    """One GPU to a rank: the run holds those of all."""
    for index in (2, 0):
        node.start("r", hints=(("CUDA_VISIBLE_DEVICES", str(index)),))

    assert {"gpu-0", "gpu-2"} == node.shown()["r"].holds


def test_devices_that_come_later_are_held(node: Node) -> None:
    """What a run holds is found anew as devices come; one that falls out of sight it still holds."""
    node.devices = []
    node.start("r", hints=(("CUDA_VISIBLE_DEVICES", "1,2"),))

    assert set() == node.shown()["r"].holds
    node.devices = list(GPUS)

    assert {"gpu-1", "gpu-2"} == node.shown()["r"].holds
    node.devices = GPUS[:2]

    assert {"gpu-1", "gpu-2"} == node.shown()["r"].holds


# -- room ------------------------------------------------------------------------------------------------------------


def test_ten_thousand_starts_are_borne(node: Node) -> None:
    """The newest runs of a flood are alive, the newest ended are shown, the rest is counted; all within seconds."""
    node.start("bobs", BOB)
    began_s = time.process_time()
    for index in range(10_000):
        node.start(f"r{index}", process=Process(index + 1, index + 1))
    took_s = time.process_time() - began_s
    book = node.book.runs(node.now())
    alive = [run.id for run in book.runs if run.end is None]

    assert ["bobs", *(f"r{index}" for index in range(9745, 10_000))] == alive
    assert [f"r{index}" for index in range(9645, 9745)] == [run.id for run in book.runs if run.end is not None]
    assert 10_001 - 256 == book.dropped
    assert took_s < 10.0


def test_whoever_has_the_most_makes_room(node: Node) -> None:
    """A user's first run finds room in that of another's flood; where everybody has one, the next is refused."""
    node.limits = Limits(live=3)
    node.restarted()
    for index in range(3):
        node.start(f"a{index}")
    node.start("b", BOB)

    assert ("a1", "a2", "b") == node.book.live()
    node.start("c", 1002)

    assert ("a2", "b", "c") == node.book.live()
    with pytest.raises(FailureError, match="3 runs are alive on this node"):
        node.start("d", 1003)
    assert ("a2", "b", "c") == node.book.live()
    assert node.book.runs(node.now()).dropped == 3


def test_processes_are_bounded(node: Node) -> None:
    """Neither a run nor a user takes more processes than it may; nothing is left behind by who was refused."""
    node.limits = Limits(members=2, members_of_user=3)
    node.restarted()
    node.start("r")
    node.start("r")
    with pytest.raises(FailureError, match="'r' has 2 processes; it takes no more"):
        node.start("r")
    node.start("s")
    with pytest.raises(FailureError, match="your runs have 3 processes on this node"):
        node.start("t")
    node.start("t", BOB)

    assert ("r", "s", "t") == node.book.live()
    assert node.book.owner("t") == BOB


def test_forgotten_runs_are_not_shown(node: Node) -> None:
    """Ended ones go at once; a live one stays."""
    over = node.process()
    node.start("over", process=over)
    node.kill(over)
    node.start("alive")
    node.book.forget(["over", "alive", "unknown"])

    assert {"alive"} == set(node.shown())


# -- progress --------------------------------------------------------------------------------------------------------


def test_ranks_count_together(node: Node) -> None:
    """Steps are those of the furthest, tokens and samples of all; a count told again, or lower, changes nothing."""
    one, two = node.process(), node.process()
    node.start("r", process=one)
    node.report("r", one, steps=10, tokens=100, samples=4, done=1, total=4)
    node.report("r", two, steps=11, tokens=110)
    node.report("r", two, steps=3, tokens=110)

    assert Progress(steps=11, tokens=210, samples=4, done_ratio=0.25) == node.report("r", one, done=1, total=4)
    assert node.report("r", one, done=9, total=4).done_ratio == 1.0


def test_what_restarts_within_a_run_goes_on(node: Node) -> None:
    """An elastic restart: once all that reported have gone, the counts of the next come on top, told or not yet."""
    agent, *ranks = [node.process() for _ in range(5)]
    node.start("r", process=agent)
    node.report("r", ranks[0], steps=10, tokens=100)
    node.report("r", ranks[1], steps=9, tokens=100)
    node.kill(ranks[0])
    node.living.discard(ranks[1])  # its end is not told yet

    assert Progress(steps=11, tokens=201) == node.report("r", ranks[2], steps=1, tokens=1)
    assert Progress(steps=12, tokens=202) == node.report("r", ranks[3], steps=2, tokens=1)
    node.book.process_ended(ranks[1])

    assert Progress(steps=13, tokens=203) == node.report("r", ranks[3], steps=3, tokens=2)


def test_last_words_come_late(node: Node) -> None:
    """What a process said before it ended counts, though it is read after; it is not counted twice."""
    process = node.process()
    node.start("r", process=process)
    node.report("r", process, steps=10, tokens=100)
    node.kill(process)

    assert node.book.known_process("r", ANN, process.pid) == process
    assert Progress(steps=12, tokens=120) == node.report("r", process, steps=12, tokens=120)


def test_one_process_may_run_twice(node: Node) -> None:
    """A process that ended its part and starts again counts from its own beginning: on top."""
    process = node.process()
    node.start("r", process=process)
    node.report("r", process, steps=10)
    node.book.end("r", ANN, process.pid)
    node.start("r", process=process)

    assert node.report("r", process, steps=1).steps == 11


def test_many_reporters_are_merged(node: Node) -> None:
    """Of thousands of short ones no count is lost; beyond 256 that live the next is refused."""
    agent = node.process()
    node.start("r", process=agent)
    node.report("r", agent, tokens=1)
    for _ in range(2 * MOST_REPORTERS):
        worker = node.process()
        node.report("r", worker, tokens=1, steps=3)
        node.kill(worker)

    assert Progress(steps=3, tokens=1 + 2 * MOST_REPORTERS) == node.shown()["r"].progress
    for _ in range(MOST_REPORTERS - 1):
        node.report("r", node.process(), tokens=1)
    with pytest.raises(FailureError, match="256 processes report"):
        node.report("r", node.process(), tokens=1)


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({"steps": -1}, "steps: expected a number from 0 to 1e18"),
        ({"tokens": float("nan")}, "tokens: expected a number"),
        ({"tokens": float("inf")}, "tokens: expected a number"),
        ({"samples": 1e19}, "samples: expected a number from 0 to 1e18"),
        ({"steps": True}, "steps: expected a number"),
        ({"steps": 1.5}, "steps = 1.5: expected a whole number"),
        ({"done": 1}, "done and total go together"),
        ({"done": 1, "total": 0}, "total = 0"),
    ],
)
def test_what_is_no_count_is_refused(counts: dict[str, float], says: str) -> None:
    """Negative, not a number, a truth value, or beyond reason: one line that says what is expected."""
    with pytest.raises(FailureError, match=says):
        told(**counts)


# -- phases ----------------------------------------------------------------------------------------------------------


def test_phases_are_changes(node: Node) -> None:
    """The changes of the last minute and the one before; the same again is none; "" ends a phase."""
    node.start("r")
    for name in ("train", "train", "eval", ""):
        node.book.phase("r", ANN, name)
        node.at_s += 50.0

    assert (Phase("train", 1000.0), Phase("eval", 1100.0), Phase("", 1150.0)) == node.shown()["r"].phases
    node.book.phase("r", ANN, "train")

    assert (Phase("eval", 1100.0), Phase("", 1150.0), Phase("train", 1200.0)) == node.shown()["r"].phases


def test_phase_names_are_bounded(node: Node) -> None:
    """Thirty-two names a run: those beyond are together the phase `other`."""
    node.start("r")
    for index in range(1000):
        node.book.phase("r", ANN, f"epoch {index}")
        node.at_s += 0.001
    names = [phase.name for phase in node.shown()["r"].phases]

    assert names[-1] == "other"
    assert MOST_PHASE_NAMES + 1 == len(names)


# -- over restarts ---------------------------------------------------------------------------------------------------


def test_a_restarted_daemon_goes_on_with_what_lives(node: Node) -> None:
    """A run with a living process is as it was, but for the dead; its counts go on; its owner owns it."""
    one, two = node.process(), node.process()
    node.start("r", process=one, name="demo", hints=(("CUDA_VISIBLE_DEVICES", "1"),))
    node.start("r", process=two)
    node.report("r", one, steps=10, tokens=100)
    node.report("r", two, steps=11, tokens=100)
    node.book.phase("r", ANN, "eval")
    before = node.shown()["r"]
    node.living.discard(one)
    node.at_s += 30.0
    node.restarted().restore([totals(before)], at=Instant(1000.0, 0.0), same_boot=True)
    after = node.shown()["r"]

    assert replace(after, memory="") == replace(before, memory="")
    assert {two} == node.book.members()
    assert node.report("r", two, steps=12, tokens=101).tokens == 201
    assert node.start("r").joined
    assert node.start("r", BOB).run.id == "r@bob"


def test_a_restarted_daemon_ends_what_died(node: Node) -> None:
    """A run whose processes died meanwhile ended at the last commit; one that had ended is shown for its time."""
    over, dead = node.process(), node.process()
    node.start("over", process=over)
    node.kill(over)
    node.at_s += 100.0
    node.start("r", process=dead)
    before = node.shown()
    node.living.clear()
    node.at_s += 600.0
    at = Instant(1150.0, node.boot_s + 1150.0)
    node.restarted().restore(map(totals, before.values()), at=at, same_boot=True)
    after = node.shown()

    assert after["over"] is before["over"]
    assert at == after["r"].end
    node.at_s += 200.0

    assert {"r"} == set(node.shown())


def test_after_a_reboot_everything_has_ended(node: Node) -> None:
    """A process of the same number and start is another one; moments are told by the new boot's clock."""
    process = node.process()
    node.start("r", process=process)
    before = node.shown()["r"]
    at = Instant(5000.0, node.boot_s + 5000.0)
    node.boot_s, node.at_s = node.boot_s + 5060.0, 10.0
    node.restarted().restore([totals(before)], at=at, same_boot=False)
    run = node.shown()["r"]

    assert run.end is not None
    assert (-60.0, node.boot_s - 60.0) == pytest.approx((run.end.mono_s, run.end.wall_s))
    assert run.end.mono_s - run.start.mono_s == pytest.approx(4000.0)
    assert () == node.book.live()
    node.at_s += 841.0

    assert {} == node.shown()


@pytest.mark.parametrize("memory", ["", "?", "[]", "{}", '{"format":1}', '{"format":99}', '{"format":1,"uid":"x"}'])
def test_a_memory_that_cannot_be_read_is_nobodys(node: Node, memory: str) -> None:
    """The run is shown as ended and belongs to nobody: no other run may have its id."""
    run = replace(node.start("r").run, memory=memory)
    node.restarted().restore([totals(run)], at=None, same_boot=True)

    assert node.shown()["r"].end == run.start
    assert node.start("r").run.id == "r@ann"


# -- random histories ------------------------------------------------------------------------------------------------


IDS = st.sampled_from(["a", "b", "c", "a@bob", "c\n"])


ENDED = 3


class Histories(RuleBasedStateMachine):
    """Whatever two users and their processes do, in whatever order."""

    processes: Bundle[tuple[int, Process]] = Bundle("processes")

    @initialize()
    def begin(self) -> None:
        """An empty book with little room."""
        self.node = Node(limits=Limits(live=4, ended=ENDED, members=3, members_of_user=6))
        self.owners: dict[str, int] = {}
        self.progress: dict[str, Progress] = {}

    @rule(target=processes, uid=st.sampled_from([ANN, BOB]))
    def appear(self, uid: int) -> tuple[int, Process]:
        """A process."""
        return uid, self.node.process()

    @rule(who=processes, run_id=IDS)
    def start(self, who: tuple[int, Process], run_id: str) -> None:
        """Start a run: it is the user's own."""
        uid, process = who
        try:
            started = self.node.book.start(Wish(id=run_id), uid, process if process in self.node.living else None)
        except FailureError:
            return

        assert self.node.book.owner(started.run.id) == uid

    @rule(who=processes, run_id=IDS, name=st.text(max_size=3))
    def tell(self, who: tuple[int, Process], run_id: str, name: str) -> None:
        """Join, enter a phase."""
        self.quietly(lambda: self.node.book.join(run_id, who[0], who[1]), run_id, who[0])
        self.quietly(lambda: self.node.book.phase(run_id, who[0], name), run_id, who[0])

    @rule(who=processes, run_id=IDS, steps=st.integers(0, 9), tokens=st.integers(0, 9))
    def report(self, who: tuple[int, Process], run_id: str, steps: int, tokens: int) -> None:
        """Report."""
        said = told(steps=steps, tokens=tokens)
        self.quietly(lambda: self.node.book.progress(run_id, who[0], who[1], said), run_id, who[0])

    @rule(who=processes, run_id=IDS)
    def end(self, who: tuple[int, Process], run_id: str) -> None:
        """End one's part."""
        self.quietly(lambda: self.node.book.end(run_id, who[0], who[1].pid), run_id, who[0])

    @rule(who=processes)
    def die(self, who: tuple[int, Process]) -> None:
        """End."""
        self.node.kill(who[1])

    @rule(seconds=st.sampled_from([0.5, 100.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.node.at_s += seconds

    @rule()
    def restart(self) -> None:
        """A new daemon takes over."""
        kept = [totals(run) for run in self.node.shown().values()]
        self.node.restarted().restore(kept, at=self.node.now(), same_boot=True)

    def quietly(self, does: Callable[[], object], run_id: str, uid: int) -> None:
        """Do what may be refused; what is another's is not changed by it, but the oldest ended run may give way."""
        others = {run.id: run for run in self.node.shown().values() if owner_of(run) != uid}
        with contextlib.suppress(FailureError):
            does()
        after = self.node.shown()

        gone = others.keys() - after.keys()
        assert all(others[name].end is not None for name in gone), run_id
        assert not gone or sum(run.end is not None for run in after.values()) >= ENDED, run_id
        assert all(others[name] == after[name] for name in others.keys() - gone), run_id

    @invariant()
    def one_owner(self) -> None:
        """An id has one owner for as long as it is shown, and every live run a process."""
        if not hasattr(self, "node"):
            return
        shown = self.node.shown()
        owners = {run.id: owner_of(run) for run in shown.values()}

        assert all(self.owners.get(name, uid) == uid for name, uid in owners.items())
        assert None not in owners.values()
        self.owners = {name: uid for name, uid in owners.items() if uid is not None}

    @invariant()
    def bounded(self) -> None:
        """Neither the live nor the ended are too many; ended ones leave in time."""
        if not hasattr(self, "node"):
            return
        shown = self.node.shown().values()
        ended = [run.end for run in shown if run.end is not None]

        assert len(shown) - len(ended) <= 4
        assert len(ended) <= 3
        assert all(self.node.at_s - end.mono_s < 900.0 for end in ended)

    @invariant()
    def counts_never_fall(self) -> None:
        """While a run is shown its counts only grow, through requeue and restart."""
        if not hasattr(self, "node"):
            return
        now = {run.id: run.progress for run in self.node.shown().values()}
        for name, progress in now.items():
            before = self.progress.get(name, Progress())

            assert (progress.steps or 0) >= (before.steps or 0)
            assert (progress.tokens or 0) >= (before.tokens or 0)
        self.progress = now


Histories.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHistories = Histories.TestCase

"""Runs that nobody registered, jobs of a scheduler, and what is held by whoever has processes on it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.model import Hold, Instant, Run
from monitor.errors import FailureError
from monitor.runs.book import Limits
from monitor.runs.found import Found, Occupied
from monitor.runs.holdings import Hints
from monitor.runs.identity import Process
from monitor.runs.memory import owner_of
from monitor.runs.registry import Registry, Started
from monitor.runs.wish import Wish
from tests.runs.test_registry import ANN, BOB, GPUS, Node, totals

LISTING = [replace(gpu, lists_processes=True) for gpu in GPUS]


def given_gpus(text: str) -> Hints:
    """An environment that names its GPUs."""
    return (("CUDA_VISIBLE_DEVICES", text),)


@dataclass
class Seen(Node):
    """A node whose drivers list processes, looked at by discovery."""

    watched: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.devices = list(LISTING)
        super().__post_init__()
        self.shown()

    def restarted(self) -> Registry:
        """The registry of a new daemon, which discovery tells of processes."""
        super().restarted()
        self.book = Registry(
            now=self.now,
            devices=lambda: self.devices,
            processes=self,
            remembered=self.ledger.get,
            on_members=self.watched.append,
            user_of=lambda uid: {ANN: "ann", BOB: "bob"}.get(uid, str(uid)),
            limits=self.limits,
        )
        return self.book

    def find(
        self,
        key: str,
        run_id: str,
        *processes: Process,
        uid: int = ANN,
        start_s: float | None = None,
        **wish: object,
    ) -> str | None:
        """Find a run; the id by which it goes."""
        found = Found(
            key=key,
            wish=Wish(id=run_id, **wish),  # type: ignore[arg-type]
            uid=uid,
            start_mono_s=self.at_s if start_s is None else start_s,
            processes=processes or (self.process(),),
        )
        return self.book.discover([found]).get(key)

    def job(self, number: str, uid: int = ANN, *, gpus: str = "", **wish: object) -> Started:
        """A prolog."""
        hints: Hints = (("SLURM_JOB_GPUS", gpus),) if gpus else ()
        told = Wish(
            id=f"slurm-t-{number}",
            key=f"slurm:{number}",
            raw_job_id=number,
            job_id=number,
            is_named=False,
            hints=hints,
            **wish,  # type: ignore[arg-type]
        )
        return self.book.begin_lasting(told, uid)

    def looks(self, present: Mapping[str, Iterable[int]], since_s: float = 0.0) -> None:
        """A look at every GPU: these runs have processes on these."""
        self.book.occupy(
            {gpu.id: self.at_s for gpu in self.devices},
            {run: {f"gpu-{gpu}": Occupied(since_s) for gpu in gpus} for run, gpus in present.items()},
        )

    def held(self, run_id: str) -> list[int]:
        """Numbers of the GPUs that a run holds."""
        return sorted(int(device.removeprefix("gpu-")) for device in self.shown()[run_id].holds)

    def restart(self, *, at: Instant | None = None, same_boot: bool = True) -> None:
        """A new daemon takes over."""
        kept = [totals(run) for run in self.shown().values()]
        self.restarted().restore(kept, at=at or self.now(), same_boot=same_boot)
        self.shown()


@pytest.fixture
def node() -> Seen:
    """Four GPUs, two users."""
    return Seen()


def member(node: Seen, run_id: str) -> frozenset[Process]:
    """Who is in a live run by name."""
    return next(one.members for one in node.book.tracked() if one.run_id == run_id)


# -- found runs ------------------------------------------------------------------------------------------------------


def test_a_found_run_begins_with_its_oldest_process(node: Seen) -> None:
    """It has the start of its processes, their user and names, and ends exactly with the last of them."""
    one, two = node.process(), node.process()
    run_id = node.find("slurm:7", "slurm-t-7", one, two, start_s=992.0, name="fine", launcher="slurm", job_id="7")
    run = node.shown()["slurm-t-7"]

    assert run_id == "slurm-t-7"
    assert Instant(992.0, node.boot_s + 992.0) == run.start
    assert ("fine", "ann", "slurm", "7") == (run.name, run.user, run.launcher, run.job_id)
    assert {one, two} == set(node.watched) == node.book.members()
    assert not node.kill(one)
    assert "slurm-t-7" in node.book.live()
    node.at_s += 3.0

    assert node.kill(two)
    assert node.shown()["slurm-t-7"].end == node.now()


def test_a_found_run_never_begins_in_the_future(node: Seen) -> None:
    """Clocks that disagree by a tick make no run of negative length."""
    node.find("tree:1:2", "tree-x", start_s=node.at_s + 0.01)

    assert node.shown()["tree-x"].start == node.now()


def test_members_of_a_found_run_are_those_of_the_last_look(node: Seen) -> None:
    """Processes come and go: it lives while any of the newest does; only new ones are to be watched."""
    one, two, three = node.process(), node.process(), node.process()
    node.find("pod:u", "pod-u", one, two)
    node.find("pod:u", "pod-u", two, three)

    assert {two, three} == member(node, "pod-u")
    assert [one, two, three] == sorted(node.watched)
    node.kill(two)
    node.kill(three)

    assert () == node.book.live()


def test_a_key_of_a_live_run_is_its_own(node: Seen) -> None:
    """What a job registered and what is found of it are one run; names that it lacked are completed."""
    agent, worker = node.process(), node.process()
    node.start("slurm-t-7", process=agent, key="slurm:7", project="p")

    assert node.find("slurm:7", "slurm-other-7", worker, name="fine", project="q") == "slurm-t-7"
    run = node.shown()["slurm-t-7"]

    assert ("fine", "p") == (run.name, run.project)
    assert {agent, worker} == member(node, "slurm-t-7")
    assert ("slurm-t-7",) == node.book.live()


def test_a_run_that_spoke_for_itself_ends_with_whoever_spoke(node: Seen) -> None:
    """Others that are found in it keep nobody waiting for its report; found again, it goes on without a gap."""
    agent, worker = node.process(), node.process()
    node.start("slurm-t-7", process=agent, key="slurm:7")
    node.find("slurm:7", "slurm-t-7", worker, start_s=990.0)
    node.at_s += 10.0

    assert node.book.end("slurm-t-7", ANN, agent.pid).ended
    node.at_s += 4.0
    node.find("slurm:7", "slurm-t-7", worker, start_s=990.0)
    run = node.shown()["slurm-t-7"]

    assert (None, 1000.0, 1010.0, 10.0) == (run.end, run.start.mono_s, run.since.mono_s, run.before_s)


def test_an_id_of_a_live_run_is_that_run(node: Seen) -> None:
    """A found process that carries the name of a run of its user joins it, whatever the key."""
    node.start("mine")

    assert node.find(f"given:{ANN}:mine", "mine") == "mine"
    assert ("mine",) == node.book.live()
    assert frozenset({f"given:{ANN}:mine"}) == node.book.tracked()[0].keys


def test_nobody_is_found_into_anothers_run(node: Seen) -> None:
    """Neither by a forged key nor by a forged id: the other user's is a run of its own."""
    node.start("slurm-t-7", ANN, key="slurm:7")

    assert node.find("slurm:7", "slurm-t-7", uid=BOB) == "slurm-t-7@bob"
    assert node.shown()["slurm-t-7"].user == "ann"
    assert owner_of(node.shown()["slurm-t-7@bob"]) == BOB


def test_an_ended_run_that_is_found_again_goes_on(node: Seen) -> None:
    """Queued again, or of an earlier daemon and only in the ledger: one run, its waiting time not active."""
    first = node.process()
    node.find("slurm:7", "slurm-t-7", first)
    node.at_s += 60.0
    node.kill(first)
    node.at_s += 100.0
    node.find("slurm:7", "slurm-t-7", start_s=1158.0)
    run = node.shown()["slurm-t-7"]

    assert (1000.0, 1158.0, 60.0, None) == (run.start.mono_s, run.since.mono_s, run.before_s, run.end)
    node.ledger["slurm-t-7"] = totals(replace(run, end=node.now()), duration_s=62.0)
    node.at_s += 5000.0
    node.restarted()
    node.find("slurm:7", "slurm-t-7")

    assert (1000.0, 62.0) == (node.shown()["slurm-t-7"].start.mono_s, node.shown()["slurm-t-7"].before_s)


def test_what_has_gone_before_it_was_told_is_no_run(node: Seen) -> None:
    """The remains of a job that has just ended do not call it back."""
    process = node.process()
    node.find("slurm:7", "slurm-t-7", process)
    node.kill(process)

    assert node.find("slurm:7", "slurm-t-7", process) is None
    assert () == node.book.live()


def test_a_found_run_without_room_is_left_out(node: Seen) -> None:
    """It drives nobody out, raises nothing, and is counted once, however often it is seen."""
    node.limits = Limits(live=1)
    node.restarted()
    node.start("r")
    waiting = node.process()
    for _ in range(3):
        assert node.find("tree:1:2", "tree-x", waiting) is None
    assert ("r",) == node.book.live()
    assert node.book.runs(node.now()).dropped == 1


def test_nobodys_ids_keep_a_found_run_out(node: Seen) -> None:
    """Ann has r, and asked for r@bob: Bob's is found all the same."""
    node.start("r", ANN)
    node.start("r@bob", ANN)

    assert node.find(f"given:{BOB}:r", "r", uid=BOB) == "r@bob"
    assert owner_of(node.shown()["r@bob"]) == BOB
    assert ("r", "r@bob@ann", "r@bob") == node.book.live()


def test_names_of_found_runs_are_cleaned(node: Seen) -> None:
    """As those of registered ones, and counted once."""
    process = node.process()
    for _ in range(3):
        node.find("pod:u", "pod-u", process, name="a\nb")

    assert node.shown()["pod-u"].name == "a b"
    assert node.book.runs(node.now()).altered == 1


def test_what_is_tracked_is_the_same_until_it_changes(node: Seen) -> None:
    """Whoever looks may tell by identity: progress is no change, a process is."""
    one = node.process()
    node.start("r", process=one, key="slurm:7")
    before = node.book.tracked()
    node.report("r", one, steps=1)

    assert node.book.tracked() is before
    assert (("r", ANN, frozenset({one}), frozenset({"slurm:7"})),) == before
    node.find("slurm:7", "r")

    assert node.book.tracked() is not before


# -- who speaks within a found run -----------------------------------------------------------------------------------


def test_a_process_of_a_found_run_that_speaks_joins_it(node: Seen) -> None:
    """Without an id of its own it names the run that was found for it; with one it begins another inside."""
    root, child = node.process(), node.process()
    node.find("tree:1:2", "tree-x", root)
    node.book.note_owners({root.pid: "tree-x", child.pid: "tree-x"})

    assert node.book.run_of(child) == "tree-x"
    started = node.book.start(Wish(id="tree-y", name="demo", is_named=False), ANN, child)

    assert ("tree-x", "demo", True) == (started.run.id, started.run.name, started.joined)
    assert node.book.start(Wish(id="mine"), ANN, child).run.id == "mine"
    assert node.book.start(Wish(id="tree-y", is_named=False), BOB, child).run.id == "tree-y"


def test_a_job_of_an_array_that_speaks_joins_the_prologs_run(node: Seen) -> None:
    """The prolog knew the raw number only: the key tells that it is the same job."""
    node.job("8")

    assert node.start("slurm-t-7_3", key="slurm:8", is_named=False).run.id == "slurm-t-8"
    assert ("slurm-t-8",) == node.book.live()


# -- what is held ----------------------------------------------------------------------------------------------------


def test_a_run_without_an_allocation_holds_where_it_has_processes(node: Seen) -> None:
    """From the start of the first process there to the look that finds none, and again."""
    node.find("tree:1:2", "tree-x", start_s=990.0)
    node.looks({"tree-x": [1]}, since_s=995.0)

    assert [1] == node.held("tree-x")
    assert (Hold("gpu-1", 995.0),) == node.shown()["tree-x"].spells
    node.at_s = 1010.0
    node.looks({"tree-x": [0]}, since_s=1007.0)

    assert [0] == node.held("tree-x")
    assert (Hold("gpu-1", 995.0, 1010.0), Hold("gpu-0", 1007.0)) == node.shown()["tree-x"].spells
    node.at_s = 1020.0
    node.looks({"tree-x": [1]}, since_s=995.0)

    assert Hold("gpu-1", 1010.0) in node.shown()["tree-x"].spells


def test_a_device_that_is_held_all_the_time_needs_no_spell(node: Seen) -> None:
    """Nothing is written down of a run that has its process there from its start on."""
    node.find("tree:1:2", "tree-x", start_s=990.0)
    node.looks({"tree-x": [2]}, since_s=980.0)

    assert ([2], ()) == (node.held("tree-x"), node.shown()["tree-x"].spells)


def test_old_spells_are_forgotten(node: Seen) -> None:
    """A minute after a holding ended nothing waits to be booked to it."""
    node.find("tree:1:2", "tree-x")
    for _ in range(100):
        node.at_s += 5.0
        node.looks({"tree-x": [0]}, since_s=node.at_s - 1.0)
        node.at_s += 5.0
        node.looks({})
    spells = node.shown()["tree-x"].spells

    assert 1 < len(spells) <= 7
    assert all(spell.until_mono_s and spell.until_mono_s > node.at_s - 60.0 for spell in spells)


def test_devices_that_were_not_looked_at_stay(node: Seen) -> None:
    """A driver that is silent takes nothing away."""
    node.find("tree:1:2", "tree-x")
    node.looks({"tree-x": [0, 1]})
    node.book.occupy({"gpu-0": node.at_s}, {})

    assert [1] == node.held("tree-x")


def test_an_allocation_is_held_with_processes_and_without(node: Seen) -> None:
    """What a run was given is its own, and no other GPU is, wherever its processes are."""
    node.find("slurm:7", "slurm-t-7", hints=given_gpus("0,1"), start_s=990.0)
    node.at_s += 5.0
    node.looks({"slurm-t-7": [3]})

    assert ([0, 1], ()) == (node.held("slurm-t-7"), node.shown()["slurm-t-7"].spells)


def test_a_rank_that_comes_later_holds_its_gpu_from_then_on(node: Seen) -> None:
    """Of the time before it the run has nothing there."""
    node.start("r", hints=given_gpus("0"))
    node.at_s += 30.0
    node.start("r", hints=given_gpus("1"))

    assert (Hold("gpu-1", 1030.0),) == node.shown()["r"].spells
    assert [0, 1] == node.held("r")


def test_slices_are_those_with_processes_or_those_given(node: Seen) -> None:
    """Of a divided GPU a run holds a part."""
    node.devices = [replace(LISTING[0], slices=("MIG-a", "MIG-b"), slice_ratios=(0.5, 0.5))]
    node.shown()
    node.find("tree:1:2", "tree-x")
    node.book.occupy({"gpu-0": node.at_s}, {"tree-x": {"gpu-0": Occupied(0.0, frozenset({"MIG-a"}))}})
    node.start("given", hints=given_gpus("MIG-b"))
    shown = node.shown()

    assert {"MIG-a"} == shown["tree-x"].slices
    assert {"MIG-b"} == shown["given"].slices
    assert {"gpu-0"} == shown["tree-x"].holds == shown["given"].holds
    node.looks({})

    assert frozenset() == node.shown()["tree-x"].slices


# -- runs within runs ------------------------------------------------------------------------------------------------


def test_an_inner_run_has_its_devices_while_it_lives(node: Seen) -> None:
    """The job around it holds what is left, and all again when the inner run has ended; no moment has two holders."""
    inner = node.process()
    node.job("7", gpus="0,1")
    node.at_s += 10.0
    node.start("inner", process=inner, raw_job_id="7", hints=given_gpus("1"))

    assert ([1], [0]) == (node.held("inner"), node.held("slurm-t-7"))
    assert (Hold("gpu-1", 1000.0, 1010.0),) == node.shown()["slurm-t-7"].spells
    node.at_s += 20.0
    node.kill(inner)

    assert [0, 1] == node.held("slurm-t-7")
    assert (Hold("gpu-1", 1000.0, 1010.0), Hold("gpu-1", 1030.0)) == node.shown()["slurm-t-7"].spells


def test_a_run_that_starts_in_anothers_process_tree_is_inside(node: Seen) -> None:
    """By where discovery saw the asker; what the inner one occupies later is lent then."""
    root, child = node.process(), node.process()
    node.find("tree:1:2", "tree-x", root)
    node.looks({"tree-x": [0, 1]})
    node.book.note_owners({child.pid: "tree-x"})
    node.at_s += 5.0
    node.start("inner", process=child)

    assert ([], [0, 1]) == (node.held("inner"), node.held("tree-x"))
    node.at_s += 5.0
    node.looks({"inner": [1], "tree-x": [0, 1]}, since_s=1006.0)

    assert ([1], [0]) == (node.held("inner"), node.held("tree-x"))
    node.at_s += 5.0
    node.kill(child)

    assert [0, 1] == node.held("tree-x")


def test_a_job_that_is_found_around_a_run_lends_to_it(node: Seen) -> None:
    """The named run spoke first; the job that it is in is found later, and does not claim its GPU, too."""
    node.start("inner", raw_job_id="7", hints=given_gpus("1"))
    node.at_s += 3.0
    node.find("slurm:7", "slurm-t-7", start_s=990.0, hints=given_gpus("0,1"))

    assert ([1], [0]) == (node.held("inner"), node.held("slurm-t-7"))


def test_runs_nest_over_a_middle_one(node: Seen) -> None:
    """What the innermost has, none of those around it has."""
    node.job("7", gpus="0-2")
    middle, inner = node.process(), node.process()
    node.start("middle", process=middle, raw_job_id="7", hints=given_gpus("0,1"))
    node.book.note_owners({inner.pid: "middle"})
    node.start("inner", process=inner, hints=given_gpus("0"))

    assert ([0], [1], [2]) == (node.held("inner"), node.held("middle"), node.held("slurm-t-7"))
    node.kill(middle)

    assert ([0], [1, 2]) == (node.held("inner"), node.held("slurm-t-7"))


def test_another_users_run_is_not_inside(node: Seen) -> None:
    """Who names another's job in its environment takes nothing from it."""
    node.job("7", gpus="0,1")
    node.start("r", BOB, raw_job_id="7", hints=given_gpus("1"))

    assert [0, 1] == node.held("slurm-t-7")


# -- jobs of a scheduler ---------------------------------------------------------------------------------------------


def test_a_job_lives_from_prolog_to_epilog(node: Seen) -> None:
    """With processes and without; said twice it is one; its end is told once, and of an unknown job is no error."""
    node.job("7", gpus="0", name="fine")

    assert node.job("7", gpus="0").joined
    process = node.process()

    assert node.find("slurm:7", "slurm-t-7", process) == "slurm-t-7"
    node.kill(process)

    assert ("slurm-t-7",) == node.book.live()
    assert ("slurm-t-7",) == node.book.end_lasting("slurm:7")
    assert () == node.book.end_lasting("slurm:7") == node.book.end_lasting("slurm:8")
    assert () == node.book.live()


def test_a_job_that_is_queued_again_goes_on(node: Seen) -> None:
    """One run with one start; what it waited is not active."""
    node.job("7", gpus="0")
    node.at_s += 60.0
    node.book.end_lasting("slurm:7", ANN)
    node.at_s += 120.0
    node.job("7", gpus="1")
    run = node.shown()["slurm-t-7"]

    assert (1000.0, 1180.0, 60.0, None) == (run.start.mono_s, run.since.mono_s, run.before_s, run.end)
    assert ([1], ()) == (node.held("slurm-t-7"), run.spells)


def test_a_job_without_gpus_holds_those_with_its_processes(node: Seen) -> None:
    """Also not those whose driver lists none, which a run without variables would hold."""
    node.devices = [*LISTING[:2], GPUS[2]]
    node.shown()
    node.job("7")
    node.find("slurm:7", "slurm-t-7")

    assert [] == node.held("slurm-t-7")
    node.looks({"slurm-t-7": [1]})

    assert [1] == node.held("slurm-t-7")


def test_what_the_scheduler_gave_stands(node: Seen) -> None:
    """Within a job devices may be counted from 0: that is no word on which they are."""
    node.job("7", gpus="2")
    node.find("slurm:7", "slurm-t-7", hints=given_gpus("0"))
    node.start("slurm-t-7", hints=given_gpus("0"))

    assert [2] == node.held("slurm-t-7")


def test_an_end_that_was_not_told_is_found_out(node: Seen) -> None:
    """A GPU goes to the next job: one that was seen, and has no process left, is over. One with processes is not."""
    gone = node.process()
    node.job("7", gpus="0")
    node.job("8", gpus="1")
    node.find("slurm:7", "slurm-t-7", gone)
    node.find("slurm:8", "slurm-t-8")
    node.kill(gone)
    node.job("9", gpus="0,1")

    assert ("slurm-t-8", "slurm-t-9") == node.book.live()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_job_that_was_never_seen_is_not_over(node: Seen, *, restarted: bool) -> None:
    """Two prologs on one GPU, for its shards or by MPS: neither has processes yet, and both live."""
    node.job("7", gpus="0")
    if restarted:
        node.restart()
    node.job("8", gpus="0")

    assert {"slurm-t-7", "slurm-t-8"} == set(node.book.live())


def test_a_job_with_a_run_inside_is_not_over(node: Seen) -> None:
    """Its processes are the inner run's: neither the next job on its GPU nor a restart ends it."""
    node.job("7", gpus="0")
    node.start("inner", raw_job_id="7", hints=given_gpus("0"))
    node.job("8", gpus="0,1")
    node.restart()
    node.find("slurm:8", "slurm-t-8")
    node.book.confirm(frozenset())

    assert {"slurm-t-7", "inner", "slurm-t-8"} == set(node.book.live())


def test_a_number_that_comes_round_again_is_another_job(node: Seen) -> None:
    """Of another user: the first has ended, and neither has the other's."""
    node.job("7", ANN)

    assert node.job("7", BOB).run.id == "slurm-t-7@bob"
    assert ("slurm-t-7@bob",) == node.book.live()


def test_a_job_needs_room(node: Seen) -> None:
    """As any run."""
    node.limits = Limits(live=1)
    node.restarted()
    node.job("7", ANN)
    with pytest.raises(FailureError, match="1 runs are alive"):
        node.job("8", BOB)


# -- over restarts ---------------------------------------------------------------------------------------------------


def test_a_job_outlives_the_daemon(node: Seen) -> None:
    """Seen again, or told again, it goes on as it was."""
    node.job("7", gpus="0,1")
    node.start("inner", raw_job_id="7", hints=given_gpus("1"))
    before = node.shown()
    node.at_s += 10.0
    node.restart()
    node.book.confirm(frozenset({"slurm:7"}))
    after = node.shown()

    assert [replace(run, memory="") for run in before.values()] == [replace(run, memory="") for run in after.values()]
    assert ("slurm-t-7",) == node.book.end_lasting("slurm:7")


def test_a_job_that_ended_meanwhile_ended_at_the_last_commit(node: Seen) -> None:
    """Until discovery has looked it is taken to be alive; then what has no process is over."""
    node.job("7", gpus="0")
    node.job("8", gpus="1")
    node.at_s += 100.0
    at = Instant(1050.0, node.boot_s + 1050.0)
    node.restart(at=at)

    assert ("slurm-t-7", "slurm-t-8") == node.book.live()
    node.job("8", gpus="1")
    node.book.confirm(frozenset())

    assert ("slurm-t-8",) == node.book.live()
    assert at == node.shown()["slurm-t-7"].end


def test_a_job_does_not_outlive_the_boot(node: Seen) -> None:
    """Of an earlier boot it has ended."""
    node.job("7", gpus="0")
    node.restart(same_boot=False)

    assert () == node.book.live()


def test_what_is_found_and_occupied_is_remembered(node: Seen) -> None:
    """Members, keys and spells of a found run are as they were; it ends with its processes."""
    one, two = node.process(), node.process()
    node.find("pod:u", "pod-u", one, two)
    node.at_s += 5.0
    node.looks({"pod-u": [1]}, since_s=1003.0)
    before, tracked = node.shown()["pod-u"], node.book.tracked()
    node.restart()

    assert replace(before, memory="") == replace(node.shown()["pod-u"], memory="")
    assert tracked == node.book.tracked()
    node.at_s += 5.0
    node.looks({})

    assert Hold("gpu-1", 1003.0, 1010.0) in node.shown()["pod-u"].spells
    node.kill(one)
    node.kill(two)

    assert () == node.book.live()


def test_a_memory_of_the_first_format_is_read(node: Seen) -> None:
    """A daemon that is brought up to date goes on with the runs of the one before."""
    process = node.process()
    run = node.start("r", process=process, hints=given_gpus("1")).run
    told = json.loads(run.memory)
    old = {key: told[key] for key in ("uid", "members", "hints", "phases", "tally")} | {"format": 1}
    node.restarted().restore([totals(replace(run, memory=json.dumps(old)))], at=node.now(), same_boot=True)

    assert [1] == node.held("r")
    assert {process} == node.book.members()


# -- random histories ------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "end", "look", "wait"]), st.integers(0, 3), st.sets(st.integers(0, 3))),
    max_size=40,
)


def holders(run: Run, device: str, at_s: float) -> bool:
    """Whether a run held a device at a moment, as its holds and spells have it."""
    end_s = run.end.mono_s if run.end else float("inf")
    if not run.since.mono_s <= at_s < end_s:
        return False
    spells = [spell for spell in run.spells if spell.device_id == device]
    if not spells:
        return device in run.holds
    return any(one.since_mono_s <= at_s < (one.until_mono_s or float("inf")) for one in spells)


@given(STEPS)
def test_a_job_and_what_is_inside_never_hold_one_device_at_once(steps: list[tuple[str, int, set[int]]]) -> None:
    """At any moment of the last minute each GPU of the job is its own or an inner run's, and never nobody's."""
    node = Seen()
    node.job("7", gpus="0-3")
    inner: dict[int, Process] = {}
    for what, number, gpus in steps:
        if what == "begin" and number not in inner:
            free = set(range(4)) - {gpu for index in inner for gpu in node.held(f"i{index}")}
            chosen = ",".join(str(gpu) for gpu in sorted(gpus & free))
            inner[number] = node.process()
            node.start(f"i{number}", process=inner[number], raw_job_id="7", hints=given_gpus(chosen))
        elif what == "end" and number in inner:
            node.kill(inner.pop(number))
        elif what == "look":
            node.looks({"slurm-t-7": gpus})
        elif what == "wait":
            node.at_s += 7.0
    shown = node.shown().values()
    for gpu in range(4):
        assert [f"gpu-{gpu}"] == [f"gpu-{gpu}" for run in shown if run.end is None and f"gpu-{gpu}" in run.holds]
        for back in range(0, 50, 5):
            at_s = node.at_s - back - 1.0
            # An inner run that started again tells of its present stretch only.
            if at_s >= 1000.0:
                assert sum(holders(run, f"gpu-{gpu}", at_s) for run in shown) <= 1

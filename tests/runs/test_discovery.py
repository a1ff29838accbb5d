"""The source "processes" on a made node: CPU time that counts once, over restarts, steps, cgroups and floods."""

from dataclasses import replace
from pathlib import Path

import pytest

from monitor.core.model import Component, Device, Hold, Usage
from monitor.runs.book import Limits
from monitor.runs.discovery import OFTEN
from monitor.runs.identity import Process
from monitor.runs.wish import Wish
from tests.harness.made_proc import ANN, BOB, MadeNode, cpu_s, listed

GPU = Device(id="GPU-0", component=Component.GPU, source="nvml", max_power_w=1000.0, lists_processes=True)
JOB = "/system.slice/slurmstepd.scope/job_42"
STEPS = "/system.slice/slurmstepd.scope/system"
ENV = {"SLURM_JOB_ID": "42", "SLURM_CLUSTER_NAME": "c"}
RUN = "slurm-c-42"
CONTAINER = "/system.slice/docker-" + "c" * 64 + ".scope"


@pytest.fixture
def node(tmp_path: Path) -> MadeNode:
    """Two GPUs, two users, no runs; the daemon has looked once."""
    made = MadeNode(tmp_path, devices=listed(GPU, 2))
    made.look()
    return made


def with_job(node: MadeNode) -> None:
    """A Slurm job of one process in a cgroup of its own is found."""
    node.group(JOB, 0.0)
    node.begin(60, comm="bash", cgroup=f"{JOB}/step_batch/user/task_0", env=ENV)
    node.work({60: 1.0}, groups=[JOB])
    assert cpu_s(node.look())[RUN] == 1.0


def prolog(node: MadeNode, number: str, gpu: str = "0") -> None:
    """The scheduler begins a job and gives it a GPU."""
    hints = (("SLURM_JOB_GPUS", gpu),)
    wish = Wish(id=f"slurm-c-{number}", key=f"slurm:{number}", raw_job_id=number, is_named=False, hints=hints)
    node.registry.begin_lasting(wish, ANN)


# -- over a restart --------------------------------------------------------------------------------------------------


def test_after_a_restart_a_found_run_goes_on_by_its_cgroup(node: MadeNode) -> None:
    """What it used while no daemon ran counts once, and a step that nobody descends from is in it."""
    with_job(node)
    node.work({60: 4.0}, groups=[JOB])
    last = node.look()
    node.work({60: 16.0}, groups=[JOB], idle_s=20.0)
    node.restart(last)

    assert cpu_s(node.look()) == {RUN: 16.0}
    node.work({60: 4.0}, groups=[JOB])
    assert cpu_s(node.look()) == {RUN: 4.0}

    node.begin(70, comm="slurmstepd", uid=0, cgroup=STEPS)
    node.begin(71, 70, cgroup=f"{JOB}/step_0/user/task_0", env=ENV)
    for _ in range(2):
        node.work({60: 1.0, 71: 3.0}, groups=[JOB])
        assert cpu_s(node.look()) == {RUN: 4.0}


def test_an_edge_may_come_before_the_first_look_after_a_restart(node: MadeNode) -> None:
    """A run that starts at once has the use so far read out: that finds by what the others go on, too."""
    with_job(node)
    last = node.look()
    node.work({60: 16.0}, groups=[JOB], idle_s=20.0)
    node.restart(last)

    assert cpu_s(node.discovery.read_energy().usages[0]) == {RUN: 16.0}


def test_a_job_without_processes_at_a_restart_begins_anew(node: MadeNode) -> None:
    """What its cgroup had counted before is of no use for what begins there a while later."""
    prolog(node, "42")
    with_job(node)
    last = node.look()
    node.end(60)
    node.restart(last)
    prolog(node, "42")
    node.look()
    node.group(JOB, node.groups[JOB] + 100.0)
    node.work({})
    node.look()
    node.begin(61, cgroup=f"{JOB}/step_1/user/task_0", env=ENV)
    node.work({61: 1.0}, groups=[JOB])

    assert cpu_s(node.look())[RUN] <= 1.0
    node.work({61: 4.0}, groups=[JOB])
    assert cpu_s(node.look()) == {RUN: 4.0}


def test_after_a_restart_what_came_and_went_in_the_cgroup_counts(node: MadeNode) -> None:
    """Processes that no look ever listed: only the cgroup has counted them."""
    with_job(node)
    last = node.look()
    node.restart(last)
    node.look()
    node.work({60: 1.0}, groups=[JOB])
    node.group(JOB, node.groups[JOB] + 2.5)

    assert cpu_s(node.look()) == {RUN: 3.5}


def test_after_a_restart_a_found_run_lives_on_in_its_children(node: MadeNode) -> None:
    """The process by which it was found ends; those that came meanwhile are in it."""
    with_job(node)
    node.restart(node.look())
    node.look()
    node.begin(61, 60, cgroup=f"{JOB}/step_batch/user/task_0", env=ENV)
    for _ in range(2):
        node.work({60: 1.0})
        node.look()
    node.end(60)
    for _ in range(3):
        node.work({61: 1.0})
        node.look()

    assert node.live() == {RUN}
    assert node.runs()[RUN].resumed is None


# -- whose cgroup ----------------------------------------------------------------------------------------------------


def test_a_run_born_into_an_old_cgroup_has_only_its_own_time(node: MadeNode) -> None:
    """A container that has been at work for hours: what it used before is not the run's."""
    node.group(CONTAINER, 5000.0)
    node.begin(60, comm="sleep", cgroup=CONTAINER, start_s=1.0)
    node.look()
    node.at_s += 2.0
    node.begin(61, 60, cgroup=CONTAINER)
    node.work({61: 1.0}, groups=[CONTAINER], idle_s=3.0)
    node.on_gpu(61)

    assert cpu_s(node.look()) == {"container-cccccccccccc": 1.0}
    node.work({61: 4.0}, groups=[CONTAINER])
    assert cpu_s(node.look()) == {"container-cccccccccccc": 4.0}


def test_a_job_between_two_steps_counts_no_step_twice(node: MadeNode) -> None:
    """All of its processes end, then others begin in the same cgroup."""
    with_job(node)
    node.work({60: 4000.0}, groups=[JOB])
    assert cpu_s(node.look()) == {RUN: 4000.0}
    node.end(60)
    for _ in range(2):
        node.work({})
        node.look()
    node.begin(61, cgroup=f"{JOB}/step_1/user/task_0", env=ENV)
    node.work({61: 1.0}, groups=[JOB])

    assert cpu_s(node.look()) == {RUN: 1.0}


def test_a_named_run_in_a_step_of_a_job_is_counted_once(node: MadeNode) -> None:
    """The job's cgroup holds both: what the run used is not the job's, too."""
    node.group(JOB, 0.0)
    node.begin(60, comm="bash", cgroup=f"{JOB}/step_batch/user/task_0", env=ENV)
    node.begin(70, comm="slurmstepd", uid=0, cgroup=STEPS)
    node.begin(71, 70, cgroup=f"{JOB}/step_0/user/task_0", env=ENV | {"TRAINWATT_RUN": "exp"})
    node.look()
    for _ in range(3):
        node.work({60: 1.0, 71: 4.0}, groups=[JOB])
        assert cpu_s(node.look()) == {RUN: 1.0, "exp": 4.0}


def test_two_users_in_one_pod_have_each_their_own_time(node: MadeNode) -> None:
    """Both say that they are the pod, whose cgroup counts both."""
    pod = "/kubepods.slice/kubepods-pod11111111_2222_3333_4444_555555555555.slice"
    node.group(pod, 100.0)
    for pid, uid, letter in ((60, ANN, "a"), (61, BOB, "b")):
        node.begin(pid, uid=uid, cgroup=f"{pod}/cri-containerd-{letter * 64}.scope", start_s=1.0)
    node.on_gpu(60, 61)
    node.look()
    for _ in range(2):
        node.work({60: 4.0, 61: 3.0}, groups=[pod])
        assert sorted(cpu_s(node.look()).values()) == [3.0, 4.0]


def test_cpu_time_around_inner_runs_is_conserved(node: MadeNode) -> None:
    """At every start and end of a run inside of a job: each second is the one's or the other's, none both's or lost."""
    with_job(node)
    outer_s = inner_s = 0.0

    def turn(outer: float, inner: float = 0.0) -> None:
        nonlocal outer_s, inner_s
        node.work({60: outer} | ({61: inner} if inner else {}), groups=[JOB])
        told = node.look()
        used = cpu_s(told)
        assert told.cpu_s == pytest.approx(outer + inner, abs=0.02)
        assert sum(used.values()) == pytest.approx(outer + inner, abs=0.02)
        outer_s, inner_s = outer_s + used[RUN], inner_s + used.get("in", 0.0)

    turn(4.9)
    for _ in range(3):
        process = node.begin(61, 60, cgroup=f"{JOB}/step_batch/user/task_0", env=ENV | {"TRAINWATT_RUN": "in"})
        node.registry.start(Wish(id="in", key=f"given:{ANN}:in", raw_job_id="42"), ANN, process)
        turn(4.0, 1.0)
        turn(1.0, 4.0)
        node.end(61)
        turn(4.5)
        turn(4.5)

    assert outer_s == pytest.approx(46.9, abs=0.1)
    assert inner_s == pytest.approx(15.0, abs=0.1)


# -- on which GPU since when -----------------------------------------------------------------------------------------


def test_an_old_process_that_comes_to_a_gpu_holds_it_from_the_look_before(node: MadeNode) -> None:
    """Not from its start: what the GPU used before was not its work."""
    node.begin(60, env={"TRAINWATT_RUN": "r"})
    for _ in range(20):
        node.on_gpu()
        node.look()
        node.at_s += 5.0
    before_s = node.at_s - 5.0
    node.on_gpu(60)
    node.look()

    assert node.runs()["r"].holds == {"GPU-0"}
    assert node.runs()["r"].spells == (Hold("GPU-0", before_s),)


def test_a_process_that_comes_back_to_a_gpu_holds_it_from_the_look_before(node: MadeNode) -> None:
    """It began there, left for longer than spells are kept, and is back."""
    node.begin(60, env={"TRAINWATT_RUN": "r"})
    for turn in range(24):
        node.on_gpu(*([60] if turn < 3 else []))
        node.look()
        node.at_s += 5.0
        assert ("GPU-0" in node.runs()["r"].holds) == (turn < 3)
    node.on_gpu(60)
    node.look()

    assert node.runs()["r"].spells == (Hold("GPU-0", node.at_s - 5.0),)


# -- many processes --------------------------------------------------------------------------------------------------


@pytest.fixture
def crowded(node: MadeNode) -> MadeNode:
    """A run of more processes than are read at each look; it was found, and the last look told of its use."""
    node.begin(100, env={"TRAINWATT_RUN": "many"})
    for pid in range(101, 111 + OFTEN):
        node.begin(pid, 100)
    node.look()
    node.work({100: 1.0, 101: 2.0})
    assert cpu_s(node.look())["many"] == 3.0
    return node


def is_short(usage: Usage) -> bool:
    """Whether it tells whose the processes are, and no more."""
    return usage.start == usage.end and not usage.runs


def test_the_use_of_many_is_told_at_every_second_look(crowded: MadeNode) -> None:
    """Then it is of all the time since; whose the processes are is told at each, the newest included."""
    for _ in range(3):
        crowded.begin(round(crowded.at_s), 100)
        crowded.work({100: 1.0, 350: 2.0})
        short = crowded.look()
        assert is_short(short)
        assert short.owners is not None
        assert {pid for pid in crowded.processes if pid != 1} == {
            pid for pid, run in short.owners.items() if run == "many"
        }

        crowded.work({100: 3.0})
        whole = crowded.look()
        assert cpu_s(whole) == {"many": 6.0}
        assert whole.end.mono_s - whole.start.mono_s == 10.0


def test_of_few_the_use_is_told_at_each_look(node: MadeNode) -> None:
    """Up to the bound."""
    node.begin(100, env={"TRAINWATT_RUN": "few"})
    for pid in range(101, 100 + OFTEN):
        node.begin(pid, 100)
    node.look()
    for _ in range(4):
        node.work({100: 1.0})
        assert cpu_s(node.look()) == {"few": 1.0}


def test_a_death_among_many_is_told_at_once(crowded: MadeNode) -> None:
    """Who has reaped it is told by times of before and after: what it had been counted for counts once."""
    crowded.work({101: 4.0})
    crowded.end(101)
    usage = crowded.look()

    assert not is_short(usage)
    assert cpu_s(usage) == {"many": 4.0}
    crowded.work({100: 1.0})
    assert is_short(crowded.look())
    crowded.work({})
    assert cpu_s(crowded.look()) == {"many": 1.0}


def test_a_run_that_begins_beside_many_is_told_at_once(crowded: MadeNode) -> None:
    """It is found at the next look, and the use of all of them is told up to then."""
    crowded.begin(900, env={"TRAINWATT_RUN": "new"})
    crowded.work({100: 1.0, 900: 2.0})

    assert cpu_s(crowded.look()) == {"many": 1.0, "new": 2.0}


def test_a_run_within_many_has_its_own_from_then_on(crowded: MadeNode) -> None:
    """Registered between two looks: up to the next its time is the outer one's."""
    crowded.registry.start(Wish(id="in", key=f"given:{ANN}:in"), ANN, Process(101, crowded.processes[101].start_ticks))
    crowded.work({100: 1.0, 101: 2.0})
    assert cpu_s(crowded.look()) == {"many": 3.0, "in": 0.0}

    crowded.work({100: 1.0, 101: 2.0})
    crowded.look()
    crowded.work({100: 1.0, 101: 2.0})
    assert cpu_s(crowded.look()) == {"many": 2.0, "in": 4.0}


def test_an_edge_tells_the_use_of_many_at_once(crowded: MadeNode) -> None:
    """And the next look but one tells it again, not later than ten seconds after."""
    crowded.work({100: 1.0}, idle_s=2.0)
    assert cpu_s(crowded.discovery.read_energy().usages[0]) == {"many": 1.0}

    crowded.work({100: 1.0}, idle_s=3.0)
    assert is_short(crowded.look())
    crowded.work({100: 1.0})
    assert cpu_s(crowded.look()) == {"many": 2.0}


def test_many_go_on_after_a_restart_from_the_use_that_was_told(crowded: MadeNode) -> None:
    """The daemon dies after a look that told no use."""
    crowded.work({100: 1.0})
    last = crowded.look()
    assert is_short(last)
    crowded.begin(800, 100)
    crowded.work({100: 1.0, 800: 3.0})
    crowded.restart(last)

    assert cpu_s(crowded.look()) == {"many": 5.0}


# -- who is kept out -------------------------------------------------------------------------------------------------


def test_a_flood_of_one_users_runs_keeps_nobody_out(tmp_path: Path) -> None:
    """One of his gives way to whoever has fewer, and nobody else's does; the most stays the most."""
    node = MadeNode(tmp_path, devices=listed(GPU, 1), limits=Limits(live=8))
    node.look()
    for number in range(20):
        node.begin(1000 + number, uid=BOB, env={"TRAINWATT_RUN": f"b{number}"})
    node.look()
    node.at_s += 5.0
    assert len(node.live()) == 8

    node.begin(60, comm="bash", cgroup=f"{JOB}/s", env=ENV)
    for _ in range(3):
        node.look()
        node.at_s += 5.0
        assert RUN in node.live()
        assert len(node.live()) == 8

    for number in range(20):
        node.end(1000 + number)
    node.look()
    assert node.live() == {RUN}


def test_only_a_job_that_was_seen_is_over_when_its_gpu_is_given_again(node: MadeNode) -> None:
    """Prologs of two jobs that share a GPU: both live. Once its processes were found and have gone, it is over."""
    prolog(node, "42")
    prolog(node, "43")
    assert node.live() == {"slurm-c-42", "slurm-c-43"}

    with_job(node)
    node.restart(node.look())
    node.end(60)
    node.registry.confirm(frozenset({"slurm:42", "slurm:43"}))
    prolog(node, "44")
    assert node.live() == {"slurm-c-43", "slurm-c-44"}


def test_a_job_that_is_queued_again_was_not_seen_yet(node: MadeNode) -> None:
    """That its stretch before had processes says nothing of this one."""
    prolog(node, "42")
    with_job(node)
    node.end(60)
    node.registry.end_lasting("slurm:42")
    prolog(node, "42")
    prolog(node, "43")

    assert node.live() == {"slurm-c-42", "slurm-c-43"}


def test_a_prologs_number_is_no_gpu_where_one_is_divided(tmp_path: Path) -> None:
    """Slurm counts slices as it counts GPUs: number 1 is the second slice of the first of them, or else the second."""
    first, second = listed(GPU, 2)
    node = MadeNode(tmp_path, devices=(replace(first, slices=("MIG-1", "MIG-2")), second))
    prolog(node, "42", gpu="1")

    assert node.runs()[RUN].holds == frozenset()


def test_a_number_in_an_environment_is_no_key_to_another_job(node: MadeNode) -> None:
    """A process of job 42 says that it is 43: that opens nothing of the neighbour's."""
    with_job(node)
    inside = node.begin(61, 60, cgroup=f"{JOB}/step_batch/user/task_0", env=ENV)
    node.look()
    node.registry.start(Wish(id="slurm-c-43", key="slurm:43", raw_job_id="43", is_named=False), ANN, inside)

    assert all("slurm:43" not in one.keys for one in node.registry.tracked())
    node.registry.begin_lasting(Wish(id="slurm-c-43", key="slurm:43", raw_job_id="43", is_named=False), BOB)
    assert node.registry.end_lasting("slurm:43") == ("slurm-c-43",)


def test_a_process_that_outlives_its_inner_run_is_the_jobs_from_then_on(node: MadeNode) -> None:
    """`run end` with the process at work: no second is lost."""
    with_job(node)
    process = node.begin(61, 60, cgroup=f"{JOB}/step_batch/user/task_0", env=ENV | {"TRAINWATT_RUN": "in"})
    node.registry.start(Wish(id="in", key=f"given:{ANN}:in", raw_job_id="42"), ANN, process)
    node.work({60: 1.0, 61: 3.0}, groups=[JOB])
    node.look()
    node.registry.end("in", ANN, 61)
    node.work({60: 1.0, 61: 2.0}, groups=[JOB])
    node.look()
    for _ in range(2):
        node.work({60: 1.0, 61: 2.0}, groups=[JOB])
        assert cpu_s(node.look()) == {RUN: 3.0}


def test_the_first_processes_of_a_job_that_was_looked_at_before_count_at_once(node: MadeNode) -> None:
    """A prolog, a look without processes, then the batch step."""
    prolog(node, "42")
    node.look()
    with_job(node)


def test_a_job_seen_before_its_task_is_started_gets_its_name(node: MadeNode) -> None:
    """Between fork and exec the child of slurmstepd is the user's already, with slurmstepd's name and environment."""
    node.group(JOB, 0.0)
    node.begin(70, comm="slurmstepd", uid=0, cgroup=STEPS)
    node.begin(71, 70, comm="slurmstepd", cgroup=f"{JOB}/step_batch/user/task_0")
    node.work({71: 1.0}, groups=[JOB])

    assert cpu_s(node.look()) == {RUN: 1.0}
    node.execute(71, comm="bash", env=ENV | {"SLURM_JOB_NAME": "fine tuning", "SLURM_JOB_ACCOUNT": "physics"})
    node.look()
    told = node.runs()[RUN]

    assert ("fine tuning", "physics") == (told.name, told.project)


def test_a_prolog_is_no_part_of_the_job(node: MadeNode) -> None:
    """It has the job's number in its environment, and is root's: the job is another user's."""
    node.begin(80, comm="trainwatt-slurm", uid=0, env=ENV | {"SLURM_SCRIPT_CONTEXT": "prolog_slurmd"})
    node.look()

    assert node.runs() == {}
    node.end(80)
    with_job(node)

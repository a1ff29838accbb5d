"""Which run a process is of: on made trees of /proc in every setting, and on real processes."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.runs import identity
from monitor.runs.evidence import VARIABLES, Evidence
from monitor.runs.identify import NO_ARRAY, NO_ENVIRONMENT, NO_NUMBER, Identifier, Identity, Kind
from monitor.runs.identity import Origin, Process
from tests.harness import poll

BOOT = "0123456789abcdef"
C = "0123456789abcdef" * 4
POD = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
SLUID = "s5K1KKYAYG5D00"
USER = 1000
INIT = 1
IN_SESSION = "/user.slice/user-1000.slice/session-3.scope"
IN_JOB = "/system.slice/slurmstepd.scope/job_77/step_0/user/task_0"
IN_SLUID = f"/system.slice/slurmstepd.scope/{SLUID}/step_0/user/task_0"
IN_POD = f"/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/cri-containerd-{C}.scope"
JOB = {"SLURM_JOB_ID": "77", "SLURM_CLUSTER_NAME": "deep", "SLURM_JOB_NAME": "train", "SLURM_JOB_ACCOUNT": "ml"}


class Stat(NamedTuple):
    """A process as /proc/PID/stat tells it."""

    pid: int
    ppid: int
    pgrp: int
    session: int
    start_ticks: int
    comm: str


class Proc:
    """A procfs that is written down, process by process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stats: dict[int, Stat] = {}
        self.add(INIT, 0, "systemd", uid=0)

    def add(
        self,
        pid: int,
        ppid: int = INIT,
        comm: str = "python3",
        *,
        uid: int = USER,
        environment: Mapping[str, str] | None = None,
        cgroup: str = IN_SESSION,
        pgrp: int | None = None,
        session: int | None = None,
        argv: str = "",
    ) -> "Proc":
        """One more process; in the group and the session of its parent unless told otherwise."""
        above = self.stats.get(ppid)
        pgrp = pgrp or (above.pgrp if above else pid)
        session = session or (above.session if above else pid)
        stat = Stat(pid, ppid, pgrp, session, 10 * pid, comm)
        directory = self.root / str(pid)
        directory.mkdir(parents=True, exist_ok=True)
        numbers = [str(n) for n in (ppid, pgrp, session, *[0] * 15, stat.start_ticks, 0)]
        (directory / "stat").write_text(f"{pid} ({comm}) S {' '.join(numbers)}\n")
        (directory / "status").write_text(
            f"Name:\t{comm}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCpus_allowed:\tff,0000000f\nCpus_allowed_list:\t0-3\n"
        )
        (directory / "cgroup").write_text(f"0::{cgroup}\n")
        (directory / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in argv.split()))
        if environment is not None:
            (directory / "environ").write_bytes(b"".join(f"{k}={v}\0".encode() for k, v in environment.items()))
        self.stats[pid] = stat
        return self

    def line(self, pid: int) -> list[Stat]:
        """The process, then its ancestors."""
        line = []
        while pid in self.stats:
            line.append(self.stats[pid])
            pid = self.stats[pid].ppid
        return line

    def find(self, pid: int, cluster: str = "deep") -> Identity:
        """What it is identified as."""
        found = Identifier(self.root, cluster=cluster, boot_id=BOOT).identify(self.line(pid))

        assert found is not None
        assert found.key == found.wish.key
        return found


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    """An empty machine."""
    return Proc(tmp_path / "proc")


# -- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "cgroup", "kind", "run_id", "key"),
    [
        ({"TRAINWATT_RUN": " mine "}, IN_SESSION, Kind.GIVEN, "mine", "given:1000:mine"),
        ({"TRAINWATT_RUN": "mine"} | JOB, IN_JOB, Kind.GIVEN, "mine", "given:1000:mine"),
        ({"TRAINWATT_RUN": "\1"} | JOB, IN_JOB, Kind.SLURM, "slurm-deep-77", "slurm:77"),
        (JOB, IN_JOB, Kind.SLURM, "slurm-deep-77", "slurm:77"),
        (JOB, IN_SESSION, Kind.SLURM, "slurm-deep-77", "slurm:77"),
        (JOB, IN_POD, Kind.SLURM, "slurm-deep-77", "slurm:77"),
        (JOB, IN_SLUID, Kind.SLURM, "slurm-deep-77", "slurm:77"),
        ({}, IN_SLUID, Kind.SLURM, f"slurm-site-{SLUID}", f"slurm:{SLUID}"),
        ({}, IN_JOB, Kind.SLURM, "slurm-site-77", "slurm:77"),
        ({"SLURM_JOB_ID": "99", "SLURM_CLUSTER_NAME": "x"}, IN_JOB, Kind.SLURM, "slurm-site-77", "slurm:77"),
        (JOB | {"TORCHELASTIC_RUN_ID": "abc"}, IN_JOB, Kind.SLURM, "slurm-deep-77", "slurm:77"),
        ({"TORCHELASTIC_RUN_ID": "abc"}, IN_SESSION, Kind.TORCHRUN, "torchrun-abc", "torchrun:1000:abc"),
        ({"TORCHELASTIC_RUN_ID": "abc"}, IN_POD, Kind.TORCHRUN, "torchrun-abc", "torchrun:1000:abc"),
        ({"TORCHELASTIC_RUN_ID": "none"}, IN_POD, Kind.POD, f"pod-{POD}", f"pod:{POD}"),
        ({}, IN_POD, Kind.POD, f"pod-{POD}", f"pod:{POD}"),
        ({}, f"/docker/{C}", Kind.CONTAINER, "container-0123456789ab", f"container:{C}"),
        ({"TORCHELASTIC_RUN_ID": "none"}, IN_SESSION, Kind.TREE, "tree-01234567-50-500", "tree:50:500"),
        ({}, "/", Kind.TREE, "tree-01234567-50-500", "tree:50:500"),
    ],
)
def test_the_first_that_names_it_gives_the_id(
    proc: Proc, *, environment: Mapping[str, str], cgroup: str, kind: Kind, run_id: str, key: str
) -> None:
    """The user, the scheduler, the launcher, the pod, the container, the tree, in this order."""
    found = proc.add(50, environment=environment, cgroup=cgroup).find(50, cluster="site")

    assert (kind, run_id, key, USER) == (found.kind, found.wish.id, found.key, found.uid)
    assert found.root == Process(50, 500)


@pytest.mark.parametrize(
    ("environment", "cgroup"),
    [
        (JOB, IN_JOB),
        (JOB, IN_SLUID),
        (JOB, IN_SESSION),
        (JOB | {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "7"}, IN_JOB),
        (JOB | {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "7"}, IN_SESSION),
        ({"SLURM_JOB_ID": "77"}, IN_JOB),
        (JOB | {"TRAINWATT_RUN": "mine"}, IN_JOB),
        (JOB | {"TORCHELASTIC_RUN_ID": "abc", "LOCAL_RANK": "0"}, IN_JOB),
        ({"TORCHELASTIC_RUN_ID": "abc", "LOCAL_RANK": "0"}, IN_SESSION),
        ({"TRAINWATT_RUN": "mine"}, IN_POD),
    ],
)
def test_it_is_the_id_of_a_registered_run(proc: Proc, environment: Mapping[str, str], cgroup: str) -> None:
    """Who registers the same job by its environment gets the same id, and the same key."""
    found = proc.add(50, environment=environment, cgroup=cgroup).find(50)

    assert identity.run_id(environment, Origin(BOOT, 50, 500)) == found.wish.id
    assert identity.key(environment, USER) == found.key
    assert found.note == ""


def test_what_is_known_of_a_job_comes_with_it(proc: Proc) -> None:
    """Name, account, number, nodes and restarts, GPUs; the raw number of a task of an array is the key."""
    told = JOB | {
        "SLURM_ARRAY_JOB_ID": "70",
        "SLURM_ARRAY_TASK_ID": "7",
        "SLURM_JOB_NUM_NODES": "4",
        "SLURM_RESTART_COUNT": "1",
        "SLURM_JOB_GPUS": "0,1",
        "SECRET": "x",
    }
    wish = (found := proc.add(50, environment=told, cgroup=IN_JOB).find(50)).wish

    assert ("slurm-deep-70_7", "70_7", "77") == (wish.id, wish.job_id, wish.raw_job_id)
    assert ("train", "ml", "slurm") == (wish.name, wish.project, wish.launcher)
    assert (("nodes", "4"), ("restarts", "1")) == wish.tags
    assert (("SLURM_JOB_GPUS", "0,1"),) == wish.hints
    assert ("", True) == (found.note, found.proven)
    assert (("", "/system.slice/slurmstepd.scope/job_77"),) == found.directories


def test_another_jobs_environment_is_not_this_jobs(proc: Proc) -> None:
    """It was passed on: of it neither the name nor the array nor the cluster is believed."""
    other = JOB | {"SLURM_JOB_ID": "99", "SLURM_ARRAY_JOB_ID": "90", "SLURM_ARRAY_TASK_ID": "9"}
    found = proc.add(50, environment=other, cgroup=IN_JOB).find(50, cluster="site")

    assert ("slurm-site-77", "77", "", "") == (found.wish.id, found.wish.job_id, found.wish.name, found.wish.project)
    assert NO_ARRAY in found.note


@pytest.mark.parametrize(
    ("cgroup", "launcher", "project"),
    [
        (IN_POD, "kubernetes", "team"),
        (f"/docker/{C}", "docker", ""),
        (f"/machine.slice/libpod-{C}.scope", "podman", ""),
        (f"/system.slice/crio-{C}.scope", "cri-o", ""),
        (f"/default/{C}", "", ""),
    ],
)
def test_containers_are_known_by_what_runs_them(proc: Proc, cgroup: str, launcher: str, project: str) -> None:
    """The launcher is the engine; a pod's project is its namespace, where its environment tells."""
    found = proc.add(50, environment={"POD_NAMESPACE": "team"}, cgroup=cgroup).find(50)

    assert (launcher, project) == (found.wish.launcher, found.wish.project)
    assert found.directories


def test_what_may_not_be_read_is_said(proc: Proc) -> None:
    """Without the environment the id is the kernel's word, and the note tells what is missing."""
    found = proc.add(50, cgroup=IN_JOB).find(50)
    tree = proc.add(60).find(60)

    assert ("slurm-deep-77", "slurm:77", True) == (found.wish.id, found.key, found.proven)
    assert f"{NO_ENVIRONMENT}; {NO_ARRAY}" == found.note
    assert (Kind.TREE, NO_ENVIRONMENT, ()) == (tree.kind, tree.note, tree.wish.hints)


# -- what is believed -------------------------------------------------------------------------------------------------


def test_a_slurmstepd_above_tells_the_job(proc: Proc) -> None:
    """Without cgroups; before the environment's word, and only where it is root's."""
    stepd = "slurmstepd:|[42.batch]"
    proc.add(30, 20, "slurmstepd", uid=0, cgroup="/")
    (proc.root / "30" / "cmdline").write_bytes(stepd.replace("|", " ").encode() + b"\0")
    proc.add(31, 30, "bash", argv="/bin/bash /job", cgroup="/").add(50, 31, environment=JOB, cgroup="/")
    proc.add(40, INIT, "slurmstepd", cgroup="/")
    (proc.root / "40" / "cmdline").write_bytes(b"slurmstepd: [99.batch]\0")
    proc.add(51, 40, cgroup="/")
    true, forged = proc.find(50, cluster="site"), proc.find(51)

    assert ("slurm-site-42", True, (), Process(31, 310)) == (true.wish.id, true.proven, true.directories, true.root)
    assert Kind.TREE is forged.kind


@pytest.mark.parametrize("cgroup", ["/system.slice/slurmstepd.scope/job_77/step_0/slurm", "/"])
def test_slurms_own_daemon_is_not_the_job(proc: Proc, cgroup: str) -> None:
    """It stands in the job's directory, and is root's: nobody's work."""
    proc.add(30, cgroup=cgroup, comm="slurmstepd", uid=0, environment={})

    assert Identifier(proc.root, cluster="", boot_id=BOOT).identify(proc.line(30)) is None


def test_the_user_is_the_kernels_word(proc: Proc) -> None:
    """Of the process, of the job's directory, of the manager that a container is below."""
    rootless = "/user.slice/user-1000.slice/user@1000.service/user.slice"
    inside = proc.add(54, uid=100_033, cgroup=f"{rootless}/libpod-{C}.scope/container").find(54)

    assert proc.add(50, environment=JOB | {"SLURM_JOB_UID": "0"}, cgroup=IN_JOB).find(50).uid == USER
    assert proc.add(53, uid=0, cgroup="/slurm/uid_8/job_77/step_0").find(53).uid == 8
    assert (USER, f"container:{USER}:{C}") == (inside.uid, inside.key)


def test_root_may_say_whose_job_it_is(proc: Proc) -> None:
    """Where the kernel or itself says that there is one; nobody else may."""
    told = JOB | {"SLURM_JOB_UID": "7"}

    assert proc.add(51, uid=0, environment=told, cgroup=IN_JOB).find(51).uid == 7
    assert proc.add(52, uid=0, environment=told).find(52).uid == 0
    assert proc.add(53, uid=0, environment=told | {"SLURM_JOB_UID": "x"}, cgroup=IN_JOB).find(53).uid == 0
    assert proc.add(54, environment=told, cgroup=IN_JOB).find(54).uid == USER


def test_a_job_has_one_user(proc: Proc) -> None:
    """Whom slurmstepd started it as: also of what root, or a container's user, does in it."""
    proc.add(30, INIT, "slurmstepd", uid=0, cgroup="/").add(31, 30, "bash", cgroup=IN_JOB)
    proc.add(40, 31, uid=100_033, cgroup=IN_JOB).add(41, 31, "sudo", uid=0, cgroup=IN_JOB)
    proc.add(50, INIT, "sshd", uid=0, cgroup=IN_JOB).add(51, 30, "slurmstepd", uid=0, cgroup=IN_JOB).add(52, 51)
    identifier = Identifier(proc.root, cluster="deep", boot_id=BOOT)
    found = [identifier.identify(proc.line(pid)) for pid in (50, 40, 41, 31, 50)]

    assert [0, USER, USER, USER, USER] == [one.uid for one in found if one is not None]


def test_an_environment_alone_proves_nothing(proc: Proc) -> None:
    """Its job may be anybody's: the id is scoped by the user, and no directory is its own."""
    found = proc.add(50, environment=JOB, cgroup=f"/docker/{C}").find(50)

    assert (False, ()) == (found.proven, found.directories)


@pytest.mark.parametrize("told", [{"TRAINWATT_RUN": "mine"} | JOB, {"TRAINWATT_RUN": "mine"}])
@pytest.mark.parametrize("cgroup", [IN_JOB, IN_POD])
def test_what_was_named_has_no_directory_of_its_own(proc: Proc, told: Mapping[str, str], cgroup: str) -> None:
    """Others of another name may be in the same job: where it stands is told beside."""
    found = proc.add(50, environment=told, cgroup=cgroup).find(50)

    assert (Kind.GIVEN, (), True) == (found.kind, found.directories, bool(found.place.directories))
    assert ("slurm" if cgroup == IN_JOB or "SLURM_JOB_ID" in told else "kubernetes") == found.wish.launcher


def test_a_sluid_is_one_job_for_all_of_its_processes(proc: Proc) -> None:
    """Also for those whose environment may not be read, once one has told the number."""
    proc.add(50, environment=JOB, cgroup=IN_SLUID).add(51, cgroup=IN_SLUID)
    identifier = Identifier(proc.root, cluster="deep", boot_id=BOOT)
    before, told, after = (identifier.identify(proc.line(pid)) for pid in (51, 50, 51))

    assert before is not None
    assert told is not None
    assert after is not None
    assert f"{NO_NUMBER}; {NO_ENVIRONMENT}; {NO_ARRAY}" == before.note
    assert (f"slurm:{SLUID}", "slurm:77", "slurm:77") == (before.key, told.key, after.key)
    assert told.directories == after.directories == (("", f"/system.slice/slurmstepd.scope/{SLUID}"),)


def test_what_has_gone_is_nobodys(proc: Proc) -> None:
    """At any moment, and where its number has become another's."""
    identifier = Identifier(proc.root, cluster="", boot_id=BOOT)
    proc.add(50, environment={})
    line = proc.line(50)

    assert identifier.identify([]) is None
    assert identifier.identify([line[0]._replace(start_ticks=1), *line[1:]]) is None
    for name in ("status", "stat"):
        text = (proc.root / "50" / name).read_text()
        for broken in ("", "Uid:\n", "50 (x"):
            (proc.root / "50" / name).write_text(broken)
            assert identifier.identify(line) is None
        (proc.root / "50" / name).write_text(text)
    assert identifier.identify(line) is not None
    assert identifier.identify([Stat(7, 1, 7, 7, 70, "x")]) is None


def test_evidence_is_bounded_and_kept_to_what_matters(proc: Proc) -> None:
    """A variable of which only a part was read is none; of two of one name the first counts; others are not kept."""
    proc.add(50, environment={})
    evidence = Evidence(proc.root)
    environ = proc.root / "50" / "environ"

    environ.write_bytes(b"SECRET=x\0LOCAL_RANK=1\0LOCAL_RANK=2\0NOISE\0=\0SLURM_JOB_ID=\xff\0")
    assert {"LOCAL_RANK": "1", "SLURM_JOB_ID": "\ufffd"} == evidence.environment(50)
    environ.write_bytes(b"LOCAL_RANK=1")
    assert {"LOCAL_RANK": "1"} == evidence.environment(50)
    environ.write_bytes(b"A=" + b"x" * (2**18 - 16) + b"\0LOCAL_RANK=12345\0")
    assert {} == evidence.environment(50)
    environ.write_bytes(b"TRAINWATT_RUN=" + b"x" * 9999)
    assert {"TRAINWATT_RUN": "x" * 4096} == evidence.environment(50)
    assert (USER, 12, 500) == (evidence.real_uid(50), evidence.allowed_cpus(50), evidence.start_ticks(50))
    assert (None, None, None, None) == (
        evidence.environment(9),
        evidence.real_uid(9),
        evidence.allowed_cpus(9),
        evidence.start_ticks(-1),
    )
    assert ("", b"") == (evidence.cgroup_text(9), evidence.command_line(9))


WORDS = st.sampled_from(["", "\0", " ", "none", "77", "x" * 9999, "\u2028", "-1", "70", IN_JOB, IN_SLUID, IN_POD, "/"])


@given(
    st.dictionaries(st.sampled_from(sorted(VARIABLES)), WORDS | st.text(st.characters(codec="utf-8"))),
    WORDS | st.text(st.characters(codec="utf-8")),
    st.binary(max_size=40) | st.just(b"slurmstepd: [42.0]\0"),
)
@settings(max_examples=50)
def test_whatever_a_process_says_it_has_a_run(told: Mapping[str, str], cgroup: str, title: bytes) -> None:
    """It never raises; the key is bounded, and only what the kernel or root said is proven."""
    with TemporaryDirectory() as directory:
        proc = Proc(Path(directory)).add(30, INIT, "slurmstepd").add(50, 30, environment=told, cgroup=cgroup)
        (proc.root / "30" / "cmdline").write_bytes(title)
        found = proc.find(50)

    assert found.wish.id
    assert len(found.key) < 200
    assert found.uid == USER
    assert not found.proven or found.kind is not Kind.SLURM or cgroup in {IN_JOB, IN_SLUID}


# -- trees ------------------------------------------------------------------------------------------------------------


def roots(proc: Proc, *pids: int) -> list[int]:
    """Where their trees begin."""
    return [proc.find(pid).root.pid for pid in pids]


def test_two_commands_of_a_prompt_are_two_trees(proc: Proc) -> None:
    """Each in its own process group, below a shell that waits for commands; also of one within the first."""
    proc.add(10, INIT, "sshd", uid=0).add(11, 10, "sshd").add(12, 11, "bash", pgrp=12, session=12, argv="-bash")
    proc.add(20, 12, pgrp=20).add(21, 20).add(30, 12, pgrp=30)
    proc.add(40, 12, "zsh", pgrp=40, argv="zsh").add(41, 40, pgrp=41)

    assert [20, 20, 30, 41] == roots(proc, 20, 21, 30, 41)
    assert [12] == roots(proc, 12)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("-bash", 20),
        ("bash", 20),
        ("/bin/bash -i", 20),
        ("bash --rcfile /x -i", 20),
        ("bash --init-file /x", 20),
        ("zsh -o vi", 20),
        ("bash -s script", 20),
        ("busybox sh", 20),
        ("", 20),
        ("bash run.sh", 12),
        ("/bin/bash -e -o pipefail run.sh --flag", 12),
        ("bash -c work", 12),
        ("sh -xc work", 12),
        ("bash -lc work", 12),
        ("busybox sh run.sh", 12),
    ],
)
def test_a_script_is_one_tree_also_where_it_makes_groups(proc: Proc, argv: str, expected: int) -> None:
    """`timeout` and `setsid` make groups, too: what the shell was called with tells a prompt from a script."""
    proc.add(10, INIT, "sshd", uid=0).add(12, 10, "bash", pgrp=12, session=12, argv=argv).add(20, 12, pgrp=20)

    assert [expected] == roots(proc, 20)


def test_workers_stay_with_their_launcher(proc: Proc) -> None:
    """Each in a session of its own, and their helpers: one tree, as `identity.run_id` has it for a worker."""
    proc.add(12, INIT, "bash", pgrp=12, session=12, argv="-bash").add(20, 12, "torchrun", pgrp=20)
    proc.add(21, 20, pgrp=21, session=21, environment={"LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "none"})
    proc.add(22, 20, pgrp=22, session=22, environment={"LOCAL_RANK": "1"}).add(23, 22)
    expected = identity.run_id({"LOCAL_RANK": "0"}, Origin(BOOT, 21, 210), Origin(BOOT, 20, 200))

    assert [20, 20, 20] == roots(proc, 21, 22, 23)
    assert {expected} == {proc.find(pid).wish.id for pid in (20, 21, 22, 23)}


@pytest.mark.parametrize(
    "comm", ["systemd", "tmux: server", "screen", "sudo", "cron", "containerd-shim", "jupyter-lab", "sshd-session"]
)
def test_a_manager_begins_works_of_their_own(proc: Proc, comm: str) -> None:
    """Also one of the same user, in the same process group."""
    proc.add(10, INIT, comm).add(20, 10).add(21, 20).add(30, 10)

    assert [20, 20, 30] == roots(proc, 20, 21, 30)


def test_what_an_editor_starts_is_no_part_of_it(proc: Proc) -> None:
    """Its server is a `node` like any other, but for what it was called with."""
    proc.add(10, INIT, "node", argv="/home/a/.vscode-server/bin/node out/server-main.js").add(20, 10)
    proc.add(30, INIT, "node", argv="node train.js").add(40, 30)

    assert [20, 30] == roots(proc, 20, 40)


def test_another_users_process_is_no_part_of_it(proc: Proc) -> None:
    """Nor what is above it; nor what vanished, or is not the parent."""
    proc.add(10).add(20, 10, uid=0).add(30, 20).add(40, 10).add(41, 40)
    (proc.root / "40" / "status").unlink()
    orphan = Identifier(proc.root, cluster="", boot_id=BOOT).identify([proc.stats[30], proc.stats[10]])

    assert [30, 41] == roots(proc, 30, 41)
    assert orphan is not None
    assert orphan.root.pid == 30


# -- real processes ---------------------------------------------------------------------------------------------------

REPORT = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"


def real(pid: int) -> Identity | None:
    """A process of this machine."""
    line: list[Stat] = []
    while pid > 0:
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        comm = text[text.index("(") + 1 : text.rindex(")")]
        fields = text[text.rindex(")") + 2 :].split()
        line.append(Stat(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), comm))
        pid = int(fields[1])
    return Identifier(Path("/proc"), cluster="", boot_id=BOOT).identify(line)


def root_pid(pid: int) -> int:
    """Where its tree begins."""
    found = real(pid)

    assert found is not None
    return found.root.pid


def written(path: Path) -> Callable[[], int]:
    """Asks for the number that a process has written there."""
    return lambda: int(path.read_text() or "0")


@contextmanager
def prompt() -> Iterator[tuple[int, int]]:
    """A shell on a terminal: its number, and where to type."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])  # noqa: S606  (a shell is what is tested)
    try:
        yield pid, terminal
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def test_a_real_prompt(tmp_path: Path) -> None:
    """Two commands, one of them a script with a worker in a session of its own, are two trees."""
    script = tmp_path / "run.sh"
    script.write_text(f"""setsid -w {sys.executable} -c "$CODE" {tmp_path}/worker & wait\n""")
    pids: list[int] = []
    with prompt() as (shell, terminal):
        try:
            os.write(terminal, f'export CODE="{REPORT}"\n'.encode())
            os.write(terminal, f'{sys.executable} -c "$CODE" {tmp_path}/one &\n'.encode())
            os.write(terminal, f"sh {script} &\n".encode())
            one = poll.until(written(tmp_path / "one"), what="first command")
            pids.append(one)
            worker = poll.until(written(tmp_path / "worker"), what="worker")
            pids.append(worker)

            assert root_pid(one) == one
            assert root_pid(worker) not in {worker, one, shell}
            assert Path(f"/proc/{root_pid(worker)}/cmdline").read_bytes().startswith(b"sh\0")
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)


def test_a_real_launcher(tmp_path: Path) -> None:
    """Workers in sessions of their own, started through a shell, are in the tree that the launcher is in."""
    launcher = (
        "import subprocess, sys, time\n"
        "workers = [subprocess.Popen([sys.executable, '-c', sys.argv[1], f'{sys.argv[2]}/{n}'], start_new_session=True)"
        " for n in range(2)]\n"
        "[worker.wait() for worker in workers]\n"
    )
    pids: list[int] = []
    agent = subprocess.Popen(
        ["sh", "-c", '"$0" "$@"; :', sys.executable, "-c", launcher, REPORT, str(tmp_path)], start_new_session=True
    )
    try:
        pids = [poll.until(written(tmp_path / str(rank)), what="worker") for rank in range(2)]

        assert {root_pid(agent.pid)} == {root_pid(pid) for pid in pids}
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        agent.wait(10)


def test_a_real_environment_is_read(tmp_path: Path) -> None:
    """Of a process of our own user; once it has ended, it is nobody's."""
    worker = subprocess.Popen(
        [sys.executable, "-c", REPORT, str(tmp_path / "pid")], env={"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "train"}
    )
    try:
        poll.until(written(tmp_path / "pid"), what="worker")
        found = real(worker.pid)
    finally:
        worker.kill()
        worker.wait(10)

    assert found is not None
    assert ("slurm-cluster-77", "train", os.getuid()) == (found.wish.id, found.wish.name, found.uid)
    assert real(worker.pid) is None

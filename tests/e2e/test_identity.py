"""Who a run is that nobody registered: every path form of a cgroup, torchrun without a name, and other users' ids."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.drivers import nvml
from tests.harness import need, poll
from tests.harness.daemon import Daemon, clean_environment, daemon
from tests.harness.users import NOBODY

HEX = "0123456789abcdef" * 4
UID_ = "12345678_1234_1234_1234_123456789abc"
POD = UID_.replace("_", "-")
SLEEP = "import time; time.sleep(3600)"


@dataclass(frozen=True)
class Form:
    """What the kernel tells of one process, and the run that it is."""

    name: str
    cgroup: str
    run: str
    """Without it: "" = any id of a process tree, for nothing else is known."""
    environment: dict[str, str] | None = None
    """None = it may not be read."""


FORMS = (
    Form("slurm v2", "0::/system.slice/slurmstepd.scope/job_42/step_0/user/task_0", "slurm-t-42"),
    Form(
        "slurm of one of several slurmd",
        "0::/system.slice/n1_slurmstepd.scope/job_43/step_batch/user/task_0",
        "slurm-t-43",
    ),
    Form(
        "slurm v1", "4:memory:/slurm/uid_1000/job_44/step_batch/task_0\n3:cpuacct:/slurm/uid_1000/job_44", "slurm-t-44"
    ),
    Form("slurm v1 of a host", "4:memory:/slurm_n1/uid_1000/job_45/step_0/task_0", "slurm-t-45"),
    Form(
        "sluid with an environment",
        "0::/system.slice/slurmstepd.scope/s5K1KKYAYG5D00/step_0/user/task_0",
        "slurm-t-46",
        {"SLURM_JOB_ID": "46", "SLURM_CLUSTER_NAME": "t"},
    ),
    Form(
        "sluid alone: the number is unknown",
        "0::/system.slice/slurmstepd.scope/s5K1KKYAYG5D01/step_0/user/task_0",
        "slurm-t-s5K1KKYAYG5D01",
    ),
    Form("docker, cgroupfs", f"0::/docker/{HEX[:-1]}1", "container-0123456789ab"),
    Form("containerd", f"0::/system.slice/cri-containerd-1{HEX[1:]}.scope", "container-1123456789ab"),
    Form("podman", f"0::/machine.slice/libpod-2{HEX[1:]}.scope/container", "container-2123456789ab"),
    Form(
        "kubepods, systemd",
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/cri-containerd-{HEX}.scope",
        f"pod-{POD}",
    ),
    Form(
        "kubepods, cgroupfs, cri-o",
        f"0::/kubepods/besteffort/pod{POD.replace('1234-', 'aaaa-', 1)}/crio-{HEX}",
        f"pod-{POD.replace('1234-', 'aaaa-', 1)}",
    ),
    Form("a unit of systemd", "0::/user.slice/user-1000.slice/session-3.scope", ""),
    Form(
        "a user's own directory with a job's name",
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/slurmstepd.scope/job_99/step_0",
        "",
    ),
    Form("nothing at all", "0::/", ""),
    Form(
        "a name that the user gave", "0::/user.slice/user-1000.slice/session-4.scope", "mine", {"TRAINWATT_RUN": "mine"}
    ),
    Form("a torchrun with a name", "0::/user.slice", "torchrun-big", {"TORCHELASTIC_RUN_ID": "big"}),
    Form("a torchrun without", "0::/user.slice", "", {"TORCHELASTIC_RUN_ID": "none", "LOCAL_RANK": "0"}),
)


@dataclass
class Processes:
    """Sleeping processes on the GPU of a stand-in."""

    driver: nvml.FakeDriver
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *before: str, env: dict[str, str] | None = None, code: str = SLEEP) -> int:
        """One more, in a process group of its own; its number."""
        process = subprocess.Popen(
            [*before, sys.executable if not before else "/usr/bin/python3", "-c", code],
            env=clean_environment(env),
            start_new_session=True,
        )
        self.started.append(process)
        self.driver.process(0, process.pid, 2**30, 5)
        return process.pid


@pytest.fixture
def processes(tmp_path: Path, library: Path) -> Iterator[Processes]:
    """None as yet."""
    assert library.exists()
    made = Processes(nvml.FakeDriver(tmp_path / "nvml.conf", [nvml.FakeGpu()]))
    yield made
    for process in made.started:
        process.kill()
        process.wait(20)


def runs(served: Daemon) -> dict[str, dict[str, object]]:
    """Live runs of the daemon, by id."""
    return {run["id"]: run for run in served.snapshot()["runs"] if run["active"]}


def mirror(root: Path, pid: int, form: Form) -> None:
    """What /proc tells of a process, as it would in the place of the form."""
    real, made = Path("/proc") / str(pid), root / str(pid)
    made.mkdir(parents=True)
    for name in ("stat", "statm", "cmdline"):
        (made / name).write_bytes((real / name).read_bytes())
    line = (real / "stat").read_text()
    head, _, rest = line.rpartition(")")
    fields = rest.split()
    fields[1] = "1"  # its parent, which the made tree does not have
    (made / "stat").write_text(f"{head}) {' '.join(fields)}\n")
    (made / "status").write_text(
        (real / "status").read_text().replace("Uid:\t0\t0\t0\t0", "Uid:\t1000\t1000\t1000\t1000")
    )
    (made / "cgroup").write_text(form.cgroup + "\n")
    if form.environment is not None:
        (made / "environ").write_text("".join(f"{name}={value}\0" for name, value in form.environment.items()))


def test_every_path_form_has_the_right_id_or_a_stated_unknown(
    tmp_path: Path, library: Path, processes: Processes
) -> None:
    """Real processes, whose places are made: each is the run that its place says, and none is another's."""
    root = tmp_path / "proc"
    pids = {form.name: processes.start() for form in FORMS}
    for form in FORMS:
        mirror(root, pids[form.name], form)
    for name in ("stat", "meminfo"):
        shutil.copyfile(f"/proc/{name}", root / name)
    (root / "sys/kernel/random").mkdir(parents=True)
    (root / "sys/kernel/random/boot_id").write_text("0b007000-0000-4000-8000-000000000000\n")
    (tmp_path / "slurm.conf").write_text("ClusterName=T\n")
    (tmp_path / "sys").mkdir()
    env = processes.driver.environment(library.parent) | {"SLURM_CONF": str(tmp_path / "slurm.conf")}
    arguments = ("--sysfs", str(tmp_path / "sys"), "--procfs", str(root))
    with daemon(*arguments, log=tmp_path / "log", env=env, discover=True) as served:
        poll.until(lambda: len(runs(served)) >= len(FORMS), what=f"{len(FORMS)} runs", within_s=60.0)
        found, log = runs(served), served.log

    named = {form.run for form in FORMS if form.run}
    trees = {run for run in found if run.startswith("tree-0b007000-")}
    assert named <= found.keys(), log
    assert {f"tree-0b007000-{pids[form.name]}" for form in FORMS if not form.run} == {
        run.rpartition("-")[0] for run in trees
    }
    assert found.keys() == named | trees
    assert found["slurm-t-42"]["job_id"] == "42"
    assert found["slurm-t-s5K1KKYAYG5D01"]["job_id"] == ""


AGENT = f"""
import os, subprocess, sys, time
if os.fork():
    os._exit(0)  # as after nohup: nobody is above it
env = os.environ | {{"TORCHELASTIC_RUN_ID": "none"}}
for rank in range(2):
    own = env | {{"LOCAL_RANK": str(rank)}}
    subprocess.Popen([sys.executable, "-c", {SLEEP!r}], env=own, start_new_session=True)
with open(sys.argv[1] + ".new", "w") as told:
    told.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(3600)
"""


def test_torchrun_jobs_without_a_name_stay_apart(tmp_path: Path, library: Path, processes: Processes) -> None:
    """Two agents of the default id, two workers each: two runs, each with all of its workers."""
    agents = []
    for number in range(2):
        told = tmp_path / f"agent-{number}"
        subprocess.run([sys.executable, "-c", AGENT, str(told)], check=True, start_new_session=True)
        agents.append(int(poll.until(lambda told=told: told.exists() and told.read_text(), what="an agent")))  # type: ignore[misc]
    workers = {agent: children(agent) for agent in agents}
    (tmp_path / "sys").mkdir()
    env = processes.driver.environment(library.parent)
    try:
        for pid in (pid for own in workers.values() for pid in own):
            processes.driver.process(0, pid, 2**30, 20)
        with daemon("--sysfs", str(tmp_path / "sys"), log=tmp_path / "log", env=env, discover=True) as served:
            ids = poll.until(lambda: trees(served) if len(trees(served)) >= 2 else None, what="both", within_s=60.0)
    finally:
        for pid in [*agents, *(pid for own in workers.values() for pid in own)]:
            os.kill(pid, signal.SIGKILL)

    assert sorted(run.split("-")[2] for run in ids) == sorted(str(agent) for agent in agents)
    assert [len(own) for own in workers.values()] == [2, 2]


def trees(served: Daemon) -> list[str]:
    """Ids of the process trees that it has found."""
    return sorted(run for run in runs(served) if run.startswith("tree-"))


def children(pid: int) -> list[int]:
    """Numbers of the children of a process."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_whoever_sets_anothers_id_pays_himself(tmp_path: Path, library: Path, processes: Processes) -> None:
    """The id belongs to who had it first; the other's joules are his own, under ID@user."""
    if subprocess.run(["id", "-u"], capture_output=True, text=True, check=True).stdout.strip() != "0":
        need.missing("root, to be two users")
    (tmp_path / "sys").mkdir()
    env = processes.driver.environment(library.parent)
    with daemon("--sysfs", str(tmp_path / "sys"), log=tmp_path / "log", env=env, discover=True) as served:
        processes.start(env={"TRAINWATT_RUN": "llama"})
        poll.until(lambda: "llama" in runs(served), what="the first")
        other = [need.program("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        processes.start(*other, env={"TRAINWATT_RUN": "llama"})
        poll.until(lambda: "llama@nobody" in runs(served), what="the other")
        found = runs(served)

    assert found["llama"]["user"] == "root"
    assert found["llama@nobody"]["user"] == "nobody"


def test_a_daemon_in_a_container_of_its_own_numbers_has_one_run(
    tmp_path: Path, library: Path, processes: Processes
) -> None:
    """Drivers tell the host's numbers, which are others than its own: all work is the container's, and it says so."""
    if os.geteuid() != 0:
        need.missing("root, for a PID namespace")
    inside = [need.program("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child"]
    (tmp_path / "sys").mkdir()
    env = processes.driver.environment(library.parent)
    arguments = ("--sysfs", str(tmp_path / "sys"))
    with daemon(*arguments, log=tmp_path / "log", env=env, discover=True, before=inside) as served:
        assert not runs(served)
        processes.start()
        poll.until(lambda: runs(served), what="the container's run")
        (run,) = runs(served).values()
        poll.until(lambda: runs(served)[str(run["id"])]["energy_j"], what="its joules")
        log = served.log
        served.process.kill()  # unshare passes no signal on

    assert run["id"] == f"container-{socket.gethostname()[:12]}"
    assert run["launcher"] == "container"
    assert "all work on its GPUs is one run" in log
    assert "hostPID: true" in log

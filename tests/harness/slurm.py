"""A real Slurm of one node, with a munge of its own: controller, node daemon, and an ordinary user who submits."""

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.harness import need, poll
from tests.harness.daemon import clean_environment, free_port

CLUSTER = "t"
GPUS = 2
CREDENTIAL_S = 5
ORDINARY = ("games", "daemon")
"""Accounts that every Debian has, and that Slurm takes: it wants one by name."""
CONFIGURATION = """
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge/socket,cred_expire={credential_s}
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/controller.pid
SlurmdPidFile={place}/node.pid
SlurmdParameters=config_overrides
SelectType=select/cons_tres
GresTypes=gpu
{scripts}
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN Gres=gpu:{gpus}
PartitionName=p Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
# Any file will do for Slurm to count a GPU by.
DEVICES = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"


class Slurm:
    """A cluster at work."""

    def __init__(self, place: Path, user: str) -> None:
        self.user = user
        """Who submits."""
        self.configuration = place / "slurm.conf"
        self._place = place
        self._environment = clean_environment({"SLURM_CONF": str(self.configuration)})
        self._account = pwd.getpwnam(user)

    def submit(self, *arguments: str, script: str = "exec sleep 600") -> str:
        """`sbatch ARGUMENTS` by the ordinary user; the job's number."""
        as_user = [f"--reuid={self._account.pw_uid}", f"--regid={self._account.pw_gid}", "--clear-groups"]
        words = ["--parsable", "--chdir=/", "--output=/dev/null", *arguments, "--wrap", script]
        return self._ask([need.program("setpriv"), *as_user, "sbatch", *words]).strip()

    def requeue(self, job: str) -> None:
        """Have a job end, and be queued again."""
        self._ask(["scontrol", "requeue", job])

    def start_again(self, job: str) -> None:
        """Have a job that was queued again start without the two minutes that it would wait.

        While slurmd has a credential of the job's first stretch, it runs no prolog for the next: it is let expire.
        """
        self._ask(["scontrol", "update", f"JobId={job}", f"StartTime=now+{2 * CREDENTIAL_S}seconds"])
        poll.until(lambda: self.state(job) == "RUNNING", what="the job's next stretch", every_s=0.2)

    def cancel(self, job: str) -> None:
        """End a job, and wait until it is over, its epilog included."""
        self._ask(["scancel", job])
        poll.until(lambda: self.state(job) in {"CANCELLED", "COMPLETED", ""}, what="the end of the job")

    def state(self, job: str) -> str:
        """Of a job, such as RUNNING; "" for none that is known."""
        words = self._run(["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}"]).stdout.split()
        return words[0] if words else ""

    @property
    def is_idle(self) -> bool:
        """Whether the node takes jobs and has none."""
        return self._run(["sinfo", "--noheader", "--format=%T"]).stdout.strip() == "idle"

    @property
    def log(self) -> str:
        """What its daemons have said."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self._place.glob("*.log")))

    def clear(self) -> None:
        """End every job."""
        self._run(["scancel", "--state=PENDING,RUNNING,SUSPENDED", f"--user={self.user}"])
        self._run(["scancel", "--signal=KILL", f"--user={self.user}"])
        poll.until(lambda: self.is_idle, what="the node without a job")

    def _ask(self, words: Sequence[str]) -> str:
        done = self._run(words)

        assert done.returncode == 0, f"{done.stderr}\n{self.log}"
        return done.stdout

    def _run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, env=self._environment, capture_output=True, text=True, timeout=30, check=False, cwd="/"
        )


@contextmanager
def slurm(socket: Path | None = None, *arguments: str) -> Iterator[Slurm]:
    """A cluster until left; with a socket, its prolog and epilog are ours and tell the daemon there.

    `arguments` are the prolog's. Skips (fails in CI) where it cannot be.
    """
    if os.geteuid() != 0:
        need.missing("a Slurm of our own (it takes root)")
    programs = {name: need.program(name) for name in ("munged", "slurmctld", "slurmd", "sbatch", "setpriv")}
    user = next((name for name in ORDINARY if _is_account(name)), None) or need.missing("an ordinary account")
    host = os.uname().nodename.partition(".")[0]
    with TemporaryDirectory(prefix="tw-slurm-") as name, ExitStack() as stack:
        place = Path(name)
        place.chmod(0o755)
        for folder in ("state", "spool", "munge"):
            (place / folder).mkdir(mode=0o755)
        text = CONFIGURATION.format(
            cluster=CLUSTER,
            host=host,
            controller_port=free_port(),
            node_port=free_port(),
            place=place,
            gpus=GPUS,
            credential_s=CREDENTIAL_S,
            scripts="" if socket is None else _scripts(place, socket, arguments),
        )
        (place / "slurm.conf").write_text(text)
        (place / "gres.conf").write_text(DEVICES)
        key = place / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        files = [f"--{what}={place}/munge/{what.partition('-')[0]}" for what in ("socket", "pid-file", "seed-file")]
        own = {"SLURM_CONF": str(place / "slurm.conf")}
        munged = [programs["munged"], "--foreground", f"--key-file={key}", *files]
        stack.enter_context(_running(munged, place / "munge.log", own))
        poll.until((place / "munge" / "socket").exists, what="the socket of munge")
        stack.enter_context(_running([programs["slurmctld"], "-D"], place / "controller.log", own))
        stack.enter_context(_running([programs["slurmd"], "-D"], place / "node.log", own))
        cluster = Slurm(place, user)
        try:
            poll.until(lambda: cluster.is_idle, what="an idle node")
        except TimeoutError as error:
            raise AssertionError(cluster.log) from error
        stack.callback(cluster.clear)
        yield cluster


def _is_account(name: str) -> bool:
    try:
        return pwd.getpwnam(name).pw_uid != 0
    except KeyError:
        return False


def _scripts(place: Path, socket: Path, arguments: Sequence[str]) -> str:
    """Lines of slurm.conf; of a prolog and an epilog slurmd takes no arguments and passes on none of its variables."""
    lines = []
    for what in ("prolog", "epilog"):
        command = Path(sys.executable).with_name(f"trainwatt-slurm-{what}")
        said = " ".join(arguments) if what == "prolog" else ""
        script = place / what
        script.write_text(f"#!/bin/sh\nTRAINWATT_SOCKET={socket} exec {command} {said} 2>>{place}/{what}.log\n")
        script.chmod(0o755)
        lines.append(f"{what.capitalize()}={script}")
    return "\n".join(lines)


@contextmanager
def _running(words: Sequence[str], log: Path, own: dict[str, str]) -> Iterator[None]:
    with log.open("a") as said:
        process = subprocess.Popen(words, stdout=said, stderr=said, env=clean_environment(own), cwd="/")
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

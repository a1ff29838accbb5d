"""The operations on runs over a real socket, asked by real processes, of two users where we may be two."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from monitor import clock
from monitor.core.model import Component, Device, Run
from monitor.core.snapshot import Policy, Snapshot
from monitor.errors import FailureError
from monitor.runs import control
from monitor.runs.membership import ProcessTable, Watcher
from monitor.runs.protocol import Peer, ask
from monitor.runs.registry import Registry
from monitor.runs.requests import json_schema
from monitor.runs.run_operations import run_operations
from tests.harness import need, poll

STRANGER = 65534
SCHEMA = json_schema()
ANSWERS = {"$defs": SCHEMA["$defs"], "$ref": "#/$defs/AnyAnswer"}
GPUS = [
    Device(
        id=f"gpu-{index}", component=Component.GPU, source="fake", max_power_w=700.0, index=str(index), model="Big One"
    )
    for index in range(2)
]
# Connects as another user, then sends what it is told to, line by line, and tells the answers.
SPEAKER = """
import os, socket, sys
if int(sys.argv[2]) != os.geteuid():
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
talk = socket.socket(socket.AF_UNIX)
talk.connect(sys.argv[1])
answers = talk.makefile("rb")
for line in sys.stdin.buffer:
    talk.sendall(line)
    sys.stdout.buffer.write(answers.readline())
    sys.stdout.buffer.flush()
"""


@dataclass
class Speaker:
    """A process that asks."""

    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    def say(self, op: str, **values: Any) -> dict[str, Any]:
        """Ask, and return the answer, which fits the published schema."""
        return self.say_line(json.dumps({"op": op, **values}).encode())

    def say_line(self, line: bytes) -> dict[str, Any]:
        """Send a line as it is, and return the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        jsonschema.validate(answer, ANSWERS)
        return answer

    def kill(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(10)


@dataclass
class Node:
    """A daemon's runs behind a socket."""

    path: Path
    registry: Registry
    edges: list["Future[Snapshot]"] = field(default_factory=list)
    forgotten: list[Mapping[str, Any]] = field(default_factory=list)
    stops: list[bool] = field(default_factory=list)
    answers_edges: bool = True
    report_waits: threading.Event = field(default_factory=threading.Event)

    def edge(self) -> "Future[Snapshot]":
        """As the loop's, but at once, or never."""
        future: Future[Snapshot] = Future()
        self.edges.append(future)
        if self.answers_edges:
            future.set_result(Snapshot(ledger_id="test", policy=Policy()))
        return future

    def report(self, run_id: str) -> dict[str, Any]:
        """A report; that of `slow` waits."""
        if run_id == "slow":
            self.report_waits.wait(30)
        if self.registry.get(run_id) is None:
            raise FailureError(f"no run {run_id!r}")
        return {"format": "trainwatt-report", "run": {"id": run_id}}

    def forget(self, **what: Any) -> "Future[tuple[str, ...]]":
        """Note what is to be forgotten."""
        self.forgotten.append(what)
        future: Future[tuple[str, ...]] = Future()
        future.set_result((what["run_id"],) if what["run_id"] else ())
        return future

    def shown(self) -> dict[str, Run]:
        """What is shown now."""
        return {run.id: run for run in self.registry.runs(clock.now()).runs}

    def stop(self) -> bool:
        """Agree."""
        self.stops.append(True)
        return True

    @contextmanager
    def speaker(self, uid: int | None = None) -> Iterator[Speaker]:
        """A process of this user."""
        user = os.geteuid() if uid is None else uid
        process = subprocess.Popen(
            [sys.executable, "-c", SPEAKER, str(self.path), str(user)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            yield Speaker(process)
        finally:
            process.kill()
            process.communicate()


@contextmanager
def serving(*, edge_within_s: float = 2.0, limits: control.Limits | None = None) -> Iterator[Node]:
    """A daemon's runs, served."""
    table = ProcessTable()
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        registry = Registry(now=clock.now, devices=lambda: GPUS, processes=table)
        registry.runs(clock.now())
        node = Node(Path(name) / "socket", registry)
        watcher = Watcher(registry, table, on_end=node.edge, poll_s=1e6)
        operations = run_operations(
            registry,
            edge=node.edge,
            report=node.report,
            summaries=lambda limit: {"runs": [{"id": run_id} for run_id in list(node.shown())[:limit]]},
            ledger_id=lambda: "ledger-1",
            node="host-1",
            devices=lambda: GPUS,
            missing=lambda: ["power supplies"],
            watch=watcher.watch,
            processes=table,
            forget=node.forget,
            stop=node.stop,
            edge_within_s=edge_within_s,
        )
        with control.serving(node.path, operations, background=[watcher.run], limits=limits):
            yield node


@pytest.fixture
def node() -> Iterator[Node]:
    """A daemon's runs, served."""
    with serving() as served:
        yield served


@pytest.fixture
def stranger() -> int:
    """Number of another user."""
    if os.geteuid() != 0:
        need.missing("a second user (root is needed to be two)")
    return STRANGER


# -- a run's life ----------------------------------------------------------------------------------------------------


def test_a_run_lives_as_long_as_its_processes(node: Node) -> None:
    """Started by one, joined by another, counted together, ended by the last; its report comes with the end."""
    with node.speaker() as one, node.speaker() as two:
        started = one.say("start", id="r", name="demo", tags={"k": "v"}, environment={"CUDA_VISIBLE_DEVICES": "1"})

        assert started == {
            "ok": True,
            "run": "r",
            "name": "demo",
            "ledger": "ledger-1",
            "node": "host-1",
            "joined": False,
            "altered": False,
            "devices": [{"id": "gpu-1", "component": "gpu", "index": "1", "model": "Big One"}],
            "missing": ["power supplies"],
        }
        assert two.say("join", run="r")["joined"]
        one.say("progress", run="r", steps=10, tokens=100, done=1, total=4)
        two.say("progress", run="r", steps=11, tokens=100)
        one.say("phase", run="r", phase="eval")
        run = node.shown()["r"]

        assert (11, 200, 0.25, "eval") == (
            run.progress.steps,
            run.progress.tokens,
            run.progress.done_ratio,
            run.phases[-1].name,
        )
        assert [{"id": "r"}] == one.say("runs")["runs"]
        assert one.say("end", run="r") == {"ok": True, "run": "r", "ended": False}
        edges = len(node.edges)

        assert two.say("end", run="r") == {
            "ok": True,
            "run": "r",
            "ended": True,
            "report": {"format": "trainwatt-report", "run": {"id": "r"}},
        }
        assert edges + 1 == len(node.edges)
        assert one.say("report", run="r")["report"]["run"] == {"id": "r"}


def test_a_killed_process_ends_its_run(node: Node) -> None:
    """Without a word of it: the kernel tells, the devices are read at once, and a new start goes on with it."""
    with node.speaker() as one, node.speaker() as two:
        one.say("start", id="r")
        edges = len(node.edges)
        one.kill()
        poll.until(lambda: node.shown()["r"].end, what="the end of the run")
        poll.until(lambda: len(node.edges) == edges + 1, what="the edge of its end")
        again = two.say("start", id="r")

        assert not again["joined"]
        assert node.shown()["r"].resumed is not None


def test_an_id_is_derived(node: Node) -> None:
    """From the environment, else from the process: workers of one agent are one run."""
    with node.speaker() as one, node.speaker() as two:
        job = one.say("start", environment={"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "deep"})
        workers = [speaker.say("start", environment={"LOCAL_RANK": "0"})["run"] for speaker in (one, two)]
        alone = one.say("start")["run"]

    assert job["run"] == "slurm-deep-7"
    assert workers[0] == workers[1]
    assert f"-{os.getpid()}-" in workers[0]
    assert f"-{one.pid}-" in alone
    run = node.shown()["slurm-deep-7"]

    assert ("slurm", "7") == (run.launcher, run.job_id)


def test_a_process_may_name_another_of_its_user(node: Node) -> None:
    """`join` and `end` take a process by its number; one that is not there is refused."""
    with node.speaker() as one, subprocess.Popen(["sleep", "1000"]) as other:
        one.say("start", id="r")

        assert one.say("join", run="r", pid=other.pid)["ok"]
        assert not one.say("end", run="r")["ended"]
        assert "is no member of run 'r'" in one.say("end", run="r")["error"]
        other.kill()
        poll.until(lambda: node.shown()["r"].end, what="the end of the run")
        other.wait(10)

        assert one.say("join", run="r", pid=other.pid)["error"] == f"pid = {other.pid}: no such process"


def test_last_words_are_heard(node: Node) -> None:
    """What a process sent before it ended counts, though it is read when the process has gone."""
    with node.speaker() as one, node.speaker() as two:
        one.say("start", id="r")
        lines = b"".join(b'{"op": "progress", "run": "r", "steps": %d}\n' % step for step in range(1, 21))
        program = (
            "import socket,sys;s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);"
            "s.sendall(sys.stdin.buffer.read())"
        )
        subprocess.run([sys.executable, "-c", program, str(node.path)], input=lines, check=True)
        poll.until(lambda: node.shown()["r"].progress.steps == 20, what="the last words")

        assert two.say("end", run="r")["ok"] is False
        assert node.shown()["r"].end is None


# -- jobs of a scheduler ---------------------------------------------------------------------------------------------


def test_a_job_is_told_by_an_administrator(node: Node) -> None:
    """From its prolog to its epilog, whoever owns it; both have the devices read, and neither waits for a report."""
    with node.speaker() as prolog, node.speaker() as epilog:
        told = {"job_id": "8", "uid": STRANGER, "cluster": "deep", "account": "physics", "gpus": "1", "nodes": 2}
        started = prolog.say("job_start", **told, array_job_id="7", array_task_id="3", restart=1)
        prolog.kill()
        run = node.shown()["slurm-deep-7_3"]

        assert started == {"ok": True, "run": "slurm-deep-7_3", "joined": False, "altered": False}
        assert ("slurm", "7_3", "physics") == (run.launcher, run.job_id, run.project)
        assert {"gpu-1"} == run.holds
        assert (("nodes", "2"), ("restarts", "1")) == run.tags
        assert node.registry.owner(run.id) == STRANGER
        assert epilog.say("job_start", **told)["joined"]
        edges = len(node.edges)

        assert epilog.say("job_end", job_id="8") == {"ok": True, "runs": ["slurm-deep-7_3"]}
        assert edges + 1 == len(node.edges)
        assert node.shown()["slurm-deep-7_3"].end is not None
        assert epilog.say("job_end", job_id="8", uid=STRANGER, cluster="deep") == {"ok": True, "runs": []}


def test_a_job_of_a_strangers_making_is_refused(node: Node, stranger: int) -> None:
    """Nobody but an administrator speaks for the scheduler."""
    with node.speaker() as root, node.speaker(stranger) as other:
        root.say("job_start", job_id="7", uid=0)

        assert "may start a scheduler's job" in other.say("job_start", job_id="8", uid=stranger)["error"]
        assert "may end a scheduler's job" in other.say("job_end", job_id="7")["error"]
        assert ["slurm-cluster-7"] == list(node.shown())
        assert node.shown()["slurm-cluster-7"].end is None


def test_a_job_hardly_waits_for_the_devices() -> None:
    """A driver that hangs holds up neither prolog nor epilog."""
    with serving() as node, node.speaker() as one:
        node.answers_edges = False
        began_s = time.monotonic()
        started = one.say("job_start", job_id="7", uid=os.geteuid())
        told_s = time.monotonic()
        one.say("job_end", job_id="7")

        assert started["late"]
        assert told_s - began_s < 2.0
        assert time.monotonic() - told_s < 1.0


def test_what_a_jobs_process_starts_is_the_jobs_run(node: Node, stranger: int) -> None:
    """By the scheduler's number in its environment; with a name of its own it is a run inside, on the job's GPU."""
    environment = {"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "deep", "CUDA_VISIBLE_DEVICES": "0"}
    with node.speaker() as root, node.speaker(stranger) as one, node.speaker(stranger) as other:
        root.say("job_start", job_id="7", uid=stranger, cluster="deep", gpus="0,1")

        assert one.say("start", name="fine", environment=environment)["run"] == "slurm-deep-7"
        assert node.shown()["slurm-deep-7"].name == "fine"
        left = one.say("end", run="slurm-deep-7")

        assert (False, "slurm-deep-7") == (left["ended"], left["report"]["run"]["id"])
        other.say("start", environment={**environment, "TRAINWATT_RUN": "own"})
        shown = node.shown()

        assert {"gpu-0"} == shown["own"].holds
        assert {"gpu-1"} == shown["slurm-deep-7"].holds
        other.say("end", run="own")

        assert {"gpu-0", "gpu-1"} == node.shown()["slurm-deep-7"].holds


# -- whose it is -----------------------------------------------------------------------------------------------------


def test_another_users_run_is_not_touched(node: Node, stranger: int) -> None:
    """A stranger may see a run and neither join, feed, rename, end nor forget it; the same id is one of its own."""
    with node.speaker() as one, node.speaker(stranger) as other:
        one.say("start", id="r")
        before = node.shown()
        told = [
            other.say("join", run="r"),
            other.say("progress", run="r", steps=10**9),
            other.say("phase", run="r", phase="eval"),
            other.say("end", run="r"),
            other.say("end", run="r", pid=one.pid),
            other.say("forget", run="r"),
        ]

        assert {False} == {answer["ok"] for answer in told}
        assert all("belongs to another user; only its owner" in answer["error"] for answer in told)
        assert before == node.shown()
        assert [] == node.forgotten
        assert other.say("report", run="r")["report"]["run"] == {"id": "r"}
        mine = other.say("start", id="r")["run"]

        assert mine == f"r@{node.shown()[mine].user}" != "r"
        assert other.say("end", run="r")["run"] == mine
        assert node.shown()["r"].end is None


def test_a_lie_about_a_process_is_refused(node: Node, stranger: int) -> None:
    """Nobody takes another user's process into a run of its own, by whatever number."""
    with node.speaker() as one, node.speaker(stranger) as other:
        other.say("start", id="r")
        for pid in (one.pid, os.getpid(), 1):
            answer = other.say("join", run="r", pid=pid)

            assert f"pid = {pid}: the process of another user" in answer["error"]
        other.kill()
        poll.until(lambda: node.shown()["r"].end, what="the end of the run")


def test_who_may_forget(node: Node, stranger: int) -> None:
    """One's own ended runs; an administrator any, of a user, too; a live run nobody."""
    with node.speaker() as root, node.speaker(stranger) as other:
        other.say("start", id="r")

        assert "still alive; end it first" in other.say("forget", run="r")["error"]
        other.say("end", run="r")
        other.say("start", id="s")

        assert "only an administrator may forget another user's runs" in other.say("forget", user="root")["error"]
        assert "no run 'x'" in other.say("forget", run="x")["error"]
        assert "send one of them" in other.say("forget")["error"]
        assert other.say("forget", run="r") == {"ok": True, "forgotten": 1}
        assert root.say("forget", user="somebody") == {"ok": True, "forgotten": 0}
        assert [
            {"run_id": "r", "user": None, "keep": frozenset({"s"})},
            {"run_id": None, "user": "somebody", "keep": frozenset({"s"})},
        ] == node.forgotten
        assert "r" not in node.shown()


def test_a_private_daemon_stops_when_nothing_lives(node: Node) -> None:
    """While a run is alive it goes on; then its user may end it."""
    with node.speaker() as one:
        one.say("start", id="r")

        assert "a run is still alive" in one.say("stop")["error"]
        one.say("end", run="r")

        assert one.say("stop") == {"ok": True}
        assert [True] == node.stops


def test_a_strangers_stop_is_refused(node: Node, stranger: int) -> None:
    """Only the daemon's own user ends it."""
    with node.speaker(stranger) as other:
        assert "only the daemon's own user may stop it" in other.say("stop")["error"]
    assert [] == node.stops


def test_who_is_out_of_sight_is_told_the_remedy(node: Node) -> None:
    """A process of a PID namespace that is not ours nor below has no number here: nobody could see its end."""
    handlers = run_operations(
        node.registry,
        edge=node.edge,
        report=node.report,
        summaries=lambda _limit: {},
        ledger_id=str,
        node="",
        devices=lambda: GPUS,
        watch=lambda _process: None,
    )
    for request in ({"op": "start"}, {"op": "join", "run": "r"}, {"op": "end", "run": "r"}):
        with pytest.raises(FailureError, match="hostPID"):
            asyncio.run(_ask(handlers, request))
    assert {} == node.shown()


async def _ask(handlers: Mapping[str, control.Handler], request: Mapping[str, Any]) -> Mapping[str, Any]:
    return await handlers[request["op"]](Peer(0, 1000, 1000), request)


# -- odd names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"op": "start", "id": "r", "name": "a \\"b\\" \'c\' \\\\"}', "a \"b\" 'c' \\"),
        (b'{"op": "start", "id": "r", "name": "a\\nb\\u0000c"}', "a b c"),
        (b'{"op": "start", "id": "r", "name": "' + b"x" * 10_000 + b'"}', "x" * 199 + "…"),
        (b'{"op": "start", "id": "r", "name": "M\xfcller"}', "M\ufffdller"),
        (b'{"op": "start", "id": "r", "name": "a\\ud800b"}', "a\ufffdb"),
    ],
    ids=["quotes", "newlines", "10 kB", "Latin-1", "half a character"],
)
def test_an_odd_name_is_a_name(node: Node, line: bytes, expected: str) -> None:
    """It is bounded and cleaned, and counted where it had to be."""
    with node.speaker() as one:
        answer = one.say_line(line)

        assert expected == answer["name"] == node.shown()["r"].name
        assert answer["altered"] == ('"' not in expected)
        assert node.registry.runs(clock.now()).altered == int(answer["altered"])


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"op": "join", "run": "x"}, "no run 'x'; start it first, or see trainwatt runs"),
        ({"op": "progress", "run": "y" * 10_000, "steps": 1}, "no run 'yyy"),
        ({"op": "progress", "run": "r", "steps": -1}, "steps: expected"),
        ({"op": "progress", "run": "r", "done": 1}, "done and total go together"),
        ({"op": "start", "tags": "k=v"}, "tags: expected"),
        ({"op": "start", "nane": "x"}, "unknown key 'nane'; did you mean 'name'?"),
        ({"op": "start", "id": "\n"}, "the id is empty"),
        ({"op": "stat"}, "unknown op 'stat'; did you mean 'start'?"),
        ({"op": "report", "run": "x"}, "no run 'x'"),
    ],
)
def test_a_mistake_is_one_line(node: Node, request_: dict[str, Any], says: str) -> None:
    """What is wrong is told with what to do, and nothing is begun."""
    with pytest.raises(FailureError) as caught:
        ask(node.path, request_)

    assert says in str(caught.value)
    assert len(str(caught.value)) < 300
    assert {} == node.shown()


# -- guests that misbehave -------------------------------------------------------------------------------------------


def test_a_slow_reading_is_not_waited_for() -> None:
    """The devices are not read in time: the run has begun all the same, and the answer says that it is less exact."""
    with serving(edge_within_s=0.05) as node, node.speaker() as one:
        node.answers_edges = False

        assert one.say("start", id="r")["late"] is True
        assert one.say("end", run="r")["late"] is True
        assert not any(edge.cancelled() for edge in node.edges)
        node.edges[0].set_exception(RuntimeError("too late for anybody"))
        node.answers_edges = True

        assert "late" not in one.say("start", id="r")


def test_a_slow_report_holds_up_nobody(node: Node) -> None:
    """While one waits for a disk, starts and progress of others, and its own on another connection, are answered."""
    with node.speaker() as one, node.speaker() as two:
        one.say("start", id="slow")
        waiting = threading.Thread(target=lambda: one.say("report", run="slow"))
        waiting.start()
        try:
            began_s = time.monotonic()

            assert two.say("start", id="r")["ok"]
            assert two.say("progress", run="r", steps=1)["ok"]
            assert time.monotonic() - began_s < 2.0
        finally:
            node.report_waits.set()
            waiting.join(10)


def test_a_reporter_that_reads_no_answers_is_borne(node: Node) -> None:
    """Five minutes of a report a second, at once and unread, are all taken; the next client is answered at once."""
    program = (
        "import socket,sys,time\n"
        "s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1])\n"
        'for i in range(300): s.sendall(b\'{"op": "progress", "run": "r", "steps": %d}\\n\' % i)\n'
        "sys.stdin.read()"
    )
    with (
        node.speaker() as one,
        subprocess.Popen([sys.executable, "-c", program, str(node.path)], stdin=subprocess.PIPE) as deaf,
    ):
        one.say("start", id="r")
        poll.until(lambda: node.shown()["r"].progress.steps == 299, what="the last report")

        assert one.say("phase", run="r", phase="eval")["ok"]
        deaf.communicate(b"", timeout=10)


def test_a_silent_member_is_a_member() -> None:
    """A job whose connection is dropped for its silence is alive as before; it connects anew when it has news."""
    with serving(limits=control.Limits(silent_s=0.2)) as node, socket.socket(socket.AF_UNIX) as talk:
        talk.settimeout(10)
        talk.connect(str(node.path))
        talk.sendall(b'{"op": "start", "id": "r"}\n')
        answer = talk.makefile("rb")

        assert json.loads(answer.readline())["ok"]
        assert answer.readline() == b""
        assert node.shown()["r"].end is None
        ask(node.path, {"op": "progress", "run": "r", "steps": 5})

        assert node.shown()["r"].progress.steps == 5
        assert ask(node.path, {"op": "end", "run": "r"})["ended"]


def test_a_flood_of_starts_is_answered() -> None:
    """A thousand starts over eight connections: the newest are alive, the rest counted."""
    with serving(limits=control.Limits(pace_s=0.0)) as node:
        began_s = time.monotonic()
        program = (
            "import json,socket,sys\n"
            "s=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1]);f=s.makefile('rb')\n"
            "for i in range(125):\n"
            "    s.sendall(json.dumps({'op':'start','id':f'{sys.argv[2]}-{i}'}).encode()+b'\\n')\n"
            "    assert json.loads(f.readline())['ok']\n"
            "sys.stdin.read()"
        )
        every = [
            subprocess.Popen([sys.executable, "-c", program, str(node.path), str(index)], stdin=subprocess.PIPE)
            for index in range(8)
        ]
        poll.until(lambda: node.registry.runs(clock.now()).dropped == 1000 - 256, what="the starts", within_s=60)

        assert len(node.registry.live()) == 256
        assert time.monotonic() - began_s < 30.0
        for process in every:
            process.communicate(b"", timeout=10)
        poll.until(lambda: not node.registry.live(), what="the ends")

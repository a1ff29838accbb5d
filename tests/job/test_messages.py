"""What a job tells its daemon: the requests that come in, from jobs that are real processes."""

import ast
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.runs import identity
from monitor.runs.control import Limits
from monitor.runs.protocol import LONGEST_LINE_BYTES
from tests.harness import need, poll
from tests.job.recorder import ROOT, Recorder, environment, job, recording, start, well

STEPS_FOR_S = """
import time, trainwatt
def steps_for(seconds, **counts):
    made, ends_s = 0, time.monotonic() + seconds
    while time.monotonic() < ends_s:
        trainwatt.step(**counts)
        made += 1
    return made
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the daemon listens."""
    return tmp_path / "run" / "socket"


@pytest.fixture
def daemon(path: Path) -> Iterator[Recorder]:
    """One that writes down what it is told."""
    with recording(path) as recorder:
        yield recorder


# -- runs ------------------------------------------------------------------------------------------------------------


def test_a_with_is_a_run(daemon: Recorder, path: Path) -> None:
    """A `with` starts a run with its name, project, tags and environment, tells what was done in it, and ends it."""
    well(
        """
        import trainwatt
        with trainwatt.run("resnet", id="r-1", project="vision", tags={"seed": 7}):
            for _ in range(3):
                trainwatt.step(tokens=100, samples=8)
            trainwatt.progress(1, 4)
        """,
        path,
        CUDA_VISIBLE_DEVICES="",
        SLURM_JWT="a secret",
    )
    daemon.wait("end")

    assert [
        {
            "op": "start",
            "name": "resnet",
            "id": "r-1",
            "project": "vision",
            "environment": {"CUDA_VISIBLE_DEVICES": ""},
            "tags": {"seed": "7"},
        },
        {"op": "progress", "run": "r-1", "steps": 3, "tokens": 300, "samples": 24, "done": 1, "total": 4},
        {"op": "end", "run": "r-1"},
    ] == daemon.said()


def test_phases(daemon: Recorder, path: Path) -> None:
    """A phase lasts until the next one, or as long as its block, after which the phase before goes on."""
    well(
        """
        import trainwatt
        with trainwatt.run(id="r"):
            trainwatt.phase("train")
            with trainwatt.phase("eval"):
                with trainwatt.phase("checkpoint"):
                    pass
            trainwatt.phase("")
        """,
        path,
    )
    daemon.wait("end")

    assert ["start", "phase train", "phase eval", "phase checkpoint", "phase eval", "phase train", "phase", "end"] == (
        daemon.outline()
    )


@pytest.mark.parametrize("decorator", ['@trainwatt.run("a")', "@trainwatt.run()", "@trainwatt.run"])
def test_each_call_of_a_decorated_function_is_a_run(daemon: Recorder, path: Path, decorator: str) -> None:
    """A decorated function keeps name, arguments and result, and each of its calls is a run with an id of its own."""
    out = well(
        f"""
        import trainwatt
        {decorator}
        def train(a, *, b):
            "Teach."
            trainwatt.step()
            return a + b
        print(train.__name__, train.__doc__, train(1, b=2), train(3, b=4))
        """,
        path,
    )
    daemon.wait("end", 2)

    assert "train Teach. 3 7\n" == out
    assert ["start", "progress", "end"] * 2 == daemon.outline()
    assert 2 == len({said["run"] for said in daemon.said("end")})
    assert [1, 1] == [said["steps"] for said in daemon.said("progress")]


def test_a_run_in_a_run_is_part_of_it(daemon: Recorder, path: Path) -> None:
    """No joule belongs to two runs of one process: the inner one is the outer one, which ends with its own block."""
    well(
        """
        import trainwatt
        inner = trainwatt.run("inner", id="inner")
        with trainwatt.run(id="outer"):
            with inner:
                trainwatt.step()
                inner(lambda: trainwatt.step())()
            trainwatt.step()
        """,
        path,
    )
    daemon.wait("end")

    assert ["start", "progress", "end"] == daemon.outline()
    assert {"op": "progress", "run": "outer", "steps": 3} == daemon.said("progress")[0]


def test_async_functions_and_generators(daemon: Recorder, path: Path) -> None:
    """Coroutines, generators and asynchronous generators stay what they are; the run lasts as long as they do."""
    out = well(
        """
        import asyncio, inspect, trainwatt

        @trainwatt.run(id="coroutine")
        async def coroutine():
            await asyncio.sleep(0)
            return "done"

        @trainwatt.run(id="generator")
        def generator():
            trainwatt.phase(str((yield 1)))
            return 2

        @trainwatt.run(id="both")
        async def both():
            try:
                trainwatt.phase(str((yield 1)))
                yield 2
            except KeyError as error:
                trainwatt.phase(repr(error))
                yield 3
            finally:
                await asyncio.sleep(0)

        async def main():
            print(await coroutine())
            made = both()
            print(await made.__anext__(), await made.asend("in"), await made.athrow(KeyError("k")))
            print([item async for item in made])

        asyncio.run(main())
        made = generator()
        print(next(made))
        try:
            made.send("sent")
        except StopIteration as error:
            print(error.value)
        print(inspect.iscoroutinefunction(coroutine), inspect.isgeneratorfunction(generator),
              inspect.isasyncgenfunction(both))
        """,
        path,
    )
    daemon.wait("end", 3)

    assert "done\n1 2 3\n[]\n1\n2\nTrue True True\n" == out
    assert ["start", "end", "start", "phase in", "phase KeyError('k')", "end", "start", "phase sent", "end"] == (
        daemon.outline()
    )


@pytest.mark.parametrize("raised", ["ValueError('x')", "KeyboardInterrupt()", "SystemExit(7)", "GeneratorExit()"])
def test_what_the_job_raises_is_its_own(daemon: Recorder, path: Path, raised: str) -> None:
    """An exception of the body comes out as the very same object, and the run has ended."""
    out = well(
        f"""
        import trainwatt
        error = {raised}
        @trainwatt.run()
        def fail():
            with trainwatt.phase("eval"):
                raise error
        for how in (fail, fail):
            try:
                how()
            except BaseException as caught:
                print(caught is error, caught.__context__, caught.__cause__)
        """,
        path,
    )
    daemon.wait("end", 2)

    assert "True None None\n" * 2 == out


def test_an_id_again_goes_on_counting(daemon: Recorder, path: Path) -> None:
    """Counts are those of the process in that run: when it comes back to an id, they go on."""
    well(
        """
        import trainwatt
        for _ in range(3):
            with trainwatt.run(id="r"):
                trainwatt.step(tokens=5)
            trainwatt.step(tokens=1000)  # in no run
        """,
        path,
    )
    daemon.wait("end", 3)

    assert ["start", "progress", "end"] * 3 == daemon.outline()
    assert [(1, 5), (2, 10), (3, 15)] == [(said["steps"], said["tokens"]) for said in daemon.said("progress")]


# -- in a job that `trainwatt run` has started -------------------------------------------------------------------------


def test_inside_trainwatt_run_no_with_is_needed(daemon: Recorder, path: Path) -> None:
    """The first call joins the run of the environment; a `with` is that run, and does not end it."""
    well(
        """
        import trainwatt
        trainwatt.step()
        trainwatt.phase("train")
        with trainwatt.run("another", id="another"):
            trainwatt.step()
            trainwatt.phase("eval")
        trainwatt.step()
        """,
        path,
        TRAINWATT_RUN="given",
    )
    poll.until(lambda: 3 == daemon.said("progress")[-1]["steps"], what="the third step")

    assert {"op": "join", "run": "given"} == daemon.said()[0]
    assert ["phase train", "phase eval", "phase train"] == [word for word in daemon.outline() if "phase" in word]
    assert [] == daemon.said("start", "end")


def test_without_a_run_nothing_is_said(daemon: Recorder, path: Path) -> None:
    """Outside any run calls do nothing, and no connection is made."""
    out = well(
        """
        import sys, trainwatt
        trainwatt.step(); trainwatt.phase("eval"); trainwatt.progress(1, 2)
        print("socket" in sys.modules, trainwatt.stats()["connected"])
        """,
        path,
    )

    assert "False False\n" == out
    assert [] == daemon.said()


# -- counts --------------------------------------------------------------------------------------------------------


def test_counts_are_told_every_five_seconds(daemon: Recorder, path: Path) -> None:
    """However many steps there are, five seconds have one message; the last says it all."""
    began_s = time.monotonic()
    out = well(
        STEPS_FOR_S
        + """
with trainwatt.run(id="r"):
    print(steps_for(5.5, tokens=3))
""",
        path,
    )
    took_s = time.monotonic() - began_s
    daemon.wait("end")
    said = daemon.said("progress")

    assert 2 <= len(said) <= 2 + took_s / 5.0
    assert [int(out), 3 * int(out)] == [said[-1]["steps"], said[-1]["tokens"]]
    assert sorted(counts["steps"] for counts in said) == [counts["steps"] for counts in said]


def test_counts_come_with_a_phase(daemon: Recorder, path: Path) -> None:
    """A change of phase and the end of the process tell the counts, too, whatever the time."""
    well(
        """
        import trainwatt
        trainwatt.step()
        trainwatt.step(2)
        trainwatt.phase("eval")
        trainwatt.step(3)
        """,
        path,
        TRAINWATT_RUN="given",
    )
    poll.until(lambda: 6 == daemon.said("progress")[-1]["steps"], what="the last step")

    assert ["join", "progress", "progress", "phase eval", "progress"] == daemon.outline()
    assert [1, 3, 6] == [said["steps"] for said in daemon.said("progress")]


BAD = (
    "step('1')", "step(None)", "step(-1)", "step(tokens=[1])", "step(tokens=float('nan'))", "step(samples=1.5)",
    "step(10**30)", "step(tokens=Hostile())", "phase(None and 1 or [])", "phase(b'eval')", "progress('1', 2)",
    "progress(1, 0)", "progress(float('inf'), 1)", "progress(1, object())",
)  # fmt: skip


@pytest.mark.parametrize("call", BAD)
def test_bad_arguments_are_ignored(daemon: Recorder, path: Path, call: str) -> None:
    """What means nothing raises nothing, is counted, and leaves the rest as it is."""
    out = well(
        f"""
        import trainwatt
        class Hostile:
            def __getattribute__(self, name): raise RuntimeError(name)
            def __int__(self): raise RuntimeError("no")
        with trainwatt.run(id="r"):
            trainwatt.step(tokens=2)
            trainwatt.{call}
            trainwatt.step(tokens=2)
            print(trainwatt.stats()["ignored"], trainwatt.stats()["problem"] is not None)
        """,
        path,
    )
    daemon.wait("end")

    assert "1 True\n" == out
    assert {"op": "progress", "run": "r", "steps": 2, "tokens": 4} == daemon.said("progress")[-1]
    assert [] == daemon.said("phase")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("name=['x']", {}),
        ("name=5, project=1.5", {"name": "5", "project": "1.5"}),
        ("name='\\udcff\"\\n'", {"name": '\ufffd\ufffd\ufffd"\n'}),
        ("name='ä' * 10000", {"name": "ä" * 1000}),
        ("tags=[1, 2]", {}),
        ("tags={'a': object()}", {}),
        ("tags={str(i) + '𝄞' * 400: '𝄞' * 400 for i in range(99)}", {}),
        ("tags={str(i): i for i in range(99)}", {"tags": {str(i): str(i) for i in range(32)}}),
    ],
)
def test_bad_names(daemon: Recorder, path: Path, arguments: str, told: dict[str, object]) -> None:
    """Names that cannot be are left out, long ones cut; the run is there all the same, in a line of bounded length."""
    well(
        f"""
        import trainwatt
        with trainwatt.run(id="r", {arguments}):
            pass
        """,
        path,
    )
    daemon.wait("end")
    said = {key: value for key, value in daemon.said("start")[0].items() if value != {}}

    assert {"op": "start", "id": "r", **told} == said
    assert LONGEST_LINE_BYTES > len(json.dumps(said, ensure_ascii=False).encode())


def test_numbers_of_other_libraries(daemon: Recorder, path: Path) -> None:
    """What is registered as a number is one, as numpy's are; what can only be made one might have to wait."""
    well(
        """
        import numbers, trainwatt
        class Int64:
            def __int__(self): return 5
        class Tensor(Int64):
            def __index__(self): raise SystemExit("it would have waited for the GPU")
        numbers.Integral.register(Int64)
        numbers.Integral.register(bool)
        class Lazy:
            __int__ = __index__ = __float__ = Tensor.__index__
        with trainwatt.run(id="r"):
            trainwatt.step(True, tokens=Int64(), samples=2.0)
            trainwatt.step(1, tokens=Lazy())
        """,
        path,
    )
    daemon.wait("end")

    assert {"op": "progress", "run": "r", "steps": 1, "tokens": 5, "samples": 2} == daemon.said("progress")[-1]


# -- ids -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "run_id"),
    [
        ({"SLURM_JOB_ID": "12", "SLURM_CLUSTER_NAME": "alps", "TORCHELASTIC_RUN_ID": "x"}, "slurm-alps-12"),
        ({"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "2"}, "slurm-cluster-12_2"),
        ({"TORCHELASTIC_RUN_ID": "rdzv"}, "torchrun-rdzv"),
    ],
)
def test_the_id_is_the_schedulers(daemon: Recorder, path: Path, given: dict[str, str], run_id: str) -> None:
    """Without an id of its own a run has the scheduler's or launcher's, by the same rules as the daemon's."""
    well("import trainwatt\nwith trainwatt.run(): pass", path, **given)
    daemon.wait("end")

    assert run_id == identity.run_id(given, identity.Origin("", 1, 1)) == daemon.said("start")[0]["id"]
    assert given == daemon.said("start")[0]["environment"]
    assert [run_id] == [said["run"] for said in daemon.said("end")]


def test_two_workers_are_one_run(daemon: Recorder, path: Path) -> None:
    """Workers of one agent without a rendezvous id have one run: that of the process above them."""
    worker = "import trainwatt\nwith trainwatt.run(): trainwatt.step()\nwith trainwatt.run(): trainwatt.step()"
    processes = [start(worker, path, LOCAL_RANK=str(rank), TORCHELASTIC_RUN_ID="none") for rank in range(2)]
    for process in processes:
        assert ("", "") == process.communicate(timeout=60)
    daemon.wait("end", 4)
    ids = {pid: [said["run"] for said in daemon.said("end", pid=pid)] for pid, _ in daemon.heard}

    assert {process.pid for process in processes} == set(ids)
    assert 1 == len({tuple(runs) for runs in ids.values()})
    assert 2 == len(set(ids[processes[0].pid]))


def test_where_processes_have_other_numbers_the_daemon_names_the_run(daemon: Recorder, path: Path) -> None:
    """In a PID namespace no id is sent, and what comes after the start waits for the daemon's."""
    unshare = [need.program("unshare"), "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        need.missing("a PID namespace of one's own (unshare)")
    program = "import trainwatt\nwith trainwatt.run('n'): trainwatt.step()\nwith trainwatt.run(): trainwatt.step()"
    done = subprocess.run(
        [*unshare, sys.executable, "-c", program], env=environment(path), capture_output=True, check=False, timeout=60
    )
    daemon.wait("end", 2)
    first = daemon.said("end")[0]["run"]

    assert (0, b"", b"") == (done.returncode, done.stdout, done.stderr)
    ids = [said.get("id") for said in daemon.said("start")]
    assert ids[0] is None
    assert ids[1] in {None, f"{first}-2"}, "by then the answer may have told the first one's"
    assert first.startswith("tree-")
    assert first == daemon.said("progress")[0]["run"]


def test_the_daemons_id_is_used_from_then_on(path: Path) -> None:
    """An id that was another user's first is answered by another, which gets all that was told so far."""
    with recording(path, Recorder(renamed={"r": "r@ada"})) as daemon:
        out = well(
            """
            import trainwatt
            with trainwatt.run(id="r"):
                trainwatt.phase("train")
                while trainwatt.stats()["run"] != "r@ada":
                    trainwatt.phase("eval")
                    trainwatt.phase("train")
                trainwatt.step()
                print(trainwatt.stats()["run"])
            """,
            path,
        )
        daemon.wait("end")

    assert "r@ada\n" == out
    assert {"op": "end", "run": "r@ada"} == daemon.said()[-1]
    assert {"op": "progress", "run": "r@ada", "steps": 1} == daemon.said("progress")[-1]
    assert {"op": "phase", "run": "r@ada", "phase": "train"} in daemon.said("phase")


def test_an_early_end_of_a_renamed_run_is_said_again(path: Path) -> None:
    """A run that was left before its new id was known is ended under that id."""
    with recording(path, Recorder(renamed={"r": "r@ada"})) as daemon:
        well("import trainwatt\nwith trainwatt.run(id='r'): trainwatt.step()", path)
        poll.until(lambda: {"op": "end", "run": "r@ada"} in daemon.said(), what="the end")

    assert {"op": "progress", "run": "r@ada", "steps": 1} in daemon.said()


# -- connections -----------------------------------------------------------------------------------------------------


def test_a_dropped_connection_is_made_anew(path: Path) -> None:
    """A daemon that drops a silent client hears the next message all the same; no start again, and no SIGPIPE."""
    with recording(path, limits=Limits(silent_s=0.05)) as daemon:
        none = _sockets()
        process = start(
            """
            import signal, trainwatt
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            with trainwatt.run(id="r"):
                for phase in ("one", "two", "three"):
                    print(input() and "", flush=True)
                    trainwatt.phase(phase)
            """,
            path,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        for said in ("start", "phase one", "phase two"):
            poll.until(lambda said=said: said in daemon.outline(), what=said)  # type: ignore[misc]
            poll.until(lambda: none == _sockets(), what="the daemon's hanging up", every_s=0.01)
            process.stdin.write("go\n")
            process.stdin.flush()
            process.stdout.readline()
        assert ("", "") == process.communicate(timeout=60)
        daemon.wait("end")

    assert ["start", "phase one", "phase two", "phase three", "end"] == daemon.outline()


def _sockets() -> int:
    """Open sockets of this process, in which the daemon is a thread."""
    links = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(path.readlink().name.startswith("socket:") for path in links)


def test_a_daemon_that_forgot_the_run_is_told_again(path: Path) -> None:
    """When a count is refused the run is started again, once, and the counts follow."""
    with recording(path, Recorder(refuse={"progress": 1})) as daemon:
        process = start(
            STEPS_FOR_S
            + """
with trainwatt.run(id="r"):
    steps_for(1.1)
    while trainwatt.stats()["refused"] == 0:
        trainwatt.step()
    steps_for(1.1)
""",
            path,
        )
        assert ("", "") == process.communicate(timeout=60)

    assert 0 == process.returncode
    assert 1 <= len(daemon.said("start")) <= 2


def test_a_restarted_daemon_hears_the_rest(tmp_path: Path) -> None:
    """A daemon on the same path, started while the job runs, gets the absolute counts and the end."""
    path = tmp_path / "run" / "socket"
    program = """
    import trainwatt
    with trainwatt.run(id="r"):
        trainwatt.step()
        input()
        trainwatt.step()
    """
    with recording(path) as first:
        process = start(program, path)
        first.wait("start")
        poll.until(lambda: process.poll() is None, what="the job")
    with recording(path) as second:
        assert ("", "") == process.communicate("\n", timeout=60)
        second.wait("end")

    assert {"op": "progress", "run": "r", "steps": 2} == second.said("progress")[-1]


# -- many at a time ----------------------------------------------------------------------------------------------------


def test_threads_count_together(daemon: Recorder, path: Path) -> None:
    """Of eight threads that step at once no step is lost."""
    well(
        """
        import sys, threading, trainwatt
        sys.setswitchinterval(1e-5)
        def work():
            for number in range(20000):
                trainwatt.step(tokens=2)
                if number % 1000 == 0:
                    trainwatt.phase(str(number % 3))
        with trainwatt.run(id="r"):
            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
        """,
        path,
    )
    daemon.wait("end")

    assert {"op": "progress", "run": "r", "steps": 160000, "tokens": 320000} == daemon.said("progress")[-1]


def test_calls_from_within_a_call_do_not_keep_it(daemon: Recorder, path: Path) -> None:
    """A handler that strikes each time the daemon's answers are read: the call comes back, and no step is lost."""
    out = well(
        """
        import sys, trainwatt
        struck = 0
        def strike(_frame, event, called):
            global struck
            if event == "c_call" and called.__name__ == "recv":
                struck += 1
                trainwatt.step()
                trainwatt.phase("p%d" % (struck % 2))
        with trainwatt.run(id="r"):
            sys.setprofile(strike)
            for _ in range(5):
                trainwatt.phase("mine")
            sys.setprofile(None)
            trainwatt.step()
            trainwatt.phase("end")
        print(struck + 1)
        """,
        path,
    )
    daemon.wait("end")

    assert int(out) == daemon.said("progress")[-1]["steps"] > 5
    assert ["phase end", "end"] == [word for word in daemon.outline() if word != "progress"][-2:]


def test_a_signal_handler_may_call_it(daemon: Recorder, path: Path) -> None:
    """Steps and phases within a signal handler, wherever it strikes, neither hang nor get lost."""
    out = well(
        """
        import signal, time, trainwatt
        struck = 0
        def handler(*_):
            global struck
            struck += 1
            trainwatt.step()
            trainwatt.phase("p%d" % (struck % 2))
        with trainwatt.run(id="r"):
            signal.signal(signal.SIGALRM, handler)
            made, armed, ends_s = 0, -1, time.monotonic() + 1.5
            while time.monotonic() < ends_s:
                if armed != struck:  # one at a time: on a busy machine one that repeats leaves time for nothing else
                    armed = struck
                    signal.setitimer(signal.ITIMER_REAL, 0.0003)
                trainwatt.step()
                made += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            trainwatt.phase("end")
        print(made, struck)
        """,
        path,
    )
    daemon.wait("end")

    made, struck = map(int, out.split())
    assert made + struck == daemon.said("progress")[-1]["steps"]
    assert struck > 20
    assert "phase end" == daemon.outline()[-2]


def test_interrupted_again_and_again_it_works_on(daemon: Recorder, path: Path) -> None:
    """Exceptions that strike anywhere, in the middle of it too, pass to the job, and what comes later is told."""
    process = start(
        """
        import select, signal, sys, time, trainwatt, warnings
        warnings.simplefilter("ignore", ResourceWarning)  # what is interrupted before it is stored is lost to anybody
        def handler(*_): raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, handler)
        caught = 0
        with trainwatt.run(id="r"):
            ends_s = time.monotonic() + 1.5
            while time.monotonic() < ends_s:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0002)
                    while True:
                        trainwatt.phase("a"); trainwatt.phase("b")
                except KeyboardInterrupt:
                    caught += 1
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            trainwatt.phase("last")
            while not select.select([sys.stdin], [], [], 0)[0]:
                trainwatt.step()
        print(caught > 100)
        """,
        path,
    )
    poll.until(lambda: "phase last" in daemon.outline(), what="the last phase")

    assert ("True\n", "") == process.communicate("\n", timeout=60)
    assert 0 == process.returncode


# -- forks ---------------------------------------------------------------------------------------------------------


def test_a_forked_child_counts_for_itself(daemon: Recorder, path: Path) -> None:
    """A child that was forked in a run has a connection and counts of its own, and cannot end its parent's run."""
    out = well(
        """
        import os, trainwatt
        with trainwatt.run(id="r"):
            trainwatt.step(5)
            trainwatt.phase("train")
            child = os.fork()
            if child == 0:
                trainwatt.step(2)
            else:
                os.waitpid(child, 0)
                trainwatt.step(1)
        if child:
            print(child)
        """,
        path,
    )
    daemon.wait("end")
    child = int(out)
    parents = next(pid for pid, _ in daemon.heard if pid != child)

    assert ["progress"] == daemon.outline(child)
    assert {"op": "progress", "run": "r", "steps": 2} == daemon.said(pid=child)[0]
    assert 6 == daemon.said("progress", pid=parents)[-1]["steps"]
    assert ["start", "end"] == [said["op"] for said in daemon.said("start", "end")]


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing(daemon: Recorder, path: Path, tmp_path: Path, how: str) -> None:
    """Workers join the run of the environment by themselves, and their last counts are told before they end."""
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, sys, trainwatt\n"
        "def work(steps):\n"
        "    for _ in range(steps): trainwatt.step()\n"
        "if __name__ == '__main__':\n"
        "    trainwatt.step()\n"
        f"    context = multiprocessing.get_context('{how}')\n"
        "    workers = [context.Process(target=work, args=(10 * n,)) for n in (1, 2)]\n"
        "    for worker in workers: worker.start()\n"
        "    for worker in workers: worker.join()\n"
        "    print([worker.exitcode for worker in workers])\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        env=environment(path, TRAINWATT_RUN="given"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    pids = {pid for pid, _ in daemon.heard}

    assert (0, "[0, 0]\n", "") == (done.returncode, done.stdout, done.stderr)
    assert [1, 10, 20] == sorted(daemon.said("progress", pid=pid)[-1]["steps"] for pid in pids)
    assert 3 == len(daemon.said("join"))


def test_a_child_that_does_nothing_says_nothing(daemon: Recorder, path: Path) -> None:
    """Loaders of data, forked within a run, that never call us are never heard of; theirs is no socket of ours."""
    out = well(
        """
        import os, trainwatt
        with trainwatt.run(id="r"):
            trainwatt.phase("train")
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                links = ["/proc/self/fd/" + fd for fd in os.listdir("/proc/self/fd")]
                sockets = [link for link in links if os.path.islink(link) and "socket" in os.readlink(link)]
                os.write(write, str(len(sockets)).encode())
                os._exit(0)
            os.waitpid(child, 0)
            print(os.read(read, 10).decode(), child)
        """,
        path,
    )
    daemon.wait("end")
    sockets, child = out.split()

    assert "0" == sockets
    assert [] == daemon.said(pid=int(child))


# -- manners -------------------------------------------------------------------------------------------------------


def test_the_file_is_python_38() -> None:
    """Jobs have old interpreters."""
    ast.parse((ROOT / "trainwatt.py").read_text(), feature_version=(3, 8))


def test_it_imports_the_standard_library_only() -> None:
    """But for the command's own door."""
    tree = ast.parse((ROOT / "trainwatt.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert {"monitor.cli"} == {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}


def test_an_import_touches_nothing(tmp_path: Path) -> None:
    """It loads no module of weight, opens nothing, and leaves handlers, hooks and threads as they are."""
    out = well(
        """
        import atexit, os, signal, sys
        def state():
            return (os.listdir("/proc/self/fd"), len(os.listdir("/proc/self/task")), dict(os.environ),
                    [signal.getsignal(number) for number in signal.valid_signals()], atexit._ncallbacks())
        modules, before = set(sys.modules), state()
        import trainwatt
        print(before == state(), set(sys.modules) - modules <= {"trainwatt", "__future__"})
        """,
        tmp_path / "none",
    )

    assert "True True\n" == out


def test_a_run_replaces_no_handler_and_starts_no_thread(daemon: Recorder, path: Path) -> None:
    """Signals, threads, excepthook, logging and the environment are the job's own during a run, too."""
    out = well(
        """
        import os, signal, sys, trainwatt
        def state():
            return ([signal.getsignal(n) for n in signal.valid_signals()], len(os.listdir("/proc/self/task")),
                    sys.excepthook, dict(os.environ), "logging" in sys.modules, "threading" in sys.modules)
        before = state()
        with trainwatt.run():
            trainwatt.step()
            print(before == state())
        print(before == state())
        """,
        path,
    )
    daemon.wait("end")

    assert "True\nTrue\n" == out


def test_descriptors_that_the_job_closed_are_left_alone(daemon: Recorder, path: Path, tmp_path: Path) -> None:
    """A job that closes all descriptors and opens others finds nothing of ours in them."""
    file = tmp_path / "file"
    well(
        """
        import os, sys, trainwatt
        with trainwatt.run(id="r"):
            trainwatt.phase("one")
            os.closerange(3, 100)
            mine = [os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT) for _ in range(20)]
            trainwatt.phase("two")
        for fd in mine:
            os.fstat(fd)
        """,
        path,
        str(file),
    )
    daemon.wait("end")

    assert "" == file.read_text()
    assert "phase two" in daemon.outline()


def test_the_public_names() -> None:
    """What is promised, and no more."""
    import trainwatt

    assert ["main", "phase", "progress", "run", "stats", "step"] == sorted(trainwatt.__all__)
    assert 0 == job("import trainwatt\ntrainwatt.stats()", None)[0]

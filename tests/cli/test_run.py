"""`trainwatt run` as its user meets it: the command as ever, one line and a report at the end, nothing left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from monitor.runs import private, protocol
from tests.drivers import nvml
from tests.harness import need, poll
from tests.harness.daemon import clean_environment, daemon

# Writes what it was started with, then ends when the file `go` is there, with the code in it.
JOB = (
    sys.executable,
    "-c",
    (
        "import json, os, pathlib, sys, time\n"
        "me = pathlib.Path(f'job-{os.getpid()}')\n"
        "me.with_suffix('.new').write_text(json.dumps({'pid': os.getpid(), 'environment': dict(os.environ)}))\n"
        "me.with_suffix('.new').rename(me)\n"
        "go = pathlib.Path('go')\n"
        "while not go.exists(): time.sleep(0.02)\n"
        "sys.exit(int(go.read_text()))\n"
    ),
)


def _come_first() -> None:
    with contextlib.suppress(PermissionError):  # it takes root
        os.nice(-10)


class Place:
    """A working directory and a runtime directory of its own, in which nobody has installed a daemon."""

    def __init__(self, root: Path) -> None:
        self.runtime = root / "runtime"
        self.work = root / "work"
        self.runtime.mkdir(mode=0o700)
        self.work.mkdir()
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start `trainwatt run ARGS` on simulated devices, before the tests beside this one: it waits 5 s to begin."""
        mine = {"XDG_RUNTIME_DIR": str(self.runtime), "TRAINWATT_MOCK": "training"}
        process = subprocess.Popen(
            [need.trainwatt(), "run", *args],
            env=clean_environment(mine | dict(env or {})),
            cwd=self.work,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_come_first,  # noqa: PLW1509  (no test of this file has threads)
        )
        self._processes.append(process)
        return process

    def run(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        process = self.start(*args, env=env)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def jobs(self, count: int = 1) -> list[dict[str, Any]]:
        """What the jobs were started with, once so many are at work."""

        def found() -> list[Path]:
            paths = list(self.work.glob("job-*[0-9]"))
            return paths if len(paths) == count else []

        return [json.loads(path.read_text()) for path in poll.until(found, what=f"{count} jobs")]

    def go(self, code: int = 0) -> None:
        """Let the jobs end."""
        (self.work / "go.new").write_text(str(code))
        (self.work / "go.new").rename(self.work / "go")

    def reports(self) -> list[dict[str, Any]]:
        """The report files in the working directory."""
        return [json.loads(path.read_text()) for path in sorted(self.work.glob("trainwatt-*.json"))]

    def left(self) -> list[str]:
        """What is still there: private daemons and their directories."""
        return [*(str(path) for path in self.runtime.glob("trainwatt/*")), *map(str, self.daemons())]

    def daemons(self) -> list[int]:
        """Processes that name the runtime directory."""
        found = []
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if os.fsencode(self.runtime) in command.read_bytes():
                    found.append(int(command.parent.name))
        return found

    def close(self) -> None:
        """End what a failed test has left."""
        self.go()
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=10)
        for pid in self.daemons():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def place() -> Iterator[Place]:
    """Somewhere to run, with short names: those of sockets have at most 107 bytes."""
    if private.answering(protocol.SYSTEM_PATH):
        need.missing("a machine without a daemon of its own")
    with tempfile.TemporaryDirectory(prefix="tw-") as name:
        made = Place(Path(name))
        yield made
        made.close()


# -- without a daemon ------------------------------------------------------------------------------------------------


def test_it_meters_with_a_daemon_of_its_own(place: Place) -> None:
    """The command's words and exit code, one summary on stderr, one report file, and nothing else stays."""
    done = place.run("--name", "demo", "--tag", "team=vision", "--", "sh", "-c", "echo hi; echo there >&2; exit 3")

    assert (3, "hi\n") == (done.returncode, done.stdout)
    there, summary, missing = done.stderr.splitlines()

    assert there == "there"
    assert summary.startswith("trainwatt: run demo: ")
    assert missing.startswith("trainwatt: not measured: ")
    (report,) = place.reports()

    assert ("demo", {"team": "vision"}) == (report["run"]["name"], report["run"]["tags"])
    assert summary.endswith(f"; report: trainwatt-{report['run']['id']}-{report['node']}.json")
    assert not report["active"]
    assert sum(part["energy_j"] for part in report["energy_j"]) > 0.0
    assert {"simulated"} == {part["method"] for part in report["energy_j"]}
    assert [] == place.left()


def test_the_command_sees_two_variables_more(place: Place) -> None:
    """Its environment is ours plus the run's id and the socket, which answers; PYTHONPATH is untouched."""
    (place.work / "monitor.py").write_text("raise SystemExit('shadowed')\n")
    process = place.start("--", *JOB, env={"PYTHONPATH": f"{place.work}::.", "LC_ALL": "", "ODD": "a=b\nc"})
    (job,) = place.jobs()
    theirs = job["environment"]
    ours = Path(f"/proc/{process.pid}/environ").read_text().split("\0")

    assert (
        protocol.ask(Path(theirs["TRAINWATT_SOCKET"]), {"op": "runs"})["runs"][0]["run"]["id"]
        == theirs["TRAINWATT_RUN"]
    )
    # Python adds this to its own where no locale is set (PEP 538): the job is one, too.
    added = {"TRAINWATT_RUN", "TRAINWATT_SOCKET", "LC_CTYPE"}
    assert {line for line in ours if line and not line.startswith("LC_CTYPE=")} == {
        f"{name}={text}" for name, text in theirs.items() if name not in added
    }
    place.go()

    assert 0 == process.wait(30)
    assert [] == place.left()


@pytest.mark.parametrize(("how", "code"), [("exit 0", 0), ("kill -TERM $$", -15), ("kill -SEGV $$", -11)])
def test_the_end_is_the_commands(how: str, code: int, place: Place) -> None:
    """Whatever the end, the report is written first."""
    done = place.run("--", "sh", "-c", how)

    assert code == done.returncode
    assert 1 == len(place.reports())
    assert [] == place.left()


def test_a_signal_to_us_is_the_commands(place: Place) -> None:
    """SIGTERM ends the command, then us, with summary and report."""
    process = place.start("--", *JOB)
    place.jobs()
    process.terminate()

    assert -signal.SIGTERM == process.wait(30)
    assert 1 == len(place.reports())
    assert [] == place.left()


def test_ranks_share_one(place: Place) -> None:
    """Two ranks that start at once: one daemon, one run, one report, by the last to end."""
    ranks = [place.start("--id", "together", "--", *JOB) for _ in range(2)]
    jobs = place.jobs(2)

    assert 1 == len(place.daemons())
    assert 1 == len({job["environment"]["TRAINWATT_SOCKET"] for job in jobs})
    assert {"together"} == {job["environment"]["TRAINWATT_RUN"] for job in jobs}
    place.go(5)

    assert [5, 5] == [rank.wait(30) for rank in ranks]
    assert 1 == sum(rank.stderr.read().count("run ") for rank in ranks if rank.stderr)
    (report,) = place.reports()

    assert "together" == report["run"]["id"]
    poll.until(lambda: not place.left(), what="the end of the daemon")


def test_a_run_within_a_run_is_the_same(place: Place) -> None:
    """A command that calls `trainwatt run` again joins the run that it is in: one daemon, one report."""
    done = place.run("--", need.trainwatt(), "run", "--", "sh", "-c", "exit 4")

    assert 4 == done.returncode
    assert 1 == len(place.reports())
    assert 2 == done.stderr.count("\n")
    assert [] == place.left()


def test_we_are_killed(place: Place) -> None:
    """After kill -9 of us the job goes on, the daemon with it, and after the job nothing is left."""
    process = place.start("--", *JOB)
    (job,) = place.jobs()
    process.kill()
    process.wait(10)

    assert protocol.ask(Path(job["environment"]["TRAINWATT_SOCKET"]), {"op": "runs"})["runs"][0]["active"]
    place.go()
    poll.until(lambda: not Path(f"/proc/{job['pid']}").exists(), what="the end of the job")
    poll.until(lambda: not place.left(), what="the end of the daemon")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_daemon_is_killed(number: signal.Signals, place: Place) -> None:
    """The job does not notice; in the end another one goes on from the ledger, and the report is there."""
    process = place.start("--", *JOB)
    (job,) = place.jobs()
    (pid,) = place.daemons()
    began_s = time.time()
    os.kill(pid, number)
    poll.until(lambda: private.answering(Path(job["environment"]["TRAINWATT_SOCKET"])) is None, what="its end")

    assert process.poll() is None
    place.go(6)

    assert 6 == process.wait(30)
    (report,) = place.reports()

    assert report["end_unix_s"] > began_s > report["start_unix_s"]
    assert report["run"]["id"] == job["environment"]["TRAINWATT_RUN"]
    assert [] == place.left()


def test_without_a_place_for_a_daemon_the_command_runs(place: Place) -> None:
    """A runtime directory that is somebody's trap: one line that says so, the command, no report, nothing followed."""
    (place.runtime / "elsewhere").mkdir()
    (place.runtime / "trainwatt").symlink_to("elsewhere")
    done = place.run("--", "sh", "-c", "echo ${TRAINWATT_RUN-none}; exit 3")

    assert (3, "none\n", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert "it is not metered" in done.stderr
    assert not place.reports()
    assert not list((place.runtime / "elsewhere").iterdir())


def test_a_daemon_that_cannot_start_is_no_reason(place: Place) -> None:
    """What it says in its last line is told, the command runs, and nothing is left."""
    done = place.run("--sysfs", "/no/such/root", "--", "sh", "-c", "exit 3", env={"TRAINWATT_MOCK": ""})

    assert (3, 1) == (done.returncode, done.stderr.count("\n"))
    assert "/no/such/root: no such directory" in done.stderr
    assert [] == place.left()


def test_a_driver_that_is_slow_to_start(place: Place, library: Path, tmp_path: Path) -> None:
    """A command that waited five seconds runs; metering begins when it can, and what is missing is told."""
    (tmp_path / "sys").mkdir()
    driver = nvml.FakeDriver(tmp_path / "nvml.conf")
    driver.latency("nvmlInitWithFlags", 7.0)
    process = place.start(
        "--id",
        "late",
        "--sysfs",
        str(tmp_path / "sys"),
        "--",
        *JOB,
        env={"TRAINWATT_MOCK": "", "CUDA_VISIBLE_DEVICES": "0", **driver.environment(library.parent)},
    )
    (job,) = place.jobs()

    assert "late" == job["environment"]["TRAINWATT_RUN"]
    socket = Path(job["environment"]["TRAINWATT_SOCKET"])
    poll.until(lambda: private.answering(socket) and protocol.ask(socket, {"op": "runs"})["runs"], what="the run")
    poll.until(lambda: protocol.ask(socket, {"op": "report", "run": "late"})["report"]["energy_j"], what="joules")
    place.go(3)

    assert 3 == process.wait(30)
    assert process.stderr is not None
    said = process.stderr.read()

    assert "it is metered as soon as that works" in said
    assert "s, before the daemon answered" in said
    (report,) = place.reports()

    assert {"gpu": "counter"} == {part["component"]: part["method"] for part in report["energy_j"]}
    assert [] == place.left()


# -- with an installed one -------------------------------------------------------------------------------------------


def test_it_uses_the_daemon_that_is_there(place: Place, tmp_path: Path) -> None:
    """The daemon's ledger counts the run, no private one is started, and it serves on after the run."""
    with daemon("--mock", log=tmp_path / "log") as served:
        done = place.run("--socket", str(served.socket), "--", "sh", "-c", "echo $TRAINWATT_SOCKET")
        (report,) = place.reports()

        assert (0, f"{served.socket}\n") == (done.returncode, done.stdout)
        assert f'ledger="{report["ledger"]}",name="sh",' in served.metrics()
        assert f'run="{report["run"]["id"]}"' in served.metrics()
        assert [] == place.left()


def test_the_daemon_dies_in_the_middle(place: Place, tmp_path: Path) -> None:
    """The job's end is as ever; one line says how to get the report later."""
    with daemon("--mock", log=tmp_path / "log") as served:
        process = place.start("--socket", str(served.socket), "--id", "lost", "--", *JOB)
        place.jobs()
        served.process.kill()
        served.process.wait(10)
        place.go(7)

        assert 7 == process.wait(30)
        assert process.stderr is not None
        said = process.stderr.read()

        assert 1 == said.count("\n")
        assert "trainwatt report lost" in said
        assert [] == place.left()


def test_a_daemon_that_hangs_is_not_waited_for(place: Place, tmp_path: Path) -> None:
    """The command starts within six seconds without being metered, and one line says so."""
    with daemon("--mock", log=tmp_path / "log") as served:
        served.process.send_signal(signal.SIGSTOP)
        began_s = time.monotonic()
        try:
            done = place.run("--socket", str(served.socket), "--", "sh", "-c", "exit 2")
        finally:
            served.process.send_signal(signal.SIGCONT)
        took_s = time.monotonic() - began_s
        poll.until(served.ready, what="the daemon")

        assert (2, 1) == (done.returncode, done.stderr.count("\n"))
        assert 5.0 < took_s < 8.0
        assert "the command runs" in done.stderr


def test_a_dead_socket_is_no_daemon(place: Place) -> None:
    """A socket that was named and is dead is told; a private daemon meters the run."""
    done = place.run("--", "true", env={"TRAINWATT_SOCKET": "/no/such/socket"})

    assert 0 == done.returncode
    assert done.stderr.startswith("trainwatt: no daemon answers on /no/such/socket")
    assert 1 == len(place.reports())
    assert [] == place.left()


# -- the report file -------------------------------------------------------------------------------------------------


def test_where_the_report_goes(place: Place) -> None:
    """Nowhere, into a directory, to a file; an id that no file can be named after; never over somebody else's file."""
    (place.work / "reports").mkdir()
    (place.work / "mine.json").write_text("{}")

    assert 0 == place.run("--report", "none", "--", "true").returncode
    assert [] == place.reports()
    assert 0 == place.run("--report", "reports", "--id", "../a/b c\n", "--", "true").returncode
    (inside,) = (place.work / "reports").iterdir()

    assert inside.name.startswith("trainwatt-..-a-b-c-")
    done = place.run("--report", "mine.json", "--", "true")

    assert "{}" == (place.work / "mine.json").read_text()
    assert "trainwatt-report" == json.loads((place.work / "mine-2.json").read_text())["format"]
    assert "; report: mine-2.json\n" in done.stderr
    assert [] == place.left()


def test_a_report_that_cannot_be_written_there(place: Place) -> None:
    """One line says so and where it is instead; the exit code is the command's."""
    done = place.run("--report", "no/such/place.json", "--", "sh", "-c", "exit 9")

    assert 9 == done.returncode
    assert "cannot write no/such/place.json" in done.stderr
    (other,) = (place.runtime / "trainwatt").iterdir()

    assert str(other) in done.stderr
    assert "trainwatt-report" == json.loads(other.read_text())["format"]


# -- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ((), 2, "CMD"),
        (("--",), 2, "CMD"),
        (("--nam", "x", "--", "true"), 2, "--name"),
        (("--tag", "vision", "--", "true"), 2, "expected KEY=VALUE"),
        (("--tag", "budget_energy_kwh=abc", "--", "true"), 2, "budget_energy_kwh: 'abc' is no amount; write a number"),
        (("--tag", " budget_cost =0", "--", "true"), 2, "budget_cost: '0' is no amount"),
        (("--tag", "budget_energy=5", "--", "true"), 2, "there is: budget_energy_kwh, budget_co2e_kg, budget_cost"),
        (("--tag", "budget_kwh=5", "--", "true"), 2, "there is: budget_energy_kwh, budget_co2e_kg, budget_cost"),
        (("--id", " ", "--", "true"), 2, "--id is empty"),
        (("--interval", "0", "--", "true"), 2, "interval"),
        (("--", "no-such-command"), 127, "no-such-command: command not found"),
        (("--", "./plain"), 126, "cannot be executed"),
    ],
)
def test_a_mistake_starts_nothing(args: tuple[str, ...], code: int, says: str, place: Place) -> None:
    """One line, the exit code that belongs to it, and neither a command nor a daemon was started."""
    (place.work / "plain").write_text("echo hi\n")
    done = place.run(*args)

    assert (code, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert says in done.stderr
    assert not place.left()
    assert not place.reports()


def test_the_commands_own_flags_are_its_own(place: Place) -> None:
    """From its first word on, or after --, everything belongs to the command."""
    done = place.run("--report", "none", "printf", "%s,", "--name", "x", "--", "--help")

    assert (0, "--name,x,--,--help,") == (done.returncode, done.stdout)
    assert "run printf %s,:" in done.stderr

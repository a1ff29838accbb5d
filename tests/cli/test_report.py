"""The verbs runs, report and forget, against files and against a daemon's control socket."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from exporters.report_document import run_summary
from exporters.report_file import report_json
from monitor.errors import FailureError
from monitor.runs import control
from monitor.runs.protocol import Peer
from tests.exporters.test_report_document import demo, document, snapshot, totals
from tests.exporters.test_report_merge import on
from tests.harness import need
from tests.harness.daemon import clean_environment, command

EVIL = "ev\x1b[31mil \N{SNOWMAN}"


class Answering:
    """A daemon that knows one run, and writes down what it was asked."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.asked: list[Mapping[str, Any]] = []
        self.operations = {"runs": self.runs, "report": self.report, "forget": self.forget}

    async def runs(self, _peer: Peer, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """The one."""
        self.asked.append(request)
        entry = totals(demo(name=EVIL))
        return {"runs": [run_summary(entry, snapshot(entry))], "problem": "the disk is gone"}

    async def report(self, _peer: Peer, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Its report; of a newer daemon when it is asked so."""
        if request["run"] == "newer":
            return {"report": document() | {"version": 9}}
        if request["run"] != "demo-1":
            raise FailureError(f"no run {request['run']!r} is known here; did you mean demo-1?")
        return {"report": document(totals(demo(name=EVIL)))}

    async def forget(self, _peer: Peer, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """As if there were one."""
        self.asked.append(request)
        return {"forgotten": 0 if request.get("user") == "nobody" else 1}


@pytest.fixture
def daemon() -> Iterator[Answering]:
    """One that answers on a socket with a short path (unix(7): at most 107 bytes)."""
    with TemporaryDirectory(prefix="tw-") as short:
        answering = Answering(Path(short) / "socket")
        with control.serving(answering.socket, answering.operations):
            yield answering


def test_a_file_is_told_as_text_and_as_json(tmp_path: Path) -> None:
    """A report file gives the text, and with --format json itself again."""
    file = tmp_path / "report.json"
    file.write_text(report_json(document()))
    text, again = command("report", str(file)), command("report", "--format", "json", str(file))

    assert (0, "") == (text.returncode, text.stderr)
    assert text.stdout.startswith("Run demo\n========\n")
    assert "12.34 kJ (3.43 Wh), measured" in text.stdout
    assert json.loads(again.stdout) == json.loads(file.read_text())


def test_files_of_several_nodes_merge_into_one(tmp_path: Path) -> None:
    """-o writes the merged report, which is a report file like any other, and nothing on stdout."""
    for node in ("a", "b"):
        (tmp_path / f"{node}.json").write_text(report_json(on(f"node-{node}")))
    done = command("report", "a.json", "b.json", "--format", "json", "-o", "both.json", cwd=tmp_path)
    again = command("report", "both.json", "a.json", cwd=tmp_path)

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    assert "24.68 kJ (6.86 Wh), measured" in again.stdout
    assert "left out: a report of node-a" in again.stdout


def test_the_daemon_is_asked_for_what_is_no_file(daemon: Answering, tmp_path: Path) -> None:
    """An id is asked over the socket, and merges with files; names are shown and not obeyed."""
    (tmp_path / "b.json").write_text(report_json(on("node-b")))
    done = command("report", "demo-1", "b.json", "--socket", str(daemon.socket), cwd=tmp_path)

    assert (0, "") == (done.returncode, done.stderr)
    assert "24.68 kJ" in done.stdout
    assert r"ev\x1b[31mil" in command("report", "demo-1", "--socket", str(daemon.socket)).stdout


def test_a_terminal_of_few_letters_gets_all_words(daemon: Answering) -> None:
    """A name with letters that the terminal does not know is escaped instead of ending the command."""
    plain = {"PYTHONIOENCODING": "ascii"}
    done = [
        command(verb, *args, "--socket", str(daemon.socket), env=plain)
        for verb, args in (("report", ["demo-1"]), ("runs", []))
    ]

    assert [0, 0] == [one.returncode for one in done]
    assert all(r"\u2603" in one.stdout for one in done)


@pytest.mark.parametrize(
    ("args", "exit_code", "says"),
    [
        ([], 2, "RUN|FILE"),
        (["--format", "pdf", "x"], 2, "pdf"),
        (["none.json"], 1, "there is no file 'none.json'"),
        (["./none"], 1, "there is no file './none'"),
        (["text.json"], 1, "text.json is not JSON"),
        (["other.json"], 1, "other.json is not a report of trainwatt"),
        (["cut.json"], 1, "cut.json is cut off"),
        (["newer.json"], 1, "newer.json is a report of version 2"),
        (["large.json"], 1, "large.json is larger than any report (64 MiB)"),
        (["."], 1, "cannot read .: Is a directory"),
        (["good.json", "another.json"], 2, "reports of 2 runs ('demo-1', 'demo-2')"),
        (["good.json", "-o", "none/out.txt"], 1, "cannot write none/out.txt: No such file"),
        (["some-run"], 1, "no daemon answers on /no/socket; start one with trainwatt serve; and 'some-run' is no file"),
        (["x" * 5000], 1, "no daemon answers on /no/socket"),
    ],
)
def test_a_mistake_gets_one_line(tmp_path: Path, args: list[str], exit_code: int, says: str) -> None:
    """Whatever is wrong with an argument or a file, it is one line on stderr."""
    good = report_json(document())
    for name, text in {
        "good": good,
        "text": "hello",
        "other": '{"a": 1}',
        "cut": good[:300],
        "newer": good.replace('"version": 1', '"version": 2'),
        "another": report_json(document(totals(demo(id="demo-2")))),
    }.items():
        (tmp_path / f"{name}.json").write_text(text)
    with (tmp_path / "large.json").open("wb") as sparse:
        sparse.truncate(100 * 1024**2)
    done = command("report", *args, "--socket", "/no/socket", cwd=tmp_path)

    assert (exit_code, 1, "") == (done.returncode, done.stderr.count("\n"), done.stdout)
    assert says in done.stderr


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    """A file of somebody else is named with the reason."""
    as_nobody: list[str] = []
    if os.geteuid() == 0:
        as_nobody = [need.program("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*as_nobody, sys.executable, "-c", ""], check=False, cwd="/").returncode:
        need.missing("an interpreter that an ordinary user may run")
    file = tmp_path / "report.json"
    file.touch(mode=0)
    done = subprocess.run(
        [*as_nobody, need.trainwatt(), "report", str(file)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )

    assert (1, f"trainwatt: cannot read {file}: Permission denied\n") == (done.returncode, done.stderr)


def test_what_the_daemon_says_of_a_run_is_passed_on(daemon: Answering) -> None:
    """An unknown run comes with near ids, and a daemon that is newer than the command is told from a damaged report."""
    unknown, newer = (command("report", run, "--socket", str(daemon.socket)) for run in ("demo", "newer"))

    assert "trainwatt: no run 'demo' is known here; did you mean demo-1?\n" == unknown.stderr
    assert "the daemon's report of 'newer' is a report of version 9" in newer.stderr
    assert [1, 1] == [unknown.returncode, newer.returncode]


def test_runs_are_listed(daemon: Answering) -> None:
    """A table with the limit that was asked for, or JSON; what may be missing is said on stderr."""
    table = command("runs", "--limit", "5", "--socket", str(daemon.socket))
    listed = command("runs", "--json", "--socket", str(daemon.socket))

    assert table.stdout.splitlines()[0].split()[:3] == ["id", "name", "user"]
    assert "12.34 kJ" in table.stdout
    assert r"ev\x1b[31mil" in table.stdout
    assert "trainwatt: ended runs may be missing: the disk is gone\n" == table.stderr
    assert [5, 20] == [request["limit"] for request in daemon.asked]
    assert "demo-1" == json.loads(listed.stdout)[0]["run"]["id"]


@pytest.mark.parametrize(
    ("args", "exit_code", "says", "asked"),
    [
        (["demo-1", "--yes"], 0, "forgotten: 1 run\n", {"op": "forget", "run": "demo-1"}),
        (["--user", "ada", "--yes"], 0, "forgotten: 1 run\n", {"op": "forget", "user": "ada"}),
        (["--user", "nobody", "--yes"], 0, "there was nothing to forget\n", {"op": "forget", "user": "nobody"}),
        (["demo-1"], 2, "say --yes", None),
        ([], 2, "name one run, or one user", None),
        (["demo-1", "--user", "ada", "--yes"], 2, "name one run, or one user", None),
    ],
)
def test_forgetting_is_asked_of_the_daemon(
    daemon: Answering, args: list[str], exit_code: int, says: str, asked: Mapping[str, Any] | None
) -> None:
    """A run or a user is forgotten on --yes; where nobody can be asked, it is refused without --yes."""
    done = command("forget", *args, "--socket", str(daemon.socket))

    assert exit_code == done.returncode
    assert says in done.stdout + done.stderr
    assert ([asked] if asked else []) == daemon.asked


@pytest.mark.parametrize(("typed", "exit_code", "count"), [(b"y\n", 0, 1), (b"n\n", 1, 0), (b"\n", 1, 0)])
def test_a_terminal_is_asked_before_anything_is_forgotten(
    daemon: Answering, typed: bytes, exit_code: int, count: int
) -> None:
    """On a terminal only a yes goes on."""
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    done = subprocess.run(
        [need.trainwatt(), "forget", "demo-1", "--socket", str(daemon.socket)],
        env=clean_environment(),
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    os.close(ours)
    os.close(theirs)

    assert (exit_code, count) == (done.returncode, len(daemon.asked))
    assert "Erase the run 'demo-1' from the ledger for good?" in done.stdout

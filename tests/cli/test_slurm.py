"""The prolog and epilog commands: what they tell of slurmd's environment, and that a job never suffers from them."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from monitor.runs.announce import beginning, count_nodes, ending
from monitor.runs.requests import json_schema
from tests.harness.daemon import clean_environment

PROLOG = {
    "CUDA_VISIBLE_DEVICES": "0",
    "SLURMD_NODENAME": "vm",
    "SLURM_CLUSTER_NAME": "t",
    "SLURM_CONF": "/etc/slurm/slurm.conf",
    "SLURM_JOBID": "1",
    "SLURM_JOB_ACCOUNT": "physics",
    "SLURM_JOB_CPUS_PER_NODE": "1",
    "SLURM_JOB_GID": "60",
    "SLURM_JOB_GPUS": "0",
    "SLURM_JOB_ID": "1",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_JOB_PARTITION": "p",
    "SLURM_JOB_RESTART_COUNT": "0",
    "SLURM_JOB_UID": "5",
    "SLURM_JOB_USER": "games",
    "SLURM_JOB_WORK_DIR": "/home/games",
    "SLURM_NODELIST": "vm",
    "SLURM_SCRIPT_CONTEXT": "prolog_slurmd",
    "SLURM_UID": "5",
}
"""As slurmd 22.05 gives it."""
SCONTROL = """#!/bin/sh
echo "JobId=8 ArrayJobId=7 ArrayTaskId=3 JobName=fine tuning UserId=games(5) GroupId=games(60) MCS_label=N/A"
"""


@dataclass
class Listener:
    """Where a daemon would be."""

    path: Path
    answer: bytes | None = b'{"ok": true}\n'
    """None = it never says anything."""
    heard: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def listening(answer: bytes | None = b'{"ok": true}\n') -> Iterator[Listener]:
    """A socket that notes the first line of each connection, and answers."""
    with tempfile.TemporaryDirectory(prefix="tw-") as name, socket.socket(socket.AF_UNIX) as door:
        listener = Listener(Path(name) / "socket", answer)
        door.bind(str(listener.path))
        door.listen()
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    talk, _address = door.accept()
                except OSError:
                    return
                kept.append(talk)
                line = talk.makefile("rb").readline()
                if line:
                    listener.heard.append(json.loads(line))
                if line and listener.answer is not None:
                    talk.sendall(listener.answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for talk in kept:
                talk.close()


def run(
    what: str, environment: Mapping[str, str], *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The command as slurmd runs it: with hardly any environment."""
    command = Path(sys.executable).with_name(f"trainwatt-slurm-{what}")
    path = {"PATH": os.environ.get("PATH", "")}
    return subprocess.run(
        [str(command), *arguments],
        env={**path, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_prolog_tells_what_slurmd_tells() -> None:
    """One line, silently: job, user, account, GPUs, nodes; what slurmd does not say is left out."""
    with listening() as daemon:
        done = run("prolog", PROLOG | {"TRAINWATT_SOCKET": str(daemon.path)})

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    told = {
        "op": "job_start",
        "job_id": "1",
        "uid": 5,
        "cluster": "t",
        "account": "physics",
        "nodes": 1,
        "gpus": "0",
        "restart": 0,
        "partition": "p",
    }
    assert [told] == daemon.heard
    jsonschema.validate(told, json_schema())


def test_an_epilog_tells_the_end() -> None:
    """Of the job of this user."""
    with listening() as daemon:
        done = run("epilog", PROLOG | {"TRAINWATT_SOCKET": str(daemon.path)})

    assert (0, "") == (done.returncode, done.stderr)
    assert [{"op": "job_end", "job_id": "1", "cluster": "t", "uid": 5}] == daemon.heard
    jsonschema.validate(daemon.heard[0], json_schema())


def test_slurmctld_is_asked_only_when_told_to(tmp_path: Path) -> None:
    """The name, which may have blanks, and the array are known to it alone; one that is not there is no matter."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(SCONTROL)
    scontrol.chmod(0o755)
    asking = PROLOG | {"SLURM_JOB_ID": "8", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    with listening() as daemon:
        place = {"TRAINWATT_SOCKET": str(daemon.path)}
        run("prolog", asking | place)
        run("prolog", asking | place, "--ask-slurmctld")
        done = run("prolog", asking | place | {"PATH": "/nonexistent"}, "--ask-slurmctld")

    assert (0, "") == (done.returncode, done.stderr)
    without, asked, alone = daemon.heard

    assert without == alone
    assert {"name": "fine tuning", "array_job_id": "7", "array_task_id": "3"} == dict(asked.items() - without.items())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b'{"ok": false, "error": "no room"}\n', "job 1 goes on without being told of: no room"),
        (b"what?\n", "is not trainwatt"),
        (None, "has not answered for 2 s"),
    ],
    ids=["refused", "another program", "silent"],
)
@pytest.mark.parametrize("what", ["prolog", "epilog"])
def test_a_job_never_suffers(what: str, answer: bytes | None, says: str) -> None:
    """Whatever the daemon does, the exit status is 0 within seconds, and one line says what went wrong."""
    with listening(answer) as daemon:
        done = run(what, PROLOG | {"TRAINWATT_SOCKET": str(daemon.path)})

    assert (0, "") == (done.returncode, done.stdout)
    assert says in done.stderr
    assert done.stderr.startswith(f"trainwatt-slurm-{what}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("environment", "arguments", "says"),
    [
        ({}, (), "SLURM_JOB_ID is not set"),
        (PROLOG, (), "no daemon answers on"),
        (PROLOG, ("--help",), "unknown argument --help; there is --ask-slurmctld"),
    ],
    ids=["no job", "no daemon", "an argument"],
)
def test_what_cannot_be_told_is_one_line(
    environment: dict[str, str], arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    """And exit status 0: a prolog that fails takes the node out of service."""
    done = run("prolog", {**environment, "TRAINWATT_SOCKET": str(tmp_path / "none")}, *arguments)

    assert done.returncode == 0
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_nobodys_files_shadow_ours(tmp_path: Path) -> None:
    """Neither those of the directory it is run in nor those of PYTHONPATH."""
    (tmp_path / "monitor.py").write_text("raise SystemExit(7)")
    with listening() as daemon:
        place = {"TRAINWATT_SOCKET": str(daemon.path), "PYTHONPATH": str(tmp_path)}
        done = run("prolog", PROLOG | place, cwd=tmp_path)

    assert (0, "") == (done.returncode, done.stderr)
    assert len(daemon.heard) == 1


def test_only_what_is_needed_is_imported() -> None:
    """A node waits for it: neither the settings nor the command line come along."""
    code = "import sys, monitor.runs.announce; print([n for n in sys.modules if n.split('.')[0] in %r])"
    heavy = ("click", "pydantic", "pynvml", "asyncio", "starlette")
    done = subprocess.run(
        [sys.executable, "-c", code % (heavy,)], env=clean_environment(), capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("nodes", "count"),
    [
        ("", 0),
        ("vm", 1),
        ("node[01-03,7]", 4),
        ("node[01-03,7],login", 5),
        ("r[1-2]n[1-4],x[9]", 9),
        ("a,b,c", 3),
        ("tux[1-2]-ib", 2),
        ("node[x", 1),
    ],
)
def test_nodes_are_counted(nodes: str, count: int) -> None:
    """In a list as Slurm writes it."""
    assert count == count_nodes(nodes)


def test_other_versions_name_it_otherwise() -> None:
    """A list of nodes instead of their number, names and arrays where they are told; junk is unknown."""
    told = beginning(
        {
            "SLURM_JOB_ID": "8",
            "SLURM_UID": "5",
            "SLURM_JOB_NAME": "fine",
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURM_RESTART_COUNT": "x",
            "SLURM_ARRAY_JOB_ID": "7",
            "SLURM_ARRAY_TASK_ID": "3",
        }
    )

    assert told == {
        "op": "job_start",
        "job_id": "8",
        "uid": 5,
        "name": "fine",
        "nodes": 2,
        "array_job_id": "7",
        "array_task_id": "3",
    }
    assert ending({"SLURM_JOB_ID": "8"}) == {"op": "job_end", "job_id": "8"}

"""A daemon that writes down what it is told, and jobs that are processes of their own."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitor.errors import FailureError
from monitor.runs import identity, requests
from monitor.runs.control import Handler, Limits, serving
from monitor.runs.protocol import Peer
from tests.harness import poll

ROOT = Path(__file__).parents[2]
OPS = ("start", "join", "progress", "phase", "end")
NOT_THE_JOBS = ("TRAINWATT_", "SLURM_", "TORCHELASTIC_", "LOCAL_RANK", "CUDA_")


@dataclass
class Recorder:
    """What was asked, by whom, in order; every request was one that the schema allows."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    refuse: dict[str, int] = field(default_factory=dict)
    """Operations, and how many of them are still to be refused."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    """Put into every answer."""
    heard: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def operations(self) -> dict[str, Handler]:
        """As control.serving takes them."""
        return dict.fromkeys(OPS, self._take)

    async def _take(self, peer: Peer, request: Mapping[str, Any]) -> Mapping[str, Any]:
        op = request["op"]
        wanted = requests.parse(requests.REQUESTS[op][0], request)
        self.heard.append((peer.pid, dict(request)))
        if self.refuse.get(op, 0) > 0:
            self.refuse[op] -= 1
            raise FailureError("not now")
        told = {**self.answer}
        if isinstance(wanted, requests.Start):
            run = wanted.id or self._derived(peer, wanted.environment)
            told["run"] = self.renamed.get(run, run)
        elif op == "join":
            told["run"] = request["run"]
        return told

    def _derived(self, peer: Peer, environment: Mapping[str, str]) -> str:
        origin, parent = _origin(peer.pid)
        return identity.run_id(environment, origin, _origin(parent)[0])

    def said(self, *ops: str, pid: int | None = None) -> list[dict[str, Any]]:
        """The requests so far, of these operations, of this process."""
        return [said for by, said in self.heard if (not ops or said["op"] in ops) and pid in (None, by)]

    def outline(self, pid: int | None = None) -> list[str]:
        """The requests as words: `phase eval`."""
        return [" ".join([said["op"], *([said["phase"]] if said.get("phase") else [])]) for said in self.said(pid=pid)]

    def wait(self, op: str, times: int = 1) -> None:
        """Until this has been asked so often: a job may be gone before its last words are read."""
        poll.until(lambda: len(self.said(op)) >= times, what=f"{op} x {times}; there is {self.outline()}", every_s=0.01)


def _origin(pid: int) -> tuple[identity.Origin, int]:
    after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return identity.Origin(boot_id, pid, int(after[19])), int(after[1])


@contextmanager
def recording(path: Path, recorder: Recorder | None = None, *, limits: Limits | None = None) -> Iterator[Recorder]:
    """Write down what comes in on this path."""
    made = recorder or Recorder()
    with serving(path, made.operations(), limits=limits):
        yield made


def environment(socket: Path | None, **more: str) -> dict[str, str]:
    """Of a job whose daemon is there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_THE_JOBS)}
    told = {} if socket is None else {"TRAINWATT_SOCKET": str(socket)}
    return {**kept, **told, "PYTHONPATH": str(ROOT), **more}


def start(program: str, socket: Path | None, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Start a job: Python to which every warning is an error."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        env=environment(socket, **more),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def job(program: str, socket: Path | None, *arguments: str, **more: str) -> tuple[int, str, str]:
    """Run a job to its end: exit code, stdout, stderr."""
    with start(program, socket, *arguments, **more) as process:
        try:
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, stdout, stderr


def well(program: str, socket: Path | None, *arguments: str, **more: str) -> str:
    """Run a job that ends well and leaves no word on stderr: its stdout."""
    done = job(program, socket, *arguments, **more)

    assert (0, "") == (done[0], done[2])
    return done[1]

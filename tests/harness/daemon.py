"""The daemon as its own process, as a user runs it."""

import json
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import Message
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.harness import need, poll


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Copy of this environment without settings of trainwatt, plus `extra`; unless that says so, nobody is asked."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("TRAINWATT_")}
    asks = any(name.startswith("TRAINWATT_FEED") for name in extra or {})
    return mine | ({} if asks else {"TRAINWATT_FEEDS": "none"}) | dict(extra or {})


def command(
    *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `trainwatt ARGS` to its end."""
    return subprocess.run(
        [need.trainwatt(), *args],
        env=clean_environment(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


class Daemon:
    """A `trainwatt serve` at work."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path, socket: Path | None = None) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.socket = socket
        """Its control socket, where it is known."""
        self._log = log

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, Message, bytes]:
        """Status, headers and body of a GET."""
        request = urllib.request.Request(self.url + path, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def metrics(self) -> str:
        """The exposition as text 0.0.4."""
        return self.get("/metrics")[2].decode()

    def snapshot(self) -> dict[str, Any]:
        """The published snapshot."""
        document: dict[str, Any] = json.loads(self.get("/api/v1/snapshot")[2])
        return document

    def ready(self) -> bool:
        """Whether it has a sample; raises AssertionError when it has ended instead."""
        assert self.process.poll() is None, self.log
        return self.get("/-/ready")[0] == 200


@contextmanager
def daemon(
    *args: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    port: int | None = None,
    discover: bool = False,
    before: Sequence[str] = (),
) -> Iterator[Daemon]:
    """Start `trainwatt serve ARGS`, with the words `before` it, on a free port; wait until it is ready; stop it.

    It finds runs that nobody registered only with `discover`: those of other tests are on this machine, too.
    Its ledger and its socket are its own, unless `args` name them; the ledger is kept beside the log.
    """
    port = port or free_port()
    with TemporaryDirectory(prefix="tw-") as short, log.open("a") as stderr:
        # The path of a Unix socket has at most 107 bytes (unix(7)): those of pytest's directories may be longer.
        places = {"--state-dir": str(log.with_name(f"{log.name}.state")), "--socket": f"{short}/socket"}
        given = dict(pairwise(args))
        own = [word for flag, path in places.items() if flag not in given for word in (flag, path)]
        process = subprocess.Popen(
            [*before, need.trainwatt(), "serve", "--listen", f"127.0.0.1:{port}", *own, *args],
            env=clean_environment({"TRAINWATT_DISCOVER": str(discover).lower()} | dict(env or {})),
            stderr=stderr,
            stdout=stderr,
            text=True,
        )
        served = Daemon(process, port, log, Path(given.get("--socket", places["--socket"])))
        try:
            poll.until(served.ready, what="readiness of the daemon")
            yield served
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"the daemon did not end:\n{served.log}") from None

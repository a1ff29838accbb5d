"""How long a start takes: `--help`, and `serve` until its first sample, each beside what Python needs anyway."""

import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench import node
from tests.bench.processes import child, hear
from tests.bench.report import Line
from tests.drivers import nvml
from tests.harness import need
from tests.harness.daemon import clean_environment, free_port

HELPS, SERVES = 10, 7
HELP_MOST_S, SERVE_MOST_S = 0.2, 1.0
POLL_S = 0.004
GIVE_UP_S = 20.0

TITLE = f"start: medians of {HELPS} (help) and {SERVES} (serve) wall times"

LIBRARIES = """
import json, time, uvicorn, starlette.applications, pydantic_settings, prometheus_client, pynvml
began = time.perf_counter()
pynvml.nvmlInit()
print(json.dumps(time.perf_counter() - began), flush=True)
"""


def measure(scratch: Path) -> list[Line]:
    """Medians of wall times in s."""
    return [*_help(), *_serve(scratch)]


def _help() -> list[Line]:
    python = sys.executable
    commands = {
        "trainwatt --help": [need.trainwatt(), "--help"],
        "python -c pass": [python, "-c", "pass"],
        "python -c 'import click'": [python, "-c", "import click"],
    }
    # Turn by turn, so that a busy moment of the machine hits them alike.
    rounds = [{name: _wall_s(command) for name, command in commands.items()} for _ in range(HELPS)]
    times_s = {name: statistics.median(one[name] for one in rounds) for name in commands}
    ours, empty, click = times_s.values()
    return [
        Line(
            what="trainwatt --help",
            value=ours,
            unit="s",
            bare=click,
            most=HELP_MOST_S,
            budget=f"{HELP_MOST_S:g} s",
            digits=3,
        ),
        Line(what="  python -c 'import click' (the bare)", value=click, unit="s", digits=3),
        Line(what="  python -c pass", value=empty, unit="s", digits=3),
    ]


def _wall_s(command: list[str]) -> float:
    began_s = time.perf_counter()
    subprocess.run(command, env=clean_environment(), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began_s


def _serve(scratch: Path) -> list[Line]:
    library = nvml.build(scratch)
    driver = node.working_driver(scratch / "start.conf", counter=True)
    node.occupy(driver, [os.getpid()])
    env = driver.environment(library.parent)
    tree = node.two_sockets(scratch / "start-sys")
    ready_s, import_s, init_s = [], [], []
    with tree.running(2.0):
        for number in range(SERVES):
            ready_s.append(_until_ready(tree.root, env, scratch / f"start-{number}.log"))
            took = _until_initialised(env, scratch / "libraries.log")
            import_s.append(took[0])
            init_s.append(took[1])
    ready, libraries, init = (statistics.median(times) for times in (ready_s, import_s, init_s))
    return [
        Line(
            what="serve: exec to ready, less nvmlInit",
            value=ready - init,
            unit="s",
            bare=libraries - init,
            most=SERVE_MOST_S,
            budget=f"{SERVE_MOST_S:g} s",
            digits=3,
        ),
        Line(what="  exec to libraries imported + nvmlInit (the bare)", value=libraries, unit="s", digits=3),
        Line(what="  difference: our own part", value=ready - libraries, unit="s", digits=3),
        Line(what="  nvmlInit of the stand-in", value=init, unit="s", digits=4),
    ]


def _until_ready(sysfs: Path, env: dict[str, str], log: Path) -> float:
    port = free_port()
    own = ["--state-dir", str(log.with_suffix(".state")), "--socket", str(log.with_suffix(".s"))]
    command = [need.trainwatt(), "serve", "--listen", f"127.0.0.1:{port}", "--sysfs", str(sysfs), *own]
    began_s = time.perf_counter()
    with child(command, env=env, log=log) as process:
        while not _is_ready(port):
            if process.poll() is not None or time.perf_counter() - began_s > GIVE_UP_S:
                raise RuntimeError(f"the daemon did not get ready: {log.read_text().strip()}")
            time.sleep(POLL_S)
        took_s = time.perf_counter() - began_s
        process.send_signal(signal.SIGTERM)
        process.wait(GIVE_UP_S)
    return took_s


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/-/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _until_initialised(env: dict[str, str], log: Path) -> tuple[float, float]:
    """Wall time from exec to nvmlInit done, and of nvmlInit alone."""
    began_s = time.perf_counter()
    with child([sys.executable, "-c", LIBRARIES], env=env, log=log, talks=True) as process:
        init_s = float(json.loads(hear(process, log)))
        return time.perf_counter() - began_s, init_s

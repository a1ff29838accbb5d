"""What `import trainwatt` takes of a job: of one step, and of whole steps in pairs; with a daemon and without."""

import contextlib
import json
import math
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.report import Line
from tests.job.company import daemon_process
from tests.job.recorder import ROOT, environment

JOB = ROOT / "tests" / "jobs" / "stepping.py"
MOST_US, MOST_IMPORT_MS = 20.0, 5.0
COST_S = 6.0
IMPORTS = 21
PAIRS, STEPS = 30, 300
STUDENT_95 = 2.045
"""Of Student's distribution with 29 degrees of freedom: half the 95 % interval in standard errors."""
WORLDS = ("with a daemon", "with none", "with one that hangs")
TITLE = (
    f"job: trainwatt.step() in a loop of its own and after each 10 ms of work, {COST_S:g} s each\n"
    f"(bare = an empty function); a small training "
    f"loop with and without it, by turns:\n{PAIRS} x {STEPS} pairs, mean of the difference and its 95 % interval"
)


def measure(scratch: Path) -> list[Line]:
    """Microseconds of a step, and the difference that it makes to the job's own."""
    lines = _import(scratch)
    for world in WORLDS:
        with _world(world, scratch) as socket:
            lines += _cost(world, socket)
    for world in WORLDS:
        with _world(world, scratch) as socket:
            lines.append(_difference(world, socket))
    return lines


@contextlib.contextmanager
def _world(world: str, scratch: Path) -> Iterator[Path]:
    socket = scratch / "job" / "socket"
    if world == "with none":
        yield socket
        return
    with daemon_process(socket) as daemon:
        if world == "with one that hangs":
            daemon.send_signal(signal.SIGSTOP)
        yield socket


def _job(socket: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(JOB), *arguments], env=environment(socket), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the job failed: {done.stderr.strip().splitlines()[-1:]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _cost(world: str, socket: Path) -> list[Line]:
    told = _job(socket, "cost", str(COST_S))
    _check(world, told["stats"])
    paced, bare, limit = told["paced"], told["bare"], f"{MOST_US:g} µs"
    return [
        Line(what=f"step, {world}", value=told["busy"]["mean_us"], unit="µs", most=MOST_US, budget=limit),
        Line(
            what="  after 10 ms of work, mean",
            value=paced["mean_us"],
            unit="µs",
            bare=bare["mean_us"],
            most=MOST_US,
            budget=limit,
        ),
        Line(what="  after 10 ms of work, median", value=paced["median_us"], unit="µs", bare=bare["median_us"]),
        Line(what="  after 10 ms of work, slowest", value=paced["worst_us"], unit="µs", bare=bare["worst_us"]),
    ]


def _difference(world: str, socket: Path) -> Line:
    told = _job(socket, "pairs", str(PAIRS), str(STEPS))
    _check(world, told["stats"])
    differences_us = [1e6 * (ours_s - theirs_s) for ours_s, theirs_s in told["pairs_s"]]
    bare_us = statistics.fmean(1e6 * theirs_s for _, theirs_s in told["pairs_s"])
    mean_us = statistics.fmean(differences_us)
    half_us = STUDENT_95 * statistics.stdev(differences_us) / math.sqrt(len(differences_us))
    return Line(
        what=f"step of {bare_us:.0f} µs, {world}: {mean_us:+.1f} ± {half_us:.1f} µs; at most",
        value=mean_us + half_us,
        unit="µs",
        most=MOST_US,
        budget=f"{MOST_US:g} µs",
    )


def _check(world: str, stats: dict[str, Any]) -> None:
    """Raise RuntimeError unless the daemon was as it was meant to be."""
    if stats["connected"] != (world != "with none") or (world == "with a daemon" and stats["dropped"]):
        raise RuntimeError(f"{world}: {stats}; not what was to be measured")


def _import(scratch: Path) -> list[Line]:
    program = "import time\nbegan = time.perf_counter()\nimport trainwatt\nprint(time.perf_counter() - began)"
    # As an installation leaves it: with bytecode beside it. Without, it is compiled each time.
    kept = {**environment(None), "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(scratch / "bytecode")}
    lost = {**environment(None), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(scratch / "none")}
    times_ms = {}
    for what, env in (("compiled", kept), ("not compiled", lost)):
        rounds = [subprocess.check_output([sys.executable, "-c", program], env=env) for _ in range(IMPORTS)]
        times_ms[what] = 1000 * statistics.median(map(float, rounds))
    return [
        Line(
            what="import trainwatt",
            value=times_ms["compiled"],
            unit="ms",
            most=MOST_IMPORT_MS,
            budget=f"{MOST_IMPORT_MS:g} ms",
        ),
        Line(what="  where there is no bytecode of it", value=times_ms["not compiled"], unit="ms"),
    ]

"""What the daemon takes of the machine it meters: CPU beside the bare loop in the same window, and memory after it."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import bare, node
from tests.bench.processes import child, cpu_s, resident_mib
from tests.bench.report import Line
from tests.bench.scraper import scraping
from tests.drivers import nvml
from tests.harness.daemon import Daemon, daemon

SETTLE_S = 6.0
"""Imports, the first scrape and one round of telemetry are start, not steady cost."""
SCRAPE_EVERY_S = 15.0
TREE_HZ = 2.0
"""The tree's own thread is in this process, yet it takes the processor's caches with it."""
MOST_MIB = 60.0
RUNS = {"run-a": "0,1,2,3", "run-b": "4,5,6,7"}
"""Runs and the GPUs that they hold."""
RANK = """
import sys, time, trainwatt
run, told = sys.argv[1:]
with trainwatt.run(id=run):
    while True:
        if told == "told":
            time.sleep(0.1)
            trainwatt.step(tokens=1000)
        else:
            time.sleep(3600)
"""
RANKS = 4
"""Of a run: one a GPU."""
TITLE = (
    "cost: 8 GPUs, 2 packages with dram, 2 runs of 4 ranks that were allocated 4 GPUs and work on them, a ledger on\n"
    f"disk, a scrape each {SCRAPE_EVERY_S:g} s; with ranks that report: each makes ten steps a second and tells them "
    "as trainwatt.py does;\n"
    "bare = the same driver calls and file reads, those of /proc too, at the same rate in the same window"
)


@dataclass(frozen=True, slots=True)
class Mode:
    """One rate of reading and what it may cost."""

    name: str
    counter: bool
    allowance_percent: float | None
    """Of a core, above the bare loop; None = no budget says."""
    told: bool = False
    """Whether the processes of the runs tell their progress."""


MODES = (
    Mode("1 Hz, energy counter", True, 0.25),  # noqa: FBT003
    Mode("10 Hz, integrated power", False, 1.0),  # noqa: FBT003
    Mode("1 Hz, and 8 ranks that report", True, None, told=True),  # noqa: FBT003
)


def measure(scratch: Path, seconds: float) -> list[Line]:
    """CPU in % of a core and resident MiB, for each mode over its own window."""
    library = nvml.build(scratch)
    lines: list[Line] = []
    for number, mode in enumerate(MODES):
        lines += _measure(scratch, library, mode, seconds, number)
    return lines


def _measure(scratch: Path, library: Path, mode: Mode, seconds: float, number: int) -> list[Line]:
    driver = node.working_driver(scratch / f"cost-{number}.conf", counter=mode.counter)
    env = driver.environment(library.parent)
    tree = node.two_sockets(scratch / f"cost-{number}-sys")
    command = [sys.executable, bare.__file__, str(tree.root), "counter" if mode.counter else "power"]
    with (
        tree.running(TREE_HZ),
        daemon("--sysfs", str(tree.root), log=scratch / f"cost-{number}.log", env=env, discover=True) as served,
        two_runs(served, told=mode.told, log=scratch / f"ranks-{number}.log") as pids,
        child([*command, *map(str, pids)], env=env, log=scratch / f"bare-{number}.log") as loop,
        scraping(served.port, SCRAPE_EVERY_S),
    ):
        node.occupy(driver, pids)
        time.sleep(SETTLE_S)
        began_s, ours_s, bare_s = time.monotonic(), cpu_s(served.process.pid), cpu_s(loop.pid)
        time.sleep(seconds)
        span_s = time.monotonic() - began_s
        ours = 100 * (cpu_s(served.process.pid) - ours_s) / span_s
        theirs = 100 * (cpu_s(loop.pid) - bare_s) / span_s
        ours_mib, bare_mib = resident_mib(served.process.pid), resident_mib(loop.pid)
        others = _check(served.metrics(), mode)
    beside = f" (beside {others} runs of others on this machine)" if others else ""
    return [
        Line(
            what=f"CPU, {mode.name}{beside}",
            value=ours,
            unit="% core",
            bare=theirs,
            most=None if mode.allowance_percent is None else theirs + mode.allowance_percent,
            budget="" if mode.allowance_percent is None else f"bare + {mode.allowance_percent:g} %",
            digits=3,
        ),
        Line(
            what=f"resident, {mode.name}",
            value=ours_mib,
            unit="MiB",
            bare=bare_mib,
            most=MOST_MIB,
            budget=f"{MOST_MIB:g} MiB",
            digits=1,
        ),
    ]


@contextmanager
def two_runs(served: Daemon, *, told: bool, log: Path) -> Iterator[list[int]]:
    """Two runs of four ranks each that register themselves; yields the ranks' numbers, a GPU after the other."""
    with ExitStack() as stack:
        ranks = []
        for run, gpus in RUNS.items():
            own = {"TRAINWATT_SOCKET": str(served.socket), "CUDA_VISIBLE_DEVICES": gpus}
            command = [sys.executable, "-c", RANK, run, "told" if told else "silent"]
            ranks += [stack.enter_context(child(command, env=own, log=log)) for _ in range(RANKS)]
        yield [rank.pid for rank in ranks]


def _check(exposition: str, mode: Mode) -> int:
    """Raise RuntimeError unless the daemon really read what the bare loop reads, by the method meant.

    Return how many runs it found beside those that were to be measured.
    """
    method = "counter" if mode.counter else "integrated"
    series = [line for line in exposition.splitlines() if line.startswith("trainwatt_device_energy_joules_total{")]
    gpus = sum('component="gpu"' in line and f'method="{method}"' in line for line in series)
    zones = sum('component="gpu"' not in line for line in series)
    runs = {
        line.split('run="')[1].split('"')[0] for line in exposition.splitlines() if "run_energy_joules_total{" in line
    }
    if not runs.issuperset(RUNS):
        raise RuntimeError(f"the daemon shows the runs {runs}: not what was to be measured")
    if (gpus, zones) != (node.GPUS, len(bare.ZONES)):
        raise RuntimeError(f"the daemon shows {gpus} GPUs by {method} and {zones} zones: not what was to be measured")
    return len(runs) - len(RUNS)

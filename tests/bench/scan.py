"""The scan of processes: what a look costs with dataloader-like workers in runs, beside the bare reads of /proc."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from monitor.runs.discovery import AT_LATEST_S
from monitor.runs.forest import ROTATION, Forest
from monitor.runs.identity import Process
from monitor.runs.procfs import ProcessFiles
from tests.bench import bare, node
from tests.bench.cost import MODES, TREE_HZ
from tests.bench.processes import child, cpu_s, hear, resident_mib, threads_cpu_s
from tests.bench.report import Line
from tests.drivers import nvml
from tests.harness import poll
from tests.harness.daemon import Daemon, daemon

RUNS, WORKERS = 50, 20
LOOKS = 4 * ROTATION
SETTLE_S = 12.0
MOST_MS = 25.0
"""A whole look, every 10 s at so many processes, is to take no more than 0.25 % of a core."""
BROOD = """
import os, signal, sys
runs, workers = map(int, sys.argv[1:])
parents = []
for _ in range(runs):
    ready, told = os.pipe()
    pid = os.fork()
    if not pid:
        for _ in range(workers):
            if not os.fork():
                signal.pause()
        os.write(told, b"x")
        signal.pause()
    os.read(ready, 1)
    os.close(ready), os.close(told)
    parents.append(pid)
print(*parents, flush=True)
signal.pause()
"""
NAMED = """
import os, signal, subprocess, sys
brood = "import os, signal\\nfor _ in range(" + sys.argv[2] + "):\\n    os.fork() or signal.pause()\\nsignal.pause()"
for number in range(int(sys.argv[1])):
    subprocess.Popen([sys.executable, "-c", brood], env=os.environ | {"TRAINWATT_RUN": f"bench-{number}"})
print("begun", flush=True)
signal.pause()
"""
"""The same, each parent with the name of its run in its environment: a daemon finds them."""
FOUND_WITHIN_S = 60.0
TITLE = (
    f"scan: /proc with {RUNS * WORKERS} sleeping workers, forked by {RUNS} parents, each with them a run; "
    f"CPU of a whole look, mean of {LOOKS};\nbare = listdir, and open, read and close of the same files; "
    "of the daemon's, the same daemon before they came"
)


@contextlib.contextmanager
def brood(scratch: Path) -> Iterator[list[int]]:
    """The workers; yields their parents."""
    log = scratch / "scan.log"
    with child([sys.executable, "-c", BROOD, str(RUNS), str(WORKERS)], log=log, talks=True) as process:
        yield [int(word) for word in hear(process, log).split()]


def measure(scratch: Path, seconds: float) -> list[Line]:
    """CPU of a look in ms, and that of a daemon over a window, in % of a core."""
    return [*_looks(scratch), *_daemon(scratch, seconds)]


def _daemon(scratch: Path, seconds: float) -> list[Line]:
    library = nvml.build(scratch)
    driver = node.working_driver(scratch / "scan.conf", counter=True)
    tree = node.two_sockets(scratch / "scan-sys")
    env = driver.environment(library.parent)
    log = scratch / "named.log"
    command = [sys.executable, bare.__file__, str(tree.root), "counter"]
    with (
        tree.running(TREE_HZ),
        daemon("--sysfs", str(tree.root), log=scratch / "daemon.log", env=env, discover=True) as served,
        child(command, env=env, log=scratch / "bare.log") as loop,
    ):
        alone, _looking, _bare = _percent(served, loop.pid, seconds)
        with child([sys.executable, "-c", NAMED, str(RUNS), str(WORKERS)], log=log, talks=True) as process:
            hear(process, log)
            poll.until(lambda: _found(served) >= RUNS, what=f"{RUNS} runs", within_s=FOUND_WITHIN_S)
            beside, looking, sensors = _percent(served, loop.pid, seconds)
            mib = resident_mib(served.process.pid)
    allowance = MODES[0].allowance_percent or 0.0
    return [
        Line(what=f"a daemon with {RUNS} runs of {1 + WORKERS} processes", value=beside, unit="% core", bare=alone),
        Line(what="  of it the thread that looks at them", value=looking, unit="% core", digits=3),
        Line(
            what="  all else, beside bare reads of the sensors",
            value=beside - looking,
            unit="% core",
            bare=sensors,
            most=sensors + allowance,
            budget=f"bare + {allowance:g} %",
            digits=3,
        ),
        Line(what="  resident", value=mib, unit="MiB"),
    ]


def _percent(served: Daemon, bare_pid: int, seconds: float) -> tuple[float, float, float]:
    """CPU of the daemon, of that one of its threads that takes the most, and of the bare loop, in % of a core."""
    time.sleep(SETTLE_S)
    pid = served.process.pid
    began_s, ours_s, bare_s, threads_s = time.monotonic(), cpu_s(pid), cpu_s(bare_pid), threads_cpu_s(pid)
    time.sleep(seconds)
    span_s = time.monotonic() - began_s
    busiest_s = max(used_s - threads_s.get(thread, 0.0) for thread, used_s in threads_cpu_s(pid).items())
    percent = 100 / span_s
    return (cpu_s(pid) - ours_s) * percent, busiest_s * percent, (cpu_s(bare_pid) - bare_s) * percent


def _found(served: Daemon) -> int:
    return sum(run["active"] and run["id"].startswith("bench-") for run in served.snapshot()["runs"])


def _looks(scratch: Path) -> list[Line]:
    files = ProcessFiles()
    before = len(files.pids())
    empty_ms, empty_bare_ms = _look_ms(Forest(files), {}), _bare_ms([])
    with brood(scratch) as parents:
        roots = {Process(pid, stat.start_ticks): f"run-{pid}" for pid in parents if (stat := files.stat(pid))}
        forest = Forest(files)
        in_runs_ms = _look_ms(forest, roots)
        pids = [process.pid for run_id in roots.values() for process in forest.processes(run_id)]
        bare_ms = _bare_ms(pids)
        beside_ms, list_ms = _look_ms(Forest(files), {}), _bare_ms([])
        apart_ms = _look_ms(Forest(files), roots, frozenset(roots.values()))
    count = RUNS * (1 + WORKERS)
    if len(pids) != count:
        raise RuntimeError(f"{len(pids)} processes are in the runs, not {count}")
    each_us, bare_us = 1e3 * (in_runs_ms - empty_ms) / count, 1e3 * (bare_ms - empty_bare_ms) / count
    return [
        Line(what=f"without them ({before} processes)", value=empty_ms, unit="ms", bare=empty_bare_ms),
        Line(
            what=f"{count} more in {RUNS} runs",
            value=in_runs_ms,
            unit="ms",
            bare=bare_ms,
            most=MOST_MS,
            budget=f"{MOST_MS:g} ms",
        ),
        Line(what="  each of them", value=each_us, unit="us", bare=bare_us),
        Line(what=f"  a whole look each {AT_LATEST_S:g} s, of a core", value=in_runs_ms / AT_LATEST_S / 10, unit="%"),
        Line(what=f"{count} more in no run", value=beside_ms, unit="ms", bare=list_ms),
        Line(what="  each of them", value=1e3 * (beside_ms - empty_ms) / count, unit="us"),
        Line(what=f"{count} more in runs that a cgroup tells of", value=apart_ms, unit="ms", bare=list_ms),
    ]


def _look_ms(forest: Forest, roots: dict[Process, str], alone: frozenset[str] = frozenset()) -> float:
    """Mean CPU of all that belongs to a look, once each process has been examined twice."""

    def look() -> None:
        forest.look()
        forest.assign(roots, alone)
        list(forest.unassigned())
        forest.owners()
        forest.take_cpu_s()

    for _ in range(3):
        look()
    return _mean_ms(look)


def _bare_ms(pids: list[int]) -> float:
    """The least that the same files take."""
    directory = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)

    def look() -> None:
        os.listdir(directory)  # noqa: PTH208  (a descriptor)
        for pid in pids:
            file = os.open(f"{pid}/stat", os.O_RDONLY, dir_fd=directory)
            os.read(file, 2048)
            os.close(file)

    try:
        return _mean_ms(look)
    finally:
        os.close(directory)


def _mean_ms(work: Callable[[], None]) -> float:
    began_s = time.thread_time()
    for _ in range(LOOKS):
        work()
    return 1e3 * (time.thread_time() - began_s) / LOOKS

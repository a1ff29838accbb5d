"""Child processes that a bench starts, ends and weighs."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.harness import poll
from tests.harness.daemon import clean_environment

LAST_WORDS_S = 10.0
ORPHANS_GO_WITHIN_S = 30.0


@contextlib.contextmanager
def child(
    command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, talks: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """Run a program until left, and whatever it started; with `talks` its stdin and stdout are pipes, line by line."""
    pipe = subprocess.PIPE if talks else subprocess.DEVNULL
    with log.open("w") as said:
        process = subprocess.Popen(
            list(command),
            env=clean_environment(env),
            stdin=pipe,
            stdout=pipe,
            stderr=said,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # A peer may leave a poller of its own behind, which would spin for ever.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # A thousand orphans are not reaped at once: whoever counts processes next must not find them.
        poll.until(lambda: _is_gone(process.pid), what="the end of the group", within_s=ORPHANS_GO_WITHIN_S)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def hear(process: subprocess.Popen[str], log: Path) -> str:
    """The next line of a child that talks. Raises RuntimeError with its last words when it has none."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        process.wait(LAST_WORDS_S)
        last = log.read_text().strip().splitlines()[-1:] or ["no word"]
        raise RuntimeError(f"ended with {process.returncode}: {last[0]}")
    return line


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Send a line to a child that talks."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")


def cpu_s(pid: int) -> float:
    """CPU seconds of a process, all its threads, ended ones too: its CPU clock, in ns (clock_getcpuclockid(3))."""
    # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of linux/posix-timers.h; Python offers it for threads only.
    return time.clock_gettime((~pid << 3) | 2)


def threads_cpu_s(pid: int) -> dict[int, float]:
    """CPU seconds of each living thread of a process: the first number of schedstat, in ns (sched-stats.rst)."""
    told = {int(task.name): (task / "schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()}
    return {thread: int(text.split()[0]) / 1e9 for thread, text in told.items()}


def resident_mib(pid: int) -> float:
    """VmRSS of a process in MiB, proc_pid_status(5)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has ended")

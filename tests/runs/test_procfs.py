"""What /proc tells: on real processes, and on made files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.runs.identity import Process
from monitor.runs.membership import ProcessTable
from monitor.runs.procfs import ProcessFiles, Stat, parse_stat
from tests.harness import poll

FILES = ProcessFiles()
NODE = """cpu  100 10 40 1000 200 5 5 30 60 3
cpu0 50 5 20 500 100 3 3 15 30 1
cpu1 50 5 20 500 100 2 2 15 30 2
intr 5 0
ctxt 7
"""


def line(*, comm: str = "cat", flags: int = 0x400000, state: str = "S") -> bytes:
    """A line of a process whose fields tell their own number where they are numbers."""
    fields = {9: str(flags), 14: "1400", 15: "15", 16: "1600", 17: "17"}
    rest = " ".join(fields.get(number, str(number)) for number in range(4, 53))
    return f"7 ({comm}) {state} {rest}\n".encode(errors="surrogateescape")


def told(pid: int) -> Stat:
    """A process that is there."""
    stat = FILES.stat(pid)

    assert stat is not None
    return stat


def test_every_field_is_the_right_one() -> None:
    """As proc_pid_stat(5) numbers them."""
    stat = parse_stat(line())

    assert stat == Stat(7, 22, 4, 5, 6, "S", 1415, 1617, "cat", is_kernel=False)
    assert stat is not None
    assert stat.process == Process(7, 22)
    assert not stat.has_ended


@pytest.mark.parametrize("comm", ["", "a b", "((", ") S 1 2 3 (", "\n", "0 1 2", "é", "\udcff"])
def test_a_command_may_be_called_anything(comm: str) -> None:
    """Its name moves no field, and is text whatever it was."""
    stat = parse_stat(line(comm=comm))

    assert stat is not None
    assert stat[:8] == (7, 22, 4, 5, 6, "S", 1415, 1617)
    assert stat.comm == comm.encode(errors="surrogateescape").decode(errors="replace")


def test_threads_of_the_kernel_and_zombies_are_told_apart() -> None:
    """By PF_KTHREAD and by state."""
    kernel, zombie = parse_stat(line(flags=0x208040)), parse_stat(line(state="Z"))

    assert kernel is not None
    assert kernel.is_kernel
    assert zombie is not None
    assert zombie.has_ended


@pytest.mark.parametrize(
    "text", [b"", b"7 (cat", b"7 (cat) S 1 2", b"x (cat) S" + b" 1" * 49, b"7 (cat) S" + b" x" * 49]
)
def test_half_a_line_is_no_process(text: bytes) -> None:
    """Nor is garbage."""
    assert parse_stat(text) is None


def test_a_real_process() -> None:
    """We and a child of ours, in its own session, alive, ended, and reaped."""
    me = told(os.getpid())
    assert me.ppid == os.getppid()
    assert me.session == os.getsid(0)
    assert me.pgrp == os.getpgrp()
    assert me.pid in FILES.pids()
    assert me.process == ProcessTable().identify(me.pid)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as child:
        stat = told(child.pid)
        assert stat.ppid == me.pid
        assert stat.session == stat.pgrp == child.pid
        assert stat.start_ticks >= me.start_ticks
        child.kill()
        poll.until(lambda: told(child.pid).has_ended, what="the end of a child")
        assert FILES.anonymous_bytes(child.pid) == 0
    assert FILES.stat(child.pid) is None
    assert FILES.anonymous_bytes(child.pid) == 0
    assert child.pid not in FILES.pids()


def test_cpu_time_of_a_child_goes_to_whoever_waits_for_it() -> None:
    """What a child burned is in our reaped ticks once it has been reaped."""
    before = told(os.getpid()).reaped_ticks
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)

    assert told(os.getpid()).reaped_ticks - before >= 0.29 * FILES.ticks_per_s


def test_memory_that_no_file_is_behind() -> None:
    """A large allocation is seen, in the process and on the node."""
    code = "print(flush=True); input(); held = b'x' * 2**26; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        before = FILES.anonymous_bytes(child.pid)
        child.stdin.write("\n")
        child.stdin.flush()
        child.stdout.readline()
        after = FILES.anonymous_bytes(child.pid)
        child.communicate("\n", timeout=10)

    assert 2**26 <= after - before < 2**26 + 2**22
    assert FILES.node_memory_bytes() > 0


def test_the_node(tmp_path: Path) -> None:
    """Guest time counts once, steal and waiting are not busy."""
    (tmp_path / "stat").write_text(NODE)
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nAnonPages:   100 kB\nShmem:  28 kB\nShmemHugePages: 1 kB\n")
    files = ProcessFiles(tmp_path, ticks_per_s=10)

    assert files.node_cpu() == (16.0, 139.0)
    assert files.cpu_count() == 2
    assert files.node_memory_bytes() == 128 * 1024


@pytest.mark.parametrize("text", ["", "intr 0\n", "cpu 1 2 3\n", "cpu a b c d e f g h\n", "cpu0 1 2 3 4 5 6 7 8\n"])
def test_a_node_that_does_not_tell_is_an_error(tmp_path: Path, text: str) -> None:
    """Never a number."""
    (tmp_path / "stat").write_text(text)
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\n")
    files = ProcessFiles(tmp_path)

    with pytest.raises(ValueError, match=r"/proc/stat|invalid literal"):
        files.node_cpu()
    with pytest.raises(ValueError, match="AnonPages"):
        files.node_memory_bytes()


def test_this_node() -> None:
    """Real times grow, and as many CPUs as are online are counted."""
    busy_s, capacity_s = FILES.node_cpu()
    later_s = poll.until(lambda: told(os.getpid()) and FILES.node_cpu(), what="the times of the CPUs")

    assert 0 < busy_s < capacity_s
    assert busy_s <= later_s[0]
    assert FILES.cpu_count() == os.sysconf("SC_NPROCESSORS_ONLN")


def test_no_proc(tmp_path: Path) -> None:
    """A process of a tree that is not there is none; a list of all is an error."""
    files = ProcessFiles(tmp_path / "none")

    assert files.stat(1) is None
    assert files.anonymous_bytes(1) == 0
    with pytest.raises(FileNotFoundError, match="none"):
        files.pids()


def test_only_processes_are_listed(tmp_path: Path) -> None:
    """Not the other files of /proc."""
    for name in ("1", "42", "self", "sys", "4a"):
        (tmp_path / name).mkdir()

    assert sorted(ProcessFiles(tmp_path).pids()) == [1, 42]


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """The one of the directory ends with the reader, those of the files at once."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (names, not paths)
    files = ProcessFiles()
    for pid in (os.getpid(), 0, 4_000_000):
        files.stat(pid)
        files.anonymous_bytes(pid)
    files.node_cpu()
    assert len(os.listdir("/proc/self/fd")) == before + 1  # noqa: PTH208
    del files
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert ProcessFiles(tmp_path).stat(1) is None

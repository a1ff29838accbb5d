"""What cgroups tell: on made trees of v1, v2 and both, and on this machine's own."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.runs.cgroupfs import CgroupFiles, Directories, cpus_in
from tests.harness import need, poll

CPUACCT = Path("/sys/fs/cgroup/cpuacct")
V2: Directories = (("", "/a.slice/run.scope"),)
V1: Directories = (("cpu,cpuacct", "/slurm/job_7"), ("memory", "/slurm/job_7"), ("cpuset", "/slurm/job_7"))
BURN = "import time\nwhile time.thread_time() < 0.3: pass"


def write(path: Path, text: str) -> None:
    """A file of a made tree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("mount", ["", "unified"])
def test_v2(tmp_path: Path, mount: str) -> None:
    """The unified hierarchy, alone or beside v1."""
    run = tmp_path / mount / "a.slice/run.scope"
    write(run / "cpu.stat", "usage_usec 2500000\nuser_usec 1\nsystem_usec 2\n")
    write(run / "memory.stat", "anon 4096\nfile 99\nshmem 512\n")
    write(run / "cpuset.cpus.effective", "0-3,8\n")
    write(run / "cgroup.events", "populated 1\nfrozen 0\n")
    files = CgroupFiles(tmp_path)

    assert files.cpu_s(V2) == 2.5
    assert files.memory_bytes(V2) == 4608
    assert files.cpus(V2) == 5
    assert files.exists(V2)
    assert files.is_populated(V2) is True
    write(run / "cgroup.events", "populated 0\n")
    assert files.is_populated(V2) is False


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpuacct"])
def test_v1(tmp_path: Path, mount: str) -> None:
    """A hierarchy of two controllers is found under both names or under its own; memory counts what is below."""
    write(tmp_path / mount / "slurm/job_7/cpuacct.usage", "1500000000\n")
    write(tmp_path / mount / "slurm/job_7/cgroup.procs", "")
    write(tmp_path / mount / "slurm/job_7/step_0/cgroup.procs", "42\n")
    write(tmp_path / "memory/slurm/job_7/memory.stat", "rss 1\nshmem 1\ntotal_rss 8192\ntotal_shmem 100\n")
    write(tmp_path / "cpuset/slurm/job_7/cpuset.effective_cpus", "1,3\n")
    files = CgroupFiles(tmp_path)

    assert files.cpu_s(V1) == 1.5
    assert files.memory_bytes(V1) == 8292
    assert files.cpus(V1) == 2
    assert files.is_populated(V1[:1]) is True
    write(tmp_path / mount / "slurm/job_7/step_0/cgroup.procs", "")
    assert files.is_populated(V1[:1]) is False
    write(tmp_path / "memory/slurm/job_7/memory.stat", "total_rss 8192\n")
    assert files.memory_bytes(V1) == 8192


def test_v1_beside_an_empty_v2(tmp_path: Path) -> None:
    """The hybrid layout of systemd: v2 only follows processes, and v1 tells what they use."""
    write(tmp_path / "unified/a.slice/run.scope/cpu.stat", "usage_usec 1000000\n")
    write(tmp_path / "cpuacct/run/cpuacct.usage", "3000000000\n")
    files = CgroupFiles(tmp_path)

    assert files.cpu_s((*V2, ("cpuacct", "/run"))) == 3.0
    assert files.cpu_s((*V2, ("cpuacct", "/gone"))) == 1.0


def test_cpus_of_the_nearest_group_that_tells(tmp_path: Path) -> None:
    """Where the controller is off, the group above holds; nothing above the mount is asked."""
    write(tmp_path / "unified/a.slice/run.scope/cgroup.procs", "")
    write(tmp_path / "cpuset.cpus.effective", "0-63\n")
    files = CgroupFiles(tmp_path)

    assert files.cpus(V2) is None
    write(tmp_path / "unified/cpuset.cpus.effective", "0-7\n")
    assert files.cpus(V2) == 8
    write(tmp_path / "unified/a.slice/cpuset.cpus.effective", "4\n")
    assert files.cpus(V2) == 1


@pytest.mark.parametrize("path", ["/../other", "/../../etc", "/a/../../b", "relative", "", "/a\0b"])
def test_no_way_out(tmp_path: Path, path: str) -> None:
    """A path from within a cgroup namespace that leads out of the tree is refused."""
    for name in ("other", "etc", "b", "relative"):
        write(tmp_path / name / "cpu.stat", "usage_usec 1\n")
    (tmp_path / "tree").mkdir()
    files = CgroupFiles(tmp_path / "tree")

    assert files.cpu_s((("", path),)) is None
    assert not files.exists((("", path),))
    assert files.cpu_s((("../other", "/"), ("..", "/other"))) is None


def test_a_way_within(tmp_path: Path) -> None:
    """Dots that stay within are followed."""
    write(tmp_path / "b/cpu.stat", "usage_usec 1000000\n")

    assert CgroupFiles(tmp_path).cpu_s((("", "/a/.././b/"),)) == 1.0


@pytest.mark.parametrize("text", ["", "garbage", "usage_usec\nanon\n", "usage_usec -1\nanon x\n", "\udcff", "0-"])
def test_garbage_tells_nothing(tmp_path: Path, text: str) -> None:
    """A file that holds something else, or nothing, is as one that is not there."""
    for name in ("cpu.stat", "memory.stat", "cpuset.cpus.effective", "cgroup.events", "cpuacct.usage"):
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    (tmp_path / "cgroup.procs").mkdir()
    files = CgroupFiles(tmp_path)
    here: Directories = (("", "/"),)

    assert files.cpu_s(here) is files.memory_bytes(here) is files.cpus(here) is files.is_populated(here) is None


def test_what_is_gone_tells_nothing(tmp_path: Path) -> None:
    """No directory, no tree, no directories at all."""
    for files in (CgroupFiles(tmp_path), CgroupFiles(tmp_path / "none")):
        for directories in (V2, V1, ()):
            assert files.cpu_s(directories) is files.memory_bytes(directories) is None
            assert files.cpus(directories) is files.is_populated(directories) is None
            assert not files.exists(directories)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", 1),
        ("0-3,8", 5),
        ("0-3,2-5", 6),
        (" 1,3\n", 2),
        ("", None),
        ("3-1", None),
        ("0-99999999", None),
        ("a", None),
    ],
)
def test_lists_of_cpus(text: str, cpus: int | None) -> None:
    """As cpuset(7) writes them."""
    assert cpus_in(text) == cpus


def removed(group: Path) -> bool:
    """Remove a cgroup, which may be busy for a moment after its last process."""
    group.rmdir()
    return True


@contextlib.contextmanager
def real_group() -> Iterator[Path]:
    """A cpuacct cgroup of this machine; many have version 2 only, which the made trees stand for."""
    if os.geteuid() != 0 or not os.access(CPUACCT / "cgroup.procs", os.W_OK):
        pytest.skip("no cgroup v1 cpuacct hierarchy to write to")
    group = CPUACCT / f"trainwatt-test-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        poll.until(lambda: removed(group), what="the end of a cgroup")


def test_a_real_one() -> None:
    """A burner's CPU time, also once it has ended; then the group is removed."""
    files = CgroupFiles()
    with real_group() as group:
        here: Directories = (("cpuacct", f"/{group.name}"),)
        assert files.is_populated(here) is False
        with subprocess.Popen([sys.executable, "-c", f"input()\n{BURN}\ninput()"], stdin=subprocess.PIPE) as burner:
            (group / "cgroup.procs").write_text(f"{burner.pid}\n")
            assert files.is_populated(here) is True
            assert burner.stdin is not None
            burner.stdin.write(b"\n")
            burner.stdin.flush()
            poll.until(lambda: (files.cpu_s(here) or 0.0) > 0.25, what="CPU time of a burner")
            burner.communicate(b"\n", timeout=20)
        used_s = files.cpu_s(here)

        assert used_s is not None
        assert 0.25 < used_s < 2.0
        assert files.exists(here)
    assert not files.exists(here)
    assert files.cpu_s(here) is None


def test_where_we_are_ourselves() -> None:
    """Our own groups, as the kernel names them, tell of us; or none of them can be seen."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    ours = tuple((names, path) for _, names, path in (line.split(":", 2) for line in lines))
    files = CgroupFiles()
    if not files.exists(ours):
        need.missing("a mounted cgroup tree")
    first_s = files.cpu_s(ours)
    until_s = time.thread_time() + 0.05
    while time.thread_time() < until_s:
        pass
    second_s = files.cpu_s(ours)

    assert files.is_populated(ours) is not False
    if first_s is not None and second_s is not None:
        assert second_s > first_s
    assert files.cpus(ours) is None or 0 < (files.cpus(ours) or 0) <= (os.cpu_count() or 1)

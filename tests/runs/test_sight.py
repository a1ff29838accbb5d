"""What discovery may see of others, and the remedy for what it does not; what Slurm tells of itself."""

from dataclasses import replace
from pathlib import Path

import pytest

from monitor.runs.sight import HOST_PID_NAMESPACE, Sight, look, words
from monitor.runs.slurm import cluster_name, job_of_stepd

PTRACE, READ_SEARCH, OVERRIDE = 1 << 19, 1 << 2, 1 << 1
V1 = "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
V1_BARE = "31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
V2 = "29 23 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
ROOT_FS = "23 1 8:1 / / rw - ext4 /dev/root rw\n"


def tree(
    root: Path,
    *,
    namespace: str = HOST_PID_NAMESPACE,
    capabilities: int = 0,
    first: bool = True,
    mounts: str = V2,
    uid_map: str = "         0          0 4294967295\n",
) -> Path:
    """A procfs as this process may see it."""
    (root / "self" / "ns").mkdir(parents=True)
    (root / "self" / "ns" / "pid").symlink_to(namespace)
    (root / "self" / "status").write_text(f"Name:\tx\nCapEff:\t{capabilities:016x}\nCapBnd:\tffff\n")
    (root / "self" / "mountinfo").write_text(ROOT_FS + mounts)
    (root / "self" / "uid_map").write_text(uid_map)
    if first:
        (root / "1").mkdir()
        (root / "1" / "stat").write_text("1 (systemd) S 0 1 1 0 -1")
    return root


def seen(root: Path) -> Sight:
    """Where nothing tells of Slurm."""
    return look(root, environment={}, configurations=())


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        (PTRACE | READ_SEARCH, True),
        (PTRACE | OVERRIDE, True),
        (2**41 - 1, True),
        (PTRACE, False),
        (READ_SEARCH | OVERRIDE, False),
        (0, False),
    ],
)
def test_environments_need_two_capabilities(tmp_path: Path, capabilities: int, *, expected: bool) -> None:
    """One for the kernel's check of who may trace whom, and one for the mode of the file."""
    assert expected is seen(tree(tmp_path, capabilities=capabilities)).environments


def test_capabilities_end_at_the_walls_of_a_user_namespace(tmp_path: Path) -> None:
    """Root of a container has them all, and reads nothing of the host."""
    assert not seen(tree(tmp_path, capabilities=2**41 - 1, uid_map="0 100000 65536\n")).environments


@pytest.mark.parametrize(
    ("mounts", "versions", "counted"),
    [
        (V2, (2,), True),
        (V1, (1,), True),
        (V1_BARE, (1,), False),
        (V1_BARE + V2, (1, 2), True),
        ("", (), False),
        ("garbage - cgroup\n\n", (), False),
    ],
)
def test_cgroups_are_those_that_are_mounted(
    tmp_path: Path, mounts: str, versions: tuple[int, ...], *, counted: bool
) -> None:
    """Version 2 counts CPU time by itself, version 1 where cpuacct is."""
    sight = seen(tree(tmp_path, mounts=mounts))

    assert (versions, counted) == (sight.cgroup_versions, sight.cpu_accounting)


def test_other_numbers_and_hidden_processes_are_noticed(tmp_path: Path) -> None:
    """In a container of its own, and under hidepid; where nothing can be read, nothing is claimed."""
    hidden = seen(tree(tmp_path / "a", namespace="pid:[4026532100]", first=False))
    nothing = seen(tmp_path / "none")

    assert (hidden.on_host, hidden.others) == (False, False)
    assert (
        Sight(on_host=None, others=False, environments=False, cgroup_versions=(), cpu_accounting=False, cluster="")
        == nothing
    )


def test_our_own_eyes() -> None:
    """On this machine, whatever it is, there is an answer to each."""
    sight = look(Path("/proc"), environment={})

    assert sight.on_host is not None
    assert ["numbers", "processes", "environments", "cgroups", "slurm"] == [line.what for line in words(sight)]


def test_every_lack_comes_with_its_remedy() -> None:
    """One line each; what works needs none."""
    blind = Sight(
        on_host=False, others=False, environments=False, cgroup_versions=(1,), cpu_accounting=False, cluster=""
    )
    told = {line.what: line for line in words(blind)}
    whole = Sight(
        on_host=True, others=True, environments=True, cgroup_versions=(2,), cpu_accounting=True, cluster="deep"
    )

    assert not any(line.works for line in told.values())
    assert "hostPID: true" in told["numbers"].text
    assert "hidepid" in told["processes"].text
    assert "AmbientCapabilities=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH" in told["environments"].text
    assert "by cgroup, by slurmstepd or by the prolog" in told["environments"].text
    assert "cpuacct" in told["cgroups"].text
    assert "SLURM_CONF" in told["slurm"].text
    assert all(line.works for line in words(whole))
    assert all("\n" not in line.text for line in (*words(blind), *words(whole)))
    assert "unknown" in words(replace(whole, on_host=None))[0].text
    assert "no cgroups" in words(replace(blind, cgroup_versions=()))[3].text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ClusterName=Deep\n", "deep"),
        ("# ClusterName=old\n  clustername = Deep-2 # new\n", "deep-2"),
        ('SlurmctldHost=a ClusterName="Deep"\n', "deep"),
        ("SlurmctldHost=a \\\n ClusterName=deep\n", "deep"),
        ("MyClusterName=x\n", ""),
        ("include parts/names.conf\nSlurmctldHost=a\n", "included"),
        ("Include slurm.conf\n", ""),
        ("", ""),
    ],
)
def test_the_cluster_is_named_in_slurm_conf(tmp_path: Path, text: str, expected: str) -> None:
    """In small letters, as Slurm has it; in a file that it includes, too, but not for ever."""
    conf = tmp_path / "slurm.conf"
    conf.write_text(text)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "names.conf").write_text("ClusterName=Included\n")

    assert expected == cluster_name({"SLURM_CONF": str(conf)}, [])
    assert expected == cluster_name({}, [tmp_path / "none", conf])


def test_a_file_that_is_named_stands_alone(tmp_path: Path) -> None:
    """Where SLURM_CONF names one that cannot be read, another cluster's name would be a wrong one."""
    conf = tmp_path / "slurm.conf"
    conf.write_text("ClusterName=deep\n")

    assert cluster_name({"SLURM_CONF": str(tmp_path / "none")}, [conf]) == ""
    assert cluster_name({"SLURM_CONF": "\0"}, [conf]) == ""
    assert cluster_name({}, [tmp_path]) == ""


@pytest.mark.parametrize(
    ("title", "job"),
    [
        (b"slurmstepd: [42.batch]\0\0\0", "42"),
        (b"slurmstepd: [42.0]", "42"),
        (b"slurmstepd: [42.extern]\0", "42"),
        (b"slurmstepd: [42.0 stepmgr]\0", "42"),
        (b"slurmstepd: [42]\0", "42"),
        (b"slurmstepd: [42+1.0]\0", "42"),
        (b"/usr/sbin/slurmstepd\0", ""),
        (b"slurmstepd: [s5K1KKYAYG5D00.0]", ""),
        (b"slurmstepd: [0.batch]", ""),
        (b"slurmstepd: [42", ""),
        (b"slurmstepd: [\xd9\xa4.0]", ""),
        (b"echo\0slurmstepd: [42.0]\0", ""),
        (b"", ""),
    ],
)
def test_a_stepd_says_its_job(title: bytes, job: str) -> None:
    """In its title, which everybody may read."""
    assert job == job_of_stepd(title)

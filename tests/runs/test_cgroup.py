"""What the path of a control group tells, in the forms that schedulers, engines and systemd write."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.runs.cgroup import Place, PlaceKind, place_of

C = "0123456789abcdef" * 4
D = "fedcba9876543210" * 4
UID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
UNDER = UID.replace("-", "_")
STATIC = "0123456789abcdef0123456789abcdef"
SLUID = "s5K1KKYAYG5D00"
KUBE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDER}.slice"
STEPD = "/system.slice/slurmstepd.scope"
OWN = "/user.slice/user-1000.slice/user@1000.service"
SLURM, POD, CONTAINER, UNIT = PlaceKind.SLURM, PlaceKind.POD, PlaceKind.CONTAINER, PlaceKind.UNIT


def v2(path: str) -> Place:
    """The place of a process on a machine that has version 2 alone."""
    return place_of(f"0::{path}\n")


@pytest.mark.parametrize(
    ("path", "job", "step", "own"),
    [
        (f"{STEPD}/job_42/step_0/user/task_0", "42", "0", f"{STEPD}/job_42"),
        (f"{STEPD}/job_42/step_batch/slurm", "42", "batch", f"{STEPD}/job_42"),
        (f"{STEPD}/job_42", "42", "", f"{STEPD}/job_42"),
        ("/system.slice/node-1_slurmstepd.scope/job_7/step_extern/user/task_special", "7", "extern", None),
        ("/slurm/uid_1000/job_42/step_batch/task_0", "42", "batch", "/slurm/uid_1000/job_42"),
        ("/slurm_node-1/uid_0/job_42/step_4294967/task_1", "42", "4294967", "/slurm_node-1/uid_0/job_42"),
        ("/../../job_42/../x", "", "", ""),
        ("/../../../slurmstepd.scope/job_42/step_0/user/task_1", "42", "0", ""),
        ("/../../system.slice/slurmstepd.scope/job_42/step_0", "42", "0", ""),
        (f"/docker/{C}/system.slice/slurmstepd.scope/job_42/step_0/user", "42", "0", None),
        (f"{KUBE}/cri-containerd-{C}.scope/system.slice/pod-a_slurmstepd.scope/job_42/step_0", "42", "0", None),
        (f"{STEPD}/job_42/step_0/user/task_0 (deleted)", "42", "0", ""),
    ],
)
def test_a_slurm_job_is_known_by_its_number(path: str, job: str, step: str, own: str | None) -> None:
    """Of both versions, with several slurmd on a node, from a neighbouring namespace, and within a container."""
    place = v2(path)

    assert (job, step) == (place.id, place.step)
    assert (SLURM if job else PlaceKind.NONE) is place.kind
    expected = path[: path.index(f"job_{job}") + 4 + len(job)] if own is None else own
    assert ((("", expected),) if expected else ()) == place.directories


def test_a_sluid_is_no_number() -> None:
    """From 26.05 on the directory has the job's SLUID, unless CgroupJobIdPaths=yes."""
    place = v2(f"{STEPD}/{SLUID}/step_0/user/task_0")

    assert (PlaceKind.SLUID, SLUID, "0") == (place.kind, place.id, place.step)
    assert (("", f"{STEPD}/{SLUID}"),) == place.directories


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        (f"{OWN}/app.slice/job_42", UNIT, "user@1000.service"),
        (f"{OWN}/app.slice/slurmstepd.scope/job_42/step_0", UNIT, "slurmstepd.scope"),
        (f"{OWN}/system.slice/slurmstepd.scope/job_42", UNIT, "slurmstepd.scope"),
        (f"{OWN}/slurm/uid_0/job_42/step_0", UNIT, "user@1000.service"),
        (f"{OWN}/app.slice/docker-{C}", UNIT, "user@1000.service"),
        (f"{OWN}/app.slice/docker-{C}.scope", UNIT, f"docker-{C}.scope"),
        (f"{OWN}/docker/{C}", UNIT, "user@1000.service"),
        (f"{OWN}/user.slice/libpod-{C}", UNIT, "user@1000.service"),
        (f"{OWN}/user.slice/mine/libpod-{C}.scope", UNIT, f"libpod-{C}.scope"),
        (f"{OWN}/kubepods/burstable/pod{UID}/{C}", UNIT, "user@1000.service"),
        (f"{OWN}/kubepods.slice/kubepods-pod{UNDER}.slice/x", UNIT, "user@1000.service"),
        (f"/system.slice/ci.service/docker/{C}", UNIT, "ci.service"),
        (f"/system.slice/ci.service/user@0.service/user.slice/libpod-{C}.scope", UNIT, f"libpod-{C}.scope"),
        (f"/system.slice/ci.service{STEPD}/job_42", UNIT, "slurmstepd.scope"),
        (f"/slurmstepd.scope/{SLUID}", UNIT, "slurmstepd.scope"),
        ("/slurmstepd.scope/job_42", UNIT, "slurmstepd.scope"),
        (f"{STEPD}/system", UNIT, "slurmstepd.scope"),
        (f"{STEPD}/job_x/job_42", UNIT, "slurmstepd.scope"),
        (f"{STEPD}/job_042", UNIT, "slurmstepd.scope"),
        (f"{STEPD}/s5K1KKYAYG5D0U", UNIT, "slurmstepd.scope"),
        (f"{STEPD}/job_\u0661", UNIT, "slurmstepd.scope"),
        ("/system.slice/x/slurmstepd.scope/job_42", UNIT, "slurmstepd.scope"),
        ("/slurm/job_42/step_0", PlaceKind.NONE, ""),
        ("/a/slurm/uid_0/job_42", PlaceKind.NONE, ""),
        ("/slurmy/uid_0/job_42", PlaceKind.NONE, ""),
        ("/../../job_42/step_0", PlaceKind.NONE, ""),
        (f"/docker/{C[:-1]}", PlaceKind.NONE, ""),
        (f"/docker/{C.upper()}", PlaceKind.NONE, ""),
        (f"/{C}", PlaceKind.NONE, ""),
        (f"/kubepods/burstable/pod{UID[:-1]}", PlaceKind.NONE, ""),
        (f"/pods/pod{UID}", PlaceKind.NONE, ""),
        ("/", PlaceKind.NONE, ""),
        ("/..", PlaceKind.NONE, ""),
    ],
)
def test_what_only_looks_like_it_is_not_believed(path: str, kind: PlaceKind, name: str) -> None:
    """A user makes directories of any name below his own manager, or below a service that was given to him."""
    place = v2(path)

    assert (kind, name) == (place.kind, place.id)
    assert ("", "") == (place.pod, place.container)


@pytest.mark.parametrize(
    ("path", "container", "engine", "own"),
    [
        (f"/docker/{C}", C, "docker", f"/docker/{C}"),
        (f"/docker/{C}/init.scope/deeper", C, "docker", f"/docker/{C}"),
        (f"/system.slice/docker-{C}.scope", C, "docker", f"/system.slice/docker-{C}.scope"),
        (f"/system.slice/docker-{C}.scope/docker/{D}", C, "docker", f"/system.slice/docker-{C}.scope"),
        (f"/system.slice/nerdctl-{C}.scope", C, "containerd", f"/system.slice/nerdctl-{C}.scope"),
        (f"/moby/{C}", C, "docker", f"/moby/{C}"),
        (f"/default/{C}", C, "", f"/default/{C}"),
        (f"/../{C}", C, "", ""),
        (f"/../../docker-{C}.scope/x", C, "docker", ""),
        (f"/machine.slice/libpod-{C}.scope/container", C, "podman", f"/machine.slice/libpod-{C}.scope"),
        (f"/libpod_parent/libpod-{C}", C, "podman", f"/libpod_parent/libpod-{C}"),
        (f"{OWN}/user.slice/libpod-{C}.scope/container", C, "podman", f"{OWN}/user.slice/libpod-{C}.scope"),
        (f"{OWN}/user.slice/docker-{C}.scope", C, "docker", f"{OWN}/user.slice/docker-{C}.scope"),
    ],
)
def test_a_container_is_known_by_its_full_id(path: str, container: str, engine: str, own: str) -> None:
    """Of every engine, with and without systemd, with its own directory: a container within it is its own affair."""
    place = v2(path)

    assert (CONTAINER, container, container, "", engine) == (
        place.kind,
        place.id,
        place.container,
        place.pod,
        place.engine,
    )
    assert ((("", own),) if own else ()) == place.directories
    assert (1000 if path.startswith(OWN) else None) == place.owner


@pytest.mark.parametrize(
    ("path", "pod", "container", "own"),
    [
        (f"/kubepods/burstable/pod{UID}/{C}", UID, C, f"/kubepods/burstable/pod{UID}"),
        (f"/kubepods/pod{UID}/{C}", UID, C, f"/kubepods/pod{UID}"),
        (f"/kubepods/besteffort/pod{STATIC}/{C}", STATIC, C, f"/kubepods/besteffort/pod{STATIC}"),
        (f"/kubepods/burstable/pod{UID}/crio-{C}", UID, C, f"/kubepods/burstable/pod{UID}"),
        (f"{KUBE}/cri-containerd-{C}.scope", UID, C, KUBE),
        (f"{KUBE}/crio-{C}.scope/container", UID, C, KUBE),
        (f"{KUBE}/docker-{C}.scope", UID, C, KUBE),
        (f"{KUBE}/crio-conmon-{C}.scope", UID, "", KUBE),
        (
            f"/kubepods.slice/kubepods-pod{STATIC}.slice/cri-containerd-{C}.scope",
            STATIC,
            C,
            f"/kubepods.slice/kubepods-pod{STATIC}.slice",
        ),
        (f"/system.slice/containerd.service/kubepods-burstable-pod{UNDER}.slice:cri-containerd:{C}", UID, C, ""),
        (f"/kubepods-besteffort-pod{UNDER}.slice:cri-containerd:{C}", UID, C, ""),
        (f"/../../kubepods-burstable-pod{UNDER}.slice/cri-containerd-{C}.scope", UID, C, ""),
        (f"/../../pod{UID}/{C}", UID, C, ""),
        (f"/docker/{D}/kubelet/kubepods/pod{UID}/{C}", UID, C, f"/docker/{D}/kubelet/kubepods/pod{UID}"),
        (
            f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UNDER}.slice/cri-containerd-{C}.scope",
            UID,
            C,
            f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UNDER}.slice",
        ),
        (f"/machine.slice/machine-libpod_pod_{D}.slice/libpod-{C}.scope/container", D, C, None),
        (f"{OWN}/user.slice/user-libpod_pod_{D}.slice/libpod-{C}.scope/container", D, C, None),
    ],
)
def test_a_pod_is_known_by_its_uid(path: str, pod: str, container: str, own: str | None) -> None:
    """With dashes whatever the path has, and with the container in it, unless the path is that of a monitor."""
    place = v2(path)
    expected = path[: path.index(".slice/libpod-") + 6] if own is None else own

    assert (POD, pod, pod, container) == (place.kind, place.id, place.pod, place.container)
    assert ("podman" if own is None else "kubernetes") == place.engine
    assert ((("", expected),) if expected else ()) == place.directories


@pytest.mark.parametrize(
    ("path", "name", "owner"),
    [
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", 1000),
        (f"{OWN}/app.slice/run-r1234.scope", "run-r1234.scope", 1000),
        (f"{OWN}/app.slice/run-r1234.scope/below", "run-r1234.scope", 1000),
        (f"{OWN}/init.scope", "init.scope", 1000),
        ("/system.slice/train.service", "train.service", None),
        (f"/machine.slice/libpod-conmon-{C}.scope", f"libpod-conmon-{C}.scope", None),
        (f"/system.slice/crio-conmon-{C}.scope", f"crio-conmon-{C}.scope", None),
        ("/lxc.payload.one/system.slice/train.service", "train.service", None),
    ],
)
def test_a_unit_is_the_last_scope_or_service(path: str, name: str, owner: int | None) -> None:
    """Sessions, what systemd-run started, services; a monitor of containers is not the container."""
    place = v2(path)

    assert (UNIT, name, owner) == (place.kind, place.id, place.owner)
    assert (("", path[: path.index(name) + len(name)]),) == place.directories


def test_a_job_stands_before_the_container_around_or_in_it() -> None:
    """It is the scheduler's; both are kept."""
    around = v2(f"{KUBE}/cri-containerd-{C}.scope{STEPD}/job_42/step_0/user/task_0")
    within = v2(f"{STEPD}/job_42/step_0/user/task_0/libpod-{C}.scope/container")

    assert (SLURM, "42", UID, C) == (around.kind, around.id, around.pod, around.container)
    assert (SLURM, "42", "", C) == (within.kind, within.id, within.pod, within.container)


def test_the_lines_of_a_hybrid_are_read_together() -> None:
    """The job's own directory of every controller that it has one of; sessions of the others do not matter."""
    place = place_of(
        "11:freezer:/slurm/uid_1000/job_42/step_batch\n"
        "10:cpu,cpuacct:/system.slice/slurmd.service\n"
        "9:memory:/slurm/uid_1000/job_42/step_batch/task_0\n"
        "4:blkio,net_cls:/slurm/uid_1000/job_42\n"
        "1:name=systemd:/system.slice/slurmd.service\n"
        "0::/system.slice/slurmd.service\n"
    )
    own = "/slurm/uid_1000/job_42"

    assert (SLURM, "42", "batch", 1000) == (place.kind, place.id, place.step, place.owner)
    assert (("freezer", own), ("memory", own), ("blkio", own), ("net_cls", own)) == place.directories


def test_the_units_of_systemd_are_those_of_its_own_hierarchy() -> None:
    """Other controllers of version 1 stay further up."""
    place = place_of("3:cpu,cpuacct:/system.slice/a.service\n1:name=systemd:/user.slice/user-7.slice/session-1.scope\n")

    assert (UNIT, "session-1.scope", 7) == (place.kind, place.id, place.owner)


def test_lines_that_contradict_each_other_tell_nothing() -> None:
    """Two jobs, or two containers, are neither; what is left is what no line contradicts."""
    two = f"2:memory:/slurm/uid_1/job_42\n3:cpu:/slurm/uid_1/job_43\n1:name=systemd:/docker/{C}\n"

    assert (CONTAINER, C) == place_of(two)[:2]
    assert Place() == place_of(f"2:memory:/docker/{C}\n3:cpu:/docker/{D}\n")


@pytest.mark.parametrize("text", ["", "\n", "x", "0::", "0::relative", f"0:cpu:/docker/{C}", f"3::/docker/{C}", "::/"])
def test_half_a_text_is_nowhere(text: str) -> None:
    """What the kernel does not write is not read."""
    assert Place() == place_of(text)


WORDS = st.sampled_from(
    [
        *("..", "system.slice", "slurmstepd.scope", "n_slurmstepd.scope", "slurm", "slurm_n", "uid_7", "job_42"),
        *("step_0", "user.slice", "user-1000.slice", "user@1000.service", "app.slice", "train.service", "docker", C),
        *(
            f"docker-{C}.scope",
            f"libpod-{C}.scope",
            f"crio-conmon-{C}.scope",
            f"crio-{C}.scope",
            "kubepods",
            "burstable",
        ),
        *(f"pod{UID}", f"kubepods-pod{UNDER}.slice", f"kubepods-pod{UNDER}.slice:cri-containerd:{C}", SLUID, "", "."),
        f"machine-libpod_pod_{D}.slice",
    ]
)
PATHS = st.lists(WORDS | st.text(max_size=8), max_size=8).map(lambda parts: "/" + "/".join(parts))
LINES = st.tuples(st.sampled_from(["0:", "1:name=systemd", "2:cpu,cpuacct", "7:memory"]), PATHS).map(":".join)


@given(st.lists(LINES | st.text(max_size=40), max_size=4).map("\n".join))
def test_it_never_raises_and_never_invents(text: str) -> None:
    """Every id stands in the text, in its place and in its form; a job's own directory ends with its name."""
    place = place_of(text)
    as_written = text.replace("_", "-")

    assert (place.kind is PlaceKind.NONE) == (place.id == "")
    assert place.id in as_written or place.id in text
    assert place.pod in as_written
    assert place.container in text
    for controller, path in place.directories:
        assert f"{controller}" in text
        assert path in text
        assert ".." not in path.split("/")
    if place.kind is SLURM:
        assert re.search(
            rf"(system\.slice|/\.\.)/([^/]*_)?slurmstepd\.scope/job_42|/slurm[^/]*/uid_7/job_{place.id}", text
        )
        assert all(path.endswith(f"/job_{place.id}") for _controller, path in place.directories)


@given(st.lists(WORDS | st.text(st.characters(exclude_characters="/\n"), max_size=8), max_size=7))
def test_nothing_below_a_users_manager_is_a_job_or_a_pod_of_the_cluster(parts: list[str]) -> None:
    """Whatever he writes there, it is a container of his own, or a unit."""
    place = v2("/".join([OWN, *parts]))

    assert place.kind in {UNIT, CONTAINER, POD, PlaceKind.NONE}
    assert place.engine != "kubernetes"
    assert place.kind is PlaceKind.NONE or place.owner == 1000

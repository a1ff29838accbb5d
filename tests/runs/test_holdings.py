"""Which devices an environment names."""

import pytest

from monitor.core.model import Component, Device
from monitor.runs.holdings import doubt, held, hints, is_allocated, slices_held

UUIDS = [f"GPU-{letter * 8}" for letter in "abcd"]


def gpu(
    index: int, *, model: str = "one", slices: tuple[str, ...] = (), within: str = "", lists: bool = False
) -> Device:
    """A GPU of the node."""
    return Device(
        id=UUIDS[index],
        component=Component.GPU,
        source="nvml",
        max_power_w=700.0,
        index=str(index),
        model=model,
        slices=slices,
        within=within,
        lists_processes=lists,
    )


def other(device_id: str, component: Component, within: str = "") -> Device:
    """A part that is no GPU."""
    return Device(id=device_id, component=component, source="rapl", max_power_w=400.0, index="0", within=within)


CPU = other("cpu-0", Component.CPU)
FOUR = [gpu(3), gpu(1), CPU, gpu(0), gpu(2), other("psys", Component.PLATFORM, within="node")]
A, B, C, D = UUIDS
ALL = {A, B, C, D}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ALL),
        ({"CUDA_VISIBLE_DEVICES": ""}, set()),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, set()),
        ({"CUDA_VISIBLE_DEVICES": "2,0"}, {A, C}),
        ({"CUDA_VISIBLE_DEVICES": "1,9,2"}, {B}),
        ({"CUDA_VISIBLE_DEVICES": "1,1"}, set()),
        ({"CUDA_VISIBLE_DEVICES": "GPU-dd"}, {D}),
        ({"ROCR_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "0"}, ALL),
        ({"SLURM_JOB_GPUS": "0,2-3", "CUDA_VISIBLE_DEVICES": "0"}, {A, C, D}),
        ({"SLURM_JOB_GPUS": "1", "SLURM_STEP_GPUS": "0,1"}, {B}),
        ({"SLURM_STEP_GPUS": "3"}, {D}),
        ({"SLURM_JOB_GPUS": "", "CUDA_VISIBLE_DEVICES": "3"}, {D}),
        ({"SLURM_JOB_GPUS": f"{B},{C}"}, {B, C}),
        ({"SLURM_JOB_GPUS": "4,5,6,7"}, ALL),
        ({"SLURM_JOB_GPUS": "0-99999999999"}, ALL),
        ({"SLURM_JOB_GPUS": "x,9"}, set()),
    ],
)
def test_what_is_allocated_is_held(environment: dict[str, str], expected: set[str]) -> None:
    """Slurm's allocation, else what CUDA shows of the container's set, else every GPU that lists no processes."""
    assert expected == held(environment, FOUR)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"NVIDIA_VISIBLE_DEVICES": "2,3"}, {C, D}),
        ({"NVIDIA_VISIBLE_DEVICES": f"{D},{A}"}, {A, D}),
        ({"NVIDIA_VISIBLE_DEVICES": "none"}, set()),
        ({"NVIDIA_VISIBLE_DEVICES": "none", "CUDA_VISIBLE_DEVICES": "0"}, set()),
        ({"NVIDIA_VISIBLE_DEVICES": "3,1", "CUDA_VISIBLE_DEVICES": "0"}, {B}),
        ({"NVIDIA_VISIBLE_DEVICES": "3,1", "CUDA_VISIBLE_DEVICES": "1"}, {D}),
        ({"NVIDIA_VISIBLE_DEVICES": "3,1", "CUDA_VISIBLE_DEVICES": A}, set()),
        ({"NVIDIA_VISIBLE_DEVICES": "9"}, set()),
        ({"NVIDIA_VISIBLE_DEVICES": "0:0,x:1,1:y,:"}, set()),
        ({"NVIDIA_VISIBLE_DEVICES": "all", "CUDA_VISIBLE_DEVICES": "1"}, {B}),
        ({"NVIDIA_VISIBLE_DEVICES": "1", "SLURM_JOB_GPUS": "2"}, {C}),
        ({"NVIDIA_VISIBLE_DEVICES": "4,5,6,7", "CUDA_VISIBLE_DEVICES": "1"}, {B}),
    ],
)
def test_a_container_has_a_set_of_its_own(environment: dict[str, str], expected: set[str]) -> None:
    """CUDA counts within it, by place on the node; the scheduler's word stands before it."""
    assert expected == held(environment, FOUR)
    assert is_allocated(environment)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_GPUS": "", "SLURM_STEP_GPUS": " ,"},
        {"NVIDIA_VISIBLE_DEVICES": "all"},
        {"NVIDIA_VISIBLE_DEVICES": "ALL"},
        {"NVIDIA_VISIBLE_DEVICES": "void"},
        {"NVIDIA_VISIBLE_DEVICES": ""},
        {"NVIDIA_VISIBLE_DEVICES": "/var/run/nvidia-container-devices"},
        {"NVIDIA_VISIBLE_DEVICES": "nvidia.com/gpu=0"},
        {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    ],
)
def test_without_an_allocation_only_silent_devices_are_held(environment: dict[str, str]) -> None:
    """Where the driver lists processes, it is they that tell; an image's `all` gives nothing to anybody."""
    assert not is_allocated(environment)
    assert {B} == held(environment, [gpu(0, lists=True), gpu(1), CPU])
    assert frozenset() == slices_held(environment, [gpu(0, slices=("MIG-1",))])


def test_within_the_job_all_that_is_seen_is_held() -> None:
    """A daemon in the job's own cgroup sees its GPUs alone, counted from 0: Slurm's numbers are the node's."""
    assert {A, B} == held({"SLURM_JOB_GPUS": "4,5"}, [gpu(0), gpu(1)])
    assert {A} == held({"SLURM_JOB_GPUS": "4-7"}, [gpu(0)])


def test_a_slice_holds_its_gpu() -> None:
    """MIG slices share the one reading of their GPU, which is what is held, under either scheduler's words."""
    cut = [gpu(0, slices=("MIG-1", "MIG-2")), gpu(1)]

    assert {A} == held({"CUDA_VISIBLE_DEVICES": "MIG-2"}, cut)
    assert {A} == held({"SLURM_JOB_GPUS": "MIG-1"}, cut)
    assert {B} == held({"CUDA_VISIBLE_DEVICES": "1"}, cut)


@pytest.mark.parametrize(
    ("environment", "gpus", "slices"),
    [
        ({"CUDA_VISIBLE_DEVICES": "MIG-2"}, {A}, {"MIG-2"}),
        ({"CUDA_VISIBLE_DEVICES": "MIG-2,MIG-1,MIG-3"}, {A, B}, {"MIG-1", "MIG-2", "MIG-3"}),
        ({"CUDA_VISIBLE_DEVICES": "2"}, {C}, set()),
        ({"SLURM_JOB_GPUS": "MIG-1"}, {A}, {"MIG-1"}),
        ({"SLURM_JOB_GPUS": "1", "CUDA_VISIBLE_DEVICES": "MIG-2"}, {A}, {"MIG-2"}),
        ({"SLURM_JOB_GPUS": "1", "CUDA_VISIBLE_DEVICES": "0"}, {B}, set()),
        ({"NVIDIA_VISIBLE_DEVICES": "0:1"}, {A}, {"MIG-2"}),
        ({"NVIDIA_VISIBLE_DEVICES": "0:1,1:0"}, {A, B}, {"MIG-2", "MIG-3"}),
        ({"NVIDIA_VISIBLE_DEVICES": "MIG-3", "CUDA_VISIBLE_DEVICES": "0"}, {B}, {"MIG-3"}),
        ({"NVIDIA_VISIBLE_DEVICES": "0:1,2", "CUDA_VISIBLE_DEVICES": "MIG-1"}, set(), set()),
        ({"NVIDIA_VISIBLE_DEVICES": "0:7,2:0"}, set(), set()),
        ({"NVIDIA_VISIBLE_DEVICES": "2,0:0"}, {A, C}, {"MIG-1"}),
    ],
)
def test_slices_are_told_by_name(environment: dict[str, str], gpus: set[str], slices: set[str]) -> None:
    """By UUID, or as GPU:SLICE of a container; Slurm's numbers may count slices, so that its UUIDs stand before."""
    cut = [gpu(0, slices=("MIG-1", "MIG-2")), gpu(1, slices=("MIG-3",)), gpu(2)]

    assert gpus == held(environment, cut)
    assert slices == slices_held(environment, cut)


def test_a_slice_of_the_only_gpu_is_not_all_of_it() -> None:
    """One entry for one GPU may still be a part of it."""
    assert {"MIG-1"} == slices_held({"SLURM_JOB_GPUS": "MIG-1"}, [gpu(0, slices=("MIG-1", "MIG-2"))])


def test_an_absent_gpu_keeps_its_place() -> None:
    """Where the GPU of an index is not seen, the others are still found under their own."""
    assert {C} == held({"CUDA_VISIBLE_DEVICES": "2"}, [gpu(0), gpu(2)])
    assert set() == held({"CUDA_VISIBLE_DEVICES": "1"}, [gpu(0), gpu(2)])


def test_what_lies_within_another_is_not_held() -> None:
    """Only parts are held: what overlaps them is nobody's."""
    module = other("module-0", Component.MODULE)

    assert {module.id} == held({}, [module, gpu(0, within=module.id)])
    assert {module.id} == held({"CUDA_VISIBLE_DEVICES": "0"}, [module, CPU])
    assert set() == held({"CUDA_VISIBLE_DEVICES": ""}, [module, CPU, other("dram-0", Component.DRAM)])


def test_a_guess_is_told() -> None:
    """CUDA counts the fastest first: among GPUs of several models an index is in doubt, unless the order is set."""
    mixed = [gpu(0, model="fast"), gpu(1, model="slow")]
    asked = {"CUDA_VISIBLE_DEVICES": "1"}

    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in doubt(asked, mixed)
    assert doubt(asked | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, mixed) == ""
    assert doubt(asked | {"SLURM_JOB_GPUS": "1"}, mixed) == ""
    assert doubt({"CUDA_VISIBLE_DEVICES": A}, mixed) == ""
    assert doubt({}, mixed) == ""
    assert doubt(asked, FOUR) == ""


def test_hints_are_what_tells_devices() -> None:
    """Of an environment only the variables that name devices are kept, bounded."""
    assert (("CUDA_VISIBLE_DEVICES", "0"),) == hints({"CUDA_VISIBLE_DEVICES": "0", "SECRET": "x"})
    assert 4096 == len(hints({"SLURM_JOB_GPUS": "1," * 9999})[0][1])

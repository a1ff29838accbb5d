"""MIG: the slices that a GPU is divided into, and what part of it each of them is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pynvml

from monitor.sources.nvml import driver
from monitor.sources.nvml.driver import Handle
from monitor.sources.nvml.policy import Action, action_of

T = TypeVar("T")

LARGEST_FIRST = (
    pynvml.NVML_GPU_INSTANCE_PROFILE_8_SLICE,
    pynvml.NVML_GPU_INSTANCE_PROFILE_7_SLICE,
    pynvml.NVML_GPU_INSTANCE_PROFILE_6_SLICE,
    pynvml.NVML_GPU_INSTANCE_PROFILE_4_SLICE,
)
"""The profile that takes a whole GPU has as many slices as it has: 7 on A100 and H100, 4 on A30."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A MIG device: a compute instance in a GPU instance."""

    id: str
    handle: Handle
    instances: tuple[int, int] | None = None
    """Numbers of its GPU and compute instance; None = not told."""
    gpu_slices: int = 0
    """Of its GPU instance, which it may share; 0 = not told, as for the others."""
    compute_slices: int = 0
    memory_bytes: int = 0


def divided(handle: Handle) -> tuple[tuple[Slice, ...], tuple[float, ...]]:
    """The slices of a GPU, and what part of it each is. Raises NVMLError where it cannot tell."""
    slices = slices_of(handle)
    return slices, ratios(handle, slices)


def slices_of(handle: Handle) -> tuple[Slice, ...]:
    """The slices of a GPU; none where it is not divided. Raises NVMLError where it cannot tell."""
    found = []
    for one in driver.mig_handles(handle):
        slice_id = optional(driver.mig_uuid, one)
        if slice_id is None:
            continue  # it has just been taken apart
        gpu_slices, compute_slices, memory_bytes = optional(driver.mig_size, one) or (0, 0, 0)
        found.append(
            Slice(
                id=slice_id,
                handle=one,
                instances=optional(driver.mig_instances, one),
                gpu_slices=gpu_slices,
                compute_slices=compute_slices,
                memory_bytes=memory_bytes,
            )
        )
    return tuple(found)


def ratios(handle: Handle, slices: Sequence[Slice]) -> tuple[float, ...]:
    """What part of the GPU each slice is, by its compute slices, else by its memory; () = nobody tells."""
    if not slices:
        return ()
    total = next((count for profile in LARGEST_FIRST if (count := _profile(handle, profile))), 0)
    parts = [_gpu_part(one, slices) for one in slices]
    if not total or not all(parts):
        total = optional(driver.memory_total_bytes, handle) or 0
        parts = [one.memory_bytes * _part_of_instance(one, slices) for one in slices]
    if not total or not all(parts):
        return ()
    whole = max(total, sum(parts))
    return tuple(part / whole for part in parts)


def _gpu_part(one: Slice, slices: Sequence[Slice]) -> float:
    return one.gpu_slices * _part_of_instance(one, slices)


def _part_of_instance(one: Slice, slices: Sequence[Slice]) -> float:
    """Of several compute instances in one GPU instance, each has its part of it; what none has is theirs, too."""
    together = [other for other in slices if one.instances and other.instances and _same_gpu_instance(one, other)]
    if len(together) <= 1:
        return 1.0
    counted = sum(other.compute_slices for other in together)
    return one.compute_slices / counted if counted else 1.0 / len(together)


def _same_gpu_instance(one: Slice, other: Slice) -> bool:
    return one.instances is not None and other.instances is not None and one.instances[0] == other.instances[0]


def _profile(handle: Handle, profile: int) -> int:
    return optional(lambda gpu: driver.profile_slices(gpu, profile), handle) or 0


def optional(call: Callable[[Handle], T], handle: Handle) -> T | None:
    """Ask while looking around. Raises NVMLError only where the GPU or the library is gone."""
    try:
        return call(handle)
    except pynvml.NVMLError as error:
        # A profile that this library does not know is no reason to doubt the handle.
        if action_of(error) is Action.DROP or error.value == pynvml.NVML_ERROR_UNINITIALIZED:
            raise
        return None

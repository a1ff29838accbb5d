"""Which devices a run holds: what its environment says it was allocated, among the devices of this node. No I/O."""

from collections.abc import Iterable, Mapping, Sequence

from monitor.core.model import Component, Device
from monitor.core.visible import visible_devices

HINTS = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
"""The variables that tell; the job's allocation stands before that of one of its steps."""
LONGEST_HINT = 4096
MOST_GPUS = 1024

Hints = tuple[tuple[str, str], ...]
"""Those of the variables that are set, in the order of HINTS."""


def hints(environment: Mapping[str, str]) -> Hints:
    """What of an environment tells the devices."""
    return tuple((name, environment[name][:LONGEST_HINT]) for name in HINTS if name in environment)


def held(environment: Mapping[str, str], devices: Iterable[Device]) -> frozenset[str]:
    """Ids of the devices that a job with this environment holds.

    ROCR_ and HIP_ variables are of another vendor's devices, and of no account here.
    """
    parts = [device for device in devices if device.is_part]
    # CPU, memory, modules and platform are held by every run of the node, until they are split by CPU time: nothing
    # in an environment says which of them a job was given.
    shared = {device.id for device in parts if device.component is not Component.GPU}
    return frozenset(shared | _gpus(environment, [device for device in parts if device.component is Component.GPU]))


def doubt(environment: Mapping[str, str], devices: Iterable[Device]) -> str:
    """One line where the environment does not tell for sure which GPUs are meant, else ""."""
    text = environment.get("CUDA_VISIBLE_DEVICES", "")
    if any(environment.get(name, "").strip() for name in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS")):
        return ""
    models = {device.model for device in devices if device.is_part and device.component is Component.GPU}
    counted = any(entry.strip().isdigit() for entry in text.split(","))
    if len(models) < 2 or not counted or environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":  # noqa: PLR2004
        return ""
    return (
        "which GPUs CUDA_VISIBLE_DEVICES means: the models differ and CUDA counts the fastest first; "
        "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name them by UUID"
    )


def _gpus(environment: Mapping[str, str], gpus: Sequence[Device]) -> set[str]:
    # A MIG slice has no power of its own: all slices share the one reading of their GPU, so that is what is held.
    parents = {slice_id: gpu.id for gpu in gpus for slice_id in gpu.slices}
    ids = {gpu.id for gpu in gpus}
    in_order = _in_order(gpus)
    for name in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS"):
        allocated = _entries(environment.get(name, ""))
        if not allocated:
            continue
        if len(gpus) <= len(allocated):
            return ids  # we are within the job ourselves: its indices are those of the node, ours begin at 0
        named = [in_order[int(e)] if e.isdigit() and int(e) < len(in_order) else parents.get(e, e) for e in allocated]
        return ids & set(named)
    chosen = visible_devices(
        environment.get("CUDA_VISIBLE_DEVICES"), in_order, {gpu.id: gpu.slices for gpu in gpus if gpu.slices}
    )
    return ids & {parents.get(device, device) for device in chosen}


def _in_order(gpus: Sequence[Device]) -> list[str]:
    """Ids by index; "" where a GPU of that index is not seen, so that the others keep their place."""
    counted = {int(gpu.index): gpu.id for gpu in gpus if gpu.index.isascii() and gpu.index.isdigit()}
    if len(counted) < len(gpus) or max(counted, default=0) >= MOST_GPUS:
        return [gpu.id for gpu in gpus]
    return [counted.get(index, "") for index in range(max(counted, default=-1) + 1)]


def _entries(text: str) -> list[str]:
    """A list of Slurm, such as "0,2-3" or UUIDs, entry by entry."""
    entries: list[str] = []
    for entry in (part.strip() for part in text.split(",")):
        first, dash, last = entry.partition("-")
        if dash and first.isascii() and last.isascii() and first.isdigit() and last.isdigit():
            span = range(int(first), min(int(last) + 1, int(first) + MOST_GPUS))
            entries += [str(index) for index in span]
        elif entry:
            entries.append(entry)
    return list(dict.fromkeys(entries))[:MOST_GPUS]

"""Which devices a run holds: what its environment says it was allocated, among the devices of this node. No I/O."""

from collections.abc import Iterable, Mapping, Sequence

from monitor.core.model import Component, Device
from monitor.core.visible import visible_devices

SLURM = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS")
"""The job's allocation stands before that of one of its steps."""
CONTAINER = "NVIDIA_VISIBLE_DEVICES"
VISIBLE = "CUDA_VISIBLE_DEVICES"
HINTS = (*SLURM, CONTAINER, VISIBLE, "CUDA_DEVICE_ORDER")
"""The variables that tell."""
LONGEST_HINT = 4096
MOST_GPUS = 1024
NO_GPUS = "none"

_NOTHING_SAID = frozenset({"", "all", "void"})
"""Of a container: `all` stands in many an image, whatever it was given; with the others somebody else gives devices."""

Hints = tuple[tuple[str, str], ...]
"""Those of the variables that are set, in the order of HINTS."""


def hints(environment: Mapping[str, str]) -> Hints:
    """What of an environment tells the devices."""
    return tuple((name, environment[name][:LONGEST_HINT]) for name in HINTS if name in environment)


def is_allocated(environment: Mapping[str, str]) -> bool:
    """Whether an environment says which GPUs were given; none of them is an answer, too."""
    if VISIBLE in environment or any(_entries(environment.get(name, "")) for name in SLURM):
        return True
    return _container_entries(environment) is not None


def held(environment: Mapping[str, str], devices: Iterable[Device]) -> frozenset[str]:
    """Ids of the devices that a job with this environment holds, whether it uses them or not.

    Without an allocation it is those on which it has processes, which others find out; only of devices that cannot
    tell their processes it holds all. CPU and memory are held by nobody: they are split by use. ROCR_ and HIP_
    variables are of another vendor's devices, and of no account here.
    """
    gpus = _gpus(devices)
    if not is_allocated(environment):
        return frozenset(gpu.id for gpu in gpus if not gpu.lists_processes)
    parents = {slice_id: gpu.id for gpu in gpus for slice_id in gpu.slices}
    named = (parents.get(device, device) for device in _given(environment, gpus))
    return frozenset(named) & {gpu.id for gpu in gpus}


def slices_held(environment: Mapping[str, str], devices: Iterable[Device]) -> frozenset[str]:
    """Ids of the slices (MIG) that a job with this environment was given; of a device of which it names none, all."""
    gpus = _gpus(devices)
    slices = {slice_id for gpu in gpus for slice_id in gpu.slices}
    return frozenset(slices.intersection(_given(environment, gpus))) if is_allocated(environment) else frozenset()


def doubt(environment: Mapping[str, str], devices: Iterable[Device]) -> str:
    """One line where the environment does not tell for sure which GPUs are meant, else ""."""
    text = environment.get(VISIBLE, "")
    if any(environment.get(name, "").strip() for name in SLURM):
        return ""
    models = {device.model for device in _gpus(devices)}
    counted = any(entry.strip().isdigit() for entry in text.split(","))
    if len(models) < 2 or not counted or environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":  # noqa: PLR2004
        return ""
    return (
        "which GPUs CUDA_VISIBLE_DEVICES means: the models differ and CUDA counts the fastest first; "
        "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name them by UUID"
    )


def _gpus(devices: Iterable[Device]) -> list[Device]:
    """GPUs, and modules of which the GPU tells nothing of its own: they go by its number and its UUID."""
    return [device for device in devices if device.is_part and device.component in (Component.GPU, Component.MODULE)]


def _given(environment: Mapping[str, str], gpus: Sequence[Device]) -> set[str]:
    """Ids of GPUs, and of slices in place of those that are divided, that an allocation names."""
    in_order = _in_order(gpus)
    slices = {gpu.id: gpu.slices for gpu in gpus if gpu.slices}
    visible = environment.get(VISIBLE)
    for name in SLURM:
        allocated = _entries(environment.get(name, ""))
        if not allocated:
            continue
        cut = {device for device in visible_devices(visible, in_order, slices) if device.startswith("MIG-")}
        indices = all(_is_index(entry) for entry in allocated)
        if indices and cut:
            return cut  # Slurm counts slices as it counts GPUs: only their UUIDs, which it passes on here, tell them
        if indices and slices and visible is None:
            return set()  # which of its indices are slices, only the job's own environment tells
        if indices and len(gpus) <= len(allocated):
            return set(in_order)  # we are within the job ourselves: its indices are those of the node, ours begin at 0
        return {in_order[int(e)] if _is_index(e) and int(e) < len(in_order) else e for e in allocated}
    entries = _container_entries(environment)
    if entries is None:
        return set(visible_devices(visible, in_order, slices))
    return _within_container(entries, visible, gpus)


def _within_container(entries: Sequence[str], visible: str | None, gpus: Sequence[Device]) -> set[str]:
    """What CUDA shows of a container's devices, which it counts by their place on the node, however they are named."""
    in_order = _in_order(gpus)
    slices = {gpu.id: gpu.slices for gpu in gpus if gpu.slices}
    if len(gpus) <= len(entries) and all(_is_index(entry) for entry in entries):
        own, cut = in_order, slices  # we are within the container ourselves, and see what it has
    else:
        named = {device for entry in entries for device in _one(entry, in_order, slices)}
        cut = {gpu: tuple(one for one in of_gpu if one in named) for gpu, of_gpu in slices.items()}
        cut = {gpu: of_gpu for gpu, of_gpu in cut.items() if of_gpu}
        own = [gpu for gpu in in_order if gpu in named or gpu in cut]
    chosen = visible_devices(visible, own, cut)
    return {one for device in chosen for one in (cut.get(device) or (device,))}


def _one(entry: str, in_order: Sequence[str], slices: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """What one entry of a container's list names: a GPU or a slice by UUID, a GPU by index, a slice by `GPU:SLICE`."""
    gpu, colon, number = entry.partition(":")
    if not colon:
        return visible_devices(entry, in_order, slices)
    if not (_is_index(gpu) and _is_index(number)):
        return ()
    of_gpu = [one for device in visible_devices(gpu, in_order) for one in slices.get(device, ())]
    return of_gpu[int(number) : int(number) + 1]


def _container_entries(environment: Mapping[str, str]) -> list[str] | None:
    """The devices of a container; None where nothing tells them.

    Its runtime reads what we read, unless it is told otherwise: a path (mounted devices) and names of the container
    device interface say that it is.
    """
    text = environment.get(CONTAINER, "").strip()
    if text.lower() in _NOTHING_SAID or ("/" in text and not text.startswith("MIG-GPU-")):
        return None
    return [] if text.lower() == NO_GPUS else _entries(text)


def _is_index(entry: str) -> bool:
    return entry.isascii() and entry.isdigit() and len(entry) < 10  # noqa: PLR2004  (a number, not a text of digits)


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

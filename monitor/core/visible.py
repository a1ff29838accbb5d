"""Which GPUs a job can see: the grammar of CUDA_VISIBLE_DEVICES (CUDA C++ Programming Guide, environment variables)."""

from collections.abc import Mapping, Sequence

LEGACY_SLICE = "MIG-GPU-"
"""`MIG-GPU-<uuid>/<gpu instance>/<compute instance>`, of drivers before 470."""


def visible_devices(
    text: str | None, gpus: Sequence[str], slices: Mapping[str, Sequence[str]] | None = None
) -> tuple[str, ...]:
    """Ids of the GPUs and MIG devices that CUDA would show, in its order.

    `text` is the variable's value (None = unset = all), `gpus` the UUIDs of the job's own set in index order,
    `slices` the MIG UUIDs of each. An entry is an index, a UUID or a beginning of one that fits a single GPU. The
    list ends at its first invalid entry; one that names a device twice names none.
    """
    if text is None:
        return tuple(gpus)
    chosen: list[str] = []
    for entry in text.split(","):
        device = _one(entry.strip(), gpus, slices or {})
        if device is None:
            break
        if device in chosen:
            return ()
        chosen.append(device)
    return tuple(chosen)


def _one(entry: str, gpus: Sequence[str], slices: Mapping[str, Sequence[str]]) -> str | None:
    if entry.isascii() and entry.isdigit():
        return gpus[int(entry)] if int(entry) < len(gpus) else None
    if entry.startswith(LEGACY_SLICE):
        gpu, _, instances = entry.removeprefix("MIG-").partition("/")
        known = [name for name in slices.get(gpu, ()) if name == entry]
        return known[0] if known and instances else None
    if entry.startswith("MIG-"):
        return _only([name for names in slices.values() for name in names if name.startswith(entry)])
    if entry.startswith("GPU-"):
        return _only([name for name in gpus if name.startswith(entry)])
    return None


def _only(matches: list[str]) -> str | None:
    return matches[0] if len(matches) == 1 else None

"""What each NVML return code means for us: one table, no judgement anywhere else."""

from enum import Enum, auto

import pynvml

from monitor.errors import SourceAbsent, SourceBroken, SourceDenied, SourceError


class Action(Enum):
    """What to do with the call that failed."""

    METRIC_OFF = auto()
    """This GPU does not offer it: do not ask again until the library is opened anew."""
    SKIP = auto()
    """Not this time; the baseline holds."""
    DROP = auto()
    """This GPU is gone: close its open interval, look for it again with back-off."""
    REOPEN = auto()
    """No handle is good any more: shut the library down and open it again with back-off."""


ACTIONS = {
    pynvml.NVML_ERROR_NOT_SUPPORTED: Action.METRIC_OFF,
    pynvml.NVML_ERROR_NO_PERMISSION: Action.METRIC_OFF,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: Action.METRIC_OFF,
    pynvml.NVML_ERROR_DEPRECATED: Action.METRIC_OFF,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: Action.METRIC_OFF,
    pynvml.NVML_ERROR_TIMEOUT: Action.SKIP,
    pynvml.NVML_ERROR_NOT_READY: Action.SKIP,
    pynvml.NVML_ERROR_IN_USE: Action.SKIP,
    pynvml.NVML_ERROR_NO_DATA: Action.SKIP,
    pynvml.NVML_ERROR_NOT_FOUND: Action.SKIP,
    pynvml.NVML_ERROR_MEMORY: Action.SKIP,
    pynvml.NVML_ERROR_GPU_IS_LOST: Action.DROP,
    pynvml.NVML_ERROR_RESET_REQUIRED: Action.DROP,
    pynvml.NVML_ERROR_GPU_NOT_FOUND: Action.DROP,
    pynvml.NVML_ERROR_IRQ_ISSUE: Action.DROP,
    pynvml.NVML_ERROR_INSUFFICIENT_POWER: Action.DROP,
    pynvml.NVML_ERROR_CORRUPTED_INFOROM: Action.DROP,
    pynvml.NVML_ERROR_UNINITIALIZED: Action.REOPEN,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: Action.REOPEN,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: Action.REOPEN,
    pynvml.NVML_ERROR_INVALID_ARGUMENT: Action.REOPEN,
    pynvml.NVML_ERROR_OPERATING_SYSTEM: Action.REOPEN,
}


def action_of(error: pynvml.NVMLError) -> Action:
    """The action for one error. What is not in the table skips the sample: it is counted either way."""
    return ACTIONS.get(error.value, Action.SKIP)


REASONS = {
    pynvml.NVML_ERROR_GPU_IS_LOST: "gpu_lost",
    pynvml.NVML_ERROR_RESET_REQUIRED: "reset_required",
    pynvml.NVML_ERROR_TIMEOUT: "timeout",
    pynvml.NVML_ERROR_NOT_READY: "not_ready",
    pynvml.NVML_ERROR_NO_PERMISSION: "denied",
    pynvml.NVML_ERROR_UNKNOWN: "unknown",
}


def reason_of(error: pynvml.NVMLError) -> str:
    """A short word for the label `reason`."""
    return REASONS.get(error.value, f"nvml_{error.value}")


REMEDIES = {
    pynvml.NVML_ERROR_UNINITIALIZED: "the driver was unloaded or reloaded; the library is opened anew",
    pynvml.NVML_ERROR_GPU_IS_LOST: "it fell off the bus; it needs a reset (nvidia-smi -r) or a reboot",
    pynvml.NVML_ERROR_RESET_REQUIRED: "reset it with nvidia-smi -r when no job uses it",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "library and kernel module differ: restart trainwatt; if that does not help, reload the driver or reboot"
    ),
    pynvml.NVML_ERROR_UNKNOWN: (
        "in a container the device cgroup may be gone (a systemctl daemon-reload on the host does that): restart it"
    ),
    pynvml.NVML_ERROR_OPERATING_SYSTEM: "the system or a cgroup blocks the device: give the container its GPUs",
}


def describe(error: pynvml.NVMLError) -> str:
    """One line for people, with the remedy where there is one."""
    remedy = REMEDIES.get(error.value)
    return f"{error}: {remedy}" if remedy else str(error)


def open_error(error: pynvml.NVMLError) -> SourceError:
    """What a failure of nvmlInit means for the source as a whole."""
    if error.value in (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED):
        return SourceAbsent(f"no NVIDIA driver here ({error})")
    if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
        return SourceDenied(f"{error}: give this user access to /dev/nvidia* (often the group video or render)")
    return SourceBroken(describe(error), reason=reason_of(error))

"""The thin seam over pynvml: one function a question, SI units out, NVMLError passed through.

The only file that calls the driver; every call of the process comes from the one thread of the source
(NVML is thread-safe but not fork-safe). Symbols: nvml.h.
"""

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import pynvml

from monitor.core.units import JOULES_PER_MILLIJOULE, WATTS_PER_MILLIWATT

Handle = Any
"""An opaque nvmlDevice_t."""

FIELD_ENERGY = 191
"""NVML_FI_DEV_ENERGY: the energy counter with a scope; nvidia-ml-py does not name it everywhere."""

FIELDS_THROTTLED = {
    "board_limit": pynvml.NVML_FI_DEV_PERF_POLICY_BOARD_LIMIT,
    "low_utilization": pynvml.NVML_FI_DEV_PERF_POLICY_LOW_UTILIZATION,
    "power": pynvml.NVML_FI_DEV_PERF_POLICY_POWER,
    "reliability": pynvml.NVML_FI_DEV_PERF_POLICY_RELIABILITY,
    "sync_boost": pynvml.NVML_FI_DEV_PERF_POLICY_SYNC_BOOST,
    "thermal": pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL,
}
"""Counters of the time in which clocks were held down, by our word for the reason, in the order of these."""
_NOT_OFFERED = (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_INVALID_ARGUMENT)
NANOSECONDS_PER_SECOND = 1e9


class Scope(IntEnum):
    """What a power or energy field speaks of (NVML_POWER_SCOPE_*)."""

    GPU = 0
    MODULE = 1
    """GPU and NVIDIA CPU together (Grace Hopper and newer)."""
    MEMORY = 2


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """What identifies a GPU."""

    index: int
    uuid: str
    model: str
    architecture: int
    """NVML_DEVICE_ARCH_*; 0 where the driver does not tell."""


def init() -> None:
    """nvmlInit_v2."""
    pynvml.nvmlInit()


def shutdown() -> None:
    """NvmlShutdown."""
    pynvml.nvmlShutdown()


def driver_version() -> str:
    """NvmlSystemGetDriverVersion."""
    return str(pynvml.nvmlSystemGetDriverVersion())


def count() -> int:
    """nvmlDeviceGetCount_v2: counts GPUs that may not be opened, too."""
    return int(pynvml.nvmlDeviceGetCount())


def handle_by_index(index: int) -> Handle:
    """nvmlDeviceGetHandleByIndex_v2."""
    return pynvml.nvmlDeviceGetHandleByIndex(index)


def handle_by_uuid(uuid: str) -> Handle:
    """NvmlDeviceGetHandleByUUID."""
    return pynvml.nvmlDeviceGetHandleByUUID(uuid)


def info(handle: Handle) -> GpuInfo:
    """nvmlDeviceGetUUID, GetName, GetIndex, GetArchitecture. The identity is the UUID: indexes move."""
    try:
        architecture = int(pynvml.nvmlDeviceGetArchitecture(handle))
    except pynvml.NVMLError:
        architecture = 0
    return GpuInfo(
        index=int(pynvml.nvmlDeviceGetIndex(handle)),
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        model=str(pynvml.nvmlDeviceGetName(handle)),
        architecture=architecture,
    )


def energy_j(handle: Handle) -> float:
    """nvmlDeviceGetTotalEnergyConsumption: since the driver was last loaded (Volta and newer)."""
    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * JOULES_PER_MILLIJOULE


def scoped_energy_j(handle: Handle, scope: Scope) -> float:
    """NVML_FI_DEV_ENERGY of one scope: on a superchip the plain counter is the whole module's."""
    return float(_field(handle, FIELD_ENERGY, scope).ullVal) * JOULES_PER_MILLIJOULE


def average_power_w(handle: Handle, scope: Scope = Scope.GPU) -> float:
    """NVML_FI_DEV_POWER_AVERAGE: mean of the last second (Ampere without GA100, and newer)."""
    return float(_field(handle, pynvml.NVML_FI_DEV_POWER_AVERAGE, scope).uiVal) * WATTS_PER_MILLIWATT


def instant_power_w(handle: Handle, scope: Scope = Scope.GPU) -> float:
    """NVML_FI_DEV_POWER_INSTANT: the draw of the moment; on A100 and H100 of 25 ms in every 100."""
    return float(_field(handle, pynvml.NVML_FI_DEV_POWER_INSTANT, scope).uiVal) * WATTS_PER_MILLIWATT


def power_w(handle: Handle) -> float:
    """nvmlDeviceGetPowerUsage: a 1 s mean from Ampere on (not GA100), else the draw of the moment."""
    return float(pynvml.nvmlDeviceGetPowerUsage(handle)) * WATTS_PER_MILLIWATT


def power_limit_w(handle: Handle) -> float:
    """nvmlDeviceGetEnforcedPowerLimit: the lowest of all limits in force."""
    return float(pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)) * WATTS_PER_MILLIWATT


def highest_power_limit_w(handle: Handle) -> float:
    """nvmlDeviceGetPowerManagementLimitConstraints: the highest limit that the board can be set to."""
    _lowest_mw, highest_mw = pynvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
    return float(highest_mw) * WATTS_PER_MILLIWATT


def utilization_ratio(handle: Handle) -> float:
    """nvmlDeviceGetUtilizationRates: share of the last 1/6 to 1 s in which a kernel was resident."""
    return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100.0


def memory_used_bytes(handle: Handle) -> int:
    """nvmlDeviceGetMemoryInfo_v2, which leaves the driver's reserve out; the old call where it is missing."""
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).used)
    except pynvml.NVMLError_FunctionNotFound:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)


def memory_total_bytes(handle: Handle) -> int:
    """Of nvmlDeviceGetMemoryInfo."""
    return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)


def temperature_c(handle: Handle) -> float:
    """nvmlDeviceGetTemperatureV, or nvmlDeviceGetTemperature on drivers that have not got it yet."""
    try:
        return float(pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU))
    except pynvml.NVMLError_FunctionNotFound:
        return float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))


def throttled_s(handle: Handle) -> tuple[tuple[str, float], ...]:
    """NVML_FI_DEV_PERF_POLICY_*, by one nvmlDeviceGetFieldValues: (reason, seconds since the driver was loaded).

    A reason that is not told is left out. Raises NVMLError(NOT_SUPPORTED) where none is offered.
    """
    fields = _Throttled.from_buffer_copy(_THROTTLED)
    try:
        _ask_fields(handle, fields, len(fields))
    except pynvml.NVMLError_InvalidArgument:
        # Of a driver that does not know them all. A handle that is void would fail at the energy counter, too.
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED) from None
    if all(field.code in _NOT_OFFERED for field in fields):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return tuple(
        (reason, field.value.ullVal / NANOSECONDS_PER_SECOND)
        for reason, field in zip(FIELDS_THROTTLED, fields, strict=True)
        if field.code == pynvml.NVML_SUCCESS
    )


def mig_handles(handle: Handle) -> list[Handle]:
    """Handles of the MIG devices of a GPU; none where MIG is off. They have no power or energy of their own."""
    current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    if current != pynvml.NVML_DEVICE_MIG_ENABLE:
        return []
    slices = []
    for slot in range(int(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle))):
        try:
            slices.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot))
        except pynvml.NVMLError_NotFound:
            continue  # an empty slot
    return slices


def mig_uuid(slice_handle: Handle) -> str:
    """UUID of a MIG device (nvmlDeviceGetUUID)."""
    return str(pynvml.nvmlDeviceGetUUID(slice_handle))


def mig_instances(slice_handle: Handle) -> tuple[int, int]:
    """What a list of processes calls a MIG device (nvmlDeviceGetGpuInstanceId, GetComputeInstanceId)."""
    gpu_instance = int(pynvml.nvmlDeviceGetGpuInstanceId(slice_handle))
    return gpu_instance, int(pynvml.nvmlDeviceGetComputeInstanceId(slice_handle))


def mig_size(slice_handle: Handle) -> tuple[int, int, int]:
    """nvmlDeviceGetAttributes_v2: slices of its GPU instance, of its compute instance, and its memory in bytes."""
    told = pynvml.nvmlDeviceGetAttributes_v2(slice_handle)
    return int(told.gpuInstanceSliceCount), int(told.computeInstanceSliceCount), int(told.memorySizeMB) * 2**20


def profile_slices(handle: Handle, profile: int) -> int:
    """nvmlDeviceGetGpuInstanceProfileInfo: slices of one profile, if the GPU has it."""
    return int(pynvml.nvmlDeviceGetGpuInstanceProfileInfo(handle, profile, version=1).sliceCount)


class _FieldValue(ctypes.Structure):
    """nvmlFieldValue_t of nvml.h. That of pynvml looks for text at every access, which takes longer than to ask."""

    _fields_ = (
        ("field_id", ctypes.c_uint),
        ("scope_id", ctypes.c_uint),
        ("timestamp_us", ctypes.c_longlong),
        ("latency_us", ctypes.c_longlong),
        ("value_type", ctypes.c_uint),
        ("code", ctypes.c_uint),
        ("value", pynvml.c_nvmlValue_t),
    )


_Throttled = _FieldValue * len(FIELDS_THROTTLED)
_THROTTLED = _Throttled(*(_FieldValue(field_id) for field_id in FIELDS_THROTTLED.values()))


def _field(handle: Handle, field_id: int, scope: Scope) -> Any:
    """NvmlDeviceGetFieldValues of one field."""
    field = _FieldValue(field_id, scope)
    _ask_fields(handle, field, 1)
    if field.code != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(field.code)
    return field.value


def _ask_fields(handle: Handle, fields: Any, count: int) -> None:
    """Have them filled. The call itself succeeds whatever became of a single value: that has a code of its own."""
    try:
        ask = pynvml.nvmlLib.nvmlDeviceGetFieldValues
    except AttributeError:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND) from None
    code = ask(handle, count, ctypes.byref(fields))
    if code != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(code)

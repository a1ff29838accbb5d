"""Which processes have work on a GPU, and how much (nvmlDeviceGetComputeRunningProcesses_v3, GetProcessUtilization)."""

import ctypes

import pynvml

from monitor.core.model import DeviceProcess
from monitor.sources.nvml.driver import Handle

UNKNOWN_MEMORY = 2**64 - 1
SPARE = 8
"""Room for processes that start between asking for the size and asking for the list."""


class _Process(ctypes.Structure):
    """nvmlProcessInfo_t as nvml.h has it: 24 bytes."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("memory_bytes", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class _ConfidentialProcess(ctypes.Structure):
    """The same as some drivers of the 535 series fill it in: 32 bytes."""

    _fields_ = (*_Process._fields_, ("protected_memory_bytes", ctypes.c_ulonglong))


class ProcessReader:
    """Reads the processes of any GPU; knows the layout of this driver and where each GPU's samples were left off."""

    def __init__(self) -> None:
        self._layout = _layout()
        self._last_seen_us: dict[str, int] = {}

    def read(self, handle: Handle, device_id: str) -> tuple[DeviceProcess, ...]:
        """Processes by pid, with memory and mean SM utilisation since the last call.

        Raises NVMLError where the driver does not list processes. The driver's ring of utilisation samples is
        overwritten after 10 s: to miss none, call more often.
        """
        utilization = self._utilization(handle, device_id)
        memory: dict[int, int | None] = {}
        for process in self._running(handle):
            known = process.memory_bytes != UNKNOWN_MEMORY
            memory[process.pid] = (memory.get(process.pid) or 0) + process.memory_bytes if known else None
        return tuple(
            DeviceProcess(pid=pid, memory_bytes=memory[pid], sm_utilization_ratio=utilization.get(pid))
            for pid in sorted(memory)
        )

    def _running(self, handle: Handle) -> list[_Process]:
        ask = pynvml.nvmlLib.nvmlDeviceGetComputeRunningProcesses_v3
        count = ctypes.c_uint(0)
        code = ask(handle, ctypes.byref(count), None)
        while code == pynvml.NVML_ERROR_INSUFFICIENT_SIZE:
            count.value += SPARE
            processes = (self._layout * count.value)()
            code = ask(handle, ctypes.byref(count), processes)
            if code == pynvml.NVML_SUCCESS:
                return list(processes[: count.value])
        if code != pynvml.NVML_SUCCESS:
            raise pynvml.NVMLError(code)
        return []

    def _utilization(self, handle: Handle, device_id: str) -> dict[int, float]:
        """Mean SM utilisation 0..1 by pid over the samples since the last call; none where the driver has none."""
        try:
            samples = pynvml.nvmlDeviceGetProcessUtilization(handle, self._last_seen_us.get(device_id, 0))
        except pynvml.NVMLError:
            return {}  # no new samples (NOT_FOUND), or none at all (MIG): unknown, not idle
        by_pid: dict[int, list[float]] = {}
        for sample in samples:
            self._last_seen_us[device_id] = max(self._last_seen_us.get(device_id, 0), int(sample.timeStamp))
            by_pid.setdefault(int(sample.pid), []).append(sample.smUtil / 100.0)
        return {pid: sum(ratios) / len(ratios) for pid, ratios in by_pid.items()}


def _layout() -> type[_Process]:
    """The struct that this driver fills in: the longer one where it counts protected memory without listing details."""
    longer = _has("nvmlDeviceGetConfComputeMemSizeInfo") and not _has("nvmlDeviceGetRunningProcessDetailList")
    return _ConfidentialProcess if longer else _Process  # type: ignore[return-value]


def _has(symbol: str) -> bool:
    return hasattr(pynvml.nvmlLib, symbol)

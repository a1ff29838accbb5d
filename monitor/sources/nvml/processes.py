"""Which processes have work on a GPU, and how much (nvmlDeviceGetComputeRunningProcesses_v3, GetProcessUtilization)."""

import ctypes
import struct
from collections.abc import Iterable, Sequence

import pynvml

from monitor.core.model import DeviceProcess
from monitor.sources.nvml.driver import Handle
from monitor.sources.nvml.mig import Slice

UNKNOWN_MEMORY = 2**64 - 1
ROOM = 32
"""Processes of a GPU that are asked for at once."""
RING = 72
"""Samples of utilisation that a driver keeps (nvml.h)."""
SPARE = 8
"""Room for processes that start between asking for the size and asking for the list."""
TRIES = 4
SAMPLE = struct.Struct("=I4xQI12x")
"""nvmlProcessUtilizationSample_t of nvml.h as far as it matters: pid, timeStamp in us, smUtil in percent."""


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
        self._room = (self._layout * ROOM)()
        self._samples = (pynvml.c_nvmlProcessUtilizationSample_t * RING)()
        self._last_seen_us: dict[str, int] = {}

    def probe(self, handle: Handle, slices: Sequence[Slice] = ()) -> None:
        """Raise NVMLError where the driver does not list processes; the samples are left for the first `read`."""
        self._listed(handle, slices)

    def read(self, handle: Handle, device_id: str, slices: Sequence[Slice] = ()) -> tuple[DeviceProcess, ...]:
        """Processes by pid, with memory, slice and mean SM utilisation since the last call.

        Those that ended meanwhile are among them, if they worked; without memory, for they have none any more.
        Raises NVMLError where the driver does not list processes. The driver's ring of utilisation samples is
        overwritten after 10 s: to miss none, call more often.
        """
        utilization = self._utilization(handle, device_id)
        memory: dict[tuple[int, str], int | None] = {}
        for process, slice_id in self._listed(handle, slices):
            known = process.memory_bytes != UNKNOWN_MEMORY
            key = (process.pid, slice_id)
            memory[key] = (memory.get(key) or 0) + process.memory_bytes if known else None
        ended = utilization.keys() - {pid for pid, _slice_id in memory}
        memory.update(((pid, ""), None) for pid in ended)
        return tuple(
            DeviceProcess(
                pid=pid,
                memory_bytes=memory[pid, slice_id],
                sm_utilization_ratio=utilization.get(pid),
                slice_id=slice_id,
            )
            for pid, slice_id in sorted(memory)
        )

    def _listed(self, handle: Handle, slices: Sequence[Slice]) -> Iterable[tuple[_Process, str]]:
        """Every process with its slice.

        The list of a divided GPU is only for some ("aggregate information, only if the caller has appropriate
        privileges", nvml.h), so each slice is asked. Where they do not tell, as under a vGPU host, the whole does.
        """
        try:
            if slices:
                return [(process, one.id) for one in slices for process in self._running(one.handle)]
        except pynvml.NVMLError:
            pass  # taken apart, or not for us: the GPU itself says what is wrong, if anything is
        by_instances = {one.instances: one.id for one in slices}
        return [
            (process, by_instances.get((process.gpu_instance, process.compute_instance), ""))
            for process in self._running(handle)
        ]

    def _running(self, handle: Handle) -> list[_Process]:
        ask = pynvml.nvmlLib.nvmlDeviceGetComputeRunningProcesses_v3
        for _try in range(TRIES):
            count = ctypes.c_uint(len(self._room))
            code = ask(handle, ctypes.byref(count), self._room)
            if code == pynvml.NVML_SUCCESS:
                # Copies, for the room is used again.
                return [self._layout.from_buffer_copy(self._room[number]) for number in range(count.value)]
            if code != pynvml.NVML_ERROR_INSUFFICIENT_SIZE:
                break
            self._room = (self._layout * (max(count.value, len(self._room)) + SPARE))()
        raise pynvml.NVMLError(code)

    def _utilization(self, handle: Handle, device_id: str) -> dict[int, float]:
        """Mean SM utilisation 0..1 by pid over the samples since the last call; none where the driver has none.

        There is a sample of a process where it worked, so that the mean is over the moments that any was taken at.
        """
        last_us = self._last_seen_us.get(device_id, 0)
        ask = pynvml.nvmlLib.nvmlDeviceGetProcessUtilization
        for _try in range(TRIES):
            count = ctypes.c_uint(len(self._samples))
            code = ask(handle, self._samples, ctypes.byref(count), ctypes.c_ulonglong(last_us))
            if code != pynvml.NVML_ERROR_INSUFFICIENT_SIZE:
                break
            self._samples = (pynvml.c_nvmlProcessUtilizationSample_t * (max(count.value, len(self._samples)) + SPARE))()
        if code != pynvml.NVML_SUCCESS:
            return {}  # no new samples (NOT_FOUND), or none at all (MIG): unknown, not idle
        by_pid: dict[int, list[float]] = {}
        moments = set()
        told = memoryview(self._samples).cast("B")[: count.value * SAMPLE.size]
        for pid, at_us, sm_percent in SAMPLE.iter_unpack(told):
            if at_us > last_us and pid:  # some drivers fill up with zeros
                moments.add(at_us)
                by_pid.setdefault(pid, []).append(sm_percent / 100.0)
        self._last_seen_us[device_id] = max(moments, default=last_us)
        return {pid: sum(ratios) / len(moments) for pid, ratios in by_pid.items()}


def _layout() -> type[_Process]:
    """The struct that this driver fills in: the longer one where it counts protected memory without listing details."""
    longer = _has("nvmlDeviceGetConfComputeMemSizeInfo") and not _has("nvmlDeviceGetRunningProcessDetailList")
    return _ConfidentialProcess if longer else _Process  # type: ignore[return-value]


def _has(symbol: str) -> bool:
    return hasattr(pynvml.nvmlLib, symbol)

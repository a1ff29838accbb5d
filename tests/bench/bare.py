"""The bare loop: the daemon's driver calls at the daemon's rate, and nothing else. Run as a file, with no import of us.

bare.py SYSFS counter PID...: each second the energy and the average power of each GPU.
bare.py SYSFS power PID...: ten times a second the average power of each GPU, whose counter is not supported.
Both: each second four energy_uj files, every 5 s limit, utilisation, memory, temperature, throttled time and processes
of each GPU; with PID..., the processes of the runs, the files of /proc by which these are told apart and counted.
"""

import contextlib
import os
import sys
import time
from typing import Any

import pynvml

ZONES = ("intel-rapl:0", "intel-rapl:0/intel-rapl:0:1", "intel-rapl:1", "intel-rapl:1/intel-rapl:1:1")
TELEMETRY_EVERY_S = 5
THROTTLED = list(range(pynvml.NVML_FI_DEV_PERF_POLICY_POWER, pynvml.NVML_FI_DEV_PERF_POLICY_RELIABILITY + 1))
ROTATION, MEMORY_EVERY, CORES_EVERY = 12, 3, 12
"""In so many looks every process is read again; after so many memory is, and the CPUs that a run may use."""


def main(sysfs: str, mode: str, *pids: str) -> None:
    """Loop until killed, at fixed deadlines."""
    pynvml.nvmlInit()
    gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    files = [f"{sysfs}/class/powercap/{zone}/energy_uj" for zone in ZONES]
    hertz = 10 if mode == "power" else 1
    processes = Processes(pids)
    tick = int(time.clock_gettime(time.CLOCK_BOOTTIME) * hertz)
    while True:
        if mode == "counter":
            for gpu in gpus:
                pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
        for gpu in gpus:
            pynvml.nvmlDeviceGetFieldValues(gpu, [pynvml.NVML_FI_DEV_POWER_AVERAGE])
        if tick % hertz == 0:
            for file in files:
                read(file)
        if tick % (TELEMETRY_EVERY_S * hertz) == 0:
            for gpu in gpus:
                telemetry(gpu)
            if pids:
                processes.look()
        tick += 1
        time.sleep(max(0.0, tick / hertz - time.clock_gettime(time.CLOCK_BOOTTIME)))


def read(path: str) -> int:
    """One counter of the powercap tree, in microjoules."""
    with open(path, encoding="ascii") as file:  # noqa: PTH123  (bare: without pathlib's share of the cost)
        return int(file.read())


def telemetry(gpu: Any) -> None:
    """What the daemon asks now and then."""
    pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu)
    pynvml.nvmlDeviceGetUtilizationRates(gpu)
    pynvml.nvmlDeviceGetMemoryInfo(gpu, version=pynvml.nvmlMemory_v2)
    pynvml.nvmlDeviceGetTemperatureV(gpu, pynvml.NVML_TEMPERATURE_GPU)
    pynvml.nvmlDeviceGetFieldValues(gpu, THROTTLED)
    pynvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu)
    since_us = int(1e6 * (time.time() - TELEMETRY_EVERY_S))
    with contextlib.suppress(pynvml.NVMLError):  # it has no sample since then
        pynvml.nvmlDeviceGetProcessUtilization(gpu, since_us)


class Processes:
    """The files of /proc that the daemon reads; what they say is left unread."""

    def __init__(self, pids: tuple[str, ...]) -> None:
        """`pids` are the runs' processes."""
        self._ours = pids
        self._listed: set[str] = set()
        self._new: set[str] = set()
        self._looks = 0

    def look(self) -> None:
        """Read what one look of the daemon does: new processes are examined, and once more in the next look."""
        listed = {name for name in os.listdir("/proc") if name.isdecimal()}  # noqa: PTH208  (bare)
        new = listed - self._listed if self._looks else set()
        again = {pid for pid in listed if int(pid) % ROTATION == self._looks % ROTATION}
        for pid in {*self._ours, *again, *new, *self._new}:
            slurp(f"/proc/{pid}/stat")
        for pid in {*new, *self._new}.difference(self._ours):
            for name in ("status", "cgroup", "environ", "stat"):
                slurp(f"/proc/{pid}/{name}")
        slurp("/proc/stat")
        if self._looks % MEMORY_EVERY == 0:
            for name in ("meminfo", *(f"{pid}/statm" for pid in self._ours)):
                slurp(f"/proc/{name}")
        if self._looks % CORES_EVERY == 0:
            for name in ("stat", *(f"{pid}/status" for pid in self._ours[:1])):
                slurp(f"/proc/{name}")
        self._listed, self._new, self._looks = listed, new, self._looks + 1


def slurp(path: str) -> None:
    """Open, read and close a file; one that has gone is none."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.read(descriptor, 1 << 16)
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    main(*sys.argv[1:])
